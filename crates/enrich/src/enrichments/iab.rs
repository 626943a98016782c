//! Whether a visitor is a robot, by lists in the form of the IAB's. Snowplow: `enrichments.md` 7.
//!
//! The lists themselves are sold by the IAB Tech Lab and are not part of this project. A line that was taken out of a
//! list says when; the event's own time decides whether it still counts.

use std::net::IpAddr;

use aho_corasick::AhoCorasick;
use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use model::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Assets, Enrichment, Kind, Work, configured};

pub(super) const KIND: Kind = Kind {
    name: "iab_spiders_and_robots_enrichment",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/iab_spiders_and_robots_enrichment/jsonschema/1-0-*",
    schema: include_str!("iab.schema.json"),
    identifier: "iab-spiders-and-robots",
    many: false,
    assets: |data| FILES.iter().filter_map(|name| configured::file_at(data, name)).collect(),
    build: |data, assets| Ok(Box::new(Iab::new(data, assets)?)),
};

/// The entity that `bot_detection` reads.
pub(super) const ENTITY: &str = "iglu:com.iab.snowplow/spiders_and_robots/jsonschema/1-0-0";

/// The parameters that name files.
const FILES: [&str; 3] = ["ipFile", "excludeUseragentFile", "includeUseragentFile"];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    include_useragents: Vec<String>,
    exclude_useragents: Vec<String>,
}

#[derive(Debug)]
struct Iab {
    own: Settings,
    ips: Vec<Block>,
    include: List<()>,
    exclude: List<Excluded>,
    schema: SchemaKey,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settings")
    }
}

/// The verdict on a visitor: category, reason, impact.
type Verdict = [&'static str; 3];

const BROWSER: Verdict = ["BROWSER", "PASSED_ALL", "NONE"];

impl Iab {
    fn new(data: &Value, assets: &Assets) -> Result<Iab, String> {
        let mut own: Settings = configured::parameters(data)?;
        for text in own.include_useragents.iter_mut().chain(&mut own.exclude_useragents) {
            *text = text.to_lowercase();
        }
        let lines = |name| -> Result<Vec<(String, String)>, String> {
            let address = configured::file_at(data, name).ok_or_else(|| format!("no {name}"))?;
            // The lists are in ISO-8859-1: each byte is a character.
            let bytes = &configured::asset(assets, &address)?.bytes;
            let text: String = (**bytes).as_ref().iter().map(|byte| char::from(*byte)).collect();
            let line = |(at, line): (usize, &str)| {
                (format!("{address}, line {}", at + 1), line.trim().to_owned())
            };
            let is_entry =
                |(_, line): &(String, String)| !line.is_empty() && !line.starts_with('#');
            Ok(text.lines().enumerate().map(line).filter(is_entry).collect())
        };
        let block = |(place, line): &(String, String)| {
            Block::parse(line).ok_or_else(|| format!("{place}: `{line}` is no address or block"))
        };
        let ips = lines("ipFile")?.iter().map(block).collect::<Result<_, _>>()?;
        let include = List::new(&lines("includeUseragentFile")?, |fields| {
            let [_, active, start, inactive_since, ..] = *fields;
            entry(active, start, inactive_since, ())
        })?;
        let exclude = List::new(&lines("excludeUseragentFile")?, |fields| {
            let [_, active, exceptions, _, impact, start, inactive_since] = *fields;
            let impact = match impact {
                "0" => "PAGE_IMPRESSIONS",
                "1" => "AD_IMPRESSIONS",
                "2" => "PAGE_AND_AD_IMPRESSIONS",
                other => return Err(format!("impact `{other}` is not 0, 1 or 2")),
            };
            let exceptions = exceptions.split(',').map(|it| it.trim().to_lowercase());
            let exceptions = exceptions.filter(|it| !it.is_empty()).collect();
            entry(active, start, inactive_since, Excluded { exceptions, impact })
        })?;
        Ok(Iab { own, ips, include, exclude, schema: configured::schema_key(ENTITY) })
    }

    fn verdict(&self, agent: Option<&str>, ip: Option<IpAddr>, at: Timestamp) -> Verdict {
        const ROBOT: &str = "SPIDER_OR_ROBOT";
        let agent = agent.map(str::to_lowercase);
        if let Some(agent) = &agent {
            let names = |list: &[String]| list.iter().any(|it| agent.contains(it.as_str()));
            if names(&self.own.include_useragents) {
                return BROWSER;
            }
            if names(&self.own.exclude_useragents) {
                return [ROBOT, "FAILED_UA_EXCLUDE", "UNKNOWN"];
            }
        }
        if ip.is_some_and(|ip| self.ips.iter().any(|block| block.contains(ip))) {
            return [ROBOT, "FAILED_IP_EXCLUDE", "UNKNOWN"];
        }
        let Some(agent) = &agent else { return BROWSER };
        let is_in_force =
            |entry: &Entry<()>| entry.active || entry.inactive_since.is_some_and(|end| at < end);
        if !self.include.matches(agent).into_iter().any(is_in_force) {
            return [ROBOT, "FAILED_UA_INCLUDE", "UNKNOWN"];
        }
        let excluded = self.exclude.matches(agent).into_iter().find(|entry| {
            let excepted = entry.more.exceptions.iter().any(|it| agent.contains(it.as_str()));
            (entry.active || entry.inactive_since.is_some()) && !excepted
        });
        match excluded {
            Some(entry) => {
                let is_over = entry.inactive_since.is_some_and(|end| at >= end);
                let category =
                    if is_over { "INACTIVE_SPIDER_OR_ROBOT" } else { "ACTIVE_SPIDER_OR_ROBOT" };
                [category, "FAILED_UA_EXCLUDE", entry.more.impact]
            }
            None => BROWSER,
        }
    }
}

impl Enrichment for Iab {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let event = &work.event;
        let agent = event.useragent.as_deref().filter(|text| !text.trim().is_empty());
        let ip = event.user_ipaddress.as_deref().and_then(|text| text.parse().ok());
        let Some(at) = event.derived_tstamp else { return Ok(()) };
        if agent.is_none() && ip.is_none() {
            return Ok(());
        }
        let [category, reason, impact] = self.verdict(agent, ip, at);
        let data = json!({
            "spiderOrRobot": category != "BROWSER",
            "category": category,
            "reason": reason,
            "primaryImpact": impact,
        });
        work.derive(self.schema.clone(), data);
        Ok(())
    }
}

