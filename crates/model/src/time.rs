//! Instants in milliseconds, their two texts, and the clock as a trait.
//!
//! `up` gives the roles the system's clock; the simulator gives them one that it moves. Nothing in `model` or `enrich`
//! asks for the time.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Tells the time. Roles take it as an argument.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;
}

impl Timestamp {
    /// `2026-11-22 10:00:00.123`, UTC, always three decimals: the form of the enriched TSV.
    pub fn to_tsv(self) -> String {
        self.print(' ', "")
    }

    /// `2026-11-22T10:00:00.123Z`: the form of bad rows and of the API.
    pub fn to_iso(self) -> String {
        self.print('T', "Z")
    }

    /// Whether the year is one that Redshift and the TSV form can hold: 0 to 9999.
    pub fn has_plain_year(self) -> bool {
        (Timestamp::YEAR_0..Timestamp::YEAR_10000).contains(&self.0)
    }

    const YEAR_0: i64 = -62_167_219_200_000;
    const YEAR_10000: i64 = 253_402_300_800_000;

    /// Reads the TSV form. `None` for anything else, also for a day that does not exist.
    pub fn from_tsv(text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        let shape = bytes.len() == 23
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                10 => *byte == b' ',
                13 | 16 => *byte == b':',
                19 => *byte == b'.',
                _ => byte.is_ascii_digit(),
            });
        if !shape {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second, millis) =
            (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
        if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_from_civil(year, month, day);
        if day < 1 || civil_from_days(days) != (year, month, day) {
            return None;
        }
        Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis))
    }

    /// Appends the TSV form.
    pub(crate) fn push_tsv(self, line: &mut String) {
        match self.has_plain_year() {
            true => self.push_plain(line, ' '),
            false => line.push_str(&self.print(' ', "")),
        }
    }

    /// Appends the form of a year of four digits. An event has four of these, and the general way costs ten times as
    /// much.
    fn push_plain(self, line: &mut String, between: char) {
        let (days, millis) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000) as u32);
        let (year, month, day) = civil_from_days(days);
        let digit = |number: u32| b'0' + (number % 10) as u8;
        // All in one piece, for a line asks at each piece whether it has room.
        let mut text = *b"0000-00-00 00:00:00.000";
        let mut two = |at: usize, number: u32| {
            (text[at], text[at + 1]) = (digit(number / 10), digit(number));
        };
        two(0, year as u32 / 100);
        two(2, year as u32);
        two(5, month as u32);
        two(8, day as u32);
        two(11, millis / 3_600_000);
        two(14, millis / 60_000 % 60);
        two(17, millis / 1000 % 60);
        two(21, millis);
        text[20] = digit(millis / 100);
        text[10] = between as u8;
        line.push_str(std::str::from_utf8(&text).expect("digits are UTF-8"));
    }

    fn print(self, between: char, end: &str) -> String {
        if self.has_plain_year() {
            let mut text = String::with_capacity(24);
            self.push_plain(&mut text, between);
            return text + end;
        }
        let (days, millis) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
        let sign = if year < 0 { "-" } else { "" };
        format!(
            "{sign}{:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}.{:03}{end}",
            year.abs(),
            millis % 1000
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar, counted in years that begin in March, so that
/// the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    // Within an era all is small and not negative, which makes the divisions cheap.
    let day_of_era = days.rem_euclid(146_097) as u32;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + i64::from(year_of_era) + i64::from(month <= 2);
    (year, month.into(), (day_of_year - (153 * shifted + 2) / 5 + 1).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(millis: i64, expect: &str) {
        assert_eq!(Timestamp(millis).to_tsv(), expect);
    }

    #[test]
    fn known_instants() {
        check(0, "1970-01-01 00:00:00.000");
        check(-1, "1969-12-31 23:59:59.999");
        check(951_782_400_000, "2000-02-29 00:00:00.000");
        check(1_700_000_000_123, "2023-11-14 22:13:20.123");
        check(Timestamp::YEAR_0, "0000-01-01 00:00:00.000");
        check(Timestamp::YEAR_10000 - 1, "9999-12-31 23:59:59.999");
        assert_eq!(Timestamp(1_700_000_000_123).to_iso(), "2023-11-14T22:13:20.123Z");
        assert!(Timestamp(Timestamp::YEAR_0 - 1).to_tsv().starts_with('-'));
        let _no_panic = Timestamp(i64::MIN).to_tsv() + &Timestamp(i64::MAX).to_iso();
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [
            "2026-02-29 00:00:00.000",
            "2026-00-01 00:00:00.000",
            "2026-01-01 24:00:00.000",
            "2026-01-01",
        ] {
            assert_eq!(Timestamp::from_tsv(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_tsv_form_reads_back(millis in Timestamp::YEAR_0..Timestamp::YEAR_10000) {
            prop_assert_eq!(Timestamp::from_tsv(&Timestamp(millis).to_tsv()), Some(Timestamp(millis)));
        }
    }
}
