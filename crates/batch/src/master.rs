//! One file of the master dataset: raw records of one range of one partition, compressed, checksummed, never changed.
//!
//! The archiver writes them, the batcher and `verify` read them. A file covers [`from`, `to`); its name is made of
//! stream, partition and `from`, so the chain is followed from name to name: the next file is named by this one's `to`.
//! Nothing lists a folder. What a range contains is decided by the archiver; this file knows bytes only.
//!
//! ```text
//! file    = header  frame*  footer  trailer          all numbers little-endian
//! header  = "SNOWRAW\n"   version u32
//! frame   = a zstd frame: record*                    at most about 1 MiB of records, at least one record
//! record  = offset-length u8   offset text   length u32   bytes
//! footer  = JSON: partition, from, to, first, last, records, bytes, frames, sha256 of all bytes before the footer
//! trailer = footer-length u32   footer-crc32c u32   version u32   "SNOWEND\n"
//! ```
//!
//! The page is `docs/formats/master.md`; it lists each way a file can be broken.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::files::{self, File, Files, Published};
use model::position::{Offset, Partition, Range};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stream::Record;

use crate::Error;

/// The format that this binary writes, and the newest that it reads.
pub const VERSION: u32 = 1;

const HEADER_MAGIC: &[u8; 8] = b"SNOWRAW\n";
const TRAILER_MAGIC: &[u8; 8] = b"SNOWEND\n";
const HEADER_BYTES: u64 = 12;
const TRAILER_BYTES: u64 = 20;
/// A frame is closed when its records reach this size, so that a reader holds one frame and not the file.
const FRAME_BYTES: usize = 1 << 20;

/// No frame comes to so much: it is closed at the first record that reaches [`FRAME_BYTES`]. What a footer says beyond
/// it is not believed, so that nobody makes room for it.
const FRAME_BYTES_MAX: u64 = 1 << 30;
const COMPRESSION_LEVEL: i32 = 3;

/// Where the file of `partition` that begins at `from` lies below the data folder:
/// `master/raw/0/00000000000000000000.raw.zst`.
pub fn name(partition: &Partition, from: Offset) -> String {
    format!("master/{partition}/{from}.raw.zst")
}

/// The folder of the files of `partition`.
pub fn folder(data_dir: &Path, partition: &Partition) -> PathBuf {
    data_dir.join(format!("master/{partition}"))
}

/// The whole path of [`name`].
pub fn path(data_dir: &Path, partition: &Partition, from: Offset) -> PathBuf {
    data_dir.join(name(partition, from))
}

/// What a file says about itself. Written last, checked first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub range: Range,
    /// Offset of the first and of the last record; both lie in `range`.
    pub first: Offset,
    pub last: Offset,
    pub records: u64,
    /// Bytes of the records, uncompressed, without framing.
    pub bytes: u64,
    frames: Vec<Frame>,
    /// Hex digest of all bytes before the footer.
    pub sha256: String,
}

/// The JSON form of [`Footer`].
#[derive(Serialize, Deserialize)]
struct FooterText {
    partition: String,
    from: String,
    to: String,
    first: String,
    last: String,
    records: u64,
    bytes: u64,
    frames: Vec<Frame>,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Frame {
    /// Bytes in the file.
    stored: u64,
    /// Bytes after decompression.
    plain: u64,
    records: u64,
    /// CRC-32C of the stored bytes.
    crc32c: u32,
}

/// Builds one file in memory: compressed frames, and at most one frame that is still open.
pub struct Writer {
    partition: Partition,
    from: Offset,
    first: Option<Offset>,
    last: Offset,
    records: u64,
    bytes: u64,
    content: Vec<u8>,
    frames: Vec<Frame>,
    open: Vec<u8>,
    open_records: u64,
}

impl Writer {
    /// Starts the file of `partition` that begins at `from`.
    pub fn new(partition: Partition, from: Offset) -> Writer {
        let mut content = HEADER_MAGIC.to_vec();
        content.extend_from_slice(&VERSION.to_le_bytes());
        Writer {
            partition,
            from,
            first: None,
            last: from,
            records: 0,
            bytes: 0,
            content,
            frames: Vec::new(),
            open: Vec::new(),
            open_records: 0,
        }
    }

