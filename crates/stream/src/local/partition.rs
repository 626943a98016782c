//! One open partition of the embedded log: what its appenders, writer and readers share.
//!
//! The writer ([`super::writer`]) alone adds segments and moves the end; trimming alone removes segments. Readers take a
//! look at the list under a short lock and then read files without it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::files::{File, Files};
use model::position::{Offset, Partition};

use super::Options;
use super::batch::Queue;
use super::gauges::Counting;
use super::scan::{Scan, Step};
use super::segment::{Segment, io_error};
use crate::{Chunk, Error, Record};

/// What appenders, writer and readers of one partition share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) partition: Partition,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) counting: Counting,
    tail: Mutex<Tail>,
    moved: Condvar,
    /// One trim at a time, so that segments go in order. Says whether a removal is not yet durable.
    trimming: Mutex<bool>,
    /// Segments whose file a reader opened, the longest open first.
    open: Mutex<VecDeque<Arc<Segment>>>,
}

/// What readers may see.
#[derive(Debug)]
pub(crate) struct Tail {
    /// In order, never empty; the last is the active one.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// The first offset that is not readable.
    pub(crate) end: u64,
    /// The byte of the active segment at which readable records end.
    pub(crate) end_at: u64,
    closed: bool,
}

/// How many files of older segments stay open per partition.
const OPEN_FILES_MAX: usize = 8;

/// Reads more than the caller wants by at most so much, and no more than this at once.
const WINDOW_BYTES_MAX: usize = 1 << 20;

