//! What is known of a raw partition besides its own log: the master dataset, and how far the derived streams came.
//!
//! `verify` holds the log against it, `repair` and `backup` take records from it. Reads only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use batch::master;
use model::files::Files;
use model::position::{Offset, Partition};
use speed::derived::Derived;
use speed::output;
use stream::disk::Disk;
use stream::local::inspect::Reader;
use stream::local::survey::Known;
use stream::{Chunk, Record};
use views::catalog::Catalog;

/// The rest of the data folder, from the point of view of one raw partition.
pub(crate) struct Archive {
    data_dir: PathBuf,
    partition: Partition,
    /// The raw range that the derived streams were made from ends here.
    derived_to: Offset,
}

impl Archive {
    pub(crate) fn of(data_dir: &Path, partition: &Partition) -> Archive {
        let derived_to = derived_partitions(partition)
            .iter()
            .map(|derived| derived_to(data_dir, derived, partition))
            .max()
            .unwrap_or(Offset::BEGINNING);
        Archive { data_dir: data_dir.to_owned(), partition: partition.clone(), derived_to }
    }

    /// The end of the master dataset as it is now.
    pub(crate) fn end(&self) -> Result<Offset> {
        let cut = self.cut()?;
        let links = master::chain(&Disk, &self.data_dir, &self.partition, cut, cut)
            .context("follow the master dataset")?;
        Ok(links.last().map_or(cut, |link| link.range.to))
    }

    /// Up to where the derived streams say that raw was read: a raw stream that ends below has lost records.
    pub(crate) fn derived_to(&self) -> Offset {
        self.derived_to
    }

    /// The stream is needed from the cut on, where the speed layer begins.
    pub(crate) fn known(&self) -> Result<Known> {
        Ok(Known { needed_from: Some(self.cut()?), seen: self.end()?.max(self.derived_to) })
    }

    fn cut(&self) -> Result<Offset> {
        let catalog = Catalog::open_read(Arc::new(Disk), &self.data_dir)
            .with_context(|| format!("read the catalogue of `{}`", self.data_dir.display()))?;
        Ok(catalog.map_or(Offset::BEGINNING, |it| it.newest().cut.of(&self.partition)))
    }

    /// Archived records from `from` on, of one file and below `to`.
    pub(crate) fn read(&self, from: Offset, to: Offset) -> Result<Chunk> {
        let mut begin = Offset::BEGINNING;
        loop {
            let reader = master::Reader::open(&Disk, &self.data_dir, &self.partition, begin)?;
            let Some(mut reader) = reader else {
                let path = master::path(&self.data_dir, &self.partition, begin);
                anyhow::bail!("`{}` is missing: restore it from a backup", path.display());
            };
            let range = reader.footer().range.clone();
            if range.to <= from {
                begin = range.to;
                continue;
            }
            let mut records = Vec::new();
            while let Some(frame) = reader.read_frame()? {
                let wanted = |it: &Record| from <= it.offset && it.offset < to;
                records.extend(frame.into_iter().filter(wanted));
            }
            return Ok(Chunk { records, next: range.to.min(to) });
        }
    }
}

/// The raw partitions that something else in the data folder knows of, so that one whose folder is gone is missed.
pub(super) fn known_partitions(data_dir: &Path) -> Result<Vec<Partition>> {
    let catalog = Catalog::open_read(Arc::new(Disk), data_dir)
        .with_context(|| format!("read the catalogue of `{}`", data_dir.display()))?;
    let newest = catalog.map(|catalog| catalog.newest());
    let of_cut = newest.iter().flat_map(|it| it.cut.iter()).map(|(partition, _)| partition.clone());
    let mut known: Vec<Partition> = of_cut.collect();
    let streams = data_dir.join("streams");
    let derived = Derived::NAMES.map(|name| streams.join(name));
    for folder in derived.into_iter().chain([data_dir.join("master/raw")]) {
        // Where there is no such folder, it knows of none.
        let names = Disk.list(&folder).unwrap_or_default();
        let indexes = names.iter().filter_map(|name| name.parse().ok());
        known.extend(indexes.map(|index| Partition::of_stream("raw", index)));
    }
    Ok(known)
}

/// The partitions that are made from a raw partition.
pub(crate) fn derived_partitions(raw: &Partition) -> Vec<Partition> {
    let index = raw.as_str().rsplit('/').next().and_then(|index| index.parse().ok());
    let of = |stream| index.map(|index| Partition::of_stream(stream, index));
    Derived::NAMES.into_iter().filter_map(of).collect()
}

/// How far a derived partition says that raw was read. As far as it can be read: it is only asked for more evidence.
fn derived_to(data_dir: &Path, derived: &Partition, raw: &Partition) -> Offset {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let mut reached = Offset::BEGINNING;
    let Ok(mut reader) = Reader::open(files, &data_dir.join("streams"), derived, None) else {
        return reached;
    };
    while let Ok(Some(record)) = reader.read_next() {
        if let Ok(part) = output::decode(&record.bytes)
            && part.mark.range.partition == *raw
        {
            reached = reached.max(part.mark.range.to);
        }
    }
    reached
}
