//! Starts and stops the server: a thread for HTTP, and the engine's own threads for SQL.
//!
//! The binary calls [`start`] once. Whoever starts it ends it with [`Running::shutdown`]; nothing is left behind then.

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
    stop: watch::Sender<Option<Duration>>,
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Checks the configuration, listens, and answers from then on.
///
/// # Errors
/// An unsafe configuration; [`Error::PortTaken`] names address and key; [`Error::Listen`]; [`Error::Engine`].
pub fn start(config: &Config, ports: Ports) -> Result<Running, Error> {
    let password = config.check()?;
    let listener = listen(SocketAddr::new(config.bind, config.http_port))?;
    let http = listener.local_addr().map_err(|source| Error::Listen {
        address: SocketAddr::new(config.bind, config.http_port),
        source,
    })?;
    let failed = |source| Error::Listen { address: http, source };
    let sources = Sources {
        lambda: ports.lambda.clone(),
        files: ports.files,
        data_dir: ports.data_dir,
        raw_ends: ports.raw_ends,
        generations_kept: ports.generations_kept,
    };
    let engine = Engine::start(sources, limits(config))?;
    let guard = Guard::new(password, config.hosts.clone());
    let api = Arc::new(Api {
        engine,
        lambda: ports.lambda,
        control: ports.control,
        guard,
        meter: Meter::default(),
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopped) = watch::channel(None);
    let (end, ended) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, api, stopped)) {
                tracing::error!(%error, "the API has stopped");
            }
            runtime.shutdown_background();
            // Nobody may be waiting.
            let _ = end.send(());
        })
        .map_err(failed)?;
    Ok(Running { http, stop, ended, thread: Some(thread) })
}

impl Running {
    /// Takes no new requests, lets those that run end within `deadline`, cancels the rest. Blocks; true when nothing had
    /// to be cancelled.
    pub fn shutdown(mut self, deadline: Duration) -> bool {
        let started = std::time::Instant::now();
        self.stop.send_replace(Some(deadline));
        // A handler that never yields must not keep the process.
        let ended = self.ended.recv_timeout(deadline + Duration::from_secs(5)).is_ok();
        if ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
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

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { address },
        _ => Error::Listen { address, source },
    })?;
    listener.set_nonblocking(true).map_err(|source| Error::Listen { address, source })?;
    Ok(listener)
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
