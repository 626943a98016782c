//! The whole pipeline in one thread: log, archiver, batcher, speed layer and merge, on a disk that forgets, with a
//! clock that jumps, a schema folder that changes, and in half of the worlds registries that come and go.
//!
//! After every step the merged rows of a fresh pin are held against law 1: one sequential reference function over the
//! log below the pin's frontier, with the recipe in force at each position. Also: a cut never retreats, an answer held
//! open never changes, and at the end, with all faults gone, everything accepted is answered from both layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assets::ask::Ask;
use assets::{Answers, Driver, Registry};
use batch::archiver::{self, Archiver};
use batch::batcher::{self, Batcher};
use batch::rebuild::Rebuild;
use batch::trim::trim;
use bytes::Bytes;
use enrich::Recipe;
use enrich::iglu::Resolver;
use model::cut::{Cut, Frontier};
use model::files::Files;
use model::iglu::SchemaKey;

use model::time::{Clock, Timestamp};
use serde_json::Value;
use speed::derived::Derived;
use speed::enricher::{Enricher, Progress, Streams};
use speed::loader::Loader;
use stream::Stream;
use stream::local::{Drive, Durability, Local, Options, SegmentIds};
use views::catalog::{Catalog, Manifest};
use views::lambda::{Lambda, Pin};
use views::merge::{self, MergedRows};
use views::realtime::{self, RealtimeView};

use crate::Violation;
use crate::chance::Chance;
use crate::disk::{Disk, Faults};
use crate::network::Network;
use crate::reference::Reference;
use crate::requests;

mod promises;

const DATA_DIR: &str = "/data";
const ROOMY: u64 = 512 << 20;
const PARTITIONS: u32 = 2;

/// Runs one seed for `steps` steps and to a quiet end.
///
/// # Errors
/// The first promise that was not kept.
pub fn run(seed: u64, steps: u32) -> Result<(), Violation> {
    let mut world = World::new(seed);
    let mut walk = || -> Result<(), (u32, Violation)> {
        for step in 0..steps {
            world.step().and_then(|()| world.check()).map_err(|what| (step, what))?;
        }
        world.settle().map_err(|what| (steps, what))
    };
    let walked = walk();
    walked.map_err(|(step, what)| what.at_step(step).after(&world.history))
}

struct World {
    chance: Chance,
    disk: Disk,
    clock: Arc<JumpyClock>,
    sources: Sources,
    roles: Option<Roles>,
    reference: Reference,
    /// What the raw log holds, as far as it was read.
    read_to: Cut,
    newest_cut: Cut,
    held: Option<(Pin, MergedRows)>,
    written: u64,
    /// Whether a sync was made to fail since the last start: then a partition may take nothing until the next one.
    in_doubt: bool,
    history: Vec<String>,
}

/// Where the schemas of this world come from.
#[derive(Clone)]
struct Sources {
    folder: Arc<ChangingRegistry>,
    network: Arc<Network>,
    /// None: a world that asks nobody.
    resolver: Option<Resolver>,
    /// Whether recipes ask for failed events.
    failed_events: bool,
}

impl Sources {
    fn propose(&self, in_force: Option<&Recipe>, answers: &Answers) -> Attempt<Recipe> {
        let failed_events = self.failed_events;
        let settings = enrich::Settings { failed_events, ..enrich::Settings::default() };
        let resolver = self.resolver.as_ref();
        Ok(assets::proposed_recipe(&*self.folder, settings, resolver, in_force, answers)?)
    }
}

/// Everything that a killed process takes with it.
struct Roles {
    answers: Arc<Answers>,
    raw: Arc<Local>,
    derived: Derived,
    catalog: Arc<Catalog>,
    lambda: Lambda,
    realtime: Arc<RealtimeView>,
    enricher: Enricher,
    loader: Loader,
    archiver: Archiver,
    batcher: Batcher,
    rebuild: Option<Rebuild>,
    /// The digest of the recipe that the speed layer works with.
    recipe: String,
    /// The frontier of the last answer: within a process no later answer covers less.
    answered_to: Frontier,
}

/// Shows what it was set to, and the time that a slow disk has taken since.
#[derive(Debug)]
struct JumpyClock {
    set_to_ms: Mutex<i64>,
    disk: Disk,
}

impl JumpyClock {
    fn jump(&self, ms: i64) {
        *self.set_to_ms.lock().expect("nobody panics with the clock") += ms;
    }
}

