//! The acceptance cases of the configured enrichments by name, and the conformance tests of uap-core's rules.
//!
//! They run where the specification's folder lies beside the checkout or is named by `SHARED_FIXTURES`; the vectors that
//! are our own stand beside each enrichment and in `tests/enrichments.rs`. A case sets columns and request as it likes,
//! so that rules show that no request could lead to.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::event::EnrichedEvent;
use model::position::{Offset, Partition, RawRecord};
use model::time::Timestamp;
use serde_json::{Map, Value, json};

use super::{Asset, Assets, Config, Enrichments, Rewritten, Work};
use crate::charset::Charset;
use crate::look_up::{Answers, Asking};
use crate::request::{Parameters, Request};

fn fixtures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("SHARED_FIXTURES").map_or(beside, PathBuf::from);
    let folder = shared.join("fixtures/upstream-adapters");
    if !folder.exists() {
        println!("{} is not here: our own vectors alone were run", folder.display());
        return None;
    }
    Some(folder)
}

/// The enrichments of one configuration file, with the files that it names.
fn configured(json: Value) -> Enrichments {
    let config = Config { file: "case.json".to_owned(), json };
    let read = |address: String| {
        let bytes = std::fs::read(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        (address, Asset::of(Arc::new(bytes)))
    };
    let addresses = Enrichments::addresses(std::slice::from_ref(&config)).unwrap();
    let assets: Assets = addresses.into_iter().map(read).collect();
    Enrichments::new(vec![config], &assets).unwrap()
}

fn request(headers: Vec<String>) -> Request<'static> {
    Request {
        vendor: "com.snowplowanalytics.snowplow".into(),
        version: "tp2".into(),
        querystring: Vec::new(),
        content_type: None,
        body: None,
        collector: "test".into(),
        encoding: "UTF-8".into(),
        charset: Charset::Utf8,
        hostname: None,
        timestamp: Timestamp(0),
        ip_address: "192.0.2.1".to_owned(),
        user_agent: None,
        referer_uri: None,
        headers: headers.into_iter().map(Into::into).collect(),
        network_userid: None,
    }
}

/// The columns that are set and the entities that are made, by the name of their schema.
fn run(enrichments: &Enrichments, input: &Value) -> (Map<String, Value>, Vec<(String, Value)>) {
    let text = |name: &str| input[name].as_str().map(str::to_owned);
    let headers = serde_json::from_value(input["headers"].clone()).unwrap_or_default();
    let request = request(headers);
    let pairs = input["params"].as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| (name.into(), value.as_str().map(Into::into)));
    let parameters = Parameters::of_pairs(pairs.collect());
    let event = EnrichedEvent {
        event: Some("page_view".to_owned()),
        v_collector: Some("test".to_owned()),
        user_ipaddress: text("user_ipaddress"),
        useragent: text("useragent"),
        page_url: text("page_url"),
        page_urlhost: text("page_urlhost"),
        page_referrer: text("page_referrer"),
        true_tstamp: text("derived_tstamp").and_then(|at| Timestamp::from_tsv(&at)),
        ..EnrichedEvent::default()
    };
    let partition = Partition::of_stream("raw", 0);
    let record = RawRecord { partition: &partition, offset: Offset::BEGINNING, bytes: &[] };
    let (answers, asked) = (Answers::default(), RefCell::default());
    let mut work = Work {
        record: &record,
        index: 0,
        json_depth_max: 50,
        look_ups: Asking::new(&answers, &asked),
        request: &request,
        parameters: &parameters,
        event: Box::new(event),
        unstruct: None,
        contexts: Vec::new(),
        derived: Vec::new(),
        page_uri: None,
        referrer_uri: None,
        page_query: OnceCell::new(),
        rewritten: Rewritten::default(),
        pii: None,
        dropped: None,
    };
    let failures = enrichments.run(&mut work);
    assert!(failures.is_empty(), "{failures:?}");
    let columns = work.event.to_bad_row_json();
    let derived = work.derived.into_iter();
    (columns, derived.map(|it| (it.schema.name().to_owned(), it.into_data())).collect())
}

