//! A folder with one stream of one partition, opened again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::executor::block_on;
use model::files::Files;
use model::position::{Offset, Partition};
use stream::disk::Disk;
use stream::local::{Drive, Local, Options, SegmentIds};
use stream::{Appended, Error, Stream};

pub(crate) struct Folder {
    dir: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) files: Arc<dyn Files>,
}

impl Folder {
    /// Small segments, inline, counted segment ids: equal steps make equal bytes.
    pub(crate) fn new() -> Folder {
        Folder::on(Arc::new(Disk))
    }

    pub(crate) fn on(files: Arc<dyn Files>) -> Folder {
        let ids = AtomicU64::new(1);
        let options = Options {
            drive: Drive::Inline,
            segment_bytes_first: 8192,
            segment_bytes_max: 16384,
            disk_reserve_bytes: Some(0),
            segment_ids: SegmentIds::new(move || {
                ids.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }),
            ..Options::default()
        };
        Folder { dir: tempfile::tempdir().unwrap(), options, files }
    }

    pub(crate) fn streams_dir(&self) -> PathBuf {
        self.dir.path().join("streams")
    }

    pub(crate) fn partition_dir(&self) -> PathBuf {
        self.streams_dir().join("raw/0")
    }

    pub(crate) fn open(&self) -> Local {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Local, Error> {
        let files = Arc::clone(&self.files);
        Local::open(files, &self.streams_dir(), "raw", 1, self.options.clone())
    }

    /// The names of the partition's files.
    pub(crate) fn names(&self) -> Vec<String> {
        Disk.list(&self.partition_dir()).unwrap()
    }

    /// The segments, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let names = self.names().into_iter().filter(|name| name.ends_with(".segment"));
        names.map(|name| self.partition_dir().join(name)).collect()
    }

    pub(crate) fn last_segment(&self) -> PathBuf {
        self.segments().pop().unwrap()
    }

    pub(crate) fn torn_files(&self) -> Vec<PathBuf> {
        let names = self.names().into_iter().filter(|name| name.ends_with(".torn"));
        names.map(|name| self.partition_dir().join(name)).collect()
    }
}

pub(crate) fn raw() -> Partition {
    Partition::of_stream("raw", 0)
}

pub(crate) fn try_append(log: &Local, texts: &[&str]) -> Result<Appended, Error> {
    let records = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    block_on(log.append(&raw(), records))
}

pub(crate) fn append(log: &Local, texts: &[&str]) -> Appended {
    try_append(log, texts).unwrap()
}

/// All records from the start on, as (offset, text).
pub(crate) fn content(log: &Local) -> Vec<(u64, String)> {
    let from = log.start(&raw()).unwrap();
    content_from(log, from).unwrap()
}

pub(crate) fn content_from(log: &Local, from: Offset) -> Result<Vec<(u64, String)>, Error> {
    let mut found = Vec::new();
    let mut from = from;
    loop {
        let chunk = log.read(&raw(), from, 4096)?;
        if chunk.records.is_empty() {
            return Ok(found);
        }
        from = chunk.next;
        found.extend(chunk.records.into_iter().map(|record| {
            (record.offset.number(), String::from_utf8(record.bytes.to_vec()).unwrap())
        }));
    }
}

pub(crate) fn pairs(texts: &[(u64, &str)]) -> Vec<(u64, String)> {
    texts.iter().map(|&(offset, text)| (offset, text.to_owned())).collect()
}
