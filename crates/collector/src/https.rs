//! Sends plain HTTP requests to HTTPS: `collector.ssl.redirect`. Snowplow: `collector.md` 8.1, as 2.x does it.
//!
//! A request that came over TLS, or whose balancer says that it did, is left alone; so are health checks, since a
//! balancer makes them without TLS.

use crate::config::Ssl;
use crate::head::{Known, View};

/// Where a request is to be made again; `None` if it is well as it is.
pub(crate) fn location(ssl: &Ssl, view: View<'_>, is_tls: bool) -> Option<String> {
    if !ssl.redirect || is_tls || matches!(view.path(), b"/health" | b"/sink-health") {
        return None;
    }
    let forwarded = view.headers().find(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-proto"));
    let port = match forwarded {
        Some((_, proto)) if proto.trim().eq_ignore_ascii_case("https") => return None,
        // The balancer has the port that everybody knows.
        Some(_) => None,
        None if !ssl.enable => return None,
        None => Some(ssl.port).filter(|&port| port != 443),
    };
    let host = view.get(Known::Host)?;
    let host = without_port(&host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return None;
    }
    let mut location = format!("https://{host}");
    if let Some(port) = port {
        location.push_str(&format!(":{port}"));
    }
    location.push_str(&String::from_utf8_lossy(view.path()));
    if let Some(query) = view.query() {
        location.push('?');
        location.push_str(&query);
    }
    // Nothing of a request may break the line that it is put into.
    Some(location.chars().filter(|char| !char.is_control()).collect())
}

/// `example.com` of `example.com:8080`, `[::1]` of `[::1]:8080`.
fn without_port(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::parse;

    fn check(ssl: &Ssl, head: &str, is_tls: bool, expect: Option<&str>) {
        let bytes = head.as_bytes();
        let parsed = parse(bytes).unwrap();
        let view = View { head: &parsed, bytes };
        assert_eq!(location(ssl, view, is_tls).as_deref(), expect, "{head}");
    }

    #[test]
    fn plain_requests_are_sent_to_https() {
        let ssl = Ssl { enable: true, redirect: true, port: 8443, ..Ssl::default() };
        let plain = "GET /i?e=pv HTTP/1.1\r\nHost: c.example:8080\r\n\r\n";
        check(&ssl, plain, false, Some("https://c.example:8443/i?e=pv"));
        check(&ssl, plain, true, None);
        check(&Ssl { redirect: false, ..ssl.clone() }, plain, false, None);
        check(&Ssl { port: 443, ..ssl.clone() }, plain, false, Some("https://c.example/i?e=pv"));
        check(&ssl, "GET /health HTTP/1.1\r\nHost: c.example\r\n\r\n", false, None);
        check(
            &ssl,
            "GET /i HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            false,
            Some("https://[::1]:8443/i"),
        );
        check(&ssl, "GET /i HTTP/1.1\r\nHost: a/b\r\n\r\n", false, None);
        check(&ssl, "GET /i HTTP/1.0\r\n\r\n", false, None);
    }

    #[test]
    fn behind_a_balancer_its_header_decides() {
        let ssl = Ssl { redirect: true, ..Ssl::default() };
        let with = |proto| {
            format!("GET /i HTTP/1.1\r\nHost: c.example\r\nx-forwarded-proto: {proto}\r\n\r\n")
        };
        check(&ssl, &with("http"), false, Some("https://c.example/i"));
        check(&ssl, &with("HTTPS"), false, None);
        check(&ssl, "GET /i HTTP/1.1\r\nHost: c.example\r\n\r\n", false, None);
    }
}
