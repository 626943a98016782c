//! Section 12 of `collector.md`, the tests that tell a drop-in from an imitation: items 1 to 7, each under its number.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use bytes::Bytes;
use collector::Config;
use model::position::Offset;
use serde_json::Value;
use stream::Stream;
use support::{Collector, loopback};

const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";
const NIL: &str = "00000000-0000-0000-0000-000000000000";
const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";
const PAYLOAD_DATA: &str = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";

fn with(change: impl FnOnce(&mut Config)) -> Collector {
    let mut config = loopback();
    change(&mut config);
    Collector::with(config)
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The bytes of the only record.
fn bytes(collector: &Collector) -> Bytes {
    let read = |partition| collector.raw.read(partition, Offset::BEGINNING, usize::MAX).unwrap();
    let mut records: Vec<_> =
        collector.raw.partitions().iter().flat_map(|partition| read(partition).records).collect();
    assert_eq!(records.len(), 1);
    records.remove(0).bytes
}

/// Thrift by the letter of the protocol, with nothing of ours: field ids in order, each with its type and its value.
fn fields(mut bytes: &[u8]) -> Vec<(i16, u8, Vec<u8>)> {
    let mut fields = Vec::new();
    let take = |bytes: &mut &[u8], count: usize| {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken.to_vec()
    };
    let number =
        |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
    loop {
        let kind = take(&mut bytes, 1)[0];
        if kind == 0 {
            assert!(bytes.is_empty());
            return fields;
        }
        let id = i16::try_from(number(&take(&mut bytes, 2))).unwrap();
        let value = match kind {
            0x0a => take(&mut bytes, 8),
            0x0b => {
                let length = number(&take(&mut bytes, 4));
                take(&mut bytes, length)
            }
            0x0f => {
                assert_eq!(take(&mut bytes, 1), [0x0b]);
                let count = number(&take(&mut bytes, 4));
                let mut entries = Vec::new();
                for _ in 0..count {
                    let length = number(&take(&mut bytes, 4));
                    entries.extend(take(&mut bytes, length));
                    entries.push(b'\n');
                }
                entries
            }
            other => panic!("type {other}"),
        };
        fields.push((id, kind, value));
    }
}

#[test]
fn acceptance_1_a_record_is_byte_exact() {
    let collector = Collector::new();
    let headers = format!(
        "Host: c.example.com\r\nUser-Agent: curl/8.5.0\r\nCookie: sp={ID}\r\n\
         Content-Type: application/json; charset=UTF-8\r\n"
    );
    collector.send(post(TP2, &headers, "{}"));
    let text = |id: u16, value: &str| {
        let length = u32::try_from(value.len()).unwrap();
        [&[0x0b][..], &id.to_be_bytes(), &length.to_be_bytes(), value.as_bytes()].concat()
    };
    let entry = |value: &str| text(0, value)[3..].to_vec();
    let mut expect = text(100, "127.0.0.1");
    expect.extend([0x0a, 0, 200]);
    expect.extend(1_700_000_000_123_u64.to_be_bytes());
    expect.extend(text(210, "UTF-8"));
    expect.extend(text(220, "snowmelt-0.1.0-log"));
    expect.extend(text(300, "curl/8.5.0"));
    expect.extend(text(320, TP2));
    expect.extend(text(330, ""));
    expect.extend(text(340, "{}"));
    expect.extend([0x0f, 0x01, 0x5e, 0x0b, 0, 0, 0, 6]);
    expect.extend(entry("Host: c.example.com"));
    expect.extend(entry("User-Agent: curl/8.5.0"));
    expect.extend(entry(&format!("Cookie: sp={ID}")));
    expect.extend(entry("Content-Type: application/json; charset=UTF-8"));
    expect.extend(entry("Content-Length: 2"));
    expect.extend(entry("application/json; charset=utf-8"));
    expect.extend(text(360, "application/json; charset=utf-8"));
    expect.extend(text(400, "c.example.com"));
    expect.extend(text(410, ID));
    expect.extend(text(31337, "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0"));
    expect.push(0);
    assert_eq!(bytes(&collector), expect);
}

#[test]
fn acceptance_2_field_ids_are_those_on_the_wire_and_the_schema_is_last() {
    let collector = Collector::new();
    let headers = "Host: h\r\nUser-Agent: a\r\nReferer: b\r\nContent-Type: text/plain\r\n";
    collector.send(post(TP2, headers, "{}"));
    let ids: Vec<i16> = fields(&bytes(&collector)).iter().map(|(id, ..)| *id).collect();
    let expect = [100, 200, 210, 220, 300, 310, 320, 330, 340, 350, 360, 400, 410, 31337];
    assert_eq!(ids, expect);
    let published: Vec<i16> = (1..=13).map(|place| place * 10).collect();
    let shared: Vec<_> = ids.iter().filter(|id| published.contains(id) && **id != 100).collect();
    assert!(shared.is_empty(), "{shared:?}");
    // Id 100 is another field under the published ids: a reader by those would take the address for it, and find no
    // schema, no path and no timestamp.
    assert!(!ids.contains(&20) && !ids.contains(&10));
}

#[test]
fn acceptance_3_headers_keep_order_case_and_duplicates_and_end_with_the_bare_type() {
    let collector = Collector::new();
    let headers = "hOsT: h\r\nX-One:  1 \r\ncOOkie: a=b; j={\"k\":1}; c = d\r\nx-one: 2\r\n\
                   Content-Type: Application/JSON; Charset=UTF-8\r\n";
    collector.send(post(TP2, headers, "{}"));
    let expect = [
        "hOsT: h",
        "X-One: 1",
        "Cookie: a=b;c=d",
        "x-one: 2",
        "Content-Type: Application/JSON; Charset=UTF-8",
        "Content-Length: 2",
        "application/json; charset=utf-8",
    ];
    assert_eq!(collector.record().headers.unwrap(), expect);
}

#[test]
fn acceptance_4_an_anonymous_request_leaves_nothing_of_who_sent_it() {
    let collector = with(|config| config.cookie.client_cookie_name = Some("spc".to_owned()));
    let headers = format!(
        "Host: h\r\nSP-Anonymous: *\r\nCookie: sp={ID}; spc={ID}\r\nX-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n"
    );
    let answer = collector.send(post(&format!("{TP2}?nuid={ID}"), &headers, "{}"));
    let record = collector.record();
    assert_eq!(record.network_userid.as_deref(), Some(NIL));
    assert_eq!(record.ip_address, "unknown");
    assert_eq!(record.headers.unwrap(), ["Host: h", "SP-Anonymous: *", "Content-Length: 2"]);
    let cookies: Vec<_> =
        answer.headers.iter().filter(|(name, _)| name == "Set-Cookie").map(|(_, it)| it).collect();
    assert_eq!(cookies.len(), 2);
    for (cookie, name) in cookies.into_iter().zip(["sp", "spc"]) {
        let start = format!("{name}=; Expires=Mon, 14 Nov 2022 22:13:20 GMT; ");
        assert!(cookie.starts_with(&start), "{cookie}");
    }
}

#[test]
fn acceptance_5_the_cookie_domain_follows_the_configured_list() {
    let collector = with(|config| {
        config.cookie.domains = vec!["one.com".to_owned(), "two.com".to_owned()];
        config.cookie.fallback_domain = Some("fallback.com".to_owned());
        config.cookie.secure = false;
    });
    for (origin, domain) in [
        ("https://one.com", "one.com"),
        ("https://a.b.two.com:8443", "two.com"),
        ("https://two.com https://one.com", "one.com"),
        ("null https://two.com", "two.com"),
        ("https://notone.com", "fallback.com"),
        ("https://one.com.evil.com", "fallback.com"),
        ("https://com", "fallback.com"),
        ("null", "fallback.com"),
        ("", "fallback.com"),
    ] {
        let request = post(TP2, &format!("Origin: {origin}\r\n"), "{}");
        let cookie = collector.send(request).header("Set-Cookie").unwrap().to_owned();
        let expect = format!("; Domain={domain}; Path=/; SameSite=None; Secure; HttpOnly");
        assert!(cookie.ends_with(&expect), "{origin}: {cookie}");
    }
}

#[test]
fn acceptance_6_bounces_and_redirects_store_what_they_must() {
    let collector = with(|config| {
        config.cookie_bounce.enabled = true;
        config.paths.insert("/go/out".to_owned(), "/r/tp2".to_owned());
        config.redirect_domains = vec!["good.com".to_owned()];
    });
    let get = |target: &str| collector.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let first = get("/i?e=pv");
    assert_eq!((first.status, first.header("Location")), (302, Some("/i?e=pv&n3pc=true")));
    assert!(first.header("Set-Cookie").is_some());
    assert_eq!(collector.records().len(), 0);
    let absolute = get("http://example.com/i?e=pv");
    assert_eq!(absolute.header("Location"), Some("//example.com/i?e=pv&n3pc=true"));

    let second = get("/i?e=pv&n3pc=true");
    assert_eq!((second.status, second.body.len()), (200, 43));
    let fallback = "00000000-0000-4000-A000-000000000000";
    assert_eq!(collector.record().network_userid.as_deref(), Some(fallback));
    assert!(second.header("Set-Cookie").unwrap().starts_with(&format!("sp={fallback}; ")));
    assert_eq!(get("/i?nuid=1").status, 200);

    assert_eq!(get("/r/tp2?u=https://good.com").text(), "redirects disabled");
    let before = collector.records().len();
    let allowed = get("/go/out?u=https://good.com/x");
    assert_eq!((allowed.status, allowed.header("Location")), (302, Some("https://good.com/x")));
    assert_eq!(get("/go/out?u=https://evil.com/x").status, 400);
    let records = collector.records();
    assert_eq!(records.len(), before + 2);
    let redirects = records.iter().filter(|record| record.path.as_deref() == Some("/r/tp2"));
    assert_eq!(redirects.count(), 2);
}

fn events(values: &[String]) -> String {
    let events: Vec<String> =
        values.iter().map(|value| format!("{{\"e\":\"se\",\"tv\":\"{value}\"}}")).collect();
    format!("{{\"schema\":\"{PAYLOAD_DATA}\",\"data\":[{}]}}", events.join(","))
}

/// The `tv` of each event of each record, in the order of the stream.
fn values(collector: &Collector) -> Vec<Vec<String>> {
    let of_record = |body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["schema"], PAYLOAD_DATA);
        let events = body["data"].as_array().unwrap().clone();
        events.iter().map(|event| event["tv"].as_str().unwrap().to_owned()).collect()
    };
    collector.records().into_iter().map(|record| of_record(record.body.unwrap())).collect()
}

