//! Browser, operating system and device by the rules of uap-core. Snowplow: `enrichments.md` 5.
//!
//! The rules are a file of that project's form, or else the ones that are built in (`data/uap-core`). What a user agent
//! leads to is remembered, since most events have one that was seen before.

use std::sync::{Arc, LazyLock};

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use regex::bytes::Captures;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::cache::Cache;
use super::rule_set::{Pattern, RuleSet};
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::entity;

pub(super) const KIND: Kind = Kind {
    name: "ua_parser_config",
    criterion: "iglu:com.snowplowanalytics.snowplow/ua_parser_config/jsonschema/1-0-*",
    schema: include_str!("ua_parser.schema.json"),
    identifier: "ua-parser",
    many: false,
    assets: |data| data.get("parameters").and_then(configured::located).into_iter().collect(),
    build: |data, assets| {
        let known = match data.get("parameters").and_then(configured::located) {
            Some(address) => Arc::new(Known::of(read(&address, assets)?)),
            None => Arc::clone(&BUILT_IN),
        };
        Ok(Box::new(UaParser { known, schema: configured::schema_key(ENTITY) }))
    },
};

const ENTITY: &str = "iglu:com.snowplowanalytics.snowplow/ua_parser_context/jsonschema/1-0-0";

/// How many user agents are remembered.
const USER_AGENTS: usize = 10_000;

/// The rules that are used where a configuration names no file. All recipes share them.
static BUILT_IN: LazyLock<Arc<Known>> = LazyLock::new(|| {
    let rules = Rules::read(include_str!("../../data/uap-core/regexes.yaml"));
    Arc::new(Known::of(rules.expect("the built-in rules can be read")))
});

#[derive(Debug)]
struct UaParser {
    known: Arc<Known>,
    schema: SchemaKey,
}

/// Rules, and what they have led to.
#[derive(Debug)]
struct Known {
    rules: Rules,
    entities: Cache<Arc<entity::Known>>,
}

impl Known {
    fn of(rules: Rules) -> Known {
        Known { rules, entities: Cache::new(USER_AGENTS) }
    }
}

impl Enrichment for UaParser {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let Some(text) = work.event.useragent.as_deref() else { return Ok(()) };
        let Known { rules, entities } = &*self.known;
        let entity = entities.get_or(text, || Arc::new(entity::Known::new(rules.entity(text))));
        work.derive_known(self.schema.clone(), entity);
        Ok(())
    }
}

/// The three lists of a rules file.
#[derive(Debug)]
struct Rules {
    agents: List,
    systems: List,
    devices: List,
}

/// A list of rules, of which the first that matches counts.
#[derive(Debug)]
struct List {
    patterns: RuleSet,
    /// What a rule puts in place of its groups, by the keys that its list knows.
    replacements: Vec<[Option<String>; 4]>,
}

/// The rules of a file.
fn read(address: &str, assets: &Assets) -> Result<Rules, String> {
    let in_file = |error| format!("{address}: {error}");
    let rules = Rules::read(configured::asset(assets, address)?.text()?).map_err(in_file)?;
    // The built-in ones are compiled as they are needed: a test has tried them all.
    for list in [&rules.agents, &rules.systems, &rules.devices] {
        list.patterns.compile().map_err(in_file)?;
    }
    Ok(rules)
}

impl Rules {
    fn read(text: &str) -> Result<Rules, String> {
        let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
        let file = documents.first().ok_or("no rules in it")?;
        let versions = ["v1_replacement", "v2_replacement", "v3_replacement"];
        let os = ["os_v1_replacement", "os_v2_replacement", "os_v3_replacement"];
        Ok(Rules {
            agents: List::read(file, "user_agent_parsers", "family_replacement", versions)?,
            systems: List::read(file, "os_parsers", "os_replacement", os)?,
            devices: List::read(file, "device_parsers", "device_replacement", [""; 3])?,
        })
    }

    fn entity(&self, text: &str) -> Value {
        let other = || ("Other".to_owned(), Default::default());
        let (agent, [major, minor, patch, _]) =
            self.agents.patterns.first(text, |at, it| self.agent(at, it)).unwrap_or_else(other);
        let (os, [os_major, os_minor, os_patch, os_patch_minor]) =
            self.systems.patterns.first(text, |at, it| self.system(at, it)).unwrap_or_else(other);
        let device = self.devices.patterns.first(text, |at, it| self.device(at, it));
        json!({
            "useragentFamily": agent,
            "useragentMajor": major,
            "useragentMinor": minor,
            "useragentPatch": patch,
            "useragentVersion": version(&agent, [&major, &minor, &patch, &None]),
            "osFamily": os,
            "osMajor": os_major,
            "osMinor": os_minor,
            "osPatch": os_patch,
            "osPatchMinor": os_patch_minor,
            "osVersion": version(&os, [&os_major, &os_minor, &os_patch, &os_patch_minor]),
            "deviceFamily": device.as_deref().unwrap_or("Other"),
        })
    }

