//! One connection: reads requests, has them recorded, writes the answers, one after the other.
//!
//! What a client can make the collector hold is bounded here: a buffer for the head, and for bodies and records the
//! budget that all connections share. What it can make the collector wait for is bounded by timeouts. It works over any
//! stream of bytes; the server gives it sockets, the tests give it pipes.

use crate::chunked::{BadChunk, Chunked};
use crate::cookie;
use crate::counters::Reason;
use crate::head::{Framing, Head, Known, Method, Search, Version, View};
use crate::intake::Intake;
use crate::memory::{Exhausted, Held};
use crate::record::{self, Identity, Request};
use crate::response::{self, After, EventBody};
use crate::route::{self, Route};
use bytes::{Buf, Bytes, BytesMut};
use std::borrow::Cow;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// The buffer of a connection that waits for a request.
const BUFFER_BYTES: usize = 8 * 1024;
/// A larger buffer is given back after the request that needed it.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
/// How much room is made at a time for a body.
const BODY_STEP_BYTES: usize = 64 * 1024;
/// A body that nobody wants is read up to here, so that the connection can go on.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// How long a client may go on sending after an answer that closes the connection: closed at once, the system would
/// throw the answer away with the unread bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection until either side ends it. When `stop` turns true, a connection without a request under way is
/// closed, the others after their answer.
pub(crate) async fn serve<Io>(io: Io, peer: IpAddr, intake: &Intake, stop: watch::Receiver<bool>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let _open = intake.counters.connection();
    let mut connection = Connection {
        io,
        peer,
        intake,
        stop,
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
        return;
    }
}

struct Connection<'a, Io> {
    io: Io,
    peer: IpAddr,
    intake: &'a Intake,
    stop: watch::Receiver<bool>,
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
    Timeout,
    TooLarge,
}

/// The body of a request whose head lies at the beginning of the input.
struct Body {
    /// Where the request ends in the input.
    request_end: usize,
    /// The data of a chunked body; another lies in the input behind the head.
    dechunked: Option<Vec<u8>>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<'_, Io> {
    /// Reads one request and answers it.
    async fn next_request(&mut self) -> Result<(), End> {
        let head = self.read_head().await?;
        self.intake.counters.request();
        let answer_by = Instant::now() + self.intake.config.networking.response_header_timeout;
        let view = View { head: &head, bytes: &self.input };
        let route = match route::route(head.method, view.path()) {
            // The path is owned only where decoding changed it; the input may move while the body is read.
            Route::Event { path } => {
                let path = path.into_owned();
                return self.event(&head, &path, answer_by).await;
            }
            Route::Preflight => Fixed::Preflight,
            Route::Health => Fixed::Text("200 OK", "ok"),
            Route::SinkHealth if self.intake.stream_healthy() => Fixed::Text("200 OK", "ok"),
            Route::SinkHealth => Fixed::Text("503 Service Unavailable", "Service Unavailable"),
            Route::Robots => Fixed::Text("200 OK", response::ROBOTS),
            Route::RedirectsDisabled => Fixed::Text("404 Not Found", "redirects disabled"),
            Route::NotFound => Fixed::Text("404 Not Found", "Not found"),
        };
        self.answer_fixed(&head, route, answer_by).await
    }

    /// Waits for a head and reads it.
    async fn read_head(&mut self) -> Result<Head, End> {
        let limits = &self.intake.config.networking;
        let idle_until = Instant::now() + limits.idle_timeout;
        let mut head_by = None;
        let mut search = Search::default();
        loop {
            if head_by.is_none() {
                // Empty lines before a request line are a habit of old clients.
                while self.input.starts_with(b"\r\n") {
                    self.input.advance(2);
                }
                if self.input.is_empty() || &self.input[..] == b"\r" {
                    self.wait_for_request(idle_until).await?;
                    continue;
                }
            }
            let found = search.end(&self.input, limits).map_err(|error| self.bad_head(error))?;
            if let Some(end) = found {
                let line_end = search.request_line_end();
                return Head::parse(&self.input[..end], line_end, limits.max_headers)
                    .map_err(|error| self.bad_head(error));
            }
            let by = *head_by.get_or_insert_with(|| Instant::now() + limits.header_read_timeout);
            self.read(by).await?;
        }
    }

    fn bad_head(&self, error: crate::head::BadHead) -> End {
        tracing::debug!(peer = %self.peer, %error, "a request is answered 400");
        End::Refused(Refusal::BadRequest)
    }

