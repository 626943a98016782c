//! The real-time view alone: prefixes, joining, spilling, forgetting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::cut::Cut;
use model::files::Files;
use views::Error;
use views::catalog::Table;
use views::realtime::{Applied, Options, RealtimeView};
use views::rows;

use crate::disk::Disk;
use crate::log::{self, RECIPE, at, chunk, range, raw};

const SPILL: &str = "/data/spill";

fn spilling(disk: &Disk, memory_bytes_max: u64) -> RealtimeView {
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    RealtimeView::new(Options { memory_bytes_max, spill: Some((files, PathBuf::from(SPILL))) })
}

fn fill(view: &RealtimeView, to: u64) {
    for from in 0..to {
        let applied = view.apply(RECIPE, &Cut::default(), chunk(range(0, from, from + 1))).unwrap();
        assert_eq!(applied, Applied::Taken);
    }
}

fn event_rows(view: &RealtimeView) -> Vec<rows::Row> {
    let snapshot = view.snapshot(RECIPE);
    let batches: Vec<_> =
        snapshot.chunks.iter().map(|chunk| chunk.rows(Table::Events).unwrap()).collect();
    rows::read(&batches).unwrap()
}

#[test]
fn a_chunk_after_a_gap_changes_nothing() {
    let view = log::view();
    let base = log::cut(10, 0);
    let apply = |from, to| view.apply(RECIPE, &base, chunk(range(0, from, to))).unwrap();
    assert_eq!(apply(11, 12), Applied::Gap);
    assert_eq!(apply(4, 10), Applied::Known);
    assert_eq!(apply(8, 12), Applied::Taken);
    assert_eq!(apply(13, 15), Applied::Gap);
    assert_eq!(view.frontier(RECIPE), log::cut(12, 0));
    assert_eq!(view.frontier("recipe-b"), Cut::default());
}

#[test]
fn a_range_without_rows_moves_the_frontier() {
    let view = log::view();
    fill(&view, 3);
    let hole = view.apply(RECIPE, &Cut::default(), chunk(range(0, 3, 4))).unwrap();
    assert_eq!((hole, view.frontier(RECIPE)), (Applied::Taken, log::cut(4, 0)));
}

#[test]
fn the_tally_of_a_chunk_that_was_cut_is_not_known() {
    let view = log::view();
    let _ = view.apply(RECIPE, &Cut::default(), chunk(range(0, 0, 4))).unwrap();
    let (records, counts) = view.snapshot(RECIPE).chunks[0].tally().unwrap();
    assert_eq!((records, counts.enriched, counts.failed, counts.bad), (3, 3, 1, 1));
    assert!(counts.closes());
    let _ = view.apply(RECIPE, &Cut::default(), chunk(range(0, 2, 9))).unwrap();
    let snapshot = view.snapshot(RECIPE);
    let rest = snapshot.chunks.last().unwrap();
    assert_eq!((rest.tally(), rest.every_outcome_is_a_row()), (None, true));
}

#[test]
fn small_chunks_are_joined_and_a_snapshot_keeps_what_it_has() {
    let view = log::view();
    fill(&view, 40);
    let before = view.snapshot(RECIPE);
    let rows_before: usize = before.chunks.iter().map(|chunk| chunk.row_count(Table::Events)).sum();
    for from in 40..400 {
        let _ = view.apply(RECIPE, &Cut::default(), chunk(range(0, from, from + 1))).unwrap();
    }
    let metrics = view.metrics();
    assert!(metrics.chunks < 16, "{metrics:?}");
    let rows = [metrics.event_rows, metrics.bad_row_rows, metrics.failed_event_rows];
    assert_eq!(rows, [300, 200, 100]);
    let rows_now: usize =
        before.chunks.iter().map(|chunk| chunk.rows(Table::Events).unwrap().num_rows()).sum();
    assert_eq!(rows_now, rows_before);
    let log::Shredded { tables: [expected, ..], .. } = log::shred(&range(0, 0, 400));
    assert_eq!(event_rows(&view), rows::read(&[expected]).unwrap());
}

#[test]
fn beyond_the_memory_bound_the_oldest_rows_lie_on_disk_and_read_the_same() {
    let disk = Disk::default();
    let (bounded, free) = (spilling(&disk, 200_000), log::view());
    fill(&bounded, 120);
    fill(&free, 120);
    let metrics = bounded.metrics();
    assert!(metrics.memory_bytes <= 200_000 && metrics.spilled_bytes > 0, "{metrics:?}");
    assert_eq!(event_rows(&bounded), event_rows(&free));
    let held = bounded.snapshot(RECIPE);
    bounded.forget(&log::cut(120, 0), &[RECIPE.to_owned()]);
    assert_eq!(bounded.metrics().chunks, 0);
    assert_eq!(
        held.chunks[0].rows(Table::Events).unwrap().num_rows(),
        held.chunks[0].row_count(Table::Events)
    );
    assert!(!disk.names_in(Path::new(SPILL)).is_empty());
    drop(held);
    assert!(disk.names_in(Path::new(SPILL)).is_empty());
}

