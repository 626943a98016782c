//! Counters of the statements that were answered, in Prometheus text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
    pub(crate) fn print(&self, running: usize, iteration: u64) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from("# TYPE snowmelt_sql_statements_total counter\n");
        for (code, count) in &counts.statements {
            line(&mut text, &format!("snowmelt_sql_statements_total{{code=\"{code}\"}}"), count);
        }
        text.push_str("# TYPE snowmelt_sql_rows_total counter\n");
        line(&mut text, "snowmelt_sql_rows_total", &counts.rows);
        text.push_str("# TYPE snowmelt_sql_seconds_total counter\n");
        line(&mut text, "snowmelt_sql_seconds_total", &counts.seconds);
        text.push_str("# TYPE snowmelt_sql_running gauge\n");
        line(&mut text, "snowmelt_sql_running", &running);
        text.push_str("# TYPE snowmelt_served_iteration gauge\n");
        line(&mut text, "snowmelt_served_iteration", &iteration);
        text
    }
}

fn line(text: &mut String, name: &str, value: &dyn std::fmt::Display) {
    writeln!(text, "{name} {value}").expect("writing to a string does not fail");
}
