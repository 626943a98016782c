//! Arrow batches as the JSON of the API: integers as numbers (as text beyond 2^53), decimals as text, timestamps as
//! `2026-11-22T10:00:00.123Z`, NaN and infinities as text.
//!
//! Rows are written straight into the bytes that go to the client, in segments: nothing holds an answer twice.

use std::fmt::Write;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use model::time::Timestamp;

use views::schema::sql_type;

/// Integers above this are not exact in a JavaScript number.
const EXACT_MAX: u64 = 1 << 53;

/// `{"columns":[…],"rows":[`: what precedes the rows.
pub(crate) fn opening(schema: &Schema, names: &[String]) -> String {
    let columns: Vec<serde_json::Value> = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| serde_json::json!({"name": name, "type": sql_type(field)}))
        .collect();
    format!("{{\"columns\":{},\"rows\":[", serde_json::Value::from(columns))
}

/// Appends the rows of a batch, each as an array; `first` says that no row precedes them.
pub(crate) fn write_rows(
    into: &mut String,
    batch: &RecordBatch,
    mut first: bool,
) -> Result<(), ArrowError> {
    let columns: Vec<Writer<'_>> =
        batch.columns().iter().map(|column| writer(column.as_ref())).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        into.push_str(if first { "\n[" } else { ",\n[" });
        first = false;
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                into.push(',');
            }
            column(row, into)?;
        }
        into.push(']');
    }
    Ok(())
}

/// Each value of a column that is not null, in its JSON form.
pub(crate) fn json_texts(column: &dyn Array) -> Result<Vec<Option<String>>, ArrowError> {
    let write = writer(column)?;
    let text = |row| {
        let mut text = String::new();
        write(row, &mut text).map(|()| text)
    };
    (0..column.len()).map(|row| column.is_valid(row).then(|| text(row)).transpose()).collect()
}

/// Writes the value of one row of one column.
type Writer<'a> = Box<dyn Fn(usize, &mut String) -> Result<(), ArrowError> + 'a>;

macro_rules! integers {
    ($array:expr, $type:ty) => {{
        let array = $array.as_primitive::<$type>();
        plain(array, move |row, into| {
            let value = array.value(row);
            push_integer(into, i128::from(value));
        })
    }};
}

macro_rules! timestamps {
    ($array:expr, $type:ty, $unit:expr) => {{
        let array = $array.as_primitive::<$type>();
        plain(array, move |row, into| push_timestamp(into, array.value(row), $unit))
    }};
}

/// A writer that answers nulls itself.
fn plain<'a>(array: &'a dyn Array, write: impl Fn(usize, &mut String) + 'a) -> Writer<'a> {
    Box::new(move |row, into| {
        if array.is_null(row) {
            into.push_str("null")
        } else {
            write(row, into)
        }
        Ok(())
    })
}

fn writer(array: &dyn Array) -> Result<Writer<'_>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, into| {
            into.push_str("null");
            Ok(())
        }),
        DataType::Boolean => {
            let array = array.as_boolean();
            plain(array, move |row, into| {
                into.push_str(if array.value(row) { "true" } else { "false" })
            })
        }
        DataType::Int8 => integers!(array, Int8Type),
        DataType::Int16 => integers!(array, Int16Type),
        DataType::Int32 => integers!(array, Int32Type),
        DataType::Int64 => integers!(array, Int64Type),
        DataType::UInt8 => integers!(array, UInt8Type),
        DataType::UInt16 => integers!(array, UInt16Type),
        DataType::UInt32 => integers!(array, UInt32Type),
        DataType::UInt64 => integers!(array, UInt64Type),
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>();
            plain(array, move |row, into| push_f32(into, array.value(row).to_f32()))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            plain(array, move |row, into| push_f32(into, array.value(row)))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            plain(array, move |row, into| push_f64(into, array.value(row)))
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            plain(array, move |row, into| push_text(into, array.value(row)))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            plain(array, move |row, into| push_text(into, array.value(row)))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            plain(array, move |row, into| push_text(into, array.value(row)))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            timestamps!(array, TimestampSecondType, TimeUnit::Second)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamps!(array, TimestampMillisecondType, TimeUnit::Millisecond)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamps!(array, TimestampMicrosecondType, TimeUnit::Microsecond)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            timestamps!(array, TimestampNanosecondType, TimeUnit::Nanosecond)
        }
        DataType::List(_) => {
            let array = array.as_list::<i32>();
            list(array, writer(array.values().as_ref())?, move |row| {
                let offsets = array.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            })
        }
        DataType::LargeList(_) => {
            let array = array.as_list::<i64>();
            list(array, writer(array.values().as_ref())?, move |row| {
                let offsets = array.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            })
        }
        DataType::FixedSizeList(_, size) => {
            let size = *size as usize;
            let array = array.as_fixed_size_list();
            list(array, writer(array.values().as_ref())?, move |row| row * size..(row + 1) * size)
        }
        DataType::Struct(_) => record(array.as_struct())?,
        // Everything else (dates, times, intervals, decimals, bytes) is shown as its text.
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FORMAT)?;
            Box::new(move |row, into| {
                if array.is_null(row) {
                    into.push_str("null");
                } else {
                    push_text(into, &formatter.value(row).try_to_string()?);
                }
                Ok(())
            })
        }
    })
}

