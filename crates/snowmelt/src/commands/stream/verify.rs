//! `snowmelt stream verify`: every byte of every partition, beside a running server or without one.

use std::io::Write;

use anyhow::{Context, Result, bail};
use batch::master;
use model::position::{Offset, Partition};
use serde_json::{Value, json};
use stream::disk::Disk;
use stream::local::survey::{Damage, Known, Survey, survey};

use super::Folder;
use crate::archive::Archive;

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
    if stream.is_none_or(|stream| stream == "raw") {
        for partition in folder.partitions_of(None)?.iter().filter(|it| is_raw(it)) {
            is_whole &= verify_master(folder, partition, as_json, out)?;
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

/// Reads every file of the master dataset of a partition, from the first to the end of the chain.
fn verify_master(
    folder: &Folder,
    partition: &Partition,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool> {
    let cut = Archive::of(&folder.data_dir, partition).known()?.needed_from;
    let cut = cut.unwrap_or(Offset::BEGINNING);
    let (mut files, mut end) = (0, Offset::BEGINNING);
    let problem = loop {
        match master::verify(&Disk, &folder.data_dir, partition, end) {
            Ok(Some(footer)) => (files, end) = (files + 1, footer.range.to),
            Ok(None) if end < cut => {
                let path = master::path(&folder.data_dir, partition, end);
                break Some(format!("{} is missing, below the cut {cut}", path.display()));
            }
            Ok(None) => break None,
            Err(error) => break Some(format!("{:#}", anyhow::Error::from(error))),
        }
    };
    let name = format!("master/{partition}");
    if as_json {
        let state = if problem.is_none() { "whole" } else { "damaged" };
        let damages: Vec<Value> = problem.iter().map(|what| json!({"what": what})).collect();
        let value = json!({
            "partition": name, "state": state, "files": files, "end": end.to_string(), "damages": damages,
        });
        writeln!(out, "{value}")?;
    } else {
        match &problem {
            None => writeln!(out, "{name}: whole; {files} files, positions up to {end}")?,
            Some(problem) => writeln!(
                out,
                "{name}: DAMAGED; {problem}. A backup may have the file; the batch view does not need it until a rebuild"
            )?,
        }
    }
    Ok(problem.is_none())
}

impl Verified {
    pub(super) fn of(folder: &Folder, partition: &model::position::Partition) -> Result<Verified> {
        let archive = is_raw(partition).then(|| Archive::of(&folder.data_dir, partition));
        let known = || match &archive {
            Some(archive) => archive.known(),
            None => Ok(Known::NOTHING),
        };
        let dir = folder.streams()?.join(partition.as_str());
        if !dir.is_dir() {
            let seen = known()?.seen;
            bail!(
                "`{}` is missing, but records of it up to {seen} are known: stop the server, then run \
                 `snowmelt stream repair`",
                dir.display()
            );
        }
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
        if is_pii(&self.survey.partition) {
            return format!(
                "{place}; nothing waits for it, and `snowmelt enrich` can tell it again"
            );
        }
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

pub(super) fn is_pii(partition: &model::position::Partition) -> bool {
    partition.as_str().rsplit_once('/').is_some_and(|(stream, _)| stream == speed::derived::PII)
}

pub(super) fn is_raw(partition: &model::position::Partition) -> bool {
    partition.as_str().starts_with("raw/")
}
