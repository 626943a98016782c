//! What a tracker, a browser and a balancer see, over a socket: the behaviours that Snowplow's own tests assert
//! (`collector.md` 10.1), as far as they belong to the default configuration.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use collector::config::SameSite;
use std::time::Duration;
use support::{Collector, loopback};

const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

#[test]
fn health_answers_ok_to_get_and_head_and_records_nothing() {
    let collector = Collector::new();
    for path in ["/health", "/sink-health"] {
        let answer = collector.send(get(path, ""));
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(answer.names(), ["Content-Type", "Date", "Content-Length"]);
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=UTF-8"));
        let head = collector.send(format!("HEAD {path} HTTP/1.1\r\n\r\n"));
        assert_eq!((head.status, head.header("Content-Length")), (200, Some("2")));
    }
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn options_is_a_preflight_on_any_path_and_never_an_event() {
    let collector = Collector::new();
    for path in ["/i", "/i?e=pv", "/health", "/p3/p4", "/robots.txt", "*"] {
        let answer =
            collector.send(format!("OPTIONS {path} HTTP/1.1\r\nOrigin: https://a.com\r\n\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://a.com"));
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
        assert_eq!(
            answer.header("Access-Control-Allow-Headers"),
            Some("Content-Type, SP-Anonymous")
        );
        assert_eq!(answer.header("Access-Control-Max-Age"), Some("3600"));
        assert_eq!(answer.header("Set-Cookie"), None);
    }
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn more_headers_can_be_allowed_and_the_preflight_age_set() {
    let mut config = loopback();
    config.cors.allowed_headers = vec!["traceparent".to_owned()];
    config.cors.access_control_max_age = Duration::from_secs(5);
    let answer = Collector::with(config).send("OPTIONS /i HTTP/1.1\r\n\r\n");
    let allowed = answer.header("Access-Control-Allow-Headers");
    assert_eq!(allowed, Some("Content-Type, SP-Anonymous, traceparent"));
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("5"));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
}

#[test]
fn a_post_is_answered_ok_with_the_headers_of_the_reference_exchange() {
    let collector = Collector::new();
    let answer = collector.send(post("/p3/p4", "Content-Type: application/json\r\n", "{}"));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    let names = [
        "Set-Cookie",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Content-Type",
        "Date",
        "Content-Length",
    ];
    assert_eq!(answer.names(), names);
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(answer.header("Date"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    let record = collector.record();
    assert_eq!((record.path.as_deref(), record.body.as_deref()), (Some("/p3/p4"), Some("{}")));
    assert_eq!(record.content_type.as_deref(), Some("application/json"));
    assert_eq!(record.querystring.as_deref(), Some(""));
    assert_eq!(record.ip_address, "127.0.0.1");
    assert_eq!(record.timestamp, support::NOW.0);
    assert_eq!(record.collector, "snowmelt-0.1.0-log");
    let id = record.network_userid.unwrap();
    let cookie = format!(
        "sp={id}; Expires=Wed, 13 Nov 2024 22:13:20 GMT; Path=/; SameSite=None; Secure; HttpOnly"
    );
    assert_eq!(answer.header("Set-Cookie"), Some(cookie.as_str()));
}

#[test]
fn get_and_head_record_the_path_and_answer_the_pixel() {
    for path in ["/p3/p4", "/i", "/ice.png", "/i/", "/com.snowplowanalytics.snowplow/tp2"] {
        let collector = Collector::new();
        let answer =
            collector.send(get(&format!("{path}?e=pv"), "Content-Type: application/json\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, 43));
        assert_eq!((&answer.body[..6], answer.body[24]), (&b"GIF89a"[..], 0));
        assert_eq!(answer.body[22], 0x05);
        let names = [
            "Set-Cookie",
            "Cache-Control",
            "Access-Control-Allow-Origin",
            "Access-Control-Allow-Credentials",
            "Content-Type",
            "Date",
            "Content-Length",
        ];
        assert_eq!(answer.names(), names);
        assert_eq!(answer.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
        assert_eq!(answer.header("Content-Type"), Some("image/gif"));
        let head = collector.send(format!("HEAD {path}?e=pv HTTP/1.1\r\n\r\n"));
        assert_eq!((head.status, head.names()), (200, names.to_vec()));
        assert_eq!(head.header("Content-Length"), Some("43"));
        let records = collector.records();
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!(
                (record.path.as_deref(), record.querystring.as_deref()),
                (Some(path), Some("e=pv"))
            );
            assert_eq!((record.body, record.content_type), (None, None));
        }
    }
}

#[test]
fn the_iglu_webhook_takes_json_forms_and_queries_and_keeps_the_content_type() {
    let path = "/com.snowplowanalytics.iglu/v1";
    for (value, expect) in [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json; charset=utf-8"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
    ] {
        let collector = Collector::new();
        let answer = collector.send(post(path, &format!("Content-Type: {value}\r\n"), "a=b"));
        assert_eq!(answer.status, 200);
        let record = collector.record();
        assert_eq!(record.content_type.as_deref(), Some(expect));
        assert_eq!(record.headers.unwrap().last().unwrap(), expect);
    }
    let collector = Collector::new();
    assert_eq!(collector.send(get(&format!("{path}?schema=iglu%3Aa"), "")).status, 200);
    assert_eq!(collector.record().querystring.as_deref(), Some("schema=iglu%3Aa"));
}

#[test]
fn redirects_are_disabled() {
    let collector = Collector::new();
    for request in [
        get("/r/abc?u=http%3A%2F%2Fa", ""),
        post("/r/abc", "", "x"),
        "OPTIONS /r/abc HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let answer = collector.send(&request);
        assert_eq!((answer.status, answer.text()), (404, "redirects disabled"), "{request}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=UTF-8"));
    }
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn what_has_no_route_is_not_found() {
    let collector = Collector::new();
    for request in [
        get("/", ""),
        get("/crossdomain.xml", ""),
        get("/a/b/c", ""),
        post("/i", "", "{}"),
        post("/ice.png", "", "{}"),
        "PUT /p3/p4 HTTP/1.1\r\n\r\n".to_owned(),
        "DELETE /i HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let answer = collector.send(&request);
        assert_eq!((answer.status, answer.text()), (404, "Not found"), "{request}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
    }
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn robots_are_sent_away() {
    let collector = Collector::new();
    let expect = "User-agent: *\nDisallow: /\n\nUser-agent: Googlebot\nDisallow: /\n\nUser-agent: AdsBot-Google\nDisallow: /";
    assert_eq!(collector.send(get("/robots.txt", "")).text(), expect);
    assert_eq!(collector.send("HEAD /robots.txt HTTP/1.1\r\n\r\n").status, 200);
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn an_anonymous_request_clears_a_cookie_and_never_sets_one() {
    let collector = Collector::new();
    let with = collector.send(get(
        &format!("/i?nuid={ID}"),
        &format!("SP-Anonymous: *\r\nCookie: sp={ID}\r\nX-Forwarded-For: 1.2.3.4\r\n"),
    ));
    let clearing =
        "sp=; Expires=Mon, 14 Nov 2022 22:13:20 GMT; Path=/; SameSite=None; Secure; HttpOnly";
    assert_eq!(with.header("Set-Cookie"), Some(clearing));
    let record = collector.record();
    assert_eq!(
        (record.network_userid.as_deref(), record.ip_address.as_str()),
        (Some(NIL), "unknown")
    );
    assert_eq!(record.headers.unwrap(), ["Host: h", "SP-Anonymous: *"]);
    let without = collector.send(get("/i", "SP-Anonymous:\r\n"));
    assert_eq!((without.status, without.header("Set-Cookie")), (200, None));
}

#[test]
fn the_id_of_the_cookie_persists_and_nuid_beats_it() {
    let collector = Collector::new();
    let cookie = format!("Cookie: sp={ID}\r\n");
    let answer = collector.send(post("/p3/p4", &cookie, ""));
    assert!(answer.header("Set-Cookie").unwrap().starts_with(&format!("sp={ID}; ")));
    assert_eq!(collector.record().network_userid.as_deref(), Some(ID));
    let answer = collector.send(get("/i?nuid=other", &cookie));
    assert!(answer.header("Set-Cookie").unwrap().starts_with("sp=other; "));
    assert!(
        collector.records().iter().any(|record| record.network_userid.as_deref() == Some("other"))
    );
}

#[test]
fn an_id_that_no_cookie_can_hold_is_recorded_and_not_set() {
    let collector = Collector::new();
    let answer = collector.send(get("/i?nuid=a%0d%0aSet-Cookie:%20b", ""));
    assert_eq!((answer.status, answer.header("Set-Cookie")), (200, None));
    assert_eq!(collector.record().network_userid.as_deref(), Some("a\r\nSet-Cookie: b"));
}

#[test]
fn the_cookie_follows_the_configuration() {
    let mut config = loopback();
    config.cookie.name = "n".to_owned();
    config.cookie.expiration = Duration::from_secs(42 * 86_400);
    config.cookie.same_site = Some(SameSite::Strict);
    config.cookie.domains = vec!["snplow.com".to_owned()];
    config.cookie.client_cookie_name = Some("c".to_owned());
    let collector = Collector::with(config);
    let answer = collector.send(get("/i?nuid=1", "Origin: https://blog.snplow.com:8080\r\n"));
    let attributes = "=1; Expires=Tue, 26 Dec 2023 22:13:20 GMT; Domain=snplow.com; Path=/; SameSite=Strict; Secure";
    assert_eq!(answer.headers[0].1, format!("n{attributes}; HttpOnly"));
    assert_eq!(answer.headers[1], ("Set-Cookie".to_owned(), format!("c{attributes}")));
}

#[test]
fn a_disabled_cookie_is_read_and_not_set() {
    let mut config = loopback();
    config.cookie.enabled = false;
    let collector = Collector::with(config);
    let answer = collector.send(get("/i", &format!("Cookie: sp={ID}\r\n")));
    assert_eq!(answer.header("Set-Cookie"), None);
    assert_eq!(collector.record().network_userid.as_deref(), Some(ID));
}

#[test]
fn the_first_origin_is_echoed_with_vary() {
    let collector = Collector::new();
    let answer = collector.send(post("/p3/p4", "Origin: http://a.com:80 http://b.com\r\n", ""));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("http://a.com:80"));
    assert_eq!(answer.header("Vary"), Some("Origin"));
    let answer = collector.send(get("/i", "Origin: null\r\n"));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(answer.header("Vary"), None);
}

#[test]
fn the_address_comes_from_the_header_if_it_parses() {
    let collector = Collector::new();
    collector.send(get("/i", "X-Forwarded-For: 123.123.123.123\r\nX-Forwarded-For: 9.9.9.9\r\n"));
    let record = collector.record();
    assert_eq!(record.ip_address, "123.123.123.123");
    assert!(record.headers.unwrap().contains(&"X-Forwarded-For: 123.123.123.123".to_owned()));
}

#[test]
fn a_query_that_others_refuse_is_recorded_as_it_came() {
    for (query, expect) in [
        ("e=ue&ue_pr={\"a\": \"b|c\"}", "e=ue&ue_pr={\"a\": \"b|c\"}"),
        ("page=100%&x=%zz", "page=100%&x=%zz"),
        ("a=<b>^`\\", "a=<b>^`\\"),
        ("a=ü", "a=ü"),
    ] {
        let collector = Collector::new();
        assert_eq!(collector.send(get(&format!("/i?{query}"), "")).status, 200);
        assert_eq!(collector.record().querystring.as_deref(), Some(expect));
    }
    let collector = Collector::new();
    assert_eq!(collector.send(b"GET /i?a=\xfc HTTP/1.1\r\nX: \xfc\r\n\r\n").status, 200);
    let record = collector.record();
    assert_eq!(record.querystring.as_deref(), Some("a=ü"));
    assert_eq!(record.headers.unwrap(), ["X: ü"]);
}

#[test]
fn connections_are_kept_as_the_version_and_the_client_say() {
    let collector = Collector::new();
    let mut client = collector.connect();
    for _ in 0..3 {
        client.write(get("/i", "").as_bytes());
        assert_eq!(client.answer(false).header("Connection"), None);
    }
    client.write(get("/i", "Connection: close\r\n").as_bytes());
    assert_eq!(client.answer(false).header("Connection"), Some("close"));
    assert!(client.ended());

    let mut old = collector.connect();
    old.write(b"GET /i HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.answer(false).header("Connection"), Some("keep-alive"));
    old.write(b"GET /i HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer(false).header("Connection"), Some("close"));
    assert!(old.ended());
    assert_eq!(collector.records().len(), 6);
}

#[test]
fn an_empty_post_and_a_chunked_post_are_recorded() {
    let collector = Collector::new();
    assert_eq!(collector.send("POST /p3/p4 HTTP/1.1\r\n\r\n").status, 200);
    assert_eq!(collector.record().body.as_deref(), Some(""));
    let chunked =
        "POST /p3/p4 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(collector.send(chunked).status, 200);
    assert!(collector.records().iter().any(|record| record.body.as_deref() == Some("abc")));
}

#[test]
fn a_body_that_is_not_utf8_is_recorded_with_replacement_characters() {
    let collector = Collector::new();
    let request = b"POST /p3/p4 HTTP/1.1\r\nContent-Length: 6\r\n\r\n\xef\xbb\xbfa\xffb";
    assert_eq!(collector.send(request).status, 200);
    assert_eq!(collector.record().body.as_deref(), Some("a\u{fffd}b"));
}
