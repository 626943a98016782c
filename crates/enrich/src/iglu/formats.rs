//! The values of the keyword `format` that are checked, each by a function over the whole text.
//!
//! Used by [`super::validator`]. Names that are not in this list pass whatever the text is, also those that the
//! `jsonschema` crate knows by itself. Snowplow: enrich-core.md 4.7.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a text has a form.
pub(super) type Check = fn(&str) -> bool;

pub(super) const CHECKED: &[(&str, Check)] = &[
    ("alpha", is_alpha),
    ("alphanumeric", is_alphanumeric),
    ("color", is_color),
    ("date", is_date),
    ("date-time", is_date_time),
    ("duration", is_duration),
    ("email", is_email),
    ("hostname", is_hostname),
    ("ip-address", is_ipv4),
    ("ipv4", is_ipv4),
    ("ipv6", is_ipv6),
    ("phone", is_phone),
    ("style", is_style),
    ("time", is_time),
    ("uri", is_uri),
    ("utc-millisec", is_utc_millisec),
    ("uuid", is_uuid),
];

/// Formats that the `jsonschema` crate would check and Snowplow does not know.
pub(super) const UNKNOWN: &[&str] = &[
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
];

fn is_alpha(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `#abc`, `abcdef`, a colour of CSS 2.1 by name, `rgb(1, 2%, 3)`.
fn is_color(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "aqua", "black", "blue", "fuchsia", "gray", "green", "lime", "maroon", "navy", "olive",
        "orange", "purple", "red", "silver", "teal", "white", "yellow",
    ];
    let hex = text.strip_prefix('#').unwrap_or(text);
    if matches!(hex.len(), 3..=6) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return true;
    }
    let part = |part: &str| {
        let number = part.trim();
        let number = number.strip_suffix('%').unwrap_or(number);
        is_digits(number) && number.len() <= 3
    };
    let rgb = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    NAMES.contains(&text)
        || rgb.is_some_and(|parts| parts.split(',').count() == 3 && parts.split(',').all(part))
}

/// A day of the ISO calendar: `2026-02-28`; years beyond 9999 carry a sign.
fn is_date(text: &str) -> bool {
    date(text).is_some()
}

fn date(text: &str) -> Option<(i64, u8, u8)> {
    let (rest, day) = text.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    let digits = year.strip_prefix(['+', '-']).unwrap_or(year);
    let year_ok = match year.as_bytes().first()? {
        b'+' => matches!(digits.len(), 5..=9),
        b'-' => matches!(digits.len(), 4..=9),
        _ => digits.len() == 4,
    };
    if !year_ok || !is_digits(digits) {
        return None;
    }
    let year: i64 = year.parse().ok()?;
    let (month, day) = (two_digits(month)?, two_digits(day)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=days).contains(&day).then_some((year, month, day))
}

fn two_digits(text: &str) -> Option<u8> {
    if text.len() == 2 && is_digits(text) { text.parse().ok() } else { None }
}

/// RFC 3339, the offset included; a 60th second only where one can be.
fn is_date_time(text: &str) -> bool {
    let Some((day, rest)) = text.split_at_checked(10) else {
        return false;
    };
    let (Some((_, month, day_of_month)), Some(rest)) =
        (date(day), rest.strip_prefix(['T', 't', ' ']))
    else {
        return false;
    };
    let Some((clock, rest)) = rest.split_at_checked(8) else {
        return false;
    };
    let mut numbers = clock.split(':').map(two_digits);
    let (Some(Some(hour)), Some(Some(minute)), Some(Some(second)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if offset.len() == fraction.len() {
                return false;
            }
            offset
        }
    };
    let Some(offset_minutes) = offset_minutes(offset) else {
        return false;
    };
    if hour > 23 || minute > 59 {
        return false;
    }
    let utc_minute =
        (i32::from(hour) * 60 + i32::from(minute) - offset_minutes).rem_euclid(24 * 60);
    // A leap second ends the last minute of June or December, in UTC; elsewhere that is up to a day away.
    let may_leap = utc_minute == 24 * 60 - 1
        && matches!((month, day_of_month), (6, 29..) | (7, 1) | (12, 30..) | (1, 1));
    second <= 59 || (second == 60 && may_leap)
}

/// `Z` or `+05:30`.
fn offset_minutes(text: &str) -> Option<i32> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes) = (i32::from(two_digits(hours)?), i32::from(two_digits(minutes)?));
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// ISO 8601: `P1Y2M3DT4H5M6.7S`, weeks too.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else {
        return false;
    };
    let (days, clock) = match rest.split_once('T') {
        Some((_, "")) => return false,
        Some((days, clock)) => (days, clock),
        None => (rest, ""),
    };
    !rest.is_empty() && has_units(days, "YMWD") && has_units(clock, "HMS")
}

