//! How the roles are put together: `up` starts them all in one process, `run collector` the collector alone, `batch run`
//! without a server only the batch layer, once.
//!
//! The order is that of the flow: streams, recipe and catalogue, real-time view, speed layer, batch layer, collector,
//! server. They end in the same order, so that each finds what it needs until its own end. Between the layers only values pass
//! here: a committed manifest to the speed layer, the oldest pinned cut to the batch layer ([`follow`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use assets::Driver;
use batch::archiver::Archiver;
use batch::batcher::{Batcher, Iterated};
use batch::trim::trim;
use collector::config::SinkKind;
use enrich::Recipe;
use model::time::Clock;
use speed::derived::Derived;
use stream::Stream;
use stream::local::Local;
use views::catalog::Catalog;
use views::lambda::Lambda;
use views::realtime::{self, RealtimeView};

use self::follow::{Follower, Tidying};
use self::ground::{Ground, allow_many_open_files, open_derived, open_ground};
use self::recipes::Recipes;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::data_folder::{DataFolder, Run};
use crate::endings::{Ending, Endings};
use crate::process::{Intake, Process};
use crate::telemetry::Beats;
use crate::watch::Watch;

mod follow;

mod ground;

mod recipes;

pub(crate) mod collector_alone;

pub(crate) use recipes::check_recipe;

/// How long statements have to end when the process is asked to.
const SERVER_DEADLINE: Duration = Duration::from_secs(5);

/// All roles of one process, running.
pub(crate) struct Roles {
    collector: collector::server::Running,
    _beats: Option<Beats>,
    raw: Arc<Local>,
    derived: [Arc<Local>; 4],
    speed: Arc<speed::Running>,
    batch: batch::service::Service,
    server: serving::server::Running,
    tidying: Tidying,
    addresses: Run,
    // Last: the folder is given back when nobody uses it any more.
    folder: DataFolder,
}

impl Roles {
    /// Starts everything, and returns when the server has reached the end of the log that was found. `None` when the
    /// process was asked to end before.
    ///
    /// # Errors
    /// What stands in the way, with its name and the way out: a folder in use, a port that is taken, a damaged file.
    pub(crate) fn start(config: &Config, endings: &Endings) -> Result<Option<Roles>> {
        expect_all_roles(config)?;
        let folder = DataFolder::lock(&config.data_dir)?;
        allow_many_open_files();
        expect_free_port(config)?;
        let data_dir = folder.path().to_owned();
        let Ground { files, raw, catalog, recipe, recipes } = open_ground(config, &data_dir)?;
        let newest = catalog.newest();
        // The iterations say it again, and health what is wrong; this is for whoever looks at the start.
        match assets::current_recipe(&recipes.folders(), recipes.enrich.settings()) {
            Ok(proposed) => recipes.warn_of_lost_schemas(&recipe, &proposed),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "the recipe in force stays until this is mended");
            }
        }
        let answers = Arc::clone(&recipes.answers);
        let enrichments = Arc::clone(&recipes.enrichments);
        let recipe = Driver::new(Arc::new(recipe), Arc::clone(&answers));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let realtime = Arc::new(RealtimeView::new(realtime::Options {
            memory_bytes_max: config.speed.memory_bytes_max as u64,
            spill: Some((Arc::clone(&files), data_dir.join("spill"))),
        }));
        let lambda = Arc::new(Lambda::new(Arc::clone(&catalog), Arc::clone(&realtime)));

        let derived = open_derived(config, &files, &data_dir, raw.partitions().len() as u32)?;
        let [enriched, bad, failed, pii] = derived.clone();
        let streams = speed::enricher::Streams {
            raw: raw.clone(),
            derived: Derived { enriched, bad, failed },
            pii,
        };
        let ports = speed::service::Ports { streams, realtime, clock: Arc::clone(&clock) };
        let speed = speed::Speed::start(ports, recipe, newest.cut.clone(), config.speed.clone())
            .context("start the speed layer")?;
        let speed = Arc::new(speed);

        let ports = collector::server::Ports {
            good: collector::sink::Destination::Log(raw.clone()),
            bad: None,
            clock: Arc::clone(&clock),
            files: Arc::clone(&files),
            data_dir: data_dir.clone(),
            disk_reserve_bytes: config.stream.disk_reserve,
        };
        let collector = collector::server::start_with(collector_config(config), ports)
            .context("start the collector")?;
        let beats = start_beats(config)?;
        let reload = collector.reloader();
        endings.at_hang_up(move || Ok(reload()?));
        let batch = start_batch(config, &data_dir, recipes, &raw, &catalog, &lambda, &speed)?;
        if !wait_until_ready(&speed, &batch, endings)? {
            collector.shutdown();
            raw.close();
            batch.shutdown();
            return Ok(None);
        }
        let watch = Arc::new(Watch::new(raw.partitions()));
        let control = Arc::new(Process {
            batch: batch.handle(),
            speed: Arc::clone(&speed),
            intake: Intake::of(&collector),
            lambda: Arc::clone(&lambda),
            answers,
            enrichments,
            raw: Arc::clone(&raw),
            files: Arc::clone(&files),
            data_dir: data_dir.clone(),
            disk_reserve: config.stream.disk_reserve,
            interval: config.batch.interval,
            watch: Arc::clone(&watch),
        });
        let raw_ends = Arc::clone(&raw);
        let ports = serving::server::Ports {
            lambda: Arc::clone(&lambda),
            control,
            files,
            data_dir,
            raw_ends: Arc::new(move || speed::service::raw_ends(&*raw_ends).unwrap_or_default()),
            generations_kept: config.batch.generations_kept,
        };
        let server = serving::server::start(&config.server, ports).context("start the server")?;
        let reload = server.reloader();
        endings.at_hang_up(move || Ok(reload()?));
        let tidying = Tidying::start(lambda, Arc::clone(&speed), Arc::clone(&raw), watch)?;
        let addresses = Run {
            pid: std::process::id(),
            collector: reachable(collector.address).to_string(),
            http: reachable(server.http).to_string(),
            pg: reachable(server.pg).to_string(),
        };
        folder.write_run(&addresses)?;
        Ok(Some(Roles {
            collector,
            _beats: beats,
            raw,
            derived,
            speed,
            batch,
            server,
            tidying,
            addresses,
            folder,
        }))
    }

    /// Where the process can be reached.
    pub(crate) fn addresses(&self) -> &Run {
        &self.addresses
    }

    /// The line that says that everything answers.
    pub(crate) fn ready_line(&self) -> String {
        let Run { collector, http, pg, .. } = &self.addresses;
        format!("ready collector={collector} http={http} pg={pg}")
    }

    /// Takes no new requests, answers those in flight, and ends every role. What the collector had to leave.
    pub(crate) fn stop(self) -> collector::server::Drained {
        let Roles { collector, raw, derived, speed, batch, server, tidying, folder, .. } = self;
        let drained = collector.shutdown();
        if drained.connections_cut > 0 {
            tracing::warn!(
                connections = drained.connections_cut,
                "connections were cut at the deadline"
            );
        }
        raw.close();
        batch.shutdown();
        tidying.stop();
        if !server.shutdown(SERVER_DEADLINE) {
            tracing::warn!("statements were cancelled at the deadline");
        }
        drop(speed);
        derived.iter().for_each(|stream| stream.close());
        drop(folder);
        drained
    }
}

