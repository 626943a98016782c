//! How long to wait before the next attempt: the two formulas that Snowplow's collectors have had.
//!
//! Pure: the random number is an argument. Who counts attempts is [`super::retry`].
//! `decorrelated` (up to 2.2.0) grows from attempt to attempt, so minutes are reached only in an outage of minutes.
//! `uniform` (since then) draws from the whole range each time, so a large maximum delays the very first retry:
//! `min-backoff = "2s"` with `max-backoff = "10m"` waits five minutes on average after one failure.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// `min(max, min + U · (3 · last − min))`, U uniform in [0, 1).
    #[default]
    Decorrelated,
    /// `max(min + a random part of (max − min), last / 3 · 2)`.
    Uniform,
}

/// A formula and its bounds, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub algorithm: Algorithm,
    pub min_ms: u64,
    pub max_ms: u64,
}

impl Backoff {
    /// What is waited after the first failure.
    pub fn first(self) -> Duration {
        Duration::from_millis(self.min_ms)
    }

    /// The longest wait.
    pub fn longest(self) -> Duration {
        Duration::from_millis(self.max_ms)
    }

    /// What is waited after `last`; `random` is uniform in [0, 1).
    pub fn next(self, last: Duration, random: f64) -> Duration {
        let last_ms = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
        let Backoff { algorithm, min_ms, max_ms } = self;
        let next_ms = match algorithm {
            Algorithm::Decorrelated => {
                let span = last_ms.saturating_mul(3).saturating_sub(min_ms);
                min_ms.saturating_add((random * span as f64) as u64).min(max_ms)
            }
            Algorithm::Uniform => {
                let span = max_ms.saturating_sub(min_ms).saturating_add(1);
                let drawn = min_ms.saturating_add((random * span as f64) as u64).min(max_ms);
                drawn.max(last_ms / 3 * 2)
            }
        };
        Duration::from_millis(next_ms)
    }
}

/// Random numbers for the formulas: splitmix64, which is plenty for spreading retries and can be seeded by a test.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Always the same numbers.
    pub fn seeded(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// Other numbers in each process, so that a fleet does not retry in step.
    pub fn of_the_system() -> Random {
        Random::seeded(RandomState::new().build_hasher().finish())
    }

    /// Uniform in [0, 1).
    pub fn draw(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The 53 bits that a float can hold.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Algorithm::{Decorrelated, Uniform};

    /// The mean delay of attempts 1 to 15, in milliseconds.
    fn means(algorithm: Algorithm, min_ms: u64, max_ms: u64) -> Vec<f64> {
        const RUNS: usize = 20_000;
        let backoff = Backoff { algorithm, min_ms, max_ms };
        let random = Random::seeded(20_261_124);
        let mut sums = vec![0.0; 15];
        for _ in 0..RUNS {
            let mut delay = backoff.first();
            for sum in &mut sums {
                *sum += delay.as_millis() as f64;
                delay = backoff.next(delay, random.draw());
            }
        }
        sums.into_iter().map(|sum| sum / RUNS as f64).collect()
    }

    fn check(algorithm: Algorithm, min_ms: u64, max_ms: u64, expect: [f64; 6]) {
        let means = means(algorithm, min_ms, max_ms);
        for (attempt, expect) in [1, 2, 3, 5, 9, 15].into_iter().zip(expect) {
            let found = means[attempt - 1];
            let near = (found - expect).abs() <= expect * 0.03;
            assert!(
                near,
                "{algorithm:?} {min_ms}..{max_ms}, attempt {attempt}: {found} ≠ {expect}"
            );
        }
    }

    #[test]
    fn mean_delays_are_those_of_the_specification() {
        check(Decorrelated, 2000, 600_000, [2000., 3980., 6929., 18_182., 87_394., 203_302.]);
        check(Decorrelated, 3000, 600_000, [3000., 6012., 10_506., 27_358., 119_934., 234_244.]);
        check(Uniform, 2000, 600_000, [2000., 301_249., 344_654., 350_959., 353_831., 352_344.]);
        check(Uniform, 500, 1500, [500., 1001., 1032., 1032., 1029., 1029.]);
    }

    #[test]
    fn both_formulas_keep_their_bounds() {
        let random = Random::seeded(7);
        for algorithm in [Decorrelated, Uniform] {
            let backoff = Backoff { algorithm, min_ms: 500, max_ms: 1500 };
            let mut delay = backoff.first();
            for _ in 0..1000 {
                delay = backoff.next(delay, random.draw());
                assert!((500..=1500).contains(&delay.as_millis()), "{algorithm:?}: {delay:?}");
            }
            assert_eq!(backoff.next(Duration::from_millis(500), 0.0).as_millis(), 500);
        }
        let odd = Backoff { algorithm: Uniform, min_ms: 9, max_ms: 3 };
        let _no_panic = odd.next(Duration::from_millis(u64::MAX), 0.999_999);
    }
}
