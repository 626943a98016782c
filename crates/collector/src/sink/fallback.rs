//! Two destinations in place of one: what the first does not take goes to the second, such as a Kinesis stream and the
//! queue beside it. Snowplow: `collector.md` 7.3, points 4 to 6.
//!
//! A sink like any other to the delivery above it, which goes on to decide what is sent again and when. Here it is decided
//! where an attempt goes: to the first; once that has failed too often, to the second, and back as soon as a probe or
//! an answer shows that the first is there again. While both are away each has its turn. A record that is too large
//! for the second waits for the first. Nothing is dropped; something may arrive at both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::health::Health;
use super::{Answer, Entry, Failure, Limits, Refused, Sink};

/// How long one of the two may take, so that an answer of the other is not lost with it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// When the second is used.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Failures in a row that are not yet too many.
    pub retries: u32,
    /// The largest record that goes to the second, in bytes.
    pub second_record_bytes_max: usize,
    /// How often one that is away is asked.
    pub probe_interval: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Fallback {
    name: String,
    first: Arc<Side>,
    second: Arc<Side>,
    settings: Settings,
    /// Attempts while both were away.
    turns: AtomicU32,
}

/// One of the two, and what is known of it.
#[derive(Debug)]
struct Side {
    sink: Arc<dyn Sink>,
    health: Health,
    /// In a row.
    failures: AtomicU32,
}

/// What became of the entries that one of the two was sent.
#[derive(Default)]
struct Outcome {
    answered: bool,
    refused: Vec<Refused>,
}

impl Fallback {
    /// Both count as healthy until they fail.
    pub fn new(first: Arc<dyn Sink>, second: Arc<dyn Sink>, settings: Settings) -> Fallback {
        let name = format!("{}, {}", first.name(), second.name());
        let side =
            |sink| Arc::new(Side { sink, health: Health::good(), failures: AtomicU32::new(0) });
        let (first, second, turns) = (side(first), side(second), AtomicU32::new(0));
        Fallback { name, first, second, settings, turns }
    }

    fn goes_to_second(&self) -> bool {
        match (self.first.health.is_healthy(), self.second.health.is_healthy()) {
            (true, _) => false,
            (false, true) => true,
            // For as many attempts as would have shown that it is away.
            (false, false) => {
                let turn = self.turns.fetch_add(1, Ordering::Relaxed);
                turn / self.settings.retries.saturating_add(1) % 2 == 1
            }
        }
    }

    /// Sends the entries at these places of the batch, in groups that the sink takes.
    async fn send_to(&self, side: &Arc<Side>, batch: &[Entry], places: Vec<usize>) -> Outcome {
        let by = Instant::now() + ANSWER_TIMEOUT;
        let mut outcome = Outcome::default();
        for group in groups(batch, &places, side.sink.limits()) {
            let entries: Vec<Entry> = group.iter().map(|&place| batch[place].clone()).collect();
            let answer = tokio::time::timeout_at(by, side.sink.send(&entries)).await;
            match answer {
                Ok(Ok(refused)) => {
                    side.answered();
                    outcome.answered = true;
                    let at_its_place = |it: Refused| Refused { index: group[it.index], ..it };
                    outcome.refused.extend(refused.into_iter().map(at_its_place));
                }
                Ok(Err(Failure(reason))) => {
                    side.failed(self.settings);
                    outcome.refuse(group, &reason);
                }
                Err(_) => {
                    side.failed(self.settings);
                    outcome.refuse(group, "no answer in time");
                }
            }
        }
        outcome
    }
}

impl Outcome {
    fn refuse(&mut self, group: &[usize], reason: &str) {
        let refused = |&index: &usize| Refused { index, reason: reason.to_owned() };
        self.refused.extend(group.iter().map(refused));
    }
}

impl Side {
    fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.health.up() {
            tracing::info!(sink = self.sink.name(), "the sink is healthy");
        }
    }

    fn failed(self: &Arc<Side>, settings: Settings) {
        if self.failures.fetch_add(1, Ordering::Relaxed) < settings.retries {
            return;
        }
        self.failures.store(0, Ordering::Relaxed);
        if self.health.down() {
            tracing::warn!(sink = self.sink.name(), "the sink is unhealthy; the other is used");
            // Ends when the sink is back, or with the collector's runtime.
            tokio::spawn(Arc::clone(self).probe(settings.probe_interval));
        }
    }

    async fn probe(self: Arc<Side>, interval: Duration) {
        while !self.health.is_healthy() {
            tokio::time::sleep(interval).await;
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.sink.probe()).await;
            if let Ok(Ok(())) = answer {
                self.answered();
            }
        }
    }
}

impl Sink for Fallback {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.first.sink.limits()
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        Box::pin(async move {
            let to_second = self.goes_to_second();
            let is_for_second = |&place: &usize| {
                to_second && batch[place].bytes.len() <= self.settings.second_record_bytes_max
            };
            let (second, first): (Vec<usize>, Vec<usize>) =
                (0..batch.len()).partition(is_for_second);
            let (first, second) = tokio::join!(
                self.send_to(&self.first, batch, first),
                self.send_to(&self.second, batch, second)
            );
            let mut refused = [first.refused, second.refused].concat();
            refused.sort_by_key(|it| it.index);
            match (first.answered || second.answered, refused.first()) {
                (false, Some(Refused { reason, .. })) => Err(Failure(reason.clone())),
                _ => Ok(refused),
            }
        })
    }

    /// One of the two is enough.
    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let (first, second) = tokio::join!(self.first.sink.probe(), self.second.sink.probe());
            first.or(second)
        })
    }
}

/// Splits the places of a batch so that each group has at most so many records and bytes; a record that is alone above the
/// limit is a group of its own, and there is never an empty one.
fn groups<'a>(batch: &[Entry], places: &'a [usize], limits: Limits) -> Vec<&'a [usize]> {
    let (mut groups, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, &place) in places.iter().enumerate() {
        let more = batch[place].len();
        let is_full =
            at - begin >= limits.batch_records_max || bytes + more > limits.batch_bytes_max;
        if at > begin && is_full {
            groups.push(&places[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += more;
    }
    if begin < places.len() {
        groups.push(&places[begin..]);
    }
    groups
}

#[cfg(test)]
mod tests;
