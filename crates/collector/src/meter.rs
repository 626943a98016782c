//! Measures requests: how many, with what status, how long. Read by StatsD and by `/metrics`; tells the access log.
//!
//! A connection begins a [`Measured`] when it has read a head and ends it when the answer is written. Health checks and
//! `robots.txt` are not measured (Snowplow: `collector.md` 9). Labels are bounded: five methods, the statuses that the
//! collector gives, and `other`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::time::Timestamp;

use crate::access_log::{AccessLog, Line};
use crate::head::Method;
use crate::sink::backoff::Random;
use crate::times::Times;

/// The statuses that have a label of their own; 0 stands for any other.
const STATUSES: [u16; 10] = [200, 301, 302, 400, 404, 408, 413, 500, 503, 0];

/// How many durations of each kind a period keeps for StatsD; beyond it they are drawn.
const SAMPLES_MAX: usize = 100;

/// The label of a method.
pub(crate) const METHODS: [&str; 5] = ["get", "head", "post", "options", "other"];

/// What one kind of request is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    method: usize,
    status: usize,
}

impl Kind {
    /// `get`, `head`, `post`, `options`, `other`.
    pub fn method(self) -> &'static str {
        METHODS[self.method]
    }

    /// `None` for a status without a label of its own.
    pub fn status(self) -> Option<u16> {
        Some(STATUSES[self.status]).filter(|&status| status != 0)
    }
}

/// How a request ended that got no ordinary answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abnormal {
    /// 408.
    Timeout,
    /// The client was gone before its answer.
    Canceled,
}

impl Abnormal {
    pub fn as_str(self) -> &'static str {
        match self {
            Abnormal::Timeout => "timeout",
            Abnormal::Canceled => "canceled",
        }
    }
}

/// Shared by all connections.
#[derive(Debug)]
pub struct Meter {
    counts: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    active: AtomicU64,
    abandoned: AtomicU64,
    /// From the end of the head to the end of the answer.
    pub latency: Times,
    /// Only with StatsD: what came since it was sent last.
    period: Option<Mutex<Period>>,
    random: Random,
    log: Option<AccessLog>,
}

/// What StatsD is told of a period.
#[derive(Debug, Default)]
pub(crate) struct Period {
    pub(crate) requests: BTreeMap<Kind, Samples>,
    pub(crate) headers: BTreeMap<usize, Samples>,
    pub(crate) abnormal: BTreeMap<Abnormal, Samples>,
}

/// Durations of which at most 100 were kept, each with the same chance.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) count: u64,
    pub(crate) kept: Vec<Duration>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Measured {
    method: usize,
    begun: Instant,
    answered: Option<Duration>,
    /// Only with an access log.
    path: Option<String>,
    request_bytes: usize,
}

impl Meter {
    pub(crate) fn new(for_statsd: bool, log: Option<AccessLog>) -> Meter {
        Meter {
            counts: Default::default(),
            active: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            latency: Times::default(),
            period: for_statsd.then(Mutex::default),
            random: Random::of_the_system(),
            log,
        }
    }

    /// Answers by method and status; kinds that never came are left out.
    pub fn requests(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        let kinds = (0..METHODS.len())
            .flat_map(|method| (0..STATUSES.len()).map(move |status| Kind { method, status }));
        kinds.filter_map(|kind| {
            let count = self.counts[kind.method][kind.status].load(Ordering::Relaxed);
            (count > 0).then_some((kind, count))
        })
    }

