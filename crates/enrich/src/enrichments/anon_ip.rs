//! Hides the end of the visitor's address. Snowplow: `enrichments.md` 4.
//!
//! Only the column `user_ipaddress` changes. Addresses in headers or entities stay.

use std::net::{Ipv4Addr, Ipv6Addr};

use model::bad_row::EnrichmentError;
use serde::Deserialize;

use super::{Assets, Enrichment, Kind, Work, configured};

pub(super) const KIND: Kind = Kind {
    name: "anon_ip",
    criterion: "iglu:com.snowplowanalytics.snowplow/anon_ip/jsonschema/1-0-*",
    schema: include_str!("anon_ip.schema.json"),
    identifier: "anon-ip",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let settings: Settings = configured::parameters(data)?;
        // The schema lets fractions through.
        let octets = settings.anon_octets as usize;
        let segments = settings.anon_segments.map_or(octets, usize::from);
        Ok(Box::new(AnonIp { octets, segments, invalid: settings.anon_invalid }))
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    anon_octets: f64,
    anon_segments: Option<u8>,
    /// Not Snowplow's: what is no address becomes null.
    #[serde(default)]
    anon_invalid: bool,
}

#[derive(Debug)]
struct AnonIp {
    octets: usize,
    segments: usize,
    invalid: bool,
}

impl Enrichment for AnonIp {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let address = work.event.user_ipaddress.take();
        work.event.user_ipaddress = address.and_then(|address| self.hide(&address));
        Ok(())
    }
}

impl AnonIp {
    fn hide(&self, address: &str) -> Option<String> {
        if address.parse::<Ipv4Addr>().is_ok() {
            return Some(self.hide_octets(address));
        }
        if let Ok(parsed) = address.parse::<Ipv6Addr>() {
            return Some(match address.strip_prefix("::FFFF:") {
                Some(inner) if inner.parse::<Ipv4Addr>().is_ok() => {
                    format!("::FFFF:{}", self.hide_octets(inner))
                }
                // Snowplow takes the prefix in small letters for the first of four parts.
                None if address.starts_with("::ffff:") && address.contains('.') => {
                    self.hide_octets(address)
                }
                _ => self.hide_segments(parsed.segments().iter().map(|part| format!("{part:x}"))),
            });
        }
        if self.invalid {
            return None;
        }
        Some(if address.contains('.') || address.is_empty() {
            self.hide_octets(address)
        } else if address.contains(':') {
            self.hide_segments(address.trim_end_matches(':').split(':').map(str::to_owned))
        } else {
            address.to_owned()
        })
    }

    /// As many parts as there are.
    fn hide_octets(&self, address: &str) -> String {
        let hidden = |(at, part)| if at < 4 - self.octets { part } else { "x" };
        let parts: Vec<&str> = address.split('.').enumerate().map(hidden).collect();
        parts.join(".")
    }

    /// Always eight parts.
    fn hide_segments(&self, parts: impl Iterator<Item = String>) -> String {
        let mut kept: Vec<String> = parts.take(8 - self.segments).collect();
        kept.resize(8, "x".to_owned());
        kept.join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(octets: usize, segments: usize, address: &str, expect: &str) {
        let hidden = AnonIp { octets, segments, invalid: false }.hide(address);
        assert_eq!(hidden.as_deref(), Some(expect), "{octets} {segments} {address}");
    }

    #[test]
    fn addresses_lose_their_end() {
        check(1, 1, "198.51.100.9", "198.51.100.x");
        check(2, 2, "198.51.100.9", "198.51.x.x");
        check(4, 4, "198.51.100.9", "x.x.x.x");
        check(2, 4, "2001:db8::1", "2001:db8:0:0:x:x:x:x");
        check(2, 1, "2001:0DB8::00ab:1", "2001:db8:0:0:0:0:ab:x");
        check(2, 8, "2001:db8::1", "x:x:x:x:x:x:x:x");
        check(2, 2, "64:ff9b::198.51.100.9", "64:ff9b:0:0:0:0:x:x");
    }

    #[test]
    fn a_mapped_address_keeps_its_prefix_in_capitals() {
        check(2, 2, "::FFFF:198.51.100.9", "::FFFF:198.51.x.x");
        check(2, 2, "::ffff:198.51.100.9", "::ffff:198.51.x.x");
        check(4, 4, "::ffff:198.51.100.9", "x.x.x.x");
    }

    #[test]
    fn what_is_no_address_is_treated_by_its_parts() {
        check(1, 1, "777.2", "777.2");
        check(3, 3, "777.2", "777.x");
        check(4, 4, "", "x");
        check(2, 6, "a:b:c:d:e::", "a:b:x:x:x:x:x:x");
        check(2, 2, "unknown", "unknown");
        let strict = AnonIp { octets: 2, segments: 2, invalid: true };
        assert_eq!(strict.hide("777.2"), None);
        assert_eq!(strict.hide("198.51.100.9").as_deref(), Some("198.51.x.x"));
    }
}
