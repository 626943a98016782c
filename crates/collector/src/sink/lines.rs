//! Records as lines of text: to stdout, for a pipe or for the eye. Snowplow: `collector.md` 5.3.
//!
//! A line is the Base64 of one record, without padding, as the stdout sink of Snowplow's collector prints it. A thread
//! of its own writes, since a pipe that nobody reads blocks its writer for as long as it likes; it ends when everything
//! that hands it something is gone, and is not waited for. What has been written is as durable as whoever reads it; a
//! record that was written in part is refused, and comes again as a line of its own.
//!
//! On stderr the log has its lines, too. They go through the same thread ([`Printer`]), so that none cuts another, and
//! are dropped where there is no room: nobody ever waits for the log.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::oneshot;

use super::{Answer, Entry, Failure, Limits, Refused, Sink};

/// What may wait for the thread: more than the batches that a delivery has on their way.
const JOBS_MAX: usize = 2048;

/// What is written at a time: a reader that takes this much in ten seconds keeps the sink healthy.
const BATCH_BYTES: usize = 64 << 10;

/// Between two looks at what is full: a pipe that does not block, or the places for the thread.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(5);

/// `EIO` of the system.
const EIO: i32 = 5;

/// See the module.
#[derive(Debug)]
pub struct Lines {
    name: &'static str,
    jobs: SyncSender<Job>,
    is_gone: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Job {
    Batch { entries: Vec<Entry>, answer: oneshot::Sender<Result<Vec<Refused>, Failure>> },
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// What a line is written to, and where it stands.
struct Out<W> {
    out: W,
    /// What was written last did not end with a line feed.
    is_mid_line: bool,
    is_terminal: bool,
}

impl Lines {
    /// Records on stdout; a closed one is `/dev/null`. `gone` is called when its reader is gone.
    ///
    /// # Errors
    /// When there is no file descriptor or no thread to be had.
    pub fn stdout(gone: impl Fn() + Send + 'static) -> io::Result<Lines> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Lines::start("stdout", Out::of_file(out), gone)
    }

    /// Bad rows on stderr, as [`Lines::stdout`].
    ///
    /// # Errors
    /// As [`Lines::stdout`].
    pub fn stderr(gone: impl Fn() + Send + 'static) -> io::Result<Lines> {
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Lines::start("stderr", Out::of_file(out), gone)
    }

    #[cfg(test)]
    fn to(name: &'static str, out: impl Write + Send + 'static) -> io::Result<Lines> {
        Lines::start(name, Out { out, is_mid_line: false, is_terminal: false }, || {})
    }

    fn start<W: Write + Send + 'static>(
        name: &'static str,
        mut out: Out<W>,
        gone: impl Fn() + Send + 'static,
    ) -> io::Result<Lines> {
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let is_gone = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_gone);
        let gone = move || {
            if !flag.swap(true, Ordering::Relaxed) {
                gone();
            }
        };
        let run = move || out.work(&waiting, gone);
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Lines { name, jobs, is_gone })
    }

    /// The same place under another name: where stdout and stderr are one file or pipe, two writers would cut each
    /// other's lines.
    pub fn as_well_as(&self, name: &'static str) -> Lines {
        Lines { name, jobs: self.jobs.clone(), is_gone: Arc::clone(&self.is_gone) }
    }

    /// Puts lines of somebody else between the records.
    pub fn printer(&self) -> Printer {
        Printer { jobs: self.jobs.clone(), dropped: AtomicU64::new(0) }
    }
}

/// Puts lines between the records of [`Lines`], without ever waiting.
#[derive(Debug)]
pub struct Printer {
    jobs: SyncSender<Job>,
    dropped: AtomicU64,
}

impl Printer {
    /// Prints whole lines, each with its line feed; they are dropped when there is no room, which a later one says.
    pub fn print(&self, lines: &[u8]) {
        self.print_within(lines, Duration::ZERO);
    }

