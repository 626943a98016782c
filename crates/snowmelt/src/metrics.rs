//! Every metric of this process: one table, and where each number comes from.
//!
//! `GET /metrics` prints them after those of the server ([`serving::FAMILIES`]); `docs/reference/metrics.md` is made of
//! both tables. Labels are bounded: partitions, reasons, kinds, registries and schemas of bad rows, all known to program and configuration.

use std::time::Instant;

use collector::sink::store::Store;
use collector::times::{Snapshot, Times};
use model::time::Timestamp;
use serving::Health;
use serving::exposition::{Exposition, Family};
use stream::local::Local;
use stream::local::gauges::CommitTimes;

use crate::process::{Intake, Process, Room};

serving::families! {
    /// All families of the roles, in the order in which they are printed.
    pub(crate) FAMILIES:
    BUILD = Gauge "snowmelt_build_info" ["version"] "always 1; the version of the binary";
    REQUESTS = Counter "snowmelt_collector_requests_total" [] "requests answered";
    ACCEPTED = Counter "snowmelt_collector_accepted_total" [] "records made durable";
    ACCEPTED_BYTES = Counter "snowmelt_collector_accepted_bytes_total" [] "their bytes";
    COLLECTOR_BAD_ROWS = Counter "snowmelt_collector_bad_rows_total" [] "records among them that are bad rows: what was answered 200 and is too large or broken";
    VIOLATIONS = Counter "snowmelt_collector_size_violations_total" ["reason"] "those bad rows that are for a request or an event that is too large, by reason";
    OVERSIZED_KEPT = Counter "snowmelt_collector_oversized_kept_total" [] "such requests that were kept whole in a file, with `collector.oversized.keep`";
    OVERSIZED_NOT_KEPT = Counter "snowmelt_collector_oversized_not_kept_total" [] "such requests of which no file could be made";
    SPLITS = Counter "snowmelt_collector_splits_total" [] "requests that became several records";
    IN_FLIGHT = Gauge "snowmelt_collector_in_flight_bytes" [] "bytes of bodies and records held until their requests are answered; beyond `collector.memory.max-in-flight-bytes` it is 503";
    CONNECTIONS_TOTAL = Counter "snowmelt_collector_connections_total" [] "connections since the start";
    CONNECTIONS = Gauge "snowmelt_collector_connections" [] "open connections";
    REJECTED = Counter "snowmelt_collector_rejected_total" ["reason"] "requests refused, by reason";
    ANSWERS = Counter "snowmelt_collector_answers_total" ["method", "status"] "answers by method and status, health checks left out; `other` stands for any without a label of its own";
    ANSWER_TIMES = Histogram "snowmelt_collector_answer_seconds" [] "from the end of a request's head to the end of its answer";
    ACTIVE = Gauge "snowmelt_collector_active_requests" [] "requests under way";
    ABANDONED = Counter "snowmelt_collector_abandoned_total" [] "requests whose client was gone before its answer";
    LOG_DROPPED = Counter "snowmelt_collector_access_log_dropped_total" [] "lines that the access log could not take in time";
    SINK_HEALTHY = Gauge "snowmelt_sink_healthy" ["sink"] "1 while the sink takes records: what /sink-health says";
    SINK_FLIPS = Counter "snowmelt_sink_health_changes_total" ["sink"] "how often that changed";
    SINK_HELD = Gauge "snowmelt_sink_held_records" ["sink"] "records in memory that the sink has not confirmed";
    SINK_HELD_BYTES = Gauge "snowmelt_sink_held_bytes" ["sink"] "their bytes";
    SINK_OLDEST = Gauge "snowmelt_sink_oldest_seconds" ["sink"] "when the oldest of them came, in seconds since 1970; no sample when there is none";
    SINK_DELIVERED = Counter "snowmelt_sink_delivered_total" ["sink"] "records that went through a buffer or a spool and are confirmed";
    SINK_DELIVERED_BYTES = Counter "snowmelt_sink_delivered_bytes_total" ["sink"] "their bytes";
    SINK_RETRIED = Counter "snowmelt_sink_retried_total" ["sink"] "records that an attempt did not bring to the sink, once for each attempt";
    SINK_ATTEMPTS = Histogram "snowmelt_sink_attempt_seconds" ["sink"] "how long attempts took, answered or not";
    SINK_LAST = Gauge "snowmelt_sink_last_success_seconds" ["sink"] "when the sink last confirmed a record, in seconds since 1970; no sample before the first";
    SPOOL_BYTES = Gauge "snowmelt_spool_bytes" ["sink"] "what the spool takes of the disk";
    SPOOL_OLDEST = Gauge "snowmelt_spool_oldest_seconds" ["sink"] "when the oldest request in the spool came, in seconds since 1970; no sample when there is none";
    QUEUED = Gauge "snowmelt_log_queued_bytes" ["partition"] "bytes of accepted requests that wait for their group commit";
    COMMITS = Histogram "snowmelt_log_commit_seconds" ["partition"] "how long a group commit took, fsync included: nobody hears 200 before its end";
    POISONED = Gauge "snowmelt_log_poisoned" ["partition"] "1 when the partition takes no records until a restart";
    DISK_FREE = Gauge "snowmelt_disk_free_bytes" [] "free bytes of the disk that holds the data folder";
    DISK_RESERVE = Gauge "snowmelt_disk_reserve_bytes" [] "free bytes below which the collector answers 503";
    RECORDS = Counter "snowmelt_speed_records_total" [] "raw records enriched";
    OUTCOMES = Counter "snowmelt_speed_outcomes_total" ["kind"] "outcomes, by kind";
    BAD_ROWS = Counter "snowmelt_speed_bad_rows_total" ["schema"] "bad rows, by schema";
    INVALID_ENRICHED = Counter "snowmelt_speed_invalid_enriched_total" [] "events with texts that are too long, good because `enrich.accept-invalid` is on";
    CAUGHT_UP = Gauge "snowmelt_speed_caught_up" ["partition"] "1 when all of a partition is visible";
    FRONTIER_LAG = Gauge "snowmelt_speed_frontier_lag_seconds" ["partition"] "age of the oldest record that is not visible in SQL yet, 0 if there is none";
    REWINDS = Counter "snowmelt_speed_rewinds_total" ["partition"] "ranges that got lost in the derived streams and were enriched again";
    HELD_UP = Gauge "snowmelt_speed_held_up" [] "1 when a partition cannot go on";
    WAITING = Gauge "snowmelt_waiting_partitions" [] "partitions that wait for a registry";
    FACTS = Gauge "snowmelt_facts" [] "answers of registries on disk";
    FACTS_BYTES = Gauge "snowmelt_facts_bytes" [] "their bytes";
    ASSET_REFRESHES = Counter "snowmelt_asset_refreshes_total" ["result"] "looks at files on the network that enrichments read, after the first: unchanged, changed, failed";
    STALE_ASSETS = Gauge "snowmelt_stale_assets" [] "such files whose last look has failed, so that they stay as they were";
    QUESTIONS = Counter "snowmelt_registry_questions_total" ["registry", "result"] "questions to registries, by what came of them";
    REALTIME_ROWS = Gauge "snowmelt_realtime_rows" [] "events in the real-time view";
    REALTIME_BAD_ROWS = Gauge "snowmelt_realtime_bad_rows" [] "bad rows in the real-time view";
    REALTIME_FAILED_EVENTS = Gauge "snowmelt_realtime_failed_events" [] "failed events in the real-time view";
    REALTIME_MEMORY = Gauge "snowmelt_realtime_memory_bytes" [] "its memory";
    SPILLED_CHUNKS = Gauge "snowmelt_realtime_spilled_chunks" [] "chunks in spill/";
    SPILLED_BYTES = Gauge "snowmelt_realtime_spilled_bytes" [] "their bytes";
    SPILL_FAILURES = Counter "snowmelt_realtime_spill_failures_total" [] "failed attempts to spill; the rows stayed in memory";
    ITERATION = Gauge "snowmelt_batch_iteration" [] "the newest iteration";
    GENERATION = Gauge "snowmelt_batch_generation" [] "the generation of the batch view that is served";
    ITERATIONS = Counter "snowmelt_batch_iterations_total" [] "iterations and rebuilds that this process published";
    TOOK = Counter "snowmelt_batch_iteration_seconds_total" [] "seconds that iterations took which published something";
    LAST_TOOK = Gauge "snowmelt_batch_last_iteration_seconds" [] "seconds that the last of them took";
    RUNNING = Gauge "snowmelt_batch_running" [] "1 while an iteration runs";
    REBUILDING = Gauge "snowmelt_batch_rebuilding" [] "1 while a rebuild runs";
    BATCH_RECORDS = Counter "snowmelt_batch_records_total" [] "records put below the cut";
    TABLE_FILES = Gauge "snowmelt_batch_table_files" [] "table files of the served iteration";
    CUT_AGE = Gauge "snowmelt_batch_cut_age_seconds" ["partition"] "age of the oldest record that is not in the batch view yet, 0 if there is none";
    ARCHIVE_LAG = Gauge "snowmelt_batch_archive_lag_seconds" ["partition"] "age of the oldest record that is not in the master dataset yet, 0 if there is none";
    FAILURES = Gauge "snowmelt_batch_failures" [] "failed attempts in a row";
    STOPPED = Gauge "snowmelt_batch_stopped" [] "1 when the batch layer has ended and wants a restart";
    FAILING = Gauge "snowmelt_check_failing" ["check"] "1 for each check of /health that fails";
}

