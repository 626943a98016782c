//! What is no query: transactions, settings, and the cleaning of a session.

use bytes::BufMut;

use super::{Session, Transaction};
use crate::pg::command::Command;
use crate::pg::error::Refusal;
use crate::pg::frame::{put, put_text};
use crate::pg::prepared::Column;
use crate::pg::sqlstate;
use crate::pg::types::ColumnType;

impl Session {
    pub(super) fn expect_no_failure(&self, command: &Command) -> Result<(), Refusal> {
        let ends = matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo);
        if self.transaction != Transaction::Failed || ends {
            return Ok(());
        }
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        Err(Refusal::new(sqlstate::IN_FAILED_TRANSACTION, message))
    }

    /// The columns of what is no query.
    pub(super) fn columns_of(&self, command: &Command) -> Result<Option<Vec<Column>>, Refusal> {
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
    pub(super) fn command(&mut self, command: &Command) -> Result<(), Refusal> {
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

pub(super) fn refused(what: &str) -> Refusal {
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
