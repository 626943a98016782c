//! Cookies in both directions: reading and cleaning what the browser sends, deciding and printing what it gets.
//! Snowplow: `collector.md` 2.2 to 2.4 and 4.4.

use crate::config::{self, Config};
use crate::identity::Identity;
use crate::{cors, http_date};
use model::time::Timestamp;

/// The value of the first cookie of this name in a `Cookie` header. Lenient: a space after the semicolon may be
/// missing, pairs without a name are passed over.
pub(crate) fn find<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found.trim_ascii() == name).then(|| value.trim_ascii())
    })
}

/// The same as 3.x reads it: pairs are separated by a semicolon and one space, and one part that is no pair discards
/// the whole header. Only `compat.strict` asks for it.
pub(crate) fn find_strictly<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut value_found = None;
    for pair in header.split("; ") {
        let (found, value) = pair.split_once('=')?;
        let is_name = !found.is_empty() && found.bytes().all(crate::head::is_token_byte);
        if !is_name || value.bytes().any(|byte| byte < b' ' || byte == b';') {
            return None;
        }
        if found == name && value_found.is_none() {
            value_found = Some(value);
        }
    }
    value_found
}

/// A `Cookie` header as it is recorded: without spaces, and without the parts that hold a character which no cookie may
/// have, because one such cookie would hide those after it from enrich. `None` if nothing is left.
pub(crate) fn clean(header: &str) -> Option<String> {
    let mut cleaned = String::with_capacity(header.len());
    for part in header.split(';') {
        let allowed = |byte: u8| byte == b' ' || is_octet(byte);
        if !part.bytes().all(allowed) || part.bytes().all(|byte| byte == b' ') {
            continue;
        }
        if !cleaned.is_empty() {
            cleaned.push(';');
        }
        part.split(' ').for_each(|piece| cleaned.push_str(piece));
    }
    (!cleaned.is_empty()).then_some(cleaned)
}

/// The bytes of a cookie value in RFC 6265, `=` among them.
fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// What becomes of the network user id cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Set {
        value: &'a str,
    },
    /// Empty, and expired as long ago as a new one would last.
    Clear,
    None,
}

/// Decides it for a request that is from someone who may be tracked.
pub(crate) fn change<'a>(config: &Config, identity: &'a Identity) -> Change<'a> {
    let id = identity.network_user_id.as_str();
    match (config.cookie.enabled, identity.anonymous) {
        (false, _) => Change::None,
        (true, true) if identity.cookie_seen && !config.compat.is_v2() => Change::Clear,
        (true, true) => Change::None,
        // The record keeps what the client claims, but a header of ours carries no such byte.
        (true, false) if !id.bytes().all(is_octet) => Change::None,
        (true, false) => Change::Set { value: id },
    }
}

/// Appends the `Set-Cookie` lines: the cookie, and its copy for scripts where one is configured.
pub(crate) fn print(
    out: &mut Vec<u8>,
    config: &Config,
    change: Change<'_>,
    origin: Option<&str>,
    now: Timestamp,
) {
    let is_v2 = config.compat.is_v2();
    let config = &config.cookie;
    let lasts_ms = i64::try_from(config.expiration.as_millis()).unwrap_or(i64::MAX);
    let (value, expires) = match change {
        Change::None => return,
        Change::Set { value } => (value, now.0.saturating_add(lasts_ms)),
        Change::Clear => ("", now.0.saturating_sub(lasts_ms)),
    };
    let domain = domain(config, origin);
    let copy = config.client_cookie_name.as_deref().map(|name| (name, false));
    for (name, http_only) in std::iter::once((config.name.as_str(), config.http_only)).chain(copy) {
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        for text in ["Set-Cookie: ", name, "=", value, "; Expires="] {
            put(text);
        }
        http_date::print(out, Timestamp(expires));
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        if let Some(domain) = domain {
            put("; Domain=");
            put(domain);
        }
        put("; Path=/");
        // Browsers ignore `SameSite=None` without `Secure`; 2.x leaves that to its operator.
        let none_needs_secure = !is_v2 && config.same_site == Some(config::SameSite::None);
        let secure = if config.secure || none_needs_secure { "; Secure" } else { "" };
        let http_only = if http_only { "; HttpOnly" } else { "" };
        let same_site = config.same_site.map_or("", config::SameSite::as_str);
        let attribute = if same_site.is_empty() { "" } else { "; SameSite=" };
        let in_order = match is_v2 {
            false => [attribute, same_site, secure, http_only],
            true => [secure, http_only, attribute, same_site],
        };
        in_order.into_iter().for_each(&mut put);
        put("\r\n");
    }
}

