//! `snowmelt backup`: a copy of a data folder that starts and answers, taken beside a running server.
//!
//! First catalogue and recipes, then the table files that the newest manifest lists, then the raw stream, and the master
//! dataset last. Table files that are joined meanwhile are noticed, and the copy goes on from a later iteration. The
//! stream is trimmed and archived meanwhile; where it then begins above the copied cut, or ends below the copied master
//! dataset, the records between come from there. What can be made again is not copied: derived streams, spill.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use batch::master::{self, Footer};
use model::cut::Cut;
use model::position::{Offset, Partition};
use stream::disk::Disk;
use stream::local::repair::repair;
use stream::local::survey::survey;
use stream::local::{SegmentIds, copy, inspect};
use views::catalog::{self, Catalog, Manifest};

use crate::archive::Archive;

/// Copy a data folder into a new one, beside a running server or without one
///
/// The copy holds every event that was answered 200 before the command began, and starts with
/// snowmelt up --data-dir INTO. Folders outside of it, such as schemas, are not copied.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt backup /backup/2026-11-24
  snowmelt backup /backup/2026-11-24 --data-dir /var/lib/snowmelt"
)]
pub(crate) struct Backup {
    /// The new folder; it must not exist, or be empty
    into: PathBuf,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./snowmelt-data")]
    data_dir: PathBuf,
}

/// How often the copy begins with a later iteration because files of the one before are gone.
const ATTEMPTS_MAX: u32 = 20;

/// What is not copied as it lies there: it has an order of its own, is made again, or belongs to the process.
const NOT_PLAIN: [&str; 8] =
    ["catalog", "recipes", "tables", "master", "streams", "spill", "lock", "run.json"];

