//! Copies a partition into another folder while its owner goes on writing to it.
//!
//! Used by `snowmelt backup`. The copy holds at least what was acknowledged before it began, and opens as after a crash.
//! Nothing is locked: the newest file is copied first, so what is trimmed meanwhile is missing at the beginning only,
//! and of the file that grows the copy keeps what a reader would have seen.

use std::io;
use std::path::Path;

use model::files::{File, Files};
use model::position::Partition;

use super::salvage;
use super::segment::{self, Header, RECORDS_AT, io_error};
use crate::Error;

/// Copies the segments of `partition` from one folder of streams into another, and makes them durable there.
///
/// # Errors
/// [`Error::Damaged`] for a file without a valid header, [`Error::NewerFormat`], [`Error::Io`].
pub fn copy(
    files: &dyn Files,
    streams_dir: &Path,
    partition: &Partition,
    into_streams_dir: &Path,
) -> Result<(), Error> {
    let dir = streams_dir.join(partition.as_str());
    let into = into_streams_dir.join(partition.as_str());
    files.create_dir_all(&into).map_err(|error| io_error("create", &into, error))?;
    let names = files.list(&dir).map_err(|error| io_error("list", &dir, error))?;
    for (age, base) in segment::bases(&names).into_iter().rev().enumerate() {
        let path = dir.join(segment::file_name(base));
        let mut content = match files.read(&path) {
            Ok(content) => content,
            // Trimmed since: then everything older is, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(io_error("read", &path, error)),
        };
        let header = Header::decode(&content, &path)?;
        if age == 0 {
            // A batch that was written while this was read may be here in part, with later ones behind it.
            let end = salvage::readable_end(&content, header.id, base);
            content[end.max(RECORDS_AT) as usize..].fill(0);
        }
        write(files, &into.join(segment::file_name(base)), &content)?;
    }
    files.sync_dir(&into).map_err(|error| io_error("sync", &into, error))
}

fn write(files: &dyn Files, path: &Path, content: &[u8]) -> Result<(), Error> {
    let written = files
        .create(path)
        .and_then(|file: Box<dyn File>| file.write_all_at(content, 0).and_then(|()| file.sync()));
    written.map_err(|error| io_error("write", path, error))
}
