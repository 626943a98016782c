//! The SQLSTATE of each error, as PostgreSQL's clients know them.

use crate::error::Error;

pub(crate) const FEATURE_NOT_SUPPORTED: &str = "0A000";
pub(crate) const INVALID_AUTHORIZATION: &str = "28000";
pub(crate) const INVALID_PASSWORD: &str = "28P01";
pub(crate) const PROTOCOL_VIOLATION: &str = "08P01";
pub(crate) const DATA_EXCEPTION: &str = "22000";
pub(crate) const NUMERIC_OUT_OF_RANGE: &str = "22003";
pub(crate) const DIVISION_BY_ZERO: &str = "22012";
pub(crate) const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
pub(crate) const INVALID_PARAMETER_VALUE: &str = "22023";
pub(crate) const INVALID_TEXT_REPRESENTATION: &str = "22P02";
pub(crate) const INVALID_BINARY_REPRESENTATION: &str = "22P03";
pub(crate) const IN_FAILED_TRANSACTION: &str = "25P02";
pub(crate) const INVALID_STATEMENT_NAME: &str = "26000";
pub(crate) const INVALID_CATALOG_NAME: &str = "3D000";
pub(crate) const INVALID_CURSOR_NAME: &str = "34000";
pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
pub(crate) const SYNTAX_ERROR: &str = "42601";
pub(crate) const UNDEFINED_COLUMN: &str = "42703";
pub(crate) const AMBIGUOUS_COLUMN: &str = "42702";
pub(crate) const UNDEFINED_OBJECT: &str = "42704";
pub(crate) const UNDEFINED_FUNCTION: &str = "42883";
pub(crate) const UNDEFINED_TABLE: &str = "42P01";
pub(crate) const DUPLICATE_CURSOR: &str = "42P03";
pub(crate) const DUPLICATE_PREPARED_STATEMENT: &str = "42P05";
pub(crate) const SYNTAX_OR_ACCESS_RULE: &str = "42000";
pub(crate) const INSUFFICIENT_RESOURCES: &str = "53000";
pub(crate) const OUT_OF_MEMORY: &str = "53200";
pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
pub(crate) const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
pub(crate) const STATEMENT_TOO_COMPLEX: &str = "54001";
pub(crate) const NOT_IN_PREREQUISITE_STATE: &str = "55000";
pub(crate) const CANT_CHANGE_PARAMETER: &str = "55P02";
pub(crate) const QUERY_CANCELED: &str = "57014";
pub(crate) const ADMIN_SHUTDOWN: &str = "57P01";
pub(crate) const IDLE_SESSION_TIMEOUT: &str = "57P05";
pub(crate) const IO_ERROR: &str = "58030";
pub(crate) const INTERNAL_ERROR: &str = "XX000";
pub(crate) const DATA_CORRUPTED: &str = "XX001";

/// The code of an error of the engine.
pub(crate) fn of(error: &Error) -> &'static str {
    match error {
        Error::Syntax(_) => SYNTAX_ERROR,
        Error::NoTable(_) => UNDEFINED_TABLE,
        Error::NoColumn(_) => UNDEFINED_COLUMN,
        Error::AmbiguousColumn(_) => AMBIGUOUS_COLUMN,
        Error::NoFunction(_) => UNDEFINED_FUNCTION,
        Error::NotSupported(_) => FEATURE_NOT_SUPPORTED,
        Error::Plan(_) => SYNTAX_OR_ACCESS_RULE,
        Error::ReadOnly(_) => INSUFFICIENT_PRIVILEGE,
        Error::Timeout(_) => QUERY_CANCELED,
        Error::RowLimit(_) => PROGRAM_LIMIT_EXCEEDED,
        Error::StatementTooLong(_) | Error::StatementTooLarge { .. } => STATEMENT_TOO_COMPLEX,
        Error::Memory(_) | Error::FunctionBytes { .. } => OUT_OF_MEMORY,
        Error::NoGeneration { .. } => UNDEFINED_OBJECT,
        Error::Busy { .. } => INSUFFICIENT_RESOURCES,
        Error::Hole(_) | Error::LostSpill(_) => DATA_CORRUPTED,
        Error::CatchingUp(_) => NOT_IN_PREREQUISITE_STATE,
        Error::Views(_) => IO_ERROR,
        Error::DivisionByZero(_) => DIVISION_BY_ZERO,
        Error::Cast(_) => INVALID_TEXT_REPRESENTATION,
        Error::Execution(_) => DATA_EXCEPTION,
        Error::Stopping => ADMIN_SHUTDOWN,
        Error::OpenWithoutPassword(_)
        | Error::EmptyPassword
        | Error::TwoPasswords
        | Error::PasswordFile { .. }
        | Error::Config { .. }
        | Error::PortTaken { .. }
        | Error::Listen { .. }
        | Error::Tls { .. }
        | Error::Engine(_) => INTERNAL_ERROR,
    }
}