#[test]
fn a_failed_spill_loses_nothing_and_the_chunk_can_be_offered_again() {
    let disk = Disk::default();
    let view = spilling(&disk, 100_000);
    disk.fail_after(Some(0));
    let mut next = 0;
    let full = loop {
        match view.apply(RECIPE, &Cut::default(), chunk(range(0, next, next + 8))) {
            Ok(_) => next += 8,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(full.to_string().contains("cannot spill: create /data/spill/"), "{full}");
    assert_eq!(view.frontier(RECIPE), log::cut(next, 0));
    assert_eq!(view.metrics().spill_failures, 1);
    let log::Shredded { tables: [expected, ..], .. } = log::shred(&range(0, 0, next));
    assert_eq!(event_rows(&view), rows::read(&[expected]).unwrap());
    disk.fail_after(None);
    let again = view.apply(RECIPE, &Cut::default(), chunk(range(0, next, next + 8))).unwrap();
    assert_eq!(again, Applied::Taken);
    assert!(view.metrics().spilled_bytes > 0);
}

#[test]
fn a_damaged_spill_file_fails_the_read_by_name() {
    let disk = Disk::default();
    let view = spilling(&disk, 1);
    fill(&view, 2);
    let names = disk.names_in(Path::new(SPILL));
    let path = Path::new(SPILL).join(names.iter().find(|name| name.contains("events")).unwrap());
    disk.damage(&path, |content| content[40] ^= 1);
    let error = view.snapshot(RECIPE).chunks[0].rows(Table::Events).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("restart the server"), "{error}");
}

#[test]
fn a_spill_folder_that_was_removed_is_made_again() {
    let dir = tempfile::TempDir::new().unwrap();
    let spill = dir.path().join("spill");
    let files: Arc<dyn Files> = Arc::new(stream::disk::Disk);
    std::fs::create_dir_all(&spill).unwrap();
    let options = Options { memory_bytes_max: 1, spill: Some((files, spill.clone())) };
    let view = RealtimeView::new(options);
    std::fs::remove_dir_all(&spill).unwrap();
    fill(&view, 4);
    assert!(view.metrics().spilled_chunks > 0 && view.metrics().spill_failures == 0);
}

#[test]
fn a_chunk_without_rows_is_not_spilled_over_and_over() {
    let disk = Disk::default();
    let view = spilling(&disk, 1);
    let _ = view.apply(RECIPE, &log::cut(3, 0), chunk(range(0, 3, 4))).unwrap();
    for from in 4..9 {
        let _ = view.apply(RECIPE, &Cut::default(), chunk(range(0, from, from + 1))).unwrap();
    }
    let metrics = view.metrics();
    assert_eq!(view.frontier(RECIPE), log::cut(9, 0));
    assert!(metrics.spilled_chunks > 0, "{metrics:?}");
}

#[test]
fn leftovers_of_an_earlier_process_are_removed() {
    let disk = Disk::default();
    let old = Path::new(SPILL).join("00000000000000000000-events.arrow");
    disk.create(&old).unwrap();
    let _view = spilling(&disk, 1);
    assert!(disk.names_in(Path::new(SPILL)).is_empty());
}

#[test]
fn forgetting_keeps_a_chunk_that_the_cut_enters() {
    let view = log::view();
    let _ = view.apply(RECIPE, &Cut::default(), chunk(range(0, 0, 8))).unwrap();
    let _ = view.apply("recipe-b", &Cut::default(), chunk(range(0, 0, 8))).unwrap();
    view.forget(&log::cut(7, 0), &[RECIPE.to_owned()]);
    assert_eq!(view.snapshot(RECIPE).chunks.len(), 1);
    assert_eq!(view.snapshot("recipe-b").chunks.len(), 0);
    let beyond =
        view.snapshot(RECIPE).chunks[0].rows_beyond(Table::Events, &log::cut(5, 0)).unwrap();
    let log::Shredded { tables: [expected, ..], .. } = log::shred(&range(0, 5, 8));
    assert_eq!(rows::read(&[beyond]).unwrap(), rows::read(&[expected]).unwrap());
    view.forget(&log::cut(8, 0), &[RECIPE.to_owned()]);
    let snapshot = view.snapshot(RECIPE);
    assert!(snapshot.chunks.is_empty());
    assert_eq!(snapshot.begin.of(&raw(0)), at(8));
}

#[test]
fn rows_that_do_not_lie_in_their_range_are_refused() {
    let view = log::view();
    for (said, given) in [(range(0, 0, 4), range(0, 0, 5)), (range(0, 0, 4), range(1, 0, 4))] {
        let chunk = views::realtime::NewChunk { range: said, ..chunk(given) };
        let error = view.apply(RECIPE, &Cut::default(), chunk).unwrap_err();
        assert!(matches!(error, Error::Rows { .. }), "{error}");
    }
    assert_eq!(view.metrics().chunks, 0);
}
