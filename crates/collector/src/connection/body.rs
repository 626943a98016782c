//! Reads the body of a request: by its length, in chunks, or over, when nobody wants it. Room is made only as bytes
//! arrive, and held in the budget first.

use super::{BUFFER_BYTES, Connection, End, Refusal};
use crate::chunked::{BadChunk, Chunked};
use crate::head::{Framing, Head};
use crate::memory::{Exhausted, Held};
use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// How much room is made at a time for a body.
pub(super) const BODY_STEP_BYTES: usize = 64 * 1024;

/// The body of a request whose head lies at the beginning of the input.
pub(super) struct Body {
    /// Where the request ends in the input.
    pub(super) request_end: usize,
    /// The data of a chunked body; another lies in the input behind the head.
    pub(super) dechunked: Option<Vec<u8>>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<'_, Io> {
    /// Reads the body of a POST behind its head.
    pub(super) async fn read_body(
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
        // Only an answer ends the measuring.
        let measured = self.measured.take();
        let written = self.write(by).await;
        self.measured = measured;
        written
    }

    /// Reads a body that nobody wants.
    pub(super) async fn discard(&mut self, length: u64) -> Result<(), End> {
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
}
