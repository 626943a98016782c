//! What all roles stand on: the streams, the catalogue and the recipe in force, opened and held against each other.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use batch::archiver::Archiver;
use batch::hand_over;
use enrich::Recipe;
use model::files::Files;
use model::position::Offset;
use model::time::Clock;
use speed::derived::Derived;
use stream::Stream;
use stream::disk::Disk;
use stream::local::{Durability, Local, Options};
use views::catalog::{Catalog, Manifest};

use super::recipes::Recipes;
use crate::archive::Archive;
use crate::clock::SystemClock;
use crate::config::Config;

/// What all roles share.
pub(crate) struct Ground {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) raw: Arc<Local>,
    pub(crate) catalog: Arc<Catalog>,
    /// The recipe in force from the cut on.
    pub(crate) recipe: Recipe,
    pub(crate) recipes: Recipes,
}

/// Opens what is there, or makes it, and refuses what does not fit together.
///
/// # Errors
/// What stands in the way, with its name and the way out.
pub(crate) fn open_ground(config: &Config, data_dir: &Path) -> Result<Ground> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let options = Options {
        queue_bytes_max: config.stream.queue_bytes,
        disk_reserve_bytes: config.stream.disk_reserve,
        ..Options::default()
    };
    let streams = data_dir.join("streams");
    let raw = Local::open(Arc::clone(&files), &streams, "raw", config.stream.partitions, options)
        .context("open the raw stream")?;
    let partitions = raw.partitions().len();
    if partitions as u32 > config.stream.partitions {
        tracing::info!(partitions, "the raw stream keeps its partitions; they are only ever added");
    }
    let recipes = Recipes::open(config, &files, data_dir)?;
    let catalog = Catalog::open(Arc::clone(&files), data_dir, || {
        // The recipe of the configuration is in force from the very beginning.
        let recipe = recipes.propose(None)?;
        assets::pin(&*files, data_dir, &recipe)?;
        Ok(Manifest::first(recipe.digest(), &SystemClock.now().to_iso()))
    })
    .context("open the catalogue")?;
    let raw = Arc::new(raw);
    expect_whole_log(config, &raw, &catalog, &files, data_dir)?;
    let recipe = hand_over::recipe_in_force(&catalog, &*files, data_dir, &SystemClock, || {
        // What was found absent under the recipe before may be there now.
        assets::asking_anew(&recipes.propose(None)?, &recipes.answers)
    })
    .context("load the recipe in force")?;
    Ok(Ground { files, raw, catalog: Arc::new(catalog), recipe, recipes })
}

/// A raw stream that ends below what was archived from it has lost records, and would hand out their positions again.
fn expect_whole_log(
    config: &Config,
    raw: &Arc<Local>,
    catalog: &Catalog,
    files: &Arc<dyn Files>,
    data_dir: &Path,
) -> Result<()> {
    let cut = catalog.newest().cut.clone();
    let archiver = Archiver::new(
        raw.clone(),
        Arc::clone(files),
        data_dir.to_owned(),
        &cut,
        config.batch.archiver(),
    )
    .context("open the master dataset")?;
    let streams = data_dir.join("streams");
    let mut known = archiver.end();
    cut.iter().for_each(|(partition, to)| known.raise(partition, to));
    for (partition, archived_to) in known.iter() {
        let end = raw.end(partition).unwrap_or(Offset::BEGINNING);
        if end < archived_to {
            bail!(
                "`{partition}` of the raw stream ends at {end}, but its records up to {archived_to} are archived: \
                 `{}` is older than `{}`, or files of it were removed; restore it from a backup, run `snowmelt stream repair`, or \
                 start with a new data folder",
                streams.display(),
                data_dir.join("master").display()
            );
        }
    }
    // Records that were answered, enriched and then lost would have their positions given to others.
    for partition in raw.partitions() {
        let end = raw.end(partition).unwrap_or(Offset::BEGINNING);
        let derived_to = Archive::of(data_dir, partition).derived_to();
        if end < derived_to {
            bail!(
                "`{partition}` of the raw stream ends at {end}, but its records up to {derived_to} were enriched: files \
                 of `{}` were removed or damaged; restore it from a backup, or run `snowmelt stream repair`, which says \
                 what is lost",
                streams.display()
            );
        }
    }
    Ok(())
}

/// The streams that the speed layer writes: enriched, bad, failed and PII.
pub(crate) fn open_derived(
    config: &Config,
    files: &Arc<dyn Files>,
    data_dir: &Path,
    partitions: u32,
) -> Result<[Arc<Local>; 4]> {
    let space = files
        .space(data_dir)
        .with_context(|| format!("read the free space of `{}`", data_dir.display()))?;
    let reserve = config.stream.disk_reserve.unwrap_or((space.total_bytes / 20).max(1 << 30));
    // Half of the reserve is for what can be made again, the rest for archiver and batcher.
    let options = Options {
        durability: Durability::Relaxed,
        disk_reserve_bytes: Some(reserve / 2),
        ..Options::default()
    };
    let open = |name: &str| {
        speed::derived::open(
            Arc::clone(files),
            &data_dir.join("streams"),
            name,
            partitions,
            options.clone(),
        )
        .map(Arc::new)
        .with_context(|| format!("open the {name} stream"))
    };
    let [enriched, bad, failed] = Derived::NAMES.map(open);
    let streams = data_dir.join("streams");
    let pii = speed::derived::open_pii(Arc::clone(files), &streams, partitions, options.clone());
    let pii = Arc::new(pii.context("open the PII stream")?);
    // Clear values, and what look-ups are let in with.
    for folder in [streams.join(speed::derived::PII), data_dir.join("recipes")] {
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))
            .with_context(|| format!("close `{}` to others", folder.display()))?;
    }
    Ok([enriched?, bad?, failed?, pii])
}

/// Statements read many table files; the usual soft limit of 1024 is soon reached.
pub(crate) fn allow_many_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
}
