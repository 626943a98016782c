//! The enrich function on one core, over records as the browser trackers cause them.
//!
//! `cargo bench -p enrich` prints events per second for each kind of record and for a mix of them, and how that compares
//! with a bound taken in the same run: decoding the payload, parsing its JSON texts and doing nothing with them. Then
//! the mix with each configured enrichment alone, with the five that a first installation of Snowplow turns on, and with
//! pseudonyms and a script.
//! `SECONDS` (2) is how long each kind is measured; user agents come again and again, as in life.
//!
//! For `valgrind --tool=callgrind --toggle-collect='*counted*'`, `EVENTS` (a number) enriches so many events of the mix
//! once and measures nothing; `RECIPE` is `core`, `five` or `private`, or `parse` for the bound.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enrich::enrichments::{Assets, Config};
use enrich::iglu::Schemas;
use enrich::{Enrichments, Outcome, Recipe, Settings};
use model::payload::{CollectorPayload, SCHEMA};
use model::position::{Offset, Partition, RawRecord};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The allocator of the `snowmelt` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
];

/// Records of each kind, all different.
const RECORDS: usize = 1000;

/// Kinds of records, and how many of ten in the mix are of this kind.
type Kind = (&'static str, usize, fn(usize) -> Record);

const KINDS: [Kind; 4] = [
    ("page view, POST, entities in base64", 5, page_view),
    ("page ping, POST, entities in base64", 2, page_ping),
    ("link click, POST, self-describing, entities in base64", 2, link_click),
    ("page view, GET, no entities", 1, pixel),
];

/// A record's bytes, and the JSON texts inside of it.
struct Record {
    bytes: Vec<u8>,
    texts: Vec<String>,
}

fn main() {
    let seconds: f64 = std::env::var("SECONDS").map_or(2.0, |text| text.parse().expect("a number"));
    let time = Duration::from_secs_f64(seconds);
    let recipe = Recipe::new(Schemas::embedded(), Settings::default());
    if let Ok(events) = std::env::var("EVENTS") {
        return count(events.parse().expect("a number"), &recipe);
    }
    let mut mix = Vec::new();
    for (name, share, make) in KINDS {
        let records: Vec<Record> = (0..RECORDS).map(make).collect();
        println!(
            "enrich: {name}: {:.0} events/s",
            rate(&records, time, |n, it| enrich(n, it, &recipe))
        );
        mix.push((share, records));
    }
    let mix = mixed(mix);
    let size = mix.iter().map(|record| record.bytes.len()).sum::<usize>() / mix.len();
    let ours = rate(&mix, time, |n, record| enrich(n, record, &recipe));
    let bound = rate(&mix, time, |_, record| parse(record));
    println!(
        "enrich: the mix, {size} bytes a record, one core: {ours:.0} events/s; parsing alone {bound:.0}; ratio {:.2}",
        ours / bound
    );
    let all = enrichments();
    for (name, config) in &all {
        let recipe = with(&recipe, [config]);
        let rate = rate(&mix, time, |n, record| enrich(n, record, &recipe));
        let micros = 1e6 / rate - 1e6 / ours;
        println!("enrich: the mix with {name}: {rate:.0} events/s, {micros:.2} µs an event more");
    }
    let recipe_of_core = recipe.clone();
    let first = all.iter().filter(|(name, _)| QUICK_START.contains(name)).map(|(_, it)| it);
    let recipe = with(&recipe, first);
    let five = rate(&mix, time, |n, record| enrich(n, record, &recipe));
    println!("enrich: the mix with the five of a first installation: {five:.0} events/s");
    let recipe = with(&recipe_of_core, &private_and_scripted());
    let both = rate(&mix, time, |n, record| enrich(n, record, &recipe));
    println!("enrich: the mix with PII and a script that reads two fields: {both:.0} events/s");
}

/// Enriches a number of events of the mix, after as many as make the memory of user agents warm.
fn count(events: usize, core: &Recipe) {
    let mix = mixed(
        KINDS.iter().map(|(_, share, make)| (*share, (0..RECORDS).map(make).collect())).collect(),
    );
    let all = enrichments();
    let name = std::env::var("RECIPE").unwrap_or_default();
    let recipe = match name.as_str() {
        "five" => {
            with(core, all.iter().filter(|(name, _)| QUICK_START.contains(name)).map(|(_, it)| it))
        }
        "private" => with(core, &private_and_scripted()),
        _ => core.clone(),
    };
    let is_bound = name == "parse";
    let act = |(n, record): (usize, &Record)| match is_bound {
        true => parse(record),
        false => enrich(n, record, &recipe),
    };
    mix.iter().enumerate().take(100).for_each(act);
    counted(|| mix.iter().enumerate().cycle().take(events).for_each(act));
}

/// What a profiler is told to look at.
#[inline(never)]
fn counted(act: impl FnOnce()) {
    act();
}

const QUICK_START: [&str; 5] =
    ["campaign_attribution", "event_fingerprint", "referer_parser", "ua_parser", "yauaa"];

/// Three columns are replaced, and a script looks at two and lets the event pass.
fn private_and_scripted() -> [Config; 2] {
    let columns = ["user_ipaddress", "domain_userid", "network_userid"];
    let pii: Vec<Value> = columns.iter().map(|it| json!({"pojo": {"field": it}})).collect();
    let strategy = json!({"pseudonymize": {"hashFunction": "SHA-256", "salt": "pepper"}});
    let script = "function process(event) {
        const app = event.getApp_id(), platform = event.getPlatform();
        if (app === 'test' || platform === 'srv') event.drop();
    }";
    let file = |name: &str, key: &str, data: Value| Config {
        file: format!("{name}.json"),
        json: json!({"schema": format!("iglu:com.snowplowanalytics.{key}"), "data": data}),
    };
    [
        file(
            "pii",
            "snowplow.enrichments/pii_enrichment_config/jsonschema/2-0-1",
            json!({
                "vendor": "", "name": "", "enabled": true, "emitEvent": false,
                "parameters": {"pii": pii, "strategy": strategy},
            }),
        ),
        file(
            "script",
            "snowplow/javascript_script_config/jsonschema/1-0-1",
            json!({
                "vendor": "", "name": "", "enabled": true,
                "parameters": {"script": URL_SAFE_NO_PAD.encode(script)},
            }),
        ),
    ]
}

