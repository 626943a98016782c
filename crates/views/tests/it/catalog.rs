//! Commits: what may follow what, who wins, and what a crash or a damaged file leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::files::Files;
use views::Error;
use views::catalog::{Catalog, Commit, Manifest, Table};
use views::wide::Inventory;

use crate::disk::Disk;
use crate::log::{self, DATA, cut};

fn path(iteration: u64) -> PathBuf {
    log::data_dir().join(format!("catalog/{iteration:020}.json"))
}

fn hint() -> PathBuf {
    log::data_dir().join("catalog/newest.hint")
}

fn disk() -> (Disk, Arc<dyn Files>) {
    let disk = Disk::default();
    (disk.clone(), Arc::new(disk))
}

fn try_open(files: &Arc<dyn Files>) -> Result<Catalog, Error> {
    Catalog::open(files.clone(), Path::new(DATA), || panic!("there is a catalogue"))
}

/// A catalogue with iterations 0 to `count`.
fn with_iterations(files: &Arc<dyn Files>, count: u64) -> Catalog {
    let catalog = log::open(files);
    for iteration in 1..=count {
        log::iterate(files.as_ref(), &catalog, &cut(iteration * 4, iteration));
    }
    catalog
}

#[test]
fn what_was_published_is_there_after_a_crash() {
    let (disk, files) = disk();
    let before = with_iterations(&files, 3).newest();
    disk.crash();
    let catalog = try_open(&files).unwrap();
    assert_eq!(catalog.newest(), before);
    let history = catalog.history().unwrap();
    assert_eq!(history.iter().map(|manifest| manifest.iteration).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(catalog.manifest(2).unwrap().as_ref(), Some(&history[2]));
    assert_eq!(catalog.manifest(4).unwrap(), None);
}

#[test]
fn a_crash_at_any_write_of_a_commit_leaves_the_old_iteration_or_the_new() {
    for writes in 0..12 {
        let (disk, files) = disk();
        let catalog = with_iterations(&files, 1);
        let next = log::plan(files.as_ref(), &catalog.newest(), &cut(9, 9));
        disk.fail_after(Some(writes));
        let published = matches!(catalog.commit(next.clone()), Ok(Commit::Published(_)));
        disk.crash();
        let reopened = try_open(&files).unwrap();
        let newest = reopened.newest();
        assert!(!published || newest.as_ref() == &next, "{writes}: a published commit was lost");
        assert!(newest.iteration == 1 || newest.as_ref() == &next, "{writes}");
        if newest.iteration == 1 {
            assert!(matches!(reopened.commit(next).unwrap(), Commit::Published(_)));
        }
    }
}

#[test]
fn an_undecided_commit_is_durable_before_anyone_builds_on_it() {
    let (disk, files) = disk();
    let catalog = with_iterations(&files, 1);
    let next = log::plan(files.as_ref(), &catalog.newest(), &cut(9, 9));
    // create, write, sync, link: then the fsync of the folder fails.
    disk.fail_after(Some(4));
    assert!(matches!(catalog.commit(next.clone()), Err(Error::Io { .. })));
    assert!(catalog.refresh().is_err());
    assert_eq!(catalog.newest().iteration, 1);
    disk.fail_after(None);
    assert!(
        matches!(catalog.commit(next.clone()).unwrap(), Commit::Lost(newest) if *newest == next)
    );
    disk.crash();
    assert_eq!(*try_open(&files).unwrap().newest(), next);
}

#[test]
fn of_two_writers_one_wins_and_the_other_learns_of_it() {
    let (_, files) = disk();
    let one = with_iterations(&files, 1);
    let other = try_open(&files).unwrap();
    let theirs = log::plan(files.as_ref(), &other.newest(), &cut(9, 9));
    log::iterate(files.as_ref(), &one, &cut(7, 7));
    match other.commit(theirs).unwrap() {
        Commit::Lost(newest) => assert_eq!(newest, one.newest()),
        Commit::Published(_) => panic!("both won"),
    }
    assert_eq!(other.newest(), one.newest());
}

#[test]
fn a_reader_beside_the_server_writes_nothing_and_follows() {
    let (disk, files) = disk();
    assert!(Catalog::open_read(files.clone(), Path::new(DATA)).unwrap().is_none());
    let catalog = with_iterations(&files, 1);
    disk.fail_after(Some(0));
    let reader = Catalog::open_read(files.clone(), Path::new(DATA)).unwrap().unwrap();
    disk.fail_after(None);
    log::iterate(files.as_ref(), &catalog, &cut(7, 7));
    disk.fail_after(Some(0));
    assert_eq!(reader.refresh().unwrap(), catalog.newest());
}

#[test]
fn the_hint_may_be_old_missing_or_nonsense() {
    let (disk, files) = disk();
    let newest = with_iterations(&files, 3).newest();
    for content in ["1\n", "", "x"] {
        disk.damage(&hint(), |bytes| *bytes = content.as_bytes().to_vec());
        assert_eq!(try_open(&files).unwrap().newest(), newest, "{content:?}");
    }
    disk.lose(&hint());
    assert_eq!(try_open(&files).unwrap().newest(), newest);
}

#[test]
fn a_lost_newest_manifest_does_not_take_the_cut_back() {
    let (disk, files) = disk();
    with_iterations(&files, 3);
    disk.lose(&path(3));
    let error = try_open(&files).unwrap_err();
    let Error::LostNewest { manifest, .. } = &error else { panic!("{error}") };
    assert_eq!(*manifest, path(3));
    // As the message says for a copy.
    disk.lose(&hint());
    assert_eq!(try_open(&files).unwrap().newest().iteration, 2);
}

#[test]
fn a_lost_manifest_is_never_a_shorter_history() {
    for (lost, hint_too) in [(0, true), (1, true), (1, false)] {
        let (disk, files) = disk();
        with_iterations(&files, 3);
        disk.lose(&path(lost));
        if hint_too {
            disk.lose(&hint());
        }
        let error = match try_open(&files) {
            Ok(catalog) => catalog.history().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(&error, Error::Missing(missing) if *missing == path(lost)), "{error}");
    }
}

#[test]
fn a_damaged_manifest_is_refused_by_name_with_a_way_out() {
    let (disk, files) = disk();
    with_iterations(&files, 2);
    let whole = files.read(&path(2)).unwrap();
    for at in [3, 20, 100, whole.len() / 2, whole.len() - 2] {
        disk.damage(&path(2), |content| content[at] ^= 4);
        let error = try_open(&files).unwrap_err().to_string();
        assert!(error.contains(path(2).to_str().unwrap()) && error.contains("restore"), "{error}");
        disk.damage(&path(2), |content| *content = whole.clone());
    }
    for length in 0..whole.len() {
        disk.damage(&path(2), |content| *content = whole[..length].to_vec());
        assert!(try_open(&files).is_err(), "{length} bytes");
    }
}

#[test]
fn a_newer_format_is_refused_by_name_whatever_follows() {
    let (disk, files) = disk();
    with_iterations(&files, 1);
    disk.damage(&path(1), |content| {
        *content = b"{\"format\":3,\n\"something\":\"new\"}\n".to_vec()
    });
    let error = try_open(&files).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn a_manifest_file_is_json() {
    let (_, files) = disk();
    let newest = with_iterations(&files, 1).newest();
    let json: serde_json::Value = serde_json::from_slice(&newest.encode()).unwrap();
    assert_eq!(json["format"], 2);
    assert_eq!(json["manifest"]["cut"]["raw/0"], "00000000000000000004");
    assert_eq!(json["manifest"]["files"][1]["table"], "bad_rows");
}

#[test]
fn a_manifest_that_breaks_a_rule_is_not_committed() {
    let (_, files) = disk();
    let catalog = with_iterations(&files, 2);
    let good = log::plan(files.as_ref(), &catalog.newest(), &cut(12, 12));
    let refused = |reason: &str, change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let error = catalog.commit(manifest).unwrap_err();
        assert!(matches!(error, Error::Rejected { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    refused("does not follow", &|manifest| manifest.iteration += 1);
    refused("does not follow", &|manifest| manifest.parent = Some(0));
    refused("below the published", &|manifest| manifest.cut = cut(7, 12));
    refused("generation", &|manifest| manifest.generation = 2);
    refused("in force", &|manifest| manifest.recipe = "recipe-b".to_owned());
    refused("reaches to", &|manifest| manifest.cut = cut(13, 12));
    refused("does not follow", &|manifest| drop(manifest.ledger.remove(0)));
    refused("does not close", &|manifest| manifest.ledger[4].counts.dropped += 1);
    refused("the ledger has", &|manifest| drop(manifest.files.pop()));
    refused("does not follow", &|manifest| manifest.files.push(manifest.files[0].clone()));
    assert_eq!(catalog.newest().iteration, 2);
    assert!(matches!(catalog.commit(good).unwrap(), Commit::Published(_)));
}

/// A program that knows format 1 alone would count failed outcomes and keep no event of them.
#[test]
fn every_manifest_is_of_the_format_that_has_failed_events_and_the_one_before_is_read() {
    let (_, files) = disk();
    let catalog = with_iterations(&files, 1);
    let with = log::plan(files.as_ref(), &catalog.newest(), &cut(9, 9));
    let mut without = with.clone();
    without.files.retain(|file| file.table != Table::FailedEvents);
    for manifest in [with, without, Manifest::first("r", "t")] {
        let text = String::from_utf8(manifest.encode()).unwrap();
        assert!(text.starts_with("{\"format\":2,\n"));
        let before = text.replacen("{\"format\":2,", "{\"format\":1,", 1);
        for text in [text, before] {
            assert_eq!(Manifest::decode(Path::new("x"), text.as_bytes()).unwrap(), manifest);
        }
    }
}

#[test]
fn a_manifest_that_forgets_schemas_of_its_generation_is_not_committed() {
    let (_, files) = disk();
    let catalog = with_iterations(&files, 2);
    let newest = catalog.newest();
    assert!(newest.schemas.as_ref().is_some_and(|schemas| !schemas.events.is_empty()));
    let next = log::plan(files.as_ref(), &newest, &newest.cut);
    for schemas in [None, Some(Inventory::default())] {
        let error = catalog.commit(Manifest { schemas, ..next.clone() }).unwrap_err().to_string();
        assert!(error.contains("forgets schemas"), "{error}");
    }
    assert!(matches!(catalog.commit(next).unwrap(), Commit::Published(_)));
}

#[test]
fn a_manifest_without_schemas_is_read_and_written_as_before() {
    let manifest = Manifest { schemas: None, ..Manifest::first("recipe", "t") };
    let bytes = manifest.encode();
    assert!(!String::from_utf8_lossy(&bytes).contains("schemas"));
    assert_eq!(Manifest::decode(Path::new("x"), &bytes).unwrap(), manifest);
}

#[test]
fn a_rebuild_makes_the_next_generation_with_its_own_recipe() {
    let (_, files) = disk();
    let catalog = with_iterations(&files, 2);
    let newest = catalog.newest();
    // A rebuild covers everything again, so it is planned as if nothing were covered.
    let nothing = Manifest {
        iteration: newest.iteration,
        next_recipe: "recipe-b".to_owned(),
        ..Manifest::first("recipe-b", "t")
    };
    let rebuilt = Manifest { generation: 1, ..log::plan(files.as_ref(), &nothing, &newest.cut) };
    assert!(matches!(catalog.commit(rebuilt).unwrap(), Commit::Published(_)));
    let behind = Manifest {
        generation: 2,
        iteration: 4,
        parent: Some(3),
        ..log::plan(files.as_ref(), &nothing, &cut(3, 3))
    };
    assert!(catalog.commit(behind).is_err());
}
