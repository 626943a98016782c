//! One cell of a line as the value that its JSON form has. Snowplow: `analytics-sdk.md` 1 and 2.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::Kind;
use crate::time::Timestamp;
use crate::uuid;

/// Columns that every event has.
const REQUIRED: [&str; 4] = ["collector_tstamp", "event_id", "v_collector", "v_etl"];

/// Reads a cell; an empty one is null. A text is cut to `length_max` UTF-16 code units.
///
/// # Errors
/// The message of the SDK.
pub(super) fn read(
    name: &str,
    kind: Kind,
    text: &str,
    length_max: Option<usize>,
) -> Result<Value, String> {
    let failed = |what: &str| format!("Cannot parse key {name} into {what}");
    match (kind, text) {
        (_, "") if REQUIRED.contains(&name) => Err(format!("Field {name} cannot be empty")),
        (_, "") => Ok(Value::Null),
        (Kind::Text(_) | Kind::Json, text) if name == "event_id" => {
            uuid::lenient(text).map(Value::from).ok_or_else(|| failed("UUID"))
        }
        (Kind::Text(_) | Kind::Json, text) => Ok(cut(text, length_max).into()),
        (Kind::Int, text) => text.parse::<i32>().map(Value::from).map_err(|_| failed("integer")),
        (Kind::Bit, "0") => Ok(false.into()),
        (Kind::Bit, "1") => Ok(true.into()),
        (Kind::Bit, _) => Err(failed("boolean")),
        // A double that is not finite has no JSON form, and becomes null.
        (Kind::Number | Kind::Money | Kind::Float, text) => {
            java_double(text).map(Value::from).ok_or_else(|| failed("double"))
        }
        (Kind::Time, text) => instant(text).map(Value::from).ok_or_else(|| failed("datetime")),
    }
}

/// The text up to so many UTF-16 code units. A character of two of them that would be torn apart is left out.
fn cut(text: &str, length_max: Option<usize>) -> Cow<'_, str> {
    let Some(length_max) = length_max.filter(|length_max| *length_max < text.len()) else {
        return text.into();
    };
    let mut units = 0;
    let fits = |character: &char| {
        units += character.len_utf16();
        units <= length_max
    };
    text.chars().take_while(fits).collect::<String>().into()
}

/// What Java reads as a double: surrounding spaces, an optional sign, `NaN`, `Infinity`, or digits with a point, an
/// exponent, and one of the letters of a literal's type.
fn java_double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|character| character <= ' ');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        "Infinity" => return Some(f64::INFINITY),
        _ => {}
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let is_number = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    if !digits.bytes().all(is_number) {
        return None;
    }
    digits.parse().ok()
}

/// The instant as it stands in JSON, `2013-11-26T00:02:05Z`: the fraction has 3, 6 or 9 digits, or is left out when it is
/// zero.
fn instant(text: &str) -> Option<String> {
    let text = text.replace(' ', "T");
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    // The calendar is that of our own timestamps.
    Timestamp::from_tsv(&format!("{}.000", seconds.replacen('T', " ", 1)))?;
    if !is_fraction {
        return None;
    }
    let significant = fraction.trim_end_matches('0').len();
    Some(match significant.div_ceil(3) * 3 {
        0 => format!("{seconds}Z"),
        digits => format!("{seconds}.{:0<digits$}Z", &fraction[..significant]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_their_fraction_in_groups_of_three() {
        for (text, expected) in [
            ("2013-11-26 00:02:05", Some("2013-11-26T00:02:05Z")),
            ("2013-11-26 00:02:05.000", Some("2013-11-26T00:02:05Z")),
            ("2013-11-26T00:02:05.", Some("2013-11-26T00:02:05Z")),
            ("2013-11-26 00:03:57.885", Some("2013-11-26T00:03:57.885Z")),
            ("2013-11-26 00:03:57.5", Some("2013-11-26T00:03:57.500Z")),
            ("2013-11-26 00:03:57.0001", Some("2013-11-26T00:03:57.000100Z")),
            ("2013-11-26 00:03:57.123456789", Some("2013-11-26T00:03:57.123456789Z")),
            ("2013-11-26 00:03:57.1234567890", None),
            ("2013-11-26", None),
            ("2013-02-29 00:00:00.000", None),
            ("2013-11-26 24:00:00.000", None),
            ("2013-11-26 00:03", None),
            ("2013-11-26  00:02:05.000", None),
            ("now", None),
        ] {
            assert_eq!(instant(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn doubles_are_read_as_java_reads_them() {
        for (text, expected) in [
            ("0.0", Some("0.0")),
            ("35708.230", Some("35708.23")),
            (" 1e3 ", Some("1000.0")),
            ("7", Some("7.0")),
            (".5", Some("0.5")),
            ("5.", Some("5.0")),
            ("+1.5d", Some("1.5")),
            ("-2F", Some("-2.0")),
            ("NaN", Some("null")),
            ("-Infinity", Some("null")),
            ("inf", None),
            ("nan", None),
            ("1,5", None),
            ("d", None),
            ("1e", None),
            (" ", None),
        ] {
            let found = java_double(text).map(|number| Value::from(number).to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", None), "abc");
        assert_eq!(cut("abc", Some(2)), "ab");
        assert_eq!(cut("a\u{1f600}b", Some(2)), "a");
        assert_eq!(cut("a\u{1f600}b", Some(3)), "a\u{1f600}");
        assert_eq!(cut("ééé", Some(3)), "ééé");
        assert_eq!(read("v_etl", Kind::Text(100), "abc", Some(0)), Ok("".into()));
    }
}
