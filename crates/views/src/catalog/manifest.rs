//! The manifest of an iteration, and its bytes. Format: `docs/formats/manifest.md`.
//!
//! A manifest is complete: whoever has the newest one needs no other to answer. It is valid JSON in four lines, so that
//! `jq` and `sha256sum` can check it:
//!
//! ```text
//! {"format":2,
//! "sha256":"<64 hex digits of the bytes between `"manifest":` and the line end>",
//! "manifest":{"iteration":0,…}
//! }
//! ```
//!
//! It can be broken by being cut short, by a byte that differs (digest), or by a body that is not a manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::cut::Cut;
use model::position::{Offset, Partition};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::wide::Inventory;

/// The newest format of a manifest file, and the one that is written. It has the table `failed_events`: programs that
/// know format 1 alone count failed outcomes without keeping their events, and must refuse the folder.
pub const FORMAT: u64 = 2;

/// One iteration: every file of the view, the cut, and what they were made with. Written once, kept for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub iteration: u64,
    /// The iteration before; none only for iteration 0.
    pub parent: Option<u64>,
    /// Counts complete batch views; a rebuild makes the next one.
    pub generation: u64,
    /// When the batcher planned the commit, as `2026-11-22T10:00:00.123Z`. For people: nothing is decided by it.
    pub committed_at: String,
    /// For each partition the first offset that is not in the batch view.
    pub cut: Cut,
    /// Digest of the recipe that this iteration's new ranges were made with.
    pub recipe: String,
    /// Digest of the recipe in force from the cut on: the one of the speed layer.
    pub next_recipe: String,
    /// All table files of the view, also those of earlier iterations.
    pub files: Vec<TableFile>,
    /// What became of the records of every range below the cut.
    pub ledger: Vec<LedgerEntry>,
    /// Which schemas the events of the view hold. None in a manifest that was written before this was noted: the next
    /// iteration looks them up in the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Inventory>,
}

/// A table of the batch view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Events,
    BadRows,
    FailedEvents,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Events, Table::BadRows, Table::FailedEvents];

    /// The name in SQL and in the data folder: `events`, `bad_rows`, `failed_events`.
    pub fn name(self) -> &'static str {
        match self {
            Table::Events => "events",
            Table::BadRows => "bad_rows",
            Table::FailedEvents => "failed_events",
        }
    }

    /// How many rows of the table these outcomes have. A failed outcome has two: a bad row and a failed event.
    pub fn rows_of(self, counts: &Counts) -> u64 {
        match self {
            Table::Events => counts.enriched,
            Table::BadRows => counts.bad.saturating_add(counts.failed),
            Table::FailedEvents => counts.failed,
        }
    }
}

/// One Parquet file: the rows of one table from one range of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    pub table: Table,
    /// Relative to the data folder, with `/`.
    pub path: String,
    #[serde(with = "partition_text")]
    pub partition: Partition,
    #[serde(with = "offset_text")]
    pub from: Offset,
    #[serde(with = "offset_text")]
    pub to: Offset,
    pub rows: u64,
    pub bytes: u64,
    /// Of the whole file, 64 hex digits.
    pub sha256: String,
    /// The iteration that the file was written for.
    pub iteration: u64,
    pub recipe: String,
}

impl TableFile {
    /// Where the file lies.
    pub fn path_in(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.path)
    }
}

/// What became of the records of one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    #[serde(with = "partition_text")]
    pub partition: Partition,
    #[serde(with = "offset_text")]
    pub from: Offset,
    #[serde(with = "offset_text")]
    pub to: Offset,
    pub records: u64,
    pub counts: Counts,
    /// The iteration that covered the range.
    pub iteration: u64,
    pub recipe: String,
    /// The master dataset file, relative to the data folder.
    pub master: String,
}

/// Outcomes of a range by kind. It closes when `outcomes` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub outcomes: u64,
    pub enriched: u64,
    pub failed: u64,
    pub bad: u64,
    pub dropped: u64,
    pub erased: u64,
}

impl Counts {
    /// Whether nothing vanished: each outcome is of one of the kinds.
    pub fn closes(&self) -> bool {
        let kinds = [self.enriched, self.failed, self.bad, self.dropped, self.erased];
        kinds.iter().try_fold(0u64, |sum, kind| sum.checked_add(*kind)) == Some(self.outcomes)
    }

    /// The counts of both.
    pub fn plus(&self, other: &Counts) -> Counts {
        Counts {
            outcomes: self.outcomes + other.outcomes,
            enriched: self.enriched + other.enriched,
            failed: self.failed + other.failed,
            bad: self.bad + other.bad,
            dropped: self.dropped + other.dropped,
            erased: self.erased + other.erased,
        }
    }
}

impl Manifest {
    /// Iteration 0: nothing is in the batch view, and `recipe` is in force from the beginning.
    pub fn first(recipe: &str, committed_at: &str) -> Manifest {
        Manifest {
            iteration: 0,
            parent: None,
            generation: 0,
            committed_at: committed_at.to_owned(),
            cut: Cut::default(),
            recipe: recipe.to_owned(),
            next_recipe: recipe.to_owned(),
            files: Vec::new(),
            ledger: Vec::new(),
            schemas: Some(Inventory::default()),
        }
    }

