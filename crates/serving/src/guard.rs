//! Who may call the API: the Host check against DNS rebinding, and the password.
//!
//! A web page on a foreign name can make its reader's browser call 127.0.0.1, but then the request carries that name in
//! `Host`. So only IP addresses, `localhost` and configured names are answered. `/health` needs no password.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// The user of HTTP Basic.
const USER: &str = "snowmelt";

/// What a request must show.
#[derive(Debug)]
pub(crate) struct Guard {
    password: Option<Secret>,
    hosts: Vec<String>,
}

impl Guard {
    pub(crate) fn new(password: Option<Secret>, hosts: Vec<String>) -> Guard {
        Guard { password, hosts }
    }

    /// Whether the request names this server as we are known.
    pub(crate) fn host_is_ours(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut named = headers.get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else { return false };
        let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
        self.is_ours(&host) && uri.authority().is_none_or(|authority| self.is_ours(authority))
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let address =
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        address.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// Whether the request carries the password, or none is needed.
    pub(crate) fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let Some(password) = &self.password else { return true };
        let Some(shown) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let Some((scheme, credentials)) = shown.split_once(' ') else { return false };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return same(credentials.as_bytes(), password.reveal().as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(decoded) = BASE64_STANDARD.decode(credentials) else { return false };
        let expected = format!("{USER}:{}", password.reveal());
        same(&decoded, expected.as_bytes())
    }
}

/// Compares in a time that says nothing about where the two differ, nor about their lengths.
fn same(shown: &[u8], expected: &[u8]) -> bool {
    let (shown, expected) = (Sha256::digest(shown), Sha256::digest(expected));
    let difference =
        shown.iter().zip(expected.iter()).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn host(host: &str) -> bool {
        let guard = Guard::new(None, vec!["snowmelt.example".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        guard.host_is_ours(&Uri::from_static("/health"), &headers)
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_ours() {
        for name in [
            "127.0.0.1",
            "127.0.0.1:8090",
            "[::1]:8090",
            "localhost",
            "LOCALHOST:8090",
            "Snowmelt.Example:1",
        ] {
            assert!(host(name), "{name}");
        }
        for name in [
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "",
        ] {
            assert!(!host(name), "{name}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let guard = Guard::new(None, Vec::new());
        let mut headers = HeaderMap::new();
        let uri = Uri::from_static("/");
        assert!(!guard.host_is_ours(&uri, &headers));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(guard.host_is_ours(&uri, &headers));
        assert!(!guard.host_is_ours(&Uri::from_static("http://evil.example/"), &headers));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(!guard.host_is_ours(&uri, &headers));
    }

    #[test]
    fn the_password_opens_as_basic_and_as_bearer() {
        let guard = Guard::new(Some(Secret::new("s3:cret")), Vec::new());
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            guard.is_let_in(&headers)
        };
        assert!(shown("Bearer s3:cret"));
        assert!(shown(&format!("basic {}", BASE64_STANDARD.encode("snowmelt:s3:cret"))));
        assert!(!shown(&format!("Basic {}", BASE64_STANDARD.encode("root:s3:cret"))));
        assert!(!shown(&format!("Basic {}", BASE64_STANDARD.encode("snowmelt:s3:cre"))));
        for wrong in ["Bearer s3:cre", "Bearer", "s3:cret", "Digest s3:cret", "Basic s3:cret"] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!guard.is_let_in(&HeaderMap::new()));
        assert!(Guard::new(None, Vec::new()).is_let_in(&HeaderMap::new()));
    }
}
