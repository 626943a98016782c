//! Recipes that an earlier build stored are read, and known for what they were made with.
//! What the archive holds: `testdata/formats/v1/README.md`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use enrich::iglu::Schemas;
use enrich::{InvalidRecipe, Recipe};
use model::iglu::SchemaKey;
use stream::disk::Disk;

fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/v1/data-folder.tar.gz");
    let tar =
        Command::new("tar").args(["-xzf", archive, "-C"]).arg(folder.path()).status().unwrap();
    assert!(tar.success(), "tar: {tar}");
    folder
}

const DIGEST: &str = "d9dd2e5afe492a5b7182691035bf9eea993c70ecd8c27dc6f88e4a7f7932f6c7";

#[test]
fn a_recipe_of_version_1_is_read_and_its_embedded_schemas_are_told_from_ours() {
    let folder = unpacked();
    let data = folder.path().join("data");
    // A binary that embeds other schemas would give other outcomes: the layers go over to a recipe of their own.
    let error = assets::load(&Disk, &data, DIGEST).unwrap_err();
    let assets::Error::UnusableRecipe { source, .. } = error else { panic!("{error}") };
    let InvalidRecipe::OtherFunction { what: "embedded schemas", found, ours } = source else {
        panic!("{source}")
    };
    assert_eq!(ours, Schemas::embedded_digest());
    let text = std::fs::read_to_string(data.join(format!("recipes/{DIGEST}.json"))).unwrap();
    let recipe = Recipe::from_json(&text.replace(&found, &ours)).unwrap();
    assert_eq!(recipe.to_json(), text.replace(&found, &ours));
    let key = SchemaKey::parse("iglu:com.acme/box/jsonschema/1-0-0").unwrap();
    assert_eq!(recipe.schemas().find(&key).unwrap()["properties"]["size"]["type"], "string");
}
