//! The enrich function: for any record there is at least one outcome, twice the same, and each can be written, read back
//! and made a row; the speed layer, which reads the text, and the batch layer, which has the event, make the same row.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::enrichments::{Asset, Assets, Config};
use enrich::iglu::Schemas;
use enrich::{Enrichments, Outcome, Recipe, Settings, enrich};
use model::event::{Cell, EnrichedEvent};
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, Position, RawRecord};
use model::time::Timestamp;
use serde_json::{Value, json};
use views::shred::{BadRowRows, EventRows};

use crate::input::Input;

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";

/// Embedded schemas and those of the golden tests, failed events, and every enrichment that reads no database and asks
/// nobody.
static RECIPE: LazyLock<Recipe> = LazyLock::new(|| {
    let local = [
        include_str!(
            "../../../testdata/enrich/schemas/org.example.snowmelt/basket/jsonschema/1-0-0"
        ),
        include_str!(
            "../../../testdata/enrich/schemas/org.example.snowmelt/crate/jsonschema/1-0-0"
        ),
        include_str!(
            "../../../testdata/enrich/schemas/org.example.snowmelt/crate/jsonschema/1-0-2"
        ),
    ];
    let schemas = local.iter().filter_map(|text| serde_json::from_str(text).ok());
    let rules = Asset::of(Arc::new(UA_RULES));
    let assets = Assets::from([("mem://rules.yaml".to_owned(), rules)]);
    let enrichments = Enrichments::new(configs(), &assets).expect("good configurations");
    recipe_of(schemas).with_enrichments(enrichments)
});

/// A few rules instead of the built-in ones, which would take nearly all of the time.
const UA_RULES: &str = r"
user_agent_parsers:
  - regex: '(Firefox|Chrome)/(\d+)\.(\d+)'
  - regex: '(\w+)/(\w+)'
    family_replacement: 'It is $1'
os_parsers:
  - regex: '(Windows|Linux|Android) ?([\w.]*)'
device_parsers:
  - regex: 'phone; ([^;]*);'
    regex_flag: 'i'
    device_replacement: 'A $1 $2'
";

/// Reads and writes of every kind; what it makes of an event follows from the event.
const SCRIPT: &str = r#"
function process(event, config, headers) {
  const title = event.getPage_title();
  if (title === "drop") event.drop();
  if (title === "throw") throw new Error(title);
  event.setUser_id(String(headers.length) + "\t" + Math.random());
  event.setSe_value(event.getSe_value());
  if (event.getContexts() !== null) event.setContexts(event.getContexts());
  if (event.getUnstruct_event() !== null) event.setUnstruct_event(event.getUnstruct_event());
  return [{
    schema: "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
    data: { targetUrl: event.getPage_url(), elementId: title === "odd" ? 1 : "x" },
  }];
}
"#;