/// Names and configurations.
fn enrichments() -> Vec<(&'static str, Config)> {
    let config = |name, key: &str, parameters: Value| {
        let data = json!({"vendor": "", "name": "", "enabled": true, "parameters": parameters});
        let json = json!({"schema": format!("iglu:com.snowplowanalytics.{key}"), "data": data});
        (name, Config { file: format!("{name}.json"), json })
    };
    let fields = json!({
        "mktMedium": ["utm_medium"], "mktSource": ["utm_source"], "mktTerm": ["utm_term"],
        "mktContent": ["utm_content"], "mktCampaign": ["utm_campaign"],
    });
    let excluded = json!(["eid", "nuid", "stm", "cv"]);
    let fingerprint = json!({"hashAlgorithm": "MD5", "excludeParameters": excluded});
    vec![
        config(
            "campaign_attribution",
            "snowplow/campaign_attribution/jsonschema/1-0-1",
            json!({"fields": fields}),
        ),
        config(
            "event_fingerprint",
            "snowplow/event_fingerprint_config/jsonschema/1-0-1",
            fingerprint,
        ),
        config(
            "referer_parser",
            "snowplow/referer_parser/jsonschema/2-0-1",
            json!({"internalDomains": []}),
        ),
        config("ua_parser", "snowplow/ua_parser_config/jsonschema/1-0-1", json!({})),
        config("yauaa", "snowplow.enrichments/yauaa_enrichment_config/jsonschema/1-0-0", json!({})),
        config("anon_ip", "snowplow/anon_ip/jsonschema/1-0-1", json!({"anonOctets": 2})),
        config(
            "http_header_extractor",
            "snowplow.enrichments/http_header_extractor_config/jsonschema/1-0-0",
            json!({"headersPattern": "(?i)origin"}),
        ),
        config(
            "cookie_extractor",
            "snowplow/cookie_extractor_config/jsonschema/1-0-0",
            json!({"cookies": ["sp"]}),
        ),
    ]
}

