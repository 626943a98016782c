//! Durations as configuration writes them: `500ms`, `10s`, `10m`, `24h`, `365d`.
//!
//! Every role's config uses the [`serde`] module here (`#[serde(with = "model::duration::serde")]`), so that one text
//! means one duration everywhere.

use std::time::Duration;

/// Units in milliseconds, the largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a whole number with its unit: `ms`, `s`, `m`, `h` or `d`. A bare `0` needs none.
///
/// # Errors
/// For anything else, and beyond 2^64 milliseconds.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| invalid())?;
    let unit = &text[digits..];
    if number == 0 && unit.is_empty() {
        return Ok(Duration::ZERO);
    }
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
    number.checked_mul(*unit_ms).map(Duration::from_millis).ok_or_else(invalid)
}

/// The text with the largest unit that says the duration exactly; parts of a millisecond are left out.
pub fn print(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let exact = UNITS.iter().find(|(_, unit_ms)| millis.is_multiple_of(*unit_ms));
    let (name, unit_ms) = exact.expect("every number of milliseconds is a multiple of one");
    format!("{}{name}", millis / unit_ms)
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: a whole number and its unit, such as 500ms, 10s, 10m, 24h or 365d"
)]
pub struct InvalidDuration(pub String);

/// For `#[serde(with = "model::duration::serde")]`.
pub mod serde {
    use ::serde::de::Error;
    use ::serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    /// Writes the text of [`print`](super::print).
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::print(*duration))
    }

    /// Reads what [`parse`](super::parse) takes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_and_their_durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("365d", 31_536_000_000),
            ("0", 0),
            ("007s", 7000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(print(Duration::from_secs(610)), "610s");
        assert_eq!(print(Duration::from_secs(86_400)), "1d");
        assert_eq!(print(Duration::ZERO), "0s");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "10", "-1s", "1.5s", "10 s", "s", "10S", "10µs", "99999999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("213503982335d").is_err());
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }
    }
}
