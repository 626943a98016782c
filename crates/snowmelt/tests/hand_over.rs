//! A data folder whose recipe in force was made by another version of the enrich function: this binary takes over at the
//! cut, loses nothing, and can take over all of history with a rebuild.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Up, event_id, wait_until};
use sha2::{Digest, Sha256};
use views::catalog::Manifest;

const SETTINGS: [&str; 1] = ["batch.interval=1h"];

#[test]
fn an_upgrade_of_the_function_takes_effect_at_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let up = Up::start(&data_dir, &SETTINGS);
    send(&up, 0..10);
    let iteration = up.batch_run();
    // These lie above the cut: only the speed layer has seen them.
    send(&up, 10..15);
    wait_until("all are visible", || up.rows() == 15);
    assert!(up.terminate().success());

    let older = make_older(&data_dir, iteration);
    let up = Up::start(&data_dir, &SETTINGS);
    assert_eq!(up.rows(), 15);
    let ours = recipe_in_force(&up);
    assert_ne!(ours, older, "{}", up.stderr());
    assert!(up.stderr().contains("was made for function version 0.0.1"), "{}", up.stderr());
    send(&up, 15..20);
    wait_until("all are visible", || up.rows() == 20);
    up.batch_run();
    assert_eq!(up.rows(), 20);
    // What was below the cut is still the older function's.
    let recipes: BTreeSet<String> =
        newest(&data_dir).ledger.into_iter().map(|entry| entry.recipe).collect();
    assert_eq!(recipes, BTreeSet::from([older, ours.clone()]));

    let (status, answer) = up.post_json("/api/v1/batch", &serde_json::json!({"rebuild": true}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(up.rows(), 20);
    let files = newest(&data_dir).files;
    assert!(!files.is_empty() && files.iter().all(|file| file.recipe == ours), "{files:?}");
    assert!(up.terminate().success());
}

fn send(up: &Up, numbers: std::ops::Range<u64>) {
    let ids: Vec<String> = numbers.map(event_id).collect();
    assert_eq!(up.send_ids(&ids), 200);
}

fn recipe_in_force(up: &Up) -> String {
    up.status()["recipe"].as_str().unwrap().to_owned()
}

/// Rewrites the newest manifest as if an older function had made everything so far; its recipe.
fn make_older(data_dir: &Path, iteration: u64) -> String {
    let mut manifest = newest(data_dir);
    assert_eq!(manifest.iteration, iteration);
    let recipe = data_dir.join(format!("recipes/{}.json", manifest.next_recipe));
    let text = std::fs::read_to_string(recipe).unwrap();
    let older = text.replacen(&format!("\"{}\"", enrich::VERSION), "\"0.0.1\"", 1);
    assert_ne!(older, text);
    let digest: String = Sha256::digest(&older).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(data_dir.join(format!("recipes/{digest}.json")), older).unwrap();
    manifest.recipe.clone_from(&digest);
    manifest.next_recipe.clone_from(&digest);
    manifest.files.iter_mut().for_each(|file| file.recipe.clone_from(&digest));
    manifest.ledger.iter_mut().for_each(|entry| entry.recipe.clone_from(&digest));
    std::fs::write(path_of(data_dir, iteration), manifest.encode()).unwrap();
    digest
}

fn newest(data_dir: &Path) -> Manifest {
    let newest = (0..).take_while(|n| path_of(data_dir, *n).exists()).last().unwrap();
    Manifest::decode(&path_of(data_dir, newest), &std::fs::read(path_of(data_dir, newest)).unwrap())
        .unwrap()
}

fn path_of(data_dir: &Path, iteration: u64) -> std::path::PathBuf {
    data_dir.join(format!("catalog/{iteration:020}.json"))
}
