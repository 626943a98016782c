//! Starts and stops the collector: its listeners, its threads, and the drain at the end.
//!
//! The collector has a runtime of its own, so that a heavy query in the same process never delays an answer to a
//! tracker. The end has an order (Snowplow: `collector.md` 7.8): go on for a while so that a balancer notices, close the
//! ports, answer what is under way, send what waits for a sink, count what is left.

use crate::access_log::AccessLog;
use crate::config::{Ack, Config};
use crate::connection;
use crate::counters::Counters;
use crate::error::Error;
use crate::health_port::HealthPort;
use crate::intake::{Intake, Stores};
use crate::meter::Meter;
use crate::oversized::{self, Keeper};
use crate::places::{Place, Places};
use crate::sink::spool::{self, Left};
use crate::sink::store::{Destination, Ground, Store};
use crate::statsd::Reporter;
use crate::tls::Tls;
use model::files::Files;
use model::time::Clock;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stream::Stream;
use stream::disk::Disk;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// A collector that takes requests. Dropping it is [`Running::shutdown`] without the report.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one when `port` was 0. That of HTTPS with `ssl.only`.
    pub address: SocketAddr,
    /// Where it listens for HTTPS, if it does.
    pub https: Option<SocketAddr>,
    /// The health port, if there is one.
    pub health: Option<SocketAddr>,
    pub counters: Arc<Counters>,
    pub meter: Arc<Meter>,
    /// The way of good records, for its numbers.
    pub good: Arc<Store>,
    /// The way of bad rows, where it is another.
    pub bad: Option<Arc<Store>>,
    tls: Option<Arc<Tls>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Drained>>,
}

/// What a collector is given besides its configuration.
#[derive(Clone, Debug)]
pub struct Ports {
    pub good: Destination,
    /// Where bad rows go; `None` means beside the records that they came with, as in the embedded log.
    pub bad: Option<Destination>,
    pub clock: Arc<dyn Clock>,
    /// The disk of the spool.
    pub files: Arc<dyn Files>,
    /// Where `spool/` and `oversized/` lie, unless the configuration names other folders.
    pub data_dir: PathBuf,
    /// Free space that the spool leaves to others; as [`stream::local::Options::disk_reserve_bytes`].
    pub disk_reserve_bytes: Option<u64>,
}

/// How a collector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because they had not finished by the termination deadline. What they sent was not
    /// answered 200.
    pub connections_cut: usize,
    /// Records that a sink had not confirmed by the drain deadline. With `durability.ack = "spool"` they are on disk and
    /// will be sent after the next start; with `sink` they were not answered 200; with `buffer` they are lost.
    pub records_left: u64,
}

/// Starts a collector whose records go to the embedded log `raw`, the partitions in turn. See [`start_with`].
///
/// # Errors
/// As [`start_with`].
pub fn start(
    config: Config,
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
) -> Result<Running, Error> {
    let ports = Ports {
        good: Destination::Log(raw),
        bad: None,
        clock,
        files: Arc::new(Disk),
        data_dir: PathBuf::from("."),
        disk_reserve_bytes: None,
    };
    start_with(config, ports)
}

