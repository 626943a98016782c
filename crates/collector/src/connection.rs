//! One connection: reads requests, has them recorded, writes the answers, one after the other.
//!
//! What a client can make the collector hold is bounded here: a buffer for the head, and for bodies and records the
//! budget that all connections share. What it can make the collector wait for is bounded by timeouts. It works over any
//! stream of bytes; the server gives it sockets, the tests give it pipes.

use crate::counters::Reason;
use crate::head::{BadHead, Framing, Head, Search, Version, View};
use crate::https;
use crate::intake::Intake;
use crate::meter::Measured;
use crate::places::{Phase, Place};
use crate::response::{After, Printing};
use crate::route::{self, Route};
use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

mod answer;

mod body;

use answer::printer;

/// The buffer of a connection that waits for a request.
const BUFFER_BYTES: usize = 8 * 1024;
/// A larger buffer is given back after the request that needed it.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
/// A body that nobody wants is read up to here, so that the connection can go on.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// How long a client may go on sending after an answer that closes the connection: closed at once, the system would
/// throw the answer away with the unread bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection until either side ends it. When `stop` turns true, a connection without a request under way is
/// closed, the others after their answer. The connection gives up its `place` when it is asked to and does not use it.
pub(crate) async fn serve<Io>(
    io: Io,
    peer: IpAddr,
    intake: &Intake,
    stop: watch::Receiver<bool>,
    place: &Place,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    serve_over(io, peer, intake, stop, place, false).await;
}

/// As [`serve`], and says whether the bytes come over TLS.
pub(crate) async fn serve_over<Io>(
    io: Io,
    peer: IpAddr,
    intake: &Intake,
    stop: watch::Receiver<bool>,
    place: &Place,
    is_tls: bool,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let _open = intake.counters.connection();
    let mut connection = Connection {
        io,
        peer,
        intake,
        stop,
        place,
        is_tls,
        measured: None,
        timer: Timer(Box::pin(tokio::time::sleep(Duration::ZERO))),
        input: BytesMut::with_capacity(BUFFER_BYTES),
        output: Vec::with_capacity(512),
    };
    loop {
        let end = match connection.next_request().await {
            Ok(()) => continue,
            Err(end) => end,
        };
        match end {
            End::Gone => {}
            End::Closed => connection.close().await,
            End::Refused(refusal) => connection.refuse(refusal).await,
        }
        if let Some(measured) = &connection.measured {
            intake.meter.abandon(measured);
        }
        return;
    }
}

struct Connection<'a, Io> {
    io: Io,
    peer: IpAddr,
    intake: &'a Intake,
    stop: watch::Receiver<bool>,
    place: &'a Place,
    is_tls: bool,
    /// The request under way, until it is answered.
    measured: Option<Measured>,
    timer: Timer,
    /// What was read and not yet answered; begins with the head of the request under way.
    input: BytesMut,
    output: Vec<u8>,
}

/// Why there is no next request.
#[derive(Debug)]
enum End {
    /// The client is gone, or silent for too long: nothing more to say.
    Gone,
    /// The answer is written; the client may still be sending.
    Closed,
    /// There is no answer yet.
    Refused(Refusal),
}

