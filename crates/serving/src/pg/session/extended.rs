//! The extended protocol: statements that are prepared, bound to values, described, and executed in parts.

use std::sync::Arc;
use std::time::Instant;

use super::Session;
use super::running::{describe, guard, open, tag};
use crate::error::Error;
use crate::pg::command::{self, Command};
use crate::pg::decode::{Parameter, unknown_type};
use crate::pg::error::Refusal;
use crate::pg::frame::{Bind, Target, put};
use crate::pg::prepared::{
    self, Column, Cursor, PORTALS_MAX, Portal, Prepared, Progress, STATEMENTS_MAX, columns,
    formats, put_columns, put_parameters,
};
use crate::pg::sqlstate;
use crate::pg::types::ColumnType;
use crate::pg::wire::Ended;
use crate::sql::Request;
use crate::statement;

impl Session {
    pub(super) async fn parse(
        &mut self,
        name: String,
        sql: &str,
        types: &[u32],
    ) -> Result<(), Ended> {
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

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Refusal> {
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

    pub(super) fn statement(&self, name: &str) -> Result<Arc<Prepared>, Refusal> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            Refusal::new(sqlstate::INVALID_STATEMENT_NAME, message)
        })
    }

    pub(super) fn describe(&mut self, target: &Target) -> Result<(), Refusal> {
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

    pub(super) async fn execute(&mut self, name: &str, rows_max: u32) -> Result<(), Ended> {
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
                let rows = self.measured(opened, started)?;
                let found = prepared::columns(rows.names.clone(), &rows.schema);
                let fits = |(told, found): (&Column, &Column)| {
                    told.name == found.name && !told.of.loses(found.of)
                };
                if found.len() != columns.len() || !columns.iter().zip(&found).all(fits) {
                    return Err(other_columns().into());
                }
                Box::new(Cursor { rows, rest: None })
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
}

/// The client was told other columns when it prepared the statement. PostgreSQL says the same.
fn other_columns() -> Refusal {
    let message = "cached plan must not change result type";
    Refusal::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("there are other wide columns now: prepare the statement again, or name its columns")
}

fn no_portal(name: &str) -> Refusal {
    Refusal::new(sqlstate::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}