impl Backup {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Backup { into, data_dir } = self;
        let files: Arc<Disk> = Arc::new(Disk);
        if Catalog::open_read(files, &data_dir)
            .with_context(|| format!("read the catalogue of `{}`", data_dir.display()))?
            .is_none()
        {
            bail!(
                "`{}` is not a data folder: it has no catalogue; name one with `--data-dir`",
                data_dir.display()
            );
        }
        expect_apart(&data_dir, &into)?;
        fs::create_dir_all(&into).with_context(|| format!("create `{}`", into.display()))?;
        if fs::read_dir(&into)?.next().is_some() {
            bail!("`{}` is not empty: name a new folder", into.display());
        }
        let manifest = copy_view(&data_dir, &into)?;
        let raw = copy_raw(&data_dir, &into, &manifest.cut)?;
        sync_folders(&into).with_context(|| format!("sync `{}`", into.display()))?;
        println!(
            "copied iteration {} and the raw stream above it into {}:",
            manifest.iteration,
            into.display()
        );
        for (partition, end) in raw {
            println!("  {partition} up to {end}");
        }
        println!("try it: snowmelt up --data-dir {}", into.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Recipes, catalogue, everything that has no order, and the table files.
fn copy_view(data_dir: &Path, into: &Path) -> Result<Arc<Manifest>> {
    for _ in 0..ATTEMPTS_MAX {
        for folder in [assets::recipes::FOLDER, catalog::FOLDER] {
            copy_folder(&data_dir.join(folder), &into.join(folder))?;
        }
        for entry in fs::read_dir(data_dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if NOT_PLAIN.contains(&name) {
                continue;
            }
            if path.is_dir() {
                copy_folder(&path, &into.join(name))?;
            } else {
                copy_file(&path, &into.join(name))?;
            }
        }
        let copied =
            Catalog::open_read(Arc::new(Disk), into).context("read the copied catalogue")?;
        let copied = copied.context("the copied catalogue is empty")?;
        let newest = copied.newest();
        if !copy_tables(data_dir, into, &newest)? {
            continue;
        }
        // An older generation is a convenience: what of it is given up meanwhile is not missed.
        if let Some(older) = newest.generation.checked_sub(1)
            && let Some(last) =
                copied.last_of_generation(older).context("read the generation before")?
        {
            copy_tables(data_dir, into, &last)?;
        }
        return Ok(newest);
    }
    bail!(
        "files of each of {ATTEMPTS_MAX} iterations went away while they were copied: a longer `batch.interval` gives more time"
    );
}

/// Whether all files that the manifest lists were there.
fn copy_tables(data_dir: &Path, into: &Path, manifest: &Manifest) -> Result<bool> {
    for file in &manifest.files {
        if !copy_file(&file.path_in(data_dir), &file.path_in(into))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The raw stream, then the master dataset; the ends of the copied partitions.
fn copy_raw(data_dir: &Path, into: &Path, cut: &Cut) -> Result<Vec<(Partition, Offset)>> {
    let (streams, copied) = (data_dir.join("streams"), into.join("streams"));
    let mut ends = Vec::new();
    for partition in inspect::partitions(&Disk, &streams)? {
        if !partition.as_str().starts_with("raw/") {
            continue;
        }
        let doing = || format!("copy `{partition}`");
        copy::copy(&Disk, &streams, &partition, &copied).with_context(doing)?;
        copy_chain(data_dir, into, &partition, cut.of(&partition))?;
        ends.push((partition.clone(), join(into, &copied, &partition).with_context(doing)?));
    }
    Ok(ends)
}

/// Copies the files of the master dataset from the first to the end of the chain, which is not below the cut.
fn copy_chain(data_dir: &Path, into: &Path, partition: &Partition, cut: Offset) -> Result<()> {
    let mut end = Offset::BEGINNING;
    while let Some(footer) = Footer::read(&Disk, data_dir, partition, end)? {
        copy_file(&data_dir.join(footer.name()), &into.join(footer.name()))?;
        end = footer.range.to;
    }
    if end < cut {
        bail!(
            "`{}` is missing, so the master dataset of `{partition}` has a hole below the cut {cut}: this copy is no \
             backup of it. Restore the file from an earlier one",
            master::path(data_dir, partition, end).display()
        );
    }
    Ok(())
}

/// A copy inside of its original would copy itself.
fn expect_apart(data_dir: &Path, into: &Path) -> Result<()> {
    let whole = |path: &Path| -> Result<PathBuf> {
        let path = std::path::absolute(path)?;
        // What is not there yet is resolved as far as it is.
        let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&path);
        Ok(there.canonicalize()?.join(path.strip_prefix(there)?))
    };
    let (from, to) = (whole(data_dir)?, whole(into)?);
    if from.starts_with(&to) || to.starts_with(&from) {
        bail!(
            "`{}` and `{}` lie in each other: name a folder elsewhere",
            into.display(),
            data_dir.display()
        );
    }
    Ok(())
}

/// Takes from the copied master dataset what the copied stream lacks at its two ends; where it ends then.
fn join(into: &Path, streams: &Path, partition: &Partition) -> Result<Offset> {
    let archive = Archive::of(into, partition);
    let found = survey::<anyhow::Error>(&Disk, streams, partition, || archive.known())?;
    let archived = archive.end()?;
    let lost = found.damages.iter().find(|it| it.to.is_none_or(|to| to > archived));
    if let Some(lost) = lost {
        bail!(
            "{} at byte {}: {}; run `snowmelt stream verify` on the data folder",
            lost.path.display(),
            lost.at,
            lost.what
        );
    }
    repair::<anyhow::Error>(&Disk, &found, &SegmentIds::default(), |from, to| {
        archive.read(from, to)
    })?;
    Ok(found.end)
}

/// Copies all files below a folder; those that another process is still writing, and hints, are left out.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("list `{}`", from.display()))?,
    };
    fs::create_dir_all(to).with_context(|| format!("create `{}`", to.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else if !name.starts_with(model::files::TEMPORARY_PREFIX) && name != catalog::HINT {
            copy_file(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Copies one file and makes it durable, unless it was copied before: files of a data folder are written once. False
/// when it is not there any more.
fn copy_file(from: &Path, to: &Path) -> Result<bool> {
    let copied = || -> io::Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let temporary = to.with_extension("copying");
        fs::copy(from, &temporary)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, to)
    };
    if to.exists() {
        return Ok(true);
    }
    match copied() {
        Err(error) if error.kind() == ErrorKind::NotFound && !from.exists() => Ok(false),
        Err(error) => Err(error).with_context(|| format!("copy `{}`", from.display())),
        Ok(()) => Ok(true),
    }
}

/// Makes the names of all folders durable, the deepest first.
fn sync_folders(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    fs::File::open(dir)?.sync_all()
}
