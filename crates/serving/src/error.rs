//! The errors of the server, and what each of them is on the wire: HTTP status, code, message, hint.
//!
//! A caller of the API acts on the code; the message names the object; the hint says the way out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

/// Why the server does not start, or why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`server.bind` is {0}, which other machines can reach, and there is no `server.password`"
    )]
    OpenWithoutPassword(IpAddr),
    #[error("`server.password` is empty")]
    EmptyPassword,
    #[error("`server.password` and `server.password-file` are both given")]
    TwoPasswords,
    #[error("read `server.password-file` {path}: {source}")]
    PasswordFile { path: PathBuf, source: io::Error },
    #[error("`server.{key}`: {problem}")]
    Config { key: &'static str, problem: String },
    #[error("{address} is taken by another process; choose another `{key}`")]
    PortTaken { address: SocketAddr, key: &'static str },
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("read `server.{key}` {path}: {problem}")]
    Tls { key: &'static str, path: PathBuf, problem: String },
    #[error("start the query engine: {0}")]
    Engine(String),

    #[error("{0}")]
    Syntax(String),
    #[error("{0}")]
    NoTable(String),
    #[error("{0}")]
    NoColumn(String),
    #[error("{0}")]
    AmbiguousColumn(String),
    #[error("{0}")]
    NoFunction(String),
    #[error("{0}")]
    NotSupported(String),
    /// Any other reason why a statement cannot be planned.
    #[error("{0}")]
    Plan(String),
    #[error("{0} is refused: this server only reads")]
    ReadOnly(String),
    #[error("the statement ran longer than {}", model::duration::print(*.0))]
    Timeout(Duration),
    #[error("the answer has more than {0} rows")]
    RowLimit(u64),
    #[error("the statement is longer than {0} bytes")]
    StatementTooLong(usize),
    #[error("the statement has {count} {what}, at most {max} are allowed")]
    StatementTooLarge { what: &'static str, count: usize, max: usize },
    #[error("the statement needs more memory than there is: {0}")]
    Memory(String),
    #[error("one call of `{function}` would make more than {bytes} bytes")]
    FunctionBytes { function: String, bytes: u64 },
    #[error("there is no generation {generation}: {oldest} to {newest} can be asked")]
    NoGeneration { generation: u64, oldest: u64, newest: u64 },
    #[error("{running} statements are running and {waiting} are waiting")]
    Busy { running: usize, waiting: usize },
    /// A file that the view consists of is missing, short or damaged: there is no answer rather than a lower number.
    #[error("a hole in the view: {0}")]
    Hole(String),
    /// The real-time view does not reach down to the cut yet.
    #[error("{0}")]
    CatchingUp(String),
    /// A hole as well, but a restart fills it: a file of the real-time view is gone or damaged.
    #[error("{0}")]
    LostSpill(String),
    #[error("read the views: {0}")]
    Views(String),
    #[error("{0}")]
    DivisionByZero(String),
    #[error("{0}")]
    Cast(String),
    /// Any other reason why a statement fails while it runs.
    #[error("{0}")]
    Execution(String),
    #[error("the server is stopping")]
    Stopping,
}

impl Error {
    /// The stable word of the API.
    pub fn code(&self) -> &'static str {
        match self {
            Error::OpenWithoutPassword(_)
            | Error::EmptyPassword
            | Error::TwoPasswords
            | Error::PasswordFile { .. }
            | Error::Config { .. }
            | Error::PortTaken { .. }
            | Error::Listen { .. }
            | Error::Tls { .. }
            | Error::Engine(_) => "start",
            Error::Syntax(_) => "syntax_error",
            Error::NoTable(_)
            | Error::NoColumn(_)
            | Error::AmbiguousColumn(_)
            | Error::NoFunction(_)
            | Error::NotSupported(_)
            | Error::Plan(_) => "invalid_statement",
            Error::ReadOnly(_) => "read_only",
            Error::Timeout(_) => "statement_timeout",
            Error::RowLimit(_) => "row_limit",
            Error::NoGeneration { .. } => "no_generation",
            Error::StatementTooLong(_) => "statement_too_long",
            Error::StatementTooLarge { .. } => "statement_too_large",
            Error::Memory(_) | Error::FunctionBytes { .. } => "memory_limit",
            Error::Busy { .. } => "busy",
            Error::Hole(_) | Error::LostSpill(_) => "hole",
            Error::CatchingUp(_) => "catching_up",
            Error::Views(_) => "views",
            Error::DivisionByZero(_) | Error::Cast(_) | Error::Execution(_) => "execution_failed",
            Error::Stopping => "stopping",
        }
    }

    /// What helps, or an empty text.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::OpenWithoutPassword(_) => {
                "set `server.password-file`, or leave `server.bind` at 127.0.0.1"
            }
            Error::PortTaken { .. } => "0 takes any free port",
            Error::ReadOnly(_) => "SELECT, WITH, VALUES, EXPLAIN, SHOW and DESCRIBE are answered",
            Error::Timeout(_) => {
                "ask for less, for example a range of collector_tstamp, or raise `server.statement-timeout`"
            }
            Error::RowLimit(_) => "add LIMIT, or raise `server.row-limit`",
            Error::Memory(_) => {
                "ask for fewer columns or groups, add LIMIT, or raise `server.memory-limit`"
            }
            Error::FunctionBytes { .. } => {
                "ask for a shorter text or array; rows of a series come from `FROM generate_series(…)`"
            }
            Error::Busy { .. } => {
                "try again; `server.statements` and `server.statements-waiting` are the limits"
            }
            Error::CatchingUp(_) => "try again: the speed layer is filling the range",
            Error::LostSpill(_) => {
                "no event is lost; leave the data folder to the server while it runs"
            }
            Error::Hole(_) => {
                "restore the file from a backup, or make the batch view again from the master dataset with `snowmelt batch run --rebuild`"
            }
            Error::NoGeneration { .. } => {
                "`batch.generations-kept` older generations stay after a rebuild; `snowmelt batch list` shows each iteration's"
            }
            Error::Syntax(_) => {
                "one statement in the SQL of PostgreSQL, for example SELECT … FROM atomic.events"
            }
            Error::NoFunction(_) => "`SHOW FUNCTIONS` lists every function",
            Error::AmbiguousColumn(_) => "write the table before the column: `e.app_id`",
            Error::NoTable(_) | Error::NoColumn(_) | Error::NotSupported(_) | Error::Plan(_) => {
                "information_schema.columns lists every table and column"
            }
            Error::EmptyPassword | Error::TwoPasswords | Error::PasswordFile { .. } => {
                "put the password alone into a file that only this user reads, and name it in `server.password-file`"
            }
            Error::Listen { .. } => "`server.bind` and the ports say where to listen",
            Error::Tls { .. } => {
                "`server.tls-cert` and `server.tls-key` name PEM files; `openssl x509 -in FILE` shows whether one can be read"
            }
            Error::Config { .. } => "`snowmelt config reference` explains every key",
            Error::StatementTooLong(_) | Error::StatementTooLarge { .. } => {
                "send values as parameters, or join a table of them (`VALUES …`) instead of repeating expressions"
            }
            Error::DivisionByZero(_) => "NULLIF(divisor, 0) makes such rows null",
            Error::Cast(_) => "TRY_CAST makes null of what does not convert",
            Error::Execution(_) | Error::Views(_) => {
                "`GET /health` says whether something is wrong with the server; if not, ask for less until it works"
            }
            Error::Stopping => "try again in a moment, or at another server",
            Error::Engine(_) => "",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Error::Syntax(_)
            | Error::NoTable(_)
            | Error::NoColumn(_)
            | Error::AmbiguousColumn(_)
            | Error::NoFunction(_)
            | Error::NotSupported(_)
            | Error::Plan(_) => 400,
            Error::NoGeneration { .. } => 404,
            Error::ReadOnly(_) => 403,
            Error::StatementTooLong(_) => 413,
            Error::StatementTooLarge { .. } => 422,
            Error::Timeout(_) | Error::RowLimit(_) | Error::FunctionBytes { .. } => 422,
            // What a statement computes wrongly (a division by zero, a cast) is the statement's fault.
            Error::DivisionByZero(_) | Error::Cast(_) | Error::Execution(_) => 422,
            Error::Memory(_) | Error::Busy { .. } | Error::CatchingUp(_) | Error::Stopping => 503,
            Error::Hole(_)
            | Error::LostSpill(_)
            | Error::Views(_)
            | Error::OpenWithoutPassword(_)
            | Error::EmptyPassword
            | Error::TwoPasswords
            | Error::PasswordFile { .. }
            | Error::Config { .. }
            | Error::PortTaken { .. }
            | Error::Listen { .. }
            | Error::Tls { .. }
            | Error::Engine(_) => 500,
        }
    }
}

