//! How a process of roles comes to its end: a signal, or the panic of a role's thread; what SIGHUP does; the exit code.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};
use collector::server::Drained;
use tokio::signal::unix::{SignalKind, signal};

use crate::stderr::say;

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Asked,
    Panicked,
    /// Nobody reads any more what it prints.
    ReaderGone,
}

/// Waits for a signal, or for the panic of a role's thread.
pub(crate) struct Endings {
    endings: mpsc::Receiver<Ending>,
    sender: mpsc::Sender<Ending>,
    at_hang_up: Arc<Mutex<Vec<Reload>>>,
}

type Reload = Box<dyn Fn() -> Result<()> + Send>;

impl Endings {
    /// Watches from now on. A panic is still printed as usual.
    pub(crate) fn watch() -> Result<Endings> {
        let (sender, receiver) = mpsc::channel();
        let (on_panic, kept) = (sender.clone(), sender.clone());
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            // A panic while a statement is planned or run, or while a client of the Postgres wire is served, is contained:
            // the statement or the connection fails, and nothing else.
            if std::thread::current().name().is_some_and(|name| ["sql", "pg"].contains(&name)) {
                return;
            }
            // Nobody waits any more: the process is ending already.
            let _ = on_panic.send(Ending::Panicked);
        }));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        let (mut terminate, mut interrupt, mut hang_up) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::terminate()).context("watch for SIGTERM")?,
                signal(SignalKind::interrupt()).context("watch for Ctrl-C")?,
                signal(SignalKind::hangup()).context("watch for SIGHUP")?,
            )
        };
        let at_hang_up: Arc<Mutex<Vec<Reload>>> = Arc::default();
        let reload = Arc::clone(&at_hang_up);
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                        _ = hang_up.recv() => {
                            hung_up(&reload);
                            continue;
                        }
                    }
                    if sender.send(Ending::Asked).is_err() {
                        return;
                    }
                }
            });
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .context("start a thread")?;
        Ok(Endings { endings: receiver, sender: kept, at_hang_up })
    }

    /// From now on SIGHUP calls this as well; what fails is logged and changes nothing.
    pub(crate) fn at_hang_up(&self, reload: impl Fn() -> Result<()> + Send + 'static) {
        let mut all = self.at_hang_up.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Box::new(reload));
    }

    /// Ends the process because nobody reads what it prints.
    pub(crate) fn at_reader_gone(&self) -> impl Fn() + Send + 'static {
        let sender = self.sender.clone();
        move || {
            // Nobody waits any more: the process is ending already.
            let _ = sender.send(Ending::ReaderGone);
        }
    }

    /// Blocks until the process is to end.
    pub(crate) fn wait(&self) -> Ending {
        self.endings.recv().unwrap_or(Ending::Asked)
    }

    /// Whether the process is to end now.
    pub(crate) fn is_over(&self) -> Option<Ending> {
        self.endings.try_recv().ok()
    }
}

/// SIGHUP: a certificate was renewed, or a log moved away.
fn hung_up(reload: &Mutex<Vec<Reload>>) {
    let reload = reload.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all_well = true;
    for error in reload.iter().filter_map(|reload| reload().err()) {
        all_well = false;
        tracing::error!(error = format!("{error:#}"), "the certificate before stays in use");
    }
    if all_well {
        tracing::info!("the certificates were read again, the access log opened anew");
    }
}

/// Says on stderr what was left, if anything was.
pub(crate) fn exit_code(ending: Ending, drained: Drained) -> ExitCode {
    let Drained { connections_cut, records_left } = drained;
    if ending == Ending::Panicked {
        say("snowmelt: ended because a role panicked; the message above names the place");
        return ExitCode::from(70);
    }
    if ending == Ending::ReaderGone {
        say("snowmelt: ended because nobody reads any more what it prints");
    }
    if connections_cut > 0 {
        say(&format!(
            "snowmelt: {connections_cut} connections were cut at `collector.termination-deadline`: their last \
             requests were not answered"
        ));
    }
    if records_left > 0 {
        say(&format!(
            "snowmelt: {records_left} records are left: their sink had not confirmed them at \
             `collector.drain-deadline`. With `collector.durability.ack = \"spool\"` they are on disk and sent \
             after the next start with it"
        ));
    }
    let is_clean = ending == Ending::Asked && connections_cut == 0 && records_left == 0;
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
