//! What a method and a path mean. Snowplow: `collector.md` 1.1, 1.2 and 1.7.
//!
//! The rules stand in the order in which they are tried. What an event is about is not looked at: any two segments are
//! a vendor and a version.

use crate::config::Config;
use crate::head::Method;
use std::borrow::Cow;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// Record the request under this path; the answer is the pixel, `ok` for a POST, or a redirect.
    Event {
        path: Cow<'a, str>,
        redirect: bool,
    },
    Preflight,
    Health,
    SinkHealth,
    Robots,
    Root,
    CrossDomain,
    RedirectsDisabled,
    NotFound,
}

/// Finds the route of a path as it came, without its query.
pub(crate) fn route<'a>(method: Method, path: &'a [u8], config: &'a Config) -> Route<'a> {
    let mut raw = path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/');
    let segments = (raw.next().unwrap_or_default(), raw.next(), raw.next());
    let pair = match segments {
        (vendor, Some(version), None) => Some((percent_decode(vendor), percent_decode(version))),
        _ => None,
    };
    // The guard looks at the path before it is mapped: a path of the operator's own choice may redirect.
    if !config.enable_default_redirect && pair.as_ref().is_some_and(|(vendor, _)| vendor == "r") {
        return Route::RedirectsDisabled;
    }
    let reads = match method {
        Method::Options => return Route::Preflight,
        Method::Other => return Route::NotFound,
        Method::Get | Method::Head => true,
        Method::Post => false,
    };
    match (pair, segments) {
        (Some((vendor, version)), _) => event(join(path, &vendor, &version), config),
        (None, (name, None, _)) if reads => {
            let name = percent_decode(name);
            let fixed = method == Method::Get || !config.compat.strict;
            match &*name {
                "i" | "ice.png" => {
                    Route::Event { path: Cow::Owned(format!("/{name}")), redirect: false }
                }
                "health" if fixed => Route::Health,
                "sink-health" if fixed => Route::SinkHealth,
                "robots.txt" if fixed => Route::Robots,
                "crossdomain.xml" if fixed && config.cross_domain.enabled => Route::CrossDomain,
                "" if fixed && config.root_response.enabled => Route::Root,
                _ => Route::NotFound,
            }
        }
        _ => Route::NotFound,
    }
}

fn event<'a>(path: Cow<'a, str>, config: &'a Config) -> Route<'a> {
    let path = match config.paths.get(&*path) {
        Some(mapped) => Cow::Borrowed(mapped.as_str()),
        None => path,
    };
    let redirect = path.starts_with("/r/");
    Route::Event { path, redirect }
}

/// `/vendor/version`; the path itself where there was nothing to decode.
fn join<'a>(path: &'a [u8], vendor: &str, version: &str) -> Cow<'a, str> {
    match str::from_utf8(path) {
        Ok(path) if !path.contains('%') => Cow::Borrowed(path),
        Ok(_) | Err(_) => Cow::Owned(format!("/{vendor}/{version}")),
    }
}

