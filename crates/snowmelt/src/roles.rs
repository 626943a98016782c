//! How the roles are put together: `up` starts them all in one process, `batch run` without a server only the batch
//! layer, once.
//!
//! The order is that of the flow: streams, recipe and catalogue, real-time view, speed layer, batch layer, collector,
//! server. They end in the same order, so that each finds what it needs until its own end. Between the layers only values pass
//! here: a committed manifest to the speed layer, the oldest pinned cut to the batch layer.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use assets::ask::Ask;
use assets::enrichments::Source;
use assets::outside::Outside;
use assets::resolver_config::ResolverConfig;
use assets::{Answers, Driver, Folders};
use batch::archiver::Archiver;
use batch::batcher::{Batcher, Iterated};
use batch::hand_over;
use batch::trim::trim;
use enrich::Recipe;
use model::causes::Causes;
use model::cut::Cut;
use model::files::Files;
use model::position::Offset;
use model::time::Clock;
use speed::derived::Derived;
use stream::Stream;
use stream::disk::Disk;
use stream::local::{Durability, Local, Options};
use views::catalog::{Catalog, Manifest};
use views::lambda::Lambda;
use views::realtime::{self, RealtimeView};

use crate::clock::SystemClock;
use crate::commands::stream::archive::Archive;
use crate::commands::up::{Ending, Endings};
use crate::config::Config;
use crate::data_folder::{DataFolder, Run};
use crate::process::Process;
use crate::watch::Watch;

/// How often cuts that were released are looked for.
const TIDY_INTERVAL: Duration = Duration::from_millis(200);

/// How long statements have to end when the process is asked to.
const SERVER_DEADLINE: Duration = Duration::from_secs(5);

