//! Tables of networks, made into one file of the MaxMind DB form that ip_lookups reads under `asn`.
//!
//! A table has lines `first address,last address,number,organization`. The file is version 2.0 of the form: a binary tree
//! over 128 bits, in which IPv4 stands under `::/96`, with records of 32 bits.

use std::collections::HashMap;
use std::net::IpAddr;

/// Not a network's, and no address leads further.
const EMPTY: u32 = u32::MAX;

/// Marks an entry of a node that is data, with its number behind it.
const DATA: u32 = 1 << 31;

/// What stands between the tree and the data.
const SEPARATOR: usize = 16;

/// The bytes of the file. `built` is what it says of its age, in seconds since 1970.
pub(super) fn database(tables: &[Vec<u8>], built: u64) -> Result<Vec<u8>, String> {
    let mut tree = Tree { nodes: vec![[EMPTY; 2]] };
    let mut data = Data::default();
    for table in tables {
        let text = std::str::from_utf8(table).map_err(|error| error.to_string())?;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let row = row(line).ok_or_else(|| format!("line {} is no network: {line}", at + 1))?;
            let number = data.number_of(row.number, &row.organization);
            ranges(row.first, row.last, |prefix, length| tree.insert(prefix, length, number));
        }
    }
    if data.numbers.is_empty() {
        return Err("there is no network in its tables".to_owned());
    }
    Ok(tree.print(&data, built))
}

struct Row {
    first: u128,
    last: u128,
    number: u32,
    organization: String,
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.splitn(4, ',');
    let mut address = || fields.next()?.parse::<IpAddr>().ok();
    let (first, last) = (address()?, address()?);
    let number = fields.next()?.parse().ok()?;
    let organization = fields.next().unwrap_or_default().trim_end();
    let quoted = organization.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let organization =
        quoted.map_or_else(|| organization.to_owned(), |it| it.replace("\"\"", "\""));
    let (first, last) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (u128::from(u32::from(first)), u128::from(u32::from(last)))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first), u128::from(last)),
        _ => return None,
    };
    (first <= last).then_some(Row { first, last, number, organization })
}

/// Calls with each block that the range consists of, the largest that fit.
fn ranges(first: u128, last: u128, mut block: impl FnMut(u128, u32)) {
    let mut at = first;
    loop {
        let mut bits = at.trailing_zeros().min(127);
        while (at | ((1 << bits) - 1)) > last {
            bits -= 1;
        }
        block(at, 128 - bits);
        let end = at | ((1 << bits) - 1);
        if end >= last {
            return;
        }
        at = end + 1;
    }
}

/// Nodes with two entries each: another node, data or nothing.
struct Tree {
    nodes: Vec<[u32; 2]>,
}

impl Tree {
    /// The last that is inserted counts.
    fn insert(&mut self, prefix: u128, length: u32, data: u32) {
        let side = |depth: u32| usize::from((prefix >> (127 - depth)) & 1 == 1);
        let mut node = 0;
        for depth in 0..length.saturating_sub(1) {
            let entry = self.nodes[node][side(depth)];
            node = if entry < DATA {
                entry as usize
            } else {
                // What was there holds for both halves, as far as it is not replaced.
                let fresh = self.nodes.len();
                self.nodes.push([entry; 2]);
                self.nodes[node][side(depth)] = fresh as u32;
                fresh
            };
        }
        self.nodes[node][side(length - 1)] = DATA | data;
    }

