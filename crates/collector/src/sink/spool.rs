//! The local spool: a log on disk between the requests and a sink, so that an outage of the sink costs disk, not events.
//!
//! A request is acknowledged when it is in the spool and synced. [`Spool::forward`] reads it from there, hands it to the
//! delivery, and notes how far the sink has confirmed; a start goes on from that note, so a kill repeats at most the
//! requests since it. The log is that of the crate `stream`; its records and the note are drawn in
//! `docs/formats/spool.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::causes::Causes;
use model::files::Files;
use model::position::{Offset, Partition};
use model::time::Timestamp;
use stream::local::inspect::{self, State};
use stream::local::{Local, Options};
use stream::{Append, Chunk, Stream};
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::entry;

/// The file beside the partition that says how far the sink has confirmed.
const NOTE: &str = "confirmed";

/// How often the note is written while records flow; a kill repeats about so much.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// How much is read for one round.
const CHUNK_BYTES: usize = 4 << 20;

/// How much of what is left is read for counting it at the end.
const COUNT_BYTES_MAX: usize = 256 << 20;

/// How long a fault of the disk is waited out before the spool is read again.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Where a spool lies and how large it may get.
#[derive(Clone, Debug)]
pub struct Place {
    pub files: Arc<dyn Files>,
    /// The folder of all spools of the process.
    pub dir: PathBuf,
    pub segment_bytes: u64,
    /// What it may take of the disk, in whole segments.
    pub bytes_max: u64,
    /// As [`Options::disk_reserve_bytes`].
    pub disk_reserve_bytes: Option<u64>,
}

/// One sink's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    log: Arc<Local>,
    partition: Partition,
    place: Place,
    /// `<dir>/<name>/0`.
    folder: PathBuf,
    /// What the segments took when they were last looked at, and what was appended since.
    measured: AtomicU64,
    appended: AtomicU64,
    /// Everything below is confirmed by the sink.
    confirmed: AtomicU64,
    /// What the note says.
    noted: AtomicU64,
    came: Notify,
    moved: Notify,
}

impl Spool {
    /// Opens the spool, or creates it. What an earlier process left in it is sent first.
    ///
    /// # Errors
    /// Those of [`Local::open`].
    pub(crate) fn open(place: Place, name: &str) -> Result<Spool, stream::Error> {
        let options = Options {
            segment_bytes_first: place.segment_bytes.min(1 << 20),
            segment_bytes_max: place.segment_bytes,
            disk_reserve_bytes: place.disk_reserve_bytes,
            record_bytes_max: 64 << 20,
            queue_bytes_max: 64 << 20,
            ..Options::default()
        };
        let log = Local::open(Arc::clone(&place.files), &place.dir, name, 1, options)?;
        let partition = log.partitions()[0].clone();
        let folder = place.dir.join(name).join("0");
        let spool = Spool {
            confirmed: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            noted: AtomicU64::new(0),
            came: Notify::new(),
            moved: Notify::new(),
            log: Arc::new(log),
            partition,
            place,
            folder,
        };
        let noted = spool.read_note();
        spool.noted.store(noted, Ordering::Relaxed);
        let from = noted.max(spool.log.start(&spool.partition)?.number());
        spool.confirmed.store(from, Ordering::Relaxed);
        spool.measure();
        Ok(spool)
    }

