//! Unfolds a body with `Content-Encoding: gzip`. Snowplow's collector does not, so `compat.strict` switches it off
//! (`collector.md` 1.8).
//!
//! A few bytes can claim to be gigabytes: what is unfolded is bounded like a body that is sent plain, and each piece of
//! it is held before it is made.

use crate::memory::{Exhausted, Held};
use flate2::bufread::MultiGzDecoder;
use std::io::Read;

/// How much is unfolded at a time.
const STEP_BYTES: usize = 64 * 1024;

/// Why a body is not unfolded.
#[derive(Debug)]
pub(crate) enum BadGzip {
    /// It reaches the size that is refused.
    TooLarge,
    /// There is no memory for it now.
    Exhausted,
    /// It is not gzip, or not whole.
    Malformed(std::io::Error),
}

/// Whether a `Content-Encoding` says gzip, and nothing but that.
pub(crate) fn is_gzip(content_encoding: &str) -> bool {
    content_encoding.eq_ignore_ascii_case("gzip") || content_encoding.eq_ignore_ascii_case("x-gzip")
}

/// The body behind the compression; of `refused_at` bytes or more none.
pub(crate) fn unfold(
    body: &[u8],
    refused_at: usize,
    held: &mut Held<'_>,
) -> Result<Vec<u8>, BadGzip> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut unfolded = Vec::new();
    loop {
        if unfolded.len() == unfolded.capacity() {
            let step = unfolded.capacity().max(STEP_BYTES).min(refused_at);
            held.add(step).map_err(|Exhausted| BadGzip::Exhausted)?;
            unfolded.reserve_exact(step);
        }
        let begin = unfolded.len();
        unfolded.resize(unfolded.capacity(), 0);
        let read = decoder.read(&mut unfolded[begin..]);
        unfolded.truncate(begin + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(unfolded),
            Ok(_) if unfolded.len() >= refused_at => return Err(BadGzip::TooLarge),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(BadGzip::Malformed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::sync::Arc;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unfolded(body: &[u8], refused_at: usize, budget: usize) -> Result<Vec<u8>, BadGzip> {
        unfold(body, refused_at, &mut Budget::new(budget, Arc::default()).hold())
    }

    #[test]
    fn a_body_comes_back_also_in_several_members() {
        for bytes in [&b""[..], b"{}", &vec![b'a'; 300_000]] {
            assert_eq!(unfolded(&gzip(bytes), 1 << 20, 1 << 20).unwrap(), bytes);
        }
        let two = [gzip(b"ab"), gzip(b"cd")].concat();
        assert_eq!(unfolded(&two, 100, 1 << 20).unwrap(), b"abcd");
    }

    #[test]
    fn the_size_that_is_refused_counts_unfolded() {
        let body = gzip(&vec![b'a'; 100_000]);
        assert_eq!(unfolded(&body, 100_001, 1 << 20).unwrap().len(), 100_000);
        assert!(matches!(unfolded(&body, 100_000, 1 << 20), Err(BadGzip::TooLarge)));
    }

    #[test]
    fn a_bomb_takes_no_more_than_what_may_be_held() {
        // A thousand times its size.
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000);
        let budget = Budget::new(1 << 30, Arc::default());
        let mut held = budget.hold();
        assert!(matches!(unfold(&bomb, 2 << 20, &mut held), Err(BadGzip::TooLarge)));
        drop(held);
        assert!(matches!(unfolded(&bomb, 2 << 20, 100_000), Err(BadGzip::Exhausted)));
    }

    #[test]
    fn what_is_no_gzip_says_so() {
        let whole = gzip(b"{\"a\":1}");
        for body in [&b""[..], b"{}", &whole[..whole.len() - 1], &[&whole[..], b"x"].concat()] {
            assert!(matches!(unfolded(body, 100, 1 << 20), Err(BadGzip::Malformed(_))), "{body:?}");
        }
        for value in ["gzip", "GZIP", "x-gzip"] {
            assert!(is_gzip(value));
        }
        for value in ["", "br", "gzip, br", "identity"] {
            assert!(!is_gzip(value));
        }
    }
}
