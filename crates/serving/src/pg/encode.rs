//! Rows as the wire wants them: each value as text or in PostgreSQL's binary form, whichever the client asked for.
//!
//! Called by a connection with one batch at a time. Columns are first brought to the one Arrow type that stands for
//! their PostgreSQL type, so that each type is written in one place.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};

use super::calendar::{self, EPOCH_DAYS, EPOCH_MICROS};
use super::frame::put;
use super::number::{numeric, push_f32, push_f64};
use super::types::{ColumnType, Type};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary,
}

/// Writes the rows of a batch, each as a DataRow, in the types and formats that the client was told.
///
/// # Errors
/// For a value that its PostgreSQL type cannot hold.
pub(crate) fn rows(
    into: &mut BytesMut,
    batch: &RecordBatch,
    shown: &[(ColumnType, Format)],
) -> Result<(), ArrowError> {
    if shown.len() != batch.num_columns() {
        let message = format!("{} columns instead of {}", batch.num_columns(), shown.len());
        return Err(ArrowError::SchemaError(message));
    }
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(shown)
        .map(|(column, (of, _))| canonical(column, *of))
        .collect::<Result<_, _>>()?;
    let mut writers = Vec::with_capacity(columns.len());
    for (column, (of, format)) in columns.iter().zip(shown) {
        writers.push((column, writer(column.as_ref(), *of, *format)?));
    }
    let count = i16::try_from(columns.len())
        .map_err(|_| ArrowError::InvalidArgumentError("a row has too many columns".to_owned()))?;
    for row in 0..batch.num_rows() {
        put(into, b'D', |into| {
            into.put_i16(count);
            for (column, write) in &writers {
                value(into, column.is_null(row), |into| write(row, into));
            }
        });
    }
    Ok(())
}

/// Length and bytes of one value; a null has the length -1.
fn value(into: &mut BytesMut, is_null: bool, write: impl FnOnce(&mut BytesMut)) {
    if is_null {
        return into.put_i32(-1);
    }
    let at = into.len();
    into.put_i32(0);
    write(into);
    let length = i32::try_from(into.len() - at - 4).unwrap_or(i32::MAX);
    into[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A column in the Arrow type that stands for the PostgreSQL type.
fn canonical(column: &ArrayRef, of: ColumnType) -> Result<ArrayRef, ArrowError> {
    let wanted = match (of.item, column.data_type()) {
        (Type::Numeric(..), DataType::Decimal256(..) | DataType::Decimal128(..))
            if !of.is_array =>
        {
            return Ok(column.clone());
        }
        (Type::Text | Type::Json, other) if !is_text(other) && !of.is_array => {
            return as_json(column);
        }
        _ => of.arrow(),
    };
    if *column.data_type() == wanted {
        return Ok(column.clone());
    }
    // A value that does not fit is an error, never a null.
    cast_with_options(column, &wanted, &CastOptions { safe: false, ..CastOptions::default() })
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Records and the like as JSON, one text per row.
fn as_json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let texts = crate::answer::json_texts(column.as_ref())?;
    Ok(std::sync::Arc::new(arrow::array::StringArray::from(texts)))
}

/// Writes the value of a row that is not null.
type Writer<'a> = Box<dyn Fn(usize, &mut BytesMut) + 'a>;

fn writer(array: &dyn Array, of: ColumnType, format: Format) -> Result<Writer<'_>, ArrowError> {
    if of.is_array {
        return list(array, of, format);
    }
    macro_rules! number {
        ($type:ty, $put:ident) => {{
            let array = array.as_primitive::<$type>();
            match format {
                Format::Binary => Box::new(move |row, into| into.$put(array.value(row))),
                Format::Text => text(move |row, into| {
                    write!(into, "{}", array.value(row)).expect("a string takes all");
                }),
            }
        }};
    }
    Ok(match of.item {
        Type::Bool => {
            let array = array.as_boolean();
            match format {
                Format::Binary => Box::new(move |row, into| into.put_u8(array.value(row).into())),
                Format::Text => Box::new(move |row, into| {
                    into.put_u8(if array.value(row) { b't' } else { b'f' })
                }),
            }
        }
        Type::Int2 => number!(Int16Type, put_i16),
        Type::Int4 => number!(Int32Type, put_i32),
        Type::Int8 => number!(Int64Type, put_i64),
        Type::Float4 => {
            let array = array.as_primitive::<Float32Type>();
            match format {
                Format::Binary => Box::new(move |row, into| into.put_f32(array.value(row))),
                Format::Text => text(move |row, into| push_f32(into, array.value(row))),
            }
        }
        Type::Float8 => {
            let array = array.as_primitive::<Float64Type>();
            match format {
                Format::Binary => Box::new(move |row, into| into.put_f64(array.value(row))),
                Format::Text => text(move |row, into| push_f64(into, array.value(row))),
            }
        }
        Type::Numeric(..) => decimal(array, format)?,
        Type::Text | Type::Json => match array.as_string_opt::<i32>() {
            Some(array) => Box::new(move |row, into| into.put_slice(array.value(row).as_bytes())),
            None => return Err(ArrowError::CastError(array.data_type().to_string())),
        },
        Type::Bytea => {
            let array = array.as_binary::<i32>();
            match format {
                Format::Binary => Box::new(move |row, into| into.put_slice(array.value(row))),
                Format::Text => text(move |row, into| {
                    into.push_str("\\x");
                    for byte in array.value(row) {
                        write!(into, "{byte:02x}").expect("a string takes all");
                    }
                }),
            }
        }
        Type::Date => {
            let array = array.as_primitive::<Date32Type>();
            match format {
                Format::Binary => Box::new(move |row, into| {
                    into.put_i32(array.value(row).saturating_sub(EPOCH_DAYS));
                }),
                Format::Text => text(move |row, into| {
                    calendar::push_date(into, i64::from(array.value(row)));
                }),
            }
        }
        Type::Time => {
            let array = array.as_primitive::<Time64MicrosecondType>();
            match format {
                Format::Binary => Box::new(move |row, into| into.put_i64(array.value(row))),
                Format::Text => text(move |row, into| calendar::push_time(into, array.value(row))),
            }
        }
        Type::Timestamp | Type::TimestampTz => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            let zone = if of.item == Type::TimestampTz { "+00" } else { "" };
            match format {
                Format::Binary => Box::new(move |row, into| {
                    into.put_i64(array.value(row).saturating_sub(EPOCH_MICROS));
                }),
                Format::Text => text(move |row, into| {
                    calendar::push_timestamp(into, array.value(row), zone);
                }),
            }
        }
        Type::Interval => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            match format {
                Format::Binary => Box::new(move |row, into| {
                    let interval = array.value(row);
                    into.put_i64(interval.nanoseconds / 1000);
                    into.put_i32(interval.days);
                    into.put_i32(interval.months);
                }),
                Format::Text => text(move |row, into| {
                    let it = array.value(row);
                    calendar::push_interval(into, it.months, it.days, it.nanoseconds / 1000);
                }),
            }
        }
    })
}