/// All metrics of the roles, in Prometheus text form.
pub(crate) fn print(process: &Process) -> String {
    let mut text = Exposition::default();
    text.values(&BUILD, [([env!("CARGO_PKG_VERSION")], 1)]);
    collector(&process.intake, &mut text);
    log(&process.raw, &mut text);
    disk(process.disk(), &mut text);
    speed(process, &mut text);
    batch(process, &mut text);
    failing(&crate::health::check(process), &mut text);
    text.finish()
}

/// Those of a collector that runs alone; `raw` is the log that it appends to, if it does.
pub(crate) fn print_alone(
    intake: &Intake,
    raw: Option<&Local>,
    room: std::io::Result<Room>,
    health: &Health,
) -> String {
    let mut text = Exposition::default();
    text.values(&BUILD, [([env!("CARGO_PKG_VERSION")], 1)]);
    collector(intake, &mut text);
    raw.into_iter().for_each(|raw| log(raw, &mut text));
    disk(room, &mut text);
    failing(health, &mut text);
    text.finish()
}

fn failing(health: &Health, text: &mut Exposition) {
    let failing = health.checks.iter().map(|it| ([it.name], u8::from(it.failure.is_some())));
    text.values(&FAILING, failing);
}

fn collector(intake: &Intake, text: &mut Exposition) {
    let Intake { counters, meter, good, bad } = intake;
    text.value(&REQUESTS, counters.requests());
    text.value(&ACCEPTED, counters.accepted());
    text.value(&ACCEPTED_BYTES, counters.accepted_bytes());
    text.value(&COLLECTOR_BAD_ROWS, counters.bad_rows());
    text.values(&VIOLATIONS, counters.violations().map(|(it, count)| ([it.as_str()], count)));
    text.value(&OVERSIZED_KEPT, counters.oversized_kept());
    text.value(&OVERSIZED_NOT_KEPT, counters.oversized_not_kept());
    text.value(&SPLITS, counters.splits());
    text.value(&IN_FLIGHT, counters.in_flight_bytes());
    text.value(&CONNECTIONS_TOTAL, counters.connections());
    text.value(&CONNECTIONS, counters.connections_open());
    let rejected = counters.rejected_by_reason().map(|(reason, count)| ([reason.as_str()], count));
    text.values(&REJECTED, rejected);
    let answers = meter.requests().map(|(kind, count)| {
        let status = kind.status().map_or("other".to_owned(), |status| status.to_string());
        (kind.method(), status, count)
    });
    let answers: Vec<(&str, String, u64)> = answers.collect();
    text.values(&ANSWERS, answers.iter().map(|it| ([it.0, it.1.as_str()], it.2)));
    text.histograms(&ANSWER_TIMES, [times([], &meter.latency)]);
    text.value(&ACTIVE, meter.active());
    text.value(&ABANDONED, meter.abandoned());
    text.value(&LOG_DROPPED, meter.log_lines_dropped());
    let all: Vec<&Store> = std::iter::once(good).chain(bad).map(|store| &**store).collect();
    sinks(&all, text);
}

