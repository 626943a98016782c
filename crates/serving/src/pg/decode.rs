//! The values of a client's parameters, as text or in PostgreSQL's binary form, into those of the engine.
//!
//! Called when a prepared statement is bound. The bytes come from outside: every length is checked.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;

use super::calendar::{EPOCH_DAYS, EPOCH_MICROS};
use super::encode::Format;
use super::error::Refusal;
use super::number::numeric_text;
use super::sqlstate;
use super::types::{ColumnType, Type};

/// Elements of one array; more belong into a table.
const ELEMENTS_MAX: usize = 100_000;

/// One parameter: what the client calls its type, and what the statement wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// The number that the client declared or was told.
    pub(crate) number: u32,
    /// The engine's type, where the client declared one or the statement says one.
    pub(crate) wanted: Option<DataType>,
    /// True where the client declared it.
    pub(crate) is_declared: bool,
}

impl Parameter {
    /// What is told to the engine of it.
    pub(crate) fn declared(&self) -> Option<DataType> {
        self.wanted.clone().filter(|_| self.is_declared)
    }

    /// How the bytes are read.
    fn column(&self) -> Result<ColumnType, Refusal> {
        ColumnType::of_number(self.number).ok_or_else(|| unknown_type(self.number))
    }

    /// Reads a value; `None` is a null.
    ///
    /// # Errors
    /// For bytes that are no value of the type.
    pub(crate) fn value(
        &self,
        bytes: Option<&[u8]>,
        format: Format,
    ) -> Result<ScalarValue, Refusal> {
        let column = self.column()?;
        let Some(bytes) = bytes else {
            let of = self.wanted.clone().unwrap_or_else(|| column.arrow());
            return ScalarValue::try_from(&of).map_err(|error| wrong(&error.to_string()));
        };
        let read = match format {
            Format::Text => from_text(text(bytes)?, column)?,
            Format::Binary if self.number == 2950 => uuid(bytes)?,
            Format::Binary if self.number == 3802 => {
                from_binary(bytes.get(1..).unwrap_or_default(), column)?
            }
            Format::Binary => from_binary(bytes, column)?,
        };
        // A text stands for whatever the statement wants there, as an untyped literal does.
        match &self.wanted {
            Some(wanted) if column == ColumnType::TEXT && *wanted != read.data_type() => {
                let shown = read.to_string();
                read.cast_to(wanted).map_err(|_| {
                    wrong(&format!("invalid input for a {}: \"{shown}\"", type_name(wanted)))
                })
            }
            _ => Ok(read),
        }
    }
}

/// The error for a type that is not known here.
pub(crate) fn unknown_type(number: u32) -> Refusal {
    let message = format!("parameters of the type with the number {number} are not read");
    Refusal::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("send it as text, or cast it: `$1::text`")
}

fn type_name(of: &DataType) -> String {
    views::schema::sql_type(&arrow::datatypes::Field::new("", of.clone(), true))
}

fn wrong(message: &str) -> Refusal {
    Refusal::new(sqlstate::INVALID_TEXT_REPRESENTATION, message)
}

fn wrong_bytes() -> Refusal {
    let message = "incorrect binary data format in a parameter";
    Refusal::new(sqlstate::INVALID_BINARY_REPRESENTATION, message)
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let message = "invalid byte sequence for encoding \"UTF8\"";
    let refused = || Refusal::new(sqlstate::CHARACTER_NOT_IN_REPERTOIRE, message);
    std::str::from_utf8(bytes).map_err(|_| refused())
}

