//! Where an address is, and whose network it belongs to, from files of the MaxMind DB form. Snowplow: `enrichments.md` 3.
//!
//! Two layouts of a city's record are known: MaxMind's own, and a flat one, which other publishers use. Names are never
//! resolved. What is not found leaves the columns empty; no event fails here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use maxminddb::Reader;
use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::cache::Cache;
use super::{Asset, Assets, Enrichment, Kind, Work, configured};
use crate::convert::tsv_safe;

pub(super) const KIND: Kind = Kind {
    name: "ip_lookups",
    criterion: "iglu:com.snowplowanalytics.snowplow/ip_lookups/jsonschema/2-0-*",
    schema: include_str!("ip_lookups.schema.json"),
    identifier: "ip-lookups",
    many: false,
    assets: |data| FILES.iter().flat_map(|name| addresses(data, name)).collect(),
    build: |data, assets| Ok(Box::new(IpLookups::new(data, assets)?)),
};

/// The entity that `asn_lookups` marks.
pub(super) const ASN: &str = "iglu:com.snowplowanalytics.snowplow/asn/jsonschema/1-0-1";

/// The parameters that name files.
const FILES: [&str; 5] = ["geo", "isp", "domain", "connectionType", "asn"];

/// How many addresses are remembered.
const ADDRESSES: usize = 20_000;

#[derive(Debug)]
struct IpLookups {
    geo: Vec<Database>,
    isp: Vec<Database>,
    domain: Vec<Database>,
    connection_type: Vec<Database>,
    asn: Vec<Database>,
    schema: SchemaKey,
    known: Cache<Arc<Found>>,
}

/// The files that a parameter names: one object, or for `geo` a list of two (one for IPv4, one for IPv6).
fn addresses(data: &Value, name: &str) -> Vec<String> {
    match data.get("parameters").and_then(|parameters| parameters.get(name)) {
        Some(Value::Array(files)) => files.iter().filter_map(configured::located).collect(),
        Some(file) => configured::located(file).into_iter().collect(),
        None => Vec::new(),
    }
}

impl IpLookups {
    fn new(data: &Value, assets: &Assets) -> Result<IpLookups, String> {
        let open = |name| -> Result<Vec<Database>, String> {
            let open = |address: String| {
                let asset = configured::asset(assets, &address)?;
                Database::open(asset).map_err(|error| {
                    format!("{address} is no database of the MaxMind DB form: {error}")
                })
            };
            addresses(data, name).into_iter().map(open).collect()
        };
        let [geo, isp, domain, connection_type, asn] = FILES.map(open);
        Ok(IpLookups {
            geo: geo?,
            isp: isp?,
            domain: domain?,
            connection_type: connection_type?,
            asn: asn?,
            schema: configured::schema_key(ASN),
            known: Cache::new(ADDRESSES),
        })
    }

    fn find(&self, text: &str) -> Found {
        let Some(address) = address(text) else { return Found::default() };
        let look = |files: &[Database]| {
            files.iter().find_map(|file| file.record(address)).unwrap_or_default()
        };
        let isp = look(&self.isp);
        Found {
            place: Some(look(&self.geo)).filter(|it| !it.is_null()).map(|it| Place::of(&it)),
            isp: text_at(&isp, "/isp"),
            organization: text_at(&isp, "/organization"),
            domain: text_at(&look(&self.domain), "/domain"),
            netspeed: text_at(&look(&self.connection_type), "/connection_type"),
            network: network(&isp).or_else(|| network(&look(&self.asn))),
        }
    }
}

impl Enrichment for IpLookups {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let Some(text) = &work.event.user_ipaddress else { return Ok(()) };
        let found = self.known.get_or(text, || Arc::new(self.find(text)));
        let event = &mut work.event;
        if let Some(place) = &found.place {
            event.geo_country.clone_from(&place.country);
            event.geo_region.clone_from(&place.region);
            event.geo_region_name.clone_from(&place.region_name);
            event.geo_city.clone_from(&place.city);
            event.geo_zipcode.clone_from(&place.zipcode);
            event.geo_timezone.clone_from(&place.timezone);
            event.geo_latitude = Some(place.latitude);
            event.geo_longitude = Some(place.longitude);
        }
        event.ip_isp.clone_from(&found.isp);
        event.ip_organization.clone_from(&found.organization);
        event.ip_domain.clone_from(&found.domain);
        event.ip_netspeed.clone_from(&found.netspeed);
        if let Some(network) = &found.network {
            work.derive(self.schema.clone(), network.clone());
        }
        Ok(())
    }
}

/// What the files say of an address.
#[derive(Debug, Default)]
struct Found {
    place: Option<Place>,
    isp: Option<String>,
    organization: Option<String>,
    domain: Option<String>,
    netspeed: Option<String>,
    network: Option<Value>,
}