    /// The files of one table, in the manifest's order.
    pub fn files_of(&self, table: Table) -> impl Iterator<Item = &TableFile> {
        self.files.iter().filter(move |file| file.table == table)
    }

    /// Where the ledger ends in each partition. In a published manifest this is the cut.
    pub fn cut_of_ledger(&self) -> Cut {
        self.ledger.iter().fold(Cut::default(), |mut ends, entry| {
            ends.raise(&entry.partition, entry.to);
            ends
        })
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_string(self).expect("a manifest has only text keys and numbers");
        let digest = hex(&Sha256::digest(&body));
        format!("{{\"format\":{FORMAT},\n\"sha256\":\"{digest}\",\n\"manifest\":{body}\n}}\n")
            .into()
    }

    /// Reads the bytes of the file at `path`, which is only named in errors.
    ///
    /// # Errors
    /// [`Error::Newer`] by the first line alone, whatever follows; [`Error::Damaged`] for everything else.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, Error> {
        let damaged = |detail: &str| Error::Damaged {
            path: path.to_owned(),
            detail: detail.to_owned(),
            way_out: "restore this file from a backup of the data folder; without one, move the folders `catalog` and `tables` away and run `snowmelt batch run --rebuild`",
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("not UTF-8"))?;
        let (first, rest) = text.split_once('\n').ok_or_else(|| damaged("no first line"))?;
        let format = first.strip_prefix("{\"format\":").and_then(|line| line.strip_suffix(','));
        let format: u64 = format
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| damaged("the first line names no format"))?;
        if format > FORMAT {
            return Err(Error::Newer { path: path.to_owned(), found: format, known: FORMAT });
        }
        let (second, rest) = rest.split_once('\n').ok_or_else(|| damaged("no second line"))?;
        let digest = second.strip_prefix("\"sha256\":\"").and_then(|line| line.strip_suffix("\","));
        let body = rest.strip_prefix("\"manifest\":").and_then(|rest| rest.strip_suffix("\n}\n"));
        let (Some(digest), Some(body)) = (digest, body) else {
            return Err(damaged("the envelope is cut short"));
        };
        if hex(&Sha256::digest(body)) != digest {
            return Err(damaged("the digest differs"));
        }
        serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))
    }

    /// Whether the ledger says for each record below the cut what became of it, and the files hold what it says.
    ///
    /// # Errors
    /// One sentence about the first thing that is wrong.
    pub(super) fn check_whole(&self) -> Result<(), String> {
        for entry in &self.ledger {
            if !entry.counts.closes() || entry.counts.outcomes < entry.records {
                return Err(format!(
                    "the ledger of {} from {} does not close",
                    entry.partition, entry.from
                ));
            }
        }
        let ranges = self.ledger.iter().map(|entry| (&entry.partition, entry.from, entry.to));
        let ends = chain(ranges, true)?;
        if ends != self.cut {
            return Err(format!("the ledger reaches to {ends:?}, the cut is {:?}", self.cut));
        }
        for table in Table::ALL {
            let ranges = self.files_of(table).map(|file| (&file.partition, file.from, file.to));
            if !self.cut.is_at_or_beyond(&chain(ranges, false)?) {
                return Err(format!("a file of {} reaches beyond the cut", table.name()));
            }
        }
        let total =
            self.ledger.iter().fold(Counts::default(), |sum, entry| sum.plus(&entry.counts));
        for table in Table::ALL {
            let rows: u64 = self.files_of(table).map(|file| file.rows).sum();
            let counted = table.rows_of(&total);
            if rows != counted {
                let table = table.name();
                return Err(format!(
                    "the files of {table} have {rows} rows, the ledger has {counted}"
                ));
            }
        }
        Ok(())
    }
}

/// Where the ranges of each partition end. They may not overlap; if `gap_free`, they follow each other from the
/// beginning.
fn chain<'a>(
    ranges: impl Iterator<Item = (&'a Partition, Offset, Offset)>,
    gap_free: bool,
) -> Result<Cut, String> {
    let mut by_partition: BTreeMap<&Partition, Vec<(Offset, Offset)>> = BTreeMap::new();
    for (partition, from, to) in ranges {
        if from >= to {
            return Err(format!("the range of {partition} from {from} is empty"));
        }
        by_partition.entry(partition).or_default().push((from, to));
    }
    let mut ends = Cut::default();
    for (partition, mut ranges) in by_partition {
        ranges.sort();
        for (from, to) in ranges {
            let end = ends.of(partition);
            if from < end || (gap_free && from > end) {
                return Err(format!("the range of {partition} from {from} does not follow {end}"));
            }
            ends.raise(partition, to);
        }
    }
    Ok(ends)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A partition as its name.
mod partition_text {
    use model::position::Partition;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        partition: &Partition,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(partition.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Partition, D::Error> {
        Partition::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An offset as its 20 digits.
mod offset_text {
    use model::position::Offset;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        offset: &Offset,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(offset)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Offset, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
