//! What a client is refused, in the form of an ErrorResponse: severity, SQLSTATE, message, hint.

use bytes::{BufMut, BytesMut};

use super::frame::{put, put_text};
use super::sqlstate;
use crate::error::Error;

/// An error on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The connection ends with it.
    pub(crate) is_fatal: bool,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { is_fatal: false, code, message: message.into(), hint: String::new() }
    }

    pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { is_fatal: true, ..Refusal::new(code, message) }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Refusal {
        Refusal { hint: hint.into(), ..self }
    }

    pub(crate) fn put(&self, into: &mut BytesMut) {
        let severity = if self.is_fatal { "FATAL" } else { "ERROR" };
        put(into, b'E', |body| {
            for (field, text) in [
                (b'S', severity),
                (b'V', severity),
                (b'C', self.code),
                (b'M', &self.message),
                (b'H', &self.hint),
            ] {
                if !text.is_empty() {
                    body.put_u8(field);
                    put_text(body, text);
                }
            }
            body.put_u8(0);
        });
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let code = sqlstate::of(&error);
        let mut message = error.to_string();
        if let Error::Timeout(_) = error {
            // Drivers look for these words.
            message = format!("canceling statement due to statement timeout: {message}");
        }
        let is_fatal = matches!(error, Error::Stopping);
        Refusal { is_fatal, ..Refusal::new(code, message) }.hint(error.hint())
    }
}
