//! The derived streams: enriched, bad and failed. They can be made again from raw: where one is damaged, it begins anew.
//!
//! The raw stream is never opened this way: a damaged raw log is a matter for a person.

use std::io;
use std::path::{Path, PathBuf};
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

/// Opens the embedded PII stream below `streams_dir`. If its files are damaged, the folder is moved aside as it is, to
/// `pii.damaged-0` or the next free number, and the stream begins anew, empty: nobody else holds what it told.
///
/// # Errors
/// As [`open`], and when the folder cannot be moved.
pub fn open_pii(
    files: Arc<dyn Files>,
    streams_dir: &Path,
    partitions: u32,
    options: Options,
) -> Result<Local, stream::Error> {
    match Local::open(Arc::clone(&files), streams_dir, PII, partitions, options.clone()) {
        Err(damage @ stream::Error::Damaged { .. }) => {
            let aside = move_aside(&*files, streams_dir).map_err(|error| stream::Error::Io {
                action: "move aside",
                path: streams_dir.join(PII),
                source: Arc::new(error),
            })?;
            tracing::warn!(
                error = %damage,
                folder = %aside.display(),
                "the PII stream is damaged; it begins anew, and what there was is in this folder"
            );
            Local::open(files, streams_dir, PII, partitions, options)
        }
        other => other,
    }
}

fn move_aside(files: &dyn Files, streams_dir: &Path) -> io::Result<PathBuf> {
    let taken = files.list(streams_dir)?;
    let free = (0..).map(|number| format!("{PII}.damaged-{number}"));
    let name = free.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
    let aside = streams_dir.join(name);
    files.rename(&streams_dir.join(PII), &aside)?;
    files.sync_dir(streams_dir)?;
    Ok(aside)
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
    fn a_damaged_pii_stream_is_moved_aside_whole() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { drive: Drive::Inline, disk_reserve_bytes: Some(0), ..Options::default() };
        let partition = Partition::of_stream(PII, 0);
        let reopen = || open_pii(Arc::new(Disk), dir.path(), 2, options.clone()).unwrap();
        for damaged in 0..2 {
            let log = reopen();
            let append = log.append(&partition, vec![Bytes::from_static(&[7; 100])]);
            futures::executor::block_on(append).unwrap();
            drop(log);
            let folder = dir.path().join("pii/0");
            let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "segment");
            let mut paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let segment = paths.find(is_segment).unwrap();
            // The page that says what the segment is.
            let mut bytes = std::fs::read(&segment).unwrap();
            bytes[8] ^= 1;
            std::fs::write(&segment, &bytes).unwrap();
            drop(reopen());
            let aside = dir.path().join(format!("pii.damaged-{damaged}/0"));
            let kept = aside.join(segment.file_name().unwrap());
            assert_eq!(std::fs::read(kept).unwrap(), bytes);
        }
    }

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
