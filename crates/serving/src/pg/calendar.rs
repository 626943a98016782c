//! Days and microseconds as PostgreSQL writes dates, times, timestamps and intervals.

use std::fmt::Write;

/// 2000-01-01, where PostgreSQL's binary dates and timestamps begin, counted from 1970-01-01.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

const DAY_MICROS: i64 = 86_400_000_000;

/// `2026-11-22`; years before the first have ` BC` behind them.
pub(crate) fn push_date(into: &mut String, days: i64) {
    let is_bc = push_day(into, days);
    into.push_str(if is_bc { " BC" } else { "" });
}

/// `2026-11-22 10:00:00.123`, then the zone.
pub(crate) fn push_timestamp(into: &mut String, micros: i64, zone: &str) {
    let is_bc = push_day(into, micros.div_euclid(DAY_MICROS));
    into.push(' ');
    push_time(into, micros.rem_euclid(DAY_MICROS));
    into.push_str(zone);
    into.push_str(if is_bc { " BC" } else { "" });
}

/// `10:00:00.123`, with as many decimals as it has.
pub(crate) fn push_time(into: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    push(into, format_args!("{hours:02}:{minutes:02}:{:02}", seconds % 60));
    if fraction != 0 {
        let digits = format!("{:06}", fraction.abs());
        push(into, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

/// `1 year 2 mons 3 days 04:05:06`.
pub(crate) fn push_interval(into: &mut String, months: i32, days: i32, micros: i64) {
    let mut was_negative = false;
    let mut is_first = true;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if is_first { "" } else { " " };
        let sign = if was_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        push(into, format_args!("{space}{sign}{value} {unit}{plural}"));
        (is_first, was_negative) = (false, value < 0);
    }
    if micros != 0 || is_first {
        into.push_str(if is_first { "" } else { " " });
        into.push_str(if micros < 0 {
            "-"
        } else if was_negative {
            "+"
        } else {
            ""
        });
        push_time(into, micros.saturating_abs());
    }
}

/// The day of the Gregorian calendar; true for a year before the first.
fn push_day(into: &mut String, days: i64) -> bool {
    // Eras of 400 years, which begin on the first of March.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let shown = if year > 0 { year } else { 1 - year };
    push(into, format_args!("{shown:04}-{month:02}-{day:02}"));
    year <= 0
}

fn push(into: &mut String, text: std::fmt::Arguments<'_>) {
    into.write_fmt(text).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::time::Timestamp;
    use proptest::prelude::*;

    fn date(days: i64) -> String {
        let mut text = String::new();
        push_date(&mut text, days);
        text
    }

    #[test]
    fn days_have_their_names() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(i64::from(EPOCH_DAYS)), "2000-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(-719_528), "0001-01-01 BC");
        assert_eq!(date(2_932_897), "10000-01-01");
    }

    proptest! {
        #[test]
        fn timestamps_are_those_of_the_model(millis in 0i64..4_102_444_800_000) {
            let mut text = String::new();
            push_timestamp(&mut text, millis * 1000, "");
            let iso = Timestamp(millis).to_iso().replace('T', " ").replace('Z', "");
            // PostgreSQL cuts the zeros that end a fraction, and no others.
            let (whole, fraction) = iso.split_once('.').expect("the model writes milliseconds");
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            prop_assert_eq!(text, format!("{whole}{point}{fraction}"));
        }

        #[test]
        fn no_instant_makes_it_panic(micros: i64, months: i32, days: i32) {
            let mut text = String::new();
            push_timestamp(&mut text, micros, "+00");
            push_interval(&mut text, months, days, micros);
            push_date(&mut text, i64::from(days));
        }
    }
}
