//! `/health` and `/sink-health` on a port of their own: one thread that does nothing else, so that a probe is answered
//! in milliseconds while every connection of the main port is taken and every core is busy.
//!
//! An autoscaler that gets a slow answer kills a node that only has much to do. What is answered is the same as on the
//! main port; this file knows just enough HTTP for it. Each answer closes its connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use crate::intake::Intake;
use crate::response::{After, Printing};

/// Probes at a time; others wait.
const PROBES_MAX: usize = 64;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A probe's head is short.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The port, until it is dropped.
#[derive(Debug)]
pub(crate) struct HealthPort {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HealthPort {
    /// # Errors
    /// Those of listening and of starting a thread.
    pub(crate) fn start(wanted: SocketAddr, intake: Arc<Intake>) -> io::Result<HealthPort> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind(wanted)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                let accepting = async {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => accept(&listener, &intake).await,
                        Err(error) => tracing::error!(%error, "the health port does not work"),
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = accepting => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(run)?;
        Ok(HealthPort { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for HealthPort {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Whether it panicked or not, it answers no more.
        self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: &TcpListener, intake: &Arc<Intake>) {
    let free = Arc::new(Semaphore::new(PROBES_MAX));
    loop {
        let permit =
            Arc::clone(&free).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let intake = Arc::clone(intake);
        tokio::spawn(async move {
            // A probe that breaks off has no answer to get.
            let _ = tokio::time::timeout(PROBE_TIMEOUT, answer(socket, &intake)).await;
            drop(permit);
        });
    }
}

async fn answer(mut socket: TcpStream, intake: &Intake) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || socket.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let (config, now) = (&intake.config, intake.now());
    let printing = Printing { config, now, after: After::Close, head_only: method == b"HEAD" };
    let mut answer = Vec::new();
    match (method, path) {
        (b"GET" | b"HEAD", b"/health") => printing.health(&mut answer, intake.is_healthy()),
        (b"GET" | b"HEAD", b"/sink-health") => {
            printing.health(&mut answer, intake.sinks_are_healthy());
        }
        _ => printing.not_found(&mut answer),
    }
    socket.write_all(&answer).await?;
    socket.shutdown().await
}
