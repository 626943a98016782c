//! Writes the collector payload of a request, straight into its Thrift bytes. Snowplow: `collector.md` 4.

use crate::config::Config;
use crate::content_type::{self, ContentType};
use crate::head::{Known, View};
use crate::identity::Identity;
use crate::{cookie, cors, source_ip};
use model::payload::{Field, HeaderList, SCHEMA, Writer};
use model::time::Timestamp;
use std::net::IpAddr;
use std::ops::Range;

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

/// A record that is written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// Where the text of the body stands in `bytes`, behind its length of four bytes; for a POST.
    pub(crate) body: Option<Range<usize>>,
    /// As recorded: an address, or `unknown`.
    pub(crate) ip_address: String,
}

/// The raw record of a request. `collector` is the name that becomes `v_collector`.
pub(crate) fn write(
    request: &Request<'_>,
    identity: &Identity,
    config: &Config,
    collector: &str,
    now: Timestamp,
) -> Written {
    let view = request.view;
    let is_v2 = config.compat.is_v2();
    let content_type = request.body.and(view.get(Known::ContentType));
    let content_type = content_type.as_deref().and_then(ContentType::parse);
    let body = request.body.map(|body| content_type::body_text(body, content_type.as_ref()));
    let ip_address = source_ip::of_request(view, request.peer, identity, config);

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
    match view.query() {
        Some(query) => writer.text(Field::Querystring, &query),
        None if is_v2 => {}
        None => writer.text(Field::Querystring, ""),
    }
    let mut body_place = None;
    if let Some(body) = &body {
        writer.text(Field::Body, body);
        let end = writer.bytes_written();
        body_place = Some(end - body.len()..end);
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
    if let Some(hostname) = hostname(view, config) {
        writer.text(Field::Hostname, &hostname);
    }
    writer.text(Field::NetworkUserId, &identity.network_user_id);
    Written { bytes: writer.finish(SCHEMA), body: body_place, ip_address }
}

/// All headers as `Name: value`, except those that are not to be recorded; cookies cleaned.
fn write_headers(list: &mut HeaderList<'_>, view: View<'_>, anonymous: bool, config: &Config) {
    const ANONYMOUS: [&str; 3] = ["cookie", "x-forwarded-for", "x-real-ip"];
    // They belong to the body, or were made up on the way, in the library that 2.x is built on.
    const UNSEEN_BY_V2: [&str; 4] =
        ["content-type", "content-length", "remote-address", "raw-request-uri"];
    let compat = config.compat;
    let chosen_here = config.ip.is_set();
    for (name, value) in view.headers() {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let hides_who = || {
            ANONYMOUS.into_iter().any(is)
                || (!compat.strict && config.anonymous.drop_headers.iter().any(|drop| is(drop)))
        };
        let says_where = || {
            source_ip::tells_address(name, &value)
                || config.ip.headers.iter().any(|other| is(other))
                || config.anonymous.drop_headers.iter().any(|other| is(other))
        };
        if (anonymous && hides_who())
            || (chosen_here && says_where())
            || config.headers.drop.iter().any(|drop| is(drop))
            || (compat.is_v2() && UNSEEN_BY_V2.into_iter().any(is))
        {
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

/// The host that the request was sent to, without its port. 3.x leaves the field out where the request target has no
/// authority; 2.x, and 3.x repaired, take the `Host` header then (`collector.md` 0, R1).
fn hostname(view: View<'_>, config: &Config) -> Option<String> {
    let from_header = || view.get(Known::Host).filter(|_| !config.compat.is_strict_v3());
    let authority = view.authority().or_else(from_header)?;
    let without_user = authority.rsplit_once('@').map_or(&*authority, |(_, host)| host);
    let (host, _) = cors::split_port(without_user)?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;
    use crate::head::tests::parse;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use model::payload::CollectorPayload;
    use std::net::Ipv4Addr;

    const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";

    fn record_with(config: &Config, head: &str, body: Option<&[u8]>) -> CollectorPayload {
        let parsed = parse(head.as_bytes()).unwrap();
        let view = View { head: &parsed, bytes: head.as_bytes() };
        let identity = Identity::of(view, config);
        let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let request = Request { view, path: "/p3/p4", body, peer };
        let now = Timestamp(1_700_000_000_123);
        let written = write(&request, &identity, config, "snowmelt-0.1.0-log", now);
        let text = written.body.map(|place| &written.bytes[place]);
        let payload = CollectorPayload::decode(&written.bytes).unwrap();
        assert_eq!(text, payload.body.as_deref().map(str::as_bytes));
        assert_eq!(written.ip_address, payload.ip_address);
        payload
    }

    fn record(head: &str, body: Option<&[u8]>) -> CollectorPayload {
        record_with(&Config::default(), head, body)
    }

    fn headers(payload: &CollectorPayload) -> Vec<&str> {
        payload.headers.iter().flatten().map(String::as_str).collect()
    }

    /// `collector.md` 5.2, as text in Base64.
    const WORKED_EXAMPLE: &str = "CwBkAAAACzIwMy4wLjExMy43CgDIAAABi8/laHsLANIAAAAFVVRGLTgLANwAAAAVc3NjLTMuNC4wLWtpbmVzaXNzaW5rCwEsAAAACmN1cmwvOC41LjALAUAAAAAjL2NvbS5z\
        bm93cGxvd2FuYWx5dGljcy5zbm93cGxvdy90cDILAUoAAAAACwFUAAAAAnt9DwFeCwAAAAUAAAATSG9zdDogYy5leGFtcGxlLmNvbQAAABZVc2VyLUFnZW50OiBjdXJsLzgu\
        NS4wAAAAL0Nvb2tpZTogc3A9ZWEyZjZlM2ItMGY0Yy00ZDBmLTlkNTctMmY2ZjNiMWM4YTExAAAALUNvbnRlbnQtVHlwZTogYXBwbGljYXRpb24vanNvbjsgY2hhcnNldD1V\
        VEYtOAAAAB9hcHBsaWNhdGlvbi9qc29uOyBjaGFyc2V0PXV0Zi04CwFoAAAAH2FwcGxpY2F0aW9uL2pzb247IGNoYXJzZXQ9dXRmLTgLAZoAAAAkZWEyZjZlM2ItMGY0Yy00\
        ZDBmLTlkNTctMmY2ZjNiMWM4YTExC3ppAAAAQWlnbHU6Y29tLnNub3dwbG93YW5hbHl0aWNzLnNub3dwbG93L0NvbGxlY3RvclBheWxvYWQvdGhyaWZ0LzEtMC0wAA==";

    #[test]
    fn the_worked_example_is_recorded_byte_for_byte() {
        let head = format!(
            "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: c.example.com\r\nUser-Agent: curl/8.5.0\r\n\
             Cookie: sp={ID}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        );
        let parsed = parse(head.as_bytes()).unwrap();
        let view = View { head: &parsed, bytes: head.as_bytes() };
        let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let path = "/com.snowplowanalytics.snowplow/tp2";
        let request = Request { view, path, body: Some(b"{}"), peer };
        let now = Timestamp(1_700_000_000_123);
        let written = |config: &Config| {
            let identity = Identity::of(view, config);
            write(&request, &identity, config, "ssc-3.4.0-kinesissink", now).bytes
        };
        let mut strict = Config::default();
        strict.compat.strict = true;
        let expect = STANDARD.decode(WORKED_EXAMPLE).unwrap();
        assert_eq!(expect.len(), 490);
        assert_eq!(written(&strict), expect);
        // Repair R1 adds field 400: a type byte, an id, a length, the host.
        let repaired = written(&Config::default());
        assert_eq!(repaired.len(), 490 + 7 + "c.example.com".len());
        let mut payload = CollectorPayload::decode(&repaired).unwrap();
        assert_eq!(payload.hostname.take().as_deref(), Some("c.example.com"));
        assert_eq!(payload.encode(), expect);
    }

    #[test]
    fn v2_records_less_of_the_body_and_no_query_where_there_is_none() {
        let mut config = Config::default();
        config.compat.profile = Profile::V2;
        let head = "POST /p3/p4 HTTP/1.1\r\nHost: h:81\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\
                    X-Forwarded-For: 2001:db8::1, x\r\n\r\n";
        let payload = record_with(&config, head, Some(b"x"));
        assert_eq!(
            (payload.querystring.as_deref(), payload.hostname.as_deref()),
            (None, Some("h"))
        );
        assert_eq!(payload.ip_address, "2001:db8:0:0:0:0:0:1");
        assert_eq!(payload.content_type.as_deref(), Some("text/plain"));
        let expect = ["Host: h:81", "X-Forwarded-For: 2001:db8::1, x", "text/plain"];
        assert_eq!(headers(&payload), expect);
        let asked = record_with(&config, "GET /i? HTTP/1.1\r\n\r\n", None);
        assert_eq!(asked.querystring.as_deref(), Some(""));
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
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(payload.network_userid.as_deref(), Some(nil));
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
    fn an_address_that_is_chosen_here_stands_nowhere_else_in_the_record() {
        let mut config = Config::default();
        config.ip.headers = vec!["X-Client".to_owned()];
        config.ip.anonymize.ipv4_octets = 1;
        let head = "GET /i HTTP/1.1\r\nx-forwarded-for: 1.2.3.4\r\nX-Client: 5.6.7.8\r\nForwarded: for=1.2.3.4\r\n\
                    X-Real-Ip: 1.2.3.4\r\nCF-Connecting-IP: 1.2.3.4\r\nA: b\r\nCookie: a=b\r\n\r\n";
        let payload = record_with(&config, head, None);
        assert_eq!(payload.ip_address, "5.6.7.0");
        assert_eq!(headers(&payload), ["A: b", "Cookie: a=b"]);
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
