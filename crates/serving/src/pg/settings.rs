//! The settings of one connection: those that drivers set and ask for, as PostgreSQL names them.
//!
//! A list of what is allowed. A setting that would change an answer takes only the value that is true here anyway
//! (UTC, UTF8, ISO dates); one that is not listed is refused rather than ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Refusal;
use super::sqlstate;

/// Drivers read features from this number; its first part is the PostgreSQL whose catalogues ours resemble.
pub(crate) const SERVER_VERSION: &str = "15.0";

/// What `version()` answers.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Snowmelt)")
}

/// How the value of a setting is judged.
#[derive(Clone, Copy)]
enum Rule {
    /// Cannot be set.
    Fixed,
    /// Kept and shown; changes nothing here.
    Free,
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
    DateStyle,
    SearchPath,
    StatementTimeout,
}

struct Setting {
    name: &'static str,
    /// As `SHOW` and the report at the start write it.
    shown: &'static str,
    default: &'static str,
    rule: Rule,
    /// Told to the client when it connects.
    is_reported: bool,
}

const fn setting(
    name: &'static str,
    default: &'static str,
    rule: Rule,
    is_reported: bool,
) -> Setting {
    Setting { name, shown: name, default, rule, is_reported }
}

const ON: Rule = Rule::OneOf(&["on", "true", "1", "yes"]);
const UTC: Rule = Rule::OneOf(&["utc", "gmt", "etc/utc", "etc/gmt", "zulu", "0", "+00", "+00:00"]);

/// In the order of their names.
const SETTINGS: [Setting; 34] = [
    setting("application_name", "", Rule::Free, true),
    setting("bytea_output", "hex", Rule::OneOf(&["hex"]), false),
    setting("client_encoding", "UTF8", Rule::OneOf(&["utf8", "utf-8", "unicode"]), true),
    setting("client_min_messages", "notice", Rule::Free, false),
    Setting { shown: "DateStyle", ..setting("datestyle", "ISO, MDY", Rule::DateStyle, true) },
    setting("default_transaction_isolation", "read committed", Rule::Free, false),
    setting("default_transaction_read_only", "on", Rule::Free, true),
    setting("escape_string_warning", "on", Rule::Free, false),
    setting("extra_float_digits", "1", Rule::Free, false),
    setting("idle_in_transaction_session_timeout", "0", Rule::Free, false),
    setting("idle_session_timeout", "0", Rule::Free, false),
    setting("in_hot_standby", "off", Rule::Fixed, true),
    setting("integer_datetimes", "on", Rule::Fixed, true),
    Setting {
        shown: "IntervalStyle",
        ..setting("intervalstyle", "postgres", Rule::OneOf(&["postgres"]), true)
    },
    setting("is_superuser", "off", Rule::Fixed, true),
    setting("jit", "off", Rule::Free, false),
    setting("lock_timeout", "0", Rule::Free, false),
    setting("max_identifier_length", "63", Rule::Fixed, false),
    setting("max_index_keys", "32", Rule::Fixed, false),
    setting("row_security", "on", Rule::Free, false),
    setting("search_path", "atomic", Rule::SearchPath, false),
    setting("server_encoding", "UTF8", Rule::Fixed, true),
    setting("server_version", SERVER_VERSION, Rule::Fixed, true),
    setting("server_version_num", "150000", Rule::Fixed, false),
    setting("session_authorization", "", Rule::Fixed, true),
    setting("ssl_renegotiation_limit", "0", Rule::Free, false),
    setting("standard_conforming_strings", "on", ON, true),
    setting("statement_timeout", "0", Rule::StatementTimeout, false),
    setting("synchronize_seqscans", "on", Rule::Free, false),
    setting("synchronous_commit", "on", Rule::Free, false),
    Setting { shown: "TimeZone", ..setting("timezone", "UTC", UTC, true) },
    setting("transaction_isolation", "read committed", Rule::Fixed, false),
    setting("transaction_read_only", "on", Rule::OneOf(&["on", "true"]), false),
    setting("xmloption", "content", Rule::Free, false),
];

/// The settings of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Set by the client; everything else has its default.
    values: BTreeMap<&'static str, String>,
    user: String,
    /// The longest that a statement may run.
    timeout_max: Duration,
}

impl Settings {
    pub(crate) fn new(user: &str, timeout_max: Duration) -> Settings {
        Settings { values: BTreeMap::new(), user: user.to_owned(), timeout_max }
    }

    /// Takes what the startup message asks for. A time zone is the machine's own in some drivers, so that it is passed
    /// over: the client is told that the session is in UTC.
    ///
    /// # Errors
    /// As [`Settings::set`].
    pub(crate) fn start(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        match name.to_ascii_lowercase().as_str() {
            "user" | "database" | "timezone" | "options" => Ok(()),
            name if name.starts_with("_pq_.") => Ok(()),
            // Some drivers write the value as SQL has it.
            name => self.set(name, Some(value.trim_matches('\''))),
        }
    }

