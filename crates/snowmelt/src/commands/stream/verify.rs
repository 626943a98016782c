//! `snowmelt stream verify`: every byte of every partition, beside a running server or without one.

use std::io::Write;

use anyhow::{Context, Result};
use model::position::Offset;
use serde_json::{Value, json};
use stream::disk::Disk;
use stream::local::survey::{Damage, Known, Survey, survey};

use super::Folder;
use super::archive::Archive;

/// What was found in one partition.
pub(super) struct Verified {
    pub(super) survey: Survey,
    /// Of a raw partition: records below this offset lie in the master dataset as well.
    pub(super) archived: Option<Offset>,
    pub(super) archive: Option<Archive>,
}

/// Reads all partitions, or those of one stream. Says whether all of them are whole.
pub(super) fn verify(
    folder: &Folder,
    stream: Option<&str>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool> {
    let mut is_whole = true;
    for partition in folder.partitions_of(stream)? {
        let verified =
            Verified::of(folder, &partition).with_context(|| format!("verify `{partition}`"))?;
        is_whole &= verified.survey.damages.is_empty();
        if as_json {
            writeln!(out, "{}", verified.to_json())?;
        } else {
            verified.print(out)?;
        }
    }
    if !is_whole && !as_json {
        writeln!(
            out,
            "damage found: stop the server, then look at `snowmelt stream repair --data-dir {} --dry-run`",
            folder.data_dir.display()
        )?;
    }
    Ok(is_whole)
}

impl Verified {
    pub(super) fn of(folder: &Folder, partition: &model::position::Partition) -> Result<Verified> {
        let archive = is_raw(partition).then(|| Archive::of(&folder.data_dir, partition));
        let known = || match &archive {
            Some(archive) => archive.known(),
            None => Ok(Known::NOTHING),
        };
        let survey = survey::<anyhow::Error>(&Disk, &folder.streams()?, partition, known)?;
        let archived = archive.as_ref().map(Archive::end).transpose()?;
        Ok(Verified { survey, archived, archive })
    }

    /// How many positions of a damage are lost for good: those that no other file of the folder holds. With whether
    /// more may have been lost than anything tells.
    pub(super) fn lost(&self, damage: &Damage) -> (u64, bool) {
        let archived = self.archived.unwrap_or(Offset::BEGINNING).number();
        let to = damage.to.map(Offset::number);
        let from = damage.from.number().max(archived);
        (to.unwrap_or(from).saturating_sub(from), to.is_none())
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> Result<()> {
        let Survey { partition, segments, records, start, end, torn, damages, .. } = &self.survey;
        let state = match (damages.len(), torn) {
            (0, None) => "whole".to_owned(),
            (0, Some(_)) => "whole, a batch in flight or torn".to_owned(),
            (1, _) => "DAMAGED in 1 place".to_owned(),
            (count, _) => format!("DAMAGED in {count} places"),
        };
        writeln!(
            out,
            "{partition}: {state}; {segments} segments, {records} records, positions {start} to {end}"
        )?;
        damages.iter().try_for_each(|damage| writeln!(out, "  {}", self.sentence(damage)))?;
        Ok(())
    }

    /// File, byte, what is wrong, which positions, and what becomes of them.
    pub(super) fn sentence(&self, damage: &Damage) -> String {
        let place = format!("{} at byte {}: {}", damage.path.display(), damage.at, damage.what);
        if !is_raw(&self.survey.partition) {
            return format!("{place}; it is made again from the raw stream");
        }
        let count = damage.to.map(|to| to.number() - damage.from.number());
        let (lost, more) = self.lost(damage);
        let positions = match count {
            Some(0) => return format!("{place}; no record is lost"),
            Some(1) => format!("position {} cannot be read", damage.from),
            Some(count) => format!("{count} positions from {} on cannot be read", damage.from),
            None => format!("what lay at and above position {} cannot be read", damage.from),
        };
        let fate = match (lost, more) {
            (0, false) => "the master dataset has them",
            (0, true) => "what was not archived is lost, and nothing tells how much that is",
            (lost, _) if count == Some(lost) => "not archived: lost",
            _ => "the master dataset has the first of them, the rest is lost",
        };
        format!("{place}; {positions} ({fate})")
    }

    fn to_json(&self) -> Value {
        let Survey { partition, segments, records, start, end, torn, damages, .. } = &self.survey;
        let state = match (damages.is_empty(), torn) {
            (false, _) => "damaged",
            (true, Some(_)) => "torn",
            (true, None) => "whole",
        };
        let damage = |damage: &Damage| {
            let (lost, more) = self.lost(damage);
            json!({
                "file": damage.path.to_string_lossy(),
                "byte": damage.at,
                "what": damage.what,
                "from": damage.from.to_string(),
                "to": damage.to.map(|to| to.to_string()),
                "lost": is_raw(partition).then_some(lost),
                "lost_is_known": !more,
            })
        };
        json!({
            "partition": partition.as_str(),
            "state": state,
            "segments": segments,
            "records": records,
            "start": start.to_string(),
            "end": end.to_string(),
            "archived_to": self.archived.map(|to| to.to_string()),
            "damages": damages.iter().map(damage).collect::<Vec<_>>(),
        })
    }
}

pub(super) fn is_raw(partition: &model::position::Partition) -> bool {
    partition.as_str().starts_with("raw/")
}