    /// Adds a record; its bytes are kept as they are.
    ///
    /// # Panics
    /// When the offset is not above the one before it: a stream that is out of order must not reach the disk.
    pub fn push(&mut self, record: &Record) {
        let in_order = match self.first {
            None => record.offset >= self.from,
            Some(_) => record.offset > self.last,
        };
        assert!(in_order, "{} {} after {}", self.partition, record.offset, self.last);
        let length = u32::try_from(record.bytes.len()).expect("a record is far below 4 GiB");
        let offset = record.offset.to_string();
        self.open.push(u8::try_from(offset.len()).expect("the text of an offset is short"));
        self.open.extend_from_slice(offset.as_bytes());
        self.open.extend_from_slice(&length.to_le_bytes());
        self.open.extend_from_slice(&record.bytes);
        self.open_records += 1;
        self.first.get_or_insert(record.offset);
        self.last = record.offset;
        self.records += 1;
        self.bytes += u64::from(length);
        if self.open.len() >= FRAME_BYTES {
            self.close_frame();
        }
    }

    /// Bytes of the records so far, uncompressed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The whole file, covering [`from`, `to`).
    ///
    /// # Panics
    /// Without a record, or when a record lies at or beyond `to`: such a file would break the chain.
    pub fn finish(mut self, to: Offset) -> (Vec<u8>, Footer) {
        let first = self.first.expect("a file of the master dataset has at least one record");
        assert!(self.last < to, "{} {} in a file that ends at {to}", self.partition, self.last);
        self.close_frame();
        let footer = Footer {
            range: Range { partition: self.partition, from: self.from, to },
            first,
            last: self.last,
            records: self.records,
            bytes: self.bytes,
            frames: self.frames,
            sha256: hex(&Sha256::digest(&self.content)),
        };
        let text = footer.to_json();
        let mut content = self.content;
        content.extend_from_slice(&text);
        content.extend_from_slice(
            &u32::try_from(text.len()).expect("a footer is short").to_le_bytes(),
        );
        content.extend_from_slice(&crc32c::crc32c(&text).to_le_bytes());
        content.extend_from_slice(&VERSION.to_le_bytes());
        content.extend_from_slice(TRAILER_MAGIC);
        (content, footer)
    }

    fn close_frame(&mut self) {
        if self.open_records == 0 {
            return;
        }
        let stored = zstd::bulk::compress(&self.open, COMPRESSION_LEVEL)
            .expect("compression in memory does not fail");
        self.frames.push(Frame {
            stored: stored.len() as u64,
            plain: self.open.len() as u64,
            records: self.open_records,
            crc32c: crc32c::crc32c(&stored),
        });
        self.content.extend_from_slice(&stored);
        self.open.clear();
        self.open_records = 0;
    }
}

/// Makes a finished file durable under its name, unless the name is taken.
pub fn publish(
    files: &dyn Files,
    data_dir: &Path,
    content: &[u8],
    footer: &Footer,
) -> Result<Published, Error> {
    let path = path(data_dir, &footer.range.partition, footer.range.from);
    files::publish(files, &path, content).map_err(Error::io("archive", &path))
}

impl Footer {
    /// Where the file lies below the data folder.
    pub fn name(&self) -> String {
        name(&self.range.partition, self.range.from)
    }

    /// Reads the footer of the file that begins at `from`, without its records. `None` when there is no such file:
    /// then the chain ends here.
    pub fn read(
        files: &dyn Files,
        data_dir: &Path,
        partition: &Partition,
        from: Offset,
    ) -> Result<Option<Footer>, Error> {
        Ok(Reader::open(files, data_dir, partition, from)?.map(|reader| reader.footer))
    }

    fn to_json(&self) -> Vec<u8> {
        let text = FooterText {
            partition: self.range.partition.to_string(),
            from: self.range.from.to_string(),
            to: self.range.to.to_string(),
            first: self.first.to_string(),
            last: self.last.to_string(),
            records: self.records,
            bytes: self.bytes,
            frames: self.frames.clone(),
            sha256: self.sha256.clone(),
        };
        serde_json::to_vec(&text).expect("plain texts and numbers always serialize")
    }

