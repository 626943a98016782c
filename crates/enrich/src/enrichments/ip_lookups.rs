//! Where an address is, and whose network it belongs to, from files of the MaxMind DB form. Snowplow: `enrichments.md` 3.
//!
//! Two layouts of a city's record are known: MaxMind's own, and a flat one, which other publishers use. Names are never
//! resolved. What is not found leaves the columns empty; no event fails here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use maxminddb::{Reader, WithinOptions};
use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::cache::Cache;
use super::inspect::Inspection;
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
            event.geo_latitude = place.latitude;
            event.geo_longitude = place.longitude;
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
    latitude: Option<f32>,
    longitude: Option<f32>,
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
                // Files of countries have no coordinates, and 0, 0 is a place.
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
            // Snowplow: 0 where a record does not tell.
            latitude: number_at(record, "/location/latitude").or(Some(0.0)),
            longitude: number_at(record, "/location/longitude").or(Some(0.0)),
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

fn number_at(record: &Value, pointer: &str) -> Option<f32> {
    record.pointer(pointer).and_then(Value::as_f64).map(|number| number as f32)
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

/// What a file of the MaxMind DB form has, told by the shape of its records; for [`super::inspect()`].
pub(super) fn inspect(asset: &Asset) -> Result<Inspection, String> {
    let database = Database::open(asset)?;
    let metadata = database.0.metadata();
    let shape = database.shape().ok_or_else(|| {
        format!(
            "none of its first {RECORDS} records has a layout that ip_lookups reads (its type is `{}`)",
            metadata.database_type
        )
    })?;
    let said = |text: &str| {
        let found = address(text).and_then(|address| database.record(address));
        let found = found.map_or_else(|| "nothing".to_owned(), |record| (shape.say)(&record));
        (text.to_owned(), found)
    };
    let mut samples = vec![
        ("type".to_owned(), metadata.database_type.clone()),
        ("IP version".to_owned(), metadata.ip_version.to_string()),
    ];
    samples.extend(SAMPLES.map(said));
    Ok(Inspection {
        kind: format!("MaxMind DB, {}", shape.kind),
        used_by: format!("ip_lookups {}", shape.parameter),
        built: Some(metadata.build_epoch),
        samples,
    })
}

/// Well-known addresses of resolvers, and one of a network in the United Kingdom that MaxMind's own test files have.
const SAMPLES: [&str; 4] = ["8.8.8.8", "9.9.9.9", "81.2.69.142", "2001:4860:4860::8888"];

/// Records that are looked at to tell the layout; some have nothing to say.
const RECORDS: usize = 1000;

/// A layout of records.
struct Shape {
    kind: &'static str,
    parameter: &'static str,
    is_of: fn(&Value) -> bool,
    say: fn(&Value) -> String,
}

const SHAPES: &[Shape] = &[
    Shape {
        kind: "places in MaxMind's layout",
        parameter: "geo",
        is_of: |record| record.pointer("/country/iso_code").is_some(),
        say: |record| Place::of(record).say(),
    },
    Shape {
        kind: "places in the flat layout",
        parameter: "geo",
        is_of: |record| record.get("country_code").is_some_and(Value::is_string),
        say: |record| Place::of(record).say(),
    },
    Shape {
        kind: "providers",
        parameter: "isp",
        is_of: |record| record.get("isp").is_some(),
        say: |record| text_at(record, "/isp").unwrap_or_default(),
    },
    Shape {
        kind: "networks",
        parameter: "asn",
        is_of: |record| record.get("autonomous_system_number").is_some(),
        say: |record| network(record).unwrap_or_default().to_string(),
    },
    Shape {
        kind: "domains",
        parameter: "domain",
        is_of: |record| record.get("domain").is_some(),
        say: |record| text_at(record, "/domain").unwrap_or_default(),
    },
    Shape {
        kind: "kinds of connections",
        parameter: "connectionType",
        is_of: |record| record.get("connection_type").is_some(),
        say: |record| text_at(record, "/connection_type").unwrap_or_default(),
    },
];

impl Place {
    fn say(&self) -> String {
        let parts = [&self.country, &self.region_name, &self.city];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        parts.join(", ")
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

    fn shape(&self) -> Option<&'static Shape> {
        let mut networks = self.0.networks(WithinOptions::default()).ok()?.take(RECORDS);
        networks.find_map(|found| {
            let record: Value = found.ok()?.decode().ok()??;
            SHAPES.iter().find(|shape| (shape.is_of)(&record))
        })
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
        assert_eq!((place.region_name, place.city, place.latitude), (None, None, Some(51.75)));

        let place = Place::of(&json!({
            "country_code": "CH", "state1": "Zurich", "state2": "", "city": "Uster",
            "postcode": "", "timezone": "", "latitude": 47.35, "longitude": 8.72,
        }));
        assert_eq!(place.country.as_deref(), Some("CH"));
        assert_eq!((place.region, place.region_name.as_deref()), (None, Some("Zurich")));
        assert_eq!((place.zipcode, place.timezone, place.longitude), (None, None, Some(8.72)));
        assert_eq!(Place::of(&json!({})).latitude, Some(0.0));
        let country = Place::of(&json!({"country_code": "CH"}));
        assert_eq!((country.country.as_deref(), country.latitude), (Some("CH"), None));
    }
}
