//! Records as lines of text: to stdout, for a pipe or for the eye. Snowplow: `collector.md` 5.3.
//!
//! A line is the Base64 of one record, without padding, as the stdout sink of Snowplow's collector prints it. A thread
//! of its own writes, since a pipe that nobody reads blocks its writer for as long as it likes. What has been written is
//! as durable as whoever reads it; a record that was written in part is refused, and comes again as a line of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::oneshot;

use super::{Answer, Entry, Failure, Limits, Refused, Sink};

/// See the module.
#[derive(Debug)]
pub struct Lines {
    name: &'static str,
    batches: Sender<Batch>,
}

#[derive(Debug)]
struct Batch {
    entries: Vec<Entry>,
    answer: oneshot::Sender<Result<Vec<Refused>, Failure>>,
}

impl Lines {
    /// Records on stdout.
    ///
    /// # Errors
    /// When stdout is closed, or no thread is to be had.
    pub fn stdout() -> io::Result<Lines> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        Lines::to("stdout", File::from(out))
    }

    /// Bad rows on stderr, between the lines of the log.
    ///
    /// # Errors
    /// As [`Lines::stdout`].
    pub fn stderr() -> io::Result<Lines> {
        let out = io::stderr().as_fd().try_clone_to_owned()?;
        Lines::to("stderr", File::from(out))
    }

    /// Lines to anything that takes bytes.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn to(name: &'static str, out: impl Write + Send + 'static) -> io::Result<Lines> {
        let (batches, waiting) = channel();
        let run = move || write_batches(out, &waiting);
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Lines { name, batches })
    }
}

fn write_batches(mut out: impl Write, waiting: &Receiver<Batch>) {
    let mut is_mid_line = false;
    for Batch { entries, answer } in waiting {
        // Given up while the one before was written: it is sent again.
        if answer.is_closed() {
            continue;
        }
        let outcome = write_lines(&mut out, &entries, &mut is_mid_line);
        // Nobody waits any more: it took too long, and is sent again.
        let _ = answer.send(outcome);
    }
}

/// Writes all lines with as few calls as the other end takes.
fn write_lines(
    out: &mut impl Write,
    entries: &[Entry],
    is_mid_line: &mut bool,
) -> Result<Vec<Refused>, Failure> {
    let mut text = String::new();
    if *is_mid_line {
        text.push('\n');
    }
    let mut ends = Vec::with_capacity(entries.len());
    for entry in entries {
        STANDARD_NO_PAD.encode_string(&entry.bytes, &mut text);
        text.push('\n');
        ends.push(text.len());
    }
    let (written, result) = write_some(out, text.as_bytes());
    if written > 0 {
        *is_mid_line = text.as_bytes()[written - 1] != b'\n';
    }
    let Err(error) = result.and_then(|()| out.flush()) else { return Ok(Vec::new()) };
    let whole = ends.partition_point(|&end| end <= written);
    if whole == 0 {
        return Err(Failure(error.to_string()));
    }
    let refuse = |index| Refused { index, reason: error.to_string() };
    Ok((whole..entries.len()).map(refuse).collect())
}

/// Like `write_all`, and tells how far it came.
fn write_some(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
            batch_bytes_max: 16 << 20,
        }
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure("its thread has ended".to_owned());
        let sent = self.batches.send(Batch { entries: batch.to_vec(), answer });
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Err(Failure("lines are asked by writing".to_owned()))))
    }

    fn answers_probes(&self) -> bool {
        false
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
        room.more(usize::MAX - 5);
        assert_eq!(sink.send(&batch(&records[1..])).await, Ok(Vec::new()));
        assert_eq!(room.text(), "YQ\nYW\nYWI\nYWJj\n");
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