#[derive(Debug)]
struct Place {
    country: Option<String>,
    region: Option<String>,
    region_name: Option<String>,
    city: Option<String>,
    zipcode: Option<String>,
    timezone: Option<String>,
    latitude: f32,
    longitude: f32,
}

impl Place {
    fn of(record: &Value) -> Place {
        if record.get("country_code").is_some_and(Value::is_string) {
            return Place {
                country: text_at(record, "/country_code"),
                region: None,
                region_name: text_at(record, "/state1"),
                city: text_at(record, "/city"),
                zipcode: text_at(record, "/postcode"),
                timezone: text_at(record, "/timezone"),
                latitude: number_at(record, "/latitude"),
                longitude: number_at(record, "/longitude"),
            };
        }
        let finest =
            record.get("subdivisions").and_then(Value::as_array).and_then(|all| all.last());
        Place {
            country: text_at(record, "/country/iso_code"),
            region: finest.and_then(|it| text_at(it, "/iso_code")),
            region_name: finest.and_then(|it| text_at(it, "/names/en")),
            city: text_at(record, "/city/names/en"),
            zipcode: text_at(record, "/postal/code"),
            timezone: text_at(record, "/location/time_zone"),
            latitude: number_at(record, "/location/latitude"),
            longitude: number_at(record, "/location/longitude"),
        }
    }
}

/// The data of the entity.
fn network(record: &Value) -> Option<Value> {
    let number = record.get("autonomous_system_number")?.as_u64()?;
    Some(match text_at(record, "/autonomous_system_organization") {
        Some(organization) => json!({"number": number, "organization": organization}),
        None => json!({"number": number}),
    })
}

fn text_at(record: &Value, pointer: &str) -> Option<String> {
    record.pointer(pointer).and_then(Value::as_str).and_then(tsv_safe)
}

/// What a record does not tell is 0, as in Snowplow.
fn number_at(record: &Value, pointer: &str) -> f32 {
    record.pointer(pointer).and_then(Value::as_f64).unwrap_or_default() as f32
}

/// The address of a text that may have a port. Never asks for a name.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            port_ok.then_some(())?;
            address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        None => {
            let (address, port) = text.split_once(':')?;
            is_port(port).then_some(())?;
            address.parse().ok()
        }
    }
}

/// An open file.
struct Database(Reader<Bytes>);

/// The bytes of an asset, as a reader wants them.
struct Bytes(Asset);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        (*self.0.bytes).as_ref()
    }
}

impl Database {
    fn open(asset: &Asset) -> Result<Database, String> {
        let reader =
            Reader::from_source(Bytes(asset.clone())).map_err(|error| error.to_string())?;
        // A tree that cannot be walked shows here.
        let any = IpAddr::from([192, 0, 2, 1]);
        let walked = reader.lookup(any).and_then(|it| it.decode::<IgnoredAny>());
        walked.map_err(|error| error.to_string())?;
        Ok(Database(reader))
    }

    fn record(&self, address: IpAddr) -> Option<Value> {
        self.0.lookup(address).ok()?.decode().ok()?
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port() {
        let parsed = |text| address(text).map(|address| address.to_string());
        assert_eq!(parsed("1.2.3.4").as_deref(), Some("1.2.3.4"));
        assert_eq!(parsed("1.2.3.4:80").as_deref(), Some("1.2.3.4"));
        assert_eq!(parsed("2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(parsed("[2001:db8::1]:80").as_deref(), Some("2001:db8::1"));
        assert_eq!(parsed("[2001:db8::1]").as_deref(), Some("2001:db8::1"));
        for text in ["", "localhost", "1.2.3.4:", "1.2.3.4:99999", "[1.2.3.4]:80", "[2001:db8::1]x"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn both_layouts_of_a_place_are_read() {
        let place = Place::of(&json!({
            "country": {"iso_code": "GB"},
            "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}, {"iso_code": "WBK"}],
            "location": {"latitude": 51.75, "longitude": -1.25},
        }));
        assert_eq!((place.country.as_deref(), place.region.as_deref()), (Some("GB"), Some("WBK")));
        assert_eq!((place.region_name, place.city, place.latitude), (None, None, 51.75));

        let place = Place::of(&json!({
            "country_code": "CH", "state1": "Zurich", "state2": "", "city": "Uster",
            "postcode": "", "timezone": "", "latitude": 47.35, "longitude": 8.72,
        }));
        assert_eq!(place.country.as_deref(), Some("CH"));
        assert_eq!((place.region, place.region_name.as_deref()), (None, Some("Zurich")));
        assert_eq!((place.zipcode, place.timezone, place.longitude), (None, None, 8.72));
        assert_eq!(Place::of(&json!({})).latitude, 0.0);
    }
}
