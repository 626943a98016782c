//! Who a request is from: the network user id that record and cookie carry, whether the person asked to be left alone,
//! and whether a browser is sent back once to see if it keeps a cookie. Snowplow: `collector.md` 2.1, 2.5 and 2.6.

use crate::config::Config;
use crate::head::{Known, View};
use crate::{cookie, query};
use regex::Regex;

/// Who a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The request carries `SP-Anonymous`.
    pub(crate) anonymous: bool,
    /// The request carries the network user id cookie.
    pub(crate) cookie_seen: bool,
    /// Nobody named the id, it was made up for this request.
    pub(crate) is_new: bool,
    /// Recorded as it is claimed, whether or not it is a UUID.
    pub(crate) network_user_id: String,
}

const ANONYMOUS_ID: &str = "00000000-0000-0000-0000-000000000000";

impl Identity {
    /// `SP-Anonymous`, then the parameter `nuid`, then the cookie, then the fallback of a bounced request, then a new
    /// random id.
    pub(crate) fn of(view: View<'_>, config: &Config) -> Identity {
        let reads_cookie = config.cookie.enabled || !config.compat.is_v2();
        let from_cookie = cookie_of(view, &config.cookie.name, config).filter(|_| reads_cookie);
        let anonymous = view.has(Known::SpAnonymous);
        let cookie_seen = from_cookie.is_some();
        let known = if anonymous {
            Some(ANONYMOUS_ID.to_owned())
        } else {
            let bounced = || {
                has_bounced(view, config)
                    .then(|| config.cookie_bounce.fallback_network_user_id.clone())
            };
            query::first(view.query().as_deref(), "nuid").or(from_cookie).or_else(bounced)
        };
        let is_new = known.is_none();
        let network_user_id =
            known.unwrap_or_else(|| uuid::Uuid::new_v4().hyphenated().to_string());
        Identity { anonymous, cookie_seen, is_new, network_user_id }
    }
}

/// Whether this is the second request of a bounce.
fn has_bounced(view: View<'_>, config: &Config) -> bool {
    let bounce = &config.cookie_bounce;
    if !bounce.enabled {
        return false;
    }
    let query = view.query();
    match config.compat.is_strict_v3() {
        // 3.x looks for the name anywhere in the query.
        true => query.is_some_and(|query| query.contains(&bounce.name)),
        false => query::has(query.as_deref(), &bounce.name),
    }
}

/// Whether the person asks not to be tracked. `pattern` matches whole values.
pub(crate) fn asks_not_to_track(view: View<'_>, config: &Config, pattern: Option<&Regex>) -> bool {
    pattern.is_some_and(|pattern| {
        cookie_of(view, &config.do_not_track_cookie.name, config)
            .is_some_and(|value| pattern.is_match(&value))
    })
}

fn cookie_of(view: View<'_>, name: &str, config: &Config) -> Option<String> {
    if !view.has(Known::Cookie) {
        return None;
    }
    let find = if config.compat.strict { cookie::find_strictly } else { cookie::find };
    let headers = view.headers().filter(|(header, _)| header.eq_ignore_ascii_case("cookie"));
    headers.filter_map(|(_, value)| find(&value, name).map(str::to_owned)).next()
}

