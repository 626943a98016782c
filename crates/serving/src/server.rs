//! Starts and stops the server: a thread for HTTP, some for the Postgres wire, and the engine's own for SQL.
//!
//! The binary calls [`start`] once. Whoever starts it ends it with [`Running::shutdown`]; nothing is left behind then.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::cut::Cut;
use model::files::Files;
use tokio::sync::watch;
use views::lambda::Lambda;

use crate::api::{Api, router};
use crate::config::Config;
use crate::control::Control;
use crate::error::Error;
use crate::guard::Guard;
use crate::meter::Meter;
use crate::pg::{self, Door};
use crate::sql::{Engine, Limits, Sources};

/// What the server works with.
#[derive(Clone)]
pub struct Ports {
    pub lambda: Arc<Lambda>,
    pub control: Arc<dyn Control>,
    pub files: Arc<dyn Files>,
    pub data_dir: PathBuf,
    /// The ends of the raw stream's partitions; must be quick.
    pub raw_ends: Arc<dyn Fn() -> Cut + Send + Sync>,
    /// Older generations that can be asked.
    pub generations_kept: u64,
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    /// Where the API listens, with the port that was chosen.
    pub http: SocketAddr,
    /// The same of the Postgres wire.
    pub pg: SocketAddr,
    certificate: Option<Arc<pg::Certificate>>,
    stop: watch::Sender<Option<Duration>>,
    ended: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

/// Threads of the Postgres wire: they read messages and write rows, and run no statement.
const PG_THREADS: usize = 2;

/// Checks the configuration, listens, and answers from then on.
///
/// # Errors
/// An unsafe configuration; [`Error::PortTaken`] names address and key; [`Error::Listen`]; [`Error::Tls`];
/// [`Error::Engine`].
pub fn start(config: &Config, ports: Ports) -> Result<Running, Error> {
    let password = config.check()?;
    let (listener, http) =
        listen(SocketAddr::new(config.bind, config.http_port), "server.http-port")?;
    let (pg_listener, pg) = listen(SocketAddr::new(config.bind, config.pg_port), "server.pg-port")?;
    let sources = Sources {
        lambda: ports.lambda.clone(),
        files: ports.files,
        data_dir: ports.data_dir,
        raw_ends: ports.raw_ends,
        generations_kept: ports.generations_kept,
    };
    let engine = Arc::new(Engine::start(sources, limits(config))?);
    let meter = Arc::new(Meter::default());
    let door = Door::new(config, password.as_ref(), Arc::clone(&engine), Arc::clone(&meter))?;
    let certificate = door.certificate();
    let guard = Arc::new(Guard::new(password, config.hosts.clone()));
    let api = Arc::new(Api { engine, lambda: ports.lambda, control: ports.control, guard, meter });
    let (stop, stopped) = watch::channel(None);
    let (end, ended) = mpsc::channel();
    let http_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Listen { address: http, source })?;
    let pg_runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(PG_THREADS)
        .thread_name("pg")
        .enable_all()
        .build()
        .map_err(|source| Error::Listen { address: pg, source })?;
    let serving_http = run("server", http_runtime, serve(listener, api, stopped.clone()), &end)?;
    let serving_pg = run("pg", pg_runtime, pg::serve(pg_listener, Arc::new(door), stopped), &end)?;
    Ok(Running { http, pg, certificate, stop, ended, threads: vec![serving_http, serving_pg] })
}

/// A thread that serves until it is told to stop, and says when it has ended.
fn run(
    name: &'static str,
    runtime: tokio::runtime::Runtime,
    serving: impl Future<Output = io::Result<()>> + Send + 'static,
    end: &mpsc::Sender<()>,
) -> Result<JoinHandle<()>, Error> {
    let end = end.clone();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(serving) {
            tracing::error!(%error, "the {name} has stopped");
        }
        runtime.shutdown_background();
        // Nobody may be waiting.
        let _ = end.send(());
    });
    thread.map_err(|error| Error::Engine(format!("start a thread: {error}")))
}

impl Running {
    /// Reads the certificate of the Postgres wire again, which new connections get. For a thread that outlives this
    /// value; without a certificate it does nothing. What it calls fails with [`Error::Tls`], and the certificate before
    /// stays in use.
    pub fn reloader(&self) -> impl Fn() -> Result<(), Error> + Send + 'static {
        let certificate = self.certificate.clone();
        move || certificate.as_ref().map_or(Ok(()), |certificate| certificate.reload())
    }

    /// Takes no new requests, lets those that run end within `deadline`, cancels the rest. Blocks; true when nothing had
    /// to be cancelled.
    pub fn shutdown(mut self, deadline: Duration) -> bool {
        let started = std::time::Instant::now();
        self.stop.send_replace(Some(deadline));
        // A handler that never yields must not keep the process.
        let patience = deadline + Duration::from_secs(5);
        let ended = self
            .threads
            .iter()
            .all(|_| self.ended.recv_timeout(patience.saturating_sub(started.elapsed())).is_ok());
        if ended {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        ended && started.elapsed() < deadline
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        timeout: config.statement_timeout,
        rows: config.row_limit,
        memory_bytes: config.memory_limit,
        spill_bytes: config.spill_limit,
        running: config.statements,
        waiting: config.statements_waiting,
    }
}

/// A listener, and the address with the port that was chosen.
pub(crate) fn listen(
    address: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { address, key },
        _ => failed(source),
    })?;
    listener.set_nonblocking(true).map_err(failed)?;
    let chosen = listener.local_addr().map_err(failed)?;
    Ok((listener, chosen))
}

async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    mut stopped: watch::Receiver<Option<Duration>>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut asked = stopped.clone();
    let stop_intake = async move {
        // An error means that the handle was dropped: then we stop, too.
        let _ = asked.wait_for(Option::is_some).await;
    };
    let serving = axum::serve(listener, router(api)).with_graceful_shutdown(stop_intake);
    let overdue = async move {
        let deadline = match stopped.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        };
        tokio::time::sleep(deadline).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}