    /// `None` is the default.
    ///
    /// # Errors
    /// A name that is not listed, a value that would change answers, and a timeout beyond the limit.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Refusal> {
        let setting = find(name)?;
        let Some(value) = value else {
            self.values.remove(setting.name);
            return Ok(());
        };
        let value = match setting.rule {
            Rule::Fixed => {
                let message = format!("parameter \"{}\" cannot be changed", setting.shown);
                return Err(Refusal::new(sqlstate::CANT_CHANGE_PARAMETER, message));
            }
            Rule::Free => value.to_owned(),
            Rule::OneOf(values) => {
                if !values.contains(&value.to_ascii_lowercase().as_str()) {
                    let hint = format!("here it is always {}", setting.default);
                    return Err(invalid(setting, value).hint(hint));
                }
                setting.default.to_owned()
            }
            Rule::DateStyle => {
                let styles = value.split(',').map(|style| style.trim().to_ascii_lowercase());
                if !styles
                    .into_iter()
                    .all(|style| ["iso", "mdy", "dmy", "ymd"].contains(&style.as_str()))
                {
                    return Err(invalid(setting, value).hint("dates are always written as ISO"));
                }
                setting.default.to_owned()
            }
            Rule::SearchPath => value.to_owned(),
            Rule::StatementTimeout => {
                let timeout = timeout(value).ok_or_else(|| invalid(setting, value))?;
                if timeout > self.timeout_max {
                    let limit = model::duration::print(self.timeout_max);
                    let hint = format!("at most `server.statement-timeout`, which is {limit}");
                    return Err(invalid(setting, value).hint(hint));
                }
                format!("{}ms", timeout.as_millis())
            }
        };
        self.values.insert(setting.name, value);
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.values.clear();
    }

    /// The value that `SHOW` answers, under the name that it answers.
    ///
    /// # Errors
    /// A name that is not listed.
    pub(crate) fn show(&self, name: &str) -> Result<(&'static str, String), Refusal> {
        let setting = find(name)?;
        Ok((setting.shown, self.value(setting)))
    }

    /// Every setting, as `SHOW ALL` has them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, String)> {
        SETTINGS.iter().map(|setting| (setting.shown, self.value(setting)))
    }

    /// What a client is told when it connects, and one of them again when it is set.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (&'static str, String)> {
        SETTINGS
            .iter()
            .filter(|it| it.is_reported)
            .map(|setting| (setting.shown, self.value(setting)))
    }

    /// The limit of a statement, where the client asked for a shorter one.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let timeout = timeout(self.values.get("statement_timeout")?)?;
        (!timeout.is_zero()).then_some(timeout)
    }

    /// The schemas that names without one are looked for in.
    pub(crate) fn search_path(&self) -> Vec<String> {
        let path = self.values.get("search_path").map_or("atomic", String::as_str);
        path.split(',').map(|schema| schema.trim().trim_matches('"').to_owned()).collect()
    }

    fn value(&self, setting: &Setting) -> String {
        match self.values.get(setting.name) {
            Some(value) => value.clone(),
            None if setting.name == "session_authorization" => self.user.clone(),
            None => setting.default.to_owned(),
        }
    }
}

fn find(name: &str) -> Result<&'static Setting, Refusal> {
    let lower = name.to_ascii_lowercase();
    SETTINGS.iter().find(|setting| setting.name == lower).ok_or_else(|| {
        let message = format!("unrecognized configuration parameter \"{name}\"");
        Refusal::new(sqlstate::UNDEFINED_OBJECT, message)
            .hint("`SHOW ALL` lists the settings that a connection has")
    })
}

fn invalid(setting: &Setting, value: &str) -> Refusal {
    let message = format!("invalid value for parameter \"{}\": \"{value}\"", setting.shown);
    Refusal::new(sqlstate::INVALID_PARAMETER_VALUE, message)
}

/// PostgreSQL's durations: a number of milliseconds, or with `us`, `ms`, `s`, `min`, `h`, `d`.
fn timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let micros = match unit.trim() {
        "us" => 1,
        "" | "ms" => 1000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    Some(Duration::from_micros(number.checked_mul(micros)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("anna", Duration::from_secs(60))
    }

    fn code(name: &str, value: &str) -> &'static str {
        settings().set(name, Some(value)).map_or_else(|refusal| refusal.code, |()| "ok")
    }

    #[test]
    fn what_drivers_set_is_taken_and_what_would_change_answers_is_not() {
        for (name, value) in [
            ("extra_float_digits", "3"),
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("datestyle", "iso, mdy"),
            ("TimeZone", "UTC"),
            ("client_encoding", "utf-8"),
            ("search_path", "$user, public"),
            ("statement_timeout", "5s"),
            ("standard_conforming_strings", "on"),
        ] {
            assert_eq!(code(name, value), "ok", "{name}={value}");
        }
        for (name, value) in [
            ("timezone", "Europe/Berlin"),
            ("client_encoding", "LATIN1"),
            ("datestyle", "German"),
            ("statement_timeout", "61s"),
            ("statement_timeout", "soon"),
            ("standard_conforming_strings", "off"),
            ("bytea_output", "escape"),
        ] {
            assert_eq!(code(name, value), sqlstate::INVALID_PARAMETER_VALUE, "{name}={value}");
        }
        assert_eq!(code("work_mem", "1GB"), sqlstate::UNDEFINED_OBJECT);
        assert_eq!(code("datafusion.execution.batch_size", "1"), sqlstate::UNDEFINED_OBJECT);
        assert_eq!(code("server_version", "16"), sqlstate::CANT_CHANGE_PARAMETER);
    }

    #[test]
    fn a_shorter_timeout_holds_until_it_is_reset() {
        let mut settings = settings();
        assert_eq!(settings.timeout(), None);
        settings.set("statement_timeout", Some("1500")).unwrap();
        assert_eq!(settings.timeout(), Some(Duration::from_millis(1500)));
        settings.set("statement_timeout", Some("0")).unwrap();
        assert_eq!(settings.timeout(), None);
        settings.set("statement_timeout", Some("1min")).unwrap();
        settings.reset();
        assert_eq!(settings.timeout(), None);
        assert_eq!(settings.show("SESSION_AUTHORIZATION").unwrap().1, "anna");
    }
}
