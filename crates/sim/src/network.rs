//! Registries on the network as a script: schemas are published late, replies are slow, and at times nobody is there.
//!
//! What one of them says may change at any moment, even the schema of a version that is out; only the facts keep both
//! layers at one answer. The world decides when; see [`crate::world`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use assets::ask::{Ask, NoReply, Reply};
use enrich::iglu::{Repository, Resolver};
use model::iglu::SchemaKey;
use serde_json::Value;

use crate::chance::Chance;
use crate::requests;

/// Two registries, as the resolver below names them.
#[derive(Debug, Default)]
pub struct Network(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    schemas: BTreeMap<(String, SchemaKey), Value>,
    /// The registries that are away.
    away: [bool; 2],
    /// Questions that end without a reply before the next one is answered.
    slow: u64,
}

const NAMES: [&str; 2] = ["Near", "Far"];

impl Network {
    /// The resolver of a world that asks.
    pub fn resolver() -> Resolver {
        let repository = |(at, name): (usize, &str)| Repository {
            name: name.to_owned(),
            priority: at as i64,
            vendor_prefixes: Vec::new(),
            uri: format!("http://{}.example", name.to_lowercase()),
        };
        let repositories = NAMES.into_iter().enumerate().map(repository).collect();
        Resolver { epoch: 1, repositories, embedded: Vec::new() }
    }

    /// Something happens there; what, for the history.
    pub fn change(&self, chance: &mut Chance) -> String {
        let mut state = self.state();
        let at = chance.below(2) as usize;
        match chance.below(4) {
            0 => {
                state.away[at] = !state.away[at];
                format!("the registry {} is away: {}", NAMES[at], state.away[at])
            }
            1 => {
                state.slow = chance.below(6);
                format!("{} questions will get no reply", state.slow)
            }
            _ => {
                let (key, schema) = requests::remote_schema(chance);
                let told = format!("the registry {} now has {key}: {schema}", NAMES[at]);
                state.schemas.insert((NAMES[at].to_owned(), key), schema);
                told
            }
        }
    }

    /// Everybody is there and answers.
    pub fn settle(&self) {
        let mut state = self.state();
        (state.away, state.slow) = ([false; 2], 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the network")
    }
}

impl Ask for Network {
    fn ask(&self, repository: &Repository, key: &SchemaKey) -> Result<Reply, NoReply> {
        let mut state = self.state();
        if state.slow > 0 {
            state.slow -= 1;
            return Err(NoReply("no answer in time".to_owned()));
        }
        let at = NAMES.iter().position(|name| *name == repository.name);
        if at.is_some_and(|at| state.away[at]) {
            return Err(NoReply("it is away".to_owned()));
        }
        let schema = state.schemas.get(&(repository.name.clone(), key.clone()));
        Ok(schema.map_or_else(Reply::not_found, |schema| Reply::Schema(schema.clone())))
    }
}
