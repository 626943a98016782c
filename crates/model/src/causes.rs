//! An error and all of its causes as one line, for logs and states: `read FILE: permission denied`.
//!
//! Errors here say what was tried, and leave why it failed to their source; whoever prints one must print both.

use std::error::Error;
use std::fmt;

/// Prints an error and its causes, joined by colons.
#[derive(Clone, Copy, Debug)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read {0}")]
    struct Read(&'static str, #[source] std::io::Error);

    #[test]
    fn the_cause_follows_the_error() {
        let error = Read("file", std::io::Error::other("gone"));
        assert_eq!(Causes(&error).to_string(), "read file: gone");
    }
}
