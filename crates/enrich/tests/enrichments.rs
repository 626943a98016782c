//! Configured enrichments through the function's own door: which files are refused and how, and what they make of an
//! event.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::sync::Arc;

use enrich::enrichments::{Asset, Assets, Config};
use enrich::iglu::Schemas;
use enrich::{Enrichments, Outcome, Recipe, Settings};
use model::bad_row::BadRow;
use model::event::EnrichedEvent;
use model::payload::{CollectorPayload, SCHEMA};
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};

const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";
const ENRICHMENTS: &str = "com.snowplowanalytics.snowplow.enrichments";

fn config(file: &str, vendor: &str, name: &str, version: &str, parameters: Value) -> Config {
    let mut data = json!({"vendor": vendor, "name": name, "enabled": true});
    if !parameters.is_null() {
        data["parameters"] = parameters;
    }
    let schema = format!("iglu:{vendor}/{name}/jsonschema/{version}");
    Config { file: file.to_owned(), json: json!({"schema": schema, "data": data}) }
}

fn fingerprint() -> Config {
    let parameters = json!({"hashAlgorithm": "MD5", "excludeParameters": ["eid", "stm"]});
    config("fingerprint.json", SNOWPLOW, "event_fingerprint_config", "1-0-0", parameters)
}

fn campaign(fields: Value) -> Config {
    let mut all = json!({"mktMedium": [], "mktSource": [], "mktTerm": [], "mktContent": [], "mktCampaign": []});
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    config("campaign.json", SNOWPLOW, "campaign_attribution", "1-0-1", json!({"fields": all}))
}

fn cross_navigation() -> Config {
    config("cross.json", ENRICHMENTS, "cross_navigation_config", "1-0-0", Value::Null)
}

fn ua_parser() -> Config {
    config("ua.json", SNOWPLOW, "ua_parser_config", "1-0-0", json!({}))
}

fn built(configs: Vec<Config>) -> Enrichments {
    Enrichments::new(configs, &Assets::new()).unwrap()
}

fn refused(configs: Vec<Config>) -> String {
    Enrichments::new(configs, &Assets::new()).unwrap_err().to_string()
}

fn recipe(configs: Vec<Config>) -> Recipe {
    Recipe::new(Schemas::embedded(), Settings::default()).with_enrichments(built(configs))
}

