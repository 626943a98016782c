//! Device, operating system, layout engine and agent by our own rules, in the words of YAUAA. Snowplow: `enrichments.md` 6.
//!
//! It is not the YAUAA engine, which is a Java library with rules of its own: how often both agree, field by field, is
//! in the reference page. What a user agent leads to is remembered together with its client hints.

mod browser;
mod device;
mod fields;
mod hints;
mod robot;
mod system;
mod text;

use std::sync::Arc;

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cache::Cache;
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::entity::Known;
use hints::Hints;

pub(super) const KIND: Kind = Kind {
    name: "yauaa_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/yauaa_enrichment_config/jsonschema/1-0-*",
    schema: include_str!("../yauaa.schema.json"),
    identifier: "yauaa",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let Settings { cache_size } = configured::parameters(data)?;
        let entries = usize::try_from(cache_size).unwrap_or_default().clamp(1, USER_AGENTS_MAX);
        Ok(Box::new(Yauaa { schema: configured::schema_key(ENTITY), known: Cache::new(entries) }))
    },
};

/// The entity that `bot_detection` reads.
pub(super) const ENTITY: &str = "iglu:nl.basjes/yauaa_context/jsonschema/1-0-5";

/// How many user agents may be remembered.
const USER_AGENTS_MAX: usize = 100_000;

/// The longest value of a field, in characters: what every field's schema allows.
const VALUE_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    cache_size: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { cache_size: 10_000 }
    }
}

#[derive(Debug)]
struct Yauaa {
    schema: SchemaKey,
    known: Cache<Arc<Known>>,
}

impl Enrichment for Yauaa {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let agent = work.event.useragent.as_deref().unwrap_or_default();
        let known = |hints: &Hints| Arc::new(Known::new(entity(agent, hints)));
        let hints = || work.request.headers.iter().map(|it| &**it).filter(|it| is_hint(it));
        let entity = match hints().next() {
            None => self.known.get_or(agent, || known(&Hints::default())),
            Some(_) => {
                let all: Vec<&str> = std::iter::once(agent).chain(hints()).collect();
                let make = || known(&Hints::of(hints()));
                self.known.get_or(&all.join("\n"), make)
            }
        };
        work.derive_known(self.schema.clone(), entity);
        Ok(())
    }
}

fn is_hint(header: &str) -> bool {
    const START: &str = "sec-ch-ua";
    header.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
}

