//! The address that is recorded as the client's. Snowplow: `collector.md` 4.1.
//!
//! By default it is Snowplow's choice, the leftmost address of `X-Forwarded-For`, which is the client's own claim; enrich
//! repeats the choice from the recorded headers. With [`config::Ip`](crate::config::Ip) set it is ours.

use crate::config::{Anonymize, Compat, Config, Ip};
use crate::head::{Known, View};
use crate::identity::Identity;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the record says when there is no address.
pub(crate) const UNKNOWN: &str = "unknown";

/// Headers in which proxies pass on addresses, in whatever form.
const ADDRESS_HEADERS: [&str; 10] = [
    "X-Forwarded-For",
    "X-Real-IP",
    "Forwarded",
    "X-Forwarded",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "Via",
];

/// Headers whose values are no addresses of clients, also where they look like one: a version has four numbers, too.
const NO_ADDRESS: [&str; 7] =
    ["Host", "User-Agent", "Cookie", "Referer", "Origin", "Content-Length", "Authorization"];

/// Whether a header tells an address. `record` leaves it out where the address is chosen by `ip`: enrich would take the
/// other one, or somebody would read what was to be cut off.
pub(crate) fn tells_address(name: &str, value: &str) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    let is_client_hint = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("sec-"));
    let has_one = || value.split([',', ';', ' ', '\t', '=']).any(|part| address_of(part).is_some());
    ADDRESS_HEADERS.iter().any(is) || (!is_client_hint && !NO_ADDRESS.iter().any(is) && has_one())
}

/// The `ipAddress` of a request that came from `peer`.
pub(crate) fn of_request(
    view: View<'_>,
    peer: IpAddr,
    identity: &Identity,
    config: &Config,
) -> String {
    match identity.anonymous {
        true => UNKNOWN.to_owned(),
        false => of(view, peer, &config.ip, config.compat),
    }
}

/// The same for one that is not anonymous.
fn of(view: View<'_>, peer: IpAddr, ip: &Ip, compat: Compat) -> String {
    if ip.is_set() {
        let address = masked(chosen(view, peer.to_canonical(), ip), &ip.anonymize);
        return if compat.is_v2() { print_as_v2(address) } else { print(address) };
    }
    let forwarded = view.get(Known::XForwardedFor);
    if compat.is_v2() {
        source_ip_of_v2(forwarded.as_deref(), peer)
    } else {
        source_ip(forwarded.as_deref(), peer)
    }
}

/// The client's address by the rules of `ip`.
fn chosen(view: View<'_>, peer: IpAddr, ip: &Ip) -> IpAddr {
    let is_ours = |address: IpAddr| ip.trusted_proxies.iter().any(|net| net.contains(address));
    if !ip.trusted_proxies.is_empty() && !is_ours(peer) {
        return peer;
    }
    let of_header = |name: &str| {
        // Several headers of one name are one list.
        let values = view.headers().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let hops: Vec<Option<IpAddr>> =
            values.flat_map(|(_, list)| list.split(',').map(hop_of).collect::<Vec<_>>()).collect();
        if ip.trusted_proxies.is_empty() {
            return hops.into_iter().flatten().next();
        }
        // What stands before a hop that says nothing was written by nobody knows whom.
        let known = hops.iter().rev().map_while(|hop| *hop);
        let mut ours = None;
        for hop in known {
            if !is_ours(hop) {
                return Some(hop);
            }
            ours = Some(hop);
        }
        ours
    };
    let found = match &ip.headers[..] {
        [] => of_header("X-Forwarded-For"),
        names => names.iter().find_map(|name| of_header(name)),
    };
    found.unwrap_or(peer)
}

/// The address of one element of a list, also of a `Forwarded` header: `for="[2001:db8::1]:80";proto=https`.
fn hop_of(element: &str) -> Option<IpAddr> {
    let is_for = |name: &str| name.trim_ascii().eq_ignore_ascii_case("for");
    let mut parameters = element.split(';').filter_map(|it| it.split_once('='));
    address_of(parameters.find(|(name, _)| is_for(name)).map_or(element, |(_, value)| value))
}

/// An address, with or without quotes, port and brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

/// The address with its end set to zero.
fn masked(address: IpAddr, anonymize: &Anonymize) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let bits = 8 * u32::from(anonymize.ipv4_octets);
            Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(bits).unwrap_or(0)).into()
        }
        IpAddr::V6(address) => {
            let bits = 16 * u32::from(anonymize.ipv6_segments);
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(bits).unwrap_or(0)).into()
        }
    }
}

/// The `ipAddress` of a request in the profile `v2`: the first element of the list where it is an address, with or
/// without a port, and IPv6 at full length without brackets.
fn source_ip_of_v2(x_forwarded_for: Option<&str>, peer: IpAddr) -> String {
    let first = x_forwarded_for.and_then(|list| list.split(',').next()).map(str::trim_ascii);
    let address = first.and_then(|text| {
        let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
        text.parse::<IpAddr>().ok().or_else(with_port)
    });
    print_as_v2(address.unwrap_or(peer.to_canonical()))
}