    /// Reads between two requests: here, and only here, the connection may be closed without an answer.
    async fn wait_for_request(&mut self, until: Instant) -> Result<(), End> {
        if self.intake.draining() {
            return Err(End::Gone);
        }
        self.input.reserve(1);
        let Connection { io, input, stop, timer, .. } = self;
        let wait = async {
            tokio::select! {
                biased;
                read = io.read_buf(input) => read.unwrap_or(0),
                // An error means that the server is gone.
                _ = stop.wait_for(|stopped| *stopped) => 0,
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
        match self.timer.limit(by, self.io.read_buf(&mut self.input)).await {
            Some(Ok(1..)) => Ok(()),
            Some(Ok(0) | Err(_)) => Err(End::Gone),
            None => Err(End::Refused(Refusal::Timeout)),
        }
    }

    /// Records an event and answers when it is stored.
    async fn event(&mut self, head: &Head, path: &str, answer_by: Instant) -> Result<(), End> {
        let intake = self.intake;
        let mut held = intake.budget.hold();
        let is_post = head.method == Method::Post;
        let body = if is_post {
            match self.read_body(head, &mut held, answer_by).await? {
                Ok(body) => body,
                Err(Exhausted) => return self.answer_memory(head, answer_by).await,
            }
        } else {
            Body { request_end: head.length, dechunked: None }
        };
        let body_bytes = match &body.dechunked {
            Some(data) => data.as_slice(),
            None => &self.input[head.length..body.request_end],
        };
        if held.add(head.length * 2 + body_bytes.len()).is_err() {
            return self.answer_memory(head, answer_by).await;
        }
        let view = View { head, bytes: &self.input };
        let now = intake.now();
        let identity = Identity::of(view, &intake.config.cookie.name);
        let request = Request { view, path, body: is_post.then_some(body_bytes), peer: self.peer };
        let record = record::write(&request, &identity, &intake.config, &intake.collector, now);
        let record_bytes = record.len();
        let append = intake.append(vec![Bytes::from(record)]);
        let Some(appended) = self.timer.limit(answer_by, append).await else {
            // Stored or not: the tracker asks again, and the record is one more copy at worst.
            return Err(End::Refused(Refusal::Timeout));
        };
        let settled = intake.settle(appended, record_bytes);
        let origin = view.get(Known::Origin);
        let after = self.after(head, head.method == Method::Post);
        match settled {
            Ok(()) => {
                let id = &identity.network_user_id;
                let (anonymous, seen) = (identity.anonymous, identity.cookie_seen);
                let event = response::Event {
                    body: match head.method {
                        Method::Get => EventBody::Pixel,
                        Method::Head => EventBody::PixelHead,
                        Method::Post | Method::Options | Method::Other => EventBody::Ok,
                    },
                    change: cookie::change(&intake.config.cookie, anonymous, seen, id),
                    origin: origin.as_deref(),
                    now,
                    after,
                };
                response::event(&mut self.output, &intake.config, &event);
            }
            Err(Reason::TooLarge) => response::refusal(&mut self.output, TOO_LARGE, now),
            Err(_) => response::unavailable(&mut self.output, origin.as_deref(), now, after),
        }
        let after = if settled == Err(Reason::TooLarge) { After::Close } else { after };
        drop((origin, held));
        self.finish(head, body.request_end, is_post, after, answer_by).await
    }

    /// Reads the body of a POST behind its head.
    async fn read_body(
        &mut self,
        head: &Head,
        held: &mut Held<'_>,
        answer_by: Instant,
    ) -> Result<Result<Body, Exhausted>, End> {
        let limits = &self.intake.config.networking;
        let body_by = answer_by.min(Instant::now() + limits.body_read_timeout);
        match head.framing {
            Framing::Empty => Ok(Ok(Body { request_end: head.length, dechunked: None })),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length < limits.drop_payload_size => {
                    let request_end = head.length + length;
                    let read = self.read_length(head, request_end, held, body_by).await?;
                    Ok(read.map(|()| Body { request_end, dechunked: None }))
                }
                Ok(_) | Err(_) => Err(End::Refused(Refusal::TooLarge)),
            },
            Framing::Chunked => self.read_chunks(head, held, body_by).await,
        }
    }

    /// Reads until the input reaches `request_end`. Room is made only as bytes arrive.
    async fn read_length(
        &mut self,
        head: &Head,
        request_end: usize,
        held: &mut Held<'_>,
        body_by: Instant,
    ) -> Result<Result<(), Exhausted>, End> {
        if self.input.len() < request_end {
            self.say_continue(head, body_by).await?;
        }
        while self.input.len() < request_end {
            let missing = request_end - self.input.len();
            if self.input.capacity() - self.input.len() < missing.min(BUFFER_BYTES / 2) {
                let step = missing.min(BODY_STEP_BYTES);
                if held.add(step).is_err() {
                    return Ok(Err(Exhausted));
                }
                self.input.reserve(step);
            }
            self.read(body_by).await?;
        }
        Ok(Ok(()))
    }

    /// Reads chunks; the input keeps the head, and at the end what follows the request.
    async fn read_chunks(
        &mut self,
        head: &Head,
        held: &mut Held<'_>,
        body_by: Instant,
    ) -> Result<Result<Body, Exhausted>, End> {
        let mut chunked = Chunked::new(self.intake.config.networking.drop_payload_size);
        let mut data = Vec::new();
        if self.input.len() == head.length {
            self.say_continue(head, body_by).await?;
        }
        loop {
            let arrived = &self.input[head.length..];
            if data.capacity() - data.len() < arrived.len() {
                let step = arrived.len().max(data.capacity()).max(BUFFER_BYTES);
                if held.add(step).is_err() {
                    return Ok(Err(Exhausted));
                }
                data.reserve_exact(step);
            }
            let decoded = chunked.decode(arrived, &mut data).map_err(|error| {
                End::Refused(match error {
                    BadChunk::TooLarge => Refusal::TooLarge,
                    BadChunk::Malformed => Refusal::BadRequest,
                })
            })?;
            if decoded.ended {
                let request_end = head.length + decoded.consumed;
                return Ok(Ok(Body { request_end, dechunked: Some(data) }));
            }
            self.input.truncate(head.length);
            if self.input.capacity() - self.input.len() < BUFFER_BYTES / 2 {
                self.input.reserve(BUFFER_BYTES);
            }
            self.read(body_by).await?;
        }
    }

    /// Tells a client that asked whether to send the body that it may.
    async fn say_continue(&mut self, head: &Head, by: Instant) -> Result<(), End> {
        if !head.expects_continue {
            return Ok(());
        }
        self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.write(by).await
    }

    /// 503 because the budget is used up. What is left of the body is not read.
    async fn answer_memory(&mut self, head: &Head, answer_by: Instant) -> Result<(), End> {
        self.intake.counters.reject(Reason::Memory);
        let view = View { head, bytes: &self.input };
        let origin = view.get(Known::Origin).map(Cow::into_owned);
        let now = self.intake.now();
        response::unavailable(&mut self.output, origin.as_deref(), now, After::Close);
        self.write(answer_by).await?;
        Err(End::Closed)
    }

    /// Answers what is no event.
    async fn answer_fixed(
        &mut self,
        head: &Head,
        answer: Fixed,
        answer_by: Instant,
    ) -> Result<(), End> {
        let (now, after) = (self.intake.now(), self.after(head, false));
        match answer {
            Fixed::Preflight => {
                let view = View { head, bytes: &self.input };
                let origin = view.get(Known::Origin);
                let config = &self.intake.config;
                response::preflight(&mut self.output, config, origin.as_deref(), now, after);
            }
            Fixed::Text(status, body) => {
                let head_only = head.method == Method::Head;
                response::text(&mut self.output, status, body, head_only, now, after);
            }
        }
        self.finish(head, head.length, false, after, answer_by).await
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

    /// Reads a body that nobody wants.
    async fn discard(&mut self, length: u64) -> Result<(), End> {
        let by = Instant::now() + self.intake.config.networking.body_read_timeout;
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        loop {
            let here = left.min(self.input.len());
            self.input.advance(here);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            // The request is answered already: what does not come is not answered again.
            self.read(by).await.map_err(|_| End::Gone)?;
        }
    }

    async fn write(&mut self, by: Instant) -> Result<(), End> {
        // A client that asks at the last moment still gets its answer.
        let by = by.max(Instant::now() + LINGER);
        let written = self.timer.limit(by, self.io.write_all(&self.output)).await;
        self.output.clear();
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(End::Gone),
        }
    }

    async fn refuse(&mut self, refusal: Refusal) {
        let now = self.intake.now();
        let reason = match refusal {
            Refusal::BadRequest => {
                response::refusal(&mut self.output, "400 Bad Request", now);
                Reason::BadRequest
            }
            Refusal::TooLarge => {
                response::refusal(&mut self.output, TOO_LARGE, now);
                Reason::TooLarge
            }
            Refusal::Timeout => {
                let (status, body) = ("408 Request Timeout", "Response timed out");
                response::text(&mut self.output, status, body, false, now, After::Close);
                Reason::Timeout
            }
        };
        self.intake.counters.reject(reason);
        if self.write(Instant::now()).await.is_ok() {
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

/// Answers that look at nothing but the head.
enum Fixed {
    Preflight,
    Text(&'static str, &'static str),
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