fn from_text(text: &str, column: ColumnType) -> Result<ScalarValue, Refusal> {
    if column.is_array {
        return array_of(elements(text)?, column);
    }
    let invalid =
        || wrong(&format!("invalid input for a {}: \"{text}\"", type_name(&column.arrow())));
    let trimmed = text.trim();
    Ok(match column.item {
        Type::Text | Type::Json => ScalarValue::Utf8(Some(text.to_owned())),
        Type::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "1" | "y" | "yes" | "on" => ScalarValue::Boolean(Some(true)),
            "f" | "false" | "0" | "n" | "no" | "off" => ScalarValue::Boolean(Some(false)),
            _ => return Err(invalid()),
        },
        Type::Int2 => ScalarValue::Int16(Some(trimmed.parse().map_err(|_| invalid())?)),
        Type::Int4 => ScalarValue::Int32(Some(trimmed.parse().map_err(|_| invalid())?)),
        Type::Int8 => ScalarValue::Int64(Some(trimmed.parse().map_err(|_| invalid())?)),
        Type::Float4 => ScalarValue::Float32(Some(trimmed.parse().map_err(|_| invalid())?)),
        Type::Float8 => ScalarValue::Float64(Some(trimmed.parse().map_err(|_| invalid())?)),
        Type::Numeric(..) => decimal(trimmed)?,
        Type::Bytea => ScalarValue::Binary(Some(hex(trimmed).ok_or_else(invalid)?)),
        Type::Date | Type::Time | Type::Timestamp | Type::TimestampTz | Type::Interval => {
            ScalarValue::Utf8(Some(trimmed.to_owned()))
                .cast_to(&column.arrow())
                .map_err(|_| invalid())?
        }
    })
}

fn from_binary(bytes: &[u8], column: ColumnType) -> Result<ScalarValue, Refusal> {
    if column.is_array {
        return array_of_binary(bytes, column);
    }
    Ok(match column.item {
        Type::Text | Type::Json => ScalarValue::Utf8(Some(text(bytes)?.to_owned())),
        Type::Bytea => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::Bool => ScalarValue::Boolean(Some(fixed::<1>(bytes)? != [0])),
        Type::Int2 => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(bytes)?))),
        Type::Int4 => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(bytes)?))),
        // An oid is one of four bytes.
        Type::Int8 if bytes.len() == 4 => {
            ScalarValue::Int64(Some(u32::from_be_bytes(fixed(bytes)?).into()))
        }
        Type::Int8 => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::Float4 => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(bytes)?))),
        Type::Float8 => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(bytes)?))),
        Type::Numeric(..) => decimal(&numeric_text(bytes).ok_or_else(wrong_bytes)?)?,
        Type::Date => {
            let days = i32::from_be_bytes(fixed(bytes)?).checked_add(EPOCH_DAYS);
            ScalarValue::Date32(Some(days.ok_or_else(wrong_bytes)?))
        }
        Type::Time => ScalarValue::Time64Microsecond(Some(i64::from_be_bytes(fixed(bytes)?))),
        Type::Timestamp | Type::TimestampTz => {
            let micros = i64::from_be_bytes(fixed(bytes)?).checked_add(EPOCH_MICROS);
            let micros = Some(micros.ok_or_else(wrong_bytes)?);
            let zone = (column.item == Type::TimestampTz).then(|| "+00:00".into());
            ScalarValue::TimestampMicrosecond(micros, zone)
        }
        Type::Interval => {
            let (micros, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong_bytes)?;
            let (days, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong_bytes)?;
            let nanoseconds =
                i64::from_be_bytes(*micros).checked_mul(1000).ok_or_else(wrong_bytes)?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano {
                months: i32::from_be_bytes(fixed(rest)?),
                days: i32::from_be_bytes(*days),
                nanoseconds,
            }))
        }
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| wrong_bytes())
}

/// A decimal with as many digits behind the point as the text has.
fn decimal(text: &str) -> Result<ScalarValue, Refusal> {
    let invalid = || wrong(&format!("invalid input for a numeric: \"{text}\""));
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let too_long = || {
        let message = format!("the numeric {text} has more than 38 digits");
        Refusal::new(sqlstate::NUMERIC_OUT_OF_RANGE, message)
    };
    if fraction.len() > 38 || all.trim_start_matches('0').len() > 38 {
        return Err(too_long());
    }
    let value: i128 = all.parse().map_err(|_| too_long())?;
    let value = if sign { -value } else { value };
    Ok(ScalarValue::Decimal128(Some(value), 38, fraction.len() as i8))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| {
        let [high, low] = pair else { return None };
        Some((digit(*high)? * 16 + digit(*low)?) as u8)
    });
    pairs.collect()
}