/// Binds the addresses and begins to take requests. Blocks only for a moment; needs no runtime around it, and does not
/// mind one.
///
/// # Errors
/// What keeps it from starting, by name; then nothing runs.
pub fn start_with(mut config: Config, ports: Ports) -> Result<Running, Error> {
    config.check()?;
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let tls = config.ssl.enable.then(|| Tls::load(&config.ssl)).transpose()?.map(Arc::new);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    let runtime = runtime.thread_name("collector").enable_all().build().map_err(Error::Threads)?;
    let (stop, stopped) = watch::channel(false);
    let kind = ports.good.kind().to_owned();
    let (good, bad) = open_stores(&config, ports.clone(), runtime.handle())?;
    let meter = Arc::new(open_meter(&config)?);
    let statsd = &config.monitoring.metrics.statsd;
    let reporter = statsd
        .enabled
        .then(|| Reporter::start(statsd.clone(), Arc::clone(&meter)))
        .transpose()
        .map_err(Error::Statsd)?;
    let doors = Doors::bind(&config, tls.clone())?;
    // Redirects name the port, so it must be the real one.
    config.ssl.port = doors.https.as_ref().map_or(config.ssl.port, |door| door.address.port());
    let counters: Arc<Counters> = Arc::default();
    let oversized = config.oversized.keep.then(|| {
        let dir = config.oversized.dir.clone();
        let dir = dir.unwrap_or_else(|| oversized::default_dir(&ports.data_dir));
        let counters = Arc::clone(&counters);
        let reserve = ports.disk_reserve_bytes;
        Keeper::open(ports.files, dir.clone(), config.oversized.max_bytes, reserve, counters)
            .map_err(|source| Error::Oversized { dir, source })
    });
    let oversized = oversized.transpose()?;
    let stores = Stores { kind, good: good.clone(), bad: bad.clone(), oversized };
    let intake =
        Arc::new(Intake::over(config, stores, Arc::clone(&counters), meter.clone(), ports.clock));
    let config = &intake.config;
    let health = config.health.port.map(|port| {
        let wanted = SocketAddr::new(config.bind, port);
        HealthPort::start(wanted, Arc::clone(&intake)).map_err(|error| cannot_listen(wanted, error))
    });
    let health = health.transpose()?;
    let (address, https) = (doors.address(), doors.https.as_ref().map(|door| door.address));
    let health_address = health.as_ref().map(|port| port.address);
    // The listeners are entered on the collector's own thread, since a runtime must not be entered from inside another.
    let run = move || {
        let drained = runtime.block_on(run(doors, &intake, stopped));
        runtime.shutdown_background();
        drop((health, reporter));
        drained
    };
    let thread = std::thread::Builder::new()
        .name("collector".to_owned())
        .spawn(run)
        .map_err(Error::Threads)?;
    let (health, thread) = (health_address, Some(thread));
    Ok(Running { address, https, health, counters, meter, good, bad, tls, stop, thread })
}

fn open_stores(
    config: &Config,
    ports: Ports,
    runtime: &tokio::runtime::Handle,
) -> Result<(Arc<Store>, Option<Arc<Store>>), Error> {
    let ground = Ground {
        clock: ports.clock,
        runtime: runtime.clone(),
        files: ports.files,
        spool_dir: spool::default_dir(&ports.data_dir),
        disk_reserve_bytes: ports.disk_reserve_bytes,
        bytes_max: config.memory.max_in_flight_bytes,
    };
    let open = |name: &str, to, sink| {
        Store::open(name, to, &config.durability, sink, &ground).map(Arc::new).map_err(Error::Spool)
    };
    let mut opened = Vec::new();
    if config.durability.ack == Ack::Spool {
        opened.push(ports.good.spool_name("good"));
        opened.extend(ports.bad.as_ref().map(|bad| bad.spool_name("bad")));
    }
    let good = open("good", ports.good, &config.streams.good)?;
    let bad = ports.bad.map(|bad| open("bad", bad, &config.streams.bad)).transpose()?;
    for Left { folder, holds } in ground.left_behind(&config.durability, &opened) {
        tracing::error!(
            spool = %folder.display(),
            holds,
            "a spool that is not in use may hold what was answered 200 and is not with its sink; start with \
             `collector.durability.ack = \"spool\"` and the sink of then to send it, or move the folder away"
        );
    }
    Ok((good, bad))
}

fn open_meter(config: &Config) -> Result<Meter, Error> {
    let log = &config.access_log;
    let log = log.enabled.then(|| AccessLog::open(log.file.as_deref())).transpose();
    let log = log.map_err(|source| Error::AccessLog { source })?;
    Ok(Meter::new(config.monitoring.metrics.statsd.enabled, log))
}

impl Running {
    /// Ends it in order; see the module. Blocks until then, at most for `pre-termination-period`,
    /// `termination-deadline` and `drain-deadline` together; call it outside of async code.
    pub fn shutdown(mut self) -> Drained {
        self.stop_and_join()
    }

    /// What SIGHUP does: has the file of the access log opened again, and reads certificate and key again, which new
    /// connections get. What is not switched on is left out.
    ///
    /// # Errors
    /// [`Error::Tls`]; then the certificate before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        self.reloader()()
    }

    /// What [`Running::reload`] does, for a thread that outlives this value.
    pub fn reloader(&self) -> impl Fn() -> Result<(), Error> + Send + 'static {
        let (tls, meter) = (self.tls.clone(), Arc::clone(&self.meter));
        move || {
            meter.reopen_log();
            tls.as_ref().map_or(Ok(()), |tls| tls.reload())
        }
    }

    fn stop_and_join(&mut self) -> Drained {
        let _ = self.stop.send(true);
        let nothing = Drained { connections_cut: 0, records_left: 0 };
        let Some(thread) = self.thread.take() else { return nothing };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop_and_join();
        }
    }
}