fn text<'a>(write: impl Fn(usize, &mut String) + 'a) -> Writer<'a> {
    Box::new(move |row, into| {
        let mut text = String::new();
        write(row, &mut text);
        into.put_slice(text.as_bytes());
    })
}

fn decimal(array: &dyn Array, format: Format) -> Result<Writer<'_>, ArrowError> {
    let shown: Box<dyn Fn(usize) -> String + '_> = match array.data_type() {
        DataType::Decimal256(..) => {
            let array = array.as_primitive::<Decimal256Type>();
            Box::new(move |row| array.value_as_string(row))
        }
        _ => {
            let array = array.as_primitive_opt::<Decimal128Type>();
            let array = array.ok_or_else(|| ArrowError::CastError("no decimal".to_owned()))?;
            Box::new(move |row| array.value_as_string(row))
        }
    };
    Ok(match format {
        Format::Text => text(move |row, into| into.push_str(&shown(row))),
        Format::Binary => Box::new(move |row, into| numeric(into, &shown(row))),
    })
}

fn list(array: &dyn Array, of: ColumnType, format: Format) -> Result<Writer<'_>, ArrowError> {
    let array = array
        .as_list_opt::<i32>()
        .ok_or_else(|| ArrowError::CastError(array.data_type().to_string()))?;
    let item = ColumnType { is_array: false, ..of };
    let items = array.values();
    let write = writer(items.as_ref(), item, format)?;
    let range = move |row: usize| {
        let offsets = array.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    };
    Ok(match format {
        Format::Binary => Box::new(move |row, into| {
            let range = range(row);
            let has_null = range.clone().any(|at| items.is_null(at));
            into.put_i32(i32::from(!range.is_empty()));
            into.put_i32(has_null.into());
            into.put_u32(item.number());
            if range.is_empty() {
                return;
            }
            into.put_i32(i32::try_from(range.len()).unwrap_or(i32::MAX));
            into.put_i32(1);
            for at in range {
                value(into, items.is_null(at), |into| write(at, into));
            }
        }),
        Format::Text => Box::new(move |row, into| {
            into.put_u8(b'{');
            for (count, at) in range(row).enumerate() {
                if count > 0 {
                    into.put_u8(b',');
                }
                if items.is_null(at) {
                    into.put_slice(b"NULL");
                } else {
                    let mut one = BytesMut::new();
                    write(at, &mut one);
                    put_element(into, &one);
                }
            }
            into.put_u8(b'}');
        }),
    })
}

