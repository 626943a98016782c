//! The two directions of one connection, with their buffers and their patience.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use super::error::Refusal;
use super::frame::{self, MESSAGE_BYTES_MAX, Message, Opening};

/// What a connection is made of: a socket, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Bytes that wait until they are sent.
const OUTGOING_BYTES_MAX: usize = 64 << 10;

/// How long a client may take for what was sent to it before the connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client went away, or does not read.
    Gone,
    /// The client is told why.
    Refused(Refusal),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Ended {
        Ended::Gone
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refusal)
    }
}

/// A connection.
pub(crate) struct Wire {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    incoming: BytesMut,
    /// Messages that are sent with the next flush.
    pub(crate) outgoing: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Wire {
        let (reader, writer) = split(stream);
        Wire { reader, writer, incoming: BytesMut::new(), outgoing: BytesMut::new() }
    }

    /// The stream, to put TLS over it. `None` when the client sent more than it was asked for: what came in the clear
    /// must not be taken for what came encrypted.
    pub(crate) fn into_stream(self) -> Option<Box<dyn Stream>> {
        (self.incoming.is_empty()).then(|| self.reader.unsplit(self.writer))
    }

    /// The first message.
    pub(crate) async fn opening(&mut self) -> Result<Opening, Ended> {
        loop {
            if let Some(opening) = frame::opening(&mut self.incoming)? {
                return Ok(opening);
            }
            self.read().await?;
        }
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub(crate) async fn message(&mut self, bytes_max: usize) -> Result<Message, Ended> {
        loop {
            if let Some(message) = frame::message(&mut self.incoming, bytes_max)? {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// Ends when the client has gone; what it sends meanwhile is kept, as far as it is bounded.
    pub(crate) async fn gone(&mut self) {
        while self.incoming.len() < MESSAGE_BYTES_MAX {
            if self.read().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    async fn read(&mut self) -> Result<(), Ended> {
        self.incoming.reserve(4096);
        match self.reader.read_buf(&mut self.incoming).await? {
            0 => Err(Ended::Gone),
            _ => Ok(()),
        }
    }

    /// Sends what waits when it is much.
    pub(crate) async fn flush_if_much(&mut self) -> Result<(), Ended> {
        if self.outgoing.len() >= OUTGOING_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    /// Sends what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        let sending = async {
            self.writer.write_all(&self.outgoing).await?;
            self.writer.flush().await
        };
        timeout(WRITE_TIMEOUT, sending).await.map_err(|_| Ended::Gone)??;
        self.outgoing.clear();
        Ok(())
    }

    /// One byte of an answer that is no message.
    pub(crate) async fn send_byte(&mut self, byte: u8) -> Result<(), Ended> {
        self.outgoing.put_u8(byte);
        self.flush().await
    }

    /// Says why, as far as the client listens, and ends.
    pub(crate) async fn close(mut self, ended: Ended) {
        if let Ended::Refused(refusal) = ended {
            Refusal { is_fatal: true, ..refusal }.put(&mut self.outgoing);
            let _ = timeout(Duration::from_secs(1), self.flush()).await;
        }
        let _ = timeout(Duration::from_secs(1), self.writer.shutdown()).await;
    }
}
