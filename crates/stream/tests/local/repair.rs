//! What a survey finds of each kind of damage, and what a repair makes of it: every record that is not damaged is there
//! once, at its offset, and every other one is filled in.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::position::Offset;
use proptest::prelude::*;
use stream::disk::Disk;
use stream::local::SegmentIds;
use stream::local::repair::{Repaired, repair};
use stream::local::survey::{Damage, Known, Survey, survey};
use stream::{Chunk, Error, Record};

use crate::folder::{Folder, append, content, raw};

const LOST: &str = "this record was lost";

/// A log of a few segments, and what it holds.
struct World {
    folder: Folder,
    written: BTreeMap<u64, String>,
    archived: u64,
}

impl World {
    /// Batches of two records over several segments.
    fn new(batches: u64) -> World {
        let folder = Folder::new();
        let log = folder.open();
        for batch in 0..batches {
            let texts = [0, 1].map(|n| format!("record {}: {}", 2 * batch + n, "x".repeat(700)));
            append(&log, &[&texts[0], &texts[1]]);
        }
        let written = content(&log).into_iter().collect();
        drop(log);
        World { folder, written, archived: 0 }
    }

    fn survey_knowing(&self, known: Known) -> Survey {
        let dir = self.folder.streams_dir();
        survey::<Error>(&Disk, &dir, &raw(), || Ok(known)).unwrap()
    }

    fn known(&self) -> Known {
        let archived = Offset::from_number(self.archived);
        Known { needed_from: Some(archived), seen: archived }
    }

    fn survey(&self) -> Survey {
        self.survey_knowing(self.known())
    }

    fn repair(&self, survey: &Survey) -> Vec<Repaired> {
        let fill = |from: Offset, to: Offset| -> Result<Chunk, Error> {
            // No more than three at once, so that a gap takes several questions.
            let next = to.number().min(from.number() + 3);
            let record = |offset: u64| {
                let text = match self.written.get(&offset) {
                    Some(text) if offset < self.archived => text.as_str(),
                    _ => LOST,
                };
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                Record { offset: Offset::from_number(offset), bytes }
            };
            let records = (from.number()..next).map(record).collect();
            Ok(Chunk { records, next: Offset::from_number(next) })
        };
        repair(&Disk, survey, &SegmentIds::default(), fill).unwrap()
    }

    /// Repairs, and compares what can be read then: `lost` are the offsets that could not be saved.
    fn assert_repaired(&self, lost: impl IntoIterator<Item = u64>) {
        let found = self.survey();
        assert!(!found.damages.is_empty());
        let repaired = self.repair(&found);
        assert!(!repaired.is_empty());
        let mut expect = self.written.clone();
        lost.into_iter().for_each(|offset| drop(expect.insert(offset, LOST.to_owned())));
        let after = self.survey();
        assert_eq!(after.damages, []);
        let first = after.start.number();
        let log = self.folder.open();
        let expect: Vec<(u64, String)> = expect.into_iter().filter(|it| it.0 >= first).collect();
        assert_eq!(content(&log), expect);
        assert_eq!(append(&log, &["goes on"]).first.number(), self.written.len() as u64);
        drop(log);
        assert_eq!(self.survey().damages, []);
    }

    fn segment(&self, index: usize) -> PathBuf {
        self.folder.segments()[index].clone()
    }
}

fn base(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn place_of(path: &Path, text: &str) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
}

fn flip_record(path: &Path, offset: u64) {
    let at = place_of(path, &format!("record {offset}:"));
    overwrite(path, at, b"R");
}

fn range(damage: &Damage) -> (u64, Option<u64>) {
    (damage.from.number(), damage.to.map(Offset::number))
}

#[test]
fn a_whole_log_has_no_damage_and_a_torn_tail_is_none() {
    let world = World::new(20);
    let found = world.survey();
    assert_eq!(found.damages, []);
    assert_eq!((found.records, found.start.number(), found.end.number()), (40, 0, 40));
    assert_eq!(found.segments, world.folder.segments().len());
    flip_record(&world.folder.last_segment(), 39);
    let found = world.survey();
    assert_eq!(found.damages, []);
    assert_eq!(found.end.number(), 39);
    assert!(found.torn.is_some());
}