    fn print(&self, data: &Data, built: u64) -> Vec<u8> {
        let count = self.nodes.len() as u32;
        let mut bytes = Vec::with_capacity(self.nodes.len() * 8 + data.bytes.len() + 1024);
        for entry in self.nodes.iter().flatten() {
            let value = match *entry {
                EMPTY => count,
                entry if entry < DATA => entry,
                entry => count + SEPARATOR as u32 + data.offsets[(entry & !DATA) as usize],
            };
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        bytes.extend_from_slice(&[0; SEPARATOR]);
        bytes.extend_from_slice(&data.bytes);
        bytes.extend_from_slice(b"\xAB\xCD\xEFMaxMind.com");
        control(7, 9, &mut bytes);
        for (key, value) in [
            ("binary_format_major_version", Metadata::Short(2)),
            ("binary_format_minor_version", Metadata::Short(0)),
            ("build_epoch", Metadata::Long(built)),
            ("database_type", Metadata::Text("ASN")),
            ("description", Metadata::English("networks by number")),
            ("ip_version", Metadata::Short(6)),
            ("languages", Metadata::NoArray),
            ("node_count", Metadata::Integer(count)),
            ("record_size", Metadata::Short(32)),
        ] {
            text(key, &mut bytes);
            match value {
                Metadata::Short(value) => unsigned(5, value.into(), &mut bytes),
                Metadata::Integer(value) => unsigned(6, value.into(), &mut bytes),
                Metadata::Long(value) => unsigned(9, value, &mut bytes),
                Metadata::Text(value) => text(value, &mut bytes),
                Metadata::English(value) => {
                    control(7, 1, &mut bytes);
                    text("en", &mut bytes);
                    text(value, &mut bytes);
                }
                Metadata::NoArray => control(11, 0, &mut bytes),
            }
        }
        bytes
    }
}

enum Metadata {
    Short(u16),
    Integer(u32),
    Long(u64),
    Text(&'static str),
    /// A map of languages with one.
    English(&'static str),
    NoArray,
}

/// What networks have to say, each once.
#[derive(Default)]
struct Data {
    numbers: HashMap<(u32, String), u32>,
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl Data {
    fn number_of(&mut self, number: u32, organization: &str) -> u32 {
        let next = self.offsets.len() as u32;
        let known = self.numbers.entry((number, organization.to_owned())).or_insert(next);
        if *known == next {
            self.offsets.push(self.bytes.len() as u32);
            control(7, if organization.is_empty() { 1 } else { 2 }, &mut self.bytes);
            text("autonomous_system_number", &mut self.bytes);
            unsigned(6, number.into(), &mut self.bytes);
            if !organization.is_empty() {
                text("autonomous_system_organization", &mut self.bytes);
                text(organization, &mut self.bytes);
            }
        }
        *known
    }
}

/// The byte or bytes in front of a value: its type and its size.
fn control(kind: u8, size: usize, bytes: &mut Vec<u8>) {
    let (short, more): (u8, &[u8]) = match size {
        0..29 => (size as u8, &[]),
        29..285 => (29, &[(size - 29) as u8]),
        285..65821 => (30, &((size - 285) as u16).to_be_bytes()),
        _ => (31, &((size - 65821) as u32).to_be_bytes()[1..]),
    };
    match kind {
        1..8 => bytes.push((kind << 5) | short),
        _ => bytes.extend_from_slice(&[short, kind - 7]),
    }
    bytes.extend_from_slice(more);
}

/// A text of at most 65 kilobytes; what is longer is cut.
fn text(text: &str, bytes: &mut Vec<u8>) {
    let mut end = text.len().min(u16::MAX.into());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    control(2, end, bytes);
    bytes.extend_from_slice(&text.as_bytes()[..end]);
}

fn unsigned(kind: u8, value: u64, bytes: &mut Vec<u8>) {
    let all = value.to_be_bytes();
    let significant = &all[(value.leading_zeros() / 8) as usize..];
    control(kind, significant.len(), bytes);
    bytes.extend_from_slice(significant);
}

#[cfg(test)]
mod tests {
    use maxminddb::Reader;
    use serde_json::{Value, json};

    use super::*;

    fn reader(v4: &str, v6: &str) -> Reader<Vec<u8>> {
        let tables = [v4.as_bytes().to_vec(), v6.as_bytes().to_vec()];
        Reader::from_source(database(&tables, 1_781_000_000).unwrap()).unwrap()
    }

    fn found(reader: &Reader<Vec<u8>>, address: &str) -> Option<Value> {
        reader.lookup(address.parse().unwrap()).unwrap().decode().unwrap()
    }

    #[test]
    fn a_reader_finds_the_networks_of_both_tables() {
        let long = "L".repeat(300);
        let v4 = format!(
            "1.0.0.0,1.0.0.255,13335,\"Cloud, \"\"Inc.\"\"\"\n1.0.128.0,1.0.196.255,23969,TOT\n9.9.9.9,9.9.9.9,19281,{long}\n"
        );
        let reader = reader(&v4, "2001:200::,2001:200:1b9:ffff:ffff:ffff:ffff:ffff,4200000001,\n");
        let of = |number: u64, name: &str| {
            Some(
                json!({"autonomous_system_number": number, "autonomous_system_organization": name}),
            )
        };
        assert_eq!(found(&reader, "1.0.0.0"), of(13335, "Cloud, \"Inc.\""));
        assert_eq!(found(&reader, "1.0.0.255"), of(13335, "Cloud, \"Inc.\""));
        for (address, expected) in [
            ("1.0.1.0", None),
            ("0.255.255.255", None),
            ("1.0.127.255", None),
            ("1.0.128.0", of(23969, "TOT")),
            ("1.0.170.5", of(23969, "TOT")),
            ("1.0.196.255", of(23969, "TOT")),
            ("1.0.197.0", None),
            ("9.9.9.9", of(19281, &long)),
            ("9.9.9.8", None),
            ("2001:200:1b9::1", Some(json!({"autonomous_system_number": 4_200_000_001_u64}))),
            ("2001:200:1ba::", None),
        ] {
            assert_eq!(found(&reader, address), expected, "{address}");
        }
        assert_eq!(reader.metadata().build_epoch, 1_781_000_000);
        reader.verify().unwrap();
    }

    #[test]
    fn every_address_belongs_to_the_range_that_it_lies_in() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut at, mut table, mut all) = (0_u64, String::new(), Vec::new());
        while all.len() < 300 {
            let first = at + random(1000);
            let last = first + random(5000);
            at = last + 1;
            let ip = |it: u64| std::net::Ipv4Addr::from(it as u32);
            table.push_str(&format!("{},{},{},x\n", ip(first), ip(last), all.len()));
            all.push((first, last));
        }
        let reader = reader(&table, "");
        for address in (0..at).step_by(37) {
            let expected = all.iter().position(|&(first, last)| (first..=last).contains(&address));
            let found = found(&reader, &std::net::Ipv4Addr::from(address as u32).to_string());
            let number = found.and_then(|it| it["autonomous_system_number"].as_u64());
            assert_eq!(number, expected.map(|it| it as u64), "{address}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for odd in ["1.0.0.0,1.0.0.255,x,y", "1.0.0.9,1.0.0.1,1,y", "1.0.0.0,::1,1,y", "a"] {
            assert!(database(&[odd.into()], 0).unwrap_err().contains("line 1"), "{odd}");
        }
        assert!(database(&[Vec::new()], 0).is_err());
    }

    #[test]
    fn a_range_may_be_everything() {
        let mut blocks = Vec::new();
        ranges(0, u128::MAX, |prefix, length| blocks.push((prefix, length)));
        assert_eq!(blocks, [(0, 1), (1 << 127, 1)]);
        blocks.clear();
        ranges(5, 5, |prefix, length| blocks.push((prefix, length)));
        assert_eq!(blocks, [(5, 128)]);
    }
}
