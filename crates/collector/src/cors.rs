//! The origins of a request: which one is echoed, and which hosts choose a cookie domain.
//! Snowplow: `collector.md` 3 and 2.4.

/// The first origin of the header that can be parsed, as it is echoed: `scheme://host[:port]`.
pub(crate) fn echoed(origin: Option<&str>) -> Option<&str> {
    origin?.split(' ').find(|item| host_of(item).is_some())
}

/// The hosts of all origins in the header, without ports.
pub(crate) fn hosts(origin: Option<&str>) -> impl Iterator<Item = &str> {
    origin.unwrap_or_default().split(' ').filter_map(host_of)
}

/// The host of `scheme://host[:port]`; `None` for `null` and for anything that is not exactly that.
fn host_of(item: &str) -> Option<&str> {
    let (scheme, authority) = item.split_once("://")?;
    let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|char: char| char.is_ascii_alphabetic())
        || !scheme.bytes().all(scheme_byte)
    {
        return None;
    }
    let (host, port) = split_port(authority)?;
    let port_is_number = port.is_none_or(|port| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    (host_is_plain(host) && port_is_number).then_some(host)
}

/// Host and port of an authority. An IPv6 address keeps its brackets.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, after) = authority.split_at(authority.find(']')? + 1);
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    Some(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn host_is_plain(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            !host.is_empty() && host.bytes().all(plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_origin_that_parses_is_echoed() {
        for (origin, expect) in [
            ("https://shop.example.test", Some("https://shop.example.test")),
            ("http://localhost:8080", Some("http://localhost:8080")),
            ("http://a.com http://b.com", Some("http://a.com")),
            ("null https://[::1]:80", Some("https://[::1]:80")),
            ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
            ("null", None),
            ("", None),
            ("file://", None),
            ("a.com", None),
            ("https://a.com/path", None),
            ("https://a.com:port", None),
            ("https://a.com:", None),
            ("https://a_b.com\"", None),
            ("https://[::1", None),
            ("https://[x]", None),
            ("1http://a.com", None),
        ] {
            assert_eq!(echoed(Some(origin)), expect, "{origin}");
        }
        assert_eq!(echoed(None), None);
    }

    #[test]
    fn every_origin_gives_a_host() {
        let origins = "https://a.com:8080 null http://b.com";
        assert_eq!(hosts(Some(origins)).collect::<Vec<_>>(), ["a.com", "b.com"]);
        assert_eq!(hosts(None).count(), 0);
    }
}
