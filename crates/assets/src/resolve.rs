//! One question to all registries of a resolver, and the one answer that comes of it.
//!
//! The registries are asked one after the other, in the order for the key; the first that has the schema, wins. What
//! counts as an answer is decided here and in the implementations of [`Ask`]; see `docs/decisions`. Nothing is recorded
//! here. Snowplow: enrich-core.md 4.4 to 4.6.

use enrich::iglu::{Answer, Repository, Resolver, superseding};
use model::bad_row::{Lookup, LookupError};
use model::iglu::{SchemaKey, Version};
use serde_json::Value;

use crate::ask::{Ask, NoReply, Reply, Unanswered};
use crate::registry;

/// What became of a question to one registry; for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Found,
    Absent,
    Nothing,
}

impl Said {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Said::Found => "found",
            Said::Absent => "absent",
            Said::Nothing => "no_answer",
        }
    }
}

/// The answer to a question: a schema from the first registry that has it; or an absence, if each of them says so.
///
/// # Errors
/// None has it, and at least one gives no answer: the first of those.
pub(crate) fn resolve(
    resolver: &Resolver,
    key: &SchemaKey,
    ask: &dyn Ask,
    mut count: impl FnMut(&Repository, Said),
) -> Result<Answer, Unanswered> {
    let mut lookups = Vec::new();
    let mut unanswered = None;
    for repository in resolver.order(key) {
        match ask_one(repository, key, ask) {
            Ok(Ok((schema, superseded_by))) => {
                count(repository, Said::Found);
                let name = repository.name.clone();
                return Ok(Answer::found(key, name, schema, superseded_by));
            }
            Ok(Err(error)) => {
                count(repository, Said::Absent);
                let name = repository.name.clone();
                lookups.push(Lookup { repository: name, errors: vec![error], attempts: 1 });
            }
            Err(NoReply(why)) => {
                count(repository, Said::Nothing);
                let repository = repository.name.clone();
                unanswered.get_or_insert(Unanswered { repository, key: key.clone(), why });
            }
        }
    }
    lookups.sort_by(|left, right| left.repository.cmp(&right.repository));
    unanswered.map_or_else(|| Ok(Answer::absent(lookups)), Err)
}

type Found = (Value, Option<Version>);

/// The schema to validate with, from one registry: superseding is one hop within it.
fn ask_one(
    repository: &Repository,
    key: &SchemaKey,
    ask: &dyn Ask,
) -> Result<Result<Found, LookupError>, NoReply> {
    let schema = match checked(repository, key, ask)? {
        Reply::Schema(schema) => schema,
        Reply::Not(error) => return Ok(Err(error)),
    };
    let version = match superseding(key, &schema) {
        Ok(None) => return Ok(Ok((schema, None))),
        Ok(Some(version)) => version,
        Err(error) => return Ok(Err(error)),
    };
    Ok(match checked(repository, &key.with_version(version), ask)? {
        Reply::Schema(newer) => Ok((newer, Some(version))),
        Reply::Not(error) => Err(error),
    })
}

/// A registry that hands out another schema than the one asked for answers another question.
fn checked(repository: &Repository, key: &SchemaKey, ask: &dyn Ask) -> Result<Reply, NoReply> {
    let reply = ask.ask(repository, key)?;
    if let Reply::Schema(schema) = &reply
        && let Err(found) = registry::expect_self(key, schema)
    {
        return Err(NoReply(format!("it answers with a schema whose `self` says {found}")));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scripted::{Scripted, key, repository, schema};

    fn resolver() -> Resolver {
        Resolver {
            epoch: 1,
            repositories: vec![
                repository("Second", 5, &[]),
                repository("First", 1, &[]),
                repository("Acme", 9, &["com.acme"]),
            ],
            embedded: Vec::new(),
        }
    }

    fn ask(registries: &Scripted, key: &SchemaKey) -> (Result<Answer, Unanswered>, Vec<String>) {
        let mut asked = Vec::new();
        let answer = resolve(&resolver(), key, registries, |repository, said| {
            asked.push(format!("{} {}", repository.name, said.as_str()));
        });
        (answer, asked)
    }

    fn errors(answer: Result<Answer, Unanswered>) -> Vec<String> {
        let answer = answer.unwrap();
        let lookups = answer.absence().unwrap().iter();
        lookups.map(|lookup| format!("{} {}", lookup.repository, lookup.errors[0].error)).collect()
    }

    #[test]
    fn the_first_registry_that_has_the_schema_wins() {
        let registries = Scripted::default();
        let a = key("a/jsonschema/1-0-0");
        registries.put("Second", &a, schema(&a));
        let (answer, asked) = ask(&registries, &a);
        assert_eq!(answer.unwrap().schema().unwrap().0, "Second");
        assert_eq!(asked, ["Acme absent", "First absent", "Second found"]);
        registries.put("First", &a, schema(&a));
        let (answer, asked) = ask(&registries, &a);
        assert_eq!(answer.unwrap().schema().unwrap().0, "First");
        assert_eq!(asked, ["Acme absent", "First found"]);
    }

    #[test]
    fn an_absence_is_the_word_of_all_of_them() {
        let registries = Scripted::default();
        let a = key("a/jsonschema/1-0-0");
        assert_eq!(
            errors(ask(&registries, &a).0),
            ["Acme NotFound", "First NotFound", "Second NotFound"]
        );
        registries.away("First", true);
        let (answer, asked) = ask(&registries, &a);
        let unanswered = answer.unwrap_err();
        assert_eq!((unanswered.repository.as_str(), &unanswered.key), ("First", &a));
        assert_eq!(asked, ["Acme absent", "First no_answer", "Second absent"]);
        // A mirror that has it is an answer.
        registries.put("Second", &a, schema(&a));
        assert_eq!(ask(&registries, &a).0.unwrap().schema().unwrap().0, "Second");
    }

    #[test]
    fn a_superseded_schema_is_answered_by_the_newer_one_of_the_same_registry() {
        let registries = Scripted::default();
        let (old, new) = (key("a/jsonschema/1-0-0"), key("a/jsonschema/1-0-2"));
        let mut superseded = schema(&old);
        superseded["$supersededBy"] = json!("1-0-2");
        registries.put("First", &old, superseded.clone());
        registries.put("Second", &new, schema(&new));
        // The newer one lies elsewhere, which does not count.
        assert_eq!(
            errors(ask(&registries, &old).0),
            ["Acme NotFound", "First NotFound", "Second NotFound"]
        );
        registries.put("First", &new, schema(&new));
        let answer = ask(&registries, &old).0.unwrap();
        let (_, found, superseded_by) = answer.schema().unwrap();
        assert_eq!((found, superseded_by), (&schema(&new), Some(new.version())));

        superseded["$supersededBy"] = json!("1-0-0");
        registries.put("First", &old, superseded);
        assert_eq!(
            errors(ask(&registries, &old).0),
            ["Acme NotFound", "First ClientFailure", "Second NotFound"]
        );
    }

    #[test]
    fn another_schema_than_the_one_asked_for_is_no_answer() {
        let registries = Scripted::default();
        let (a, b) = (key("a/jsonschema/1-0-0"), key("a/jsonschema/1-0-1"));
        for other in [schema(&b), json!({"type": "object"}), json!([]), json!(null)] {
            registries.put("Acme", &a, other);
            let unanswered = ask(&registries, &a).0.unwrap_err();
            assert_eq!(unanswered.repository, "Acme");
            assert!(unanswered.to_string().contains("`self`"), "{unanswered}");
        }
    }
}
