//! Writes the collector payload of a request, straight into its Thrift bytes. Snowplow: `collector.md` 4.
//!
//! Also decides who the request is from, because record and cookie must carry the same network user id.

use crate::config::Config;
use crate::content_type::{self, ContentType};
use crate::head::{Known, View};
use crate::route::percent_decode;
use crate::{cookie, cors, source_ip};
use model::payload::{Field, HeaderList, SCHEMA, Writer};
use model::time::Timestamp;
use std::borrow::Cow;
use std::net::IpAddr;

/// One whole request for an event.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) view: View<'a>,
    /// As it is recorded, with its segments decoded.
    pub(crate) path: &'a str,
    /// For a POST, and only for it.
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) peer: IpAddr,
}

/// Who a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The request carries `SP-Anonymous`.
    pub(crate) anonymous: bool,
    /// The request carries the network user id cookie.
    pub(crate) cookie_seen: bool,
    /// Recorded as it is claimed, whether or not it is a UUID.
    pub(crate) network_user_id: String,
}

const ANONYMOUS_ID: &str = "00000000-0000-0000-0000-000000000000";

impl Identity {
    /// `SP-Anonymous`, then the parameter `nuid`, then the cookie, then a new random id.
    /// Snowplow: `collector.md` 2.1.
    pub(crate) fn of(view: View<'_>, cookie_name: &str) -> Identity {
        let from_cookie = cookie_of(view, cookie_name);
        let anonymous = view.has(Known::SpAnonymous);
        let cookie_seen = from_cookie.is_some();
        let network_user_id = if anonymous {
            ANONYMOUS_ID.to_owned()
        } else {
            nuid(view)
                .or(from_cookie)
                .unwrap_or_else(|| uuid::Uuid::new_v4().hyphenated().to_string())
        };
        Identity { anonymous, cookie_seen, network_user_id }
    }
}

fn cookie_of(view: View<'_>, name: &str) -> Option<String> {
    if !view.has(Known::Cookie) {
        return None;
    }
    let headers = view.headers().filter(|(header, _)| header.eq_ignore_ascii_case("cookie"));
    headers.filter_map(|(_, value)| cookie::find(&value, name).map(str::to_owned)).next()
}

/// The first parameter `nuid` of the query string, decoded.
fn nuid(view: View<'_>) -> Option<String> {
    let query = view.query()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("nuid="))?;
    let spaced = if value.contains('+') {
        Cow::Owned(value.replace('+', " "))
    } else {
        Cow::Borrowed(value)
    };
    Some(percent_decode(spaced.as_bytes()).into_owned())
}

/// The raw record of a request. `collector` is the name that becomes `v_collector`.
pub(crate) fn write(
    request: &Request<'_>,
    identity: &Identity,
    config: &Config,
    collector: &str,
    now: Timestamp,
) -> Vec<u8> {
    let view = request.view;
    let content_type = request.body.and(view.get(Known::ContentType));
    let content_type = content_type.as_deref().and_then(ContentType::parse);
    let body = request.body.map(|body| content_type::body_text(body, content_type.as_ref()));
    let ip_address = if identity.anonymous {
        source_ip::UNKNOWN.to_owned()
    } else {
        source_ip::source_ip(view.get(Known::XForwardedFor).as_deref(), request.peer)
    };

    let body_bytes = body.as_ref().map_or(0, |body| body.len());
    let mut writer = Writer::with_capacity(view.head.length * 2 + body_bytes + 320);
    writer.text(Field::IpAddress, &ip_address);
    writer.timestamp(now.0);
    writer.text(Field::Encoding, "UTF-8");
    writer.text(Field::Collector, collector);
    if let Some(user_agent) = view.get(Known::UserAgent) {
        writer.text(Field::UserAgent, &user_agent);
    }
    if let Some(referer) = view.get(Known::Referer) {
        writer.text(Field::RefererUri, &referer);
    }
    writer.text(Field::Path, request.path);
    writer.text(Field::Querystring, &view.query().unwrap_or_default());
    if let Some(body) = &body {
        writer.text(Field::Body, body);
    }
    let mut headers = writer.headers();
    write_headers(&mut headers, view, identity.anonymous, config);
    if let Some(content_type) = &content_type {
        headers.push(&[&content_type.text]);
    }
    drop(headers);
    if let Some(content_type) = &content_type {
        writer.text(Field::ContentType, &content_type.text);
    }
    if let Some(hostname) = hostname(view) {
        writer.text(Field::Hostname, &hostname);
    }
    writer.text(Field::NetworkUserId, &identity.network_user_id);
    writer.finish(SCHEMA)
}

