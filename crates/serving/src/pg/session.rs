//! One client after it was let in: its messages in order, each answered before the next is read.
//!
//! A statement that runs can be ended by a cancel, by its time limit, or by the client going away; the engine stops it
//! in each case. Rows are written as they come, so that a slow client slows its statement and no answer is kept whole.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BufMut;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cancel::{Cancellable, Place};
use super::command::{self, Command};
use super::decode::{Parameter, unknown_type};
use super::encode::{self, Format};
use super::error::Refusal;
use super::frame::{Bind, MESSAGE_BYTES_MAX, Message, Target, put, put_text};
use super::prepared::{
    Column, Cursor, PORTALS_MAX, Portal, Prepared, Progress, STATEMENTS_MAX, columns, formats,
    put_columns, put_parameters,
};
use super::settings::Settings;
use super::sqlstate;
use super::types::ColumnType;
use super::wire::{Ended, Wire};
use super::{Door, told_to_stop};
use crate::error::Error;
use crate::sql::{Request, Rows};
use crate::statement;

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
                Ok(())
            }
            done => done,
        }
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

    fn request(&self, sql: String) -> Request {
        Request {
            sql,
            timeout: self.settings.timeout(),
            search_path: self.settings.search_path(),
            ..Request::default()
        }
    }

    /// Counts a statement that did not come to run.
    fn measured<T>(&self, result: Result<T, Refused>, started: Instant) -> Result<T, Refusal> {
        result.map_err(|refused| {
            self.door.meter.ended(refused.word, 0, started.elapsed());
            refused.refusal
        })
    }

    /// Writes rows up to a number of them.
    async fn send(
        &mut self,
        cursor: &mut Cursor,
        columns: &[Column],
        formats: &[Format],
        rows_max: u64,
        cancellable: &Cancellable,
        started: Instant,
    ) -> Result<Sent, Ended> {
        let shown: Vec<(ColumnType, Format)> =
            columns.iter().zip(formats).map(|(column, format)| (column.of, *format)).collect();
        let mut rows = 0u64;
        while rows < rows_max {
            let batch = match cursor.rest.take() {
                Some(batch) => batch,
                None => {
                    let next = next(&mut cursor.rows);
                    let next = guard(&mut self.wire, cancellable, next).await?;
                    match self.measured(next, started)? {
                        Some(batch) => batch,
                        None => {
                            self.door.meter.ended("ok", rows, started.elapsed());
                            return Ok(Sent { rows, is_all: true });
                        }
                    }
                }
            };
            let count = (rows_max - rows).min(batch.num_rows() as u64) as usize;
            if count < batch.num_rows() {
                cursor.rest = Some(batch.slice(count, batch.num_rows() - count));
            }
            encode::rows(&mut self.wire.outgoing, &batch.slice(0, count), &shown)
                .map_err(|error| Refusal::new(sqlstate::NUMERIC_OUT_OF_RANGE, error.to_string()))?;
            rows += count as u64;
            self.wire.flush_if_much().await?;
        }
        Ok(Sent { rows, is_all: false })
    }

    async fn parse(&mut self, name: String, sql: &str, types: &[u32]) -> Result<(), Ended> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal::new(sqlstate::DUPLICATE_PREPARED_STATEMENT, message).into());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            let message = format!("a session may have {STATEMENTS_MAX} prepared statements");
            let refusal = Refusal::new(sqlstate::PROGRAM_LIMIT_EXCEEDED, message);
            return Err(refusal.hint("DEALLOCATE those that are not used").into());
        }
        if sql.len() > statement::BYTES_MAX {
            return Err(Refusal::from(Error::StatementTooLong(statement::BYTES_MAX)).into());
        }
        let prepared = match command::split(sql)[..] {
            [] => Prepared { command: None, parameters: Vec::new(), columns: None },
            [one] => self.prepare(Command::of(one), types).await?,
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Refusal::new(sqlstate::SYNTAX_ERROR, message).into());
            }
        };
        self.statements.insert(name, Arc::new(prepared));
        put(&mut self.wire.outgoing, b'1', |_| {});
        Ok(())
    }

    async fn prepare(&mut self, command: Command, types: &[u32]) -> Result<Prepared, Ended> {
        self.expect_no_failure(&command)?;
        let Command::Query(sql) = &command else {
            let columns = self.columns_of(&command)?;
            return Ok(Prepared { command: Some(command), parameters: Vec::new(), columns });
        };
        let declared = types.iter().map(|number| match number {
            // The client leaves it to the statement.
            0 | 705 => Ok(None),
            number => {
                let of = ColumnType::of_number(*number).ok_or_else(|| unknown_type(*number))?;
                Ok((of != ColumnType::TEXT).then(|| of.arrow()))
            }
        });
        let declared = declared.collect::<Result<Vec<_>, Refusal>>()?;
        let cancellable = self.place.begin();
        let started = Instant::now();
        let is_declared: Vec<bool> = declared.iter().map(Option::is_some).collect();
        let request = Request { declared, ..self.request(sql.clone()) };
        let describing = describe(&self.door, request);
        let described = guard(&mut self.wire, &cancellable, describing).await?;
        let described = self.measured(described, started)?;
        let parameters = described.parameters.into_iter().enumerate().map(|(at, wanted)| {
            let number = match types.get(at) {
                None | Some(0 | 705) => {
                    wanted.as_ref().map_or(ColumnType::TEXT, ColumnType::of).number()
                }
                Some(declared) => *declared,
            };
            Parameter { number, wanted, is_declared: is_declared.get(at) == Some(&true) }
        });
        let parameters = parameters.collect();
        let columns = columns(described.names, &described.schema);
        Ok(Prepared { command: Some(command), parameters, columns: Some(columns) })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Refusal> {
        let prepared = self.statement(&bind.statement)?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let message = format!("cursor \"{}\" already exists", bind.portal);
            return Err(Refusal::new(sqlstate::DUPLICATE_CURSOR, message));
        }
        if self.portals.len() >= PORTALS_MAX {
            let message = format!("a session may have {PORTALS_MAX} open portals");
            return Err(Refusal::new(sqlstate::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let (given, wanted) = (bind.values.len(), prepared.parameters.len());
        if given != wanted {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{}\" requires {wanted}",
                bind.statement
            );
            return Err(Refusal::new(sqlstate::PROTOCOL_VIOLATION, message));
        }
        let of_values = formats(&bind.formats, given)?;
        let values = prepared.parameters.iter().zip(&bind.values).zip(of_values);
        let values = values
            .map(|((parameter, value), format)| parameter.value(value.as_deref(), format))
            .collect::<Result<Vec<_>, _>>()?;
        let count = prepared.columns.as_ref().map_or(0, Vec::len);
        let formats = match prepared.columns {
            Some(_) => formats(&bind.result_formats, count)?,
            None => Vec::new(),
        };
        let portal = Portal { prepared, values, formats, progress: Progress::Fresh };
        self.portals.insert(bind.portal, portal);
        put(&mut self.wire.outgoing, b'2', |_| {});
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, Refusal> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            Refusal::new(sqlstate::INVALID_STATEMENT_NAME, message)
        })
    }

    fn describe(&mut self, target: &Target) -> Result<(), Refusal> {
        let (prepared, formats) = match target {
            Target::Statement(name) => {
                let prepared = self.statement(name)?;
                put_parameters(&mut self.wire.outgoing, &prepared.parameters);
                (prepared, &[][..])
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (Arc::clone(&portal.prepared), &portal.formats[..])
            }
        };
        match &prepared.columns {
            Some(columns) => put_columns(&mut self.wire.outgoing, columns, formats),
            None => put(&mut self.wire.outgoing, b'n', |_| {}),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: u32) -> Result<(), Ended> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let done = self.advance(&mut portal, rows_max).await;
        // What has failed cannot go on.
        if done.is_ok() && portal.prepared.command.is_some() {
            self.portals.insert(name.to_owned(), portal);
        }
        done
    }

    async fn advance(&mut self, portal: &mut Portal, rows_max: u32) -> Result<(), Ended> {
        let prepared = Arc::clone(&portal.prepared);
        let Some(command) = &prepared.command else {
            put(&mut self.wire.outgoing, b'I', |_| {});
            return Ok(());
        };
        self.expect_no_failure(command)?;
        let Command::Query(sql) = command else { return Ok(self.command(command)?) };
        let columns = prepared.columns.as_deref().unwrap_or_default();
        let cancellable = self.place.begin();
        let started = Instant::now();
        let mut cursor = match std::mem::replace(&mut portal.progress, Progress::Ended) {
            Progress::Running(cursor) => cursor,
            Progress::Ended => {
                self.put_complete(&tag(sql, 0));
                return Ok(());
            }
            Progress::Fresh => {
                let declared = prepared.parameters.iter().map(|it| it.declared()).collect();
                let parameters = std::mem::take(&mut portal.values);
                let request = Request { parameters, declared, ..self.request(sql.clone()) };
                let opened = guard(&mut self.wire, &cancellable, open(&self.door, request)).await?;
                Box::new(Cursor { rows: self.measured(opened, started)?, rest: None })
            }
        };
        let max = if rows_max == 0 { u64::MAX } else { u64::from(rows_max) };
        let sent =
            self.send(&mut cursor, columns, &portal.formats, max, &cancellable, started).await?;
        if sent.is_all {
            self.put_complete(&tag(sql, sent.rows));
        } else {
            put(&mut self.wire.outgoing, b's', |_| {});
            portal.progress = Progress::Running(cursor);
        }
        Ok(())
    }

    fn expect_no_failure(&self, command: &Command) -> Result<(), Refusal> {
        let ends = matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo);
        if self.transaction != Transaction::Failed || ends {
            return Ok(());
        }
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        Err(Refusal::new(sqlstate::IN_FAILED_TRANSACTION, message))
    }

    /// The columns of what is no query.
    fn columns_of(&self, command: &Command) -> Result<Option<Vec<Column>>, Refusal> {
        let text = |name: &str| Column { name: name.to_owned(), of: ColumnType::TEXT };
        match command {
            Command::Show(name) if name == "all" => {
                Ok(Some(["name", "setting", "description"].map(text).to_vec()))
            }
            Command::Show(name) => {
                let (shown, _) = self.settings.show(name)?;
                Ok(Some(vec![text(shown)]))
            }
            _ => Ok(None),
        }
    }

    /// Does what is no query.
    fn command(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Query(_) => {}
            Command::Begin => {
                self.transaction = Transaction::Open;
                self.put_complete("BEGIN");
            }
            Command::Commit | Command::Rollback => {
                let tag = match (command, self.transaction) {
                    (Command::Commit, Transaction::None | Transaction::Open) => "COMMIT",
                    _ => "ROLLBACK",
                };
                self.transaction = Transaction::None;
                self.portals.clear();
                self.put_complete(tag);
            }
            Command::RollbackTo => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                self.put_complete("ROLLBACK");
            }
            Command::Nothing(tag) => self.put_complete(tag),
            Command::Set { name, value } => {
                self.settings.set(name, value.as_deref())?;
                self.put_setting(name);
                self.put_complete("SET");
            }
            Command::Reset(name) => {
                match name {
                    Some(name) => self.settings.set(name, None)?,
                    None => self.settings.reset(),
                }
                self.put_complete("RESET");
            }
            Command::Show(name) => self.show(name)?,
            Command::DiscardAll => {
                self.settings.reset();
                self.statements.clear();
                self.portals.clear();
                self.put_complete("DISCARD ALL");
            }
            Command::Deallocate(name) => {
                match name {
                    None => self.statements.clear(),
                    Some(name) => {
                        self.statement(name)?;
                        self.statements.remove(name);
                    }
                }
                self.put_complete("DEALLOCATE");
            }
            Command::Refused(what) => return Err(refused(what)),
        }
        Ok(())
    }

    /// Tells a changed setting to a client that was told it at the start.
    fn put_setting(&mut self, name: &str) {
        let reported = self.settings.reported().find(|(ours, _)| ours.eq_ignore_ascii_case(name));
        if let Some((name, value)) = reported {
            put(&mut self.wire.outgoing, b'S', |body| {
                put_text(body, name);
                put_text(body, &value);
            });
        }
    }

    fn show(&mut self, name: &str) -> Result<(), Refusal> {
        let rows: Vec<Vec<String>> = if name == "all" {
            let all = self.settings.all();
            all.map(|(name, value)| vec![name.to_owned(), value, String::new()]).collect()
        } else {
            vec![vec![self.settings.show(name)?.1]]
        };
        for row in rows {
            put(&mut self.wire.outgoing, b'D', |body| {
                body.put_i16(row.len() as i16);
                for value in &row {
                    body.put_i32(i32::try_from(value.len()).unwrap_or(0));
                    body.put_slice(value.as_bytes());
                }
            });
        }
        self.put_complete("SHOW");
        Ok(())
    }
}