fn configs() -> Vec<Config> {
    let config = |key: &str, more: Value| {
        let mut data = json!({"vendor": "", "name": "", "enabled": true});
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        let schema = format!("iglu:com.snowplowanalytics.{key}");
        let file = format!("{}.json", key.replace('/', "-"));
        Config { file, json: json!({"schema": schema, "data": data}) }
    };
    let with = |key: &str, parameters: Value| config(key, json!({"parameters": parameters}));
    let session = json!({
        "field": "contexts",
        "schemaCriterion": "iglu:org.example.snowmelt/basket/jsonschema/1-*-*",
        "jsonPath": "$..*",
    });
    let pii = json!({
        "emitEvent": true,
        "parameters": {
            "pii": [{"pojo": {"field": "user_ipaddress"}}, {"pojo": {"field": "se_label"}}, {"json": session}],
            "strategy": {"pseudonymize": {"hashFunction": "MD5", "salt": ""}},
        },
    });
    let fields = json!({
        "mktMedium": ["a"], "mktSource": ["b"], "mktTerm": ["q"], "mktContent": [], "mktCampaign": ["c", "a"],
    });
    let fingerprint = json!({"hashAlgorithm": "MD5", "excludeParameters": ["e"]});
    let rules = json!({"uri": "mem://", "database": "rules.yaml"});
    vec![
        with("snowplow/anon_ip/jsonschema/1-0-1", json!({"anonOctets": 2, "anonSegments": 3})),
        with("snowplow/campaign_attribution/jsonschema/1-0-1", json!({"fields": fields})),
        with("snowplow/cookie_extractor_config/jsonschema/1-0-0", json!({"cookies": ["sp", "a"]})),
        with("snowplow/event_fingerprint_config/jsonschema/1-0-1", fingerprint),
        with(
            "snowplow/javascript_script_config/jsonschema/1-0-1",
            json!({"script": STANDARD.encode(SCRIPT)}),
        ),
        with("snowplow/referer_parser/jsonschema/2-0-1", json!({"internalDomains": ["a.example"]})),
        with("snowplow/ua_parser_config/jsonschema/1-0-1", rules),
        config("snowplow.enrichments/cross_navigation_config/jsonschema/1-0-0", json!({})),
        with(
            "snowplow.enrichments/http_header_extractor_config/jsonschema/1-0-0",
            json!({"headersPattern": "(?i)(?!cookie).*"}),
        ),
        config("snowplow.enrichments/pii_enrichment_config/jsonschema/2-0-1", pii),
        with("snowplow.enrichments/yauaa_enrichment_config/jsonschema/1-0-0", json!({})),
    ]
}

/// Any bytes as a raw record.
pub(crate) fn record(bytes: &[u8]) {
    check(bytes, &RECIPE);
}

/// Any bytes as the content of a compressed container.
pub(crate) fn container(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_zstd = input.byte() & 1 == 0;
    let content = input.rest();
    let record = if is_zstd {
        zstd::bulk::compress(content, 1).expect("memory takes all that is written")
    } else {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).expect("memory takes all that is written");
        gzip.finish().expect("memory takes all that is written")
    };
    check(&record, &RECIPE);
}

/// Any text as the query string of a pixel, and of a redirect.
pub(crate) fn querystring(bytes: &[u8]) {
    let querystring = Some(String::from_utf8_lossy(bytes).into_owned());
    for path in ["/i", "/r/tp2"] {
        let path = Some(path.to_owned());
        check(
            &CollectorPayload { path, querystring: querystring.clone(), ..sent() }.encode(),
            &RECIPE,
        );
    }
}

/// Any text as the body of a POST of a tracker.
pub(crate) fn tp2(bytes: &[u8]) {
    check(&posted(String::from_utf8_lossy(bytes).into_owned()).encode(), &RECIPE);
}

/// A request whose every field is any text, one to a line.
pub(crate) fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n').map(|line| (!line.is_empty()).then(|| line.to_owned()));
    let mut next = || lines.next().flatten();
    let payload = CollectorPayload {
        path: next(),
        querystring: next(),
        content_type: next(),
        body: next(),
        hostname: next(),
        network_userid: next(),
        user_agent: next(),
        referer_uri: next(),
        ip_address: next().unwrap_or_default(),
        encoding: next().unwrap_or_default(),
        collector: next().unwrap_or_default(),
        timestamp: next().and_then(|text| text.parse().ok()).unwrap_or_default(),
        schema: model::payload::SCHEMA.to_owned(),
        headers: Some(lines.flatten().collect()),
    };
    check(&payload.encode(), &RECIPE);
}

/// Any JSON as a schema (the first line), and any JSON as what it validates (the rest).
pub(crate) fn schema(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (schema, data) = text.split_once('\n').unwrap_or((&text, "{}"));
    let (Ok(Value::Object(mut schema)), Ok(data)) =
        (serde_json::from_str(schema), serde_json::from_str::<Value>(data))
    else {
        return;
    };
    let name = json!({"vendor": "a", "name": "b", "format": "jsonschema", "version": "1-0-0"});
    schema.insert("self".to_owned(), name);
    let event = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        "data": {"schema": "iglu:a/b/jsonschema/1-0-0", "data": data},
    });
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [{"e": "ue", "p": "web", "tv": "t", "ue_pr": event.to_string()}],
    });
    check(&posted(body.to_string()).encode(), &recipe_of([Value::Object(schema)]));
}

