//! Reads a configuration of Snowplow's collector and says it in ours: `snowmelt config import`.
//!
//! Three layouts are known, those of r89, 2.x and 3.x (Snowplow: `collector.md` 8). What has no place here is dropped and
//! named with the reason; where a default differs, the upstream one is written out, so that nothing changes silently.
//! `hocon` reads the text, `keys` knows every key.

mod hocon;

mod keys;

use std::fmt::Write;

pub use hocon::Error;

use hocon::Value;
use keys::{Becomes, Form, find};

use crate::config::is_host;

/// Which release line a file was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    R89,
    V2,
    V3,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub layout: Layout,
    /// Our keys in order, each with its value as TOML.
    settings: Vec<(String, String)>,
    /// What has no place here: the key as the file has it, and why.
    pub dropped: Vec<(String, String)>,
    /// What a person must look at, although nothing was dropped.
    pub notes: Vec<String>,
    /// `telemetry.url` names a collector that is not Snowplow's.
    has_own_listener: bool,
}

/// Reads the text of a HOCON file; `variable` looks into the environment, whose values are written down as they are now.
///
/// # Errors
/// When it is no HOCON, with the line.
pub fn import(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Imported, Error> {
    let read = hocon::read(text, variable)?;
    let layout = layout_of(&read.root);
    let mut imported = Imported {
        layout,
        settings: Vec::new(),
        dropped: Vec::new(),
        notes: Vec::new(),
        has_own_listener: has_own_listener(&read.root),
    };
    for name in &read.unset {
        imported
            .notes
            .push(format!("`${{?{name}}}` is not set in the environment: left as without it"));
    }
    imported.write_differing_defaults();
    let mut path = Vec::new();
    imported.take(&mut path, &read.root);
    imported.finish();
    Ok(imported)
}

impl Imported {
    /// The keys as TOML, one a line.
    pub fn toml(&self) -> String {
        let line = match self.layout {
            Layout::R89 => "r89",
            Layout::V2 => "2.x",
            Layout::V3 => "3.x",
        };
        let mut text = format!(
            "# Made by `snowmelt config import` from a configuration of Snowplow's collector, {line} layout.\n"
        );
        for (key, value) in &self.settings {
            writeln!(text, "{key} = {value}").expect("writing to a string does not fail");
        }
        text
    }

    fn set(&mut self, key: &str, value: String) {
        let key = format!("collector.{key}");
        match self.settings.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.settings.push((key, value)),
        }
    }

    fn is_set(&self, key: &str, value: &str) -> bool {
        self.settings
            .iter()
            .any(|(known, is)| known.strip_prefix("collector.") == Some(key) && is == value)
    }

    fn drop_key(&mut self, path: &[String], why: impl Into<String>) {
        self.dropped.push((path.join("."), why.into()));
    }

    /// What upstream does where its file says nothing and ours does something else.
    fn write_differing_defaults(&mut self) {
        let of_2 = [
            ("compat.profile", "\"v2\""),
            ("networking.max-connections", "2048"),
            ("networking.max-request-line-length", "32768"),
        ];
        let differing: &[(&str, &str)] = match self.layout {
            Layout::R89 => &[
                of_2[0],
                of_2[1],
                of_2[2],
                ("enable-default-redirect", "true"),
                ("cookie.secure", "false"),
                ("cookie.http-only", "false"),
                ("cookie.same-site", "\"\""),
            ],
            Layout::V2 => &of_2,
            Layout::V3 => &[("compat.profile", "\"v3\"")],
        };
        for (key, value) in differing {
            self.set(key, (*value).to_owned());
        }
        self.set("pre-termination-period", "\"10s\"".to_owned());
        if self.has_own_listener {
            self.set("telemetry.disable", "false".to_owned());
        }
    }

    fn take(&mut self, path: &mut Vec<String>, value: &Value) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                if let Some(Becomes::Map(to)) = find(path) {
                    return self.take_map(path, to, fields);
                }
                for (name, value) in fields {
                    path.push(name.clone());
                    self.take(path, value);
                    path.pop();
                }
            }
            Value::Text(_) | Value::List(_) => self.take_leaf(path, value),
        }
    }

    fn take_leaf(&mut self, path: &[String], value: &Value) {
        match find(path) {
            Some(Becomes::Key(to, _)) if to.starts_with("telemetry.") && !self.has_own_listener => {
                self.drop_key(path, keys::NO_TELEMETRY);
            }
            Some(Becomes::Key(to, form)) => match form.toml(value) {
                Ok(text) => self.set(to, text),
                Err(why) => self.drop_key(path, why),
            },
            Some(Becomes::Both(to, form)) => match form.toml(value) {
                Ok(text) => {
                    self.set(&format!("streams.good.{to}"), text.clone());
                    self.set(&format!("streams.bad.{to}"), text);
                }
                Err(why) => self.drop_key(path, why),
            },
            Some(Becomes::Sink) => {
                let is_stdout = matches!(value, Value::Text(kind) if kind == "stdout");
                self.drop_key(path, if is_stdout { keys::STDOUT } else { keys::SINK });
            }
            Some(Becomes::Map(_)) => self.drop_key(path, "this is not a map"),
            Some(Becomes::Dropped(why)) => self.drop_key(path, *why),
            None => self.drop_key(path, "no such key is known"),
        }
    }

    fn take_map(&mut self, path: &[String], to: &str, fields: &[(String, Value)]) {
        for (name, value) in fields {
            match Form::Text.toml(value) {
                Ok(text) => self.set(&format!("{to}.{}", keys::quote(name)), text),
                Err(why) => {
                    let path: Vec<String> = path.iter().chain([name]).cloned().collect();
                    self.drop_key(&path, why);
                }
            }
        }
    }

    /// What can only be said when all keys are known.
    fn finish(&mut self) {
        if self.is_set("ssl.enable", "true") {
            if self.layout == Layout::V3 {
                self.set("ssl.only", "true".to_owned());
            }
            self.notes.push(
                "`ssl.enable`: the key store is named among the options of Java (`javax.net.ssl.keyStore`); set \
                 `collector.ssl.key-store` and `collector.ssl.key-store-password`, or `collector.ssl.cert-file` and \
                 `collector.ssl.key-file`"
                    .to_owned(),
            );
        }
        if self.is_set("cookie-bounce.enabled", "true") && self.layout == Layout::R89 {
            self.notes
                .push("`cookieBounce`: the second request is at a relative address".to_owned());
        }
        let sink =
            self.dropped.iter().any(|(_, why)| [keys::SINK, keys::STDOUT].contains(&why.as_str()));
        if sink {
            self.notes.push(
                "records go to the embedded log of this process; whatever reads the stream named above gets nothing from it"
                    .to_owned(),
            );
        }
    }
}

/// The names under `collector`, which a file may have or leave out.
fn collector_of(root: &Value) -> &Value {
    get(root, "collector").unwrap_or(root)
}

fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Object(fields) = value else { return None };
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn has_own_listener(root: &Value) -> bool {
    let url = get(collector_of(root), "telemetry").and_then(|telemetry| get(telemetry, "url"));
    let Some(Value::Text(url)) = url else { return false };
    let host = url.trim_end_matches('.').to_ascii_lowercase();
    is_host(url) && !host.ends_with("snowplowanalytics.com") && !host.ends_with("snowplow.io")
}

fn layout_of(root: &Value) -> Layout {
    let collector = collector_of(root);
    let streams = get(collector, "streams");
    let of_streams = |name| streams.and_then(|streams| get(streams, name));
    let has_old_cookie = get(collector, "cookie").and_then(|it| get(it, "domain")).is_some();
    if get(collector, "sink").is_some() || has_old_cookie {
        Layout::R89
    } else if of_streams("sink").is_some() || matches!(of_streams("good"), Some(Value::Text(_))) {
        Layout::V2
    } else {
        Layout::V3
    }
}

#[cfg(test)]
mod tests;