fn with<'a>(recipe: &Recipe, configs: impl IntoIterator<Item = &'a Config>) -> Recipe {
    let configs = configs.into_iter().cloned().collect();
    let enrichments = Enrichments::new(configs, &Assets::new()).expect("good configurations");
    recipe.with_enrichments(enrichments)
}

/// Events per second of this thread's time on a core, the best of three runs over all records again and again: the others
/// were disturbed. What other processes take from the machine does not count.
fn rate(records: &[Record], time: Duration, act: impl Fn(usize, &Record)) -> f64 {
    let run = || {
        let (started, began) = (Instant::now(), on_core());
        let mut done = 0;
        while started.elapsed() < time / 3 {
            records.iter().enumerate().for_each(|(n, record)| act(n, record));
            done += records.len();
        }
        done as f64 / (on_core() - began).as_secs_f64()
    };
    (0..3).map(|_| run()).fold(0.0, f64::max)
}

fn on_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// As a layer does: outcomes, and the line of each event.
fn enrich(n: usize, record: &Record, recipe: &Recipe) {
    static RAW: LazyLock<Partition> = LazyLock::new(|| Partition::of_stream("raw", 0));
    let partition: &Partition = &RAW;
    let offset = Offset::from_number(n as u64);
    let record = RawRecord { partition, offset, bytes: &record.bytes };
    for outcome in enrich::enrich(&record, recipe).expect("all schemas are embedded") {
        match outcome {
            Outcome::Enriched(event) => black_box(event.to_tsv()),
            other => panic!("not a good event: {other:?}"),
        };
    }
}

/// The least that has to be done.
fn parse(record: &Record) {
    black_box(CollectorPayload::decode(&record.bytes).expect("a payload"));
    for text in &record.texts {
        black_box(serde_json::from_str::<Value>(text).expect("JSON"));
    }
}

/// Ten kinds in a row, by their shares.
fn mixed(kinds: Vec<(usize, Vec<Record>)>) -> Vec<Record> {
    let mut kinds: Vec<_> =
        kinds.into_iter().map(|(share, all)| (share, all.into_iter())).collect();
    let mut mix = Vec::new();
    'rounds: loop {
        let before = mix.len();
        for (share, records) in &mut kinds {
            mix.extend(records.by_ref().take(*share));
        }
        if mix.len() < before + 10 {
            break 'rounds mix;
        }
    }
}

fn page_view(n: usize) -> Record {
    let mut fields = fields("pv", n);
    fields.insert("refr", json!(format!("https://search.example/?q=skis+{n}")));
    posted(n, fields, &entities(n))
}

fn page_ping(n: usize) -> Record {
    let mut fields = fields("pp", n);
    for (name, value) in [("pp_mix", 0), ("pp_max", 0), ("pp_miy", 17), ("pp_may", 940)] {
        fields.insert(name, json!(value.to_string()));
    }
    posted(n, fields, &entities(n))
}

fn link_click(n: usize) -> Record {
    let mut fields = fields("ue", n);
    let click = json!({
        "targetUrl": format!("https://shop.example/skis/{n}?from=home"),
        "elementId": "teaser",
        "elementClasses": ["card", "wide"],
        "elementTarget": "_self",
    });
    let event = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        "data": {"schema": "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1", "data": click},
    });
    fields.insert("ue_px", json!(URL_SAFE_NO_PAD.encode(event.to_string())));
    let mut record = posted(n, fields, &entities(n));
    record.texts.push(event.to_string());
    record
}