/// A line of a list of user agents.
#[derive(Debug)]
struct Entry<T> {
    active: bool,
    at_start: bool,
    inactive_since: Option<Timestamp>,
    more: T,
}

#[derive(Debug)]
struct Excluded {
    exceptions: Vec<String>,
    impact: &'static str,
}

fn entry<T>(active: &str, start: &str, since: &str, more: T) -> Result<Entry<T>, String> {
    let inactive_since = match since {
        "" => None,
        date => Some(day(date).ok_or_else(|| format!("`{date}` is no date like 12/31/2026"))?),
    };
    Ok(Entry { active: active == "1", at_start: start == "1", inactive_since, more })
}

/// Midnight of a day in the form month, day, year.
fn day(text: &str) -> Option<Timestamp> {
    let mut parts = text.split('/');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    Timestamp::from_tsv(&format!("{year:0>4}-{month:0>2}-{day:0>2} 00:00:00.000"))
}

/// A list of user agents, searched in one pass.
#[derive(Debug)]
struct List<T> {
    patterns: AhoCorasick,
    entries: Vec<Entry<T>>,
}

impl<T> List<T> {
    /// `read` makes an entry of a line's fields; those that are missing are empty.
    fn new(
        lines: &[(String, String)],
        read: impl Fn(&[&str; 7]) -> Result<Entry<T>, String>,
    ) -> Result<List<T>, String> {
        let mut patterns = Vec::new();
        let mut entries = Vec::new();
        for (place, line) in lines {
            let mut fields = line.split('|').map(str::trim);
            let fields: [&str; 7] = std::array::from_fn(|_| fields.next().unwrap_or_default());
            patterns.push(fields[0].to_lowercase());
            entries.push(read(&fields).map_err(|error| format!("{place}: {error}"))?);
        }
        let patterns = AhoCorasick::new(patterns).map_err(|error| error.to_string())?;
        Ok(List { patterns, entries })
    }

    /// The lines whose pattern stands in the text, in the order of the list.
    fn matches(&self, agent: &str) -> Vec<&Entry<T>> {
        let mut found: Vec<usize> = self
            .patterns
            .find_overlapping_iter(agent)
            .filter(|it| it.start() == 0 || !self.entries[it.pattern().as_usize()].at_start)
            .map(|it| it.pattern().as_usize())
            .collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| &self.entries[at]).collect()
    }
}

/// A block of addresses.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    network: IpAddr,
    /// How many bits of the network count.
    bits: u32,
}

impl Block {
    /// `192.0.2.0/24`, or one address.
    fn parse(text: &str) -> Option<Block> {
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().ok()?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Block { network, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_the_addresses_that_share_its_bits() {
        let holds = |block: &str, address: &str| {
            Block::parse(block).unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("217.152.89.225/27", "217.152.89.254"));
        assert!(!holds("217.152.89.225/27", "217.152.90.1"));
        assert!(holds("12.0.0.0/8", "12.255.0.1"));
        assert!(holds("192.168.151.21", "192.168.151.21"));
        assert!(!holds("192.168.151.21", "192.168.151.22"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1"));
        assert!(!holds("2001:db8::/32", "12.0.0.1"));
        assert!(holds("0.0.0.0/0", "9.9.9.9"));
        for text in ["", "x", "1.2.3.4/33", "1.2.3.4/-1"] {
            assert_eq!(Block::parse(text), None, "{text}");
        }
    }
}
