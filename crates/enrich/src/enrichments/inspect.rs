//! What a file for an enrichment is, told without an event: for whoever wants to know before the server is given it.
//!
//! A file passes if its enrichment can be made with it; what else is said is for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Asset, Assets, Config, Enrichments, ip_lookups};

/// What is to be told of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it is, such as `MaxMind DB, places in the flat layout`.
    pub kind: String,
    /// The enrichment and the parameter that take it, such as `ip_lookups geo`.
    pub used_by: String,
    /// When it was made, in seconds since 1970, where it says so.
    pub built: Option<u64>,
    /// What it says of some well-known addresses, or how much is in it.
    pub samples: Vec<(String, String)>,
}

/// Looks at a file, whose name decides what it is taken for: `.mmdb`, `.yaml`, `.json`, `.csv`, or one of the IAB's
/// three.
///
/// # Errors
/// What is wrong with it, and for a name or a layout that no enrichment reads.
pub fn inspect(name: &str, asset: &Asset) -> Result<Inspection, String> {
    let plain = |kind: &str, used_by: &str, samples: Vec<(String, String)>| Inspection {
        kind: kind.to_owned(),
        used_by: used_by.to_owned(),
        built: None,
        samples,
    };
    if name.ends_with(".mmdb") {
        return ip_lookups::inspect(asset);
    }
    if name.ends_with(".yaml") {
        build(USER_AGENTS, &[("parameters", name)], name, asset)?;
        let samples = ["user_agent_parsers", "os_parsers", "device_parsers"];
        let text = asset.text()?;
        let samples = samples.map(|section| (section.to_owned(), rules(text, section).to_string()));
        return Ok(plain("rules of uap-core", "ua_parser", samples.into()));
    }
    if name.ends_with(".csv") {
        build(NETWORKS, &[("botAsnsFile", name)], name, asset)?;
        let count = asset.text()?.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
        let samples = vec![("networks".to_owned(), count.to_string())];
        return Ok(plain("list of networks", "asn_lookups botAsnsFile", samples));
    }
    if name.ends_with(".json") {
        let value: Value =
            serde_json::from_str(asset.text()?).map_err(|error| error.to_string())?;
        let count = |list: &Value| {
            list.as_array().map_or(0, Vec::len) + list.as_object().map_or(0, serde_json::Map::len)
        };
        if let Some(specs) = value.get("eventSpecs") {
            build(EVENT_SPECS, &[("parameters", name)], name, asset)?;
            let samples = vec![("specifications".to_owned(), count(specs).to_string())];
            return Ok(plain("specifications of events", "event_spec", samples));
        }
        build(REFERRERS, &[("parameters", name)], name, asset)?;
        let media = value.as_object().into_iter().flatten();
        let samples = media.map(|(medium, sources)| (medium.clone(), count(sources).to_string()));
        return Ok(plain("list of referrers", "referer_parser", samples.collect()));
    }
    let parameter = match name {
        _ if name.ends_with(".txt") && name.starts_with("ip_exclude") => "ipFile",
        _ if name.ends_with(".txt") && name.starts_with("exclude") => "excludeUseragentFile",
        _ if name.ends_with(".txt") && name.starts_with("include") => "includeUseragentFile",
        _ => {
            return Err(
                "no enrichment reads a file of this name: expected .mmdb, .yaml, .json, .csv, or exclude_current.txt, \
                 include_current.txt, ip_exclude_current_cidr.txt"
                    .to_owned(),
            );
        }
    };
    let places = ["ipFile", "excludeUseragentFile", "includeUseragentFile"]
        .map(|place| (place, if place == parameter { name } else { "nothing" }));
    build(ROBOTS, &places, name, asset)?;
    let lines = (*asset.bytes).as_ref().split(|byte| *byte == b'\n');
    let count = lines.filter(|line| !line.trim_ascii().is_empty() && line[0] != b'#').count();
    let samples = vec![("lines".to_owned(), count.to_string())];
    Ok(plain("list in the IAB's form", &format!("iab {parameter}"), samples))
}