/// How much of a result was sent.
struct Sent {
    rows: u64,
    is_all: bool,
}

/// An error of the engine on its way to the client, and its word in the metrics.
struct Refused {
    refusal: Refusal,
    word: &'static str,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let word = error.code();
        if error.status() == 500 {
            tracing::error!(code = word, %error, "a statement has no answer");
        }
        Refused { refusal: error.into(), word }
    }
}

async fn open(door: &Arc<Door>, request: Request) -> Result<Rows, Refused> {
    Ok(Arc::clone(door).engine.open(request).await?)
}

async fn describe(door: &Arc<Door>, request: Request) -> Result<crate::sql::Description, Refused> {
    Ok(Arc::clone(door).engine.describe(request).await?)
}

async fn next(rows: &mut Rows) -> Result<Option<arrow::array::RecordBatch>, Refused> {
    Ok(rows.next().await?)
}

/// Waits for a part of a statement, unless it is cancelled or its client goes away. The statement ends when what it
/// waits for is dropped.
async fn guard<T>(
    wire: &mut Wire,
    cancellable: &Cancellable,
    part: impl Future<Output = Result<T, Refused>>,
) -> Result<Result<T, Refused>, Ended> {
    tokio::select! {
        biased;
        () = cancellable.cancelled() => {
            let message = "canceling statement due to user request";
            let refusal = Refusal::new(sqlstate::QUERY_CANCELED, message);
            Ok(Err(Refused { refusal, word: "cancelled" }))
        }
        done = part => Ok(done),
        () = wire.gone() => Err(Ended::Gone),
    }
}

fn no_portal(name: &str) -> Refusal {
    Refusal::new(sqlstate::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

fn refused(what: &str) -> Refusal {
    let hint = match what {
        "COPY" => {
            "select the rows; clients write them to files: `\\copy` does not work, `psql --csv -c` does"
        }
        "DECLARE" | "FETCH" | "CLOSE" => {
            "fetch in parts with the driver's own means, which need no cursor in SQL"
        }
        "PREPARE" | "EXECUTE" => "drivers prepare statements by the protocol",
        _ => "SELECT, WITH, VALUES, EXPLAIN, SHOW and SET of client settings are answered",
    };
    Refusal::new(sqlstate::FEATURE_NOT_SUPPORTED, format!("{what} is not supported")).hint(hint)
}

/// What a statement is called when it is done.
fn tag(sql: &str, rows: u64) -> String {
    let first = sql.trim_start_matches(['(', ' ']).split_whitespace().next().unwrap_or_default();
    match first.to_ascii_lowercase().as_str() {
        "explain" => "EXPLAIN".to_owned(),
        "show" | "describe" => "SHOW".to_owned(),
        _ => format!("SELECT {rows}"),
    }
}