    /// As [`Printer::print`], but waits so long for room: for what somebody should read by all means.
    pub fn print_within(&self, lines: &[u8], at_most: Duration) {
        let mut text = Vec::with_capacity(lines.len());
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            text =
                format!("{dropped} pieces of the log were dropped: nobody reads it\n").into_bytes();
        }
        text.extend_from_slice(lines);
        if !self.send_by(Job::Text(text), Instant::now() + at_most) {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    /// Waits until all of it is written, but not longer than this.
    pub fn flush(&self, at_most: Duration) {
        let by = Instant::now() + at_most;
        let (done, written) = sync_channel(1);
        if self.send_by(Job::Flush(done), by) {
            // Either way it is over.
            let _ = written.recv_timeout(by.saturating_duration_since(Instant::now()));
        }
    }

    /// True when there was room in time.
    fn send_by(&self, mut job: Job, by: Instant) -> bool {
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < by => job = back,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
            std::thread::sleep(WOULD_BLOCK_PAUSE);
        }
    }
}

/// Whether stdout and stderr are one file, pipe or terminal.
///
/// # Errors
/// When the system does not tell.
pub fn stdout_is_stderr() -> io::Result<bool> {
    let of = |fd: BorrowedFd<'_>| -> io::Result<(u64, u64)> {
        let metadata = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    Ok(of(io::stdout().as_fd())? == of(io::stderr().as_fd())?)
}

impl Out<File> {
    fn of_file(out: File) -> Out<File> {
        let (is_mid_line, is_terminal) = (ends_in_mid_line(&out), out.is_terminal());
        Out { out, is_mid_line, is_terminal }
    }
}

/// Whether a file was left in the middle of a line, by a process that was killed or found the disk full.
fn ends_in_mid_line(out: &File) -> bool {
    let length = match out.metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) | Err(_) => 0,
    };
    let Some(last) = length.checked_sub(1) else { return false };
    // It is open for writing alone.
    let mut byte = [0];
    let read = File::open(format!("/proc/self/fd/{}", out.as_raw_fd()))
        .and_then(|file| file.read_exact_at(&mut byte, last));
    // An empty line more is no harm.
    read.is_err() || byte != *b"\n"
}

impl<W: Write> Out<W> {
    fn work(&mut self, waiting: &Receiver<Job>, gone: impl Fn()) {
        for job in waiting {
            let result = match job {
                // Given up while the one before was written: it is sent again.
                Job::Batch { answer, .. } if answer.is_closed() => Ok(()),
                Job::Batch { entries, answer } => {
                    let (outcome, result) = self.write_lines(&entries);
                    // Nobody waits any more: the process ends.
                    let _ = answer.send(outcome);
                    result
                }
                Job::Text(text) => self.write(&text).1,
                Job::Flush(done) => {
                    // Nobody waits any more.
                    let _ = done.try_send(());
                    Ok(())
                }
            };
            if result.is_err_and(|error| self.is_of_a_reader_that_is_gone(&error)) {
                gone();
            }
        }
    }