/// What becomes of one page view with this query string and these headers.
fn outcome(recipe: &Recipe, query: &str, headers: &[&str]) -> Outcome {
    let payload = CollectorPayload {
        path: Some("/i".to_owned()),
        querystring: Some(format!("e=pv&p=web&tv=js-4.6.0&{query}")),
        ip_address: "192.0.2.1".to_owned(),
        timestamp: 1_763_990_000_300,
        encoding: "UTF-8".to_owned(),
        collector: "test".to_owned(),
        user_agent: Some(
            "Mozilla/5.0 (X11; Linux x86_64; rv:118.0) Gecko/20100101 Firefox/118.0".to_owned(),
        ),
        headers: Some(headers.iter().map(|header| (*header).to_owned()).collect()),
        schema: SCHEMA.to_owned(),
        ..CollectorPayload::default()
    };
    let partition = Partition::of_stream("raw", 0);
    let bytes = payload.encode();
    let record = RawRecord { partition: &partition, offset: Offset::from_number(0), bytes: &bytes };
    let mut outcomes = enrich::enrich(&record, recipe).unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn event(recipe: &Recipe, query: &str, headers: &[&str]) -> EnrichedEvent {
    match outcome(recipe, query, headers) {
        Outcome::Enriched(event) => *event,
        other => panic!("{other:?}"),
    }
}

/// The data of the entities that the steps added, under the names of their schemas.
fn derived(event: &EnrichedEvent) -> Vec<(String, Value)> {
    let Some(text) = &event.derived_contexts else { return Vec::new() };
    let wrapped: Value = serde_json::from_str(text).unwrap();
    let entities = wrapped["data"].as_array().unwrap().iter();
    let named = |entity: &Value| {
        let schema = entity["schema"].as_str().unwrap();
        (schema.split('/').nth(1).unwrap().to_owned(), entity["data"].clone())
    };
    entities.map(named).collect()
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_file_and_the_way_out() {
    let file = |json| vec![Config { file: "a.json".to_owned(), json }];
    assert_eq!(
        refused(file(json!({"vendor": "x"}))),
        "enrichment a.json: not a self-describing JSON: it needs `schema` and `data`"
    );
    let mut other_model = fingerprint();
    other_model.json["schema"] =
        json!("iglu:com.snowplowanalytics.snowplow/event_fingerprint_config/jsonschema/2-0-0");
    assert_eq!(
        refused(vec![other_model]),
        "enrichment fingerprint.json: Schema key \
         iglu:com.snowplowanalytics.snowplow/event_fingerprint_config/jsonschema/2-0-0 is not supported, use one like \
         iglu:com.snowplowanalytics.snowplow/event_fingerprint_config/jsonschema/1-0-*"
    );
    let mut wrong = fingerprint();
    wrong.json["data"]["parameters"]["hashAlgorithm"] = json!("CRC32");
    let error = refused(vec![wrong]);
    assert!(error.starts_with("enrichment fingerprint.json: iglu:"), "{error}");
    assert!(error.contains("/parameters/hashAlgorithm") && error.contains("CRC32"), "{error}");
    let mut again = fingerprint();
    again.file = "other.json".to_owned();
    assert_eq!(
        refused(vec![fingerprint(), again]),
        "enrichment other.json: another file configures event_fingerprint_config too, remove one"
    );
    let referers =
        json!({"internalDomains": [], "uri": "file:///lists", "database": "referers.json"});
    let referers = config("r.json", SNOWPLOW, "referer_parser", "2-0-0", referers);
    assert_eq!(
        Enrichments::addresses(std::slice::from_ref(&referers)).unwrap(),
        ["file:///lists/referers.json"]
    );
    assert_eq!(
        refused(vec![referers.clone()]),
        "enrichment r.json: its file file:///lists/referers.json is missing"
    );
    let broken = Asset::of(Arc::new(b"search: Google".to_vec()));
    let assets = [("file:///lists/referers.json".to_owned(), broken)].into();
    let error = Enrichments::new(vec![referers], &assets).unwrap_err().to_string();
    assert!(
        error.contains("r.json: file:///lists/referers.json is no list of referrers"),
        "{error}"
    );
    let pattern = json!({"headersPattern": "("});
    let error = refused(vec![config(
        "h.json",
        ENRICHMENTS,
        "http_header_extractor_config",
        "1-0-0",
        pattern,
    )]);
    assert!(
        error.starts_with("enrichment h.json: headersPattern is no regular expression"),
        "{error}"
    );
}

#[test]
fn a_disabled_configuration_is_left_out_before_its_parameters_are_read() {
    let mut off = fingerprint();
    off.json["data"]["enabled"] = json!(false);
    off.json["data"]["parameters"] = json!("nonsense");
    let enrichments = built(vec![off]);
    assert!(enrichments.configs().is_empty() && enrichments.warnings().is_empty());
}

#[test]
fn unknown_enrichments_and_those_that_are_not_made_are_left_out_with_a_warning() {
    let unknown = config("u.json", "com.acme", "horoscope", "1-0-0", json!({}));
    let weather = config("w.json", ENRICHMENTS, "weather_enrichment_config", "1-0-0", json!({}));
    let utils = config("z.json", SNOWPLOW, "user_agent_utils_config", "1-0-0", Value::Null);
    let mut off = unknown.clone();
    off.json["data"]["enabled"] = json!(false);
    let enrichments = built(vec![utils, weather, unknown, off, fingerprint()]);
    let files: Vec<&str> = enrichments.configs().iter().map(|it| it.file.as_str()).collect();
    assert_eq!(files, ["fingerprint.json"]);
    let warnings = enrichments.warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[0], "u.json: horoscope is left out: no enrichment has this name");
    assert!(warnings[1].starts_with("w.json: weather_enrichment_config is left out: "));
    assert!(
        warnings[2].contains("use ua_parser_config or yauaa_enrichment_config"),
        "{warnings:?}"
    );
}

#[test]
fn a_recipe_with_enrichments_reads_back_with_its_digest_and_its_files() {
    let list = br#"{"search": {"Example": {"domains": ["search.example"], "parameters": ["q"]}}}"#;
    let asset = Asset::of(Arc::new(list.to_vec()));
    let digest = asset.digest.clone();
    let parameters =
        json!({"internalDomains": [], "uri": "https://lists.example", "database": "r.json"});
    let configs =
        vec![config("r.json", SNOWPLOW, "referer_parser", "2-0-0", parameters), fingerprint()];
    let assets: Assets = [("https://lists.example/r.json".to_owned(), asset)].into();
    let enrichments = Enrichments::new(configs, &assets).unwrap();
    let plain = Recipe::new(Schemas::embedded(), Settings::default());
    let recipe = plain.with_enrichments(enrichments);
    assert_ne!(recipe.digest(), plain.digest());

    let text = recipe.to_json();
    let read = Recipe::read(&text, |wanted| {
        assert_eq!(wanted, digest);
        Some(Arc::new(list.to_vec()))
    })
    .unwrap();
    assert_eq!((read.digest(), read.to_json()), (recipe.digest(), text.clone()));
    let query = "refr=https%3A%2F%2Fsearch.example%2F%3Fq%3Dskis";
    for recipe in [&recipe, &read] {
        let event = event(recipe, query, &[]);
        assert_eq!(event.refr_source.as_deref(), Some("Example"));
        assert_eq!(event.refr_term.as_deref(), Some("skis"));
        assert!(event.event_fingerprint.is_some());
    }
    let error = Recipe::from_json(&text).unwrap_err().to_string();
    assert_eq!(error, "enrichment r.json: its file https://lists.example/r.json is missing");
    assert_eq!(plain.with_enrichments(Enrichments::none()).digest(), plain.digest());
    assert_eq!(recipe.with_epoch(3).digest(), recipe.digest());
}

#[test]
fn the_order_of_files_and_the_digest_do_not_depend_on_the_order_they_are_given_in() {
    let one = recipe(vec![fingerprint(), campaign(json!({}))]);
    let other = recipe(vec![campaign(json!({})), fingerprint()]);
    assert_eq!(one.digest(), other.digest());
    let changed = recipe(vec![fingerprint(), campaign(json!({"mktTerm": ["term"]}))]);
    assert_ne!(one.digest(), changed.digest());
}

#[test]
fn campaign_columns_come_from_the_first_present_parameter_even_if_it_is_empty() {
    let recipe = recipe(vec![campaign(json!({
        "mktMedium": ["utm_medium", "medium"],
        "mktTerm": ["utm_term", "term"],
        "mktCampaign": ["Campaign"],
        "mktClickId": {"fbclid": "Facebook", "gclid": "Ads"},
    }))]);
    let page = "url=https%3A%2F%2Fshop.example%2F%3Fmedium%3Dm2%26utm_term%3D%26term%3Dt%26campaign%3Dx%26medium%3Dm3\
                %26fbclid%3DF%26gclid%3DG";
    let event = event(&recipe, page, &[]);
    assert_eq!(event.mkt_medium.as_deref(), Some("m3"));
    assert_eq!((event.mkt_term, event.mkt_campaign), (None, None));
    assert_eq!(
        (event.mkt_clickid.as_deref(), event.mkt_network.as_deref()),
        (Some("G"), Some("Ads"))
    );
    let nothing = self::event(&recipe, "url=https%3A%2F%2Fshop.example%2F", &[]);
    assert_eq!((nothing.mkt_medium, nothing.mkt_clickid), (None, None));
}

#[test]
fn a_failure_names_its_enrichment_only_if_that_is_on() {
    let query = "url=https%3A%2F%2Fshop.example%2F%3F_sp%3Dabc.soon";
    for (configs, named) in [(vec![], false), (vec![cross_navigation()], true)] {
        let Outcome::Bad(row) = outcome(&recipe(configs), query, &[]) else { panic!("no bad row") };
        let BadRow::EnrichmentFailures { messages, .. } = *row else { panic!("{row:?}") };
        assert_eq!(messages.len(), 1);
        let expect = named.then(|| {
            let key = "iglu:com.snowplowanalytics.snowplow.enrichments/cross_navigation_config/jsonschema/1-0-0";
            (key.to_owned(), "cross-navigation".to_owned())
        });
        assert_eq!(messages[0].enrichment, expect);
    }
}

#[test]
fn entities_of_later_steps_stand_first_and_all_obey_their_schemas() {
    let cookies = json!({"cookies": ["sp", "q"]});
    let headers = json!({"headersPattern": "(?i)^(?!cookie).*$"});
    let recipe = recipe(vec![
        ua_parser(),
        cross_navigation(),
        config("c.json", SNOWPLOW, "cookie_extractor_config", "1-0-0", cookies),
        config("h.json", ENRICHMENTS, "http_header_extractor_config", "1-0-0", headers),
    ]);
    let query = "url=https%3A%2F%2Fshop.example%2F%3F_sp%3Dabc.1700000000000";
    let headers = ["Cookie: sp=abc; other=1; q=\"z\", sp", "Host: shop.example", "odd line"];
    let event = event(&recipe, query, &headers);
    let derived = derived(&event);
    let names: Vec<&str> = derived.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["http_header", "http_cookie", "http_cookie", "cross_navigation", "ua_parser_context"]
    );
    assert_eq!(derived[0].1, json!({"name": "Host", "value": "shop.example"}));
    assert_eq!(derived[1].1, json!({"name": "q", "value": "\"z\", sp"}));
    assert_eq!(derived[3].1["timestamp"], json!("2023-11-14T22:13:20.000Z"));
    assert_eq!(derived[4].1["useragentVersion"], json!("Firefox 118.0"));
    assert_eq!(derived[4].1["osFamily"], json!("Linux"));
}

