//! Golden outcomes: one folder per case under `tests/golden/`.
//!
//! - `record.b64`: the bytes of a raw record, in base64, at offset 0 of `raw/0`;
//! - `good.tsv`: its enriched events, one line each, as they leave the function (no `etl_tstamp`);
//! - `bad.jsonl`: its bad rows, one line each, with the epoch for the failure time, which the function does not know.
//!
//! An empty file is left out. The schemas are those of `testdata/enrich/schemas`. A change of a golden outcome wants a
//! new version of the function; `BLESS=1` writes the files anew.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod local_schemas;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::{Outcome, Recipe, Settings, enrich, processor};
use model::position::{Offset, Partition, RawRecord};
use model::time::Timestamp;

/// The lines of both files.
fn outcomes(record: &[u8], recipe: &Recipe) -> [String; 2] {
    let partition = Partition::of_stream("raw", 0);
    let record = RawRecord { partition: &partition, offset: Offset::BEGINNING, bytes: record };
    let [mut good, mut bad] = [String::new(), String::new()];
    for outcome in enrich(&record, recipe).unwrap() {
        match outcome {
            Outcome::Enriched(event) => good += &(event.to_tsv() + "\n"),
            Outcome::Bad(row) => bad += &(row.to_json(&processor(), Timestamp(0)) + "\n"),
            Outcome::Failed { .. } | Outcome::Dropped { .. } | Outcome::Pii(_) => {
                panic!("not made yet: {outcome:?}")
            }
        }
    }
    [good, bad]
}

fn check(case: &Path, recipe: &Recipe, bless: bool) -> Vec<String> {
    let record = fs::read_to_string(case.join("record.b64")).unwrap();
    let found = outcomes(&STANDARD.decode(record.trim()).unwrap(), recipe);
    let mut wrong = Vec::new();
    for (name, found) in ["good.tsv", "bad.jsonl"].into_iter().zip(found) {
        let file = case.join(name);
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found == expected {
            continue;
        }
        match (bless, found.is_empty()) {
            (true, true) => fs::remove_file(&file).unwrap(),
            (true, false) => fs::write(&file, &found).unwrap(),
            (false, _) => {
                wrong.push(format!("{}\nexpected:\n{expected}found:\n{found}", file.display()))
            }
        }
    }
    wrong
}

#[test]
fn every_golden_record_has_its_outcomes() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schemas = local_schemas::schemas_below(&crate_folder.join("../../testdata/enrich/schemas"));
    let recipe = Recipe::new(schemas, Settings::default());
    let bless = std::env::var_os("BLESS").is_some();
    let entries = fs::read_dir(crate_folder.join("tests/golden")).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(case, &recipe, bless)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