/// Decodes `%XX`; a percent sign without two digits stands for itself. What is not UTF-8 then is replaced.
pub(crate) fn percent_decode(bytes: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'%', bytes).is_none() {
        return String::from_utf8_lossy(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        match escaped(rest) {
            Some(byte) => {
                decoded.push(byte);
                rest = &rest[3..];
            }
            None => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn escaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str) -> Route<'_> {
        Route::Event { path: Cow::Borrowed(path), redirect: false }
    }

    fn check_with(config: &Config, method: Method, path: &str, expect: &Route<'_>) {
        assert_eq!(&route(method, path.as_bytes(), config), expect, "{method:?} {path}");
    }

    fn check(method: Method, path: &str, expect: &Route<'_>) {
        check_with(&Config::default(), method, path, expect);
    }

    #[test]
    fn two_segments_are_an_event_for_get_head_and_post() {
        for path in ["/com.snowplowanalytics.snowplow/tp2", "/p3/p4", "/i/", "//", "/a/é", "/ r/b"]
        {
            for method in [Method::Get, Method::Head, Method::Post] {
                check(method, path, &event(path));
            }
        }
    }

    #[test]
    fn the_pixel_paths_take_no_post() {
        for path in ["/i", "/ice.png"] {
            check(Method::Get, path, &event(path));
            check(Method::Head, path, &event(path));
            check(Method::Post, path, &Route::NotFound);
        }
        check(Method::Get, "/%69", &event("/i"));
        check(Method::Get, "/I", &Route::NotFound);
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        check(Method::Post, "/a%2Fb/c%20d+", &event("/a/b/c d+"));
        check(Method::Post, "/%zz/%4", &event("/%zz/%4"));
        check(Method::Post, "/%ff/x", &event("/\u{fffd}/x"));
        let config = Config::default();
        assert_eq!(route(Method::Post, b"/\xff/x", &config), event("/\u{fffd}/x"));
        check(Method::Post, "/a/b/c", &Route::NotFound);
        check(Method::Post, "/a/b/", &Route::NotFound);
    }

    #[test]
    fn redirects_are_disabled_for_every_method() {
        for method in [Method::Get, Method::Head, Method::Post, Method::Options, Method::Other] {
            check(method, "/r/abc", &Route::RedirectsDisabled);
            check(method, "/r/", &Route::RedirectsDisabled);
            check(method, "/%72/abc", &Route::RedirectsDisabled);
        }
        check(Method::Get, "/r", &Route::NotFound);
        check(Method::Get, "/r/a/b", &Route::NotFound);
    }

    #[test]
    fn redirects_are_enabled_by_the_default_route_or_by_a_path_of_ones_own() {
        let redirect = |path| Route::Event { path: Cow::Borrowed(path), redirect: true };
        let enabled = Config { enable_default_redirect: true, ..Config::default() };
        for method in [Method::Get, Method::Head, Method::Post] {
            check_with(&enabled, method, "/r/abc", &redirect("/r/abc"));
        }
        check_with(&enabled, Method::Options, "/r/abc", &Route::Preflight);
        check_with(&enabled, Method::Other, "/r/abc", &Route::NotFound);
        let mut mapped = Config::default();
        mapped.paths.insert("/to/there".to_owned(), "/r/tp2".to_owned());
        check_with(&mapped, Method::Get, "/to/there", &redirect("/r/tp2"));
        check_with(&mapped, Method::Get, "/r/tp2", &Route::RedirectsDisabled);
    }

    #[test]
    fn paths_are_mapped_whole_and_after_decoding() {
        let mut config = Config::default();
        config.paths.insert("/a/b".to_owned(), "/c/d".to_owned());
        config.paths.insert("/pixel/x".to_owned(), "/i".to_owned());
        for (path, expect) in
            [("/a/b", "/c/d"), ("/%61/b", "/c/d"), ("/a/b/", ""), ("/A/b", "/A/b")]
        {
            match expect {
                "" => check_with(&config, Method::Post, path, &Route::NotFound),
                expect => check_with(&config, Method::Post, path, &event(expect)),
            }
        }
        check_with(&config, Method::Get, "/pixel/x", &event("/i"));
        check_with(&config, Method::Get, "/c/d", &event("/c/d"));
    }

    #[test]
    fn the_optional_routes_are_there_when_they_are_enabled() {
        let mut config = Config::default();
        config.root_response.enabled = true;
        config.cross_domain.enabled = true;
        for (path, expect) in [("/", Route::Root), ("/crossdomain.xml", Route::CrossDomain)] {
            check_with(&config, Method::Get, path, &expect);
            check_with(&config, Method::Head, path, &expect);
            check_with(&config, Method::Post, path, &Route::NotFound);
        }
        config.compat.strict = true;
        for path in ["/", "/crossdomain.xml", "/health", "/sink-health", "/robots.txt"] {
            check_with(&config, Method::Head, path, &Route::NotFound);
        }
        check_with(&config, Method::Head, "/i", &event("/i"));
    }

    #[test]
    fn options_is_a_preflight_on_any_path() {
        for path in ["/i", "/health", "/p3/p4", "/", "*", "", "/a/b/c", "/r"] {
            check(Method::Options, path, &Route::Preflight);
        }
    }

    #[test]
    fn fixed_routes_answer_get_and_head_only() {
        for (path, expect) in [
            ("/health", Route::Health),
            ("/sink-health", Route::SinkHealth),
            ("/robots.txt", Route::Robots),
        ] {
            check(Method::Get, path, &expect);
            check(Method::Head, path, &expect);
            check(Method::Post, path, &Route::NotFound);
        }
        check(Method::Get, "/health/", &event("/health/"));
    }

    #[test]
    fn everything_else_is_not_found() {
        for path in ["/", "", "/crossdomain.xml", "/metrics"] {
            check(Method::Get, path, &Route::NotFound);
        }
        check(Method::Other, "/p3/p4", &Route::NotFound);
    }
}
