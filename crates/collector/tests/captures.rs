//! Replays what real trackers sent, byte for byte, where the captures lie beside the checkout (`../shared`, or the folder
//! that `SHARED_FIXTURES` names): each event is answered 200 and is one record that equals the request. Without them
//! the requests below stand in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use std::path::{Path, PathBuf};
use support::Collector;

fn shared() -> PathBuf {
    match std::env::var_os("SHARED_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    }
}

/// The requests under a folder, in the order of their names.
fn requests(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            requests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "http") {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

fn of_our_own() -> Vec<(String, Vec<u8>)> {
    let texts = [
        "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: c.example.test\r\ncontent-type: application/json; charset=UTF-8\r\n\
         Content-Length: 13\r\nCookie: _sp_id.1=a; _sp_ses.1=*\r\nReferer: https://shop.example.test/\r\n\r\n{\"data\":[{}]}",
        "OPTIONS /i?e=pv HTTP/1.1\r\nHost: c.example.test\r\nAccess-Control-Request-Headers: sp-anonymous\r\n\r\n",
        "GET /i?e=pv&url=https%3A%2F%2Fshop.example.test HTTP/1.1\r\nHost: c.example.test\r\nSP-Anonymous: *\r\n\r\n",
    ];
    texts.map(|text| (text[..20].to_owned(), text.as_bytes().to_vec())).to_vec()
}

/// One request as the file has it.
struct Captured<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    /// `Name: value`, as they came.
    headers: Vec<&'a str>,
    body: &'a str,
}

fn read(request: &[u8]) -> Captured<'_> {
    let text = str::from_utf8(request).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let mut line = lines.next().unwrap().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Captured { method, path, query, headers: lines.collect(), body }
}

impl<'a> Captured<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What the record must list.
    fn recorded_headers(&self) -> Vec<String> {
        let anonymous = self.header("SP-Anonymous").is_some();
        let mut recorded = Vec::new();
        for line in &self.headers {
            let (name, value) = line.split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "cookie" | "x-forwarded-for" | "x-real-ip" if anonymous => {}
                "cookie" => recorded.push(format!("Cookie: {}", value.replace("; ", ";"))),
                _ => recorded.push((*line).to_owned()),
            }
        }
        if self.method == "POST" {
            recorded.extend(self.header("Content-Type").map(str::to_lowercase));
        }
        recorded
    }
}

#[test]
fn each_captured_event_is_one_record_that_equals_the_request() {
    let mut captures = of_our_own();
    requests(&shared().join("fixtures/tracker-captures"), &mut captures);
    for (name, bytes) in &captures {
        let captured = read(bytes);
        let collector = Collector::new();
        let answer = collector.send(bytes);
        assert_eq!(answer.status, 200, "{name}");
        if captured.method == "OPTIONS" {
            assert_eq!(collector.records().len(), 0, "{name}");
            continue;
        }
        let record = collector.record();
        assert_eq!(record.path.as_deref(), Some(captured.path), "{name}");
        assert_eq!(record.querystring.as_deref(), Some(captured.query), "{name}");
        let body = (captured.method == "POST").then_some(captured.body);
        assert_eq!(record.body.as_deref(), body, "{name}");
        assert_eq!(record.headers.as_deref(), Some(&*captured.recorded_headers()), "{name}");
        assert_eq!(record.user_agent.as_deref(), captured.header("User-Agent"), "{name}");
        assert_eq!(record.referer_uri.as_deref(), captured.header("Referer"), "{name}");
        let anonymous = captured.header("SP-Anonymous").is_some();
        assert_eq!(record.ip_address == "unknown", anonymous, "{name}");
        assert_eq!(
            answer.header("Set-Cookie").is_some_and(|cookie| !cookie.starts_with("sp=;")),
            !anonymous,
            "{name}"
        );
    }
}

#[test]
fn all_captured_requests_on_one_connection_give_the_same_number_of_records() {
    let mut captures = of_our_own();
    requests(&shared().join("fixtures/tracker-captures"), &mut captures);
    let collector = Collector::new();
    let mut client = collector.connect();
    let mut events = 0;
    for (name, bytes) in &captures {
        // A client that asks for the end of the connection would end ours.
        if read(bytes).header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            continue;
        }
        events += usize::from(read(bytes).method != "OPTIONS");
        client.write(bytes);
        assert_eq!(client.answer(false).status, 200, "{name}");
    }
    assert_eq!(collector.records().len(), events);
}