    /// Whether `max-bytes` is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.place.bytes_max
    }

    /// Appends one request; it is safe when the future says so.
    pub(crate) fn append(&self, records: &[Bytes], key: &Bytes, now: Timestamp) -> Append {
        let request = entry::encode(records, key, now);
        self.appended.fetch_add(request.len() as u64, Ordering::Relaxed);
        self.log.append(&self.partition, vec![request])
    }

    /// An append has become durable: there is something to forward.
    pub(crate) fn notice(&self) {
        self.came.notify_one();
    }

    /// Sends what is there and what comes, until the delivery takes nothing more. Never ends by itself otherwise.
    pub(crate) async fn forward(self: Arc<Spool>, delivery: Arc<Delivery>) {
        let mut noted_at = Instant::now();
        loop {
            delivery.stats().spool_takes(self.bytes());
            let from = Offset::from_number(self.confirmed.load(Ordering::Relaxed));
            let chunk = match self.blocking(move |spool| spool.read(from)).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::error!(spool = self.log.name(), error = %Causes(&error), "the spool cannot be read; trying again");
                    tokio::time::sleep(FAULT_PAUSE).await;
                    continue;
                }
            };
            if chunk.records.is_empty() {
                delivery.stats().spool_begins(None);
                self.blocking(|spool| spool.note()).await;
                // An append whose client is gone is noticed by nobody.
                let _ = tokio::time::timeout(NOTE_INTERVAL, self.came.notified()).await;
                continue;
            }
            let is_backlog = self.log.end(&self.partition).is_ok_and(|end| end > chunk.next);
            if self.send(&delivery, &chunk, is_backlog, &mut noted_at).await.is_none() {
                return;
            }
            self.confirm(chunk.next.number(), &mut noted_at).await;
        }
    }

    /// Everything below is with the sink; the note says so now and then.
    async fn confirm(self: &Arc<Spool>, below: u64, noted_at: &mut Instant) {
        self.confirmed.store(below, Ordering::Relaxed);
        self.moved.notify_waiters();
        if noted_at.elapsed() >= NOTE_INTERVAL {
            *noted_at = Instant::now();
            self.blocking(|spool| spool.note()).await;
        }
    }

    /// Hands a chunk to the delivery and waits until the sink has all of it; `None` when the process ends before.
    async fn send(
        self: &Arc<Spool>,
        delivery: &Delivery,
        chunk: &Chunk,
        is_backlog: bool,
        noted_at: &mut Instant,
    ) -> Option<()> {
        let mut waiting = Vec::new();
        let mut oldest = None;
        for record in &chunk.records {
            let (came, entries) = match entry::decode(record.bytes.clone()) {
                Ok(decoded) => decoded,
                Err(what) => {
                    // A record that cannot be understood is not passed over: it was answered 200.
                    tracing::error!(spool = self.log.name(), offset = %record.offset, what, "the spool stands still");
                    std::future::pending::<()>().await;
                    return None;
                }
            };
            if oldest.is_none() {
                oldest = Some(came);
                delivery.stats().spool_begins(oldest);
            }
            if entries.is_empty() {
                continue;
            }
            let confirmed = delivery.take_when_there_is_room(entries).await?;
            waiting.push((record.offset.number(), confirmed));
        }
        if is_backlog {
            // There is more: waiting for the buffer's time would only be slow.
            delivery.flush();
        }
        // Each as it comes, for a sink that takes minutes for a chunk.
        for (offset, confirmed) in waiting {
            confirmed.await.ok()?;
            self.confirm(offset + 1, noted_at).await;
        }
        Some(())
    }

    /// Ends when the sink has confirmed all that is in the spool.
    pub(crate) async fn forwarded(&self) {
        loop {
            let moved = self.moved.notified();
            let end = self.log.end(&self.partition).map_or(0, Offset::number);
            if self.confirmed.load(Ordering::Relaxed) >= end {
                return;
            }
            moved.await;
        }
    }

    /// Writes the note for the last time and closes the log. How many records the sink has not confirmed; counting ends
    /// after the first 256 MiB of them.
    pub(crate) fn close(&self) -> u64 {
        self.log.close();
        self.note();
        let (mut from, mut records, mut bytes) = (self.confirmed.load(Ordering::Relaxed), 0, 0);
        while bytes < COUNT_BYTES_MAX {
            match self.read(Offset::from_number(from)) {
                Ok(chunk) if !chunk.records.is_empty() => {
                    for record in &chunk.records {
                        bytes += record.bytes.len();
                        let entries = entry::decode(record.bytes.clone());
                        records += entries.map_or(1, |(_, entries)| entries.len() as u64);
                    }
                    from = chunk.next.number();
                }
                Ok(_) | Err(_) => break,
            }
        }
        records
    }

    fn read(&self, from: Offset) -> Result<Chunk, stream::Error> {
        // What an error of the disk left behind may be a hole; the log says where it goes on.
        let from = from.max(self.log.start(&self.partition)?);
        self.log.read(&self.partition, from, CHUNK_BYTES)
    }

    /// Runs something that waits for the disk where that delays nobody.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Spool>,
        work: impl FnOnce(&Spool) -> T + Send + 'static,
    ) -> T {
        let spool = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&spool)).await;
        match done.map_err(JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    fn bytes(&self) -> u64 {
        self.measured.load(Ordering::Relaxed) + self.appended.load(Ordering::Relaxed)
    }

    /// Looks how much the segments take.
    fn measure(&self) {
        let files = &self.place.files;
        let size =
            |name: &String| -> io::Result<u64> { files.open_read(&self.folder.join(name))?.len() };
        // A file that goes away meanwhile takes nothing.
        let names = files.list(&self.folder).unwrap_or_default();
        let bytes = names.iter().filter_map(|name| size(name).ok()).sum();
        self.appended.store(0, Ordering::Relaxed);
        self.measured.store(bytes, Ordering::Relaxed);
    }

    /// Makes durable how far the sink has confirmed, and gives that part of the disk back.
    fn note(&self) {
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        if self.noted.load(Ordering::Relaxed) == confirmed {
            return;
        }
        let text = note_text(confirmed);
        let done = model::files::replace(&*self.place.files, &self.note_path(), text.as_bytes());
        if let Err(error) = done {
            // A later note will do; until then a kill repeats more.
            tracing::warn!(spool = self.log.name(), %error, "cannot note how far the sink has confirmed");
            return;
        }
        self.noted.store(confirmed, Ordering::Relaxed);
        if let Err(error) = self.log.trim(&self.partition, Offset::from_number(confirmed)) {
            tracing::warn!(spool = self.log.name(), error = %Causes(&error), "cannot trim the spool");
        }
        self.measure();
    }

    fn note_path(&self) -> PathBuf {
        self.folder.with_file_name(NOTE)
    }

    /// How far the sink had confirmed; from the beginning if that cannot be told.
    fn read_note(&self) -> u64 {
        let path = self.note_path();
        match self.place.files.read(&path) {
            Ok(bytes) => parse_note(&bytes).unwrap_or_else(|| {
                tracing::warn!(file = %path.display(), "not understood: all that the spool holds is sent again");
                0
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "not readable: all that the spool holds is sent again");
                0
            }
        }
    }
}

