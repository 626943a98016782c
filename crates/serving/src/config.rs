//! The keys of `server`, and what makes them unsafe together.
//!
//! [`Config::check`] is called at start: a server that others can reach without a password does not start.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
pub use model::secret::Secret;

/// The serving layer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The address that the API and the Postgres wire listen on. Default: 127.0.0.1. Any address that other machines can reach needs a
    /// password.
    pub bind: IpAddr,
    /// The port of the API; 0 means any free one. Default: 8090.
    pub http_port: u16,
    /// The port of the Postgres wire; 0 means any free one. Default: 5439.
    pub pg_port: u16,
    /// Clients that may be connected to the Postgres wire at once; further ones are refused. Default: 100.
    pub pg_connections: usize,
    /// How long a client of the Postgres wire may be silent before its connection is closed. Default: 1h.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub pg_idle_timeout: Duration,
    /// A PEM file with the certificate of the Postgres wire, then those that lead to its authority. Needs `tls-key`.
    /// Clients may then ask for TLS. Read at the start and at SIGHUP. Default: none, so that TLS is not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of `tls-cert`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// The password of the API, the metrics and the Postgres wire: HTTP Basic with the user `snowmelt`, a bearer token,
    /// or SCRAM-SHA-256 with the user `snowmelt`. Better given in the environment or as `password-file`. Default: none,
    /// which only a loopback `bind` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// A file whose first line is the password. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Names besides IP addresses and `localhost` under which clients may call the server, without port; any other
    /// `Host` is refused, so that a web page cannot reach a server on its reader's machine. Default: none.
    pub hosts: Vec<String>,
    /// How long a statement may wait and run; past it, it fails. It also bounds how long a statement keeps real-time
    /// data that the batch view has covered already. Default: 60s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub statement_timeout: Duration,
    /// The most rows of one answer; more is an error, never a shorter answer. Default: 1000000.
    pub row_limit: u64,
    /// Bytes of memory for all statements and answers together. Default: 268435456 (256 MiB).
    pub memory_limit: usize,
    /// Bytes of disk in `spill/` for sorts and joins beyond the memory; 0 switches it off. Default: 1073741824 (1 GiB).
    pub spill_limit: u64,
    /// Statements that run at once. Default: 4.
    pub statements: usize,
    /// Statements that may wait for their turn; further ones are answered 503. Default: 64.
    pub statements_waiting: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 8090,
            pg_port: 5439,
            pg_connections: 100,
            pg_idle_timeout: Duration::from_secs(3600),
            tls_cert: None,
            tls_key: None,
            password: None,
            password_file: None,
            hosts: Vec::new(),
            statement_timeout: Duration::from_secs(60),
            row_limit: 1_000_000,
            memory_limit: 256 << 20,
            spill_limit: 1 << 30,
            statements: 4,
            statements_waiting: 64,
        }
    }
}

impl Config {
    /// Everything that [`crate::server::start`] would refuse, without starting anything.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = self.wrong_values();
        match self.password() {
            Ok(None) if !self.bind.is_loopback() => {
                problems.push(Error::OpenWithoutPassword(self.bind));
            }
            Ok(_) => {}
            Err(error) => problems.push(error),
        }
        problems
    }

    /// Refuses what is unsafe or cannot work, and reads the password.
    ///
    /// # Errors
    /// For a `bind` beyond loopback without a password, a password that is empty or given twice, and limits of zero.
    pub(crate) fn check(&self) -> Result<Option<Secret>, Error> {
        if let Some(problem) = self.wrong_values().into_iter().next() {
            return Err(problem);
        }
        let password = self.password()?;
        if password.is_none() && !self.bind.is_loopback() {
            return Err(Error::OpenWithoutPassword(self.bind));
        }
        Ok(password)
    }

    fn wrong_values(&self) -> Vec<Error> {
        let (has_cert, has_key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        let is_same_port = self.http_port != 0 && self.http_port == self.pg_port;
        let limits = [
            ("pg-connections", self.pg_connections == 0, "must be larger than 0"),
            ("pg-idle-timeout", self.pg_idle_timeout.is_zero(), "must be larger than 0"),
            ("pg-port", is_same_port, "is also `server.http-port`"),
            ("tls-key", has_cert && !has_key, "is missing: `server.tls-cert` needs it"),
            ("tls-cert", has_key && !has_cert, "is missing: `server.tls-key` needs it"),
            ("statement-timeout", self.statement_timeout.is_zero(), "must be larger than 0"),
            ("row-limit", self.row_limit == 0, "must be larger than 0"),
            ("statements", self.statements == 0, "must be larger than 0"),
            ("memory-limit", self.memory_limit < 16 << 20, "must be at least 16777216 (16 MiB)"),
        ];
        let wrong = limits.into_iter().filter(|(_, is_wrong, _)| *is_wrong);
        wrong.map(|(key, _, problem)| Error::Config { key, problem: problem.to_owned() }).collect()
    }

    fn password(&self) -> Result<Option<Secret>, Error> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => return Err(Error::TwoPasswords),
            (Some(password), None) => password.clone(),
            (None, Some(path)) => {
                let failed = |source: io::Error| Error::PasswordFile { path: path.clone(), source };
                let text = std::fs::read_to_string(path).map_err(failed)?;
                Secret::new(text.lines().next().unwrap_or_default())
            }
            (None, None) => return Ok(None),
        };
        if password.reveal().is_empty() {
            return Err(Error::EmptyPassword);
        }
        Ok(Some(password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(config: Config) -> Config {
        Config { bind: IpAddr::from([0, 0, 0, 0]), ..config }
    }

    #[test]
    fn a_bind_that_others_can_reach_needs_a_password() {
        assert!(matches!(open(Config::default()).check(), Err(Error::OpenWithoutPassword(_))));
        assert!(Config::default().check().unwrap().is_none());
        let safe = open(Config { password: Some(Secret::new("x")), ..Config::default() });
        assert_eq!(safe.check().unwrap().unwrap().reveal(), "x");
        let empty = open(Config { password: Some(Secret::new("")), ..Config::default() });
        assert!(matches!(empty.check(), Err(Error::EmptyPassword)));
        let ipv6 = Config { bind: "::1".parse().unwrap(), ..Config::default() };
        assert!(ipv6.check().is_ok());
    }

    #[test]
    fn the_first_line_of_the_file_is_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "correct horse\n").unwrap();
        let config = Config { password_file: Some(path.clone()), ..Config::default() };
        assert_eq!(config.check().unwrap().unwrap().reveal(), "correct horse");
        let twice = Config { password: Some(Secret::new("x")), ..config };
        assert!(matches!(twice.check(), Err(Error::TwoPasswords)));
        std::fs::remove_file(&path).unwrap();
        let gone = Config { password_file: Some(path), ..Config::default() };
        assert!(matches!(gone.check(), Err(Error::PasswordFile { .. })));
    }

    #[test]
    fn a_password_is_never_printed() {
        let config = Config { password: Some(Secret::new("hunter2")), ..Config::default() };
        let json = serde_json::to_string(&config).unwrap();
        assert!(!format!("{config:?}{json}").contains("hunter2"));
    }

    #[test]
    fn keys_are_kebab_case_and_unknown_ones_are_refused() {
        let json = r#"{"http-port":0,"statement-timeout":"500ms","row-limit":10,"pg-port":0}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(config.statement_timeout, Duration::from_millis(500));
        assert_eq!((config.http_port, config.row_limit), (0, 10));
        assert!(serde_json::from_str::<Config>(r#"{"httpport":1}"#).is_err());
    }
}