/// A hole, in the form in which the engine carries it out of a scan.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Hole(pub(crate) String);

impl From<Hole> for DataFusionError {
    fn from(hole: Hole) -> DataFusionError {
        DataFusionError::External(Box::new(hole))
    }
}

/// A call of a function that would make too much, in the form in which the engine carries it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("one call of `{function}` would make more than {bytes} bytes")]
pub(crate) struct TooMuch {
    pub(crate) function: String,
    pub(crate) bytes: u64,
}

impl From<views::Error> for Error {
    fn from(error: views::Error) -> Error {
        Error::of_views(&error)
    }
}

impl Error {
    fn of_views(error: &views::Error) -> Error {
        let message = chain(error);
        match error {
            views::Error::Missing(_)
            | views::Error::Damaged { .. }
            | views::Error::Newer { .. } => Error::Hole(message),
            views::Error::Uncovered { .. } => Error::CatchingUp(message),
            views::Error::LostSpill { .. } => Error::LostSpill(message),
            _ => Error::Views(message),
        }
    }
}

/// An error with its causes, one after the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Error {
        if let Some(known) = find(&error) {
            return known;
        }
        let message = plain(&error);
        match error.find_root() {
            DataFusionError::SQL(..) => Error::Syntax(message),
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { .. } => Error::NoColumn(message),
                SchemaError::AmbiguousReference { .. } => Error::AmbiguousColumn(message),
                _ => Error::Plan(message),
            },
            DataFusionError::NotImplemented(_) => Error::NotSupported(message),
            DataFusionError::Plan(_) | DataFusionError::Configuration(_) => of_planning(message),
            DataFusionError::ResourcesExhausted(_) => Error::Memory(message),
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                ArrowError::DivideByZero => Error::DivisionByZero(message),
                ArrowError::CastError(_) | ArrowError::ParseError(_) => Error::Cast(message),
                _ => Error::Execution(message),
            },
            _ => Error::Execution(message),
        }
    }
}