fn sinks(all: &[&Store], text: &mut Exposition) {
    let each = || all.iter().map(|sink| ([sink.name()], *sink, sink.stats()));
    let seconds = |at: Timestamp| at.0 as f64 / 1000.0;
    text.values(&SINK_HEALTHY, each().map(|(name, sink, _)| (name, u8::from(sink.is_healthy()))));
    text.values(&SINK_FLIPS, each().map(|(name, sink, _)| (name, sink.health_flips())));
    text.values(&SINK_HELD, each().map(|(name, _, stats)| (name, stats.held())));
    text.values(&SINK_HELD_BYTES, each().map(|(name, _, stats)| (name, stats.held_bytes())));
    text.values(&SINK_DELIVERED, each().map(|(name, _, stats)| (name, stats.delivered())));
    let delivered_bytes = each().map(|(name, _, stats)| (name, stats.delivered_bytes()));
    text.values(&SINK_DELIVERED_BYTES, delivered_bytes);
    text.values(&SINK_RETRIED, each().map(|(name, _, stats)| (name, stats.retried())));
    text.histograms(&SINK_ATTEMPTS, each().map(|(name, _, stats)| times(name, &stats.attempts)));
    let oldest = each().filter_map(|(name, _, stats)| Some((name, seconds(stats.held_oldest()?))));
    text.values(&SINK_OLDEST, oldest);
    let last = each().filter_map(|(name, _, stats)| Some((name, seconds(stats.last_success()?))));
    text.values(&SINK_LAST, last);
    text.values(&SPOOL_BYTES, each().map(|(name, _, stats)| (name, stats.spool_bytes())));
    let oldest = each().filter_map(|(name, _, stats)| Some((name, seconds(stats.spool_oldest()?))));
    text.values(&SPOOL_OLDEST, oldest);
}

