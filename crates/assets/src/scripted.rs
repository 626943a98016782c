//! Registries that say what a test told them to. Only for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use enrich::iglu::Repository;
use model::iglu::SchemaKey;
use serde_json::{Value, json};

use crate::ask::{Ask, NoReply, Reply};

#[derive(Debug, Default)]
pub(crate) struct Scripted {
    schemas: Mutex<BTreeMap<(String, SchemaKey), Value>>,
    away: Mutex<BTreeSet<String>>,
    asked: AtomicUsize,
}

impl Scripted {
    pub(crate) fn put(&self, repository: &str, key: &SchemaKey, schema: Value) {
        self.schemas.lock().unwrap().insert((repository.to_owned(), key.clone()), schema);
    }

    pub(crate) fn away(&self, repository: &str, is_away: bool) {
        let mut away = self.away.lock().unwrap();
        if is_away {
            away.insert(repository.to_owned())
        } else {
            away.remove(repository)
        };
    }

    /// Questions up to now.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Ask for Scripted {
    fn ask(&self, repository: &Repository, key: &SchemaKey) -> Result<Reply, NoReply> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.lock().unwrap().contains(&repository.name) {
            return Err(NoReply("it is away".to_owned()));
        }
        let schemas = self.schemas.lock().unwrap();
        let schema = schemas.get(&(repository.name.clone(), key.clone()));
        Ok(schema.map_or_else(Reply::not_found, |schema| Reply::Schema(schema.clone())))
    }
}

pub(crate) fn key(path: &str) -> SchemaKey {
    SchemaKey::parse(&format!("iglu:com.acme/{path}")).unwrap()
}

pub(crate) fn schema(key: &SchemaKey) -> Value {
    json!({
        "self": {
            "vendor": key.vendor(), "name": key.name(), "format": key.format(),
            "version": key.version().to_string(),
        },
        "type": "object",
        "properties": {"arms": {"type": "integer"}},
    })
}

pub(crate) fn repository(name: &str, priority: i64, prefixes: &[&str]) -> Repository {
    Repository {
        name: name.to_owned(),
        priority,
        vendor_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        uri: format!("http://{}.example", name.to_lowercase()),
    }
}
