//! Everything that reads bytes from outside, each as a function of bytes that panics when a law is broken.
//!
//! The same functions are driven by libFuzzer (`cargo xtask fuzz`, coverage decides what is tried next) and by an
//! ordinary test (`tests/corpus.rs`, which replays the corpus and tries some mutations of it). A new target is a
//! function in `targets` and a row in [`TARGETS`]. Where a format is guarded by a checksum, the target makes the
//! checksum right, so that what lies behind it is reached. Not here: SQL, which has its own test in `serving`.

pub mod mutate;

mod input;

mod targets;

use targets::{entry, hocon, http, keys, manifest, master, payload, recipe, records, segment, tsv};

/// One reader of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Names the folder below `corpus/`, and stands after `cargo xtask fuzz`.
    pub name: &'static str,
    /// Panics when a law is broken.
    pub run: fn(&[u8]),
}

/// All targets, in the order of the flow.
pub const TARGETS: [Target; 18] = [
    Target { name: "hocon", run: hocon::import },
    Target { name: "http", run: http::connection },
    Target { name: "http-settings", run: http::settings },
    Target { name: "payload", run: payload::payload },
    Target { name: "segment", run: segment::segments },
    Target { name: "record", run: records::record },
    Target { name: "container", run: records::container },
    Target { name: "querystring", run: records::querystring },
    Target { name: "tp2", run: records::tp2 },
    Target { name: "request", run: records::request },
    Target { name: "schema", run: records::schema },
    Target { name: "keys", run: keys::keys },
    Target { name: "recipe", run: recipe::recipe },
    Target { name: "tsv", run: tsv::event },
    Target { name: "bad-row", run: tsv::bad_row },
    Target { name: "entry", run: entry::entries },
    Target { name: "master", run: master::file },
    Target { name: "manifest", run: manifest::manifest },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