/// An element of an array, in quotes where it could be read as something else.
fn put_element(into: &mut BytesMut, element: &[u8]) {
    let is_plain = !element.is_empty()
        && !element.eq_ignore_ascii_case(b"null")
        && !element.iter().any(|byte| b"{}\",\\".contains(byte) || byte.is_ascii_whitespace());
    if is_plain {
        return into.put_slice(element);
    }
    into.put_u8(b'"');
    for byte in element {
        if b"\"\\".contains(byte) {
            into.put_u8(b'\\');
        }
        into.put_u8(*byte);
    }
    into.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::IntervalMonthDayNano;
    use std::sync::Arc;

    /// The values of a column of one batch, in one format.
    fn values(array: ArrayRef, format: Format) -> Vec<Option<Vec<u8>>> {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
        let mut bytes = BytesMut::new();
        let of = ColumnType::of(batch.column(0).data_type());
        rows(&mut bytes, &batch, &[(of, format)]).unwrap();
        let mut values = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[7..11].try_into().unwrap());
            let size = usize::try_from(length).unwrap_or(0);
            values.push((length >= 0).then(|| rest[11..11 + size].to_vec()));
            rest = &rest[11 + size..];
        }
        values
    }

    fn texts(array: ArrayRef) -> Vec<String> {
        let shown = values(array, Format::Text).into_iter();
        shown
            .map(|value| value.map_or("null".to_owned(), |it| String::from_utf8(it).unwrap()))
            .collect()
    }

    #[test]
    fn each_type_is_written_as_postgresql_writes_it() {
        let check = |array: ArrayRef, expect: &[&str]| assert_eq!(texts(array), expect);
        check(
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            &["t", "f", "null"],
        );
        check(Arc::new(Int8Array::from(vec![-7])), &["-7"]);
        check(Arc::new(UInt64Array::from(vec![7])), &["7"]);
        check(Arc::new(Int64Array::from(vec![i64::MIN])), &["-9223372036854775808"]);
        check(Arc::new(StringViewArray::from(vec!["a\tü"])), &["a\tü"]);
        check(Arc::new(NullArray::new(1)), &["null"]);
        check(Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])), &["\\x00ff"]);
        check(Arc::new(Date32Array::from(vec![0, 20_000])), &["1970-01-01", "2024-10-04"]);
        check(
            Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_123, -1])),
            &["2023-11-14 22:13:20.123", "1969-12-31 23:59:59.999"],
        );
        check(
            Arc::new(TimestampNanosecondArray::from(vec![0]).with_timezone("+00:00")),
            &["1970-01-01 00:00:00+00"],
        );
        let money = Decimal128Array::from(vec![Some(1999), Some(-5), None]);
        check(
            Arc::new(money.with_precision_and_scale(18, 2).unwrap()),
            &["19.99", "-0.05", "null"],
        );
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        check(Arc::new(list), &["{1,NULL}", "null", "{}"]);
        let mut list = ListBuilder::new(StringBuilder::new());
        list.append_value(["a", "", "b c", "d\"e", "null"].map(Some));
        check(Arc::new(list.finish()), &["{a,\"\",\"b c\",\"d\\\"e\",\"null\"}"]);
        let record =
            StructArray::try_from(vec![("a", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
        check(Arc::new(record.unwrap()), &["{\"a\":1}"]);
        let interval = IntervalMonthDayNano::new(14, -3, 4_000_000_000);
        check(
            Arc::new(IntervalMonthDayNanoArray::from(vec![interval])),
            &["1 year 2 mons -3 days +00:00:04"],
        );
        check(Arc::new(DurationSecondArray::from(vec![90])), &["00:01:30"]);
    }

    #[test]
    fn binary_values_have_postgresqls_epoch_and_order() {
        let one = |array: ArrayRef| values(array, Format::Binary).remove(0).unwrap();
        assert_eq!(one(Arc::new(BooleanArray::from(vec![true]))), [1]);
        assert_eq!(one(Arc::new(Int32Array::from(vec![-2]))), [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(one(Arc::new(Float64Array::from(vec![1.5]))), 1.5f64.to_be_bytes());
        let micros = TimestampMicrosecondArray::from(vec![EPOCH_MICROS + 5]);
        assert_eq!(one(Arc::new(micros)), 5i64.to_be_bytes());
        assert_eq!(one(Arc::new(Date32Array::from(vec![EPOCH_DAYS]))), 0i32.to_be_bytes());
        let money = Decimal128Array::from(vec![1234567]).with_precision_and_scale(18, 2).unwrap();
        // Three groups of four digits: 1, 2345, 6700; the first has the weight 1.
        assert_eq!(one(Arc::new(money)), [0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 9, 41, 26, 44]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let array: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
        let int8 = ColumnType::of(&DataType::Int64);
        assert!(rows(&mut BytesMut::new(), &batch, &[(int8, Format::Text)]).is_err());
    }
}