/// Where requests come in.
struct Doors {
    plain: Option<Door>,
    https: Option<Door>,
}

struct Door {
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl Doors {
    fn bind(config: &Config, tls: Option<Arc<Tls>>) -> Result<Doors, Error> {
        let bind = |port, tls| Door::bind(SocketAddr::new(config.bind, port), tls);
        let https = tls.map(|tls| bind(config.ssl.port, Some(tls))).transpose()?;
        let plain = (!config.ssl.only).then(|| bind(config.port, None)).transpose()?;
        Ok(Doors { plain, https })
    }

    fn address(&self) -> SocketAddr {
        let door = self.plain.as_ref().or(self.https.as_ref());
        door.expect("`ssl.only` wants `ssl.enable`, so one of both is open").address
    }
}

impl Door {
    fn bind(wanted: SocketAddr, tls: Option<Arc<Tls>>) -> Result<Door, Error> {
        let bind = || {
            let listener = std::net::TcpListener::bind(wanted)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Door { listener, address, tls })
        };
        bind().map_err(|error| cannot_listen(wanted, error))
    }
}

fn cannot_listen(address: SocketAddr, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken(address),
        _ => Error::Listen { address, source },
    }
}

/// Accepts until it is told to stop, then ends everything in order.
async fn run(doors: Doors, intake: &Arc<Intake>, mut stop: watch::Receiver<bool>) -> Drained {
    let config = &intake.config;
    let places = Places::new(config.networking.max_connections);
    let (close, closing) = watch::channel(false);
    let accepting = async {
        let door = |door| accept(door, intake, &places, &closing);
        tokio::join!(door(doors.plain), door(doors.https));
    };
    let ending = async {
        // An error means that nobody will ever say it.
        let _ = stop.wait_for(|stopped| *stopped).await;
        intake.leave();
        tokio::time::sleep(config.pre_termination_period).await;
    };
    tokio::select! {
        () = ending => {}
        () = accepting => {}
    }
    intake.drain();
    let _ = close.send(true);
    let ended = tokio::time::timeout(config.termination_deadline, places.all_free()).await;
    let connections_cut = if ended.is_ok() { 0 } else { places.taken() };
    let records_left = intake.drain_sinks(Instant::now() + config.drain_deadline).await;
    Drained { connections_cut, records_left }
}

/// Never ends by itself. While all places are taken, one more connection waits here, and others in the system's queue.
async fn accept(
    door: Option<Door>,
    intake: &Arc<Intake>,
    places: &Arc<Places>,
    closing: &watch::Receiver<bool>,
) {
    let Some(Door { listener, tls, address }) = door else { return std::future::pending().await };
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "no connections can be accepted");
            return std::future::pending().await;
        }
    };
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: have one closed.
                tracing::warn!(%error, "a connection could not be accepted");
                places.ask();
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = places.take().await;
        // Answers are small and whole; there is nothing to wait for. A socket that refuses is served all the same.
        let _ = socket.set_nodelay(true);
        let (intake, closing) = (Arc::clone(intake), closing.clone());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            match acceptor {
                None => connection::serve(socket, peer.ip(), &intake, closing, &place).await,
                Some(acceptor) => {
                    serve_tls(&acceptor, socket, peer.ip(), &intake, closing, &place).await;
                }
            }
            drop(place);
        });
    }
}

async fn serve_tls(
    acceptor: &tokio_rustls::TlsAcceptor,
    socket: TcpStream,
    peer: IpAddr,
    intake: &Intake,
    closing: watch::Receiver<bool>,
    place: &Place,
) {
    let patience = intake.config.networking.header_read_timeout;
    // A handshake that others wait for gives up its place like a connection without a request.
    let handshake = async {
        tokio::select! {
            biased;
            done = acceptor.accept(socket) => Some(done),
            () = place.given_up() => None,
        }
    };
    match tokio::time::timeout(patience, handshake).await {
        Ok(Some(Ok(stream))) => {
            // The state of a TLS connection is large; it lies on the heap.
            Box::pin(connection::serve_over(stream, peer, intake, closing, place, true)).await;
        }
        Ok(Some(Err(error))) => tracing::debug!(%peer, %error, "no TLS connection came about"),
        Ok(None) | Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}