/// What a rebuild without a server is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RebuildWith {
    RecipeInForce,
    Configuration,
}

/// One iteration on a data folder that no server uses; with `rebuild`, a new generation after it.
///
/// # Errors
/// As [`Roles::start`], and those of the iteration and the rebuild.
pub(crate) fn iterate_once(
    config: &Config,
    folder: &DataFolder,
    rebuild: Option<RebuildWith>,
) -> Result<Iterated> {
    let data_dir = folder.path();
    // Only a server proposes another recipe: here the configuration may not be the one that it runs with.
    let Ground { files, raw, catalog, recipe: in_force, recipes } = open_ground(config, data_dir)?;
    let cut = catalog.newest().cut.clone();
    let mut archiver = Archiver::new(
        raw.clone(),
        Arc::clone(&files),
        data_dir.to_owned(),
        &cut,
        config.batch.archiver(),
    )
    .context("open the master dataset")?;
    archiver.flush().context("archive the raw stream")?;
    let files_of_trim = Arc::clone(&files);
    let mut batcher = Batcher::new(
        catalog,
        files,
        data_dir.to_owned(),
        raw.partitions(),
        Arc::new(SystemClock),
        config.batch.batcher(),
    )
    .with_answers(Arc::clone(&recipes.answers));
    let mut iterated = batcher.iterate(&in_force).context("run an iteration")?;
    if let Some(with) = rebuild {
        let recipe = match with {
            RebuildWith::RecipeInForce => in_force,
            RebuildWith::Configuration => {
                recipes.propose(Some(&in_force)).context("read the recipe of the configuration")?
            }
        };
        eprintln!("rebuilding with recipe {}", recipe.digest());
        let mut rebuild = batcher
            .begin_rebuild(recipe, batcher.progress())
            .context("begin to rebuild the batch view")?;
        let generation = rebuild.generation();
        loop {
            match rebuild.catch_up() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    batcher.give_up_rebuild(generation);
                    return Err(error).context("rebuild the batch view");
                }
            }
        }
        iterated = batcher.publish_rebuild(rebuild).context("publish the rebuilt generation")?;
    }
    trim(&*raw, &*files_of_trim, data_dir, &iterated.manifest, &iterated.manifest.cut)
        .context("trim the raw stream")?;
    raw.close();
    Ok(iterated)
}