    fn agent(&self, at: usize, groups: &Captures<'_>) -> Option<Named> {
        let [family, major, minor, patch] = &self.agents.replacements[at];
        let family = match family {
            Some(text) => Some(fill(text, groups, 1)),
            None => group(groups, 1),
        }?;
        let major = major.clone().or_else(|| group(groups, 2));
        let patch = match (patch, minor) {
            (Some(patch), _) => Some(patch.clone()),
            (None, Some(_)) => None,
            (None, None) => group(groups, 4),
        };
        let minor = minor.clone().or_else(|| group(groups, 3));
        Some((family, [major, minor, patch, None]))
    }

    fn system(&self, at: usize, groups: &Captures<'_>) -> Option<Named> {
        let [family, versions @ ..] = &self.systems.replacements[at];
        let family = match family {
            Some(text) => Some(fill(text, groups, 1)),
            None => group(groups, 1),
        }?;
        let mut place = 1;
        let [major, minor, patch] = versions.each_ref().map(|replacement| {
            place += 1;
            match replacement {
                Some(text) => some(fill(text, groups, 9)),
                None => group(groups, place),
            }
        });
        Some((family, [major, minor, patch, group(groups, 5)]))
    }

    fn device(&self, at: usize, groups: &Captures<'_>) -> Option<String> {
        match &self.devices.replacements[at][0] {
            Some(text) => some(fill(text, groups, 9).trim().to_owned()),
            None => group(groups, 1),
        }
    }
}

/// A family and up to four parts of a version.
type Named = (String, [Option<String>; 4]);

impl List {
    fn read(file: &Yaml, name: &str, first: &str, others: [&str; 3]) -> Result<List, String> {
        let rules = file[name].as_vec().ok_or_else(|| format!("no list `{name}`"))?;
        let mut patterns = Vec::with_capacity(rules.len());
        let mut replacements = Vec::with_capacity(rules.len());
        for (at, rule) in rules.iter().enumerate() {
            let text = rule["regex"].as_str();
            let text = text.ok_or_else(|| format!("rule {at} of `{name}` has no `regex`"))?;
            let ignore_case = rule["regex_flag"].as_str() == Some("i");
            patterns.push(Pattern { text: text.to_owned(), ignore_case });
            let [a, b, c] = others;
            replacements.push([first, a, b, c].map(|key| scalar(&rule[key])));
        }
        let patterns = RuleSet::new(patterns).map_err(|error| format!("`{name}`: {error}"))?;
        Ok(List { patterns, replacements })
    }
}

/// A number without quotes is a text all the same.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A group that took part and is not empty.
fn group(groups: &Captures<'_>, at: usize) -> Option<String> {
    some(String::from_utf8_lossy(groups.get(at)?.as_bytes()).into_owned())
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Puts the groups up to `last` in place of `$1` and so on; one that is not there is empty.
fn fill(text: &str, groups: &Captures<'_>, last: u32) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        let digit = after.chars().next().and_then(|it| it.to_digit(10));
        match digit.filter(|digit| (1..=last).contains(digit)) {
            Some(digit) => {
                filled.push_str(&group(groups, digit as usize).unwrap_or_default());
                rest = &after[1..];
            }
            None => {
                filled.push('$');
                rest = after;
            }
        }
    }
    filled + rest
}

/// `Firefox 118.0`.
fn version(family: &str, parts: [&Option<String>; 4]) -> String {
    let mut text = family.to_owned();
    for (at, part) in parts.into_iter().enumerate() {
        if let Some(part) = part {
            text.push(if at == 0 { ' ' } else { '.' });
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_built_in_rules_can_be_compiled() {
        for list in [&BUILT_IN.rules.agents, &BUILT_IN.rules.systems, &BUILT_IN.rules.devices] {
            list.patterns.compile().unwrap();
        }
    }

    #[test]
    fn a_rules_file_is_read_with_its_replacements() {
        let rules = Rules::read(
            r"
user_agent_parsers:
  - regex: '(Fox)/(\d+)\.(\d+)\.?(\d+)?'
    family_replacement: 'Fire$1'
  - regex: 'Old (\w+)'
    v1_replacement: 3
os_parsers:
  - regex: 'Windows (NT) 6\.1'
    os_replacement: 'Windows'
    os_v1_replacement: '7'
device_parsers:
  - regex: 'phone; ([^;]*);'
    regex_flag: 'i'
    device_replacement: 'A $1 $2 '
",
        )
        .unwrap();
        let entity = rules.entity("Fox/118.0 (Windows NT 6.1; PHONE; X1;)");
        assert_eq!(entity["useragentVersion"], "FireFox 118.0");
        assert_eq!(entity["osVersion"], "Windows 7");
        assert_eq!(entity["deviceFamily"], "A X1");
        let entity = rules.entity("Old Browser");
        assert_eq!(
            (&entity["useragentFamily"], &entity["useragentMajor"]),
            (&"Browser".into(), &"3".into())
        );
        let entity = rules.entity("");
        assert_eq!(
            (&entity["osVersion"], &entity["deviceFamily"]),
            (&"Other".into(), &"Other".into())
        );
        assert_eq!(Rules::read("a: 1").unwrap_err(), "no list `user_agent_parsers`");
    }
}