impl Clock for JumpyClock {
    fn now(&self) -> Timestamp {
        let set_to = *self.set_to_ms.lock().expect("nobody panics with the clock");
        Timestamp(set_to + self.disk.elapsed_ms() as i64)
    }
}

/// The seam to schema folders: a set of schemas that grows and changes.
#[derive(Debug, Default)]
struct ChangingRegistry(Mutex<BTreeMap<SchemaKey, Value>>);

impl Registry for ChangingRegistry {
    fn schemas(&self) -> Result<Vec<(SchemaKey, Value)>, assets::Error> {
        Ok(self.0.lock().expect("nobody panics with the folder").clone().into_iter().collect())
    }
}

/// What a step ends with when it is not a broken promise: the process died, or the disk refused for now.
type Attempt<T> = Result<T, Box<dyn std::error::Error>>;

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance::seeded(seed);
        let disk = Disk::new(chance.number(), ROOMY);
        World {
            clock: Arc::new(JumpyClock {
                set_to_ms: Mutex::new(1_790_000_000_000),
                disk: disk.clone(),
            }),
            disk,
            sources: Sources {
                folder: Arc::default(),
                network: Arc::default(),
                resolver: chance.coin().then(Network::resolver),
                failed_events: !chance.one_in(4),
            },
            roles: None,
            reference: Reference::default(),
            read_to: Cut::default(),
            newest_cut: Cut::default(),
            held: None,
            written: 0,
            in_doubt: false,
            history: Vec::new(),
            chance,
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        if self.roles.is_none() {
            return self.boot();
        }
        match self.chance.below(100) {
            0..30 => self.append().map(|_| ()),
            30..50 => self.on_roles("enrich", |roles, _| {
                roles.enricher.step()?;
                Ok(())
            }),
            50..64 => self.on_roles("load", |roles, _| {
                roles.loader.step()?;
                roles.serve()
            }),
            64..70 => self.on_roles("archive", |roles, _| {
                roles.archiver.step()?;
                {
                    roles.archiver.flush()?;
                    Ok(())
                }
            }),
            70..77 => self.iterate(),
            77..79 => self.join_files(),
            79..81 => self.rebuild(),
            81..83 => match self.chance.below(8) {
                0 => {
                    self.turn_failed_events();
                    Ok(())
                }
                1..4 => self.change_folder(),
                _ => self.change_network(),
            },
            83..86 => self.hold_an_answer(),
            86..88 => {
                self.confuse_the_time();
                Ok(())
            }
            88..92 => {
                self.crash();
                Ok(())
            }
            92..96 => {
                let kill_at = Some(self.disk.operations() + 1 + self.chance.below(30));
                self.history.push(format!("will be killed at operation {kill_at:?}"));
                self.disk.set_faults(Faults { kill_at, fail_sync_at: None });
                Ok(())
            }
            96..98 => {
                let fail_sync_at = Some(self.disk.syncs() + 1 + self.chance.below(8));
                self.history.push(format!("sync {fail_sync_at:?} will fail"));
                self.in_doubt = true;
                self.disk.set_faults(Faults { kill_at: None, fail_sync_at });
                Ok(())
            }
            _ => self.fill_the_disk(),
        }
    }

    /// Starts all roles, as the binary does.
    fn boot(&mut self) -> Result<(), Violation> {
        if self.chance.one_in(4) {
            let kill_at = Some(1 + self.chance.below(60));
            self.disk.set_faults(Faults { kill_at, fail_sync_at: None });
        }
        self.in_doubt = false;
        match self.start() {
            // Giving back what an earlier process has left may fail without stopping a start.
            Ok(_) if self.disk.is_dead() => {
                self.history.push("killed while starting".to_owned());
                self.crash();
                Ok(())
            }
            Ok(roles) => {
                self.history.push("started".to_owned());
                self.roles = Some(roles);
                Ok(())
            }
            Err(error) if self.disk.is_dead() => {
                self.history.push(format!("killed while starting: {error}"));
                self.crash();
                Ok(())
            }
            Err(error) => Err(Violation::new(format!("does not start: {}", chain(&*error)))),
        }
    }

    fn start(&mut self) -> Attempt<Roles> {
        let files: Arc<dyn Files> = Arc::new(self.disk.clone());
        let data_dir = PathBuf::from(DATA_DIR);
        let streams = data_dir.join("streams");
        let (synced, relaxed) =
            (self.options(Durability::Synced), self.options(Durability::Relaxed));
        let raw = Arc::new(Local::open(Arc::clone(&files), &streams, "raw", PARTITIONS, synced)?);
        let derived = |name: &str| -> Attempt<Arc<dyn Stream>> {
            let (files, options) = (Arc::clone(&files), relaxed.clone());
            Ok(Arc::new(speed::derived::open(files, &streams, name, PARTITIONS, options)?))
        };
        let [enriched, bad, failed] = Derived::NAMES.map(derived);
        let (pii, enriched) = (derived(speed::derived::PII)?, enriched?);
        let derived = Derived { enriched, bad: bad?, failed: failed? };
        let ask = Arc::clone(&self.sources.network) as Arc<dyn Ask>;
        let answers = Arc::new(Answers::open(Arc::clone(&files), &data_dir, Some(ask), 3)?);
        let proposed = self.sources.propose(None, &answers)?;
        let now = self.clock.now();
        let catalog = Arc::new(Catalog::open(Arc::clone(&files), &data_dir, || {
            assets::pin(&*files, &data_dir, &proposed)?;
            Ok(Manifest::first(proposed.digest(), &now.to_iso()))
        })?);
        let newest = catalog.newest();
        let recipe = assets::load(&*files, &data_dir, &newest.next_recipe)?;
        let recipe = Driver::new(Arc::new(recipe), Arc::clone(&answers));
        let realtime = Arc::new(RealtimeView::new(realtime::Options {
            memory_bytes_max: 200_000,
            spill: Some((Arc::clone(&files), data_dir.join("spill"))),
        }));
        let lambda = Lambda::new(Arc::clone(&catalog), Arc::clone(&realtime));
        let config =
            speed::Config { batch_bytes: 3000, entry_bytes_max: 6000, ..speed::Config::default() };
        let enricher = Enricher::open(
            &Streams { raw: raw.clone(), derived: derived.clone(), pii },
            recipe.clone(),
            &newest.cut,
            self.clock.clone(),
            config,
        )?;
        let loader = Loader::open(
            &derived,
            Arc::clone(&realtime),
            newest.next_recipe.clone(),
            recipe,
            newest.cut.clone(),
        )?;
        let archiver = Archiver::new(
            raw.clone(),
            Arc::clone(&files),
            data_dir.clone(),
            &newest.cut,
            archiver::Config { file_bytes_max: 4000 },
        )?;
        let batcher = Batcher::new(
            Arc::clone(&catalog),
            files,
            data_dir,
            raw.partitions(),
            self.clock.clone(),
            batcher::Config { compact_files: 3, ..batcher::Config::default() },
        )
        .with_answers(Arc::clone(&answers));
        let answered_to = newest.cut.clone();
        Ok(Roles {
            answers,
            raw,
            derived,
            catalog,
            lambda,
            realtime,
            enricher,
            loader,
            archiver,
            batcher,
            rebuild: None,
            recipe: newest.next_recipe.clone(),
            answered_to,
        })
    }

    fn options(&mut self, durability: Durability) -> Options {
        let ids = Mutex::new(self.chance.fork());
        Options {
            durability,
            drive: Drive::Inline,
            segment_bytes_first: 8192,
            segment_bytes_max: 32_768,
            relaxed_sync_bytes: 16_384,
            disk_reserve_bytes: Some(0),
            segment_ids: SegmentIds::new(move || {
                ids.lock().expect("drawing a number does not panic").number()
            }),
            ..Options::default()
        }
    }

    /// One request, or several, reach the log. Says whether they were accepted; nothing when the process was dead or
    /// died.
    fn append(&mut self) -> Result<Option<bool>, Violation> {
        let Some(roles) = &self.roles else { return Ok(None) };
        let partition =
            roles.raw.partitions()[self.chance.below(PARTITIONS.into()) as usize].clone();
        let count = 1 + self.chance.below(3);
        let mut records = Vec::new();
        for _ in 0..count {
            self.written += 1;
            records.push(Bytes::from(requests::record(&mut self.chance, self.written)));
        }
        let appended = futures::executor::block_on(roles.raw.append(&partition, records.clone()));
        self.history.push(format!("append {count} to {partition}: {appended:?}"));
        let accepted = appended.is_ok();
        if let Ok(appended) = appended {
            let readable = roles.raw.read(&partition, appended.first, usize::MAX);
            match readable {
                Ok(chunk) if chunk.records.iter().map(|record| &record.bytes).eq(&records) => {}
                Err(_) if self.disk.is_dead() => {}
                other => {
                    return Err(Violation::new(format!(
                        "accepted, but {partition} answers {other:?}"
                    )));
                }
            }
        }
        self.bury();
        Ok(self.roles.is_some().then_some(accepted))
    }

    /// Lets the roles do something. What fails because the process died or the disk is in trouble is tried again by a
    /// later step; it can break no promise by failing.
    fn on_roles(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Roles, &Sources) -> Attempt<()>,
    ) -> Result<(), Violation> {
        let Some(roles) = &mut self.roles else { return Ok(()) };
        let done = act(roles, &self.sources);
        match &done {
            Ok(()) => self.history.push(what.to_owned()),
            Err(error) => self.history.push(format!("{what}: {}", chain(&**error))),
        }
        self.bury();
        Ok(())
    }

    fn iterate(&mut self) -> Result<(), Violation> {
        let disk = self.disk.clone();
        self.on_roles("iterate", |roles, sources| {
            let proposed = roles.propose(sources, &disk)?;
            roles.archiver.flush()?;
            let iterated = roles.batcher.iterate(&proposed)?;
            roles.follow(&iterated.manifest, &disk)?;
            let oldest_pinned = roles.lambda.oldest_pinned_cut();
            trim(&*roles.raw, &disk, Path::new(DATA_DIR), &iterated.manifest, &oldest_pinned)?;
            Ok(())
        })
    }

    fn join_files(&mut self) -> Result<(), Violation> {
        let disk = self.disk.clone();
        self.on_roles("join table files", |roles, _| {
            if let Some(joined) = roles.batcher.compact()? {
                roles.follow(&joined.manifest, &disk)?;
            }
            roles.batcher.collect_garbage(&roles.lambda.iterations_in_use());
            Ok(())
        })
    }

    /// Some steps of a rebuild, which may end in the middle: then anything may happen before it goes on.
    fn rebuild(&mut self) -> Result<(), Violation> {
        for _ in 0..1 + self.chance.below(4) {
            self.rebuild_on()?;
            self.check()?;
        }
        Ok(())
    }

    /// A rebuild begins, does a part, or comes in.
    fn rebuild_on(&mut self) -> Result<(), Violation> {
        let disk = self.disk.clone();
        self.on_roles("rebuild", |roles, sources| {
            let Some(mut rebuild) = roles.rebuild.take() else {
                let recipe = roles.propose(sources, &disk)?;
                roles.rebuild = Some(roles.batcher.begin_rebuild(recipe, Arc::default())?);
                return Ok(());
            };
            let generation = rebuild.generation();
            match rebuild.catch_up() {
                Ok(true) => roles.rebuild = Some(rebuild),
                Ok(false) => {
                    let published = roles.batcher.publish_rebuild(rebuild)?;
                    roles.follow(&published.manifest, &disk)?;
                    roles.batcher.collect_garbage(&roles.lambda.iterations_in_use());
                }
                Err(error) => {
                    roles.batcher.give_up_rebuild(generation);
                    return Err(error.into());
                }
            }
            Ok(())
        })
    }

    /// A schema appears, or one that is there changes.
    fn change_folder(&mut self) -> Result<(), Violation> {
        let (key, schema) = requests::schema(&mut self.chance);
        self.history.push(format!("the folder now has {key}: {schema}"));
        let folder = &self.sources.folder;
        folder.0.lock().expect("nobody panics with the folder").insert(key, schema);
        Ok(())
    }

    /// The configuration asks for failed events, or no longer: the next recipe that is proposed says so.
    fn turn_failed_events(&mut self) {
        self.sources.failed_events = !self.sources.failed_events;
        self.history.push(format!("failed events: {}", self.sources.failed_events));
    }

    /// Some things happen to the registries on the network.
    fn change_network(&mut self) -> Result<(), Violation> {
        for _ in 0..1 + self.chance.below(3) {
            self.history.push(self.sources.network.change(&mut self.chance));
        }
        Ok(())
    }

    /// Pins an answer and keeps it open for a while.
    fn hold_an_answer(&mut self) -> Result<(), Violation> {
        let Some(roles) = &self.roles else { return Ok(()) };
        if let Some((pin, rows)) = self.held.take() {
            match merge::rows(&pin, &self.disk, Path::new(DATA_DIR)) {
                Ok(now) if now == rows => return Ok(()),
                Err(_) if self.disk.is_dead() => return Ok(()),
                Ok(_) => return Err(Violation::new("an answer that was held open has changed")),
                Err(error) => {
                    return Err(Violation::new(format!(
                        "an answer held open is gone: {}",
                        chain(&error)
                    )));
                }
            }
        }
        if let Ok(pin) = roles.lambda.pin()
            && let Ok(rows) = merge::rows(&pin, &self.disk, Path::new(DATA_DIR))
        {
            self.history.push(format!("hold the answer of iteration {}", pin.manifest.iteration));
            self.held = Some((pin, rows));
        }
        Ok(())
    }

    /// The clock jumps by up to half a day forth or back, or each sync takes up to a minute for a while.
    fn confuse_the_time(&mut self) {
        if self.chance.coin() {
            let jump = self.chance.below(86_400_000) as i64 - 43_200_000;
            self.clock.jump(jump);
            self.history.push(format!("the clock jumps by {jump} ms"));
        } else {
            let ms = if self.chance.coin() { self.chance.below(60_000) } else { 0 };
            self.disk.set_sync_ms_max(ms);
            self.history.push(format!("a sync takes up to {ms} ms"));
        }
    }

    /// The disk is full for a while, then has room again, and everything goes on without a restart.
    fn fill_the_disk(&mut self) -> Result<(), Violation> {
        let room = self.chance.below(20_000);
        self.disk.set_capacity(self.disk.used_bytes() + room);
        self.history.push(format!("the disk has {room} bytes left for a while"));
        for _ in 0..2 + self.chance.below(5) {
            match self.chance.below(6) {
                0 | 1 => self.append().map(|_| ())?,
                2 => self.on_roles("enrich", |roles, _| {
                    roles.enricher.step()?;
                    Ok(())
                })?,
                3 => self.join_files()?,
                4 => self.rebuild_on()?,
                _ => self.iterate()?,
            }
            self.check()?;
        }
        self.disk.set_capacity(ROOMY);
        self.history.push("the disk has room again".to_owned());
        if self.append()? == Some(false) && !self.in_doubt {
            return Err(Violation::new("there is room again, and an append is refused"));
        }
        Ok(())
    }

    /// If the process died in the last operation: it is gone.
    fn bury(&mut self) {
        if self.disk.is_dead() {
            self.crash();
        }
    }

    fn crash(&mut self) {
        self.held = None;
        self.roles = None;
        self.disk.set_capacity(ROOMY);
        if self.chance.coin() {
            self.disk.restart_after_kill();
            self.history.push("process killed".to_owned());
        } else {
            self.disk.restart_after_power_loss();
            self.history.push("power lost".to_owned());
        }
    }
}

