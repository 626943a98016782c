//! The address that is recorded as the client's. Snowplow: `collector.md` 4.1.
//!
//! The leftmost address of `X-Forwarded-For` is the client's own claim; enrich repeats the choice from the recorded
//! headers, so nothing cleverer is done here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the record says when there is no address.
pub(crate) const UNKNOWN: &str = "unknown";

/// The `ipAddress` of a request in the profile `v2`: the first element of the list where it is an address, with or
/// without a port, and IPv6 at full length without brackets.
pub(crate) fn source_ip_of_v2(x_forwarded_for: Option<&str>, peer: IpAddr) -> String {
    let first = x_forwarded_for.and_then(|list| list.split(',').next()).map(str::trim_ascii);
    let address = first.and_then(|text| {
        let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
        text.parse::<IpAddr>().ok().or_else(with_port)
    });
    match address.unwrap_or(peer.to_canonical()) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let groups = address.segments().map(|group| format!("{group:x}"));
            groups.join(":")
        }
    }
}

/// The `ipAddress` of a request. The header counts only if every element of its list is an address or `unknown`.
pub(crate) fn source_ip(x_forwarded_for: Option<&str>, peer: IpAddr) -> String {
    match x_forwarded_for.and_then(first_of_list) {
        Some(Some(address)) => print(address),
        Some(None) => UNKNOWN.to_owned(),
        None => print(peer.to_canonical()),
    }
}

/// The first element, `Some(None)` for `unknown`. `None` if any element is something else.
fn first_of_list(list: &str) -> Option<Option<IpAddr>> {
    let mut elements = list.split(',').map(|element| element_of(element.trim_ascii()));
    let first = elements.next()??;
    elements.all(|element| element.is_some()).then_some(first)
}

fn element_of(element: &str) -> Option<Option<IpAddr>> {
    if element.eq_ignore_ascii_case(UNKNOWN) {
        return Some(None);
    }
    let v4 = element.parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| element.parse::<Ipv6Addr>().map(IpAddr::V6)).ok().map(Some)
}

/// IPv6 stands in square brackets, in its short form.
fn print(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: Option<&str>, expect: &str) {
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(source_ip(header, peer), expect, "{header:?}");
    }

    #[test]
    fn the_first_address_of_a_list_that_parses() {
        check(Some("123.123.123.123"), "123.123.123.123");
        check(Some(" 1.2.3.4 ,5.6.7.8,\t::1"), "1.2.3.4");
        check(Some("2001:DB8:0:0::1"), "[2001:db8::1]");
        check(Some("1.2.3.4, unknown"), "1.2.3.4");
    }

    #[test]
    fn unknown_comes_first_means_unknown() {
        check(Some("unknown, 1.2.3.4"), "unknown");
    }

    #[test]
    fn a_list_with_anything_else_is_ignored() {
        for list in [
            "",
            "1.2.3.4:80",
            "1.2.3.4, host",
            "[::1]",
            "1.2.3.4,",
            ",1.2.3.4",
            "01.2.3.4",
            "fe80::1%1",
        ] {
            check(Some(list), "10.0.0.1");
        }
        check(None, "10.0.0.1");
    }

    #[test]
    fn v2_takes_the_first_address_and_prints_ipv6_at_full_length() {
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        for (header, expect) in [
            (Some("1.2.3.4:80, x"), "1.2.3.4"),
            (Some("2001:db8::1"), "2001:db8:0:0:0:0:0:1"),
            (Some("[2001:db8::1]:80"), "2001:db8:0:0:0:0:0:1"),
            (Some("host, 1.2.3.4"), "10.0.0.1"),
            (Some("unknown"), "10.0.0.1"),
            (None, "10.0.0.1"),
        ] {
            assert_eq!(source_ip_of_v2(header, peer), expect, "{header:?}");
        }
    }

    #[test]
    fn a_peer_on_a_dual_stack_socket_is_an_ipv4_address() {
        assert_eq!(source_ip(None, "::ffff:1.2.3.4".parse().unwrap()), "1.2.3.4");
        assert_eq!(source_ip(None, "::1".parse().unwrap()), "[::1]");
    }
}