#[test]
fn the_address_is_looked_at_before_it_is_hidden() {
    let list = |text: &str| Asset::of(Arc::new(text.as_bytes().to_vec()));
    let file = |name: &str| json!({"uri": "/iab", "database": name});
    let parameters = json!({"ipFile": file("ip"), "excludeUseragentFile": file("ex"), "includeUseragentFile": file("in")});
    let iab =
        config("iab.json", ENRICHMENTS, "iab_spiders_and_robots_enrichment", "1-0-0", parameters);
    let anon = config("a.json", SNOWPLOW, "anon_ip", "1-0-0", json!({"anonOctets": 1}));
    let assets: Assets = [
        ("/iab/ip".to_owned(), list("192.0.2.1/32\n")),
        ("/iab/ex".to_owned(), list("# robots\nspider|1||0|2|0\nold|0||0|1|0|01/31/2020\n")),
        ("/iab/in".to_owned(), list("mozilla|1|1\n")),
    ]
    .into();
    let enrichments = Enrichments::new(vec![anon, iab], &assets).unwrap();
    let recipe =
        Recipe::new(Schemas::embedded(), Settings::default()).with_enrichments(enrichments);
    let found = event(&recipe, "x=1", &[]);
    assert_eq!(found.user_ipaddress.as_deref(), Some("192.0.2.x"));
    assert_eq!(derived(&found)[0].1["reason"], json!("FAILED_IP_EXCLUDE"));
    let agents = [
        ("Mozilla", "BROWSER", "NONE"),
        ("Mozilla+Spider", "ACTIVE_SPIDER_OR_ROBOT", "PAGE_AND_AD_IMPRESSIONS"),
        ("Mozilla+old", "INACTIVE_SPIDER_OR_ROBOT", "AD_IMPRESSIONS"),
        ("curl", "SPIDER_OR_ROBOT", "UNKNOWN"),
    ];
    for (agent, category, impact) in agents {
        let found = event(&recipe, &format!("ip=192.0.2.9&ua={agent}"), &[]);
        let verdict = &derived(&found)[0].1;
        assert_eq!(
            (&verdict["category"], &verdict["primaryImpact"]),
            (&json!(category), &json!(impact)),
            "{agent}"
        );
    }
}

