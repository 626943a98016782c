//! Recipes that an earlier build stored are loaded under the digest they were stored under.
//! What the archive holds: `testdata/formats/v1/README.md`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

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
fn a_recipe_of_version_1_is_loaded() {
    let folder = unpacked();
    let recipe = assets::load(&Disk, &folder.path().join("data"), DIGEST).unwrap();
    assert_eq!(recipe.digest(), DIGEST);
    let key = SchemaKey::parse("iglu:com.acme/box/jsonschema/1-0-0").unwrap();
    assert_eq!(recipe.schemas().find(&key).unwrap()["properties"]["size"]["type"], "string");
}
