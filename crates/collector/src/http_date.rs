//! Instants as HTTP prints them: `Tue, 14 Nov 2023 22:13:20 GMT`. Used for `Date` and for the expiry of cookies.

use model::time::{Timestamp, civil_from_days};

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The last second that has a year of four digits.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Appends the text. Resolution is seconds; what lies before 1970 or after 9999 is moved there.
pub(crate) fn print(out: &mut Vec<u8>, at: Timestamp) {
    let seconds = at.0.div_euclid(1000).clamp(0, SECONDS_MAX);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let two = |number: i64| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
    out.extend_from_slice(DAYS[(days % 7) as usize]);
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(day));
    out.push(b' ');
    out.extend_from_slice(MONTHS[(month - 1) as usize]);
    out.push(b' ');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year % 100));
    for (before, number) in [(b' ', second / 3600), (b':', second / 60 % 60), (b':', second % 60)] {
        out.push(before);
        out.extend_from_slice(&two(number));
    }
    out.extend_from_slice(b" GMT");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(millis: i64, expect: &str) {
        let mut out = Vec::new();
        print(&mut out, Timestamp(millis));
        assert_eq!(str::from_utf8(&out).unwrap(), expect);
    }

    #[test]
    fn known_instants() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(1_700_000_000_123, "Tue, 14 Nov 2023 22:13:20 GMT");
        check(951_782_400_000, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(-1, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn the_parts_are_those_of_the_other_form(seconds in 0..=SECONDS_MAX) {
            let mut out = Vec::new();
            print(&mut out, Timestamp(seconds * 1000));
            let (text, other) = (String::from_utf8(out).unwrap(), Timestamp(seconds * 1000).to_tsv());
            prop_assert_eq!(&text[5..7], &other[8..10]);
            prop_assert_eq!(&text[12..16], &other[..4]);
            prop_assert_eq!(&text[17..25], &other[11..19]);
            let month = MONTHS[other[5..7].parse::<usize>().unwrap() - 1];
            prop_assert_eq!(&text.as_bytes()[8..11], month);
        }
    }
}