/// The `ipAddress` of a request. The header counts only if every element of its list is an address or `unknown`.
fn source_ip(x_forwarded_for: Option<&str>, peer: IpAddr) -> String {
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

/// IPv6 stands at full length, without brackets.
fn print_as_v2(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join(":"),
    }
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

    fn chosen_of(ip: &Ip, peer: &str, headers: &str) -> String {
        let head = format!("GET /i HTTP/1.1\r\n{headers}\r\n");
        let parsed = crate::head::tests::parse(head.as_bytes()).unwrap();
        let view = View { head: &parsed, bytes: head.as_bytes() };
        of(view, peer.parse().unwrap(), ip, Compat::default())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_the_last_address_outside_is_the_clients() {
        let nets = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"].map(|net| net.parse().unwrap());
        let ip = Ip { trusted_proxies: nets.to_vec(), ..Ip::default() };
        for (peer, headers, expect) in [
            ("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.9.9.9\r\n", "1.2.3.4"),
            ("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4:80\r\n", "1.2.3.4"),
            ("::ffff:10.0.0.1", "X-Forwarded-For: junk, 1.2.3.4, 192.0.2.1\r\n", "1.2.3.4"),
            ("fd00::1", "X-Forwarded-For: [2001:db8::1]:9\r\n", "[2001:db8::1]"),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            ("10.0.0.1", "X-Forwarded-For: junk\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 6.6.6.6, unknown, 10.9.9.9\r\n", "10.9.9.9"),
            ("10.0.0.1", "X-Forwarded-For: 6.6.6.6, _hidden\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 6.6.6.6, fe80::1%eth0, 10.9.9.9\r\n", "10.9.9.9"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("9.9.9.9", "X-Forwarded-For: 1.2.3.4\r\n", "9.9.9.9"),
        ] {
            assert_eq!(chosen_of(&ip, peer, headers), expect, "{peer} {headers}");
        }
    }

    #[test]
    fn a_forwarded_header_is_read_where_it_is_configured() {
        let ip = Ip {
            headers: vec!["Forwarded".to_owned()],
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Ip::default()
        };
        for (header, expect) in [
            ("for=1.2.3.4;proto=https;by=10.0.0.2", "1.2.3.4"),
            ("For=\"[2001:db8::1]:80\"", "[2001:db8::1]"),
            ("for=6.6.6.6, proto=http; for=1.2.3.4:9, for=10.1.1.1", "1.2.3.4"),
            ("for=6.6.6.6, for=unknown", "10.0.0.1"),
        ] {
            let headers = format!("Forwarded: {header}\r\n");
            assert_eq!(chosen_of(&ip, "10.0.0.1", &headers), expect, "{header}");
        }
    }

    #[test]
    fn a_header_tells_an_address_by_its_name_or_by_its_value() {
        for (name, value) in [
            ("x-real-ip", "hidden"),
            ("X-Original-Forwarded-For", "1.2.3.4, 5.6.7.8"),
            ("X-Envoy-External-Address", "1.2.3.4"),
            ("X-Azure-ClientIP", "2001:db8::1"),
            ("X-Odd", "client=1.2.3.4; x"),
            ("X-Odd", "[2001:db8::1]:80"),
            ("CF-Connecting-IPv6", "2001:db8::1"),
        ] {
            assert!(tells_address(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("Host", "127.0.0.1:8080"),
            ("User-Agent", "Mozilla/5.0 Chrome/120.0.0.0 1.2.3.4"),
            ("Sec-CH-UA-Full-Version", "\"120.0.0.0\""),
            ("Accept", "text/html, */*;q=0.8"),
            ("Content-Type", "application/json; charset=UTF-8"),
            ("X-Odd", "no address"),
        ] {
            assert!(!tells_address(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn the_first_configured_header_with_an_address_is_taken() {
        let headers = ["CF-Connecting-IP", "X-Forwarded-For"].map(str::to_owned).to_vec();
        let ip = Ip { headers, ..Ip::default() };
        for (headers, expect) in [
            ("X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\ncf-connecting-ip: 9.9.9.9\r\n", "9.9.9.9"),
            ("X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nCF-Connecting-IP: unknown\r\n", "1.2.3.4"),
            ("X-Real-IP: 1.2.3.4\r\n", "10.0.0.1"),
        ] {
            assert_eq!(chosen_of(&ip, "10.0.0.1", headers), expect, "{headers}");
        }
    }

    #[test]
    fn the_end_of_an_address_is_set_to_zero() {
        for (octets, segments, v4, v6) in [
            (0, 1, "203.0.113.77", "[2001:db8:1:2:3:4:5:0]"),
            (1, 5, "203.0.113.0", "[2001:db8:1::]"),
            (3, 7, "203.0.0.0", "[2001::]"),
            (4, 8, "0.0.0.0", "[::]"),
        ] {
            let anonymize = Anonymize { ipv4_octets: octets, ipv6_segments: segments };
            let ip = Ip { anonymize, ..Ip::default() };
            assert_eq!(chosen_of(&ip, "203.0.113.77", ""), v4);
            assert_eq!(chosen_of(&ip, "2001:db8:1:2:3:4:5:6", ""), v6);
        }
    }
}