/// Where a pixel without a user id is sent, to come back with the cookie. Relative as a rule, since only a balancer
/// knows the scheme; `//host/…` where the request named the host in its target, and absolute where the balancer tells
/// the scheme.
pub(crate) fn bounce_location(view: View<'_>, config: &Config) -> String {
    let bounce = &config.cookie_bounce;
    let path = view.path_text();
    let scheme = match bounce.forwarded_protocol_header.as_str() {
        "" => None,
        name => view
            .find(name)
            .map(|value| {
                if config.compat.is_v2() { value.to_ascii_lowercase() } else { value.into_owned() }
            })
            .filter(|value| value == "http" || value == "https"),
    };
    let scheme_of_v2 =
        || (config.compat.is_v2() && config.compat.strict).then(|| "http".to_owned());
    let host_of_v2 = || view.get(Known::Host).filter(|_| config.compat.is_v2());
    let mut location = match (scheme.or_else(scheme_of_v2), view.authority().or_else(host_of_v2)) {
        (Some(scheme), Some(host)) => format!("{scheme}://{host}{path}"),
        (None, Some(host)) if view.authority().is_some() => format!("//{host}{path}"),
        // A browser would take `//x` and `/\x` for another host: `/./` says that they are paths.
        _ if path.starts_with("//") || path.starts_with("/\\") => format!("/.{path}"),
        _ => path.into_owned(),
    };
    location.push('?');
    if let Some(query) = view.query().filter(|query| !query.is_empty()) {
        location.push_str(&query);
        location.push('&');
    }
    location.push_str(&bounce.name);
    location.push_str("=true");
    location
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compat, Profile};
    use crate::head::tests::parse;

    const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";

    fn of(config: &Config, head: &str) -> Identity {
        let parsed = parse(head.as_bytes()).unwrap();
        Identity::of(View { head: &parsed, bytes: head.as_bytes() }, config)
    }

    fn id(head: &str) -> String {
        of(&Config::default(), head).network_user_id
    }

    fn bouncing() -> Config {
        let mut config = Config::default();
        config.cookie_bounce.enabled = true;
        config
    }

    #[test]
    fn nuid_beats_the_cookie_and_the_cookie_beats_a_new_id() {
        let cookie = "Cookie: a=b; sp=c%20d\r\n\r\n";
        assert_eq!(id(&format!("GET /i?a=b&nuid=x%20y+z&nuid=2 HTTP/1.1\r\n{cookie}")), "x y z");
        assert_eq!(id(&format!("GET /i?xnuid=1 HTTP/1.1\r\n{cookie}")), "c%20d");
        assert_eq!(id(&format!("GET /i HTTP/1.1\r\nCookie: a\r\n{cookie}")), "c%20d");
        let (first, second) = (id("GET /i HTTP/1.1\r\n\r\n"), id("GET /i HTTP/1.1\r\n\r\n"));
        assert_ne!(first, second);
        let uuid = uuid::Uuid::parse_str(&first).unwrap();
        assert_eq!((uuid.get_version_num(), uuid.to_string()), (4, first));
    }

    #[test]
    fn a_cookie_that_is_switched_off_is_read_by_v3_and_not_by_v2() {
        let head = format!("GET /i HTTP/1.1\r\nCookie: sp={ID}\r\n\r\n");
        let mut config = Config::default();
        config.cookie.enabled = false;
        assert_eq!(of(&config, &head).network_user_id, ID);
        config.compat.profile = Profile::V2;
        assert!(of(&config, &head).is_new);
    }

    #[test]
    fn strict_reading_loses_all_cookies_by_one_odd_separator() {
        let strict =
            Config { compat: Compat { strict: true, ..Compat::default() }, ..Config::default() };
        for (header, seen) in [
            ("a=b; sp=1", true),
            ("sp=1", true),
            ("a={\"b\":1}; sp=1", true),
            ("a=b;sp=1", false),
            ("a=b;  sp=1", false),
            ("a; sp=1", false),
            ("sp=1;", false),
        ] {
            let head = format!("GET /i HTTP/1.1\r\nCookie: {header}\r\n\r\n");
            assert_eq!(of(&strict, &head).cookie_seen, seen, "{header}");
            assert!(of(&Config::default(), &head).cookie_seen, "{header}");
        }
    }

    #[test]
    fn a_bounced_request_without_an_id_has_the_fallback() {
        let fallback = "00000000-0000-4000-A000-000000000000";
        let identity = of(&bouncing(), "GET /i?e=pv&n3pc=true HTTP/1.1\r\n\r\n");
        assert_eq!((identity.network_user_id.as_str(), identity.is_new), (fallback, false));
        let with_cookie = "GET /i?n3pc=true HTTP/1.1\r\nCookie: sp=1\r\n\r\n";
        assert_eq!(of(&bouncing(), with_cookie).network_user_id, "1");
        assert!(of(&bouncing(), "GET /i?e=pv HTTP/1.1\r\n\r\n").is_new);
        assert!(of(&Config::default(), "GET /i?n3pc=true HTTP/1.1\r\n\r\n").is_new);
        // The name elsewhere in the query fools 3.x only.
        let elsewhere = "GET /i?url=n3pc HTTP/1.1\r\n\r\n";
        assert!(of(&bouncing(), elsewhere).is_new);
        let strict = Config { compat: Compat { strict: true, ..Compat::default() }, ..bouncing() };
        assert!(!of(&strict, elsewhere).is_new);
    }

    #[test]
    fn a_bounce_leads_to_the_same_url_with_the_mark() {
        let mut config = bouncing();
        config.cookie_bounce.forwarded_protocol_header = "X-Forwarded-Proto".to_owned();
        let location = |config: &Config, target: &str, headers: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h:81\r\n{headers}\r\n");
            let parsed = parse(head.as_bytes()).unwrap();
            bounce_location(View { head: &parsed, bytes: head.as_bytes() }, config)
        };
        let https = "X-Forwarded-Proto: https\r\n";
        for (target, headers, expect) in [
            ("/i?e=pv", "", "/i?e=pv&n3pc=true"),
            ("/i", "", "/i?n3pc=true"),
            ("/i?", "", "/i?n3pc=true"),
            ("/i?e=pv", https, "/i?e=pv&n3pc=true"),
            ("http://example.com/i?e=pv", "", "//example.com/i?e=pv&n3pc=true"),
            ("http://example.com/i?e=pv", https, "https://example.com/i?e=pv&n3pc=true"),
            ("http://example.com/i", "X-Forwarded-Proto: ftp\r\n", "//example.com/i?n3pc=true"),
            ("//evil.example", "", "/.//evil.example?n3pc=true"),
            ("/\\evil.example/x", "", "/./\\evil.example/x?n3pc=true"),
        ] {
            assert_eq!(location(&config, target, headers), expect, "{target}");
        }
        config.compat.profile = Profile::V2;
        assert_eq!(
            location(&config, "/i", "X-Forwarded-Proto: HTTPS\r\n"),
            "https://h:81/i?n3pc=true"
        );
        assert_eq!(location(&config, "/i", ""), "/i?n3pc=true");
        config.compat.strict = true;
        assert_eq!(location(&config, "/i", ""), "http://h:81/i?n3pc=true");
    }

    #[test]
    fn the_whole_value_of_the_named_cookie_must_match() {
        let mut config = Config::default();
        config.do_not_track_cookie.enabled = true;
        config.do_not_track_cookie.name = "dnt".to_owned();
        config.do_not_track_cookie.value = "y|yes.*".to_owned();
        let pattern = config.do_not_track_cookie.pattern().unwrap();
        for (cookies, asks) in [
            ("dnt=y", true),
            ("a=b; dnt=yes-please", true),
            ("dnt=xy", false),
            ("dnt=yx", false),
            ("Dnt=y", false),
            ("dn=y", false),
        ] {
            let head = format!("GET /i HTTP/1.1\r\nCookie: {cookies}\r\n\r\n");
            let parsed = parse(head.as_bytes()).unwrap();
            let view = View { head: &parsed, bytes: head.as_bytes() };
            assert_eq!(asks_not_to_track(view, &config, pattern.as_ref()), asks, "{cookies}");
            assert!(!asks_not_to_track(view, &config, None));
        }
    }
}
