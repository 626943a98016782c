//! Numbers as PostgreSQL writes them: floats with their shortest exact digits, and the binary form of numeric.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

/// An `f64` as text, in the form that `extra_float_digits` 1 and above gives.
pub(crate) fn push_f64(into: &mut String, value: f64) {
    push_float(into, value, &format!("{value:e}"), 15);
}

/// The same for an `f32`.
pub(crate) fn push_f32(into: &mut String, value: f32) {
    push_float(into, value.into(), &format!("{value:e}"), 6);
}

/// `shortest` is Rust's `1.5e-7`; `digits` is where PostgreSQL begins to write an exponent.
fn push_float(into: &mut String, value: f64, shortest: &str, digits: i32) {
    if value.is_nan() {
        return into.push_str("NaN");
    }
    if value.is_infinite() {
        return into.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        let written = write!(into, "{mantissa}e{sign}{:02}", exponent.abs());
        return written.expect("a string takes all");
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    into.push_str(sign);
    match usize::try_from(exponent) {
        Err(_) => {
            into.push_str("0.");
            into.extend(std::iter::repeat_n('0', (-exponent - 1).unsigned_abs() as usize));
            into.push_str(&digits);
        }
        Ok(exponent) if digits.len() <= exponent + 1 => {
            into.push_str(&digits);
            into.extend(std::iter::repeat_n('0', exponent + 1 - digits.len()));
        }
        Ok(exponent) => {
            let (whole, fraction) = digits.split_at(exponent + 1);
            write!(into, "{whole}.{fraction}").expect("a string takes all");
        }
    }
}

/// A decimal text such as `-12.50` as numeric: groups of four digits, each with its weight.
pub(crate) fn numeric(into: &mut BytesMut, text: &str) {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    // The groups meet at the point.
    let lead = (4 - whole.len() % 4) % 4;
    let trail = (4 - fraction.len() % 4) % 4;
    let padded: Vec<u8> = std::iter::repeat_n(b'0', lead)
        .chain(whole.bytes())
        .chain(fraction.bytes())
        .chain(std::iter::repeat_n(b'0', trail))
        .collect();
    let group = |group: &[u8]| {
        group
            .iter()
            .fold(0i16, |value, digit| value * 10 + i16::from(digit.saturating_sub(b'0') % 10))
    };
    let groups: Vec<i16> = padded.chunks(4).map(group).collect();
    let first = groups.iter().position(|group| *group != 0).unwrap_or(groups.len());
    let last = groups.iter().rposition(|group| *group != 0).map_or(first, |last| last + 1);
    let weight = (whole.len() + lead) as i32 / 4 - 1 - first as i32;
    let shown = groups.get(first..last).unwrap_or_default();
    into.put_i16(shown.len() as i16);
    into.put_i16(if shown.is_empty() { 0 } else { weight as i16 });
    into.put_u16(if is_negative && !shown.is_empty() { 0x4000 } else { 0 });
    into.put_u16(fraction.len() as u16);
    shown.iter().for_each(|group| into.put_i16(*group));
}

/// The text of a binary numeric; `None` for what is none, and for NaN and infinities.
pub(crate) fn numeric_text(mut bytes: &[u8]) -> Option<String> {
    let mut next = || {
        let (word, rest) = bytes.split_first_chunk::<2>()?;
        bytes = rest;
        Some(i16::from_be_bytes(*word))
    };
    let (count, weight, sign, scale) = (next()?, next()?, next()?, next()?);
    let is_negative = match sign.cast_unsigned() {
        0 => false,
        0x4000 => true,
        _ => return None,
    };
    let groups: Vec<i16> = (0..count).map(|_| next()).collect::<Option<_>>()?;
    // Decimals of 38 digits are the longest here.
    if !(-20..=20).contains(&weight) || !(0..=76).contains(&scale) || count > 40 {
        return None;
    }
    if groups.iter().any(|group| !(0..10_000).contains(group)) {
        return None;
    }
    let digits_at = |weight_at: i32| {
        let at = i32::from(weight) - weight_at;
        usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut text = String::from(if is_negative { "-" } else { "" });
    let mut whole = String::new();
    for weight_at in (0..=i32::from(weight).max(0)).rev() {
        write!(whole, "{:04}", digits_at(weight_at)).ok()?;
    }
    let trimmed = whole.trim_start_matches('0');
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let mut fraction = String::new();
        for weight_at in 1..=(i32::from(scale) + 3) / 4 {
            write!(fraction, "{:04}", digits_at(-weight_at)).ok()?;
        }
        write!(text, ".{}", fraction.get(..scale as usize)?).ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456789012345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.2345678901234567e19, "1.2345678901234567e+19"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut shown = String::new();
            push_f64(&mut shown, value);
            assert_eq!(shown, text);
        }
        let mut shown = String::new();
        push_f32(&mut shown, 0.1);
        assert_eq!(shown, "0.1");
        shown.clear();
        push_f32(&mut shown, 1e6);
        assert_eq!(shown, "1e+06");
    }

    proptest! {
        #[test]
        fn a_float_reads_back(value: f64) {
            let mut shown = String::new();
            push_f64(&mut shown, value);
            let back: f64 = shown.replace("Infinity", "inf").parse().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()));
        }

        #[test]
        fn a_numeric_reads_back(digits in -999_999_999_999_999_999i64..999_999_999_999_999_999, scale in 0usize..18) {
            let sign = if digits < 0 { "-" } else { "" };
            let all = format!("{:0width$}", digits.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = all.split_at(all.len() - scale);
            let point = if scale > 0 { "." } else { "" };
            let text = format!("{sign}{whole}{point}{fraction}");
            let mut bytes = BytesMut::new();
            numeric(&mut bytes, &text);
            prop_assert_eq!(numeric_text(&bytes), Some(text));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = numeric_text(&bytes);
        }
    }
}
