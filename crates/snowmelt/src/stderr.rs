//! stderr, which the log may have to share: where a collector prints bad rows there, all lines go through one thread.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use collector::sink::lines::Printer;

/// How long a reader may take that stands still, before what is said to it is given up.
const SAID_WITHIN: Duration = Duration::from_secs(1);

static SHARED: OnceLock<Printer> = OnceLock::new();

/// From now on lines go through this one. Only the first time counts.
pub(crate) fn share(printer: Printer) {
    let _ = SHARED.set(printer);
}

/// Says a line to whoever started the process.
pub(crate) fn say(line: &str) {
    match SHARED.get() {
        Some(printer) => printer.print_within(format!("{line}\n").as_bytes(), SAID_WITHIN),
        None => eprintln!("{line}"),
    }
}

/// Waits for a moment until all of it is written.
pub(crate) fn flush() {
    if let Some(printer) = SHARED.get() {
        printer.flush(SAID_WITHIN);
    }
}

/// Where the log is written; it writes whole lines.
#[derive(Debug)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match SHARED.get() {
            Some(printer) => {
                printer.print(lines);
                Ok(lines.len())
            }
            None => io::stderr().write(lines),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