/// A histogram's sample.
fn times<'a, const N: usize>(
    labels: [&'a str; N],
    times: &Times,
) -> ([&'a str; N], Vec<(f64, u64)>, f64, u64) {
    let Snapshot { at_most, count, sum } = times.snapshot();
    (labels, at_most, sum.as_secs_f64(), count)
}

fn log(raw: &Local, text: &mut Exposition) {
    let gauges = raw.gauges();
    text.values(&QUEUED, gauges.iter().map(|it| ([it.partition.as_str()], it.queued_bytes)));
    let histogram =
        |times: &CommitTimes| (times.at_most.clone(), times.sum.as_secs_f64(), times.count);
    text.histograms(
        &COMMITS,
        gauges.iter().map(|it| {
            let (buckets, sum, count) = histogram(&it.commits);
            ([it.partition.as_str()], buckets, sum, count)
        }),
    );
    let poisoned =
        gauges.iter().map(|it| ([it.partition.as_str()], u8::from(it.poisoned.is_some())));
    text.values(&POISONED, poisoned);
}

/// A disk that does not answer has no sample; the check of the disk says why.
fn disk(room: std::io::Result<Room>, text: &mut Exposition) {
    if let Ok(room) = room {
        text.value(&DISK_FREE, room.free_bytes);
        text.value(&DISK_RESERVE, room.reserve_bytes);
    }
}

fn speed(process: &Process, text: &mut Exposition) {
    let status = process.speed.status();
    let tally = status.tally();
    text.value(&RECORDS, tally.records);
    let counts = tally.counts;
    let outcomes = [
        (["enriched"], counts.enriched),
        (["failed"], counts.failed),
        (["bad"], counts.bad),
        (["dropped"], counts.dropped),
    ];
    text.values(&OUTCOMES, outcomes);
    text.value(&INVALID_ENRICHED, tally.invalid_enriched);
    text.values(&BAD_ROWS, tally.bad_by_schema.iter().map(|(schema, count)| ([*schema], count)));
    let now = Instant::now();
    let partitions = &status.partitions;
    text.values(
        &CAUGHT_UP,
        partitions
            .iter()
            .map(|it| ([it.partition.as_str()], u8::from(it.visible_to >= it.raw_end))),
    );
    text.values(
        &FRONTIER_LAG,
        partitions.iter().map(|it| {
            let age = process.watch.age(&it.partition, it.visible_to, now);
            ([it.partition.as_str()], age.as_secs_f64())
        }),
    );
    text.values(&REWINDS, partitions.iter().map(|it| ([it.partition.as_str()], it.rewinds)));
    text.value(&HELD_UP, u8::from(status.stalled().is_some()));
    text.value(&WAITING, status.waiting());
    let stats = process.answers.stats();
    text.value(&FACTS, stats.facts);
    text.value(&FACTS_BYTES, stats.bytes);
    let refreshes = process.enrichments.refreshes();
    let looks = [
        (["unchanged"], refreshes.unchanged),
        (["changed"], refreshes.changed),
        (["failed"], refreshes.failed),
    ];
    text.values(&ASSET_REFRESHES, looks);
    text.value(&STALE_ASSETS, refreshes.stale.len());
    let questions = stats.questions.iter();
    text.values(&QUESTIONS, questions.map(|it| ([it.0.as_str(), it.1.as_str()], it.2)));
    let realtime = process.lambda.realtime().metrics();
    text.value(&REALTIME_ROWS, realtime.event_rows);
    text.value(&REALTIME_BAD_ROWS, realtime.bad_row_rows);
    text.value(&REALTIME_FAILED_EVENTS, realtime.failed_event_rows);
    text.value(&REALTIME_MEMORY, realtime.memory_bytes);
    text.value(&SPILLED_CHUNKS, realtime.spilled_chunks);
    text.value(&SPILLED_BYTES, realtime.spilled_bytes);
    text.value(&SPILL_FAILURES, realtime.spill_failures);
}

fn batch(process: &Process, text: &mut Exposition) {
    let status = process.batch.status();
    let served = process.lambda.served();
    text.value(&ITERATION, status.iteration);
    text.value(&GENERATION, served.generation);
    text.value(&ITERATIONS, status.published);
    text.value(&TOOK, status.took.as_secs_f64());
    text.value(&LAST_TOOK, status.last_took.as_secs_f64());
    text.value(&RUNNING, u8::from(status.running.is_some()));
    text.value(&REBUILDING, u8::from(status.rebuilding.is_some()));
    text.value(&BATCH_RECORDS, status.records);
    text.value(&TABLE_FILES, served.files.len());
    let now = Instant::now();
    let partitions = process.partitions();
    let mut ages = |family: &Family, position: &model::cut::Cut| {
        text.values(
            family,
            partitions.iter().map(|partition| {
                let age = process.watch.age(partition, position.of(partition), now);
                ([partition.as_str()], age.as_secs_f64())
            }),
        );
    };
    ages(&CUT_AGE, &served.cut);
    ages(&ARCHIVE_LAG, &status.archived);
    text.value(&FAILURES, status.failures);
    text.value(&STOPPED, u8::from(status.stopped.is_some()));
}
