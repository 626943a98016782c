//! The Postgres wire: psql, drivers and dashboards ask the same engine as the API does.
//!
//! [`serve`] takes connections; `connection` lets a client in; `session` answers it. One connection is one session, and
//! nothing is shared between two but the engine and its limits. The bytes are read and written by modules of our own
//! (`frame`, `encode`, `decode`), because they come from strangers: each length is bounded before it is believed.

mod calendar;
mod cancel;
mod command;
mod connection;
mod decode;
mod encode;
mod error;
mod frame;
mod number;
mod prepared;
mod scram;
mod session;
mod settings;
mod sqlstate;
mod tls;
mod types;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Secret};
use crate::error::Error;
use crate::meter::Meter;
use crate::sql::Engine;
use cancel::Registry;
use scram::Verifier;
pub(crate) use settings::version;
pub(crate) use tls::Certificate;

/// Connections that were not let in yet; further ones are closed.
const HANDSHAKES_MAX: usize = 64;

/// How long a client has to be let in.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the connections share.
pub(crate) struct Door {
    engine: Arc<Engine>,
    meter: Arc<Meter>,
    verifier: Option<Verifier>,
    tls: Option<Arc<Certificate>>,
    registry: Arc<Registry>,
    handshakes: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    sessions_max: usize,
    statement_timeout: Duration,
    idle_timeout: Duration,
}

impl Door {
    /// Reads the certificate, and makes the verifier of the password.
    ///
    /// # Errors
    /// [`Error::Tls`]; [`Error::Engine`] when the system has no randomness.
    pub(crate) fn new(
        config: &Config,
        password: Option<&Secret>,
        engine: Arc<Engine>,
        meter: Arc<Meter>,
    ) -> Result<Door, Error> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificates), Some(key)) => {
                Some(Arc::new(Certificate::read(certificates, key)?))
            }
            _ => None,
        };
        let verifier = match password {
            None => None,
            Some(password) => {
                let verifier = Verifier::new(password);
                Some(verifier.ok_or_else(|| Error::Engine("no randomness".to_owned()))?)
            }
        };
        Ok(Door {
            engine,
            meter,
            verifier,
            tls,
            registry: Arc::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            sessions: Arc::new(Semaphore::new(config.pg_connections)),
            sessions_max: config.pg_connections,
            statement_timeout: config.statement_timeout,
            idle_timeout: config.pg_idle_timeout,
        })
    }

    /// What new connections are encrypted with, if there is a certificate.
    pub(crate) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.tls.clone()
    }
}

/// Takes connections until it is told to stop; then lets running statements end within the deadline it is told.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    door: Arc<Door>,
    mut stopped: watch::Receiver<Option<Duration>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let watching = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Beyond it, a stranger could hold as many sockets as there are.
                    let Ok(place) = Arc::clone(&door.handshakes).try_acquire_owned() else { continue };
                    let (door, stopped) = (Arc::clone(&door), watching.clone());
                    connections.spawn(connection::run(stream, door, place, stopped));
                }
                Err(error) => {
                    // Out of sockets, most likely: those that end give some back.
                    tracing::warn!(%error, "cannot take a connection of the Postgres wire");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told_to_stop(&mut stopped) => break,
        }
    }
    let deadline = stopped.borrow().unwrap_or_default();
    let ending = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(deadline, ending).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// Ends when the server is told to stop, or its handle was dropped.
async fn told_to_stop(stopped: &mut watch::Receiver<Option<Duration>>) {
    let _ = stopped.wait_for(Option::is_some).await;
}

/// What `current_setting` answers: the value that a session begins with.
pub(crate) fn default_setting(name: &str) -> Option<String> {
    let settings = settings::Settings::new(crate::catalogue::USER, Duration::ZERO);
    settings.show(name).ok().map(|(_, value)| value)
}
