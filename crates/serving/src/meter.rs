//! Counters of the statements that were answered, in Prometheus text form.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::exposition::Exposition;
use crate::wide::WideCounts;

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By the error's code; `ok` is an answer.
    statements: BTreeMap<&'static str, u64>,
    rows: u64,
    seconds: f64,
}

impl Meter {
    /// One statement has ended.
    pub(crate) fn ended(&self, code: &'static str, rows: u64, took: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.statements.entry(code).or_default() += 1;
        counts.rows += rows;
        counts.seconds += took.as_secs_f64();
    }

    /// The lines of `GET /metrics`.
    pub(crate) fn print(&self, running: usize, iteration: u64, wide: WideCounts) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Exposition::default();
        let statements = counts.statements.iter().map(|(code, count)| ([*code], count));
        text.values(&STATEMENTS, statements);
        text.value(&ROWS, counts.rows);
        text.value(&SECONDS, counts.seconds);
        text.value(&RUNNING, running);
        text.value(&SERVED_ITERATION, iteration);
        text.value(&WIDE_COLUMNS, wide.columns);
        text.value(&WIDE_LEFT_OUT, wide.left_out);
        text.finish()
    }
}

crate::families! {
    /// What the server itself counts.
    pub FAMILIES:
    STATEMENTS = Counter "snowmelt_sql_statements_total" ["code"] "statements that ended, by the code of their error or `ok`";
    ROWS = Counter "snowmelt_sql_rows_total" [] "rows of all answers";
    SECONDS = Counter "snowmelt_sql_seconds_total" [] "seconds that statements took, waiting included";
    RUNNING = Gauge "snowmelt_sql_running" [] "statements that run now";
    SERVED_ITERATION = Gauge "snowmelt_served_iteration" [] "the iteration that statements are answered from";
    WIDE_COLUMNS = Gauge "snowmelt_wide_columns" [] "wide columns of `atomic.events`, as the last statement saw them";
    WIDE_LEFT_OUT = Gauge "snowmelt_wide_columns_left_out" [] "families of schemas that have no wide column because there are too many; the JSON columns have them";
}