impl Shared {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        partition: Partition,
        options: Options,
        segments: VecDeque<Arc<Segment>>,
        end: (u64, u64),
    ) -> Shared {
        let tail = Tail { segments, end: end.0, end_at: end.1, closed: false };
        Shared {
            files,
            dir,
            partition,
            options,
            queue: Queue::default(),
            counting: Counting::default(),
            tail: Mutex::new(tail),
            moved: Condvar::new(),
            trimming: Mutex::default(),
            open: Mutex::default(),
        }
    }

    pub(crate) fn start(&self) -> u64 {
        start(&self.tail())
    }

    pub(crate) fn end(&self) -> u64 {
        self.tail().end
    }

    /// Changes what readers see, and wakes those that wait.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Tail)) {
        change(&mut self.tail());
        self.moved.notify_all();
    }

    /// Wakes all waiters for good.
    pub(crate) fn close(&self) {
        self.publish(|tail| tail.closed = true);
    }

    pub(crate) fn wait(&self, beyond: u64, at_most: Duration) -> bool {
        let begun = Instant::now();
        let mut tail = self.tail();
        loop {
            if tail.end > beyond {
                return true;
            }
            let left = at_most.saturating_sub(begun.elapsed());
            if tail.closed || left.is_zero() {
                return false;
            }
            tail = self.moved.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// See [`crate::Stream::read`].
    pub(crate) fn read(&self, from: u64, bytes_max: usize) -> Result<Chunk, Error> {
        loop {
            let (segment, end, limit) = {
                let tail = self.tail();
                if from < start(&tail) {
                    return Err(self.trimmed(from, start(&tail)));
                }
                if from >= tail.end {
                    let next = Offset::from_number(from);
                    return Ok(Chunk { records: Vec::new(), next });
                }
                // A segment answers for all from its predecessor's end to its successor's beginning of that kind, so
                // that there are no gaps between them even where offsets were given up.
                let after = tail.segments.partition_point(|it| it.header.predecessor_end <= from);
                let segment = Arc::clone(&tail.segments[after - 1]);
                match tail.segments.get(after) {
                    Some(next) => (segment, next.header.predecessor_end, None),
                    None => (segment, tail.end, Some(tail.end_at)),
                }
            };
            match self.file(&segment) {
                Ok(file) => {
                    return self.read_segment(&segment, file, (from, end, limit), bytes_max);
                }
                // Trimmed since: the next look at the list says so.
                Err(error) if error.kind() == io::ErrorKind::NotFound && from < self.start() => {}
                Err(error) => return Err(io_error("open", &segment.path, error)),
            }
        }
    }

    fn read_segment(
        &self,
        segment: &Segment,
        file: Arc<dyn File>,
        (from, end, limit): (u64, u64, Option<u64>),
        bytes_max: usize,
    ) -> Result<Chunk, Error> {
        let limit = match limit {
            Some(limit) => limit,
            None => file.len().map_err(|error| io_error("read", &segment.path, error))?,
        };
        let window_bytes = bytes_max.clamp(16 << 10, WINDOW_BYTES_MAX);
        let place = segment.place_before(from);
        let mut scan = Scan::new(file, segment.header.id, place, limit).with_window(window_bytes);
        let mut chunk = Chunk { records: Vec::new(), next: Offset::from_number(from) };
        let mut bytes = 0;
        while scan.offset() < end {
            let at = scan.at();
            let stored = match scan.next(&segment.path)? {
                Step::Record(stored) => stored,
                Step::Nothing => return Err(damaged(segment, at, "a record is missing")),
                Step::Invalid(what) => return Err(damaged(segment, at, what)),
            };
            if stored.offset < from {
                segment.learn(stored.offset, stored.at);
                continue;
            }
            bytes += stored.bytes.len();
            if bytes > bytes_max && !chunk.records.is_empty() {
                segment.learn_stop(stored.offset, stored.at);
                return Ok(chunk);
            }
            segment.learn(stored.offset, stored.at);
            let offset = Offset::from_number(stored.offset);
            chunk.next = Offset::from_number(stored.offset + 1);
            chunk.records.push(Record { offset, bytes: stored.bytes });
        }
        segment.learn_stop(scan.offset(), scan.at());
        Ok(chunk)
    }

    /// See [`crate::Stream::trim`].
    pub(crate) fn trim(&self, below: u64) -> Result<(), Error> {
        let mut removal_is_pending = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // The oldest goes first, for good, so that what is left after a crash has no hole.
            if *removal_is_pending {
                self.files
                    .sync_dir(&self.dir)
                    .map_err(|error| io_error("sync", &self.dir, error))?;
                *removal_is_pending = false;
            }
            let oldest = {
                let mut tail = self.tail();
                let Some(second) = tail.segments.get(1) else { return Ok(()) };
                if second.header.predecessor_end > below {
                    return Ok(());
                }
                tail.segments.pop_front().expect("there are two")
            };
            match self.files.remove(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let failed = io_error("remove", &oldest.path, error);
                    self.tail().segments.push_front(oldest);
                    return Err(failed);
                }
                _ => *removal_is_pending = true,
            }
            oldest.close();
            self.open().retain(|segment| !Arc::ptr_eq(segment, &oldest));
        }
    }

    fn file(&self, segment: &Arc<Segment>) -> io::Result<Arc<dyn File>> {
        let (file, newly) = segment.file(&*self.files)?;
        if newly {
            self.opened(segment);
        }
        Ok(file)
    }

    /// Lets the file of a segment be closed when others were opened later.
    pub(crate) fn opened(&self, segment: &Arc<Segment>) {
        let mut open = self.open();
        open.push_back(Arc::clone(segment));
        if open.len() > OPEN_FILES_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.close();
        }
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Each change of the tail is complete before anything in it can panic.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trimmed(&self, from: u64, start: u64) -> Error {
        Error::Trimmed {
            partition: self.partition.clone(),
            from: Offset::from_number(from),
            start: Offset::from_number(start),
        }
    }
}

fn start(tail: &Tail) -> u64 {
    tail.segments.front().expect("there is always an active segment").header.predecessor_end
}

fn damaged(segment: &Segment, at: u64, what: &str) -> Error {
    Error::Damaged { path: segment.path.clone(), at, what: what.to_owned() }
}