pub(crate) fn start_beats(config: &Config) -> Result<Option<Beats>> {
    Beats::start(&config.collector.telemetry).context("start a thread for signs of life")
}

pub(crate) fn collector_config(config: &Config) -> collector::Config {
    collector::Config { version: env!("CARGO_PKG_VERSION").to_owned(), ..config.collector.clone() }
}

fn start_batch(
    config: &Config,
    data_dir: &Path,
    recipes: Recipes,
    raw: &Arc<Local>,
    catalog: &Arc<Catalog>,
    lambda: &Arc<Lambda>,
    speed: &Arc<speed::Running>,
) -> Result<batch::service::Service> {
    let files = Arc::clone(&recipes.files);
    let follower = Follower {
        lambda: Arc::clone(lambda),
        speed: Arc::clone(speed),
        files: Arc::clone(&files),
        data_dir: data_dir.to_owned(),
        answers: Arc::clone(&recipes.answers),
    };
    let answers = Arc::clone(&recipes.answers);
    let (newest, folder) = (Arc::clone(catalog), data_dir.to_owned());
    let propose = move || -> Result<Recipe, assets::Error> {
        let digest = newest.newest().next_recipe.clone();
        let in_force = assets::load(&*recipes.files, &folder, &digest)?;
        let proposed = recipes.propose(Some(&in_force))?;
        recipes.warn_of_lost_schemas(&in_force, &proposed);
        Ok(proposed)
    };
    let (pins, in_use) = (Arc::clone(lambda), Arc::clone(lambda));
    let ports = batch::service::Ports {
        raw: raw.clone(),
        files,
        data_dir: data_dir.to_owned(),
        catalog: Arc::clone(catalog),
        clock: Arc::new(SystemClock),
        answers,
        propose: Box::new(move || propose().map_err(Into::into)),
        after_commit: Box::new(move |manifest| follower.follow(manifest)),
        oldest_pinned: Box::new(move || pins.oldest_pinned_cut()),
        in_use: Box::new(move || in_use.iterations_in_use()),
    };
    batch::service::spawn(ports, config.batch.clone()).context("start the batch layer")
}

/// False when the process was asked to end meanwhile.
fn wait_until_ready(
    speed: &speed::Running,
    batch: &batch::service::Service,
    endings: &Endings,
) -> Result<bool> {
    let mut shown = Instant::now();
    let mut has_iterated = false;
    while !speed.ready() {
        if !has_iterated && speed.status().waiting() > 0 {
            has_iterated = true;
            // The configuration may name other registries than the recipe in force: an iteration goes over to them. If
            // not, it fails as the speed layer does, and says so by itself.
            let _ = batch.handle().run_now();
        }
        if shown.elapsed() > Duration::from_secs(5) {
            shown = Instant::now();
            let status = speed.status();
            let stalled =
                status.stalled().map(|reason| format!(", held up: {reason}")).unwrap_or_default();
            eprintln!(
                "catching up with the log: {} records enriched{stalled}",
                status.tally().records
            );
        }
        match endings.is_over() {
            Some(Ending::Asked | Ending::ReaderGone) => return Ok(false),
            Some(Ending::Panicked) => bail!("a role panicked; the message above names the place"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(true)
}

/// What only makes sense where the collector is alone.
fn expect_all_roles(config: &Config) -> Result<()> {
    if config.admin.port.is_some() {
        bail!(
            "configuration: `admin.port`: not used by `up`, whose health and metrics are on `server.http-port`"
        );
    }
    if config.collector.streams.sink != SinkKind::Log {
        bail!(
            "configuration: `collector.streams.sink`: the other roles read the log, which would get nothing; leave it \
             out, or start the collector alone: `snowmelt run collector`"
        );
    }
    Ok(())
}

/// The server starts last, but a port that is taken is better known first.
fn expect_free_port(config: &Config) -> Result<()> {
    for (port, key, door) in [
        (config.server.http_port, "server.http-port", "the server"),
        (config.server.pg_port, "server.pg-port", "the Postgres wire"),
    ] {
        let address = SocketAddr::new(config.server.bind, port);
        expect_free(address, key, door)?;
    }
    Ok(())
}

/// What is bound last is better known to be taken at first.
fn expect_free(address: SocketAddr, key: &str, door: &str) -> Result<()> {
    if address.port() != 0 {
        TcpListener::bind(address).with_context(|| {
            format!("listen on {address} for {door}: set another port with `--set {key}=…`")
        })?;
    }
    Ok(())
}

/// The address as a client on this machine writes it.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}
