//! Whether the process does its work: the checks of `GET /health`, each with the way out.
//!
//! A check speaks of now, not of the past: what went wrong once and works again is in the log. `docs/guides/operate.md`
//! says for each what to do at night. The collector's own `/health` is not this one: it answers as long as it listens.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serving::{Check, Failure, Health};
use stream::local::Local;

use crate::process::{Intake, Process, Room};

/// The names of all checks, in order.
pub(crate) const NAMES: [&str; 8] =
    ["disk", "log", "speed", "frontier", "batch", "cut", "recipe", "files"];

/// A record that is not visible after this time is no matter of load any more.
const FRONTIER_LAG_MAX: Duration = Duration::from_secs(60);

/// How many intervals the cut may stay behind, and what an iteration may take besides.
const INTERVALS_MAX: u32 = 3;
const ITERATION_MAX: Duration = Duration::from_secs(60);

/// Makes every check.
pub(crate) fn check(process: &Process) -> Health {
    let found = [
        disk(process.disk(), &process.data_dir),
        log(&process.raw),
        speed(process),
        frontier(process),
        batch(process),
        cut(process),
        recipe(process),
        files(process),
    ];
    let checks = NAMES.into_iter().zip(found);
    let checks = checks.map(|(name, failure)| Check { name, failure }).collect();
    Health { checks, warnings: stale_files(process).into_iter().collect() }
}

fn failure(message: String, hint: &str) -> Option<Failure> {
    Some(Failure { message, hint: hint.to_owned() })
}

/// The checks of a collector that runs alone; `raw` is the log that it appends to, if it does.
pub(crate) fn check_alone(
    intake: &Intake,
    raw: Option<&Local>,
    room: io::Result<Room>,
    data_dir: &Path,
) -> Health {
    let mut checks = vec![Check { name: "disk", failure: disk(room, data_dir) }];
    checks.extend(raw.map(|raw| Check { name: "log", failure: log(raw) }));
    checks.push(Check { name: "sink", failure: sink(intake) });
    Health { checks, warnings: Vec::new() }
}

fn sink(intake: &Intake) -> Option<Failure> {
    let away = std::iter::once(&intake.good).chain(&intake.bad).find(|it| !it.is_healthy())?;
    failure(
        format!("the sink `{}` takes no records", away.name()),
        "what was answered 200 waits for it; new requests wait and are answered 408 or 503, so that trackers keep their events. \
         The log says why",
    )
}

fn disk(room: io::Result<Room>, data_dir: &Path) -> Option<Failure> {
    match room {
        Ok(disk) if disk.free_bytes >= disk.reserve_bytes => None,
        Ok(disk) => failure(
            format!(
                "the disk of `{}` has {} bytes free, less than the reserve of {}: the collector answers 503",
                data_dir.display(),
                disk.free_bytes,
                disk.reserve_bytes
            ),
            "free some space; the collector goes on by itself. `stream.disk-reserve` sets the reserve",
        ),
        Err(error) => failure(
            format!("the disk of `{}` does not answer: {error}", data_dir.display()),
            "look at the disk and at the system's log",
        ),
    }
}

fn log(raw: &Local) -> Option<Failure> {
    let poisoned = raw.gauges().into_iter().find_map(|it| Some((it.partition, it.poisoned?)));
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
    if let Some(error) = process.batch.status().recipe_error {
        return failure(
            format!("the recipe in force stays: {error}"),
            "mend the schema folder or the settings that it names; the next iteration reads them again",
        );
    }
    None
}

/// A file on the network that could not be had again: the work goes on with what there was.
fn stale_files(process: &Process) -> Option<Failure> {
    let (address, why) = process.enrichments.refreshes().stale.into_iter().next()?;
    failure(
        format!("{address}, which an enrichment reads, stays as it was: {why}"),
        "see whether the address can be reached and holds such a file; it is looked at again within an hour, or after a \
         restart. Events are enriched with the file as it was",
    )
}

/// Whether the files that answers are made of are there. Their content is checked by the statements that read them, and
/// that of the master dataset before the raw stream is trimmed.
fn files(process: &Process) -> Option<Failure> {
    if let Some(error) = process.batch.status().trim_error {
        return failure(
            format!("the raw stream is not trimmed: {error}"),
            "restore the file that is named from a backup; until then the raw stream keeps what is above it, and grows",
        );
    }
    let served = process.lambda.served();
    let (path, problem) = served.files.iter().find_map(|listed| {
        let path = listed.path_in(&process.data_dir);
        let problem = match process.files.open_read(&path).and_then(|file| file.len()) {
            Ok(bytes) if bytes == listed.bytes => return None,
            Ok(bytes) => format!("has {bytes} bytes instead of {}", listed.bytes),
            Err(error) => format!("cannot be read: {error}"),
        };
        Some((path, problem))
    })?;
    failure(
        format!("table file {} {problem}: every statement that needs it fails", path.display()),
        "restore the file from a backup, or make the batch view again from the master dataset with \
         `snowmelt batch run --rebuild`",
    )
}