impl Roles {
    /// The recipe as folder and network have it now.
    fn propose(&self, sources: &Sources, disk: &Disk) -> Attempt<Recipe> {
        let digest = &self.catalog.newest().next_recipe;
        let in_force = assets::load(disk, Path::new(DATA_DIR), digest)?;
        sources.propose(Some(&in_force), &self.answers)
    }

    /// What the binary does after a commit: serve it, and tell the speed layer.
    fn follow(&mut self, manifest: &Manifest, disk: &Disk) -> Attempt<()> {
        if manifest.next_recipe != self.recipe {
            // The recipe that is in force from the manifest's cut on: derive what lies above again.
            let recipe = assets::load(disk, Path::new(DATA_DIR), &manifest.next_recipe)?;
            let recipe = Driver::new(Arc::new(recipe), Arc::clone(&self.answers));
            self.enricher.switch(recipe.clone(), &manifest.cut)?;
            self.loader = Loader::open(
                &self.derived,
                Arc::clone(&self.realtime),
                manifest.next_recipe.clone(),
                recipe,
                manifest.cut.clone(),
            )?;
            self.recipe.clone_from(&manifest.next_recipe);
        }
        self.serve()
    }

    /// Serves the newest iteration as soon as no answer gets shorter by it.
    fn serve(&mut self) -> Attempt<()> {
        if self.lambda.advance()? {
            let cut = self.lambda.served().cut.clone();
            self.enricher.raise(&cut);
            self.loader.raise(&cut);
            self.lambda.forget();
            self.loader.forget(&self.lambda.oldest_pinned_cut(), usize::MAX)?;
        }
        Ok(())
    }

    /// One turn of the speed layer; false when it has nothing to do.
    fn turn(&mut self) -> Attempt<bool> {
        if self.loader.step()? == Progress::Moved {
            self.serve()?;
            return Ok(true);
        }
        match self.enricher.step()? {
            Progress::Moved => return Ok(true),
            Progress::Stalled { reason, .. } => return Err(reason.into()),
            Progress::Idle => {}
        }
        if self.loader.frontier().is_at_or_beyond(&self.enricher.frontier()) {
            return Ok(false);
        }
        self.enricher.rewind(&self.loader.frontier());
        Ok(true)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
