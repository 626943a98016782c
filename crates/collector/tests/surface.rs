//! Routes, answers and cookies beyond the default configuration, over a socket: the rest of what Snowplow's own tests
//! assert (`collector.md` 10.1), the two profiles, and what is ours (`collector.md` 0).
//!
//! Where each item of that checklist is:
//!
//! | Item | Test |
//! |---|---|
//! | health, OPTIONS, POST, GET and HEAD, pixel paths, Iglu webhook, robots | `http.rs`, by these words |
//! | HSTS; root and crossdomain; redirects enabled | here; disabled: `http.rs` |
//! | 408, 413 and one below | `limits.rs` |
//! | SP-Anonymous | `http.rs`, `acceptance_4` |
//! | id of the cookie; name, expiry, attributes; disabled | `http.rs`, and `cookie.rs` in the source |
//! | client cookie; domains | `acceptance_4`, `acceptance_5`, and `cookie.rs` in the source |
//! | `nuid` beats cookie beats nothing; bounce | `identity.rs` in the source, `acceptance_6` |
//! | do-not-track | here |
//! | IP; full record; anonymous; cookie lines and cleaning; unset fields | `record.rs`, `source_ip.rs`, `cookie.rs` in the source |
//! | partition key; custom paths; redirects with list and macro, v2 and v3 | here, and `redirect.rs` in the source |
//! | sizes | `sizes.rs`, `split.rs`, `bad_rows.rs` in the source, `acceptance_7` |
//! | 1000 small and 10 oversized | `acceptance.rs` |
//! | both config layouts; minimal examples | `import` in the source |
//! | `/sink-health` before the streams exist; SIGTERM | `sinks.rs`, `processes.rs` |
//! | batch splitter | `sink::fallback` in the source |
//! | stdout sink; telemetry | `sink::lines` in the source, and `collector_alone.rs` of the crate `snowmelt` |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use collector::Config;
use collector::config::Profile;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::time::Duration;
use stream::Stream;
use support::{Answer, Collector, loopback};

const ID: &str = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";