fn uuid(bytes: &[u8]) -> Result<ScalarValue, Refusal> {
    let bytes: [u8; 16] = fixed(bytes)?;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(ScalarValue::Utf8(Some(text)))
}

fn array_of(items: Vec<Option<String>>, column: ColumnType) -> Result<ScalarValue, Refusal> {
    let item = ColumnType { is_array: false, ..column };
    let values = items.into_iter().map(|value| match value {
        Some(text) => from_text(&text, item),
        None => null(item),
    });
    listed(values.collect::<Result<Vec<_>, _>>()?, item)
}

fn array_of_binary(bytes: &[u8], column: ColumnType) -> Result<ScalarValue, Refusal> {
    let mut rest = bytes;
    let mut next = || -> Result<i32, Refusal> {
        let (word, after) = rest.split_first_chunk::<4>().ok_or_else(wrong_bytes)?;
        rest = after;
        Ok(i32::from_be_bytes(*word))
    };
    let dimensions = next()?;
    let (_has_nulls, _type) = (next()?, next()?);
    let item = ColumnType { is_array: false, ..column };
    if dimensions == 0 {
        return listed(Vec::new(), item);
    }
    if dimensions != 1 {
        let message = "arrays of more than one dimension are not read";
        return Err(Refusal::new(sqlstate::FEATURE_NOT_SUPPORTED, message));
    }
    let (count, _from) = (next()?, next()?);
    let count = usize::try_from(count).map_err(|_| wrong_bytes())?;
    // Each element has a length of its own.
    if count > ELEMENTS_MAX || count > rest.len() / 4 {
        return Err(wrong_bytes());
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (word, after) = rest.split_first_chunk::<4>().ok_or_else(wrong_bytes)?;
        rest = after;
        let length = i32::from_be_bytes(*word);
        if length == -1 {
            values.push(null(item)?);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| wrong_bytes())?;
        let (value, after) = rest.split_at_checked(length).ok_or_else(wrong_bytes)?;
        rest = after;
        values.push(from_binary(value, item)?);
    }
    listed(values, item)
}

fn null(item: ColumnType) -> Result<ScalarValue, Refusal> {
    ScalarValue::try_from(&item.arrow()).map_err(|_| wrong_bytes())
}

fn listed(values: Vec<ScalarValue>, item: ColumnType) -> Result<ScalarValue, Refusal> {
    // Decimals of one array need one scale.
    let scales = values.iter().filter_map(|value| match value {
        ScalarValue::Decimal128(_, _, scale) => Some(*scale),
        _ => None,
    });
    let of = match (item.item, scales.max()) {
        (Type::Numeric(..), Some(scale)) => DataType::Decimal128(38, scale),
        _ => item.arrow(),
    };
    let values = values.into_iter().map(|value| value.cast_to(&of).map_err(|_| wrong_bytes()));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &of)))
}

