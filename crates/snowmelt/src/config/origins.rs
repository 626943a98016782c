//! Where each configured key was written, for messages: a line of the file, an environment variable, an option.
//!
//! [`super::load`] notes them while it puts the tree together. Values are never kept here: one may be a password.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// By key, as it is written with dots.
#[derive(Debug, Default)]
pub(super) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// The keys of a file that has been parsed before; of one that cannot be, none.
    pub(super) fn note_file(&mut self, file: &Path, text: &str) {
        if let Ok(table) = DeTable::parse(text) {
            self.note_table(&format!("`{}`", file.display()), text, "", table.get_ref());
        }
    }

    fn note_table(&mut self, file: &str, text: &str, above: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let path = match above {
                "" => key.get_ref().to_string(),
                above => format!("{above}.{}", key.get_ref()),
            };
            let before = text.get(..key.span().start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            if let DeValue::Table(section) = value.get_ref() {
                self.note_table(file, text, &path, section);
            }
            self.0.insert(path, format!("{file}, line {line}"));
        }
    }

    /// A later source of the same key wins, as its value does.
    pub(super) fn note(&mut self, key: &str, origin: String) {
        self.0.insert(key.to_owned(), origin);
    }

    /// Where the key, or the nearest section around it, was written: a source may hold a whole section.
    pub(super) fn of(&self, key: &str) -> Option<&str> {
        let key = key.split('[').next().unwrap_or(key);
        let sections = key.rmatch_indices('.').map(|(end, _)| &key[..end]);
        std::iter::once(key).chain(sections).find_map(|key| self.0.get(key)).map(String::as_str)
    }
}

/// The key that was probably meant by one that there is not: the most alike of those beside it, or of all with its last
/// word.
pub(super) fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    let (section, last) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let likeness = |key: &&String| {
        let (beside, word) = key.rsplit_once('.').unwrap_or(("", key));
        let same_section = if beside == section { 0.1 } else { 0.0 };
        strsim::jaro_winkler(word, last) + same_section
    };
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= 0.9).then(|| best.clone())
}

/// All keys of these tables, sections included, with dots.
pub(super) fn keys(table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        if let toml::Value::Table(section) = value {
            keys.extend(self::keys(section).into_iter().map(|below| format!("{key}.{below}")));
        }
        keys.push(key.clone());
    }
    keys
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_file_is_found_by_its_line_in_each_way_to_write_it() {
        let text = "# ours\n[collector]\nport = 1\ncookie = { name = 'a' }\n\n[enrich]\nschemas = [\n 'x',\n]\nfoo.bar = 2\n";
        let mut origins = Origins::default();
        origins.note_file(Path::new("a.toml"), text);
        for (key, line) in [
            ("collector.port", 3),
            ("collector.cookie.name", 4),
            ("enrich.schemas[0]", 7),
            ("enrich.foo.bar", 10),
            ("collector.else", 2),
        ] {
            assert_eq!(origins.of(key), Some(&*format!("`a.toml`, line {line}")), "{key}");
        }
        origins.note("collector.port", "`--set collector.port`".to_owned());
        assert_eq!(origins.of("collector.port"), Some("`--set collector.port`"));
        assert_eq!(origins.of("server.http-port"), None);
    }

    #[test]
    fn the_key_that_was_meant_is_near() {
        let known = keys(&"data-dir = ''\n[collector]\nport = 1\nbind = ''\n[collector.cookie]\nname = ''\n[server]\nhttp-port = 1\n".parse().unwrap());
        for (unknown, meant) in [
            ("collector.prot", Some("collector.port")),
            ("collecter", Some("collector")),
            ("server.port", Some("collector.port")),
            ("server.httpport", Some("server.http-port")),
            ("collector.zzz", None),
        ] {
            assert_eq!(nearest(unknown, &known).as_deref(), meant, "{unknown}");
        }
    }
}