fn entity(agent: &str, hints: &Hints) -> Value {
    if agent.trim().is_empty() {
        return json!({"deviceClass": "Unknown"});
    }
    let short = |value: String| match value.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => value[..end].to_owned(),
        None => value,
    };
    let fields = fields::analyse(agent, hints).into_iter();
    Value::Object(
        fields.map(|(name, value)| (name.to_owned(), short(value).into())).collect::<Map<_, _>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(agent: &str, hints: &[&str], expect: &[(&str, &str)]) {
        let found = entity(agent, &Hints::of(hints.iter().copied()));
        for (name, value) in expect {
            assert_eq!(found[*name], *value, "{name} of {agent}: {found}");
        }
    }

    #[test]
    fn browsers_are_told() {
        check(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/83.0.4103.97 Safari/537.36",
            &[],
            &[
                ("deviceClass", "Desktop"),
                ("operatingSystemNameVersion", "Linux ??"),
                ("layoutEngineNameVersion", "Blink 83.0"),
                ("agentNameVersionMajor", "Chrome 83"),
                ("agentInformationEmail", "Unknown"),
                ("webviewAppNameVersion", "Unknown ??"),
            ],
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
             Version/17.5 Mobile/15E148 Safari/604.1",
            &[],
            &[
                ("deviceClass", "Phone"),
                ("deviceName", "Apple iPhone"),
                ("operatingSystemNameVersionMajor", "iOS 17"),
                ("agentNameVersion", "Safari 17.5"),
            ],
        );
        check(
            "Mozilla/5.0 (Linux; Android 9; SM-A705FN Build/PPR1; wv) AppleWebKit/537.36 (KHTML, like Gecko) \
             Version/4.0 Chrome/73.0.3683.90 Mobile Safari/537.36",
            &[],
            &[
                ("deviceBrand", "Samsung"),
                ("agentClass", "Browser Webview"),
                ("agentName", "Chrome Webview"),
            ],
        );
    }

    #[test]
    fn client_hints_tell_what_the_user_agent_hides() {
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Mobile Safari/537.36",
            &[
                "Sec-CH-UA: \"Not_A Brand\";v=\"99\", \"Google Chrome\";v=\"109\", \"Chromium\";v=\"109\"",
                "sec-ch-ua-full-version-list: \"Not_A Brand\";v=\"99.0.0.0\", \"Google Chrome\";v=\"109.0.5414.86\"",
                "Sec-CH-UA-Model: \"Nokia 7.2\"",
                "Sec-CH-UA-Platform: \"Android\"",
                "Sec-CH-UA-Platform-Version: \"11.0.0\"",
            ],
            &[
                ("deviceName", "Nokia 7.2"),
                ("operatingSystemVersion", "11.0.0"),
                ("agentVersion", "109.0.5414.86"),
            ],
        );
    }

    #[test]
    fn robots_are_told_and_people_are_not_taken_for_one() {
        check(
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            &[],
            &[
                ("deviceClass", "Robot"),
                ("agentName", "Googlebot"),
                ("operatingSystemName", "Google Cloud"),
            ],
        );
        check(
            "Mozilla/5.0 (Linux; Android 7.0; CUBOT NOTE Plus) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/80.0.3987.99 Mobile Safari/537.36",
            &[],
            &[("deviceClass", "Phone"), ("agentClass", "Browser")],
        );
    }

    #[test]
    fn robots_that_only_give_their_name_are_told() {
        for (agent, name, version) in [
            ("Mozilla/5.0 (compatible; fetch-all/2.0)", "Fetch-All", "2.0"),
            (
                "Mozilla/5.0 (compatible; Link Reader; https://links.example/help)",
                "Link Reader",
                "??",
            ),
            ("renewer/1.4 (https://tools.example/renewer)", "Renewer", "1.4"),
            (
                "AppEngine-Google; (+http://code.google.com/appengine; appid: s~news-mirror)",
                "News-Mirror",
                "??",
            ),
        ] {
            let expect = [("agentClass", "Robot"), ("agentName", name), ("agentVersion", version)];
            check(agent, &[], &expect);
        }
        check(
            "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2)",
            &[],
            &[("agentClass", "Browser"), ("agentName", "Internet Explorer")],
        );
    }

    #[test]
    fn programs_that_add_their_name_to_a_browsers_are_told() {
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.1.2 Safari/537.36";
        for (agent, class, name, version) in [
            (
                &*format!("{safari} guardian/22.0 Mobile/15E148 Version/17.5 Safari/605.1.15"),
                "Browser",
                "guardian",
                "22.0",
            ),
            (
                &format!("{safari} Version/Acme 18.6 Mobile Safari/605.1.15"),
                "Browser",
                "Acme",
                "18.6",
            ),
            (
                &format!("{safari} Version/17.5 Mobile/15E148 Safari/604.1"),
                "Browser",
                "Safari",
                "17.5",
            ),
            (&format!("{chrome} LBBROWSER"), "Browser", "Liebao Browser", "120.0.1.2"),
            (&format!("{chrome} Foxmail/7.2"), "Email Client", "Foxmail", "7.2"),
            (
                "Mozilla/4.0 (compatible; MSIE 5.0; Windows 98) Opera 5.1 [en]",
                "Browser",
                "Opera",
                "5.1",
            ),
            (
                "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Access 16.0.1; Pro)",
                "Special",
                "Microsoft Access",
                "16.0.1",
            ),
            (
                "My Shop/7.1 (com.example.shop; build:1; iOS 15.4) Alamofire/5.4",
                "Mobile App",
                "My Shop",
                "7.1",
            ),
        ] {
            let expect = [("agentClass", class), ("agentName", name), ("agentVersion", version)];
            check(agent, &[], &expect);
        }
    }

    #[test]
    fn nothing_makes_the_rules_panic_or_a_value_too_long() {
        let long = format!(
            "{}/{} ({};{})",
            "x".repeat(500),
            "1.".repeat(300),
            "é".repeat(400),
            "(".repeat(40)
        );
        for agent in ["", " ", "(", ")", "((;;))", "Mozilla/", "/", "é/é", "CPU OS", "$", &long] {
            let found =
                entity(agent, &Hints::of(["Sec-CH-UA: \"", "Sec-CH-UA: é\"a\";v=\"é"].into_iter()));
            let values = found.as_object().unwrap().values();
            assert!(
                values.map(|it| it.as_str().unwrap().chars().count()).all(|it| it <= VALUE_MAX)
            );
        }
        assert_eq!(entity("", &Hints::default()), json!({"deviceClass": "Unknown"}));
    }
}
