//! The derived streams: enriched, bad and failed. They can be made again from raw: where one is damaged, it begins anew.
//!
//! The raw stream is never opened this way: a damaged raw log is a matter for a person.

use std::io;
use std::path::Path;
use std::sync::Arc;

use model::files::Files;
use stream::Stream;
use stream::local::{Local, Options};

use crate::Error;
use crate::output::Kind;

/// The name of the stream of clear values, which is none of the derived ones.
pub const PII: &str = "pii";

/// The streams that the enricher writes; partition k of one goes with partition k of the others, and with that of raw.
#[derive(Clone, Debug)]
pub struct Derived {
    pub enriched: Arc<dyn Stream>,
    pub bad: Arc<dyn Stream>,
    pub failed: Arc<dyn Stream>,
}

impl Derived {
    /// Their names, in the order of [`Derived::by_kind`].
    pub const NAMES: [&str; 3] = ["enriched", "bad", "failed"];

    /// Each stream with the kind of its entries.
    pub(crate) fn by_kind(&self) -> [(Kind, &Arc<dyn Stream>); 3] {
        [(Kind::Enriched, &self.enriched), (Kind::Bad, &self.bad), (Kind::Failed, &self.failed)]
    }

    /// Checks that each has as many partitions as the raw stream.
    ///
    /// # Errors
    /// Names the first that has not.
    pub(crate) fn expect_partitions(&self, wanted: usize) -> Result<(), Error> {
        for (_, stream) in self.by_kind() {
            let found = stream.partitions().len();
            if found != wanted {
                return Err(Error::Partitions { stream: stream.name().to_owned(), wanted, found });
            }
        }
        Ok(())
    }
}

/// Opens the embedded stream `name` below `streams_dir`. If its files are damaged, all of them are removed and the stream
/// begins anew, empty; the enricher then starts again from the cut.
///
/// # Errors
/// When the stream cannot be opened for another reason than damage, or not even after its files were removed.
pub fn open(
    files: Arc<dyn Files>,
    streams_dir: &Path,
    name: &str,
    partitions: u32,
    options: Options,
) -> Result<Local, stream::Error> {
    match Local::open(Arc::clone(&files), streams_dir, name, partitions, options.clone()) {
        Err(damage @ stream::Error::Damaged { .. }) => {
            tracing::warn!(stream = name, error = %damage, "a derived stream is damaged and begins anew");
            clear(&*files, &streams_dir.join(name), partitions)?;
            Local::open(files, streams_dir, name, partitions, options)
        }
        other => other,
    }
}

/// Removes the files of all partitions; the folders stay.
fn clear(files: &dyn Files, stream_dir: &Path, partitions: u32) -> Result<(), stream::Error> {
    for index in 0..partitions {
        let dir = stream_dir.join(index.to_string());
        let cleared = files.list(&dir).and_then(|names| {
            names.iter().try_for_each(|name| files.remove(&dir.join(name)))?;
            files.sync_dir(&dir)
        });
        match cleared {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(stream::Error::Io {
                    action: "clear",
                    path: dir,
                    source: Arc::new(error),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::position::{Offset, Partition};
    use stream::disk::Disk;
    use stream::local::{Drive, Durability};

    #[test]
    fn a_damaged_derived_stream_begins_anew_and_a_sound_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            durability: Durability::Synced,
            drive: Drive::Inline,
            disk_reserve_bytes: Some(0),
            ..Options::default()
        };
        let partition = Partition::of_stream("bad", 0);
        let reopen = || open(Arc::new(Disk), dir.path(), "bad", 1, options.clone()).unwrap();
        let log = reopen();
        for _ in 0..3 {
            futures::executor::block_on(
                log.append(&partition, vec![Bytes::from_static(&[7; 100])]),
            )
            .unwrap();
        }
        drop(log);
        let kept = reopen().read(&partition, Offset::BEGINNING, 10_000).unwrap().records.len();
        assert_eq!(kept, 3);

        let folder = dir.path().join("bad/0");
        let segment = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|it| it == "segment"))
            .unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        let first = bytes.windows(100).position(|window| window == [7; 100]).unwrap();
        bytes[first + 50] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let log = reopen();
        assert!(
            log.read(&partition, log.start(&partition).unwrap(), 10_000)
                .unwrap()
                .records
                .is_empty()
        );
    }
}