    fn from_json(path: &Path, json: &[u8]) -> Result<Footer, Error> {
        let text: FooterText = serde_json::from_slice(json)
            .map_err(|error| Error::damaged(path, format!("footer: {error}")))?;
        let offset = |text: &str| {
            text.parse::<Offset>().map_err(|error| Error::damaged(path, format!("footer: {error}")))
        };
        let partition = Partition::parse(&text.partition)
            .map_err(|error| Error::damaged(path, format!("footer: {error}")))?;
        Ok(Footer {
            range: Range { partition, from: offset(&text.from)?, to: offset(&text.to)? },
            first: offset(&text.first)?,
            last: offset(&text.last)?,
            records: text.records,
            bytes: text.bytes,
            frames: text.frames,
            sha256: text.sha256,
        })
    }
}

/// Reads one file, frame by frame. Every byte is checked: what [`Reader::read_frame`] has returned `None` for is the
/// file that was written.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Box<dyn File>,
    footer: Footer,
    frame: usize,
    at: u64,
    digest: Sha256,
    first: Option<Offset>,
    last: Option<Offset>,
    bytes: u64,
}

impl Reader {
    /// Opens the file of `partition` that begins at `from` and checks its header, trailer and footer.
    /// `None` when there is no such file.
    pub fn open(
        files: &dyn Files,
        data_dir: &Path,
        partition: &Partition,
        from: Offset,
    ) -> Result<Option<Reader>, Error> {
        let path = path(data_dir, partition, from);
        let file = match files.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let (header, footer) = read_ends(&path, file.as_ref())?;
        if footer.range.partition != *partition || footer.range.from != from {
            return Err(Error::damaged(
                &path,
                format!("it holds {} from {}", footer.range.partition, footer.range.from),
            ));
        }
        let mut digest = Sha256::new();
        digest.update(&header);
        Ok(Some(Reader {
            path,
            file,
            footer,
            frame: 0,
            at: HEADER_BYTES,
            digest,
            first: None,
            last: None,
            bytes: 0,
        }))
    }

    /// What the file says about itself.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The records of the next frame, in order; `None` at the end, after the whole file was found intact.
    ///
    /// # Errors
    /// [`Error::Damaged`] says what differs. Records handed out before may only be used when `None` was reached.
    pub fn read_frame(&mut self) -> Result<Option<Vec<Record>>, Error> {
        let Some(frame) = self.footer.frames.get(self.frame).cloned() else {
            self.check_whole()?;
            return Ok(None);
        };
        let mut stored = vec![0; usize::try_from(frame.stored).expect("checked when opened")];
        self.file.read_exact_at(&mut stored, self.at).map_err(Error::io("read", &self.path))?;
        if crc32c::crc32c(&stored) != frame.crc32c {
            return Err(self.damaged(format!("frame {} has a wrong checksum", self.frame)));
        }
        self.digest.update(&stored);
        let plain_bytes = usize::try_from(frame.plain).unwrap_or(usize::MAX);
        let plain = zstd::bulk::decompress(&stored, plain_bytes)
            .map_err(|error| self.damaged(format!("frame {}: {error}", self.frame)))?;
        let records = self.split(&frame, plain.into())?;
        self.at += frame.stored;
        self.frame += 1;
        Ok(Some(records))
    }

    fn split(&mut self, frame: &Frame, mut plain: Bytes) -> Result<Vec<Record>, Error> {
        let wrong =
            |reader: &Reader, what: &str| reader.damaged(format!("frame {}: {what}", reader.frame));
        if plain.len() as u64 != frame.plain {
            return Err(wrong(self, "its length differs"));
        }
        let mut records = Vec::new();
        while !plain.is_empty() {
            let record = split_record(&mut plain).ok_or_else(|| wrong(self, "a record is torn"))?;
            let range = &self.footer.range;
            let in_range = record.offset >= range.from && record.offset < range.to;
            if !in_range || self.last.is_some_and(|last| record.offset <= last) {
                return Err(wrong(self, "a record is out of order"));
            }
            self.first.get_or_insert(record.offset);
            self.last = Some(record.offset);
            self.bytes += record.bytes.len() as u64;
            records.push(record);
        }
        if records.len() as u64 != frame.records {
            return Err(wrong(self, "its number of records differs"));
        }
        Ok(records)
    }

    fn check_whole(&self) -> Result<(), Error> {
        let footer = &self.footer;
        if hex(&self.digest.clone().finalize()) != footer.sha256 {
            return Err(self.damaged("the whole checksum differs".to_owned()));
        }
        let counted =
            footer.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(frame.records));
        let agrees = counted == Some(footer.records)
            && self.bytes == footer.bytes
            && self.first == Some(footer.first)
            && self.last == Some(footer.last);
        if agrees { Ok(()) } else { Err(self.damaged("footer and records differ".to_owned())) }
    }

    fn damaged(&self, what: String) -> Error {
        Error::damaged(&self.path, what)
    }
}

