//! The embedded log alone, on a disk that forgets what was not synced.
//!
//! Appends, trims, kills, losses of power, failed fsyncs and full disks, in an order drawn from the seed. After every
//! step the whole log is read and held against what was promised: an acknowledged record is there, byte for byte, in
//! order; what was once readable stays readable; nothing else appears but records whose append failed.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::position::{Offset, Partition};
use stream::Stream;
use stream::local::{Drive, Durability, Local, Options, SegmentIds};

use crate::Violation;
use crate::chance::Chance;
use crate::disk::{Disk, Faults};

const ROOMY: u64 = 64 << 20;

/// Runs one seed for `steps` steps.
///
/// # Errors
/// The first promise that was not kept.
pub fn run(seed: u64, steps: u32) -> Result<(), Violation> {
    let mut world = World::new(seed);
    world.reopen()?;
    for step in 0..steps {
        world
            .step()
            .and_then(|()| world.check())
            .map_err(|what| what.at_step(step).after(&world.history))?;
    }
    Ok(())
}

struct World {
    chance: Chance,
    disk: Disk,
    durability: Durability,
    log: Option<Local>,
    partitions: Vec<Partition>,
    expected: BTreeMap<Partition, Expected>,
    written: u64,
    /// Whether power was lost or a sync failed: then a stream of relaxed durability may be shorter.
    may_shorten: bool,
    /// A stream of relaxed durability was found damaged after such a loss. Its owner begins it anew; the run ends.
    given_up: bool,
    /// What happened, in words, for whoever replays a seed.
    history: Vec<String>,
}

/// What is known of one partition.
struct Expected {
    /// Acknowledged, or once read: must be there for ever, unless trimmed.
    kept: BTreeMap<Offset, Bytes>,
    /// Appends that failed: each may be there as a whole prefix, or not.
    in_doubt: Vec<Vec<Bytes>>,
    trimmed_below: Offset,
}