/// A full configuration file from the settings of a case.
fn config(case: &Value, folder: &Path) -> Option<Value> {
    let settings = &case["config"];
    let file = |folder: &Path, name: &str| json!({"uri": folder.to_str(), "database": name});
    let snowplow = "com.snowplowanalytics.snowplow";
    let (vendor, name, version, parameters) = match case["enrichment"].as_str().unwrap() {
        "anon_ip" => (snowplow, "anon_ip", "1-0-1", settings.clone()),
        "event_fingerprint" => (snowplow, "event_fingerprint_config", "1-0-1", settings.clone()),
        "campaign_attribution" => (snowplow, "campaign_attribution", "1-0-1", settings.clone()),
        "cookie_extractor" => (snowplow, "cookie_extractor_config", "1-0-0", settings.clone()),
        "http_header_extractor" => (
            "com.snowplowanalytics.snowplow.enrichments",
            "http_header_extractor_config",
            "1-0-0",
            settings.clone(),
        ),
        "cross_navigation" => (
            "com.snowplowanalytics.snowplow.enrichments",
            "cross_navigation_config",
            "1-0-0",
            Value::Null,
        ),
        "referer_parser" => {
            let mut parameters = settings.clone();
            parameters["uri"] = json!(folder.join("referers"));
            (snowplow, "referer_parser", "2-0-1", parameters)
        }
        "iab" => {
            let mut parameters = settings.clone();
            let lists = folder.join("iab");
            parameters["ipFile"] = file(&lists, "ip_exclude_current_cidr.txt");
            parameters["excludeUseragentFile"] = file(&lists, "exclude_current.txt");
            parameters["includeUseragentFile"] = file(&lists, "include_current.txt");
            (
                "com.snowplowanalytics.snowplow.enrichments",
                "iab_spiders_and_robots_enrichment",
                "1-0-1",
                parameters,
            )
        }
        "ip_lookups" => {
            let geoip = folder.join("geoip");
            let parameters = json!({
                "geo": file(&geoip, "GeoIP2-City-Test.mmdb"),
                "isp": file(&geoip, "GeoIP2-ISP-Test.mmdb"),
                "domain": file(&geoip, "GeoIP2-Domain-Test.mmdb"),
                "connectionType": file(&geoip, "GeoIP2-Connection-Type-Test.mmdb"),
            });
            (snowplow, "ip_lookups", "2-0-1", parameters)
        }
        _ => return None,
    };
    let enabled = settings.get("enabled").and_then(Value::as_bool).unwrap_or(true);
    let mut data = json!({"vendor": vendor, "name": name, "enabled": enabled});
    if !parameters.is_null() {
        data["parameters"] = parameters;
    }
    Some(json!({"schema": format!("iglu:{vendor}/{name}/jsonschema/{version}"), "data": data}))
}

/// The beginnings of the columns that an enrichment fills, and whether its entities are what is expected.
fn fills(enrichment: &str) -> &'static [&'static str] {
    match enrichment {
        "anon_ip" => &["user_ipaddress"],
        "event_fingerprint" => &["event_fingerprint"],
        "campaign_attribution" => &["mkt_"],
        "cross_navigation" => &["refr_domain_userid", "refr_dvce_tstamp"],
        "referer_parser" => &["refr_medium", "refr_source", "refr_term"],
        "ip_lookups" => &["geo_", "ip_"],
        _ => &[],
    }
}