const FORMAT: FormatOptions<'static> = FormatOptions::new();

fn list<'a>(
    array: &'a dyn Array,
    item: Writer<'a>,
    range: impl Fn(usize) -> std::ops::Range<usize> + 'a,
) -> Writer<'a> {
    Box::new(move |row, into| {
        if array.is_null(row) {
            into.push_str("null");
            return Ok(());
        }
        into.push('[');
        for (count, at) in range(row).enumerate() {
            if count > 0 {
                into.push(',');
            }
            item(at, into)?;
        }
        into.push(']');
        Ok(())
    })
}

fn record(array: &StructArray) -> Result<Writer<'_>, ArrowError> {
    let mut members = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        members.push((field.name(), writer(column.as_ref())?));
    }
    Ok(Box::new(move |row, into| {
        if array.is_null(row) {
            into.push_str("null");
            return Ok(());
        }
        into.push('{');
        for (count, (name, member)) in members.iter().enumerate() {
            if count > 0 {
                into.push(',');
            }
            push_text(into, name);
            into.push(':');
            member(row, into)?;
        }
        into.push('}');
        Ok(())
    }))
}

fn push_integer(into: &mut String, value: i128) {
    let written = if value.unsigned_abs() <= u128::from(EXACT_MAX) {
        write!(into, "{value}")
    } else {
        write!(into, "\"{value}\"")
    };
    written.expect("writing to a string does not fail");
}

/// The shortest text that reads back as the same `f32`, not the digits of its widening.
fn push_f32(into: &mut String, value: f32) {
    if value.is_finite() { push_finite(into, value) } else { push_f64(into, f64::from(value)) }
}

