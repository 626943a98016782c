//! Decimals of any length, so that a product is rounded once and nowhere else.

use std::fmt;

use num_bigint::BigUint;
use serde_json::Value;

/// Digits of a rate that count; no table has more than some twenty.
const DIGITS_MAX: usize = 100;

/// A decimal: `units` times ten to the power of minus `scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    is_negative: bool,
    units: BigUint,
    scale: u32,
}

impl Exact {
    /// A number of a table as it is spelled there; none for what is no number, is negative or has more than a hundred
    /// digits.
    pub(super) fn of_json(value: &Value) -> Option<Exact> {
        let Value::Number(number) = value else { return None };
        let text = number.to_string();
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let exponent: i64 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let scale = i64::try_from(fraction.len()).ok()? - exponent;
        let zeros = usize::try_from(-scale).unwrap_or(0);
        if whole.len() + fraction.len() + zeros > DIGITS_MAX || scale > DIGITS_MAX as i64 {
            return None;
        }
        let digits = format!("{whole}{fraction}{}", "0".repeat(zeros));
        let units = BigUint::parse_bytes(digits.as_bytes(), 10)?;
        Some(Exact { is_negative: false, units, scale: u32::try_from(scale.max(0)).ok()? })
    }

    /// All binary digits of a double; none if it is not finite.
    pub(super) fn of_f64(value: f64) -> Option<Exact> {
        if !value.is_finite() {
            return None;
        }
        let bits = value.abs().to_bits();
        let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
        // Without the implied bit where it is subnormal.
        let (mantissa, exponent) = match exponent {
            0 => (fraction, -1074),
            _ => (fraction | (1 << 52), exponent as i32 - 1075),
        };
        let units = BigUint::from(mantissa);
        let power = exponent.unsigned_abs();
        let (units, scale) = match exponent < 0 {
            // m / 2^n is m · 5^n / 10^n.
            true => (units * BigUint::from(5_u32).pow(power), power),
            false => (units * BigUint::from(2_u32).pow(power), 0),
        };
        Some(Exact { is_negative: value < 0.0, units, scale })
    }

    pub(super) fn is_positive(&self) -> bool {
        !self.is_negative && self.units != BigUint::ZERO
    }

    pub(super) fn times(&self, other: &Exact) -> Exact {
        Exact {
            is_negative: self.is_negative != other.is_negative,
            units: &self.units * &other.units,
            scale: self.scale + other.scale,
        }
    }

    /// 1 divided by this, with so many digits behind the point, half to even. Not for zero.
    pub(super) fn inverse(&self, digits: u32) -> Exact {
        let numerator = power_of_ten(digits + self.scale);
        let units = divide_half_even(&numerator, &self.units);
        Exact { is_negative: self.is_negative, units, scale: digits }
    }

    /// The same with so many digits behind the point, half to even.
    pub(super) fn round(&self, digits: u32) -> Exact {
        let units = match self.scale.checked_sub(digits) {
            Some(more) => divide_half_even(&self.units, &power_of_ten(more)),
            None => &self.units * power_of_ten(digits - self.scale),
        };
        Exact { is_negative: self.is_negative, units, scale: digits }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.units.to_string();
        let scale = self.scale as usize;
        let digits = format!("{}{digits}", "0".repeat((scale + 1).saturating_sub(digits.len())));
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.is_negative && self.units != BigUint::ZERO { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10_u32).pow(exponent)
}

fn divide_half_even(numerator: &BigUint, denominator: &BigUint) -> BigUint {
    let quotient = numerator / denominator;
    let twice_the_rest = (numerator - &quotient * denominator) * 2_u32;
    let is_odd = quotient.bit(0);
    let is_up = twice_the_rest > *denominator || (twice_the_rest == *denominator && is_odd);
    if is_up { quotient + 1_u32 } else { quotient }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exact(text: &str) -> Exact {
        Exact::of_json(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        for (text, expected) in [
            ("0.79", "0.79"),
            ("1", "1"),
            ("1.5e3", "1500"),
            ("1.5E-7", "0.00000015"),
            ("23000.123456789012345", "23000.123456789012345"),
        ] {
            assert_eq!(exact(text).to_string(), expected);
        }
        for odd in [json!("1"), json!(null), json!(-1), serde_json::from_str("1e999").unwrap()] {
            assert_eq!(Exact::of_json(&odd), None, "{odd}");
        }
        let double = |value: f64| Exact::of_f64(value).unwrap().to_string();
        assert_eq!(double(0.5), format!("0.5{}", "0".repeat(52)));
        assert_eq!(double(-3.0), format!("-3.{}", "0".repeat(51)));
        assert!(
            double(0.1).starts_with("0.1000000000000000055511151231257827021181583404541015625")
        );
        assert_eq!(double(1e20), "100000000000000000000");
        assert_eq!(double(0.0).trim_end_matches('0'), "0.");
        assert_eq!(Exact::of_f64(f64::NAN), None);
    }

    #[test]
    fn a_half_goes_to_the_even_neighbour() {
        for (text, digits, expected) in [
            ("0.125", 2, "0.12"),
            ("0.135", 2, "0.14"),
            ("0.1250001", 2, "0.13"),
            ("2.5", 0, "2"),
            ("3.5", 0, "4"),
            ("0.995", 2, "1.00"),
            ("1.2", 3, "1.200"),
        ] {
            assert_eq!(exact(text).round(digits).to_string(), expected, "{text}");
        }
        assert_eq!(Exact::of_f64(-0.125).unwrap().round(2).to_string(), "-0.12");
        assert_eq!(Exact::of_f64(-0.001).unwrap().round(2).to_string(), "0.00");
    }

    #[test]
    fn an_inverse_has_so_many_digits_and_no_more() {
        assert_eq!(exact("0.79").inverse(6).to_string(), "1.265823");
        assert_eq!(exact("3").inverse(6).to_string(), "0.333333");
        assert_eq!(exact("1.5").inverse(6).to_string(), "0.666667");
        assert_eq!(exact("25000000").inverse(6).to_string(), "0.000000");
    }
}