#[test]
fn acceptance_7_a_post_that_is_too_large_is_split_in_order_and_the_rest_are_bad_rows() {
    let small = |config: &mut Config| {
        config.networking.max_record_size = 2_000;
        config.networking.max_payload_size = 20_000;
        config.networking.drop_payload_size = 100_000;
    };
    let collector = with(small);
    let letters: Vec<String> = ["a", "b", "c", "d", "e"].map(|it| it.repeat(600)).to_vec();
    let request = post(TP2, &format!("Host: h\r\nCookie: sp={ID}\r\n"), &events(&letters));
    assert_eq!(collector.send(request).text(), "ok");
    let first_letters: Vec<Vec<String>> = values(&collector)
        .into_iter()
        .map(|events| events.into_iter().map(|value| value[..1].to_owned()).collect())
        .collect();
    assert_eq!(first_letters, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    let records = collector.records();
    for record in &records {
        assert!(record.encode().len() <= 2_000);
        assert_eq!(record.network_userid.as_deref(), Some(ID));
        assert_eq!(
            (record.timestamp, &record.headers),
            (records[0].timestamp, &records[0].headers)
        );
    }
    // All parts lie in one partition, side by side.
    let ends = collector.raw.partitions().iter().map(|it| collector.raw.end(it).unwrap().number());
    assert_eq!(ends.collect::<Vec<_>>().iter().max(), Some(&3));
    assert_eq!((collector.running.counters.splits(), collector.bad_rows().len()), (1, 0));

    let strict = with(|config| {
        small(config);
        config.compat.strict = true;
    });
    strict.send(post(TP2, &format!("Host: h\r\nCookie: sp={ID}\r\n"), &events(&letters)));
    let reversed: Vec<usize> = values(&strict).iter().map(Vec::len).collect();
    assert_eq!(reversed, [1, 2, 2]);
    assert!(values(&strict)[2][0].starts_with('b') && values(&strict)[2][1].starts_with('a'));
}

#[test]
fn acceptance_7_what_cannot_be_split_is_a_bad_row_and_what_is_dropped_is_none() {
    let collector = with(|config| {
        config.networking.max_record_size = 2_000;
        config.networking.drop_payload_size = 100_000;
    });
    let mixed = [600, 5, 600, 3_000].map(|size| "x".repeat(size));
    let reasons = [
        (post(TP2, "", &events(&mixed)), "this POST request split is still too large"),
        (format!("GET /i?{} HTTP/1.1\r\n\r\n", "q".repeat(5_000)), "GET requests cannot be split"),
        (post(TP2, "", &"s".repeat(5_000)), "cannot split POST requests which are not json "),
        (
            post(TP2, "", &format!("[\"{}\"]", "s".repeat(5_000))),
            "cannot split POST requests which are not self-describing ",
        ),
    ];
    for (place, (request, reason)) in reasons.into_iter().enumerate() {
        assert_eq!(collector.send(request).status, 200);
        let row = collector.bad_rows().into_iter().find(|row| {
            let expectation = row["data"]["failure"]["expectation"].as_str().unwrap();
            expectation.starts_with(&format!("oversized collector payload: {reason}"))
        });
        let row = row.unwrap_or_else(|| panic!("{place}: no row says {reason}"));
        is_valid_size_violation(&row, 2_000);
    }
    assert_eq!((collector.records().len(), collector.bad_rows().len()), (1, 4));
    let dropped = post(TP2, "", &"s".repeat(100_000));
    assert_eq!(collector.send(dropped).status, 413);
    assert_eq!(collector.bad_rows().len(), 4);
}

/// Holds a row against the Iglu schema `size_violation/1-0-0`.
fn is_valid_size_violation(row: &Value, maximum: usize) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let schema = "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0";
    assert_eq!((keys(row), &row["schema"]), (vec!["schema".into(), "data".into()], &schema.into()));
    let data = &row["data"];
    assert_eq!(keys(data), ["processor", "failure", "payload"]);
    assert_eq!(keys(&data["processor"]), ["artifact", "version"]);
    assert_eq!(data["processor"]["artifact"], "snowmelt-collector");
    let failure = &data["failure"];
    let expect = ["timestamp", "maximumAllowedSizeBytes", "actualSizeBytes", "expectation"];
    assert_eq!(keys(failure), expect);
    assert_eq!(failure["timestamp"], "2023-11-14T22:13:20.123Z");
    assert_eq!(failure["maximumAllowedSizeBytes"], maximum);
    assert!(failure["actualSizeBytes"].as_u64().unwrap() >= maximum as u64);
    assert!(failure["expectation"].as_str().unwrap().chars().count() <= 256);
    let payload = data["payload"].as_str().unwrap();
    assert_eq!(payload.encode_utf16().count(), maximum / 10);
    assert!(payload.starts_with("CollectorPayload(schema:iglu:com.snowplow"));
}

#[test]
fn a_thousand_small_and_ten_oversized_requests_are_a_thousand_good_and_ten_bad() {
    let collector = with(|config| config.networking.max_record_size = 10_000);
    let mut client = collector.connect();
    for number in 0..1_010 {
        let body = if number % 101 == 0 { "x".repeat(20_000) } else { "{}".to_owned() };
        client.write(post(TP2, "Host: h\r\n", &body).as_bytes());
        assert_eq!(client.answer(false).text(), "ok");
    }
    assert_eq!((collector.records().len(), collector.bad_rows().len()), (1_000, 10));
}