fn push_f64(into: &mut String, value: f64) {
    if value.is_finite() {
        push_finite(into, value);
    } else if value.is_nan() {
        into.push_str("\"NaN\"");
    } else {
        into.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
}

/// Rust's debug form of a finite float is its shortest exact one (`1.0`, `1e300`), and is JSON.
fn push_finite(into: &mut String, value: impl std::fmt::Debug) {
    write!(into, "{value:?}").expect("writing to a string does not fail");
}

/// Three decimals when the instant is a whole millisecond, else six; UTC.
fn push_timestamp(into: &mut String, value: i64, unit: TimeUnit) {
    let micros = match unit {
        TimeUnit::Second => i128::from(value) * 1_000_000,
        TimeUnit::Millisecond => i128::from(value) * 1000,
        TimeUnit::Microsecond => i128::from(value),
        TimeUnit::Nanosecond => i128::from(value).div_euclid(1000),
    };
    let (millis, rest) = (micros.div_euclid(1000), micros.rem_euclid(1000));
    let Ok(millis) = i64::try_from(millis) else {
        // A timestamp in seconds can name an instant that no calendar of ours reaches.
        return push_text(into, &value.to_string());
    };
    let text = Timestamp(millis).to_iso();
    into.push('"');
    if rest == 0 {
        into.push_str(&text);
    } else {
        let without_zone = &text[..text.len() - 1];
        write!(into, "{without_zone}{rest:03}Z").expect("writing to a string does not fail");
    }
    into.push('"');
}

fn push_text(into: &mut String, text: &str) {
    into.push('"');
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        into.push_str(&text[done..at]);
        done = at + 1;
        if escape.is_empty() {
            write!(into, "\\u{byte:04x}").expect("writing to a string does not fail");
        } else {
            into.push_str(escape);
        }
    }
    into.push_str(&text[done..]);
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::Field;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn check(array: ArrayRef, sql: &str, expect: &str) {
        assert_eq!(sql_type(&Field::new("c", array.data_type().clone(), true)), sql);
        let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
        let mut text = String::new();
        write_rows(&mut text, &batch, true).unwrap();
        let rows: serde_json::Value = serde_json::from_str(&format!("[{text}]")).unwrap();
        let values: Vec<&serde_json::Value> =
            rows.as_array().unwrap().iter().map(|row| &row[0]).collect();
        assert_eq!(serde_json::to_string(&values).unwrap(), expect);
    }

    #[test]
    fn each_type_has_its_json_form() {
        check(Arc::new(BooleanArray::from(vec![Some(true), None])), "boolean", "[true,null]");
        check(Arc::new(Int32Array::from(vec![Some(-7), None])), "integer", "[-7,null]");
        check(
            Arc::new(Int64Array::from(vec![1 << 53, (1 << 53) + 1, i64::MIN])),
            "bigint",
            r#"[9007199254740992,"9007199254740993","-9223372036854775808"]"#,
        );
        check(
            Arc::new(UInt64Array::from(vec![u64::MAX])),
            "decimal(20,0)",
            r#"["18446744073709551615"]"#,
        );
        check(
            Arc::new(Float64Array::from(vec![
                0.1,
                1.0,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ])),
            "double precision",
            r#"[0.1,1.0,"NaN","Infinity","-Infinity"]"#,
        );
        check(Arc::new(Float32Array::from(vec![0.1, f32::NAN])), "real", r#"[0.1,"NaN"]"#);
        let money = Decimal128Array::from(vec![Some(1999), Some(-5), None])
            .with_precision_and_scale(18, 2)
            .unwrap();
        check(Arc::new(money), "decimal(18,2)", r#"["19.99","-0.05",null]"#);
        check(
            Arc::new(TimestampMicrosecondArray::from(vec![
                1_700_000_000_123_000,
                1_700_000_000_123_456,
                -1,
            ])),
            "timestamp",
            r#"["2023-11-14T22:13:20.123Z","2023-11-14T22:13:20.123456Z","1969-12-31T23:59:59.999999Z"]"#,
        );
        check(
            Arc::new(
                TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789])
                    .with_timezone("+00:00"),
            ),
            "timestamp with time zone",
            r#"["2023-11-14T22:13:20.123456Z"]"#,
        );
        check(
            Arc::new(TimestampSecondArray::from(vec![0])),
            "timestamp",
            r#"["1970-01-01T00:00:00.000Z"]"#,
        );
        check(Arc::new(Date32Array::from(vec![0])), "date", r#"["1970-01-01"]"#);
        check(Arc::new(StringArray::from(vec!["a\"\\\n\u{1}é"])), "text", r#"["a\"\\\n\u0001é"]"#);
        check(Arc::new(StringViewArray::from(vec!["x"])), "text", r#"["x"]"#);
        check(Arc::new(NullArray::new(1)), "null", "[null]");
        check(Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])), "bytea", r#"["00ff"]"#);
    }

    #[test]
    fn lists_and_records_are_arrays_and_objects() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        check(Arc::new(list.clone()), "integer[]", "[[1,null],null,[]]");
        check(Arc::new(list.slice(1, 2)), "integer[]", "[null,[]]");
        let record =
            StructArray::try_from(vec![("a", Arc::new(Int32Array::from(vec![1])) as ArrayRef)])
                .unwrap();
        let batch = RecordBatch::try_from_iter([("c", Arc::new(record) as ArrayRef)]).unwrap();
        let mut text = String::new();
        write_rows(&mut text, &batch, true).unwrap();
        assert_eq!(text, "\n[{\"a\":1}]");
    }

    #[test]
    fn a_row_without_columns_is_an_empty_array() {
        let options = RecordBatchOptions::new().with_row_count(Some(2));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let mut text = String::new();
        write_rows(&mut text, &batch, true).unwrap();
        assert_eq!(text.replace('\n', ""), "[],[]");
    }

    proptest! {
        #[test]
        fn every_text_reads_back(text: String) {
            let mut json = String::new();
            push_text(&mut json, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn every_finite_float_reads_back(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            let mut json = String::new();
            push_f64(&mut json, value);
            prop_assert_eq!(json.parse::<f64>().unwrap().to_bits(), value.to_bits());
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    }
}