#[test]
fn a_fingerprint_is_over_what_the_tracker_sent_but_for_the_excluded() {
    let recipe = recipe(vec![fingerprint()]);
    let of = |query: &str| event(&recipe, query, &[]).event_fingerprint.unwrap();
    let eid = "eid=6b0e3a8c-2f0e-4d43-9a55-0c1c2f6f9d11";
    let first = of(&format!("{eid}&stm=1&aid=shop"));
    assert_eq!(first.len(), 32);
    assert_eq!(first, of(&format!("aid=shop&{eid}&stm=2")));
    assert_ne!(first, of(&format!("aid=shops&{eid}&stm=2")));
}

#[test]
fn a_robot_is_told_by_any_source_that_is_used() {
    let uses = |yauaa: bool| json!({"useYauaa": yauaa, "useIab": true, "useAsnLookups": true});
    let yauaa =
        config("y.json", ENRICHMENTS, "yauaa_enrichment_config", "1-0-0", json!({"cacheSize": 10}));
    let verdict = |used: bool, agent: &str| {
        let bots =
            config("b.json", ENRICHMENTS, "bot_detection_enrichment_config", "1-0-0", uses(used));
        let found = event(&recipe(vec![yauaa.clone(), bots]), &format!("ua={agent}"), &[]);
        derived(&found)[0].1.clone()
    };
    let robot = "Mozilla/5.0+(compatible%3B+bingbot/2.0%3B+%2Bhttp://www.bing.com/bingbot.htm)";
    assert_eq!(verdict(true, robot), json!({"bot": true, "indicators": ["yauaa"]}));
    assert_eq!(verdict(false, robot), json!({"bot": false, "indicators": []}));
    assert_eq!(verdict(true, "Mozilla/5.0"), json!({"bot": false, "indicators": []}));
}