/// The elements of `{a,"b c",NULL}`.
fn elements(text: &str) -> Result<Vec<Option<String>>, Refusal> {
    let invalid = || wrong(&format!("malformed array literal: \"{text}\""));
    let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inside = inside.ok_or_else(invalid)?;
    let mut elements = Vec::new();
    if inside.trim().is_empty() {
        return Ok(elements);
    }
    let mut characters = inside.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let mut element = String::new();
        let is_quoted = characters.next_if_eq(&'"').is_some();
        loop {
            match characters.next() {
                Some('"') if is_quoted => break,
                None if is_quoted => return Err(invalid()),
                Some('\\') => element.push(characters.next().ok_or_else(invalid)?),
                Some('{' | '}' | '"') if !is_quoted => return Err(invalid()),
                Some(c) if is_quoted || c != ',' => element.push(c),
                ended => {
                    let plain = element.trim().to_owned();
                    let is_null = plain.eq_ignore_ascii_case("null");
                    elements.push((!is_null).then_some(plain));
                    if ended.is_none() {
                        return Ok(elements);
                    }
                    element.clear();
                    break;
                }
            }
        }
        if is_quoted {
            elements.push(Some(element));
            while characters.next_if(|c| c.is_whitespace()).is_some() {}
            match characters.next() {
                None => return Ok(elements),
                Some(',') => {}
                Some(_) => return Err(invalid()),
            }
        }
        if elements.len() > ELEMENTS_MAX {
            return Err(invalid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(number: u32, wanted: Option<DataType>, bytes: &[u8], format: Format) -> String {
        let value = Parameter { number, wanted, is_declared: false }.value(Some(bytes), format);
        value.map_or_else(|refusal| refusal.code.to_owned(), |value| format!("{value:?}"))
    }

    #[test]
    fn texts_become_values_of_their_types() {
        let check = |number, text: &str, expect: &str| {
            assert_eq!(
                read(number, None, text.as_bytes(), Format::Text),
                expect,
                "{number} {text}"
            );
        };
        check(23, "-7", "Int32(-7)");
        check(20, "x", "22P02");
        check(16, "t", "Boolean(true)");
        check(701, "NaN", "Float64(NaN)");
        check(1700, "-12.50", "Decimal128(-12.50,38,2)");
        check(1700, "1e5", "22P02");
        check(1082, "2024-10-04", "Date32(\"2024-10-04\")");
        check(17, "\\x00ff", "Binary(\"0,255\")");
        check(1009, "{a,\"b,c\",NULL,\"NULL\"}", "List([a, b,c, , NULL])");
        check(1007, "{}", "List([])");
        check(1007, "{1", "22P02");
        check(999_999, "1", "0A000");
    }

    #[test]
    fn an_untyped_text_is_what_the_statement_wants() {
        let timestamp = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
        for text in ["2023-11-14 22:13:20", "2023-11-14T22:13:20Z"] {
            let value = read(0, Some(timestamp.clone()), text.as_bytes(), Format::Text);
            assert_eq!(value, "TimestampMicrosecond(1700000000000000, None)");
        }
        assert_eq!(read(0, Some(DataType::Int32), b"12", Format::Text), "Int32(12)");
        assert_eq!(read(25, Some(DataType::Int32), b"twelve", Format::Text), "22P02");
    }

    #[test]
    fn binary_values_are_read() {
        let check = |number, bytes: &[u8], expect: &str| {
            assert_eq!(read(number, None, bytes, Format::Binary), expect, "{number}");
        };
        check(21, &7i16.to_be_bytes(), "Int16(7)");
        check(23, &7i32.to_be_bytes(), "Int32(7)");
        check(23, &[0], "22P03");
        check(26, &7u32.to_be_bytes(), "Int64(7)");
        check(1114, &5i64.to_be_bytes(), "TimestampMicrosecond(946684800000005, None)");
        check(1114, &i64::MAX.to_be_bytes(), "22P03");
        check(1700, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 12], "Decimal128(12.00,38,2)");
        check(2950, &[0x11; 16], "Utf8(\"11111111-1111-1111-1111-111111111111\")");
        let array = [
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4][..],
            &[0, 0, 0, 9],
        ];
        check(1007, &array.concat(), "List([9])");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            number in prop::sample::select(vec![
                0u32, 16, 17, 20, 21, 23, 25, 26, 700, 701, 1000, 1005, 1007, 1009, 1082, 1083, 1114, 1115, 1184,
                1186, 1231, 1700, 2950, 3802,
            ]),
            is_text: bool,
        ) {
            let format = if is_text { Format::Text } else { Format::Binary };
            let _ = Parameter { number, wanted: None, is_declared: false }.value(Some(&bytes), format);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = Parameter { number, wanted: None, is_declared: false }.value(Some(text.as_bytes()), Format::Text);
            let wanted = Some(DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None));
            let _ = Parameter { number: 0, wanted, is_declared: false }.value(Some(text.as_bytes()), Format::Text);
        }
    }
}
