//! Health and metrics of a process that has no server: two addresses, answered as the API answers them and behind the
//! same guard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use tokio::sync::oneshot;

use crate::api::{answer_health, answer_metrics, guarded};
use crate::config::Config;
use crate::control::Health;
use crate::error::Error;
use crate::guard::Guard;
use crate::server::listen;

/// What the process says of itself.
pub trait Admin: Send + Sync {
    fn health(&self) -> Health;

    /// In Prometheus text form; each line ends with a line feed.
    fn metrics(&self) -> String;
}

/// A port that answers until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the port that was chosen.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Listens on `server.bind` with this port, and lets in whom the server would.
///
/// # Errors
/// An unsafe configuration; [`Error::PortTaken`] names address and key; [`Error::Listen`].
pub fn start(config: &Config, port: u16, admin: Arc<dyn Admin>) -> Result<Running, Error> {
    let guard = Arc::new(Guard::new(config.check()?, config.hosts.clone()));
    let (listener, address) = listen(SocketAddr::new(config.bind, port), "admin.port")?;
    let routes = Router::new().route("/health", get(health)).route("/metrics", get(metrics));
    let hints = ["there are /health and /metrics", "both take GET"];
    let routes = guarded(routes, guard, hints).with_state(admin);
    let failed = |source| Error::Listen { address, source };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::select! {
                served = axum::serve(listener, routes) => served,
                _ = stopped => Ok(()),
            }
        });
        if let Err(error) = served {
            tracing::error!(%error, "health and metrics have stopped");
        }
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(run).map_err(failed)?;
    Ok(Running { address, stop: Some(stop), thread: Some(thread) })
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Whether it panicked or not, it answers no more.
        self.thread.take().map(JoinHandle::join);
    }
}

async fn health(State(admin): State<Arc<dyn Admin>>) -> Response {
    answer_health(&admin.health())
}

async fn metrics(State(admin): State<Arc<dyn Admin>>) -> Response {
    answer_metrics(admin.metrics())
}
