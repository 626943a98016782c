//! One client after it was let in: its messages in order, each answered before the next is read.
//!
//! A statement that runs can be ended by a cancel, by its time limit, or by the client going away; the engine stops it
//! in each case. Rows are written as they come, so that a slow client slows its statement and no answer is kept whole.

mod commands;
mod extended;
mod running;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BufMut;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cancel::Place;
use super::command::{self, Command};
use super::encode::Format;
use super::error::Refusal;
use super::frame::{MESSAGE_BYTES_MAX, Message, Target, put, put_text};
use super::prepared::{Cursor, Portal, Prepared, columns, put_columns};
use super::settings::Settings;
use super::sqlstate;
use super::wire::{Ended, Wire};
use super::{Door, told_to_stop};
use crate::error::Error;
use crate::statement;
use commands::refused;
use running::{guard, open, tag};

/// A client's session.
pub(crate) struct Session {
    door: Arc<Door>,
    wire: Wire,
    place: Place,
    settings: Settings,
    transaction: Transaction,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    /// After an error, messages are passed over until Sync.
    is_skipping: bool,
    /// Messages were answered whose Sync is still to come.
    is_amid: bool,
}

/// Nothing is ever written, so that a transaction is only what the client believes it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

impl Session {
    pub(crate) fn new(door: Arc<Door>, wire: Wire, place: Place, settings: Settings) -> Session {
        Session {
            door,
            wire,
            place,
            settings,
            transaction: Transaction::None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            is_skipping: false,
            is_amid: false,
        }
    }

    /// Answers until the client leaves, is refused, idles too long, or the server stops.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<Option<Duration>>) {
        let ended = loop {
            let idle_timeout = self.door.idle_timeout;
            let message = tokio::select! {
                biased;
                // Not in the midst of a statement: its answer is not whole before Sync.
                () = told_to_stop(&mut stopped), if !self.is_amid => {
                    let message = "terminating connection due to administrator command";
                    break Refusal::fatal(sqlstate::ADMIN_SHUTDOWN, message).into();
                }
                message = timeout(idle_timeout, self.wire.message(MESSAGE_BYTES_MAX)) => message,
            };
            let handled = match message {
                Ok(Ok(Message::Terminate)) => break Ended::Gone,
                Ok(Ok(message)) => self.handle(message).await,
                Ok(Err(ended)) => Err(ended),
                Err(_) => {
                    let message = "terminating connection due to idle-session timeout";
                    let hint = "`server.pg-idle-timeout` is the limit";
                    break Refusal::fatal(sqlstate::IDLE_SESSION_TIMEOUT, message)
                        .hint(hint)
                        .into();
                }
            };
            if let Err(ended) = handled {
                break ended;
            }
        };
        self.wire.close(ended).await;
    }

    async fn handle(&mut self, message: Message) -> Result<(), Ended> {
        self.is_amid = true;
        if self.is_skipping && !matches!(message, Message::Sync) {
            return Ok(());
        }
        let done = match message {
            Message::Query(text) => return self.query(&text).await,
            Message::Sync => return self.sync().await,
            Message::Flush => return self.wire.flush().await,
            Message::Copy | Message::Terminate => return Ok(()),
            Message::Password(_) => {
                let message = "a password was sent where none is asked for";
                return Err(Refusal::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
            }
            Message::FunctionCall => {
                refused("the function call protocol").put(&mut self.wire.outgoing);
                self.put_ready();
                return self.wire.flush().await;
            }
            Message::Parse { name, sql, types } => self.parse(name, &sql, &types).await,
            Message::Bind(bind) => self.bind(bind).map_err(Ended::from),
            Message::Describe(target) => self.describe(&target).map_err(Ended::from),
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                put(&mut self.wire.outgoing, b'3', |_| {});
                Ok(())
            }
        };
        match done {
            Err(Ended::Refused(refusal)) if !refusal.is_fatal => {
                self.fail(&refusal);
                self.is_skipping = true;
            }
            done => done?,
        }
        // A client may send a thousand of these before it reads: the answers are not piled up, and others get their turn.
        self.wire.flush_if_much().await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Tells an error; a transaction has failed by it.
    fn fail(&mut self, refusal: &Refusal) {
        refusal.put(&mut self.wire.outgoing);
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    async fn sync(&mut self) -> Result<(), Ended> {
        self.is_skipping = false;
        if self.transaction == Transaction::None {
            // A portal lives as long as its transaction.
            self.portals.clear();
        }
        self.put_ready();
        self.wire.flush().await
    }

    fn put_ready(&mut self) {
        self.is_amid = false;
        let status = match self.transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        };
        put(&mut self.wire.outgoing, b'Z', |body| body.put_u8(status));
    }

    fn put_complete(&mut self, tag: &str) {
        put(&mut self.wire.outgoing, b'C', |body| put_text(body, tag));
    }

    /// A text with any number of statements; the first error ends it.
    async fn query(&mut self, text: &str) -> Result<(), Ended> {
        // As PostgreSQL does: the unnamed ones belong to the other protocol.
        self.statements.remove("");
        self.portals.remove("");
        let done = self.run_all(text).await;
        match done {
            Err(Ended::Refused(refusal)) if !refusal.is_fatal => self.fail(&refusal),
            Err(ended) => return Err(ended),
            Ok(()) => {}
        }
        if self.transaction == Transaction::None {
            self.portals.clear();
        }
        self.put_ready();
        self.wire.flush().await
    }

    async fn run_all(&mut self, text: &str) -> Result<(), Ended> {
        if text.len() > statement::BYTES_MAX {
            return Err(Refusal::from(Error::StatementTooLong(statement::BYTES_MAX)).into());
        }
        let statements = command::split(text);
        if statements.is_empty() {
            put(&mut self.wire.outgoing, b'I', |_| {});
        }
        for statement in statements {
            let command = Command::of(statement);
            self.expect_no_failure(&command)?;
            match command {
                Command::Query(sql) => {
                    let cancellable = self.place.begin();
                    let started = Instant::now();
                    let request = self.request(sql.clone());
                    let opening = open(&self.door, request);
                    let opened = guard(&mut self.wire, &cancellable, opening).await?;
                    let rows = self.measured(opened, started)?;
                    let columns = columns(rows.names.clone(), &rows.schema);
                    put_columns(&mut self.wire.outgoing, &columns, &[]);
                    let mut cursor = Cursor { rows, rest: None };
                    let formats = vec![Format::Text; columns.len()];
                    let sent = self
                        .send(&mut cursor, &columns, &formats, u64::MAX, &cancellable, started)
                        .await?;
                    self.put_complete(&tag(&sql, sent.rows));
                }
                command => {
                    if let Some(columns) = self.columns_of(&command)? {
                        put_columns(&mut self.wire.outgoing, &columns, &[]);
                    }
                    self.command(&command)?;
                }
            }
        }
        Ok(())
    }
}