/// What came out, in the form of the case's `expect`.
fn outcome(case: &Value, columns: Map<String, Value>, entities: Vec<(String, Value)>) -> Value {
    let enrichment = case["enrichment"].as_str().unwrap();
    let is_filled = |name: &str| fills(enrichment).iter().any(|start| name.starts_with(start));
    let mut found: Map<String, Value> = columns
        .into_iter()
        .filter(|(name, value)| is_filled(name) && !value.is_null())
        .map(|(name, value)| match value.as_str() {
            // Both forms of a time are the same one.
            Some(at) if name.ends_with("_tstamp") => {
                (name, at.replace('T', " ").trim_end_matches('Z').into())
            }
            _ => (name, value),
        })
        .collect();
    let mut data: Vec<Value> = entities.into_iter().map(|(_, data)| data).collect();
    match enrichment {
        "iab" => return data.pop().unwrap_or_default(),
        "ip_lookups" => found.extend(data.pop().map(|data| ("asn".to_owned(), data))),
        "cross_navigation" => found.extend(data.pop().map(|data| ("context".to_owned(), data))),
        "cookie_extractor" | "http_header_extractor" => {
            found.insert("contexts".to_owned(), data.into());
        }
        _ => {}
    }
    found.into()
}

/// Without the keys that say that nothing is expected, in the order of the names.
fn sorted(value: &Value) -> Value {
    let Value::Object(object) = value else { return value.clone() };
    let mut pairs: Vec<_> = object.iter().filter(|(_, value)| !value.is_null()).collect();
    pairs.sort_by_key(|(name, _)| (*name).clone());
    pairs.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
}