/// All headers as `Name: value`, except those that are not to be recorded; cookies cleaned.
fn write_headers(list: &mut HeaderList<'_>, view: View<'_>, anonymous: bool, config: &Config) {
    const ANONYMOUS: [&str; 3] = ["cookie", "x-forwarded-for", "x-real-ip"];
    for (name, value) in view.headers() {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let hides_who = || {
            ANONYMOUS.into_iter().any(is)
                || config.anonymous.drop_headers.iter().any(|drop| is(drop))
        };
        if (anonymous && hides_who()) || config.headers.drop.iter().any(|drop| is(drop)) {
            continue;
        }
        if is("cookie") {
            if let Some(cleaned) = cookie::clean(&value) {
                list.push(&["Cookie: ", &cleaned]);
            }
        } else {
            list.push(&[name, ": ", &value]);
        }
    }
}

/// The host that the request was sent to, without its port. Snowplow leaves the field out where the request target has
/// no authority; ours takes the `Host` header then (`collector.md` 0, R1).
fn hostname(view: View<'_>) -> Option<String> {
    let authority = view.authority().or_else(|| view.get(Known::Host))?;
    let without_user = authority.rsplit_once('@').map_or(&*authority, |(_, host)| host);
    let (host, _) = cors::split_port(without_user)?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::parse;
    use model::payload::CollectorPayload;
    use std::net::Ipv4Addr;

    const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";

    fn record_with(config: &Config, head: &str, body: Option<&[u8]>) -> CollectorPayload {
        let parsed = parse(head.as_bytes()).unwrap();
        let view = View { head: &parsed, bytes: head.as_bytes() };
        let identity = Identity::of(view, &config.cookie.name);
        let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let request = Request { view, path: "/p3/p4", body, peer };
        let now = Timestamp(1_700_000_000_123);
        let bytes = write(&request, &identity, config, "snowmelt-0.1.0-log", now);
        CollectorPayload::decode(&bytes).unwrap()
    }

    fn record(head: &str, body: Option<&[u8]>) -> CollectorPayload {
        record_with(&Config::default(), head, body)
    }

    fn headers(payload: &CollectorPayload) -> Vec<&str> {
        payload.headers.iter().flatten().map(String::as_str).collect()
    }

    #[test]
    fn the_worked_example_is_recorded_byte_for_byte_but_for_the_hostname() {
        let head = format!(
            "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: c.example.com\r\nUser-Agent: curl/8.5.0\r\n\
             Cookie: sp={ID}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        );
        let parsed = parse(head.as_bytes()).unwrap();
        let view = View { head: &parsed, bytes: head.as_bytes() };
        let identity = Identity::of(view, "sp");
        let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let path = "/com.snowplowanalytics.snowplow/tp2";
        let request = Request { view, path, body: Some(b"{}"), peer };
        let now = Timestamp(1_700_000_000_123);
        let bytes = write(&request, &identity, &Config::default(), "ssc-3.4.0-kinesissink", now);
        // Field 400 is repair R1: a type byte, an id, a length, the host.
        assert_eq!(bytes.len(), 490 + 7 + "c.example.com".len());
        let mut payload = CollectorPayload::decode(&bytes).unwrap();
        assert_eq!(payload.hostname.take().as_deref(), Some("c.example.com"));
        assert_eq!(payload.encode().len(), 490);
        assert_eq!(payload.headers.unwrap().last().unwrap(), "application/json; charset=utf-8");
    }

    #[test]
    fn the_full_record_vector() {
        let head = format!(
            "POST http://h.example:80/p3/p4?a=b HTTP/1.1\r\nHost: other\r\nUser-Agent: agent\r\nReferer: ref\r\n\
             Content-Type: application/json\r\nX-Forwarded-For: 123.123.123.123\r\n\
             Access-Control-Allow-Credentials: true\r\ncookie: cookie=value; sp={ID}\r\n\r\n"
        );
        let payload = record(&head, Some(b"body"));
        assert_eq!(payload.ip_address, "123.123.123.123");
        assert_eq!(payload.timestamp, 1_700_000_000_123);
        assert_eq!(
            (payload.encoding.as_str(), payload.collector.as_str()),
            ("UTF-8", "snowmelt-0.1.0-log")
        );
        assert_eq!(payload.user_agent.as_deref(), Some("agent"));
        assert_eq!(payload.referer_uri.as_deref(), Some("ref"));
        assert_eq!(payload.path.as_deref(), Some("/p3/p4"));
        assert_eq!(payload.querystring.as_deref(), Some("a=b"));
        assert_eq!(payload.body.as_deref(), Some("body"));
        assert_eq!(payload.content_type.as_deref(), Some("application/json"));
        assert_eq!(payload.hostname.as_deref(), Some("h.example"));
        assert_eq!(payload.network_userid.as_deref(), Some(ID));
        assert_eq!(payload.schema, SCHEMA);
        let cookie = format!("Cookie: cookie=value;sp={ID}");
        let expect = [
            "Host: other",
            "User-Agent: agent",
            "Referer: ref",
            "Content-Type: application/json",
            "X-Forwarded-For: 123.123.123.123",
            "Access-Control-Allow-Credentials: true",
            &cookie,
            "application/json",
        ];
        assert_eq!(headers(&payload), expect);
    }

    #[test]
    fn unset_fields_are_absent_and_the_headers_are_still_a_list() {
        let payload = record("GET /p3/p4 HTTP/1.0\r\n\r\n", None);
        assert_eq!(payload.ip_address, "203.0.113.7");
        assert_eq!((payload.user_agent, payload.referer_uri, payload.body), (None, None, None));
        assert_eq!((payload.content_type, payload.hostname), (None, None));
        assert_eq!(payload.querystring.as_deref(), Some(""));
        assert_eq!(payload.headers, Some(vec![]));
    }

    #[test]
    fn a_get_records_no_body_and_no_content_type() {
        let head = "GET /p3/p4?a HTTP/1.1\r\nHost: h:81\r\nContent-Type: application/json\r\n\r\n";
        let payload = record(head, None);
        assert_eq!((payload.body.as_deref(), payload.content_type.as_deref()), (None, None));
        assert_eq!(headers(&payload), ["Host: h:81", "Content-Type: application/json"]);
        assert_eq!(payload.hostname.as_deref(), Some("h"));
    }

    #[test]
    fn a_post_without_usable_content_type_has_no_bare_header() {
        let payload = record("POST /p3/p4 HTTP/1.1\r\nContent-Type: json\r\n\r\n", Some(b""));
        assert_eq!((payload.body.as_deref(), payload.content_type.as_deref()), (Some(""), None));
        assert_eq!(headers(&payload), ["Content-Type: json"]);
    }

    #[test]
    fn an_anonymous_request_has_no_address_no_id_and_fewer_headers() {
        let head = format!(
            "GET /p3/p4?nuid={ID} HTTP/1.1\r\nSP-ANONYMOUS:\r\nX-FORWARDED-FOR: 1.2.3.4\r\nX-Real-Ip: 1.2.3.4\r\n\
             cookie: sp={ID}\r\nUser-Agent: a\r\nForwarded: for=1.2.3.4\r\nCF-Connecting-IP: 1.2.3.4\r\nX-Other: b\r\n\r\n"
        );
        let payload = record(&head, None);
        assert_eq!(payload.network_userid.as_deref(), Some(ANONYMOUS_ID));
        assert_eq!(payload.ip_address, "unknown");
        assert_eq!(headers(&payload), ["SP-ANONYMOUS: ", "User-Agent: a", "X-Other: b"]);
        let mut upstream = Config::default();
        upstream.anonymous.drop_headers.clear();
        let payload = record_with(&upstream, &head, None);
        let expect = [
            "SP-ANONYMOUS: ",
            "User-Agent: a",
            "Forwarded: for=1.2.3.4",
            "CF-Connecting-IP: 1.2.3.4",
            "X-Other: b",
        ];
        assert_eq!(headers(&payload), expect);
    }

    #[test]
    fn nuid_beats_the_cookie_and_the_cookie_beats_a_new_id() {
        let id = |head: &str| record(head, None).network_userid.unwrap();
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
    fn a_header_that_is_to_be_dropped_is_not_recorded() {
        let mut config = Config::default();
        config.headers.drop = vec!["Authorization".to_owned()];
        let head = "GET /i HTTP/1.1\r\nauthorization: secret\r\nA: b\r\n\r\n";
        assert_eq!(headers(&record_with(&config, head, None)), ["A: b"]);
    }

    #[test]
    fn a_cookie_header_with_nothing_valid_has_no_entry() {
        let payload = record("GET /i HTTP/1.1\r\nCookie: {\"a\"}\r\nCookie: c=d\r\n\r\n", None);
        assert_eq!(headers(&payload), ["Cookie: c=d"]);
    }

    #[test]
    fn the_hostname_has_no_port_and_an_ipv6_host_keeps_its_brackets() {
        for (host, expect) in [
            ("c.example.com", Some("c.example.com")),
            ("c.example.com:8080", Some("c.example.com")),
            ("[::1]:8080", Some("[::1]")),
            ("", None),
            (":80", None),
            ("[::1", None),
        ] {
            let payload = record(&format!("GET /i HTTP/1.1\r\nHost: {host}\r\n\r\n"), None);
            assert_eq!(payload.hostname.as_deref(), expect, "{host}");
        }
    }
}
