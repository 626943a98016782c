//! Query strings, as far as the collector looks into them: the few parameters that are its own business.

use crate::route::percent_decode;
use std::borrow::Cow;

/// The first parameter of this name, decoded once: `%XX`, and `+` is a space.
pub(crate) fn first(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let spaced = if value.contains('+') {
        Cow::Owned(value.replace('+', " "))
    } else {
        Cow::Borrowed(value)
    };
    Some(percent_decode(spaced.as_bytes()).into_owned())
}

/// Whether there is a parameter of this name, with or without a value.
pub(crate) fn has(query: Option<&str>, name: &str) -> bool {
    query.is_some_and(|query| {
        query.split('&').any(|pair| pair.split('=').next().is_some_and(|found| found == name))
    })
}

/// Whether a path or a query holds only what RFC 3986 allows in a query, and `[` and `]`.
pub(crate) fn is_legal(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (b'%', _) => return false,
            (byte, after) if byte.is_ascii_alphanumeric() => after,
            (byte, after) if b"-._~!$&'()*+,;=:@/?[]".contains(byte) => after,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_is_decoded_once() {
        for (query, expect) in [
            ("u=http%3A%2F%2Fh%2Fa%253Db", Some("http://h/a%3Db")),
            ("a=b&u=x+y%2B&u=z", Some("x y+")),
            ("u=", Some("")),
            ("u", None),
            ("uu=a&U=b", None),
            ("", None),
        ] {
            assert_eq!(first(Some(query), "u").as_deref(), expect, "{query}");
        }
        assert_eq!(first(None, "u"), None);
    }

    #[test]
    fn a_parameter_is_there_with_and_without_a_value() {
        for query in ["n3pc", "a=b&n3pc=true", "n3pc=&a"] {
            assert!(has(Some(query), "n3pc"), "{query}");
        }
        for query in ["", "xn3pc=true", "a=n3pc", "n3pcx"] {
            assert!(!has(Some(query), "n3pc"), "{query}");
        }
        assert!(!has(None, "n3pc"));
    }

    #[test]
    fn what_a_strict_reader_refuses() {
        for query in ["", "e=pv&a=%20b", "a[0]=b/c?d", "a+b~!$'()*,;:@"] {
            assert!(is_legal(query.as_bytes()), "{query}");
        }
        for query in ["a b", "a|b", "{", "\"", "%", "%2", "%zz", "a<b", "é", "`", "\\", "^", "#"] {
            assert!(!is_legal(query.as_bytes()), "{query}");
        }
    }
}