#[test]
fn a_flipped_byte_in_a_sealed_segment_costs_one_record() {
    let world = World::new(20);
    let path = world.segment(1);
    let offset = base(&path) + 2;
    flip_record(&path, offset);
    let found = world.survey();
    assert_eq!(found.damages.len(), 1);
    assert_eq!(range(&found.damages[0]), (offset, Some(offset + 1)));
    assert_eq!(found.damages[0].path, path);
    assert_eq!(found.damages[0].at, place_of(&path, "Recor") - 28);
    assert_eq!(found.records, 39);
    let damaged = std::fs::read(&path).unwrap();
    world.assert_repaired([offset]);
    assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), damaged);
}

#[test]
fn what_is_archived_comes_back() {
    let mut world = World::new(20);
    world.archived = 30;
    flip_record(&world.segment(0), 3);
    flip_record(&world.segment(1), base(&world.segment(1)));
    world.assert_repaired([]);
}

#[test]
fn damage_before_a_later_batch_of_the_tail_is_repaired() {
    let world = World::new(20);
    let path = world.folder.last_segment();
    let offset = base(&path) + 1;
    flip_record(&path, offset);
    assert!(world.folder.try_open().is_err());
    world.assert_repaired([offset]);
}

#[test]
fn a_truncated_sealed_segment_and_a_zeroed_page_cost_what_they_held() {
    let world = World::new(20);
    let path = world.segment(1);
    let (first, next) = (base(&path), base(&world.segment(2)));
    let at = place_of(&path, &format!("record {}:", next - 2));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(at + 5).unwrap();
    world.assert_repaired([next - 2, next - 1]);

    let world = World::new(20);
    overwrite(&world.segment(1), 4096, &[0; 2048]);
    world.assert_repaired([first, first + 1, first + 2]);
}

#[test]
fn a_missing_segment_is_filled_in() {
    for archived in [0, 40] {
        let mut world = World::new(20);
        world.archived = archived;
        let path = world.segment(1);
        let (first, next) = (base(&path), base(&world.segment(2)));
        std::fs::remove_file(&path).unwrap();
        let found = world.survey();
        assert_eq!(found.damages[0].path, path);
        assert_eq!(range(&found.damages[0]), (first, Some(next)));
        world.assert_repaired((first..next).filter(|offset| *offset >= archived));
    }
}

#[test]
fn two_missing_segments_are_filled_in() {
    let world = World::new(40);
    let (first, next) = (base(&world.segment(1)), base(&world.segment(3)));
    let paths = [world.segment(1), world.segment(2)];
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    world.assert_repaired(first..next);
}

#[test]
fn a_lost_first_segment_is_seen_against_the_archive() {
    let mut world = World::new(20);
    let next = base(&world.segment(1));
    std::fs::remove_file(world.segment(0)).unwrap();
    assert_eq!(world.survey_knowing(Known::NOTHING).damages, []);
    world.archived = 3;
    let found = world.survey();
    assert_eq!(range(&found.damages[0]), (0, Some(next)));
    world.assert_repaired(3..next);
}

#[test]
fn a_lost_last_segment_is_seen_against_what_was_read_from_it() {
    let mut world = World::new(20);
    world.archived = 40;
    let path = world.folder.last_segment();
    std::fs::remove_file(&path).unwrap();
    let found = world.survey();
    assert_eq!(range(&found.damages[0]), (base(&path), Some(40)));
    world.assert_repaired([]);
}

#[test]
fn a_destroyed_header_costs_nothing_where_two_records_follow() {
    for index in [0, 1, 2] {
        for destroyed in [vec![0; 4096], vec![0xa5; 100], b"x".to_vec()] {
            let world = World::new(20);
            let path = world.segment(index);
            overwrite(&path, 0, &destroyed);
            let found = world.survey();
            assert_eq!(found.damages[0].at, 0, "{:?}", found.damages);
            assert_eq!(found.records, 40);
            world.assert_repaired([]);
        }
    }
}

#[test]
fn without_a_header_and_the_first_record_a_segment_is_lost_or_comes_from_the_archive() {
    for archived in [0, 40] {
        let mut world = World::new(20);
        world.archived = archived;
        let path = world.segment(1);
        let (first, next) = (base(&path), base(&world.segment(2)));
        overwrite(&path, 0, &[0; 5000]);
        world.assert_repaired((first..next).filter(|offset| *offset >= archived));
    }
}

