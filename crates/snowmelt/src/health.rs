//! Whether the process does its work: the checks of `GET /health`, each with the way out.
//!
//! A check speaks of now, not of the past: what went wrong once and works again is in the log. `docs/guides/operate.md`
//! says for each what to do at night. The collector's own `/health` is not this one: it answers as long as it listens.

use std::time::{Duration, Instant};

use serving::{Check, Failure, Health};

use crate::process::Process;

/// The names of all checks, in order.
pub(crate) const NAMES: [&str; 7] = ["disk", "log", "speed", "frontier", "batch", "cut", "recipe"];

/// A record that is not visible after this time is no matter of load any more.
const FRONTIER_LAG_MAX: Duration = Duration::from_secs(60);

/// How many intervals the cut may stay behind, and what an iteration may take besides.
const INTERVALS_MAX: u32 = 3;
const ITERATION_MAX: Duration = Duration::from_secs(60);

/// Makes every check.
pub(crate) fn check(process: &Process) -> Health {
    let found = [
        disk(process),
        log(process),
        speed(process),
        frontier(process),
        batch(process),
        cut(process),
        recipe(process),
    ];
    let checks = NAMES.into_iter().zip(found);
    Health { checks: checks.map(|(name, failure)| Check { name, failure }).collect() }
}

fn failure(message: String, hint: &str) -> Option<Failure> {
    Some(Failure { message, hint: hint.to_owned() })
}

fn disk(process: &Process) -> Option<Failure> {
    match process.disk() {
        Ok(disk) if disk.free_bytes >= disk.reserve_bytes => None,
        Ok(disk) => failure(
            format!(
                "the disk of `{}` has {} bytes free, less than the reserve of {}: the collector answers 503",
                process.data_dir.display(),
                disk.free_bytes,
                disk.reserve_bytes
            ),
            "free some space; the collector goes on by itself. `stream.disk-reserve` sets the reserve",
        ),
        Err(error) => failure(
            format!("the disk of `{}` does not answer: {error}", process.data_dir.display()),
            "look at the disk and at the system's log",
        ),
    }
}

fn log(process: &Process) -> Option<Failure> {
    let poisoned =
        process.raw.gauges().into_iter().find_map(|it| Some((it.partition, it.poisoned?)));
    let (partition, reason) = poisoned?;
    failure(
        format!("`{partition}` takes no records, and the collector answers 503 for it: {reason}"),
        "look at the disk, then restart; all that was answered 200 is on disk",
    )
}

fn speed(process: &Process) -> Option<Failure> {
    let status = process.speed.status();
    let (partition, reason) =
        status.partitions.iter().find_map(|it| Some((&it.partition, it.stalled.as_ref()?)))?;
    failure(
        format!("the speed layer is held up at `{partition}`: {reason}"),
        "it tries again by itself, and nothing is lost. If it waits for a registry, the records become visible when that \
         answers. If it names a damaged file, stop the server and run `snowmelt stream verify`",
    )
}

fn frontier(process: &Process) -> Option<Failure> {
    let now = Instant::now();
    let status = process.speed.status();
    let lag =
        |it: &speed::service::PartitionStatus| process.watch.age(&it.partition, it.visible_to, now);
    let slowest = status.partitions.iter().max_by_key(|it| lag(it))?;
    let age = lag(slowest);
    if age <= FRONTIER_LAG_MAX {
        return None;
    }
    failure(
        format!(
            "the frontier of `{}` stands at {}, and a record above it has waited for {} s",
            slowest.partition,
            slowest.visible_to,
            age.as_secs()
        ),
        "if `snowmelt_speed_records_total` grows, the load is more than the speed layer can take: more cores, or more \
         `stream.partitions`; if not, see the check `speed`",
    )
}

fn batch(process: &Process) -> Option<Failure> {
    let status = process.batch.status();
    if let Some(reason) = status.stopped {
        return failure(
            format!("the batch layer has stopped: {reason}"),
            "restart; answers stay exact meanwhile, and the real-time view grows",
        );
    }
    failure(
        format!("the batch layer fails, {} times in a row: {}", status.failures, status.error?),
        "it tries again by itself, at least every minute; answers stay exact meanwhile, and the real-time view grows",
    )
}

fn cut(process: &Process) -> Option<Failure> {
    let status = process.batch.status();
    if status.running.is_some() {
        return None;
    }
    let (now, served) = (Instant::now(), process.lambda.served());
    let age = |partition| process.watch.age(partition, served.cut.of(partition), now);
    let oldest = process.partitions().iter().map(age).max()?;
    let most = process.interval * INTERVALS_MAX + ITERATION_MAX;
    if oldest <= most {
        return None;
    }
    failure(
        format!(
            "the newest iteration that is served is {}, and a record above its cut has waited for {} s; \
             `batch.interval` is {} s",
            served.iteration,
            oldest.as_secs(),
            process.interval.as_secs()
        ),
        "`snowmelt batch run` makes an iteration at once, or says why there is none",
    )
}

fn recipe(process: &Process) -> Option<Failure> {
    failure(
        format!("the recipe in force stays: {}", process.batch.status().recipe_error?),
        "mend the schema folder or the settings that it names; the next iteration reads them again",
    )
}
