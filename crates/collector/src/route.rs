//! What a method and a path mean. Snowplow: `collector.md` 1.1 and 1.2, with the default configuration.
//!
//! The rules stand in the order in which they are tried. What an event is about is not looked at: any two segments are
//! a vendor and a version.

use crate::head::Method;
use std::borrow::Cow;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// Record the request under this path; the answer is the pixel, or `ok` for a POST.
    Event {
        path: Cow<'a, str>,
    },
    Preflight,
    Health,
    SinkHealth,
    Robots,
    RedirectsDisabled,
    NotFound,
}

/// Finds the route of a path as it came, without its query.
pub(crate) fn route(method: Method, path: &[u8]) -> Route<'_> {
    let mut raw = path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/');
    let segments = (raw.next().unwrap_or_default(), raw.next(), raw.next());
    let pair = match segments {
        (vendor, Some(version), None) => Some((percent_decode(vendor), percent_decode(version))),
        _ => None,
    };
    if pair.as_ref().is_some_and(|(vendor, _)| vendor == "r") {
        return Route::RedirectsDisabled;
    }
    let reads = match method {
        Method::Options => return Route::Preflight,
        Method::Other => return Route::NotFound,
        Method::Get | Method::Head => true,
        Method::Post => false,
    };
    match (pair, segments) {
        (Some((vendor, version)), _) => Route::Event { path: join(path, &vendor, &version) },
        (None, (name, None, _)) if reads => {
            let name = percent_decode(name);
            match &*name {
                "i" | "ice.png" => Route::Event { path: Cow::Owned(format!("/{name}")) },
                "health" => Route::Health,
                "sink-health" => Route::SinkHealth,
                "robots.txt" => Route::Robots,
                _ => Route::NotFound,
            }
        }
        _ => Route::NotFound,
    }
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
        Route::Event { path: Cow::Borrowed(path) }
    }

    fn check(method: Method, path: &str, expect: &Route<'_>) {
        assert_eq!(&route(method, path.as_bytes()), expect, "{method:?} {path}");
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
        assert_eq!(route(Method::Post, b"/\xff/x"), event("/\u{fffd}/x"));
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