impl Expected {
    const NOTHING: Expected =
        Expected { kept: BTreeMap::new(), in_doubt: Vec::new(), trimmed_below: Offset::BEGINNING };
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance::seeded(seed);
        let partitions: Vec<Partition> =
            (0..=chance.below(2) as u32).map(|at| Partition::of_stream("raw", at)).collect();
        World {
            disk: Disk::new(chance.number(), ROOMY),
            durability: if chance.one_in(4) { Durability::Relaxed } else { Durability::Synced },
            log: None,
            expected: partitions
                .iter()
                .map(|partition| (partition.clone(), Expected::NOTHING))
                .collect(),
            partitions,
            written: 0,
            may_shorten: false,
            given_up: false,
            history: Vec::new(),
            chance,
        }
    }

    fn options(&mut self) -> Options {
        let mut ids = self.chance.fork();
        let ids = std::sync::Mutex::new(move || ids.number());
        Options {
            durability: self.durability,
            drive: Drive::Inline,
            segment_bytes_first: 4096,
            segment_bytes_max: 16_384,
            relaxed_sync_bytes: 8192,
            disk_reserve_bytes: Some(0),
            record_bytes_max: 32_768,
            segment_ids: SegmentIds::new(move || {
                (ids.lock().expect("drawing a number does not panic"))()
            }),
            ..Options::default()
        }
    }

    /// Opens the log; a fault may strike while it recovers, and then again.
    fn reopen(&mut self) -> Result<(), Violation> {
        self.log = None;
        for _ in 0..50 {
            let options = self.options();
            let count = self.partitions.len() as u32;
            match Local::open(
                Arc::new(self.disk.clone()),
                Path::new("/streams"),
                "raw",
                count,
                options,
            ) {
                Ok(log) => {
                    self.log = Some(log);
                    self.history.push("opened".to_owned());
                    return Ok(());
                }
                Err(error) if self.disk.is_dead() => {
                    self.history.push(format!("killed while opening: {error}"));
                    self.crash()?;
                    if self.chance.coin() {
                        let faults = self.faults_of_opening();
                        self.disk.set_faults(faults);
                    }
                }
                Err(error) => {
                    return Err(Violation::new(format!(
                        "the log does not open: {error}: {:?}",
                        error.source()
                    )));
                }
            }
        }
        self.disk.set_faults(Faults::default());
        Ok(())
    }

    fn faults_of_opening(&mut self) -> Faults {
        Faults { kill_at: Some(1 + self.chance.below(20)), fail_sync_at: None }
    }

    fn step(&mut self) -> Result<(), Violation> {
        if self.given_up {
            return Ok(());
        }
        match self.chance.below(100) {
            0..70 => self.append(),
            70..80 => self.trim(),
            80..88 => {
                self.crash()?;
                if self.chance.one_in(3) {
                    let faults = self.faults_of_opening();
                    self.disk.set_faults(faults);
                }
                self.reopen()
            }
            88..94 => {
                let now = self.disk.operations();
                let kill_at = Some(now + 1 + self.chance.below(15));
                self.disk.set_faults(Faults { kill_at, fail_sync_at: None });
                self.history.push(format!("will be killed at operation {kill_at:?}, now at {now}"));
                Ok(())
            }
            94..97 => {
                let fail_sync_at = Some(self.disk.syncs() + 1 + self.chance.below(4));
                self.may_shorten = true;
                self.disk.set_faults(Faults { kill_at: None, fail_sync_at });
                self.history
                    .push(format!("sync {fail_sync_at:?} will fail, now at {}", self.disk.syncs()));
                Ok(())
            }
            _ => {
                let room = self.chance.below(6000);
                self.disk.set_capacity(self.disk.used_bytes() + room);
                self.history.push(format!("the disk has {room} bytes left for three appends"));
                for _ in 0..3 {
                    self.append()?;
                    self.check()?;
                }
                self.disk.set_capacity(ROOMY);
                Ok(())
            }
        }
    }

    fn append(&mut self) -> Result<(), Violation> {
        let partition =
            self.partitions[self.chance.below(self.partitions.len() as u64) as usize].clone();
        let count = 1 + self.chance.below(4);
        let records: Vec<Bytes> = (0..count).map(|_| self.record()).collect();
        let Some(log) = &self.log else { return Ok(()) };
        let appended = futures::executor::block_on(log.append(&partition, records.clone()));
        let expected =
            self.expected.get_mut(&partition).expect("all partitions are there from the start");
        let sizes: Vec<usize> = records.iter().map(Bytes::len).collect();
        self.history.push(format!("append to {partition} {sizes:?}: {appended:?}"));
        match appended {
            Err(_) => expected.in_doubt.push(records),
            Ok(appended) => {
                if let Some((last, _)) = expected.kept.last_key_value()
                    && appended.first <= *last
                {
                    return Err(Violation::new(format!(
                        "{partition} handed out {:?} again",
                        appended.first
                    )));
                }
                let chunk = log.read(&partition, appended.first, usize::MAX).map_err(|error| {
                    Violation::new(format!("an acknowledged append cannot be read: {error}"))
                });
                match chunk {
                    // The kill can strike after the acknowledgement only, never between it and the data.
                    Err(_) if self.disk.is_dead() => expected.in_doubt.push(records),
                    Err(violation) => return Err(violation),
                    Ok(chunk) => {
                        if !chunk.records.iter().map(|record| &record.bytes).eq(&records) {
                            return Err(Violation::new(format!(
                                "{partition} does not hold what it acknowledged"
                            )));
                        }
                        expected.kept.extend(
                            chunk.records.into_iter().map(|record| (record.offset, record.bytes)),
                        );
                    }
                }
            }
        }
        if self.disk.is_dead() {
            self.crash()?;
            self.reopen()?;
        }
        Ok(())
    }

    /// A record that occurs once, of a size that is sometimes larger than a segment.
    fn record(&mut self) -> Bytes {
        self.written += 1;
        let size = match self.chance.below(20) {
            0 => 5000 + self.chance.below(20_000),
            1..4 => self.chance.below(3000),
            _ => self.chance.below(200),
        };
        let mut record = format!("{:012}", self.written).into_bytes();
        record.resize(record.len() + size as usize, (self.written % 251) as u8);
        record.into()
    }

    fn trim(&mut self) -> Result<(), Violation> {
        let partition =
            self.partitions[self.chance.below(self.partitions.len() as u64) as usize].clone();
        let Some(log) = &self.log else { return Ok(()) };
        let expected =
            self.expected.get_mut(&partition).expect("all partitions are there from the start");
        let offsets: Vec<Offset> = expected.kept.keys().copied().collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let below = offsets[self.chance.below(offsets.len() as u64) as usize];
        expected.trimmed_below = expected.trimmed_below.max(below);
        let trimmed = log.trim(&partition, below);
        self.history.push(format!("trim {partition} below {below:?}: {trimmed:?}"));
        if self.disk.is_dead() {
            self.crash()?;
            return self.reopen();
        }
        trimmed.map_err(|error| Violation::new(format!("trim: {error}")))
    }

    /// The process ends without warning; sometimes the machine does.
    fn crash(&mut self) -> Result<(), Violation> {
        self.log = None;
        // Whoever restarts a process on a full disk makes room first: to open may need some.
        self.disk.set_capacity(ROOMY);
        if self.chance.coin() {
            self.disk.restart_after_kill();
            self.history.push("process killed".to_owned());
            return Ok(());
        }
        self.disk.restart_after_power_loss();
        self.history.push("power lost".to_owned());
        self.may_shorten = true;
        Ok(())
    }

    /// Reads everything and holds it against what is expected.
    fn check(&mut self) -> Result<(), Violation> {
        let Some(log) = &self.log else { return Ok(()) };
        // With relaxed durability a loss of power or a failed sync takes what was not synced; what is left is whole.
        let shortened = self.durability == Durability::Relaxed && self.may_shorten;
        for (partition, expected) in &mut self.expected {
            let readable = match read_all(log, partition) {
                Ok(readable) => readable,
                Err(_) if self.disk.is_dead() => return Ok(()),
                Err(stream::Error::Damaged { .. }) if shortened => {
                    self.given_up = true;
                    return Ok(());
                }
                Err(error) => return Err(Violation::new(format!("read {partition}: {error}"))),
            };
            let start = log.start(partition).map_err(|error| Violation::new(error.to_string()))?;
            if start > expected.trimmed_below {
                return Err(Violation::new(format!(
                    "{partition} was trimmed to {start:?}, allowed was {:?}",
                    expected.trimmed_below
                )));
            }
            for (offset, bytes) in std::mem::take(&mut expected.kept).split_off(&start) {
                match readable.get(&offset) {
                    Some(found) if *found == bytes => _ = expected.kept.insert(offset, bytes),
                    // What was not synced when a sync failed is given up, and the log goes on behind it.
                    None if shortened => expected.in_doubt.push(vec![bytes]),
                    Some(_) | None => {
                        return Err(Violation::new(format!(
                            "{partition} lost the record at {offset:?}"
                        )));
                    }
                }
            }
            for (offset, bytes) in readable {
                if expected.kept.contains_key(&offset) {
                    continue;
                }
                let known = expected.in_doubt.iter().any(|append| append.contains(&bytes));
                if !known {
                    return Err(Violation::new(format!(
                        "{partition} holds at {offset:?} what nobody wrote"
                    )));
                }
                expected.kept.insert(offset, bytes);
            }
            expected.kept = expected.kept.split_off(&start);
        }
        Ok(())
    }
}

fn read_all(log: &Local, partition: &Partition) -> Result<BTreeMap<Offset, Bytes>, stream::Error> {
    let mut readable = BTreeMap::new();
    let mut from = log.start(partition)?;
    loop {
        let chunk = log.read(partition, from, 10_000)?;
        if chunk.records.is_empty() {
            return Ok(readable);
        }
        readable.extend(chunk.records.into_iter().map(|record| (record.offset, record.bytes)));
        from = chunk.next;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_log_keeps_its_promises_for_a_few_seeds() {
        for seed in 0..20 {
            super::run(seed, 80).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        }
    }
}