/// Numbers, each followed by one of the units, which keep their order; only seconds may have a fraction.
fn has_units(text: &str, units: &str) -> bool {
    let (mut text, mut units) = (text, units);
    while !text.is_empty() {
        let Some(end) = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.') else {
            return false;
        };
        let (number, unit) = (&text[..end], text[end..].chars().next());
        let Some(place) = unit.and_then(|unit| units.find(unit)) else {
            return false;
        };
        let number_ok = match number.split_once('.') {
            None => is_digits(number),
            Some((whole, fraction)) => unit == Some('S') && is_digits(whole) && is_digits(fraction),
        };
        if !number_ok {
            return false;
        }
        text = &text[end + 1..];
        units = &units[place + 1..];
    }
    true
}

/// `local@domain`: the local part as dots and atoms or quoted, the domain a host name or an address in brackets.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let in_atom = |sign: char| {
        sign.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~".contains(sign)
            || (!sign.is_ascii() && !sign.is_control())
    };
    let atoms = local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(in_atom));
    let quoted = local.len() > 2
        && local
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .is_some_and(|inner| !inner.contains('"') && !inner.chars().any(char::is_control));
    let literal =
        domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|address| {
            is_ipv4(address) || address.strip_prefix("IPv6:").is_some_and(is_ipv6)
        });
    local.chars().count() <= 64 && (atoms || quoted) && (literal || is_hostname(domain))
}

/// RFC 1034: labels of letters, digits and inner hyphens.
fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_ipv4(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// E.123, international: a plus sign, 7 to 15 digits, single spaces between them.
fn is_phone(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('+') else {
        return false;
    };
    let groups_ok = rest.split(' ').all(is_digits);
    groups_ok && (7..=15).contains(&rest.bytes().filter(u8::is_ascii_digit).count())
}

/// One declaration of CSS: `color: red;`.
fn is_style(text: &str) -> bool {
    let text = text.strip_suffix(';').unwrap_or(text);
    text.trim_start().split_once(':').is_some_and(|(property, value)| {
        !property.is_empty() && !value.trim_start().is_empty() && !value.contains(';')
    })
}

/// `12:34:56` with an optional fraction; the numbers have no range.
fn is_time(text: &str) -> bool {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    clock.split(':').count() == 3
        && clock.split(':').all(|number| two_digits(number).is_some())
        && fraction.is_none_or(is_digits)
}

/// RFC 3986 with a scheme: nothing but the characters it allows, and whole escapes.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let scheme_ok = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (before_fragment, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before_query, query) = before_fragment.split_once('?').unwrap_or((before_fragment, ""));
    let (authority, path) = match before_query.strip_prefix("//") {
        Some(hierarchy) => hierarchy.split_at(hierarchy.find('/').unwrap_or(hierarchy.len())),
        None => ("", before_query),
    };
    scheme_ok
        && is_authority(authority)
        && [path, query, fragment]
            .iter()
            .all(|part| has_uri_characters(part, b":@/?!$&'()*+,;=-._~"))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((literal, port)) => {
            let is_future = literal.starts_with(['v', 'V']);
            if !is_ipv6(literal) && !is_future {
                return false;
            }
            ("", port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    has_uri_characters(user, b":!$&'()*+,;=-._~")
        && has_uri_characters(host, b"!$&'()*+,;=-._~")
        && port_ok
}

/// Letters, digits, `%` with two hex digits, and these signs.
fn has_uri_characters(text: &str, signs: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => {
            let escape = bytes.get(at + 1..at + 3);
            escape.is_some_and(|escape| escape.iter().all(u8::is_ascii_hexdigit))
        }
        byte => byte.is_ascii_alphanumeric() || signs.contains(byte),
    })
}

/// Milliseconds since 1970, a fraction allowed.
fn is_utc_millisec(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && is_digits(fraction)
}