/// An answer after which the connection is closed, because the rest of the request was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    BadRequest,
    UriTooLong,
    Timeout,
    TooLarge,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<'_, Io> {
    /// Reads one request and answers it.
    async fn next_request(&mut self) -> Result<(), End> {
        let head = self.read_head().await?;
        self.intake.counters.request();
        let answer_by = Instant::now() + self.intake.config.networking.response_header_timeout;
        let config = &self.intake.config;
        let view = View { head: &head, bytes: &self.input };
        self.measured = self.intake.meter.begin(head.method, view.path());
        if let Some(location) = https::location(&config.ssl, view, self.is_tls) {
            return self.answer_moved(&head, &location, answer_by).await;
        }
        if config.compat.is_strict_v3() && !view.target_is_legal() {
            return Err(self.bad_head(BadHead::IllegalTarget));
        }
        match route::route(head.method, view.path(), config) {
            // The path is owned only where decoding changed it; the input may move while the body is read.
            Route::Event { path, redirect } => {
                let path = path.into_owned();
                self.event(&head, &path, redirect, answer_by).await
            }
            other => {
                let print = printer(&other, self.intake);
                self.answer_fixed(&head, print, answer_by).await
            }
        }
    }

    /// Waits for a head and reads it.
    async fn read_head(&mut self) -> Result<Head, End> {
        let limits = &self.intake.config.networking;
        let idle_until = Instant::now() + limits.idle_timeout;
        let (mut head_by, mut is_idle) = (None, false);
        let mut search = Search::default();
        loop {
            if head_by.is_none() {
                // Empty lines before a request line are a habit of old clients.
                while self.input.starts_with(b"\r\n") {
                    self.input.advance(2);
                }
                if self.input.is_empty() || &self.input[..] == b"\r" {
                    if !is_idle {
                        // Once: empty lines make nobody busier.
                        is_idle = true;
                        self.place.enter(Phase::Idle);
                    }
                    self.wait_for_request(idle_until).await?;
                    continue;
                }
            }
            let found = search.end(&self.input, limits).map_err(|error| self.bad_head(error))?;
            if let Some(end) = found {
                let line_end = search.request_line_end();
                self.place.enter(Phase::Busy);
                return Head::parse(&self.input[..end], line_end, limits.max_headers)
                    .map_err(|error| self.bad_head(error));
            }
            let by = *head_by.get_or_insert_with(|| {
                self.place.enter(Phase::Head);
                Instant::now() + limits.header_read_timeout
            });
            self.read(by).await?;
        }
    }

    fn bad_head(&self, error: BadHead) -> End {
        tracing::debug!(peer = %self.peer, %error, "a request is answered 400");
        End::Refused(match error {
            BadHead::RequestLineTooLong if self.intake.config.compat.is_v2() => Refusal::UriTooLong,
            _ => Refusal::BadRequest,
        })
    }

    /// Reads between two requests: here, and only here, the connection may be closed without an answer.
    async fn wait_for_request(&mut self, until: Instant) -> Result<(), End> {
        if self.intake.draining() {
            return Err(End::Gone);
        }
        self.input.reserve(1);
        let Connection { io, input, stop, timer, place, .. } = self;
        let wait = async {
            tokio::select! {
                biased;
                read = io.read_buf(input) => read.unwrap_or(0),
                // An error means that the server is gone.
                _ = stop.wait_for(|stopped| *stopped) => 0,
                () = place.given_up() => 0,
            }
        };
        match timer.limit(until, wait).await {
            Some(1..) => Ok(()),
            Some(0) | None => Err(End::Gone),
        }
    }

    /// Reads more of the request under way.
    async fn read(&mut self, by: Instant) -> Result<(), End> {
        self.input.reserve(1);
        let Connection { io, input, timer, place, .. } = self;
        let read = async {
            tokio::select! {
                biased;
                read = io.read_buf(input) => Some(read.unwrap_or(0)),
                () = place.given_up() => None,
            }
        };
        match timer.limit(by, read).await {
            Some(Some(1..)) => Ok(()),
            Some(Some(0)) => Err(End::Gone),
            // Out of time, or too slow while others wait for its place.
            Some(None) | None => Err(End::Refused(Refusal::Timeout)),
        }
    }

    /// What becomes of the connection. A body that was not read is passed over if it is short and sure to come.
    fn after(&self, head: &Head, body_is_read: bool) -> After {
        let can_be_passed_over = match head.framing {
            Framing::Empty => true,
            Framing::Length(length) => length <= DISCARD_BYTES_MAX && !head.expects_continue,
            Framing::Chunked => false,
        };
        match head.version {
            _ if !head.keep_alive || self.intake.draining() => After::Close,
            _ if !body_is_read && !can_be_passed_over => After::Close,
            Version::Http10 => After::ContinueHttp10,
            Version::Http11 => After::Continue,
        }
    }

    /// Writes the answer and makes the input begin with the next request.
    async fn finish(
        &mut self,
        head: &Head,
        request_end: usize,
        body_is_read: bool,
        after: After,
        answer_by: Instant,
    ) -> Result<(), End> {
        if let Some(measured) = &mut self.measured {
            measured.request_bytes(request_end);
        }
        self.write(answer_by).await?;
        if after == After::Close {
            return Err(End::Closed);
        }
        self.input.advance(request_end);
        if let (false, Framing::Length(length)) = (body_is_read, head.framing) {
            self.discard(length).await?;
        }
        if self.input.capacity() > BUFFER_BYTES_KEPT && self.input.len() <= BUFFER_BYTES {
            let mut smaller = BytesMut::with_capacity(BUFFER_BYTES);
            smaller.extend_from_slice(&self.input);
            self.input = smaller;
        }
        Ok(())
    }

    async fn write(&mut self, by: Instant) -> Result<(), End> {
        // A client that asks at the last moment still gets its answer.
        let by = by.max(Instant::now() + LINGER);
        if let Some(measured) = &mut self.measured {
            measured.answered();
        }
        self.place.enter(Phase::Transfer);
        let Connection { io, output, timer, place, .. } = self;
        let write = async {
            tokio::select! {
                biased;
                written = io.write_all(output) => written.is_ok(),
                () = place.given_up() => false,
            }
        };
        let written = timer.limit(by, write).await;
        if let Some(measured) = self.measured.take() {
            match written {
                Some(true) => self.intake.meter.end(measured, &self.output, self.intake.now()),
                Some(false) | None => self.intake.meter.abandon(&measured),
            }
        }
        self.output.clear();
        match written {
            Some(true) => Ok(()),
            Some(false) | None => Err(End::Gone),
        }
    }

    async fn refuse(&mut self, refusal: Refusal) {
        let (config, now) = (&self.intake.config, self.intake.now());
        let printing = Printing { config, now, after: After::Close, head_only: false };
        let reason = match refusal {
            Refusal::BadRequest => {
                printing.status(&mut self.output, "400 Bad Request");
                Reason::BadRequest
            }
            Refusal::UriTooLong => {
                printing.status(&mut self.output, "414 URI Too Long");
                Reason::BadRequest
            }
            Refusal::TooLarge => {
                printing.status(&mut self.output, TOO_LARGE);
                Reason::TooLarge
            }
            Refusal::Timeout => {
                let (status, body) = ("408 Request Timeout", "Response timed out");
                printing.text(&mut self.output, status, body);
                Reason::Timeout
            }
        };
        self.intake.counters.reject(reason);
        // Somebody else waits for the place of one that was too slow.
        let is_wanted = self.place.is_wanted();
        if self.write(Instant::now()).await.is_ok() && !is_wanted {
            self.close().await;
        }
    }

    /// Ends our side and reads on for a moment, so that the answer arrives.
    async fn close(&mut self) {
        let until = Instant::now() + LINGER;
        let Connection { io, input, timer, .. } = self;
        let drained = async {
            io.shutdown().await?;
            loop {
                input.clear();
                input.reserve(1);
                if io.read_buf(input).await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        };
        // Whatever comes of it, the connection is over.
        let _ = timer.limit(until, drained).await;
    }
}

const TOO_LARGE: &str = "413 Content Too Large";

/// One timer for all that a connection waits for; it is set only when something is not ready at once.
struct Timer(Pin<Box<Sleep>>);

impl Timer {
    /// `None` when the time is over first.
    async fn limit<F: Future>(&mut self, until: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut is_set = false;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if !is_set {
                self.0.as_mut().reset(until);
                is_set = true;
            }
            self.0.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
