//! The access log: one JSON object per request, on a thread of its own, so that a slow disk delays nobody.
//!
//! Off by default. It has no addresses, cookies or query strings: those are data of people, and the events have them.
//! What the thread cannot take in time is dropped and counted. A file that was moved away is made anew when the
//! process is told so, as log rotation does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use model::time::Timestamp;

/// How many lines may wait.
const LINES_MAX: usize = 8192;

/// The log; dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<String>>,
    dropped: AtomicU64,
    /// The file is to be opened again.
    reopen: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is said of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) time: Timestamp,
    pub(crate) method: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) took: Duration,
}

impl AccessLog {
    /// Appends to the file, or writes to stderr where there is none.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<AccessLog> {
        let out = Out::open(file)?;
        let (lines, waiting) = sync_channel(LINES_MAX);
        let reopen = Arc::new(AtomicBool::new(false));
        let is_moved = Arc::clone(&reopen);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || run(out, &waiting, &is_moved))?;
        let (dropped, thread) = (AtomicU64::new(0), Mutex::new(Some(thread)));
        Ok(AccessLog { lines: Some(lines), dropped, reopen, thread })
    }

    /// Has the file opened again, for it may have been moved away; done by the thread, a moment later. Lines that were
    /// written before are in the old one. If it cannot be opened the old one stays in use, and a warning says so.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
        // An empty line wakes the thread; where none fits in, it is awake.
        let _ = self.lines.as_ref().map(|lines| lines.try_send(String::new()));
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(line.print()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were not written because too many waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        drop(self.lines.take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whether it panicked or not, nothing more will be written.
        thread.map(JoinHandle::join);
    }
}

/// Where lines go.
struct Out {
    file: Option<PathBuf>,
    writer: BufWriter<Box<dyn Write + Send>>,
}

impl Out {
    fn open(file: Option<&Path>) -> io::Result<Out> {
        let writer: Box<dyn Write + Send> = match file {
            Some(path) => {
                let file: File = OpenOptions::new().create(true).append(true).open(path)?;
                Box::new(file)
            }
            None => Box::new(io::stderr()),
        };
        Ok(Out { file: file.map(Path::to_owned), writer: BufWriter::new(writer) })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        *self = Out::open(self.file.as_deref())?;
        Ok(())
    }
}

/// Writes line by line, and to the file whenever nothing more waits.
fn run(mut out: Out, lines: &Receiver<String>, reopen: &AtomicBool) {
    let mut was_well = true;
    let mut tell = |done: io::Result<()>| {
        if let (true, Err(error)) = (was_well, &done) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        was_well = done.is_ok();
    };
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Empty) => {
                tell(out.writer.flush());
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => break,
                }
            }
            Err(TryRecvError::Disconnected) => break,
        };
        if reopen.swap(false, Ordering::SeqCst) {
            tell(out.reopen());
        }
        tell(out.writer.write_all(line.as_bytes()));
    }
    tell(out.writer.flush());
}

impl Line<'_> {
    fn print(&self) -> String {
        let mut path = String::with_capacity(self.path.len());
        for char in self.path.chars() {
            match char {
                '"' => path.push_str("\\\""),
                '\\' => path.push_str("\\\\"),
                char if char.is_control() => path.push_str(&format!("\\u{:04x}", u32::from(char))),
                char => path.push(char),
            }
        }
        format!(
            "{{\"time\":\"{}\",\"method\":\"{}\",\"path\":\"{path}\",\"status\":{},\"request_bytes\":{},\"response_bytes\":{},\"took_us\":{}}}\n",
            self.time.to_iso(),
            self.method,
            self.status,
            self.request_bytes,
            self.response_bytes,
            self.took.as_micros()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_all_are_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let line = Line {
            time: Timestamp(1_700_000_000_123),
            method: "post",
            path: "/com.\"acme\"/\u{1}",
            status: 200,
            request_bytes: 12,
            response_bytes: 34,
            took: Duration::from_micros(567),
        };
        for _ in 0..2 {
            let log = AccessLog::open(Some(&path)).unwrap();
            log.write(&line);
            assert_eq!(log.dropped(), 0);
        }
        let expect = "{\"time\":\"2023-11-14T22:13:20.123Z\",\"method\":\"post\",\"path\":\"/com.\\\"acme\\\"/\\u0001\",\
                      \"status\":200,\"request_bytes\":12,\"response_bytes\":34,\"took_us\":567}\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expect.repeat(2));
    }

    #[test]
    fn a_log_that_is_behind_drops_and_counts() {
        let (lines, _waiting) = sync_channel(1);
        let log = AccessLog {
            lines: Some(lines),
            dropped: AtomicU64::new(0),
            reopen: Arc::default(),
            thread: Mutex::default(),
        };
        let line = Line {
            time: Timestamp(0),
            method: "get",
            path: "/i",
            status: 200,
            request_bytes: 0,
            response_bytes: 0,
            took: Duration::ZERO,
        };
        (0..3).for_each(|_| log.write(&line));
        assert_eq!(log.dropped(), 2);
    }
}