/// All roles of one process, running.
pub(crate) struct Roles {
    collector: collector::server::Running,
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

/// What all roles share.
struct Ground {
    files: Arc<dyn Files>,
    raw: Arc<Local>,
    catalog: Arc<Catalog>,
    /// The recipe in force from the cut on.
    recipe: Recipe,
    recipes: Recipes,
}

/// What makes a recipe of the configuration, and answers what it leaves open.
struct Recipes {
    files: Arc<dyn Files>,
    enrich: crate::config::Enrich,
    enrichments: Arc<Source>,
    resolver: Option<ResolverConfig>,
    answers: Arc<Answers>,
}

impl Roles {
    /// Starts everything, and returns when the server has reached the end of the log that was found. `None` when the
    /// process was asked to end before.
    ///
    /// # Errors
    /// What stands in the way, with its name and the way out: a folder in use, a port that is taken, a damaged file.
    pub(crate) fn start(config: &Config, endings: &Endings) -> Result<Option<Roles>> {
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
            collector: Arc::clone(&collector.counters),
            meter: Arc::clone(&collector.meter),
            good: Arc::clone(&collector.good),
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
        let Roles { collector, raw, derived, speed, batch, server, tidying, addresses: _, folder } =
            self;
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

/// Reads all that a recipe of this configuration is made of, and changes nothing.
///
/// # Errors
/// What stands in the way of it: a schema that cannot be read, a resolver that is none.
pub(crate) fn check_recipe(config: &Config) -> Result<()> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let resolver = config.enrich.resolver_config().context("read `enrich.resolver`")?;
    let mut folders = config.enrich.schemas.clone();
    folders.extend(resolver.iter().flat_map(|resolver| resolver.folders.clone()));
    let folders = Folders::new(files, folders);
    assets::current_recipe(&folders, config.enrich.settings()).context("read `enrich.schemas`")?;
    Ok(())
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

fn open_ground(config: &Config, data_dir: &Path) -> Result<Ground> {
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

/// Statements read many table files; the usual soft limit of 1024 is soon reached.
fn allow_many_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
}

impl Recipes {
    /// Asks nobody yet.
    fn open(config: &Config, files: &Arc<dyn Files>, data_dir: &Path) -> Result<Recipes> {
        let resolver = config.enrich.resolver_config().context("read `enrich.resolver`")?;
        let ask = resolver.as_ref().map(|resolver| Arc::new(resolver.http()) as Arc<dyn Ask>);
        let in_memory_max = resolver
            .as_ref()
            .map_or(assets::answers::IN_MEMORY_DEFAULT, |resolver| resolver.in_memory_max);
        let allowed = config.enrich.allowed_hosts().context("read `enrich.look-up-hosts`")?;
        let answers = Answers::open(Arc::clone(files), data_dir, ask, in_memory_max)
            .context("open the facts")?
            .looking_up(Arc::new(Outside::new(allowed)));
        let (files, enrich) = (Arc::clone(files), config.enrich.clone());
        let enrichments =
            Source::new(Arc::clone(&files), enrich.configured()).with_data_dir(data_dir);
        let enrichments = match enrich.assets_update_period {
            Duration::ZERO => enrichments,
            period => enrichments.refreshing(period),
        };
        let enrichments = Arc::new(enrichments);
        Ok(Recipes { files, enrich, enrichments, resolver, answers: Arc::new(answers) })
    }

    /// Says which schemas of a recipe the configuration no longer names: it may be another one than before, and what
    /// they made good events of would be bad rows from now on.
    fn warn_of_lost_schemas(&self, in_force: &Recipe, proposed: &Recipe) {
        let kept = |key| proposed.schemas().find(key).is_some();
        let mut lost = in_force.schemas().local().map(|(key, _)| key).filter(|key| !kept(key));
        let Some(first) = lost.next() else { return };
        tracing::warn!(
            schemas = 1 + lost.count(),
            first = first.as_str(),
            folders = ?self.enrich.schemas,
            "the recipe in force has schemas that the configuration no longer names; from the next iteration on their \
             events become bad rows. Was `enrich.schemas` forgotten? A configuration file keeps it"
        );
    }

    fn folders(&self) -> Folders {
        let mut folders = self.enrich.schemas.clone();
        folders.extend(self.resolver.iter().flat_map(|resolver| resolver.folders.clone()));
        Folders::new(Arc::clone(&self.files), folders)
    }

    /// The recipe as the configuration, the schema folders and the registries have it now.
    fn propose(&self, in_force: Option<&Recipe>) -> Result<Recipe, assets::Error> {
        let folders = self.folders();
        let resolver = self.resolver.as_ref().map(|resolver| &resolver.resolver);
        let settings = self.enrich.settings();
        let recipe =
            assets::proposed_recipe(&folders, settings, resolver, in_force, &self.answers)?;
        let enrichments = match (self.enrichments.read(), in_force) {
            (Ok(enrichments), _) => enrichments,
            (Err(error), Some(in_force)) => {
                // Once it runs, a file that is away for a moment must not hold up the batch layer.
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the enrichments stay as they are");
                in_force.enrichments().clone()
            }
            (Err(error), None) => return Err(error),
        };
        Ok(recipe.with_enrichments(enrichments))
    }
}

fn open_derived(
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

fn collector_config(config: &Config) -> collector::Config {
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

/// Brings a commit of the batch layer to the serving and the speed layer.
struct Follower {
    lambda: Arc<Lambda>,
    speed: Arc<speed::Running>,
    files: Arc<dyn Files>,
    data_dir: std::path::PathBuf,
    answers: Arc<Answers>,
}

impl Follower {
    /// Serves the iteration, as soon as no answer gets shorter by it. Where it names another recipe from its cut on, the
    /// speed layer first derives the rest again; if that takes long, [`Tidying`] serves it later.
    fn follow(&self, manifest: &Arc<Manifest>) {
        if manifest.next_recipe != self.speed.status().recipe {
            match assets::load(&*self.files, &self.data_dir, &manifest.next_recipe) {
                Ok(recipe) => {
                    let recipe = Driver::new(Arc::new(recipe), Arc::clone(&self.answers));
                    self.speed.switch(recipe, &manifest.cut);
                }
                Err(error) => {
                    tracing::error!(iteration = manifest.iteration, recipe = manifest.next_recipe, error = %Causes(&error), "the speed layer stays on the recipe before; restart to try again");
                    return;
                }
            }
        }
        let patience = Instant::now() + Duration::from_secs(30);
        while self.lambda.served().iteration < manifest.iteration && Instant::now() < patience {
            if serve_newest(&self.lambda, &self.speed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// True when a later iteration is served from now on.
fn serve_newest(lambda: &Lambda, speed: &speed::Running) -> bool {
    match lambda.advance() {
        Ok(false) => false,
        Ok(true) => {
            speed.raise(&lambda.served().cut);
            lambda.forget();
            speed.forget(&lambda.oldest_pinned_cut());
            true
        }
        Err(error) => {
            tracing::error!(error = %Causes(&error), "cannot serve the newest iteration");
            false
        }
    }
}

/// A thread that forgets what was pinned when an iteration was served and is not any more, and looks at the ends of the
/// raw stream for the ages in metrics and health.
struct Tidying {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Tidying {
    fn start(
        lambda: Arc<Lambda>,
        speed: Arc<speed::Running>,
        raw: Arc<Local>,
        watch: Arc<Watch>,
    ) -> Result<Tidying> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let tidy = move || {
            let mut forgotten = Cut::default();
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(TIDY_INTERVAL);
                serve_newest(&lambda, &speed);
                let ends = speed::service::raw_ends(&*raw).unwrap_or_default();
                watch.look(&ends, &lambda.served().cut, Instant::now());
                let oldest = lambda.oldest_pinned_cut();
                if oldest != forgotten {
                    lambda.forget();
                    speed.forget(&oldest);
                    forgotten = oldest;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("tidy".to_owned())
            .spawn(tidy)
            .context("start a thread")?;
        Ok(Tidying { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic was reported by its hook.
        let _ = self.thread.join();
    }
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
            Some(Ending::Asked) => return Ok(false),
            Some(Ending::Panicked) => bail!("a role panicked; the message above names the place"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(true)
}

/// The server starts last, but a port that is taken is better known first.
fn expect_free_port(config: &Config) -> Result<()> {
    for (port, key, door) in [
        (config.server.http_port, "server.http-port", "the server"),
        (config.server.pg_port, "server.pg-port", "the Postgres wire"),
    ] {
        let address = SocketAddr::new(config.server.bind, port);
        if port != 0 {
            TcpListener::bind(address).with_context(|| {
                format!("listen on {address} for {door}: set another port with `--set {key}=…`")
            })?;
        }
    }
    Ok(())
}

/// The address as a client on this machine writes it.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}