const ROBOTS: &str =
    "com.snowplowanalytics.snowplow.enrichments/iab_spiders_and_robots_enrichment/jsonschema/1-0-1";
const USER_AGENTS: &str = "com.snowplowanalytics.snowplow/ua_parser_config/jsonschema/1-0-1";
const REFERRERS: &str = "com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0";
const NETWORKS: &str = "com.snowplowanalytics.snowplow.enrichments/asn_lookups/jsonschema/1-0-0";
const EVENT_SPECS: &str =
    "com.snowplowanalytics.snowplow.enrichments/event_spec_enrichment_config/jsonschema/1-0-0";

/// Makes the enrichment with a configuration that names the file at these places, and an empty one elsewhere.
fn build(schema: &str, places: &[(&str, &str)], name: &str, asset: &Asset) -> Result<(), String> {
    let file = |database: &str| json!({"uri": "file:///a", "database": database});
    let mut parameters = match places {
        [("parameters", database)] => file(database),
        _ => places.iter().map(|(place, it)| ((*place).to_owned(), file(it))).collect(),
    };
    if schema == REFERRERS {
        parameters["internalDomains"] = json!([]);
    }
    let data = json!({"vendor": "v", "name": "n", "enabled": true, "parameters": parameters});
    let json = json!({"schema": format!("iglu:{schema}"), "data": data});
    let config = Config { file: name.to_owned(), json };
    let empty: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(Vec::<u8>::new());
    let assets: Assets = BTreeMap::from([
        (format!("file:///a/{name}"), asset.clone()),
        ("file:///a/nothing".to_owned(), Asset::of(empty)),
    ]);
    Enrichments::new(vec![config], &assets).map(|_| ()).map_err(|error| error.message)
}

/// The rules of one section of a YAML file.
fn rules(text: &str, section: &str) -> usize {
    let heading = format!("{section}:");
    let lines = text.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '-', '#']));
    lines.filter(|line| line.trim_start().starts_with("- regex:")).count()
}

#[cfg(test)]
mod tests {
    use super::super::trial;
    use super::*;

    fn of(name: &str, text: &str) -> Result<Inspection, String> {
        inspect(name, trial::asset("a", text).values().next().unwrap())
    }

    #[test]
    fn files_are_told_by_name_and_content() {
        for (name, text, used_by, samples) in [
            (
                "regexes.yaml",
                "user_agent_parsers:\n  - regex: '(a)'\n  # - regex\n  - regex: 'b'\nos_parsers:\n  - regex: 'c'\ndevice_parsers: []\n",
                "ua_parser",
                "user_agent_parsers 2, os_parsers 1, device_parsers 0",
            ),
            (
                "referers.json",
                r#"{"search": {"A": {"domains": ["a.example"]}}, "email": {}}"#,
                "referer_parser",
                "search 1, email 0",
            ),
            (
                "asns.csv",
                "number,name\n16509,\"Cloud\"\n\n",
                "asn_lookups botAsnsFile",
                "networks 1",
            ),
            ("specs.json", r#"{"eventSpecs": []}"#, "event_spec", "specifications 0"),
            ("exclude_current.txt", "# a\nbot|1||1|2|0\n", "iab excludeUseragentFile", "lines 1"),
            ("include_current.txt", "mozilla|1|1\n", "iab includeUseragentFile", "lines 1"),
            ("ip_exclude_current_cidr.txt", "192.0.2.0/24\n", "iab ipFile", "lines 1"),
        ] {
            let found = of(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.used_by, used_by);
            let said: Vec<String> = found.samples.iter().map(|(a, b)| format!("{a} {b}")).collect();
            assert_eq!(said.join(", "), samples, "{name}");
        }
    }

    #[test]
    fn what_no_enrichment_reads_is_refused() {
        for (name, text) in [
            ("a.mmdb", "no database"),
            ("regexes.yaml", "user_agent_parsers: 7"),
            ("referers.json", "[]"),
            ("referers.json", "{"),
            ("asns.csv", "number\nx"),
            ("LICENSE", ""),
            ("other.txt", ""),
        ] {
            assert!(of(name, text).is_err(), "{name}");
        }
    }
}
