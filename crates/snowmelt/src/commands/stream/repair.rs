//! `snowmelt stream repair`: makes a damaged log one that opens, without a server.
//!
//! Raw records that the master dataset has come back from there. One that is nowhere else is replaced by a record that
//! says so, which becomes a bad row: the ledger closes, and no number is silently lower. Derived partitions are removed;
//! the next start makes them again.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use model::files::Files;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition};
use model::time::{Clock, Timestamp};
use stream::disk::Disk;
use stream::local::SegmentIds;
use stream::local::repair::repair as rewrite;
use stream::local::survey::Damage;
use stream::{Chunk, Record};

use super::Folder;
use super::verify::{Verified, is_pii, is_raw};
use crate::archive::derived_partitions;
use crate::clock::SystemClock;
use crate::data_folder::DataFolder;

/// What `repair` may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub(super) dry_run: bool,
    pub(super) accept_loss: bool,
}

/// Repairs all partitions. Says whether all of them are whole then.
pub(super) fn repair(folder: &Folder, allowed: Allowed, out: &mut dyn Write) -> Result<bool> {
    folder.streams()?;
    let _lock = DataFolder::lock(&folder.data_dir)
        .context("the server must not run while its log is repaired")?;
    let mut is_whole = true;
    for partition in folder.partitions_of(None)? {
        let done = repair_partition(folder, &partition, allowed, out);
        is_whole &= done.with_context(|| format!("repair `{partition}`"))?;
    }
    Ok(is_whole)
}

fn repair_partition(
    folder: &Folder,
    partition: &Partition,
    allowed: Allowed,
    out: &mut dyn Write,
) -> Result<bool> {
    let dir = folder.streams()?.join(partition.as_str());
    if !dir.is_dir() && !allowed.dry_run {
        // What is known of it is filled in below.
        std::fs::create_dir_all(&dir).with_context(|| format!("create `{}`", dir.display()))?;
    }
    let verified = Verified::of(folder, partition)?;
    verified.print(out)?;
    let damages = &verified.survey.damages;
    if damages.is_empty() {
        return Ok(true);
    }
    if is_pii(partition) {
        writeln!(
            out,
            "  left as it is: nothing waits for it, the server goes on behind the damage; what it told, `snowmelt enrich` \
             tells from the raw records of the master dataset"
        )?;
        return Ok(true);
    }
    let Some(archive) = verified.archive.as_ref().filter(|_| is_raw(partition)) else {
        if allowed.dry_run {
            writeln!(out, "  would remove {partition}: the next start makes it again")?;
            return Ok(false);
        }
        remove(folder, partition)?;
        writeln!(out, "  removed {partition}: the next start makes it again")?;
        return Ok(true);
    };
    let lost: Vec<(u64, bool)> = damages.iter().map(|damage| verified.lost(damage)).collect();
    let is_loss = lost.iter().any(|(count, more)| *count > 0 || *more);
    if is_loss {
        let count: u64 = lost.iter().map(|(count, _)| count).sum();
        writeln!(
            out,
            "  lost: {count} records that are in no other file{}; each leaves a bad row at its position",
            if lost.iter().any(|(_, more)| *more) { ", and what nothing tells of" } else { "" }
        )?;
    }
    if allowed.dry_run {
        writeln!(out, "  nothing was changed")?;
        return Ok(false);
    }
    if is_loss && !allowed.accept_loss {
        writeln!(
            out,
            "  nothing was changed: a backup of `streams/{partition}` may still have them; without one, repeat with \
             --accept-loss"
        )?;
        return Ok(false);
    }
    if is_loss {
        // They were made while the records were still there, and would contradict the batch layer.
        for derived in derived_partitions(partition) {
            remove(folder, &derived)?;
            writeln!(out, "  removed {derived}: the next start makes it again")?;
        }
    }
    let archived = verified.archived.unwrap_or(Offset::BEGINNING);
    let now = SystemClock.now();
    let fill = |from: Offset, to: Offset| match from < archived {
        true => archive.read(from, to.min(archived)),
        false => Ok(placeholders(damages, from, to, now)),
    };
    for file in rewrite::<anyhow::Error>(&Disk, &verified.survey, &SegmentIds::default(), fill)? {
        let kept = match &file.kept {
            Some(kept) => format!("; the damaged file is kept as {}", kept.display()),
            None => String::new(),
        };
        writeln!(
            out,
            "  wrote {}: {} records read, {} filled in{kept}",
            file.path.display(),
            file.records_kept,
            file.records_filled
        )?;
    }
    let after = Verified::of(folder, partition)?;
    after.print(out)?;
    Ok(after.survey.damages.is_empty())
}

/// Records that stand for lost ones.
fn placeholders(damages: &[Damage], from: Offset, to: Offset, now: Timestamp) -> Chunk {
    // A bounded answer, whatever the length of the gap.
    let next = to.number().min(from.number() + 1000);
    let record = |offset: u64| {
        let offset = Offset::from_number(offset);
        let cause = damages.iter().rfind(|it| it.from <= offset).map_or_else(
            || "damage".to_owned(),
            |it| {
                let name = it.path.file_name().unwrap_or_default().to_string_lossy();
                format!("{} at byte {} of {name}", it.what, it.at)
            },
        );
        Record { offset, bytes: placeholder(&cause, now) }
    };
    let records = (from.number()..next).map(record).collect();
    Chunk { records, next: Offset::from_number(next) }
}

/// A payload whose schema is none, so that it becomes a bad row that shows this text.
fn placeholder(cause: &str, now: Timestamp) -> Bytes {
    let payload = CollectorPayload {
        ip_address: "unknown".to_owned(),
        timestamp: now.0,
        encoding: "UTF-8".to_owned(),
        collector: "snowmelt stream repair".to_owned(),
        path: Some("/snowmelt/lost-record".to_owned()),
        schema: format!("a lost record: {cause}; `snowmelt stream repair --accept-loss` left this"),
        ..CollectorPayload::default()
    };
    payload.encode().into()
}

/// Removes the files of a derived partition; the folder stays.
fn remove(folder: &Folder, partition: &Partition) -> Result<()> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let dir = folder.streams()?.join(partition.as_str());
    let removed = files.list(&dir).and_then(|names| {
        names.iter().try_for_each(|name| files.remove(&dir.join(name)))?;
        files.sync_dir(&dir)
    });
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("clear `{}`", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enrich::{Outcome, Recipe, Settings};
    use model::position::RawRecord;

    #[test]
    fn a_placeholder_becomes_one_bad_row_that_says_what_was_lost() {
        let bytes = placeholder("a record is missing at byte 8192 of 0.segment", Timestamp(0));
        let partition = Partition::of_stream("raw", 0);
        let record =
            RawRecord { partition: &partition, offset: Offset::from_number(7), bytes: &bytes };
        let registry = assets::Folders::new(Arc::new(Disk), Vec::new());
        let recipe: Recipe = assets::current_recipe(&registry, Settings::default()).unwrap();
        let outcomes = assets::drive(&record, &recipe).unwrap();
        let [Outcome::Bad(row)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let json = row.to_json(&enrich::processor(), Timestamp(0));
        assert!(json.contains("a lost record: a record is missing at byte 8192"), "{json}");
        assert!(json.contains("collector_payload_format_violation"), "{json}");
    }
}
