//! The views as their users see them: commits on a disk that forgets, the real-time view, and the merge of both.

// Helpers beside the tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod catalog;
mod disk;
mod formats;
mod lambda;
mod law;
mod log;
mod realtime;
mod tables;
