//! A statement while it runs: asked of the engine, guarded by cancel and by the client's presence, its rows written as
//! they come.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;

use super::Session;
use crate::error::Error;
use crate::pg::Door;
use crate::pg::cancel::Cancellable;
use crate::pg::encode::{self, Format};
use crate::pg::error::Refusal;
use crate::pg::prepared::{Column, Cursor};
use crate::pg::sqlstate;
use crate::pg::types::ColumnType;
use crate::pg::wire::{Ended, Wire};
use crate::sql::{Description, Request, Rows};

impl Session {
    pub(super) fn request(&self, sql: String) -> Request {
        Request {
            sql,
            timeout: self.settings.timeout(),
            search_path: self.settings.search_path(),
            ..Request::default()
        }
    }

    /// Counts a statement that did not come to run.
    pub(super) fn measured<T>(
        &self,
        result: Result<T, Refused>,
        started: Instant,
    ) -> Result<T, Refusal> {
        result.map_err(|refused| {
            self.door.meter.ended(refused.word, 0, started.elapsed());
            refused.refusal
        })
    }

    /// Writes rows up to a number of them.
    pub(super) async fn send(
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
}

/// How much of a result was sent.
pub(super) struct Sent {
    pub(super) rows: u64,
    pub(super) is_all: bool,
}

/// An error of the engine on its way to the client, and its word in the metrics.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) word: &'static str,
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

pub(super) async fn open(door: &Arc<Door>, request: Request) -> Result<Rows, Refused> {
    Ok(door.engine.open(request).await?)
}

pub(super) async fn describe(door: &Arc<Door>, request: Request) -> Result<Description, Refused> {
    Ok(door.engine.describe(request).await?)
}

pub(super) async fn next(rows: &mut Rows) -> Result<Option<RecordBatch>, Refused> {
    Ok(rows.next().await?)
}

/// Waits for a part of a statement, unless it is cancelled or its client goes away. The statement ends when what it
/// waits for is dropped.
pub(super) async fn guard<T>(
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

/// What a statement is called when it is done.
pub(super) fn tag(sql: &str, rows: u64) -> String {
    let first = sql.trim_start_matches(['(', ' ']).split_whitespace().next().unwrap_or_default();
    match first.to_ascii_lowercase().as_str() {
        "explain" => "EXPLAIN".to_owned(),
        "show" | "describe" => "SHOW".to_owned(),
        _ => format!("SELECT {rows}"),
    }
}