/// 8-4-4-4-12 hex digits of either case.
fn is_uuid(text: &str) -> bool {
    model::uuid::is_canonical(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that obey the format, texts that do not.
    fn check(format: &str, obey: &[&str], offend: &[&str]) {
        let (_, check) = CHECKED.iter().find(|(name, _)| *name == format).unwrap();
        for text in obey {
            assert!(check(text), "{format} refuses {text:?}");
        }
        for text in
            offend.iter().chain(&["", " ", "é", "\u{0}", "::::", "----", "%", "🦀🦀🦀🦀🦀🦀"])
        {
            assert!(!check(text), "{format} takes {text:?}");
        }
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        check(
            "date",
            &[
                "2026-11-22",
                "2024-02-29",
                "2000-02-29",
                "0000-01-01",
                "+12345-01-01",
                "-0001-12-31",
            ],
            &[
                "2026-02-29",
                "1900-02-29",
                "2026-13-01",
                "2026-00-10",
                "2026-01-32",
                "2026-1-1",
                "26-01-01",
                "20260101",
                "2026-11-22T00:00:00Z",
                "12345-01-01",
                "+1234-01-01",
            ],
        );
    }

    #[test]
    fn a_date_time_needs_an_offset() {
        check(
            "date-time",
            &[
                "2026-11-22T10:00:00Z",
                "2026-11-22t10:00:00z",
                "2026-11-22 10:00:00.123456789+05:30",
                "2026-11-22T23:59:59-08:00",
                "2016-12-31T23:59:60Z",
                "2017-01-01T05:29:60+05:30",
                "2015-06-30T16:59:60-07:00",
            ],
            &[
                "2026-11-22",
                "2026-11-22T10:00:00",
                "2026-11-22T10:00Z",
                "2026-11-22T24:00:00Z",
                "2026-11-22T10:60:00Z",
                "2026-11-22T10:00:61Z",
                "2026-11-22T10:00:60Z",
                "2026-11-22T10:00:00.Z",
                "2026-11-22T10:00:00,5Z",
                "2026-11-22T10:00:00+0530",
                "2026-11-22T10:00:00+24:00",
                "2026-02-30T10:00:00Z",
                "2026-11-22_10:00:00Z",
                "2026-11-22T10:00:00Z\n",
                "2026-11-2é10:00:00Z",
            ],
        );
    }

    #[test]
    fn a_uuid_is_five_groups_of_hex_digits() {
        check(
            "uuid",
            &[
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
                "00000000-0000-0000-0000-000000000000",
            ],
            &[
                "f81d4fae7dec11d0a76500a0c91e6bf6",
                "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
                "f81d4fae-7dec-11d0-a765-00a0c91e6bg6",
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf6-",
            ],
        );
    }

    #[test]
    fn a_uri_is_absolute_and_plain() {
        check(
            "uri",
            &[
                "https://shop.example.test/a%20b?q=1&r=(2)#top",
                "mailto:ada@example.test",
                "urn:isbn:0451450523",
                "file:///etc/hosts",
                "http://[2001:db8::1]:8080/",
                "http://ada:pw@h.example:80",
                "tel:+1-816-555-1212",
                "a:",
                "http://",
            ],
            &[
                "/relative/path",
                "//host/path",
                "shop.example.test",
                "1http://x",
                "https://shop.example.test/a b",
                "https://shop.example.test/ü",
                "https://x/%zz",
                "https://x/%2",
                "https://x/<a>",
                "https://x/a#b#c",
                "http://[::1",
                "http://x/[a]",
                "http://h:80a/",
            ],
        );
    }

    #[test]
    fn addresses_and_names_of_hosts() {
        check(
            "ipv4",
            &["192.0.2.7", "0.0.0.0"],
            &["192.0.2", "192.0.2.256", "192.0.2.07", "2001:db8::1"],
        );
        check("ip-address", &["192.0.2.7"], &["1.2.3.4.5"]);
        check(
            "ipv6",
            &["2001:db8::1", "::", "::ffff:192.0.2.7"],
            &["192.0.2.7", "fe80::1%eth0", "1:2:3"],
        );
        check(
            "hostname",
            &["example.test", "a-b.c1", "localhost"],
            &["-a.b", "a-.b", "a..b", "a_b.c", "a.b."],
        );
        check(
            "email",
            &[
                "ada@example.test",
                "a.d+a@sub.example.test",
                "\"a b\"@example.test",
                "ada@[192.0.2.7]",
            ],
            &[
                "ada",
                "@example.test",
                "ada@",
                "a..b@example.test",
                "ada@exa mple.test",
                "ada@b@example_.test",
                "\"@x.test",
            ],
        );
    }

    #[test]
    fn the_smaller_formats() {
        check("time", &["10:00:00", "99:99:99.5"], &["10:00", "10:00:00Z", "1:00:00", "10:00:00."]);
        check(
            "duration",
            &["P1Y", "P3W", "PT5M", "P1Y2M3DT4H5M6.7S"],
            &["P", "PT", "1Y", "P1", "P1M1Y", "PT1.5H", "P1S", "P1YT"],
        );
        check(
            "color",
            &["#abc", "A1B2C3", "red", "rgb(1, 2%, 255)"],
            &["#ab", "#abcdefg", "reddish", "rgb(1,2)", "rgb(1,2,3000)"],
        );
        check(
            "phone",
            &["+44 20 7946 0958", "+12025550100"],
            &["020 7946 0958", "+1", "+44  20 7946 0958", "+1234567890123456"],
        );
        check("alpha", &["abC"], &["a1"]);
        check("alphanumeric", &["a1"], &["a-1"]);
        check("utc-millisec", &["1763805600000", "1.5"], &["-1", "1.", ".5", "1e3"]);
        check("style", &["color: red;", "color:red"], &["color", "color:;", ": red", "a:b;c:d"]);
    }
}
