//! JSON texts and numbers as values of a column's type; none where the type cannot hold them exactly.
//!
//! Called by `read` for each leaf. Snowplow: `lake-and-postgres.md` 2 and 4.

use model::time::Timestamp;

/// A whole number, also one that is written `5.0` or `5e0`.
pub(super) fn bigint(number: &str) -> Option<i64> {
    match number.parse() {
        Ok(whole) => Some(whole),
        Err(_) => decimal(number, 38, 0).and_then(|whole| whole.try_into().ok()),
    }
}

pub(super) fn double(number: &str) -> Option<f64> {
    number.parse::<f64>().ok().filter(|double| double.is_finite())
}

/// The number times 10^scale, if that is whole and has at most so many digits: nothing is rounded.
pub(super) fn decimal(number: &str, precision: u8, scale: u8) -> Option<i128> {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse::<i32>().ok()?.into();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let significant = format!("{whole}{fraction}");
    let trimmed = significant.trim_end_matches('0');
    let significant = if trimmed.is_empty() { return Some(0) } else { trimmed };
    // Zeros that were cut off behind stand for powers of ten.
    let cut = (whole.len() + fraction.len() - significant.len()) as i64;
    let places = exponent - fraction.len() as i64 + cut + i64::from(scale);
    let digits = significant.trim_start_matches('0');
    let zeros = usize::try_from(places).ok().filter(|zeros| *zeros <= usize::from(precision))?;
    if digits.len() + zeros > usize::from(precision) {
        return None;
    }
    let value = digits.parse::<i128>().ok()?.checked_mul(10i128.pow(zeros as u32))?;
    Some(if is_negative { -value } else { value })
}

/// Days since 1970-01-01 of `2026-11-22`.
pub(super) fn date(text: &str) -> Option<i32> {
    let Timestamp(millis) = Timestamp::from_tsv(&format!("{text} 00:00:00.000"))?;
    millis.div_euclid(86_400_000).try_into().ok()
}

/// Microseconds of an ISO instant with its offset: `2026-11-22T10:00:00.123456+01:00`. Digits beyond the sixth are cut.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let (seconds, leap) = match time.strip_suffix("60") {
        Some(minutes) => (format!("{minutes}59"), 1_000_000),
        None => (time.to_owned(), 0),
    };
    let Timestamp(millis) = Timestamp::from_tsv(&format!("{day} {seconds}.000"))?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            rest.split_at(digits)
        }
        None => ("", rest),
    };
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let offset_minutes = match offset {
        "Z" | "z" => 0,
        _ => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
            let two = |text: &str, most: i64| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<i64>().ok().filter(|number| digits && *number <= most)
            };
            sign * (two(hours, 23)? * 60 + two(minutes, 59)?)
        }
    };
    Some(millis * 1000 + leap + micros.parse::<i64>().ok()? - offset_minutes * 60_000_000)
}
