//! Decimals as Java's BigDecimal reads and prints them.
//!
//! The printed text is the value: it keeps trailing zeros, and two decimals are equal when they print alike.
//! Snowplow: `enrich-core.md` 2.3, "decimal".

use std::fmt;

/// A decimal number in its printed form, for example `18.50` or `7.51E-9`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Decimal(Box<str>);

/// Why a text is not a decimal, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDecimal {
    #[error("no digits")]
    NoDigits,
    #[error("unexpected character `{0}`")]
    Character(char),
    #[error("the exponent is not a number")]
    Exponent,
    #[error("more than {} digits", Decimal::DIGITS_MAX)]
    TooLong,
}

impl Decimal {
    /// The most digits that a value may have in plain form, zeros included. Upstream has no limit and would allocate
    /// a gigabyte for `1E999999999`.
    pub const DIGITS_MAX: usize = 1000;

    /// Reads an optional sign, ASCII digits with an optional point, an optional exponent. A negative scale becomes 0.
    ///
    /// # Errors
    /// For every other text, and beyond [`Decimal::DIGITS_MAX`].
    pub fn parse(text: &str) -> Result<Decimal, InvalidDecimal> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if let Some(other) = whole.chars().chain(fraction.chars()).find(|c| !c.is_ascii_digit()) {
            return Err(InvalidDecimal::Character(other));
        }
        if whole.len() + fraction.len() == 0 {
            return Err(InvalidDecimal::NoDigits);
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let mut digits =
            if significant.is_empty() { "0".to_owned() } else { significant.to_owned() };
        let negative = negative && digits != "0";
        let mut scale = fraction.len() as i64 - exponent;
        let zeros_needed = usize::try_from(-scale).unwrap_or(0);
        if digits.len() + zeros_needed > Decimal::DIGITS_MAX || scale > Decimal::DIGITS_MAX as i64 {
            return Err(InvalidDecimal::TooLong);
        }
        if scale < 0 {
            if digits != "0" {
                digits.push_str(&"0".repeat(zeros_needed));
            }
            scale = 0;
        }
        Ok(Decimal(print(negative, &digits, scale as usize).into()))
    }

    /// The printed form: plain, or scientific where the first digit stands more than six places behind the point.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest double.
    pub fn to_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The value in hundredths, half away from zero; `None` beyond 18 digits. What `decimal(18,2)` holds.
    pub fn to_hundredths(&self) -> Option<i128> {
        let (mantissa, exponent) = self.0.split_once('E').unwrap_or((&self.0, "0"));
        let negative = mantissa.starts_with('-');
        let (whole, fraction) = mantissa
            .trim_start_matches('-')
            .split_once('.')
            .unwrap_or((mantissa.trim_start_matches('-'), ""));
        if exponent != "0" {
            // Scientific means below 0.000001: nothing is left at two places.
            return Some(0);
        }
        if whole.len() > 17 {
            return None;
        }
        let mut hundredths: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes().chain([b'0', b'0']).take(2)) {
            hundredths = hundredths * 10 + i128::from(digit - b'0');
        }
        if fraction.as_bytes().get(2).is_some_and(|digit| *digit >= b'5') {
            hundredths += 1;
        }
        let fits = hundredths < 10i128.pow(18);
        fits.then_some(if negative { -hundredths } else { hundredths })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_exponent(text: &str) -> Result<i64, InvalidDecimal> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDecimal::Exponent);
    }
    // Java's exponent is 32 bits wide; anything near that is far beyond the digit limit anyway.
    text.parse::<i32>().map(i64::from).map_err(|_| InvalidDecimal::Exponent)
}

fn print(negative: bool, digits: &str, scale: usize) -> String {
    let sign = if negative { "-" } else { "" };
    let adjusted = digits.len() as i64 - 1 - scale as i64;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    if adjusted < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E{adjusted}");
    }
    let padded = format!("{}{digits}", "0".repeat((scale + 1).saturating_sub(digits.len())));
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(Decimal::parse(text).unwrap().as_str(), expect, "{text}");
    }

    #[test]
    fn prints_as_java_does() {
        check("42", "42");
        check("42.50", "42.50");
        check("1E7", "10000000");
        check("1e+21", "1000000000000000000000");
        check("1.2E9", "1200000000");
        check("0.000001", "0.000001");
        check("0.0000001", "1E-7");
        check("7.51E-9", "7.51E-9");
        check("0.00000000", "0E-8");
        check("-0.00", "0.00");
        check("-0.0", "0.0");
        check(".5", "0.5");
        check("5.", "5");
        check("007", "7");
        check("0E7", "0");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ".",
            "-",
            "1,5",
            " 1",
            "NaN",
            "0x1",
            "1e",
            "1e+",
            "1E999999999",
            "1E-999999999",
            "--1",
            "1e99999999999",
        ] {
            assert!(Decimal::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hundredths_round_half_away_from_zero() {
        let hundredths = |text: &str| Decimal::parse(text).unwrap().to_hundredths();
        assert_eq!(hundredths("18.5"), Some(1850));
        assert_eq!(hundredths("1.005"), Some(101));
        assert_eq!(hundredths("-1.005"), Some(-101));
        assert_eq!(hundredths("-0.001"), Some(0));
        assert_eq!(hundredths("1E-7"), Some(0));
        assert_eq!(hundredths("9999999999999999.99"), Some(999_999_999_999_999_999));
        assert_eq!(hundredths("9999999999999999.999"), None);
        assert_eq!(hundredths("10000000000000000"), None);
    }
}
