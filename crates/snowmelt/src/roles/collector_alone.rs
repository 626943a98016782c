//! The collector without the other roles: it appends to the raw stream, which a later `up` goes on from, or prints lines.
//!
//! The data folder is locked and looked at as by `up`, so that no position of the log is ever given twice.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use collector::config::SinkKind;
use collector::server::{Drained, Ports};
use collector::sink::Destination;
use collector::sink::lines::{self, Lines};
use model::files::Files;
use serving::Health;
use serving::admin::{self, Admin};
use stream::disk::Disk;
use stream::local::Local;

use super::ground::{allow_many_open_files, open_ground};
use super::{collector_config, expect_free, reachable, start_beats};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::endings::Endings;
use crate::process::{Intake, Room};
use crate::telemetry::Beats;
use crate::{health, metrics, stderr};

/// `admin.port` where it is not set.
const ADMIN_PORT: u16 = 8091;

/// A collector that takes requests, and nothing else.
#[derive(Debug)]
pub(crate) struct CollectorAlone {
    collector: collector::server::Running,
    _beats: Option<Beats>,
    admin: admin::Running,
    raw: Option<Arc<Local>>,
    // Last: the folder is given back when nobody uses it any more.
    folder: DataFolder,
}

impl CollectorAlone {
    /// # Errors
    /// What stands in the way, with its name and the way out: a folder in use, a port that is taken, a damaged file.
    pub(crate) fn start(config: &Config, endings: &Endings) -> Result<CollectorAlone> {
        let folder = DataFolder::lock(&config.data_dir)?;
        allow_many_open_files();
        let port = config.admin.port.unwrap_or(ADMIN_PORT);
        let address = SocketAddr::new(config.server.bind, port);
        expect_free(address, "admin.port", "health and metrics")?;
        let data_dir = folder.path().to_owned();
        let (good, bad, raw) = match config.collector.streams.sink {
            SinkKind::Log => {
                let raw = open_ground(config, &data_dir)?.raw;
                (Destination::Log(raw.clone()), None, Some(raw))
            }
            SinkKind::Stdout => {
                let good = Lines::stdout(endings.at_reader_gone());
                let good = good.context("print records on stdout")?;
                let bad = match lines::stdout_is_stderr() {
                    Ok(true) => Ok(good.as_well_as("stderr")),
                    Ok(false) | Err(_) => Lines::stderr(endings.at_reader_gone()),
                };
                let bad = bad.context("print bad rows on stderr")?;
                stderr::share(bad.printer());
                let [good, bad] = [good, bad].map(|it| Destination::Sink(Arc::new(it)));
                (good, Some(bad), None)
            }
        };
        let files: Arc<dyn Files> = Arc::new(Disk);
        let ports = Ports {
            good,
            bad,
            clock: Arc::new(SystemClock),
            files: Arc::clone(&files),
            data_dir: data_dir.clone(),
            disk_reserve_bytes: config.stream.disk_reserve,
        };
        let collector = collector::server::start_with(collector_config(config), ports)
            .context("start the collector")?;
        let reload = collector.reloader();
        endings.at_hang_up(move || Ok(reload()?));
        let account = Account {
            intake: Intake::of(&collector),
            raw: raw.clone(),
            files,
            data_dir,
            disk_reserve: config.stream.disk_reserve,
        };
        let admin = admin::start(&config.server, port, Arc::new(account))
            .context("serve health and metrics")?;
        Ok(CollectorAlone { collector, _beats: start_beats(config)?, admin, raw, folder })
    }

    /// The line that says that it answers.
    pub(crate) fn ready_line(&self) -> String {
        let (collector, admin) = (reachable(self.collector.address), reachable(self.admin.address));
        format!("ready collector={collector} admin={admin}")
    }

    /// Takes no new requests, answers those in flight, and sends what waits. What had to be left.
    pub(crate) fn stop(self) -> Drained {
        let CollectorAlone { collector, admin, raw, folder, .. } = self;
        let drained = collector.shutdown();
        drop(admin);
        raw.iter().for_each(|raw| raw.close());
        drop(folder);
        drained
    }
}

/// What health and metrics are made of.
#[derive(Debug)]
struct Account {
    intake: Intake,
    raw: Option<Arc<Local>>,
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    disk_reserve: Option<u64>,
}

impl Account {
    fn room(&self) -> io::Result<Room> {
        Room::of(&*self.files, &self.data_dir, self.disk_reserve)
    }
}

impl Admin for Account {
    fn health(&self) -> Health {
        health::check_alone(&self.intake, self.raw.as_deref(), self.room(), &self.data_dir)
    }

    fn metrics(&self) -> String {
        let (raw, health) = (self.raw.as_deref(), self.health());
        metrics::print_alone(&self.intake, raw, self.room(), &health)
    }
}
