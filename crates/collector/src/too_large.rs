//! Who sends bodies that are answered 413: a tracker that is refused for good may send the same body again for ever, and
//! only a person can stop it. Snowplow: `collector.md` 7.9.
//!
//! The first one is told in the log at once; those of the next minute are gathered by source, so that a flood is a line a
//! minute. The source is the address that would have been recorded, so it is cut where recorded addresses are, and
//! `unknown` for a request that is anonymous.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines.
const PERIOD: Duration = Duration::from_mins(1);
/// Sources that are told apart at a time; the rest is one number.
const SOURCES_MAX: usize = 64;
/// Sources that a line names.
const NAMED_MAX: usize = 8;

/// What was refused since the last line.
#[derive(Debug, Default)]
pub(crate) struct TooLarge(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    told: Option<Instant>,
    by_source: HashMap<String, Refused>,
    of_others: u64,
}

#[derive(Debug)]
struct Refused {
    requests: u64,
    /// Of the last one, without the query.
    path: String,
}

impl TooLarge {
    /// Notes a request. What is to be said in the log, when it is time for that.
    pub(crate) fn note(&self, source: String, path: &str, now: Instant) -> Option<String> {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.add(source, path);
        if gathered.told.is_some_and(|told| now.duration_since(told) < PERIOD) {
            return None;
        }
        gathered.told = Some(now);
        Some(gathered.take())
    }
}

impl Gathered {
    fn add(&mut self, source: String, path: &str) {
        let has_room = self.by_source.len() < SOURCES_MAX;
        // A path is as long as its sender likes.
        let path: String = path.chars().take(64).collect();
        match self.by_source.get_mut(&source) {
            Some(refused) => *refused = Refused { requests: refused.requests + 1, path },
            None if has_room => {
                self.by_source.insert(source, Refused { requests: 1, path });
            }
            None => self.of_others += 1,
        }
    }

    /// All that was gathered, the most frequent sources first.
    fn take(&mut self) -> String {
        let mut sources: Vec<(String, Refused)> = self.by_source.drain().collect();
        sources.sort_by(|(one, of_one), (other, of_other)| {
            of_other.requests.cmp(&of_one.requests).then_with(|| one.cmp(other))
        });
        let mut others = std::mem::take(&mut self.of_others);
        let mut text = String::new();
        for (place, (source, refused)) in sources.into_iter().enumerate() {
            if place >= NAMED_MAX {
                others += refused.requests;
                continue;
            }
            let comma = if place == 0 { "" } else { ", " };
            let Refused { requests, path } = refused;
            write!(text, "{comma}{source} ({requests}, {path:?})").expect("a string takes all");
        }
        if others > 0 {
            write!(text, ", others ({others})").expect("a string takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_a_minute_by_source() {
        let (refused, start) = (TooLarge::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let note =
            |source: &str, seconds| refused.note(source.to_owned(), "/a/tp2", after(seconds));
        assert_eq!(note("192.0.2.1", 0).unwrap(), r#"192.0.2.1 (1, "/a/tp2")"#);
        assert_eq!(note("192.0.2.2", 1), None);
        assert_eq!(note("192.0.2.1", 2), None);
        assert_eq!(note("192.0.2.2", 59), None);
        let expect = r#"192.0.2.2 (3, "/a/tp2"), 192.0.2.1 (1, "/a/tp2")"#;
        assert_eq!(note("192.0.2.2", 60).unwrap(), expect);
        assert_eq!(note("192.0.2.2", 61), None);
    }

    #[test]
    fn a_flood_from_everywhere_is_a_short_line() {
        let (refused, start) = (TooLarge::default(), Instant::now());
        let path = "/x\n".repeat(10_000);
        refused.note("first".to_owned(), &path, start).unwrap();
        for number in 0..100_000 {
            assert_eq!(refused.note(format!("{number:06}"), &path, start), None);
        }
        let line = refused.note("last".to_owned(), &path, start + PERIOD).unwrap();
        // A line feed of the path would forge a line of the log.
        assert!(!line.contains('\n') && line.len() < 2000, "{line}");
        assert!(line.starts_with("000000 (1, ") && line.ends_with(", others (99993)"), "{line}");
    }
}
