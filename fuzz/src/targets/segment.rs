//! Folders of log segments: any files are opened or refused by name; what opens can be read, appended to and opened
//! again, and then holds the same.
//!
//! The input is a list of files: a byte of flags, the base, a piece for the header and a piece for what follows it. By
//! the flags, checksums of header and records are made right.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use model::files::{self, Files, Published};
use model::position::Partition;
use sim::disk::Disk;
use stream::local::{Drive, Local, Options, SegmentIds, inspect};
use stream::{Error, Record, Stream};

use crate::input::Input;

const PAGE: usize = 4096;
const RECORD_HEADER: usize = 28;
const STREAMS: &str = "/streams";

pub(crate) fn segments(bytes: &[u8]) {
    let disk = Disk::new(1, 64 << 20);
    let mut input = Input::new(bytes);
    for _ in 0..3 {
        if input.is_empty() {
            break;
        }
        let (flags, base) = (input.byte(), input.byte());
        let (header, records) = (input.piece(), input.piece());
        let path = Path::new(STREAMS).join(format!("raw/0/{base:020}.segment"));
        match files::publish(&disk, &path, &file(flags, header, records)) {
            Ok(Published::New | Published::Taken) => {}
            Err(error) => panic!("the simulated disk has room: {error}"),
        }
    }
    inspect(&disk);
    use_it(&disk);
}

fn file(flags: u8, header: &[u8], records: &[u8]) -> Vec<u8> {
    let mut file = header.to_vec();
    if flags & 1 != 0 {
        file.resize(PAGE, 0);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..]);
        file[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    let id = file.get(16..24).map_or([0; 8], |id| id.try_into().expect("eight bytes"));
    let mut records = records.to_vec();
    if flags & 2 != 0 {
        mend_checksums(id, &mut records);
    }
    file.extend_from_slice(&records);
    if flags & 4 != 0 {
        let capacity =
            file.get(56..60).map_or(0, |it| u32::from_le_bytes(it.try_into().expect("four")));
        file.resize(file.len().max((capacity as usize).min(64 << 10)), 0);
    }
    file
}

/// Makes the checksums of records right, as far as they follow each other.
fn mend_checksums(id: [u8; 8], records: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = records.get(at..at + RECORD_HEADER) {
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        let end = at + RECORD_HEADER + length;
        if length == 0 || end > records.len() {
            return;
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&id), &records[at..at + 4]);
        let sum = crc32c::crc32c_append(sum, &records[at + 8..end]);
        records[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at = end.next_multiple_of(8);
    }
}

/// What the commands do that only look.
fn inspect(disk: &Disk) {
    let _ = inspect::list(disk, Path::new(STREAMS));
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let partition = Partition::of_stream("raw", 0);
    let Ok(mut reader) = inspect::Reader::open(files, Path::new(STREAMS), &partition, None) else {
        return;
    };
    let mut last = None;
    while let Ok(Some(record)) = reader.read_next() {
        assert!(last < Some(record.offset), "offsets do not rise");
        last = Some(record.offset);
    }
}

/// What the owner does.
fn use_it(disk: &Disk) {
    let Ok(log) = open(disk) else { return };
    let partition = log.partitions()[0].clone();
    let before = read_all(&log);
    let appended = block_on(log.append(&partition, vec![Bytes::from_static(b"one more")]));
    drop(log);
    let log = open(disk).expect("what was opened once opens again");
    let after = read_all(&log);
    if let (Ok(mut before), Ok(after)) = (before, after) {
        if let Ok(appended) = appended {
            before.push(Record { offset: appended.first, bytes: Bytes::from_static(b"one more") });
        }
        assert_eq!(before, after);
    }
}

fn open(disk: &Disk) -> Result<Local, Error> {
    let options = Options {
        drive: Drive::Inline,
        segment_bytes_first: 8192,
        segment_bytes_max: 16_384,
        disk_reserve_bytes: Some(0),
        segment_ids: SegmentIds::new(|| 7),
        ..Options::default()
    };
    Local::open(Arc::new(disk.clone()), Path::new(STREAMS), "raw", 1, options)
}

fn read_all(log: &Local) -> Result<Vec<Record>, Error> {
    let partition = &log.partitions()[0];
    let mut records = Vec::new();
    let mut from = log.start(partition)?;
    loop {
        let chunk = log.read(partition, from, 10_000)?;
        if chunk.records.is_empty() {
            return Ok(records);
        }
        records.extend(chunk.records);
        from = chunk.next;
    }
}