/// The engine has no kinds for what is missing, only words.
fn of_planning(message: String) -> Error {
    let lower = message.to_lowercase();
    let is_table = lower.starts_with("table ") || lower.starts_with("failed to resolve schema");
    if is_table && (lower.contains("not found") || lower.contains("failed to resolve")) {
        Error::NoTable(message)
    } else if lower.starts_with("invalid function") || lower.starts_with("table function") {
        Error::NoFunction(message)
    } else {
        Error::Plan(message)
    }
}

/// Our own error inside of the engine's: it wraps them in several layers, and a file's error passes through the Parquet
/// reader.
fn find(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(hole) = error.downcast_ref::<Hole>() {
            return Some(Error::Hole(hole.0.clone()));
        }
        if let Some(TooMuch { function, bytes }) = error.downcast_ref() {
            return Some(Error::FunctionBytes { function: function.clone(), bytes: *bytes });
        }
        if let Some(error) = error.downcast_ref::<views::Error>() {
            return Some(Error::of_views(error));
        }
        next = inside(error).or_else(|| error.source());
    }
    None
}

/// What an error of the engine, of Parquet or of Arrow wraps.
fn inside<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return match error {
            DataFusionError::External(inner) => Some(inner.as_ref()),
            DataFusionError::Shared(inner) => Some(inner.as_ref()),
            DataFusionError::ParquetError(inner) => Some(inner.as_ref()),
            DataFusionError::ArrowError(inner, _) => Some(inner.as_ref()),
            _ => None,
        };
    }
    if let Some(ParquetError::External(inner)) = error.downcast_ref() {
        return Some(inner.as_ref());
    }
    match error.downcast_ref() {
        Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
        _ => None,
    }
}

/// The message without the engine's own prefixes and without advice to report a bug to its authors.
fn plain(error: &DataFusionError) -> String {
    let message = match error.find_root() {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "the statement nests too deeply".to_owned(),
        },
        root => root.message().into_owned(),
    };
    let message = message.split("\n\nbacktrace:").next().unwrap_or_default().trim_end();
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_found_behind_the_layers_of_the_engine() {
        let hole = Hole("file tables/events/1/raw-0.parquet is missing".to_owned());
        let parquet = datafusion::parquet::errors::ParquetError::External(Box::new(hole));
        let error = DataFusionError::Context(
            "scan".to_owned(),
            Box::new(DataFusionError::Shared(std::sync::Arc::new(DataFusionError::ParquetError(
                Box::new(parquet),
            )))),
        );
        let error = Error::from(error);
        assert_eq!(error.code(), "hole");
        assert!(error.to_string().contains("tables/events/1/raw-0.parquet"), "{error}");
    }
}
