//! Who the referrer is: medium, source and the words searched for. Snowplow: `enrichments.md` 11.
//!
//! The list of referrers is a file of Snowplow's form, or else our own (`data/referers.json`), which was written for
//! this project. The parts of the referrer's URL are columns of `referrer`.

use std::collections::{BTreeSet, HashMap};

use model::bad_row::EnrichmentError;
use serde::Deserialize;
use serde_json::Value;

use super::{Assets, Enrichment, Kind, Work, configured};
use crate::charset::Charset;
use crate::convert::tsv_safe;
use crate::querystring;
use crate::uri::Uri;

pub(super) const KIND: Kind = Kind {
    name: "referer_parser",
    criterion: "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-*",
    schema: include_str!("referer_parser.schema.json"),
    identifier: "referer-parser",
    many: false,
    assets: |data| data.get("parameters").and_then(configured::located).into_iter().collect(),
    build: |data, assets| Ok(Box::new(RefererParser::new(data, assets)?)),
};

/// The list that is used where a configuration names no file.
const BUILT_IN: &str = include_str!("../../data/referers.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    internal_domains: Vec<String>,
    #[serde(default)]
    referrers: Database,
}

/// Medium, source, and by what both are known. The order is the file's.
type Database = serde_json::Map<String, Value>;

#[derive(Deserialize)]
struct Listed {
    domains: Vec<String>,
    #[serde(default)]
    parameters: Vec<String>,
}

#[derive(Debug)]
struct Referrer {
    medium: String,
    source: String,
    /// The query parameters that hold the words searched for.
    parameters: Vec<String>,
}

#[derive(Debug)]
struct RefererParser {
    internal: BTreeSet<String>,
    referrers: Vec<Referrer>,
    /// Hosts, some with a path behind them, to places in `referrers`.
    index: HashMap<String, usize>,
}

impl RefererParser {
    fn new(data: &Value, assets: &Assets) -> Result<RefererParser, String> {
        let settings: Settings = configured::parameters(data)?;
        let address = data.get("parameters").and_then(configured::located);
        let (name, text) = match &address {
            Some(address) => (address.as_str(), configured::asset(assets, address)?.text()?),
            None => ("the built-in list", BUILT_IN),
        };
        let listed: Database = serde_json::from_str(text)
            .map_err(|error| format!("{name} is no list of referrers: {error}"))?;
        let mut parser = RefererParser {
            internal: settings.internal_domains.iter().map(|it| it.trim().to_owned()).collect(),
            referrers: Vec::new(),
            index: HashMap::new(),
        };
        parser.add(listed).map_err(|error| format!("{name}: {error}"))?;
        // What the configuration says wins over the file.
        parser.add(settings.referrers)?;
        Ok(parser)
    }

    fn add(&mut self, database: Database) -> Result<(), String> {
        for (medium, sources) in database {
            let sources: Database = serde_json::from_value(sources)
                .map_err(|error| format!("medium {medium}: {error}"))?;
            for (source, listed) in sources {
                let Listed { domains, parameters } = serde_json::from_value(listed)
                    .map_err(|error| format!("source {source}: {error}"))?;
                self.index.extend(domains.into_iter().map(|it| (it, self.referrers.len())));
                self.referrers.push(Referrer { medium: medium.clone(), source, parameters });
            }
        }
        Ok(())
    }

    /// The paths in turn, the longest first, and for each of them the host and all that it is a part of.
    fn find(&self, host: &str, path: &str) -> Option<&Referrer> {
        let first = path.split('/').find(|segment| !segment.is_empty());
        let first = first.map(|segment| format!("/{segment}"));
        let paths: &[&str] = match &first {
            Some(first) if first == path => &[path, ""],
            Some(first) => &[path, first, ""],
            None => &[""],
        };
        let mut key = String::with_capacity(host.len() + path.len());
        for path in paths {
            let mut host = Some(host);
            while let Some(name) = host {
                key.clear();
                key.push_str(name);
                key.push_str(path);
                if let Some(at) = self.index.get(&key) {
                    return Some(&self.referrers[*at]);
                }
                host = name.split_once('.').map(|(_, parent)| parent);
            }
        }
        None
    }
}

impl Enrichment for RefererParser {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let event = &mut work.event;
        let Some(uri) = &work.referrer_uri else { return Ok(()) };
        let (Some("http" | "https" | "android-app"), Some(host), Some(path)) =
            (uri.scheme(), uri.host(), uri.path())
        else {
            return Ok(());
        };
        if event.page_urlhost.as_deref() == Some(host) || self.internal.contains(host) {
            event.refr_medium = Some("internal".to_owned());
            return Ok(());
        }
        let Some(referrer) = self.find(host, path) else {
            event.refr_medium = Some("unknown".to_owned());
            return Ok(());
        };
        event.refr_medium = tsv_safe(&referrer.medium);
        if referrer.medium != "unknown" && referrer.medium != "internal" {
            event.refr_source = tsv_safe(&referrer.source);
            event.refr_term = term(uri, &referrer.parameters);
        }
        Ok(())
    }
}

/// The value of the first parameter of the query that the list names.
fn term(uri: &Uri, parameters: &[String]) -> Option<String> {
    if parameters.is_empty() {
        return None;
    }
    let pairs = querystring::split(uri.query()?, Charset::Utf8);
    let (_, value) = pairs.into_iter().find(|(name, _)| parameters.iter().any(|it| it == name))?;
    tsv_safe(&value?)
}
