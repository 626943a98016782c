//! What must hold in the simulated world: law 1 after every step, and at the end, with all faults gone, an answer for
//! everything that was accepted.

use std::path::Path;
use std::sync::Arc;

use assets::{Answers, Driver};
use stream::Stream;
use views::catalog::{Manifest, Table};
use views::lambda::Pin;
use views::merge;

use super::{DATA_DIR, ROOMY, Roles, World, chain};
use crate::Violation;
use crate::disk::{Disk, Faults};
use crate::reference::Expected;

impl World {
    /// Law 1 for a fresh pin.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        self.read_the_log()?;
        let Some(roles) = &mut self.roles else { return Ok(()) };
        let newest = roles.catalog.newest();
        if !newest.cut.is_at_or_beyond(&self.newest_cut) {
            return Err(Violation::new(format!(
                "the cut went back from {:?} to {:?}",
                self.newest_cut, newest.cut
            )));
        }
        self.newest_cut = newest.cut.clone();
        let pin = match roles.lambda.pin() {
            Ok(pin) => pin,
            Err(_) if self.disk.is_dead() => return Ok(()),
            Err(error) => return Err(Violation::new(format!("no answer: {}", chain(&error)))),
        };
        if !pin.frontier.is_at_or_beyond(&roles.answered_to) {
            return Err(Violation::new(format!(
                "an answer covers {:?} after {:?}",
                pin.frontier, roles.answered_to
            )));
        }
        roles.answered_to = pin.frontier.clone();
        let merged = match merge::rows(&pin, &self.disk, Path::new(DATA_DIR)) {
            Ok(merged) => merged.comparable(),
            Err(_) if self.disk.is_dead() => return Ok(()),
            Err(error) => return Err(Violation::new(format!("merge: {}", chain(&error)))),
        };
        let history = match roles.catalog.history() {
            Ok(history) => history,
            Err(_) if self.disk.is_dead() => return Ok(()),
            Err(error) => return Err(Violation::new(format!("history: {}", chain(&error)))),
        };
        let history: Vec<Manifest> = history
            .into_iter()
            .filter(|manifest| manifest.iteration <= pin.manifest.iteration)
            .collect();
        if let Err(error) = older_generation(roles, &self.disk) {
            if self.disk.is_dead() {
                return Ok(());
            }
            let what = format!("the generation before does not answer: {}", chain(&error));
            return Err(Violation::new(what));
        }
        let facts = || Answers::reading(Arc::new(self.disk.clone()), Path::new(DATA_DIR));
        let load = |digest: &str| {
            let recipe = assets::load(&self.disk, Path::new(DATA_DIR), digest)?;
            Ok(Driver::new(Arc::new(recipe), Arc::new(facts())))
        };
        let expected = self.reference.rows(&pin.frontier, &history, load)?;
        compare(&merged.events, &expected.rows.events, "events")?;
        compare(&merged.bad_rows, &expected.rows.bad_rows, "bad rows")?;
        compare(&merged.failed_events, &expected.rows.failed_events, "failed events")?;
        self.check_wide(&pin, &expected)
    }

    /// The same for wide columns: which there are, and their values.
    fn check_wide(&self, pin: &Pin, expected: &Expected) -> Result<(), Violation> {
        let found = |table| merge::wide_rows(pin, table, &self.disk, Path::new(DATA_DIR));
        let (events, failed_events) = match (found(Table::Events), found(Table::FailedEvents)) {
            (Ok(events), Ok(failed_events)) => (events, failed_events),
            _ if self.disk.is_dead() => return Ok(()),
            (Err(error), _) | (_, Err(error)) => {
                return Err(Violation::new(format!("wide columns: {}", chain(&error))));
            }
        };
        for (found, expected) in [
            (&events.columns, &expected.events.columns),
            (&failed_events.columns, &expected.failed_events.columns),
        ] {
            if found != expected {
                let what = format!("the wide columns are {found:?} instead of {expected:?}");
                return Err(Violation::new(what));
            }
        }
        compare(&events.rows, &expected.events.rows, "wide columns of events")
    }

    /// Gives the reference what the log holds beyond what it has.
    fn read_the_log(&mut self) -> Result<(), Violation> {
        let Some(roles) = &self.roles else { return Ok(()) };
        for partition in roles.raw.partitions() {
            loop {
                let from = self.read_to.of(partition);
                let chunk = match roles.raw.read(partition, from, 1 << 20) {
                    Ok(chunk) => chunk,
                    Err(_) if self.disk.is_dead() => return Ok(()),
                    Err(error) => {
                        return Err(Violation::new(format!("read {partition}: {}", chain(&error))));
                    }
                };
                if chunk.records.is_empty() {
                    break;
                }
                for record in chunk.records {
                    self.reference.add(partition, record.offset, record.bytes);
                }
                self.read_to.raise(partition, chunk.next);
            }
        }
        Ok(())
    }

    /// All faults end: everything accepted is answered, first from both layers, then from the batch layer alone.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        self.history.push("all faults end".to_owned());
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(ROOMY);
        self.sources.network.settle();
        self.bury();
        // A log that was poisoned by a failed sync wants a restart.
        self.crash();
        for _ in 0..20 {
            if self.roles.is_some() {
                break;
            }
            self.boot()?;
            self.disk.set_faults(Faults::default());
            // It may have died in the very last operation of its start.
            self.bury();
        }
        self.catch_up()?;
        self.check()?;
        self.expect_all_answered()?;
        self.iterate()?;
        self.catch_up()?;
        self.check()?;
        self.expect_all_answered()?;
        if self.chance.coin() {
            let generation = self.generation();
            for _ in 0..1000 {
                if self.generation() == generation {
                    self.rebuild_on()?;
                }
            }
            if self.generation() == generation {
                return Err(Violation::new("a rebuild without faults does not come in"));
            }
            self.catch_up()?;
            self.check()?;
            self.expect_all_answered()?;
        }
        let cut = self.newest_cut.clone();
        if !cut.is_at_or_beyond(&self.read_to) {
            return Err(Violation::new(format!(
                "the last iteration stops at {cut:?}, the log ends at {:?}",
                self.read_to
            )));
        }
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.roles.as_ref().map_or(0, |roles| roles.catalog.newest().generation)
    }

    fn catch_up(&mut self) -> Result<(), Violation> {
        let Some(roles) = &mut self.roles else { return Ok(()) };
        for _ in 0..10_000 {
            let moved = roles
                .turn()
                .map_err(|error| Violation::new(format!("cannot catch up: {}", chain(&*error))))?;
            if !moved {
                return Ok(());
            }
        }
        Err(Violation::new("the speed layer does not come to rest"))
    }

    fn expect_all_answered(&self) -> Result<(), Violation> {
        let Some(roles) = &self.roles else {
            return Err(Violation::new("does not start without faults"));
        };
        if roles.answered_to.is_at_or_beyond(&self.read_to) {
            return Ok(());
        }
        Err(Violation::new(format!(
            "answers end at {:?}, the log at {:?}",
            roles.answered_to, self.read_to
        )))
    }
}

/// The generation before the served one, as the batcher keeps it, is whole.
fn older_generation(roles: &Roles, disk: &Disk) -> Result<(), views::Error> {
    let newest = roles.catalog.newest().generation;
    let Some(before) = newest.checked_sub(1) else { return Ok(()) };
    let Some(pin) = roles.lambda.pin_generation(before)? else { return Ok(()) };
    merge::rows(&pin, disk, Path::new(DATA_DIR)).map(|_| ())
}

fn compare(
    found: &[views::rows::Row],
    expected: &[views::rows::Row],
    table: &str,
) -> Result<(), Violation> {
    if found == expected {
        return Ok(());
    }
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        if found != expected {
            return Err(Violation::new(format!(
                "{table} differ at row {at}:\n    found    {found:?}\n    expected {expected:?}"
            )));
        }
    }
    Err(Violation::new(format!(
        "{} {table} are answered, {} expected",
        found.len(),
        expected.len()
    )))
}
