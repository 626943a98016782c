//! The contract of [`Stream`](crate::Stream) as checks that every implementation passes.