fn with(change: impl FnOnce(&mut Config)) -> Collector {
    let mut config = loopback();
    change(&mut config);
    Collector::with(config)
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

fn head(path: &str) -> String {
    format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn queries(collector: &Collector) -> Vec<String> {
    collector.records().into_iter().map(|record| record.querystring.unwrap_or_default()).collect()
}

#[test]
fn hsts_is_on_every_answer_when_it_is_enabled_and_on_none_when_not() {
    let name = "Strict-Transport-Security";
    let on = with(|config| {
        config.hsts.enable = true;
        config.hsts.max_age = Duration::from_secs(180 * 86_400);
    });
    for request in [get("/i", ""), get("/health", ""), get("/a/b/c", ""), "x\r\n\r\n".to_owned()] {
        let expect = Some("max-age=15552000; includeSubDomains");
        assert_eq!(on.send(&request).header(name), expect, "{request}");
        assert_eq!(Collector::new().send(&request).header(name), None, "{request}");
    }
}

#[test]
fn root_response_and_crossdomain_are_there_when_they_are_enabled() {
    let collector = with(|config| {
        config.root_response.enabled = true;
        config.root_response.headers.insert("Location".to_owned(), "https://a.com/".to_owned());
        config.root_response.body = "moved".to_owned();
        config.cross_domain.enabled = true;
        config.cross_domain.domains = vec!["*.a.com".to_owned(), "b.com".to_owned()];
        config.cross_domain.secure = false;
    });
    let root = collector.send(get("/", ""));
    assert_eq!((root.status, root.text()), (302, "moved"));
    assert_eq!(root.names(), ["Location", "Date", "Content-Length"]);
    let flash = collector.send(get("/crossdomain.xml", ""));
    assert_eq!((flash.status, flash.header("Content-Type")), (200, Some("text/xml")));
    let expect = "<?xml version=\"1.0\"?>\n<cross-domain-policy>\n<allow-access-from domain=\"*.a.com\" secure=\"false\" />\n\
                  <allow-access-from domain=\"b.com\" secure=\"false\" />\n</cross-domain-policy>";
    assert_eq!(flash.text(), expect);
    for path in ["/", "/crossdomain.xml"] {
        let length = collector.send(get(path, "")).body.len().to_string();
        assert_eq!(collector.send(head(path)).header("Content-Length"), Some(length.as_str()));
        assert_eq!(collector.send(post(path, "", b"")).status, 404);
    }
    let empty = with(|config| {
        config.cross_domain.enabled = true;
        config.cross_domain.domains.clear();
    });
    let expect = "<?xml version=\"1.0\"?>\n<cross-domain-policy>\n\n</cross-domain-policy>";
    assert_eq!(empty.send(get("/crossdomain.xml", "")).text(), expect);
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn custom_paths_record_the_mapped_paths() {
    let paths = [
        ("/acme/track", "/com.snowplowanalytics.snowplow/tp2"),
        ("/acme/redirect", "/r/tp2"),
        ("/acme/iglu", "/com.snowplowanalytics.iglu/v1"),
    ];
    for (from, to) in paths {
        let collector = with(|config| {
            config.paths = paths.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
        });
        collector.send(post(from, "", b"{}"));
        assert_eq!(collector.record().path.as_deref(), Some(to));
    }
}

fn redirecting(domains: &[&str]) -> Collector {
    with(|config| {
        config.enable_default_redirect = true;
        config.redirect_domains = domains.iter().map(|&domain| domain.to_owned()).collect();
    })
}

#[test]
fn redirects_are_answered_302_to_get_head_and_post_and_recorded() {
    let collector = redirecting(&[]);
    let path = "/r/tp2?e=se&u=https%3A%2F%2Fa.com%2F%3Fb%3D%2525";
    let names = |answer: &Answer| answer.names().join(" ");
    let cors = "Access-Control-Allow-Origin Access-Control-Allow-Credentials";
    for (request, cache) in [
        (get(path, "").into_bytes(), "Cache-Control "),
        (head(path).into_bytes(), "Cache-Control "),
        (post(path, "", b"{}"), ""),
    ] {
        let answer = collector.send(&request);
        assert_eq!((answer.status, answer.body.len()), (302, 0));
        assert_eq!(answer.header("Location"), Some("https://a.com/?b=%25"));
        let expect = format!("Set-Cookie {cache}{cors} Location Date Content-Length");
        assert_eq!(names(&answer), expect);
    }
    assert_eq!(queries(&collector), [path.split_once('?').unwrap().1; 3]);
    assert_eq!(collector.send(format!("OPTIONS {path} HTTP/1.1\r\n\r\n")).status, 200);
}

#[test]
fn redirects_that_lead_nowhere_or_elsewhere_are_answered_400_and_recorded() {
    let collector = redirecting(&["good.com"]);
    assert_eq!(collector.send(get("/r/tp2?u=https://good.com/x", "")).status, 302);
    let mut kept = collector.connect();
    for query in ["", "?e=se", "?u=https://evil.com", "?u=https://good.com%0d%0aA:%20b", "?u="] {
        kept.write(get(&format!("/r/tp2{query}"), "").as_bytes());
        let answer = kept.answer(false);
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{query}");
        assert!(answer.header("Set-Cookie").is_some());
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(answer.header("Location"), None);
    }
    assert_eq!(collector.records().len(), 6);
}

#[test]
fn the_macro_of_a_redirect_is_the_recorded_id() {
    let collector = with(|config| {
        config.enable_default_redirect = true;
        config.redirect_macro.enabled = true;
        config.redirect_macro.placeholder = "[TOKEN]".to_owned();
    });
    let path = "/r/tp2?u=https%3A%2F%2Fa.com%2F%3Fid%3D%5BTOKEN%5D";
    let answer = collector.send(get(path, ""));
    let id = collector.record().network_userid.unwrap();
    assert_eq!(answer.header("Location"), Some(format!("https://a.com/?id={id}").as_str()));
    assert!(answer.header("Set-Cookie").unwrap().starts_with(&format!("sp={id}; ")));
}

#[test]
fn do_not_track_wants_name_and_whole_value_and_two_of_three_are_recorded() {
    let collector = with(|config| {
        config.do_not_track_cookie.enabled = true;
        config.do_not_track_cookie.name = "dnt".to_owned();
        config.do_not_track_cookie.value = "yes.*".to_owned();
    });
    for (cookie, sets) in [("dnt=yes-please", false), ("dnt=no-yes", true), ("other=yes", true)] {
        let cookies = format!("Cookie: {cookie}\r\n");
        for request in [post("/p3/p4", &cookies, b"{}"), get("/i", &cookies).into_bytes()] {
            let answer = collector.send(&request);
            assert_eq!((answer.status, answer.header("Set-Cookie").is_some()), (200, sets));
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        }
    }
    let cookies: Vec<String> = collector
        .records()
        .into_iter()
        .flat_map(|record| record.headers.unwrap())
        .filter(|header| header.starts_with("Cookie: "))
        .collect();
    assert_eq!(cookies.len(), 4);
    assert!(!cookies.iter().any(|cookie| cookie.contains("please")), "{cookies:?}");
}

#[test]
fn a_disabled_cookie_or_bounce_probe_changes_nothing() {
    let collector = with(|config| config.cookie.enabled = false);
    assert_eq!(collector.send(get("/i?n3pc=true", "")).header("Set-Cookie"), None);
    let id = collector.record().network_userid.unwrap();
    assert_ne!(id, "00000000-0000-4000-A000-000000000000");
}

#[test]
fn a_head_of_the_fixed_routes_is_answered_unless_strict() {
    let strict = with(|config| config.compat.strict = true);
    for path in ["/health", "/sink-health", "/robots.txt"] {
        assert_eq!(Collector::new().send(head(path)).status, 200);
        // A 404 to HEAD has no body either.
        assert_eq!(strict.send(head(path)).status, 404);
        assert_eq!(strict.send(get(path, "")).status, 200);
    }
}

#[test]
fn the_profile_v2_answers_as_2_x_does() {
    let collector = with(|config| {
        config.compat.profile = Profile::V2;
        config.cross_domain.enabled = true;
    });
    let p3p = "policyref=\"/w3c/p3p.xml\", CP=\"NOI DSP COR NID PSA OUR IND COM NAV STA\"";
    let text = "text/plain; charset=UTF-8";
    let pixel = collector.send(get("/i", ""));
    assert_eq!((pixel.status, pixel.body.len(), pixel.body[22]), (200, 43, 0x01));
    assert_eq!(pixel.header("P3P"), Some(p3p));
    let names = [
        "Set-Cookie",
        "Cache-Control",
        "P3P",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Content-Type",
        "Date",
        "Content-Length",
    ];
    assert_eq!(pixel.names(), names);
    let cookie = pixel.header("Set-Cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=None"), "{cookie}");
    let ok = collector.send(post("/p3/p4", "", b"{}"));
    assert_eq!((ok.text(), ok.header("Content-Type")), ("ok", Some(text)));
    assert_eq!(collector.send(get("/health", "")).text(), "OK");
    assert_eq!(collector.send(get("/sink-health", "")).text(), "OK");
    assert_eq!(collector.send(get("/a/b/c", "")).text(), "404 not found");
    assert_eq!(collector.send(get("/robots.txt", "")).text(), "User-agent: *\nDisallow: /");
    let flash = collector.send(get("/crossdomain.xml", ""));
    assert_eq!(flash.header("Content-Type"), Some("text/xml; charset=ISO-8859-1"));
    assert!(flash.text().contains("\n  <allow-access-from domain=\"*\" secure=\"true\" />\n"));
    let long = format!("GET /i?{} HTTP/1.1\r\n\r\n", "q".repeat(30_000));
    assert_eq!(collector.send(long).status, 414);
    let anonymous = get("/i", &format!("SP-Anonymous: *\r\nCookie: sp={ID}\r\n"));
    assert_eq!(collector.send(anonymous).header("Set-Cookie"), None);
    assert!(collector.records().iter().all(|record| record.hostname.as_deref() == Some("h")));
}

#[test]
fn strict_v3_refuses_what_3_x_refuses_and_strict_v2_makes_it_a_bad_row() {
    let strict = |profile| {
        with(|config| {
            config.compat.profile = profile;
            config.compat.strict = true;
        })
    };
    let v3 = strict(Profile::V3);
    for target in ["/i?a={b}", "/i?a=b|c", "/i?100%", "/i?a b", "/a/b^"] {
        let answer = v3.send(get(target, ""));
        assert_eq!((answer.status, answer.header("Connection")), (400, Some("close")), "{target}");
    }
    let pixel = v3.send(get("/i?a[]=b/c", "Origin: https://a.com\r\n"));
    assert_eq!((pixel.status, pixel.header("Vary")), (200, None));
    assert_eq!(v3.record().hostname, None);
    assert_eq!(v3.send(head("/i")).header("Content-Length"), None);

    let v2 = strict(Profile::V2);
    let mut kept = v2.connect();
    kept.write(get("/i?a={b}", "").as_bytes());
    let answer = kept.answer(false);
    assert_eq!((answer.status, answer.names()), (200, vec!["Date", "Content-Length"]));
    kept.write(&post("/a/b?100%", "", b"{}"));
    assert_eq!(kept.answer(false).text(), "");
    let rows = v2.bad_rows();
    assert_eq!((rows.len(), v2.records().len()), (2, 0));
    let payloads: Vec<_> =
        rows.iter().map(|row| row["data"]["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["a={b}", "100%"]);
    assert!(rows[0]["schema"].as_str().unwrap().contains("/generic_error/"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_body_is_recorded_unfolded_and_a_bomb_is_answered_413() {
    let coding = "Content-Encoding: gzip\r\n";
    let collector = Collector::new();
    assert_eq!(collector.send(post("/a/b", coding, &gzip(b"{\"a\":1}"))).text(), "ok");
    let record = collector.record();
    assert_eq!(record.body.as_deref(), Some("{\"a\":1}"));
    assert!(record.headers.unwrap().contains(&"Content-Encoding: gzip".to_owned()));

    let bomb = gzip(&vec![b'0'; 10_000_000]);
    let answer = collector.send(post("/a/b", coding, &bomb));
    assert_eq!((answer.status, answer.body.len()), (413, 0));
    assert_eq!((collector.records().len(), collector.bad_rows().len()), (1, 0));

    // What is not gzip after all is kept, where somebody can look at it.
    assert_eq!(collector.send(post("/a/b", coding, b"{}")).text(), "ok");
    let row = collector.bad_rows().remove(0);
    assert_eq!(row["data"]["payload"], "e30=");
    let strict = with(|config| config.compat.strict = true);
    strict.send(post("/a/b", coding, b"{}"));
    assert_eq!(strict.record().body.as_deref(), Some("{}"));
}

#[test]
fn the_address_chooses_the_partition_when_it_is_the_key() {
    let collector = with(|config| config.use_ip_address_as_partition_key = true);
    let ends = || {
        let end = |partition| collector.raw.end(partition).unwrap().number();
        collector.raw.partitions().iter().map(end).collect::<Vec<_>>()
    };
    for _ in 0..10 {
        collector.send(get("/i", "X-Forwarded-For: 1.2.3.4\r\n"));
    }
    let mut same = ends();
    same.sort_unstable();
    assert_eq!(same, [0, 10]);
    let before = ends();
    // Nobody's address is no key: the partitions take turns.
    for _ in 0..10 {
        collector.send(get("/i", "SP-Anonymous: *\r\nX-Forwarded-For: 1.2.3.4\r\n"));
    }
    let grown: Vec<u64> = ends().iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(grown, [5, 5]);
}

#[test]
fn requests_share_compressed_records_when_that_is_enabled() {
    let collector = with(|config| {
        config.compression.enabled = true;
        config.compression.time_limit = Duration::from_millis(50);
    });
    let mut clients: Vec<_> = (0..20).map(|_| collector.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(get(&format!("/i?n={number}"), "").as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.answer(false).status, 200);
    }
    assert_eq!(collector.running.counters.accepted(), 20);
    let mut payloads = 0;
    let mut records = 0;
    for partition in collector.raw.partitions() {
        let chunk = collector.raw.read(partition, model::position::Offset::BEGINNING, usize::MAX);
        for record in chunk.unwrap().records {
            let unfolded = zstd::decode_all(&record.bytes[..]).unwrap();
            assert_eq!(unfolded[..2], [1, 1]);
            let mut rest = &unfolded[2..];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (payload, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                model::payload::CollectorPayload::decode(payload).unwrap();
                payloads += 1;
                rest = after;
            }
            records += 1;
        }
    }
    assert_eq!(payloads, 20);
    assert!(records < 20, "{records}");
}
