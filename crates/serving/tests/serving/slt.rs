//! Runs `slt/*.slt`: SQL in, rows out, the same before, on and after a cut.
//!
//! A case is the statement, a line `----`, then one JSON array per row; cases are divided by blank lines, `#` begins a
//! comment. The log behind it is [`crate::world::small_log`].

use std::path::Path;

use serde_json::Value;

use crate::world::*;

#[test]
fn every_case_has_its_rows_wherever_the_cut_stands() {
    let cases = cases();
    assert!(!cases.is_empty());
    let world = World::new(small_log());
    world.see(0, 9);
    world.see_all();
    check(&world, &cases, "everything above the cut");
    world.commit(&cut(&[(0, 6), (1, 5)]));
    check(&world, &cases, "a cut inside of chunks");
    world.lambda.forget();
    world.commit(&cut(&[(0, 9), (1, 8)]));
    check(&world, &cases, "a cut on the end of a chunk");
    world.commit(&world.log.ends());
    world.lambda.forget();
    check(&world, &cases, "everything below the cut");
}

fn check(world: &World, cases: &[Case], where_the_cut_stands: &str) {
    for case in cases {
        let rows = world.rows_of(&case.sql);
        assert_eq!(rows, case.rows, "{where_the_cut_stands}: {}: {}", case.file, case.sql);
    }
}

struct Case {
    file: String,
    sql: String,
    rows: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serving/slt");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for block in lines.split(|line| line.trim().is_empty()).filter(|block| !block.is_empty()) {
            let at = block
                .iter()
                .position(|line| *line == "----")
                .unwrap_or_else(|| panic!("{file}: no ---- in {block:?}"));
            let rows = block[at + 1..].iter().map(|line| serde_json::from_str(line).unwrap());
            cases.push(Case {
                file: file.clone(),
                sql: block[..at].join("\n"),
                rows: rows.collect(),
            });
        }
    }
    cases
}