fn recipe_of(local: impl IntoIterator<Item = Value>) -> Recipe {
    let keyed = local.into_iter().filter_map(|schema| {
        let part = |name: &str| schema["self"][name].as_str().unwrap_or_default().to_owned();
        let uri = format!(
            "iglu:{}/{}/{}/{}",
            part("vendor"),
            part("name"),
            part("format"),
            part("version")
        );
        Some((SchemaKey::parse(&uri).ok()?, schema))
    });
    let settings = Settings { failed_events: true, ..Settings::default() };
    Recipe::new(Schemas::embedded().with_local(keyed), settings)
}

fn sent() -> CollectorPayload {
    CollectorPayload {
        ip_address: "192.0.2.1".to_owned(),
        timestamp: 1_790_000_000_000,
        encoding: "UTF-8".to_owned(),
        collector: "collector-1".to_owned(),
        schema: model::payload::SCHEMA.to_owned(),
        ..CollectorPayload::default()
    }
}

fn posted(body: String) -> CollectorPayload {
    CollectorPayload {
        path: Some(TP2.to_owned()),
        content_type: Some("application/json".to_owned()),
        body: Some(body),
        ..sent()
    }
}

fn check(bytes: &[u8], recipe: &Recipe) {
    let partition = Partition::of_stream("raw", 3);
    let offset = Offset::from_number(41);
    let outcomes = || {
        let record = RawRecord { partition: &partition, offset, bytes };
        enrich(&record, recipe).expect("with these schemas alone, absence is an answer")
    };
    let first = outcomes();
    let told = first.iter().position(|it| matches!(it, Outcome::Pii(_))).unwrap_or(first.len());
    assert!(told > 0, "a record without an outcome");
    assert!(
        first[told..].iter().all(|it| matches!(it, Outcome::Pii(_))),
        "clear values stand last"
    );
    assert_eq!(outcomes(), first, "the same record, another outcome");
    for (index, outcome) in (0..).zip(first) {
        let position = Position { partition: partition.clone(), offset, index };
        match outcome {
            Outcome::Enriched(event) => {
                assert!(event.event_id.is_some() && event.collector_tstamp.is_some(), "{event:?}");
                check_event(&position, &event);
            }
            Outcome::Failed { bad_row, event } => {
                check_event(&position, &event.stamp(&enrich::processor(), Timestamp(0)));
                check_bad_row(&position, &bad_row);
            }
            Outcome::Bad(bad_row) => check_bad_row(&position, &bad_row),
            Outcome::Dropped { rule } => assert!(!rule.is_empty(), "dropped by no rule"),
            Outcome::Pii(event) => check_event(&position, &event),
        }
    }
}

fn check_event(position: &Position, event: &EnrichedEvent) {
    let line = event.to_tsv();
    assert!(!line.contains(['\n', '\r']), "a line end in {line:?}");
    let read = EnrichedEvent::from_tsv(&line).expect("a line reads back");
    assert_eq!(read.to_tsv(), line);
    // A script may write tabs and line ends, which are spaces in a line and in a row; all else reads back as it was.
    let is_mended =
        |cell: &Cell<'_>| matches!(cell, Cell::Text(text) if text.contains(['\t', '\n', '\r']));
    if !event.cells().iter().any(is_mended) {
        assert_eq!(read, *event);
    }
    let mut rows = EventRows::new();
    rows.push(position, &read);
    rows.push(position, event);
    let rows = rows.finish();
    assert_eq!(rows.slice(0, 1), rows.slice(1, 1), "the two layers make different rows");
}

fn check_bad_row(position: &Position, bad_row: &model::bad_row::BadRow) {
    let text = bad_row.to_json(&enrich::processor(), Timestamp(0));
    let value: Value = serde_json::from_str(&text).expect("a bad row is JSON");
    assert_eq!(value["schema"], bad_row.schema());
    let mut rows = BadRowRows::new();
    rows.push(position, &text);
    assert_eq!(rows.finish().num_rows(), 1);
}