/// The first configured domain that one of the origins lies in.
fn domain<'a>(config: &'a config::Cookie, origin: Option<&str>) -> Option<&'a str> {
    let lies_in = |host: &str, domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let fits = |domain: &&String| cors::hosts(origin).any(|host| lies_in(host, domain));
    config.domains.iter().find(fits).or(config.fallback_domain.as_ref()).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SameSite;
    use std::time::Duration;

    fn printed(config: &config::Cookie, change: Change<'_>, origin: Option<&str>) -> String {
        let config = Config { cookie: config.clone(), ..Config::default() };
        printed_by(&config, change, origin)
    }

    fn printed_by(config: &Config, change: Change<'_>, origin: Option<&str>) -> String {
        let mut out = Vec::new();
        print(&mut out, config, change, origin, Timestamp(1_700_000_000_123));
        String::from_utf8(out).unwrap()
    }

    const SET: Change<'_> = Change::Set { value: "id" };

    #[test]
    fn the_cookie_is_found_with_and_without_spaces_and_between_junk() {
        for header in [
            "sp=id",
            "a=b; sp=id",
            "a=b;sp=id",
            ";; junk;sp = id ;x",
            "sp=id; sp=no",
            "{\"a\":1}; sp=id",
        ] {
            assert_eq!(find(header, "sp"), Some("id"), "{header}");
        }
        assert_eq!(find("sp=a=b", "sp"), Some("a=b"));
        assert_eq!(find("sp=", "sp"), Some(""));
        for header in ["", "sp", "SP=id", "xsp=id", "spx=id"] {
            assert_eq!(find(header, "sp"), None, "{header}");
        }
    }

    #[test]
    fn cleaning_removes_spaces_and_parts_that_no_cookie_may_be() {
        for (header, expect) in [
            ("a=b;c=d", Some("a=b;c=d")),
            ("a=b; c=d", Some("a=b;c=d")),
            ("a = b c ;  d=e", Some("a=bc;d=e")),
            ("a=\"b\"; c=d", Some("c=d")),
            ("a=b; c=\"d\"; e=f", Some("a=b;e=f")),
            ("a=b; c={\"d\":1,\"e\":2}", Some("a=b")),
            ("a=b;; ;c=d;", Some("a=b;c=d")),
            ("a=é; b=c", Some("b=c")),
            ("a=b\tc", None),
            ("\"", None),
            ("", None),
            ("  ", None),
        ] {
            assert_eq!(clean(header).as_deref(), expect, "{header}");
        }
    }

    #[test]
    fn the_default_cookie_has_the_attributes_of_the_reference_exchange() {
        let expect = "Set-Cookie: sp=id; Expires=Wed, 13 Nov 2024 22:13:20 GMT; Path=/; SameSite=None; Secure; HttpOnly\r\n";
        assert_eq!(printed(&config::Cookie::default(), SET, None), expect);
    }

    #[test]
    fn attributes_follow_the_configuration() {
        let config = config::Cookie {
            name: "n".to_owned(),
            expiration: Duration::from_secs(42 * 86_400),
            secure: false,
            http_only: false,
            same_site: Some(SameSite::Strict),
            ..config::Cookie::default()
        };
        let expect =
            "Set-Cookie: n=id; Expires=Tue, 26 Dec 2023 22:13:20 GMT; Path=/; SameSite=Strict\r\n";
        assert_eq!(printed(&config, SET, None), expect);
        let config = config::Cookie { same_site: None, ..config };
        assert!(!printed(&config, SET, None).contains("SameSite"));
    }

    #[test]
    fn same_site_none_is_always_secure() {
        let config = config::Cookie { secure: false, ..config::Cookie::default() };
        assert!(printed(&config, SET, None).contains("; SameSite=None; Secure"));
    }

    #[test]
    fn a_cleared_cookie_is_empty_and_expired() {
        let line = printed(&config::Cookie::default(), Change::Clear, None);
        assert!(
            line.starts_with("Set-Cookie: sp=; Expires=Mon, 14 Nov 2022 22:13:20 GMT; "),
            "{line}"
        );
    }

    #[test]
    fn the_client_copy_differs_in_name_and_http_only_and_is_cleared_with_the_cookie() {
        let config = config::Cookie {
            client_cookie_name: Some("spc".to_owned()),
            ..config::Cookie::default()
        };
        for change in [SET, Change::Clear] {
            let lines = printed(&config, change, None);
            let (main, copy) = lines.trim_end().split_once("\r\n").unwrap();
            assert_eq!(copy.replace(" spc=", " sp=") + "; HttpOnly", main);
        }
        assert_eq!(printed(&config, Change::None, None), "");
    }

    #[test]
    fn the_first_configured_domain_that_an_origin_lies_in() {
        let config = |domains: &[&str], fallback: Option<&str>| config::Cookie {
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            fallback_domain: fallback.map(str::to_owned),
            ..config::Cookie::default()
        };
        let domain = |config: &config::Cookie, origin| domain(config, origin).map(str::to_owned);
        for (origin, expect) in [
            (Some("https://snplow.com"), Some("snplow.com")),
            (Some("https://blog.snplow.com"), Some("snplow.com")),
            (Some("https://blog.snplow.com.snplow.com"), Some("snplow.com")),
            (Some("https://blog.snplow.com:8080"), Some("snplow.com")),
            (Some("null https://other.com https://snplow.com"), Some("snplow.com")),
            (Some("https://notsnplow.com"), None),
            (Some("https://blog.comsnplow.com"), None),
            (Some("https://blog.snplow.comsnplow.com"), None),
            (Some("null"), None),
            (None, None),
        ] {
            assert_eq!(
                domain(&config(&["snplow.com"], None), origin).as_deref(),
                expect,
                "{origin:?}"
            );
            let fallback = expect.or(Some("f.com"));
            let found = domain(&config(&["snplow.com"], Some("f.com")), origin);
            assert_eq!(found.as_deref(), fallback, "{origin:?}");
        }
        let both = Some("https://b.com https://a.com");
        assert_eq!(domain(&config(&["a.com", "b.com"], None), both).as_deref(), Some("a.com"));
        assert_eq!(domain(&config(&["x.a.com"], None), Some("https://a.com")), None);
        assert_eq!(domain(&config(&[], Some("f.com")), both).as_deref(), Some("f.com"));
        let line = printed(&config(&["snplow.com"], None), SET, Some("http://snplow.com"));
        assert!(line.contains("GMT; Domain=snplow.com; Path=/; "), "{line}");
    }

    #[test]
    fn v2_has_an_order_of_its_own_and_forces_nothing() {
        let mut config = Config::default();
        config.compat.profile = config::Profile::V2;
        let expect = "Set-Cookie: sp=id; Expires=Wed, 13 Nov 2024 22:13:20 GMT; Path=/; Secure; HttpOnly; SameSite=None\r\n";
        assert_eq!(printed_by(&config, SET, None), expect);
        config.cookie.secure = false;
        assert!(!printed_by(&config, SET, None).contains("Secure"));
    }

    #[test]
    fn what_becomes_of_the_cookie() {
        let on = Config::default();
        let mut off = Config::default();
        off.cookie.enabled = false;
        let identity = |anonymous, cookie_seen, id: &str| Identity {
            anonymous,
            cookie_seen,
            is_new: false,
            network_user_id: id.to_owned(),
        };
        assert_eq!(change(&on, &identity(false, false, "id")), SET);
        assert_eq!(change(&on, &identity(true, true, "0")), Change::Clear);
        assert_eq!(change(&on, &identity(true, false, "0")), Change::None);
        for (anonymous, seen) in [(false, false), (false, true), (true, true)] {
            assert_eq!(change(&off, &identity(anonymous, seen, "id")), Change::None);
        }
        for id in ["a;b", "a b", "a\r\nSet-Cookie: x", "é", "\"", "a,b", "a\\"] {
            assert_eq!(change(&on, &identity(false, false, id)), Change::None, "{id}");
        }
        let mut v2 = Config::default();
        v2.compat.profile = config::Profile::V2;
        assert_eq!(change(&v2, &identity(true, true, "0")), Change::None);
    }
}
