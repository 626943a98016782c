//! Look-ups in PostgreSQL databases: a few connections for each, kept for the next query.
//!
//! Which database is asked stands in the operator's configuration alone, so that it may lie inside the machine or its
//! network; events give values, which are bound and never part of the statement. A database that fails again and again
//! is left alone for a while. Snowplow: `enrichments.md` 20.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enrich::look_up::{Answer, Database, SqlRequest};

use crate::pauses::Pauses;
use crate::postgres::{Connection, Deadline, Failure};

/// Connections to one database at a time.
const CONNECTIONS_MAX: usize = 4;

/// How long a connection is kept without a query.
const IDLE: Duration = Duration::from_secs(60);

/// Asks PostgreSQL databases.
#[derive(Debug, Default)]
pub struct LookUpSql {
    pools: Mutex<HashMap<Arc<Database>, Arc<Pool>>>,
    pauses: Pauses,
}

#[derive(Debug, Default)]
struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is taken first.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
}

/// Permission for one connection, and one that is open if there was one.
struct Turn<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl LookUpSql {
    pub(crate) fn look_up(&self, request: &SqlRequest) -> Answer {
        let database = request.to_string();
        if self.pauses.holds(&database) {
            return Err(format!("{request}: {}", Pauses::WHY));
        }
        let asked = self.ask(request);
        self.pauses.note(database, matches!(asked, Err(Failure::Connection(_))));
        match asked {
            Ok(rows) => Ok(rows),
            Err(Failure::Query(what) | Failure::Connection(what)) => {
                Err(format!("{request}: {what}"))
            }
        }
    }

    fn ask(&self, request: &SqlRequest) -> Result<serde_json::Value, Failure> {
        let deadline = Deadline::after(request.timeout_ms);
        let pool = {
            let mut pools = lock(&self.pools);
            Arc::clone(pools.entry(Arc::clone(&request.database)).or_default())
        };
        let mut turn = pool.turn(deadline)?;
        let SqlRequest { database, statement, values, .. } = request;
        if let Some(mut kept) = turn.connection.take() {
            match kept.query(statement, values, deadline) {
                // The server may have ended it while nobody looked.
                Err(Failure::Connection(_)) if deadline.left().is_ok() => {}
                outcome => return turn.end(kept, outcome),
            }
        }
        let mut fresh = Connection::open(database, deadline)?;
        let outcome = fresh.query(statement, values, deadline);
        turn.end(fresh, outcome)
    }
}

impl Pool {
    fn turn(&self, deadline: Deadline) -> Result<Turn<'_>, Failure> {
        let mut state = lock(&self.state);
        while state.in_use >= CONNECTIONS_MAX {
            let waited = self.returned.wait_timeout(state, deadline.left()?);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_use += 1;
        state.idle.retain(|(_, since)| since.elapsed() < IDLE);
        let connection = state.idle.pop().map(|(connection, _)| connection);
        Ok(Turn { pool: self, connection })
    }
}

impl Turn<'_> {
    /// Keeps a connection that can be used again.
    fn end(
        mut self,
        connection: Connection,
        outcome: Result<enrich::look_up::Rows, Failure>,
    ) -> Result<serde_json::Value, Failure> {
        if !matches!(outcome, Err(Failure::Connection(_))) {
            self.connection = Some(connection);
        }
        let rows = outcome?;
        serde_json::to_value(rows).map_err(|error| Failure::Query(error.to_string()))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.pool.state);
        state.in_use -= 1;
        state.idle.extend(self.connection.take().map(|connection| (connection, Instant::now())));
        drop(state);
        self.pool.returned.notify_one();
    }
}

/// No panic leaves these half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
