//! From the text of a parameter to the value of a column. Snowplow: `enrich-core.md` 2.3.
//!
//! Each conversion answers with a value, a null (`Ok(None)`) or the message of the bad row. Called through the table in
//! `parameters`.

use model::decimal::Decimal;
use model::time::Timestamp;
use model::uuid;

/// Tabs become four spaces, other ASCII control characters go; nothing left is a null.
pub(crate) fn tsv_safe(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if !has_control(text.as_bytes()) {
        return Some(text.to_owned());
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\t' => safe.push_str("    "),
            character if character.is_ascii_control() => {}
            character => safe.push(character),
        }
    }
    (!safe.is_empty()).then_some(safe)
}

/// Whether an ASCII control character is among the bytes. An event has some thirty texts to be looked at, most of them
/// short, so eight bytes are looked at as one number. In it a byte is below 0x20, or zero, if subtracting borrows and the
/// byte's own highest bit is not set; what a borrow does to the byte above matters only where one was found anyway.
fn has_control(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let in_word = |word: u64| {
        let delete = word ^ (ONES * 0x7F);
        (word.wrapping_sub(ONES * 0x20) & !word | delete.wrapping_sub(ONES) & !delete) & HIGHS != 0
    };
    let (words, rest) = bytes.as_chunks::<8>();
    if words.iter().any(|word| in_word(u64::from_le_bytes(*word))) {
        return true;
    }
    match bytes.last_chunk::<8>() {
        // Some of them once more, which costs less than one by one.
        Some(last) => in_word(u64::from_le_bytes(*last)),
        None => rest.iter().any(u8::is_ascii_control),
    }
}

/// The header's user agent: tabs become four spaces, line ends go, other control characters stay.
pub(crate) fn user_agent(text: &str) -> Option<String> {
    if !text.bytes().any(|byte| matches!(byte, b'\t' | b'\r' | b'\n')) {
        return (!text.is_empty()).then(|| text.to_owned());
    }
    let safe = text.replace('\t', "    ").replace(['\r', '\n'], "");
    (!safe.is_empty()).then_some(safe)
}

pub(crate) fn int32(text: &str) -> Result<Option<i32>, String> {
    if text.eq_ignore_ascii_case("null") {
        return Ok(None);
    }
    integer(text)
        .and_then(|number| i32::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| "Cannot be converted to java.lang.Integer".to_owned())
}

pub(crate) fn decimal(text: &str) -> Result<Option<Decimal>, String> {
    if text.eq_ignore_ascii_case("null") {
        return Ok(None);
    }
    let ascii: String =
        text.chars().map(|character| ascii_digit(character).unwrap_or(character)).collect();
    Decimal::parse(&ascii)
        .map(Some)
        .map_err(|error| format!("Cannot be converted to java.math.BigDecimal. Error : {error}"))
}

pub(crate) fn bit(text: &str) -> Result<Option<bool>, String> {
    match text {
        "0" => Ok(Some(false)),
        "1" => Ok(Some(true)),
        _ => Err("Cannot be converted to Boolean-like java.lang.Byte".to_owned()),
    }
}

/// Only the canonical form, in any letter case; the result is in lower case.
pub(crate) fn uuid_strict(text: &str) -> Result<Option<String>, String> {
    match uuid::is_canonical(text) {
        true => Ok(Some(text.to_ascii_lowercase())),
        false => Err("Not a valid UUID".to_owned()),
    }
}

pub(crate) fn epoch_ms(text: &str) -> Result<Option<Timestamp>, String> {
    let Some(millis) = integer(text) else {
        return Err("Not in the expected format: ms since epoch".to_owned());
    };
    let at = Timestamp(millis);
    match at.has_plain_year() {
        true => Ok(Some(at)),
        false => Err(format!("Formatting as {} is not Redshift-compatible", at.to_tsv())),
    }
}

/// Two numbers, as in `1200x800`.
pub(crate) fn width_and_height(text: &str) -> Result<(i32, i32), String> {
    let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let x = text.bytes().position(|byte| byte == b'x');
    let Some((width, height)) = x
        .map(|x| (&text[..x], &text[x + 1..]))
        .filter(|(width, height)| is_digits(width) && is_digits(height))
    else {
        return Err(r"Does not conform to regex (\d+)x(\d+)".to_owned());
    };
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err("Could not be converted to java.lang.Integer s".to_owned()),
    }
}

pub(crate) fn event_type(text: &str) -> Result<Option<String>, String> {
    let name = match text {
        "se" | "ev" => "struct",
        "ue" => "unstruct",
        "ad" => "ad_impression",
        "tr" => "transaction",
        "ti" => "transaction_item",
        "pv" => "page_view",
        "pp" => "page_ping",
        _ => return Err("Not a valid event type".to_owned()),
    };
    Ok(Some(name.to_owned()))
}

pub(crate) fn platform(text: &str) -> Result<Option<String>, String> {
    match text {
        "web" | "iot" | "app" | "mob" | "pc" | "cnsl" | "tv" | "srv" | "headset" => {
            Ok(Some(text.to_owned()))
        }
        _ => Err("Not a valid platform".to_owned()),
    }
}

/// The number that an optional sign and decimal digits of any script name, if it has 64 bits.
fn integer(text: &str) -> Option<i64> {
    // Nearly all are short and plain.
    if (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    signed_digits(text)?.parse().ok()
}

/// An optional sign and decimal digits of any script, as ASCII. `None` for any other text, and where there are so many
/// digits that no integer of ours holds them.
fn signed_digits(text: &str) -> Option<String> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut ascii = sign.to_owned();
    for character in digits.chars() {
        let digit = ascii_digit(character)?;
        // Leading zeros say nothing, and a hostile text may have a million of them.
        if digit != '0' || ascii.len() > sign.len() {
            ascii.push(digit);
        }
    }
    if ascii.len() == sign.len() {
        ascii.push('0');
    }
    Some(ascii)
}

/// The zeros of the scripts whose decimal digits Java's number parsers read, from the Basic Multilingual Plane.
const ZEROS: [u32; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6,
    0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80,
    0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0xFF10,
];

fn ascii_digit(character: char) -> Option<char> {
    if character.is_ascii() {
        return character.is_ascii_digit().then_some(character);
    }
    let code = u32::from(character);
    let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
    char::from_digit(code - zero, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_other_scripts_are_digits() {
        assert_eq!(int32("٤٢"), Ok(Some(42)));
        assert_eq!(int32("-４２"), Ok(Some(-42)));
        assert_eq!(decimal("१.५").unwrap().unwrap().as_str(), "1.5");
        assert_eq!(epoch_ms("०"), Ok(Some(Timestamp(0))));
        assert!(int32("²").is_err(), "a superscript is no decimal digit");
        assert!(int32("߿").is_err());
    }

    #[test]
    fn a_million_leading_zeros_are_no_trouble() {
        let text = "0".repeat(1_000_000) + "7";
        assert_eq!(int32(&text), Ok(Some(7)));
        assert_eq!(
            int32(&"9".repeat(1_000_000)),
            Err("Cannot be converted to java.lang.Integer".to_owned())
        );
        assert_eq!(int32("-0"), Ok(Some(0)));
    }
}