#[test]
fn a_truncated_last_segment_may_have_held_more() {
    let world = World::new(20);
    let path = world.folder.last_segment();
    let at = place_of(&path, "record 38:");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(at - 28).unwrap();
    let found = world.survey();
    assert_eq!(range(&found.damages[0]), (38, None));
    world.repair(&found);
    assert_eq!(world.survey().damages, []);
    assert_eq!(content(&world.folder.open()).len(), 38);
}

#[test]
fn the_unwritten_rest_of_the_last_segment_may_be_cut_off() {
    let world = World::new(20);
    let path = world.folder.last_segment();
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 8).unwrap();
    assert_eq!(range(&world.survey().damages[0]), (40, Some(40)));
    world.assert_repaired([]);
}

#[test]
fn what_fills_a_gap_may_fail_and_the_next_repair_goes_on() {
    let world = World::new(20);
    flip_record(&world.segment(0), 1);
    flip_record(&world.segment(1), base(&world.segment(1)) + 1);
    let found = world.survey();
    let mut asked = 0;
    let failed = repair(&Disk, &found, &SegmentIds::default(), |from, _| {
        asked += 1;
        if asked == 2 {
            return Err(Error::Closed { stream: "archive".to_owned() });
        }
        let records = vec![Record { offset: from, bytes: Bytes::from_static(LOST.as_bytes()) }];
        Ok(Chunk { records, next: Offset::from_number(from.number() + 1) })
    });
    assert!(matches!(failed, Err(Error::Closed { .. })));
    assert_eq!(world.survey().damages.len(), 1);
    world.assert_repaired([1, base(&world.segment(1)) + 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_destroyed_the_rest_is_there_once(
        batches in 6u64..30,
        archived in 0u64..60,
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..3000, any::<bool>()), 1..4),
    ) {
        let mut world = World::new(batches);
        world.archived = archived.min(world.written.len() as u64);
        let segments = world.folder.segments();
        let mut places = BTreeMap::new();
        for offset in 0..world.written.len() as u64 {
            let path = segments.iter().rfind(|path| base(path) <= offset).unwrap();
            let at = place_of(path, &format!("record {offset}:")) - 28;
            places.insert(offset, (path.clone(), at));
        }
        let mut hurt: Vec<(PathBuf, u64, u64)> = Vec::new();
        for (segment, at, count, zeros) in wounds {
            let path = segment.get(&segments);
            let length = std::fs::metadata(path).unwrap().len();
            let at = at.index(length as usize) as u64;
            let count = count.min((length - at) as usize);
            overwrite(path, at, &if zeros { vec![0; count] } else { vec![0x5a; count] });
            hurt.push((path.clone(), at, at + count as u64));
        }
        let mut safe = BTreeMap::new();
        for (offset, (path, from)) in places {
            let to = (from + 28 + world.written[&offset].len() as u64).next_multiple_of(8);
            let is_hurt = hurt.iter().any(|(other, a, b)| {
                *other == path && (*a < 4096 || (*a < to && from < *b))
            });
            safe.insert(offset, !is_hurt || offset < world.archived);
        }
        let found = world.survey();
        if !found.damages.is_empty() {
            world.repair(&found);
        }
        prop_assert_eq!(world.survey().damages, vec![]);
        let log = world.folder.open();
        let now: BTreeMap<u64, String> = content(&log).into_iter().collect();
        prop_assert_eq!(now.len(), content(&log).len());
        let last = now.keys().last().copied().unwrap_or_default();
        for (offset, text) in &now {
            prop_assert!(text == LOST || *text == world.written[offset], "offset {}", offset);
        }
        for (offset, is_safe) in safe {
            // What was hurt at the very end looks as a crash would have left it: its batch was never acknowledged.
            let is_torn_off = offset > last && offset + 2 >= world.written.len() as u64;
            if is_safe && !is_torn_off {
                prop_assert_eq!(now.get(&offset), Some(&world.written[&offset]), "offset {}", offset);
            }
        }
    }
}
