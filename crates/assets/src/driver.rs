//! A record to its outcomes, fetching what the recipe lacks. Both layers do it with this.
//!
//! Each thread has a driver of its own: a recipe that knows the answers it has met, so that a record whose schemas are
//! known takes no lock and no look-up but the recipe's. Nothing here knows a network or a disk, see [`crate::answers`].

use std::collections::HashMap;
use std::sync::Arc;

use enrich::look_up;
use enrich::{Missing, Outcome, Recipe};
use model::iglu::SchemaKey;
use model::position::RawRecord;
use serde_json::Value;

use crate::Error;
use crate::answers::Answers;

/// A recipe, what was learned under it, and where to learn more. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Driver {
    recipe: Arc<Recipe>,
    answers: Arc<Answers>,
}

impl Driver {
    pub fn new(recipe: Arc<Recipe>, answers: Arc<Answers>) -> Driver {
        Driver { recipe, answers }
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The outcomes of a record. Every answer that they depend on is a durable fact before this returns. Blocks while
    /// registries are asked, for some seconds at most.
    ///
    /// # Errors
    /// Those that [`Error::waits`] when registries give no answer: try the same record again later; what was answered is
    /// kept. An open question never becomes a bad row. Also when a fact cannot be read or written.
    pub fn drive(&mut self, record: &RawRecord<'_>) -> Result<Vec<Outcome>, Error> {
        match enrich::enrich(record, &self.recipe) {
            Ok(outcomes) => Ok(outcomes),
            Err(missing) => self.learn(record, missing),
        }
    }

    /// The schema of a key; `None` when there is none, as for data that a script has labelled. Both layers get the same:
    /// where the recipe does not have it, it is what registries answered a question about this very key with, and what
    /// they were never asked is asked now. (Of a version that superseded another one, the answer for that other one may
    /// say something else.)
    ///
    /// # Errors
    /// As [`Driver::drive`].
    pub fn schema(&self, key: &SchemaKey) -> Result<Option<Value>, Error> {
        let schemas = self.recipe.schemas();
        if let Some(known) = schemas.look_up_plain(key) {
            return Ok(known.cloned());
        }
        let Some(resolver) = schemas.resolver() else { return Ok(None) };
        let (answers, error) = self.answers.get(resolver, std::slice::from_ref(key));
        match (answers.first(), error) {
            (Some((_, answer)), _) => Ok(answer.schema().map(|(_, schema, _)| schema.clone())),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Asks until the record has all its answers. An answer may lead to further questions (what lies in an envelope, what
    /// a look-up has given), so there may be some rounds; each of them brings an answer that was not there before.
    #[cold]
    fn learn(
        &mut self,
        record: &RawRecord<'_>,
        mut missing: Missing,
    ) -> Result<Vec<Outcome>, Error> {
        let mut given = HashMap::new();
        let mut looked_up = look_up::Answers::default();
        loop {
            if missing.schemas.is_empty() {
                let known = looked_up.len();
                self.answers.look_ups.answer(record, &missing.look_ups, &mut looked_up)?;
                if looked_up.len() == known {
                    return Err(Error::Missing(missing));
                }
                match enrich::enrich_knowing(record, &self.recipe, &looked_up) {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(more) => missing = more,
                }
                continue;
            }
            let Some(resolver) = self.recipe.schemas().resolver() else {
                return Err(Error::Missing(missing));
            };
            let (answers, error) = self.answers.get(resolver, &missing.schemas);
            let known = given.len();
            given.extend(answers);
            if given.len() > known {
                // All answers that this record has met: however few are kept, these stay together.
                let all = given.iter().map(|(key, answer)| (key.clone(), Arc::clone(answer)));
                let max = self.answers.in_memory_max();
                self.recipe = Arc::new(self.recipe.with_answers(all, max));
                match enrich::enrich_knowing(record, &self.recipe, &looked_up) {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(more) => missing = more,
                }
            } else if error.is_none() {
                return Err(Error::Missing(missing));
            }
            // What is still open may not have been needed; if it is, it waits.
            if let Some(error) = error {
                return Err(error);
            }
        }
    }
}

/// A recipe alone: its questions stay open. For a recipe without a resolver, which has none.
impl From<Arc<Recipe>> for Driver {
    fn from(recipe: Arc<Recipe>) -> Driver {
        Driver::new(recipe, Arc::new(Answers::none()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use enrich::Settings;
    use enrich::iglu::{Resolver, Schemas};
    use model::files::Files;
    use model::payload::CollectorPayload;
    use model::position::{Offset, Partition};
    use serde_json::json;
    use stream::disk::Disk;
    use tempfile::TempDir;

    use super::*;
    use crate::ask::Ask;
    use crate::scripted::{Scripted, key, repository, schema};

    fn recipe(epoch: u64) -> Arc<Recipe> {
        let repositories = vec![repository("First", 0, &[]), repository("Second", 1, &[])];
        let resolver = Resolver { epoch, repositories, embedded: Vec::new() };
        Arc::new(Recipe::new(Schemas::embedded().with_resolver(resolver), Settings::default()))
    }

    fn answers(data: &Path, registries: Option<&Arc<Scripted>>) -> Arc<Answers> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        let ask = registries.map(|it| Arc::clone(it) as Arc<dyn Ask>);
        Arc::new(Answers::open(files, data, ask, 3).unwrap())
    }

    /// A record of one event with these entities.
    fn drive(driver: &mut Driver, entities: &[&SchemaKey]) -> Result<Vec<Outcome>, Error> {
        let entities: Vec<_> = entities
            .iter()
            .map(|key| json!({"schema": key.as_str(), "data": {"arms": 6}}))
            .collect();
        let contexts = json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0",
            "data": entities,
        });
        let event = json!({"e": "pv", "p": "web", "tv": "t-1", "co": contexts.to_string()});
        let payload = CollectorPayload {
            ip_address: "203.0.113.7".to_owned(),
            timestamp: 1_790_000_000_000,
            encoding: "UTF-8".to_owned(),
            collector: "c".to_owned(),
            path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
            content_type: Some("application/json".to_owned()),
            body: Some(
                json!({
                    "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
                    "data": [event],
                })
                .to_string(),
            ),
            schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
            ..CollectorPayload::default()
        };
        let partition = Partition::of_stream("raw", 0);
        let bytes = payload.encode();
        driver.drive(&RawRecord {
            partition: &partition,
            offset: Offset::from_number(1),
            bytes: &bytes,
        })
    }

    fn is_good(outcomes: &Result<Vec<Outcome>, Error>) -> bool {
        matches!(outcomes.as_deref(), Ok([Outcome::Enriched(_)]))
    }

    fn is_bad(outcomes: &Result<Vec<Outcome>, Error>) -> bool {
        matches!(outcomes.as_deref(), Ok([Outcome::Bad(_)]))
    }

    #[test]
    fn an_answer_is_asked_for_once_and_outlives_the_registry_and_the_process() {
        let data = TempDir::new().unwrap();
        let registries = Arc::new(Scripted::default());
        let (there, not) = (key("a/jsonschema/1-0-0"), key("b/jsonschema/1-0-0"));
        registries.put("Second", &there, schema(&there));
        let shared = answers(data.path(), Some(&registries));
        let mut driver = Driver::new(recipe(1), Arc::clone(&shared));
        assert!(is_good(&drive(&mut driver, &[&there])));
        assert!(is_bad(&drive(&mut driver, &[&not, &there])));
        assert_eq!(registries.asked(), 4);
        // Another thread, another layer.
        let mut other = Driver::new(recipe(1), Arc::clone(&shared));
        assert!(is_bad(&drive(&mut other, &[&not])));
        assert_eq!(registries.asked(), 4);
        // Another process, with the registries changed or away.
        registries.put("First", &not, schema(&not));
        for ask in [Some(&registries), None] {
            let mut later = Driver::new(recipe(1), answers(data.path(), ask));
            assert!(is_bad(&drive(&mut later, &[&not])));
            assert!(is_good(&drive(&mut later, &[&there])));
        }
        let mut guest =
            Driver::new(recipe(1), Arc::new(Answers::reading(Arc::new(Disk), data.path())));
        assert!(is_good(&drive(&mut guest, &[&there])));
        assert_eq!(registries.asked(), 4);
        let stats = answers(data.path(), None).stats();
        assert_eq!(stats.facts, 2);
        assert!(stats.bytes > 200, "{stats:?}");
    }

    #[test]
    fn a_record_waits_until_its_registries_answer_and_keeps_what_was_answered() {
        let data = TempDir::new().unwrap();
        let registries = Arc::new(Scripted::default());
        let (a, b) = (key("a/jsonschema/1-0-0"), key("b/jsonschema/1-0-0"));
        registries.put("First", &a, schema(&a));
        registries.away("Second", true);
        let mut driver = Driver::new(recipe(1), answers(data.path(), Some(&registries)));
        for _attempt in 0..3 {
            let error = drive(&mut driver, &[&a, &b]).unwrap_err();
            assert!(error.waits(), "{error}");
            let message = error.to_string();
            assert!(message.contains("`Second`") && message.contains(b.as_str()), "{message}");
        }
        assert!(is_good(&drive(&mut driver, &[&a])), "others do not wait");
        registries.away("Second", false);
        assert!(is_bad(&drive(&mut driver, &[&a, &b])));
    }

    #[test]
    fn without_anybody_to_ask_a_record_waits() {
        let data = TempDir::new().unwrap();
        let a = key("a/jsonschema/1-0-0");
        for known in [answers(data.path(), None), Arc::new(Answers::none())] {
            let error = drive(&mut Driver::new(recipe(1), known), &[&a]).unwrap_err();
            assert!(error.waits() && error.to_string().contains(a.as_str()), "{error}");
        }
    }

    #[test]
    fn a_record_may_need_more_answers_than_are_kept() {
        let data = TempDir::new().unwrap();
        let registries = Arc::new(Scripted::default());
        let keys: Vec<SchemaKey> =
            (0..20).map(|at| key(&format!("a/jsonschema/1-0-{at}"))).collect();
        keys.iter().for_each(|key| registries.put("First", key, schema(key)));
        let mut driver = Driver::new(recipe(1), answers(data.path(), Some(&registries)));
        let all: Vec<&SchemaKey> = keys.iter().collect();
        for some in [&all[..], &all[..1], &all[1..7], &all[..]] {
            assert!(is_good(&drive(&mut driver, some)));
        }
        assert_eq!(registries.asked(), 20);
    }

    #[test]
    fn the_next_epoch_asks_again_for_absences_alone() {
        let data = TempDir::new().unwrap();
        let registries = Arc::new(Scripted::default());
        let (there, late) = (key("a/jsonschema/1-0-0"), key("b/jsonschema/1-0-0"));
        registries.put("First", &there, schema(&there));
        let shared = answers(data.path(), Some(&registries));
        let mut first = Driver::new(recipe(1), Arc::clone(&shared));
        assert!(is_bad(&drive(&mut first, &[&there, &late])));
        let resolver = first.recipe().schemas().resolver().unwrap().clone();
        assert!(!shared.has_ended_absence(&resolver));
        registries.put("Second", &late, schema(&late));
        assert!(shared.has_ended_absence(&resolver));
        assert_eq!(shared.fresh_epoch(&resolver).unwrap(), 2);

        let asked = registries.asked();
        let mut second = Driver::new(recipe(2), Arc::clone(&shared));
        assert!(is_good(&drive(&mut second, &[&there, &late])));
        assert_eq!(registries.asked() - asked, 2, "the schema that was given is taken over");
        assert_eq!(shared.fresh_epoch(&resolver).unwrap(), 3);
        // The first epoch stays as it was, also for a later process.
        for known in [shared, answers(data.path(), None)] {
            let mut replay = Driver::new(recipe(1), Arc::clone(&known));
            assert!(is_bad(&drive(&mut replay, &[&there, &late])));
            let mut replay = Driver::new(recipe(2), known);
            assert!(is_good(&drive(&mut replay, &[&there, &late])));
        }
    }

    #[test]
    fn of_two_racers_the_first_write_holds_for_both() {
        let data = TempDir::new().unwrap();
        let (yes, no) = (Arc::new(Scripted::default()), Arc::new(Scripted::default()));
        let keys: Vec<SchemaKey> =
            (0..50).map(|at| key(&format!("a/jsonschema/1-0-{at}"))).collect();
        keys.iter().for_each(|key| yes.put("First", key, schema(key)));
        // Two that share nothing but the folder, as two processes would.
        let both = [yes, no].map(|registries| answers(data.path(), Some(&registries)));
        let results: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let race = |known: &Arc<Answers>| {
                let mut driver = Driver::new(recipe(1), Arc::clone(known));
                keys.iter().map(|key| is_good(&drive(&mut driver, &[key]))).collect()
            };
            let racers = [&both[0], &both[1]].map(|known| scope.spawn(move || race(known)));
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(results[0], results[1]);
        let mut later = Driver::new(recipe(1), answers(data.path(), None));
        let replay: Vec<bool> =
            keys.iter().map(|key| is_good(&drive(&mut later, &[key]))).collect();
        assert_eq!(replay, results[0]);
    }

    #[test]
    fn a_damaged_fact_is_never_used() {
        let data = TempDir::new().unwrap();
        let registries = Arc::new(Scripted::default());
        let a = key("a/jsonschema/1-0-0");
        let mut driver = Driver::new(recipe(1), answers(data.path(), Some(&registries)));
        assert!(is_bad(&drive(&mut driver, &[&a])));
        let resolver = driver.recipe().schemas().resolver().unwrap().digest();
        let folder = data.path().join("facts").join(resolver).join("1");
        let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("NotFound", "NotFoune")).unwrap();
        let mut later = Driver::new(recipe(1), answers(data.path(), Some(&registries)));
        let error = drive(&mut later, &[&a]).unwrap_err();
        assert!(matches!(error, Error::DamagedFact { .. }) && !error.waits(), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::write(&path, text.replace("\"format\":1", "\"format\":9")).unwrap();
        assert!(matches!(drive(&mut later, &[&a]), Err(Error::NewerFact { format: 9, .. })));
    }
}