/// Reads the whole file that begins at `from` and checks every byte. `None` when there is no such file.
pub fn verify(
    files: &dyn Files,
    data_dir: &Path,
    partition: &Partition,
    from: Offset,
) -> Result<Option<Footer>, Error> {
    let Some(mut reader) = Reader::open(files, data_dir, partition, from)? else {
        return Ok(None);
    };
    while reader.read_frame()?.is_some() {}
    Ok(Some(reader.footer))
}

/// The footers of the files from `from` on, until a name is missing: the end of the chain is the last footer's `to`, or
/// `from` itself.
///
/// # Errors
/// [`Error::Hole`] when the chain ends below `reaches`, the offset up to which files are known to have existed (the
/// published cut): the file that is missing is named.
pub fn chain(
    files: &dyn Files,
    data_dir: &Path,
    partition: &Partition,
    from: Offset,
    reaches: Offset,
) -> Result<Vec<Footer>, Error> {
    let mut links = Vec::new();
    let mut end = from;
    while let Some(footer) = Footer::read(files, data_dir, partition, end)? {
        end = footer.range.to;
        links.push(footer);
    }
    if end < reaches {
        let path = path(data_dir, partition, end);
        return Err(Error::Hole { partition: partition.clone(), from: end, to: reaches, path });
    }
    Ok(links)
}

fn split_record(plain: &mut Bytes) -> Option<Record> {
    let offset_bytes = usize::from(take(plain, 1)?[0]);
    let offset = std::str::from_utf8(&take(plain, offset_bytes)?).ok()?.parse().ok()?;
    let length = u32::from_le_bytes(take(plain, 4)?.as_ref().try_into().ok()?);
    let bytes = take(plain, usize::try_from(length).ok()?)?;
    Some(Record { offset, bytes })
}

fn take(plain: &mut Bytes, count: usize) -> Option<Bytes> {
    (plain.len() >= count).then(|| plain.split_to(count))
}

/// Header bytes and footer of a file, checked against each other and against the file's length.
fn read_ends(path: &Path, file: &dyn File) -> Result<(Vec<u8>, Footer), Error> {
    let io = |error| Error::io("read", path)(error);
    let length = file.len().map_err(io)?;
    if length < HEADER_BYTES + TRAILER_BYTES {
        return Err(Error::damaged(path, format!("{length} bytes are too few")));
    }
    let mut header = vec![0; HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0).map_err(io)?;
    if &header[..8] != HEADER_MAGIC {
        return Err(Error::damaged(path, "it does not begin as a file of the master dataset"));
    }
    check_version(path, number(&header[8..12]))?;
    let mut trailer = vec![0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, length - TRAILER_BYTES).map_err(io)?;
    if &trailer[12..20] != TRAILER_MAGIC {
        return Err(Error::damaged(path, "its end is missing"));
    }
    check_version(path, number(&trailer[8..12]))?;
    let footer_bytes = u64::from(number(&trailer[0..4]));
    let Some(footer_at) =
        (length - TRAILER_BYTES).checked_sub(footer_bytes).filter(|at| *at >= HEADER_BYTES)
    else {
        return Err(Error::damaged(path, "the length of its footer is wrong"));
    };
    let mut json = vec![0; footer_bytes as usize];
    file.read_exact_at(&mut json, footer_at).map_err(io)?;
    if crc32c::crc32c(&json) != number(&trailer[4..8]) {
        return Err(Error::damaged(path, "its footer has a wrong checksum"));
    }
    let footer = Footer::from_json(path, &json)?;
    let stored = footer.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(frame.stored));
    if stored != Some(footer_at - HEADER_BYTES) {
        return Err(Error::damaged(path, "its frames do not fill it"));
    }
    if footer.frames.iter().any(|frame| frame.plain > FRAME_BYTES_MAX) {
        return Err(Error::damaged(path, "a frame says that it holds more than any does"));
    }
    let range = &footer.range;
    if !(range.from <= footer.first && footer.first <= footer.last && footer.last < range.to) {
        return Err(Error::damaged(path, "the range in its footer is not a range"));
    }
    Ok((header, footer))
}

fn check_version(path: &Path, version: u32) -> Result<(), Error> {
    match version {
        VERSION => Ok(()),
        0 => Err(Error::damaged(path, "format version 0 does not exist")),
        version => Err(Error::Newer { path: path.to_owned(), version, known: VERSION }),
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}

#[cfg(test)]
mod tests;