fn pixel(n: usize) -> Record {
    let fields = fields("pv", n);
    let pairs: Vec<String> = fields.iter().map(|(name, value)| pair(name, value)).collect();
    let payload = CollectorPayload {
        path: Some("/i".to_owned()),
        querystring: Some(pairs.join("&")),
        ..payload(n)
    };
    Record { bytes: payload.encode(), texts: Vec::new() }
}

fn pair(name: &str, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    format!("{name}={}", text.bytes().map(escape).collect::<String>())
}

/// What every event of the browser tracker carries.
fn fields(kind: &str, n: usize) -> BTreeMap<&'static str, Value> {
    let texts = [
        ("e", kind.to_owned()),
        ("eid", uuid(n)),
        ("url", format!("https://shop.example/skis/{n}?utm_source=newsletter&utm_medium=email")),
        ("page", format!("Skis of size {n}")),
        ("tv", "js-4.6.0".to_owned()),
        ("tna", "shop".to_owned()),
        ("aid", "shop".to_owned()),
        ("p", "web".to_owned()),
        ("cookie", "1".to_owned()),
        ("cs", "UTF-8".to_owned()),
        ("lang", "en-GB".to_owned()),
        ("res", "1920x1080".to_owned()),
        ("cd", "24".to_owned()),
        ("tz", "Europe/Zurich".to_owned()),
        ("dtm", (1_763_990_000_000 + n).to_string()),
        ("stm", (1_763_990_000_200 + n).to_string()),
        ("vp", "1903x969".to_owned()),
        ("ds", "1903x4210".to_owned()),
        ("vid", "3".to_owned()),
        ("sid", uuid(n / 7)),
        ("duid", uuid(n / 20)),
    ];
    texts.into_iter().map(|(name, value)| (name, json!(value))).collect()
}

fn entities(n: usize) -> String {
    let entity =
        |schema: &str, data: Value| json!({"schema": format!("iglu:{schema}"), "data": data});
    json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0",
        "data": [
            entity("com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0", json!({"id": uuid(n / 3)})),
            entity("com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2", json!({
                "userId": uuid(n / 20),
                "sessionId": uuid(n / 7),
                "eventIndex": n % 40 + 1,
                "sessionIndex": 3,
                "previousSessionId": null,
                "storageMechanism": "COOKIE_1",
                "firstEventId": uuid(n / 7 + 1),
                "firstEventTimestamp": "2026-11-22T10:00:00.000Z",
            })),
        ],
    })
    .to_string()
}

fn posted(n: usize, mut fields: BTreeMap<&'static str, Value>, entities: &str) -> Record {
    fields.insert("cx", json!(URL_SAFE_NO_PAD.encode(entities)));
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [fields],
    })
    .to_string();
    let payload = CollectorPayload {
        path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
        body: Some(body.clone()),
        content_type: Some("application/json; charset=utf-8".to_owned()),
        ..payload(n)
    };
    Record { bytes: payload.encode(), texts: vec![body, entities.to_owned()] }
}

fn payload(n: usize) -> CollectorPayload {
    let agent = AGENTS[n % AGENTS.len()];
    CollectorPayload {
        ip_address: format!("192.0.2.{}", n % 250),
        timestamp: 1_763_990_000_300,
        encoding: "UTF-8".to_owned(),
        collector: "snowmelt-0.1.0-log".to_owned(),
        user_agent: Some(agent.to_owned()),
        referer_uri: Some("https://shop.example/".to_owned()),
        headers: Some(vec![
            "Host: collector.example".to_owned(),
            format!("User-Agent: {agent}"),
            "Accept: */*".to_owned(),
            "Accept-Language: en-GB,en;q=0.9".to_owned(),
            "Origin: https://shop.example".to_owned(),
            "Referer: https://shop.example/".to_owned(),
        ]),
        hostname: Some("collector.example".to_owned()),
        network_userid: Some(uuid(n)),
        schema: SCHEMA.to_owned(),
        ..CollectorPayload::default()
    }
}

fn uuid(n: usize) -> String {
    format!("3f2b8f5e-0f2d-4c7a-9a35-{n:012x}")
}
