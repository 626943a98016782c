//! Law 7: a file of the view that is not what the manifest says fails the statement and is named; never fewer rows.

use std::fs;
use std::path::PathBuf;

use serving::Error;

use crate::world::*;

/// A world whose first file of events was never read by this engine.
fn world() -> (World, PathBuf) {
    let world = World::new(small_log());
    world.see_all();
    let manifest = world.commit(&cut(&[(0, 9), (1, 4)]));
    let file = manifest.files_of(views::catalog::Table::Events).next().unwrap();
    let path = file.path_in(world.dir.path());
    (world, path)
}

fn check(world: &World, path: &std::path::Path) {
    // Also a count, which statistics could answer, and a filter that no row of the file passes.
    for sql in [
        "select * from atomic.events",
        "select count(*) from atomic.events",
        "select event_id from atomic.events where app_id = 'nobody'",
        "select 1 from atomic.events limit 1",
    ] {
        match world.ask(sql) {
            Err(Error::Hole(message)) => {
                assert!(message.contains(path.to_str().unwrap()), "{sql}: {message}")
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    // What does not need the file is answered.
    assert_eq!(world.code("select * from atomic.bad_rows"), "ok");
    assert_eq!(world.code("select * from lambda.ledger"), "ok");
}

#[test]
fn a_missing_file_is_named() {
    let (world, path) = world();
    fs::remove_file(&path).unwrap();
    check(&world, &path);
}

#[test]
fn a_file_that_vanishes_after_it_was_read_is_named() {
    let (world, path) = world();
    assert_eq!(world.code("select * from atomic.events"), "ok");
    fs::remove_file(&path).unwrap();
    check(&world, &path);
}

#[test]
fn a_short_or_long_file_is_named() {
    let (world, path) = world();
    let bytes = fs::read(&path).unwrap();
    for changed in
        [&bytes[..bytes.len() - 1], &bytes[..10], &[], &[bytes.as_slice(), b"x"].concat()]
    {
        fs::write(&path, changed).unwrap();
        check(&world, &path);
    }
    fs::write(&path, &bytes).unwrap();
    assert_eq!(world.code("select * from atomic.events"), "ok");
}

#[test]
fn a_damaged_file_is_named_wherever_the_damage_is() {
    let (world, path) = world();
    let bytes = fs::read(&path).unwrap();
    for at in [0, 5, bytes.len() / 3, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        check(&world, &path);
    }
}

#[test]
fn another_file_under_the_name_is_noticed() {
    let (world, path) = world();
    let manifest = world.lambda.served();
    let other =
        manifest.files_of(views::catalog::Table::Events).nth(1).unwrap().path_in(world.dir.path());
    fs::copy(other, &path).unwrap();
    check(&world, &path);
}

#[test]
fn a_spilled_chunk_that_is_gone_fails_the_statement() {
    let world = World::with(small_log(), limits(), 1);
    world.see_all();
    let folder = world.dir.path().join("spill").join("realtime");
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(world.code("select * from atomic.events"), "hole");
}
