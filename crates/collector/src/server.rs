//! Starts and stops the collector: its listener, its threads, and the drain at the end.
//!
//! The collector has a runtime of its own, so that a heavy query in the same process never delays an answer to a
//! tracker.

use crate::config::Config;
use crate::connection;
use crate::counters::Counters;
use crate::error::Error;
use crate::intake::Intake;
use crate::places::Places;
use model::time::Clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stream::Stream;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A collector that takes requests. Dropping it is [`Running::shutdown`] without the report.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one when `port` was 0.
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Drained>>,
}

/// How a collector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because they had not finished by the termination deadline. What they sent was not
    /// answered 200.
    pub connections_cut: usize,
}

/// Binds the address and begins to take requests. Records go to the partitions of `raw` in turn. Blocks only for a
/// moment; needs no runtime around it, and does not mind one.
///
/// # Errors
/// [`Error::Config`], [`Error::PortTaken`], [`Error::Listen`] and [`Error::Threads`]; then nothing runs.
pub fn start(
    config: Config,
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
) -> Result<Running, Error> {
    config.check()?;
    let wanted = SocketAddr::new(config.bind, config.port);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken(wanted),
        _ => Error::Listen { address: wanted, source },
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    let runtime = runtime.thread_name("collector").enable_all().build().map_err(Error::Threads)?;
    let (stop, stopped) = watch::channel(false);
    let intake = Arc::new(Intake::new(config, raw, clock));
    let counters = Arc::clone(&intake.counters);
    // The listener is made on the collector's own thread, since a runtime must not be entered from inside another.
    let (bound, listening) = std::sync::mpsc::channel();
    let run = move || {
        let drained = runtime.block_on(async {
            match bind(wanted).await {
                Ok((listener, address)) => {
                    let _ = bound.send(Ok(address));
                    run(listener, &intake, stopped).await
                }
                Err(error) => {
                    let _ = bound.send(Err(error));
                    Drained { connections_cut: 0 }
                }
            }
        });
        runtime.shutdown_background();
        drained
    };
    let thread = std::thread::Builder::new()
        .name("collector".to_owned())
        .spawn(run)
        .map_err(Error::Threads)?;
    let address =
        listening.recv().expect("the thread says what became of the listener").map_err(failed)?;
    Ok(Running { address, counters, stop, thread: Some(thread) })
}

impl Running {
    /// Stops accepting, closes idle connections, lets requests that are under way finish within
    /// `termination-deadline`, and cuts off the rest. Blocks until then; call it outside of async code.
    pub fn shutdown(mut self) -> Drained {
        self.stop_and_join()
    }

    fn stop_and_join(&mut self) -> Drained {
        let _ = self.stop.send(true);
        let Some(thread) = self.thread.take() else { return Drained { connections_cut: 0 } };
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

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Accepts until it is told to stop, then waits for the connections.
async fn run(
    listener: TcpListener,
    intake: &Arc<Intake>,
    mut stop: watch::Receiver<bool>,
) -> Drained {
    let places = Places::new(intake.config.networking.max_connections);
    let stopped = stop.clone();
    let accepting = accept(&listener, intake, &places, &stopped);
    tokio::select! {
        _ = stop.wait_for(|stopped| *stopped) => {}
        () = accepting => {}
    }
    drop(listener);
    intake.drain();
    let ended = tokio::time::timeout(intake.config.termination_deadline, places.all_free()).await;
    Drained { connections_cut: if ended.is_ok() { 0 } else { places.taken() } }
}

/// Never ends by itself. While all places are taken, one more connection waits here, and others in the system's queue.
async fn accept(
    listener: &TcpListener,
    intake: &Arc<Intake>,
    places: &Arc<Places>,
    stop: &watch::Receiver<bool>,
) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: have one closed.
                tracing::warn!(%error, "a connection could not be accepted");
                places.ask_for_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = places.take().await;
        // Answers are small and whole; there is nothing to wait for. A socket that refuses is served all the same.
        let _ = socket.set_nodelay(true);
        let (intake, stop) = (Arc::clone(intake), stop.clone());
        tokio::spawn(async move {
            connection::serve(socket, peer.ip(), &intake, stop, &place).await;
            drop(place);
        });
    }
}
