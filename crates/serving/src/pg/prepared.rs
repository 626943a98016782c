//! Prepared statements and portals of one session, and how their columns are told to the client.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};
use datafusion::common::ScalarValue;

use super::command::Command;
use super::decode::Parameter;
use super::encode::Format;
use super::error::Refusal;
use super::frame::{put, put_text};
use super::sqlstate;
use super::types::ColumnType;
use crate::sql::Rows;

/// Statements and portals that one session may keep.
pub(crate) const STATEMENTS_MAX: usize = 1000;
pub(crate) const PORTALS_MAX: usize = 64;

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) of: ColumnType,
}

/// A parsed statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// `None` is an empty statement.
    pub(crate) command: Option<Command>,
    pub(crate) parameters: Vec<Parameter>,
    /// `None` for a command without rows.
    pub(crate) columns: Option<Vec<Column>>,
}

/// A statement with its values, and how far it was executed.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) formats: Vec<Format>,
    pub(crate) progress: Progress,
}

#[derive(Debug)]
pub(crate) enum Progress {
    Fresh,
    Running(Box<Cursor>),
    Ended,
}

/// The rest of a result of which a part was sent.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) rows: Rows,
    /// Rows that were handed over and not sent yet.
    pub(crate) rest: Option<RecordBatch>,
}

/// The columns of a result.
pub(crate) fn columns(names: Vec<String>, schema: &SchemaRef) -> Vec<Column> {
    let types = schema.fields().iter().map(|field| ColumnType::of(field.data_type()));
    names.into_iter().zip(types).map(|(name, of)| Column { name, of }).collect()
}

/// One format for all, one for each, or none, which is text.
///
/// # Errors
/// Another number of formats, and a format that does not exist.
pub(crate) fn formats(codes: &[u16], count: usize) -> Result<Vec<Format>, Refusal> {
    let violation = |message: String| Refusal::new(sqlstate::PROTOCOL_VIOLATION, message);
    let format = |code: &u16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(violation(format!("there is no format {other}"))),
    };
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [one] => Ok(vec![format(one)?; count]),
        codes if codes.len() == count => codes.iter().map(format).collect(),
        codes => Err(violation(format!("{} formats for {count} values", codes.len()))),
    }
}

/// RowDescription.
pub(crate) fn put_columns(into: &mut BytesMut, columns: &[Column], formats: &[Format]) {
    put(into, b'T', |body| {
        body.put_i16(i16::try_from(columns.len()).unwrap_or(i16::MAX));
        for (at, column) in columns.iter().enumerate() {
            put_text(body, &column.name);
            // No table and no column of it: a result is an expression.
            body.put_i32(0);
            body.put_i16(0);
            body.put_u32(column.of.number());
            body.put_i16(column.of.size());
            body.put_i32(column.of.modifier());
            body.put_i16(i16::from(formats.get(at) == Some(&Format::Binary)));
        }
    });
}

/// ParameterDescription.
pub(crate) fn put_parameters(into: &mut BytesMut, parameters: &[Parameter]) {
    put(into, b't', |body| {
        body.put_i16(i16::try_from(parameters.len()).unwrap_or(i16::MAX));
        parameters.iter().for_each(|parameter| body.put_u32(parameter.number));
    });
}