/// A spool that nobody has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) folder: PathBuf,
    /// How many requests it holds, or why that cannot be told.
    pub(crate) holds: String,
}

/// The spools of a folder that may hold requests which are not with their sink, but for those named `open`. Reads only: a
/// spool may be somebody else's, and one that is damaged hinders nobody who does not use it.
pub(crate) fn left_behind(files: &dyn Files, dir: &Path, open: &[String]) -> Vec<Left> {
    let unknown = |folder: PathBuf, error: Causes<'_>| Left { folder, holds: error.to_string() };
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![unknown(dir.to_owned(), Causes(&error))],
    };
    let mut left = Vec::new();
    for name in names.into_iter().filter(|name| !open.contains(name)) {
        let folder = dir.join(&name);
        let listing = match inspect::list_stream(files, dir, &name) {
            Ok(Some(listing)) => listing,
            Ok(None) => continue,
            Err(error) => {
                left.push(unknown(folder, Causes(&error)));
                continue;
            }
        };
        let confirmed = files.read(&folder.join(NOTE)).ok().and_then(|bytes| parse_note(&bytes));
        let from = confirmed.unwrap_or(0).max(listing.start.number());
        match listing.state {
            State::Damaged(error) => left.push(unknown(folder, Causes(&error))),
            State::Whole | State::TornTail { .. } => {
                let requests = listing.end.number().saturating_sub(from);
                let holds = format!("{requests} requests");
                left.extend((requests > 0).then_some(Left { folder, holds }));
            }
        }
    }
    left
}

/// The content of the note.
fn note_text(confirmed: u64) -> String {
    format!("{{\"format\":1,\"confirmed\":\"{confirmed:020}\"}}\n")
}

fn parse_note(bytes: &[u8]) -> Option<u64> {
    let text = str::from_utf8(bytes).ok()?;
    let number = text.strip_prefix("{\"format\":1,\"confirmed\":\"")?.strip_suffix("\"}\n")?;
    number.parse().ok().filter(|number: &u64| note_text(*number) == text)
}

/// The folder of the spools where none is named.
pub(crate) fn default_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("spool")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_nothing_else_is_one() {
        for confirmed in [0, 7, u64::MAX] {
            assert_eq!(parse_note(note_text(confirmed).as_bytes()), Some(confirmed));
        }
        for text in [
            "",
            "{\"format\":2,\"confirmed\":\"00000000000000000007\"}\n",
            "{\"format\":1,\"confirmed\":\"7\"}\n",
        ] {
            assert_eq!(parse_note(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_spool_that_is_left_behind_is_told_of_whatever_its_state() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        let files = stream::disk::Disk;
        let left = |open: &[&str]| {
            let open: Vec<String> = open.iter().map(|it| (*it).to_owned()).collect();
            left_behind(&files, dir, &open)
        };
        assert_eq!(left_behind(&files, &dir.join("none"), &[]), []);
        let place = Place {
            files: Arc::new(files),
            dir: dir.to_owned(),
            segment_bytes: 64 << 10,
            bytes_max: 1 << 30,
            disk_reserve_bytes: Some(0),
        };
        let spool = Spool::open(place, "good").unwrap();
        let record = [Bytes::from(vec![7; 40_000])];
        for _ in 0..3 {
            // A segment is begun when the one before is full.
            let append = spool.append(&record, &Bytes::new(), Timestamp(0));
            futures::executor::block_on(append).unwrap();
        }
        spool.confirmed.store(1, Ordering::Relaxed);
        assert_eq!(spool.close(), 2);
        std::fs::write(dir.join("a-file"), "").unwrap();
        std::fs::create_dir(dir.join("a-folder")).unwrap();
        let expect = |holds: &str| [Left { folder: dir.join("good"), holds: holds.to_owned() }];
        assert_eq!(left(&[]), expect("2 requests"));
        assert_eq!(left(&["good"]), []);
        let before: Vec<_> = std::fs::read_dir(dir.join("good/0")).unwrap().collect();
        std::fs::write(dir.join("good").join(NOTE), "garbled").unwrap();
        assert_eq!(left(&[]), expect("2 requests"), "the first was trimmed");
        for segment in before {
            std::fs::write(segment.unwrap().path(), vec![1; 5000]).unwrap();
        }
        let [Left { holds, .. }] = &left(&[])[..] else { panic!("it is not told of") };
        assert!(holds.contains("damaged"), "{holds}");
    }
}