    fn is_of_a_reader_that_is_gone(&self, error: &io::Error) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
        // What a terminal says that was closed; for a file it is a fault of the disk.
        let is_hung_up = self.is_terminal && error.raw_os_error() == Some(EIO);
        is_hung_up || [BrokenPipe, ConnectionReset, NotConnected].contains(&error.kind())
    }

    /// Writes all lines with as few calls as the other end takes. What became of them, and of the last call.
    fn write_lines(
        &mut self,
        entries: &[Entry],
    ) -> (Result<Vec<Refused>, Failure>, io::Result<()>) {
        let mut text = String::new();
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries {
            STANDARD_NO_PAD.encode_string(&entry.bytes, &mut text);
            text.push('\n');
            ends.push(text.len());
        }
        let (written, result) = self.write(text.as_bytes());
        let outcome = match &result {
            Ok(()) => Ok(Vec::new()),
            Err(error) => {
                let reason = error.to_string();
                match ends.partition_point(|&end| end <= written) {
                    0 => Err(Failure(reason)),
                    whole => {
                        let refuse = |index| Refused { index, reason: reason.clone() };
                        Ok((whole..entries.len()).map(refuse).collect())
                    }
                }
            }
        };
        (outcome, result)
    }

    /// Writes text on lines of its own, and tells how much of it was taken.
    fn write(&mut self, text: &[u8]) -> (usize, io::Result<()>) {
        if self.is_mid_line {
            match write_some(&mut self.out, b"\n") {
                (_, Ok(())) => self.is_mid_line = false,
                (_, Err(error)) => return (0, Err(error)),
            }
        }
        let (written, result) = write_some(&mut self.out, text);
        if let Some(last) = written.checked_sub(1) {
            self.is_mid_line = text[last] != b'\n';
        }
        (written, result.and_then(|()| self.out.flush()))
    }
}

