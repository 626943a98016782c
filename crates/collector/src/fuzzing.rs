//! The door for `fuzz/`: a whole connection over bytes in memory. Behind the feature `fuzzing`, which nothing that is
//! shipped turns on.

use crate::config::Config;
use crate::connection;
use crate::intake::Intake;
use crate::places::Place;
use model::time::Clock;
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use stream::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Serves a client that sends `input`, `piece_bytes` at a time, and then ends its side. Returns all that was answered;
/// what was recorded is in `raw`.
///
/// # Panics
/// When the system lets no runtime be made, and when the connection does.
pub fn serve(
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
    input: &[u8],
    piece_bytes: usize,
) -> Vec<u8> {
    let intake = Intake::new(Config::default(), raw, clock);
    let mut answers = Vec::new();
    let io = tokio::io::join(Pieces { rest: input, piece_bytes }, &mut answers);
    // Held to the end: a sender that is gone would mean that the server is.
    let (_stop, stopped) = watch::channel(false);
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            Builder::new_current_thread().enable_time().build().expect("a runtime without I/O")
        });
        runtime.block_on(connection::serve(io, PEER, &intake, stopped, &Place::alone()));
    });
    answers
}

/// A client's side that is always ready.
struct Pieces<'a> {
    rest: &'a [u8],
    piece_bytes: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.piece_bytes.min(self.rest.len()).min(into.remaining());
        let (piece, rest) = self.rest.split_at(count);
        into.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