    /// Requests under way.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests whose client was gone before it had its answer.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Has the file of the access log opened again, where there is one.
    pub(crate) fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Lines that the access log could not take because it was behind.
    pub fn log_lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, AccessLog::dropped)
    }

    /// A head was read. `None` for what is not measured.
    pub(crate) fn begin(&self, method: Method, path: &[u8]) -> Option<Measured> {
        if matches!(path, b"/health" | b"/sink-health" | b"/robots.txt") {
            return None;
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        Some(Measured {
            method: match method {
                Method::Get => 0,
                Method::Head => 1,
                Method::Post => 2,
                Method::Options => 3,
                Method::Other => 4,
            },
            begun: Instant::now(),
            answered: None,
            path: self.log.is_some().then(|| String::from_utf8_lossy(path).into_owned()),
            request_bytes: 0,
        })
    }

    /// The answer is written; `answer` begins with its status line.
    pub(crate) fn end(&self, measured: Measured, answer: &[u8], now: Timestamp) {
        let took = measured.begun.elapsed();
        self.active.fetch_sub(1, Ordering::Relaxed);
        let status = status_of(answer);
        let place = STATUSES.iter().position(|&known| known == status);
        let kind = Kind { method: measured.method, status: place.unwrap_or(STATUSES.len() - 1) };
        self.counts[kind.method][kind.status].fetch_add(1, Ordering::Relaxed);
        self.latency.add(took);
        if let Some(period) = &self.period {
            let mut period = period.lock().unwrap_or_else(PoisonError::into_inner);
            period.requests.entry(kind).or_default().add(took, &self.random);
            let answered = measured.answered.unwrap_or(took);
            period.headers.entry(kind.method).or_default().add(answered, &self.random);
            if status == 408 {
                period.abnormal.entry(Abnormal::Timeout).or_default().add(took, &self.random);
            }
        }
        if let (Some(log), Some(path)) = (&self.log, measured.path) {
            log.write(&Line {
                time: now,
                method: METHODS[measured.method],
                path: &path,
                status,
                request_bytes: measured.request_bytes,
                response_bytes: answer.len(),
                took,
            });
        }
    }

    /// The client was gone before its answer.
    pub(crate) fn abandon(&self, measured: &Measured) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        if let Some(period) = &self.period {
            let mut period = period.lock().unwrap_or_else(PoisonError::into_inner);
            let samples = period.abnormal.entry(Abnormal::Canceled).or_default();
            samples.add(measured.begun.elapsed(), &self.random);
        }
    }

    /// What came since the last call.
    pub(crate) fn take_period(&self) -> Period {
        let Some(period) = &self.period else { return Period::default() };
        std::mem::take(&mut *period.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Measured {
    /// The whole request is read, and has so many bytes.
    pub(crate) fn request_bytes(&mut self, bytes: usize) {
        self.request_bytes = bytes;
    }

    /// The answer begins to be written.
    pub(crate) fn answered(&mut self) {
        self.answered = Some(self.begun.elapsed());
    }
}

impl Samples {
    fn add(&mut self, took: Duration, random: &Random) {
        self.count += 1;
        if self.kept.len() < SAMPLES_MAX {
            self.kept.push(took);
            return;
        }
        // Every duration of the period has the same chance of being kept.
        let place = (random.draw() * self.count as f64) as usize;
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = took;
        }
    }
}

/// The status of an answer that begins with `HTTP/1.1 200`.
fn status_of(answer: &[u8]) -> u16 {
    let digits = answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_123);

    #[test]
    fn requests_are_counted_by_bounded_labels() {
        let meter = Meter::new(true, None);
        for (method, answer) in [
            (Method::Get, "HTTP/1.1 200 OK"),
            (Method::Get, "HTTP/1.1 200 OK"),
            (Method::Post, "HTTP/1.1 408 Request Timeout"),
            (Method::Other, "HTTP/1.1 299 Whatever"),
        ] {
            let measured = meter.begin(method, b"/i").unwrap();
            assert_eq!(meter.active(), 1);
            meter.end(measured, answer.as_bytes(), NOW);
        }
        meter.abandon(&meter.begin(Method::Get, b"/i").unwrap());
        assert!(meter.begin(Method::Get, b"/health").is_none());
        let found: Vec<_> =
            meter.requests().map(|(kind, count)| (kind.method(), kind.status(), count)).collect();
        assert_eq!(found, [("get", Some(200), 2), ("post", Some(408), 1), ("other", None, 1)]);
        assert_eq!((meter.active(), meter.latency.snapshot().count), (0, 4));
        let period = meter.take_period();
        assert_eq!(period.requests.values().map(|it| it.count).sum::<u64>(), 4);
        assert_eq!(
            period.abnormal.keys().collect::<Vec<_>>(),
            [&Abnormal::Timeout, &Abnormal::Canceled]
        );
        assert!(meter.take_period().requests.is_empty());
    }

    #[test]
    fn samples_are_bounded_and_their_count_is_not() {
        let (mut samples, random) = (Samples::default(), Random::seeded(3));
        (0..1000).for_each(|ms| samples.add(Duration::from_millis(ms), &random));
        assert_eq!((samples.kept.len(), samples.count), (SAMPLES_MAX, 1000));
        let late = samples.kept.iter().filter(|it| it.as_millis() >= 500).count();
        assert!((30..=70).contains(&late), "{late} of 100 are of the second half");
    }
}