/// Like `write_all`, and tells how far it came.
fn write_some(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares it has made it so; its reader is waited for as any other.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(WOULD_BLOCK_PAUSE);
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

impl Sink for Lines {
    fn name(&self) -> &str {
        self.name
    }

    fn limits(&self) -> Limits {
        Limits {
            record_bytes_max: 1_000_000_000,
            batch_records_max: usize::MAX,
            batch_bytes_max: BATCH_BYTES,
        }
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.try_send(Job::Batch { entries: batch.to_vec(), answer });
        Box::pin(async move {
            sent.map_err(|_| Failure("too much waits to be written".to_owned()))?;
            answered.await.map_err(|_| Failure("its thread has ended".to_owned()))?
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Err(Failure("lines are asked by writing".to_owned()))))
    }

    fn is_local(&self) -> bool {
        true
    }

    fn batches_max(&self) -> usize {
        1
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;

    /// Takes so many bytes in all, and then none; a few at a time.
    #[derive(Clone, Debug, Default)]
    struct Room(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Room {
        fn more(&self, bytes: usize) {
            self.0.lock().unwrap().0 += bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, taken) = &mut *self.0.lock().unwrap();
            let some = bytes.len().min(3).min(*room);
            if some == 0 {
                return Err(io::Error::other("the disk is full"));
            }
            *room -= some;
            taken.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        struct Hesitant(u32, Vec<u8>);
        impl Write for Hesitant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 % 3 {
                    0 => self.1.write(&bytes[..bytes.len().min(2)]),
                    1 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Err(io::ErrorKind::Interrupted.into()),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Hesitant(0, Vec::new());
        assert!(matches!(write_some(&mut out, b"abcdefg"), (7, Ok(()))));
        assert_eq!(out.1, b"abcdefg");
    }

    fn batch(records: &[&'static str]) -> Vec<Entry> {
        let entry =
            |record: &&'static str| Entry { bytes: Bytes::from(*record), key: Bytes::new() };
        records.iter().map(entry).collect()
    }

    fn refused(index: usize) -> Refused {
        Refused { index, reason: "the disk is full".to_owned() }
    }

    #[tokio::test]
    async fn a_record_is_a_line_of_base64_without_padding() {
        let room = Room::default();
        room.more(usize::MAX);
        let sink = Lines::to("lines", room.clone()).unwrap();
        assert_eq!(sink.send(&batch(&["a", "ab", "abc", "\u{ff}?"])).await, Ok(Vec::new()));
        assert_eq!(room.text(), "YQ\nYWI\nYWJj\nw78/\n");
    }

    #[tokio::test]
    async fn what_was_written_in_part_is_refused_and_spoils_no_other_line() {
        let room = Room::default();
        room.more(5);
        let sink = Lines::to("lines", room.clone()).unwrap();
        let records = ["a", "ab", "abc"];
        assert_eq!(sink.send(&batch(&records)).await, Ok(vec![refused(1), refused(2)]));
        assert_eq!(room.text(), "YQ\nYW");
        assert_eq!(sink.send(&batch(&records[1..])).await, Err(Failure(refused(0).reason)));
        room.more(2);
        assert_eq!(sink.send(&batch(&records[1..])).await, Err(Failure(refused(0).reason)));
        room.more(usize::MAX - 7);
        assert_eq!(sink.send(&batch(&records[1..])).await, Ok(Vec::new()));
        assert_eq!(room.text(), "YQ\nYW\nY\nYWI\nYWJj\n");
    }

    #[tokio::test]
    async fn a_file_that_was_left_in_mid_line_goes_on_with_a_new_one() {
        for (before, expect) in [("", "YQ\n"), ("YW\n", "YW\nYQ\n"), ("YW\nY", "YW\nY\nYQ\n")] {
            let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
            std::fs::write(&path, before).unwrap();
            let out = File::options().append(true).open(&path).unwrap();
            let sink = Lines::start("lines", Out::of_file(out), || {}).unwrap();
            assert_eq!(sink.send(&batch(&["a"])).await, Ok(Vec::new()));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expect);
        }
    }

    #[tokio::test]
    async fn lines_of_the_log_stand_between_records_and_wait_for_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Lines::to("lines", writer).unwrap();
        let printer = sink.printer();
        let large = vec![Entry { bytes: vec![0; 1 << 20].into(), key: Bytes::new() }];
        let first = sink.send(&large);
        // Nobody reads: this must come back.
        for _ in 0..3 * JOBS_MAX {
            printer.print(b"said\n");
        }
        let read = std::thread::spawn(move || io::read_to_string(reader).unwrap());
        assert_eq!(first.await, Ok(Vec::new()));
        // The places are full at first: what somebody should read waits for one.
        printer.print_within(b"last\n", Duration::from_secs(60));
        printer.flush(Duration::from_secs(60));
        drop((sink, printer));
        let text = read.join().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), 1_398_102);
        let said = lines.iter().filter(|line| **line == "said").count();
        assert!((JOBS_MAX - 1..=JOBS_MAX + 1).contains(&said), "{said}");
        // The thread may have made room for one while they were printed, so it may be told of in two lines.
        let dropped =
            lines.iter().filter_map(|it| it.split_once(" pieces of the log were dropped"));
        let dropped: usize = dropped.map(|(number, _)| number.parse::<usize>().unwrap()).sum();
        assert_eq!(said + dropped, 3 * JOBS_MAX);
        assert_eq!(lines[lines.len() - 1], "last");
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told_of_once() {
        let (reader, writer) = io::pipe().unwrap();
        let (gone, told) = sync_channel(10);
        let out = Out { out: writer, is_mid_line: false, is_terminal: false };
        let sink = Lines::start("lines", out, move || gone.send(()).unwrap()).unwrap();
        drop(reader);
        for _ in 0..3 {
            assert!(sink.send(&batch(&["a"])).await.is_err());
        }
        assert!(sink.is_gone());
        drop(sink);
        assert_eq!(told.iter().count(), 1);
    }

    #[tokio::test]
    async fn a_batch_that_was_given_up_while_the_pipe_stood_still_is_not_written() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Lines::to("lines", writer).unwrap();
        let large = vec![Entry { bytes: vec![0; 1 << 20].into(), key: Bytes::new() }];
        let first = sink.send(&large);
        drop(sink.send(&batch(&["given up"])));
        let last = batch(&["last"]);
        let last = sink.send(&last);
        let read = std::thread::spawn(move || io::read_to_string(reader).unwrap());
        assert_eq!(first.await, Ok(Vec::new()));
        assert_eq!(last.await, Ok(Vec::new()));
        drop(sink);
        let text = read.join().unwrap();
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [1_398_102, 6]);
    }
}