#[test]
fn the_acceptance_cases_hold_by_name() {
    let Some(folder) = fixtures() else { return };
    let text = std::fs::read_to_string(folder.join("cases/enrichments.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let (mut ran, mut others, mut wrong) = (0, 0, Vec::new());
    for case in &cases {
        let Some(config) = config(case, &folder) else {
            others += 1;
            continue;
        };
        ran += 1;
        let (columns, entities) = run(&configured(config), &case["input"]);
        let found = sorted(&outcome(case, columns, entities));
        let expect = sorted(&case["expect"]);
        if found != expect {
            wrong.push(format!("{}: {found}, expected {expect}", case["id"]));
        }
    }
    println!("{} of {ran} cases hold, {others} are of enrichments elsewhere", ran - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 40);
}

#[test]
fn the_referrers_of_the_acceptance_list_that_our_list_knows_are_told() {
    let Some(folder) = fixtures() else { return };
    let text = std::fs::read_to_string(folder.join("referers/referer-uri-tests.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let enrichments = configured(json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-1",
        "data": {"vendor": "com.snowplowanalytics.snowplow", "name": "referer_parser", "enabled": true,
            "parameters": {"internalDomains": ["www.subdomain1.snowplowanalytics.com", "www.subdomain2.snowplowanalytics.com"]}},
    }));
    let (mut not_listed, mut wrong) = (0, Vec::new());
    for case in &cases {
        let input =
            json!({"page_urlhost": "www.snowplowanalytics.com", "page_referrer": case["uri"]});
        let (columns, _) = run(&enrichments, &input);
        let found = ["refr_medium", "refr_source", "refr_term"].map(|name| columns[name].clone());
        let expect = ["medium", "source", "term"].map(|name| case[name].clone());
        if found == ["unknown".into(), Value::Null, Value::Null] && found != expect {
            not_listed += 1;
        } else if found != expect {
            wrong.push(format!("{}: {found:?}, expected {case}", case["spec"]));
        }
    }
    println!("of {} referrers our list does not have {not_listed}", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(not_listed <= 3);
}

/// The tests of uap-core: a list of user agents with what they are. Of a long list only some, unless `ALL_CASES` is set.
fn conformance(file: &str, keys: &[(&str, &str)]) {
    const AT_MOST: usize = 2000;
    let Some(folder) = fixtures() else { return };
    let text = std::fs::read_to_string(folder.join("ua").join(file)).unwrap();
    let documents = yaml_rust2::YamlLoader::load_from_str(&text).unwrap();
    let enrichments = configured(json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/ua_parser_config/jsonschema/1-0-1",
        "data": {"vendor": "com.snowplowanalytics.snowplow", "name": "ua_parser_config", "enabled": true},
    }));
    let (mut ran, mut wrong) = (0, Vec::new());
    let cases = documents[0]["test_cases"].as_vec().unwrap();
    let step = if std::env::var_os("ALL_CASES").is_some() { 1 } else { cases.len() / AT_MOST + 1 };
    for case in cases.iter().step_by(step) {
        let agent = case["user_agent_string"].as_str().unwrap();
        let (_, entities) = run(&enrichments, &json!({"useragent": agent}));
        ran += 1;
        for (key, name) in keys {
            let expect = match &case[*key] {
                yaml_rust2::Yaml::Integer(number) => Some(number.to_string()),
                other => other.as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            };
            let found = entities[0].1[*name].as_str();
            if found != expect.as_deref() {
                wrong.push(format!("{agent}: {name} {found:?}, expected {expect:?}"));
            }
        }
    }
    println!("{file}: {ran} cases, {} values wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 400);
}

#[test]
fn browsers_are_told_as_uap_core_expects() {
    let names =
        [("family", "useragentFamily"), ("major", "useragentMajor"), ("minor", "useragentMinor")];
    conformance("test_ua.yaml", &names);
}

#[test]
fn systems_are_told_as_uap_core_expects() {
    let names = [
        ("family", "osFamily"),
        ("major", "osMajor"),
        ("minor", "osMinor"),
        ("patch", "osPatch"),
        ("patch_minor", "osPatchMinor"),
    ];
    conformance("test_os.yaml", &names);
}

#[test]
fn devices_are_told_as_uap_core_expects() {
    conformance("test_device.yaml", &[("family", "deviceFamily")]);
}

#[test]
fn visitors_are_told_as_yauaa_tells_them_often_enough() {
    // Percent of the samples: what was reached, rounded down, so that a change for the worse is seen.
    const AT_LEAST: [(&str, usize); 14] = [
        ("deviceClass", 95),
        ("deviceName", 75),
        ("deviceBrand", 90),
        ("operatingSystemClass", 97),
        ("operatingSystemName", 95),
        ("operatingSystemVersion", 91),
        ("operatingSystemVersionMajor", 90),
        ("layoutEngineClass", 96),
        ("layoutEngineName", 93),
        ("layoutEngineVersion", 89),
        ("agentClass", 95),
        ("agentName", 92),
        ("agentVersion", 91),
        ("agentVersionMajor", 94),
    ];
    let Some(folder) = fixtures() else { return };
    let text = std::fs::read_to_string(folder.join("yauaa/yauaa-sample-tests.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let enrichments = configured(json!({
        "schema": "iglu:com.snowplowanalytics.snowplow.enrichments/yauaa_enrichment_config/jsonschema/1-0-0",
        "data": {"vendor": "com.snowplowanalytics.snowplow.enrichments", "name": "yauaa_enrichment_config",
            "enabled": true},
    }));
    let mut agree = [0; AT_LEAST.len()];
    let mut false_robots = 0;
    for case in &cases {
        let headers = case["input"].as_object().unwrap();
        let agent = ["user_agent_string", "User-Agent"].iter().find_map(|name| headers.get(*name));
        let lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap()))
            .collect();
        let (_, entities) = run(&enrichments, &json!({"useragent": agent, "headers": lines}));
        let (found, expect) = (&entities[0].1, &case["expected"]);
        for (count, (name, _)) in agree.iter_mut().zip(AT_LEAST) {
            *count += usize::from(found[name] == expect[name]);
        }
        let is_robot = |it: &Value| it["deviceClass"].as_str().unwrap().starts_with("Robot");
        false_robots += usize::from(is_robot(found) && !is_robot(expect));
    }
    for (count, (name, least)) in agree.into_iter().zip(AT_LEAST) {
        let percent = count * 1000 / cases.len();
        println!("{name}: {}.{} %", percent / 10, percent % 10);
        assert!(count * 100 >= least * cases.len(), "{name}: {count} of {}", cases.len());
    }
    println!("{false_robots} of {} are taken for a robot and are none", cases.len());
    assert!(false_robots <= 1);
}
