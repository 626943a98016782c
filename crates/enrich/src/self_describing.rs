//! The self-describing event and the contexts of an event: parse, check the wrapper, check what is inside.
//! Snowplow: `enrich-core.md` 3.1, 3.12, 4.2 and 4.6.

use std::cell::RefCell;
use std::sync::LazyLock;

use model::bad_row::FailureMessage;
use model::failed::{Cause, Failure};
use model::iglu::{Criterion, SchemaKey, SelfDescribing};
use serde_json::{Value, json};

use crate::entity::Entity;
use crate::iglu::{Plain, Schemas};
use crate::json;
use crate::tape::{Item, Tape};

pub(crate) const UNSTRUCT_EVENT: &str =
    "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
pub(crate) const CONTEXTS: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1";
/// What the envelope of a self-describing event may be.
pub(crate) static ANY_UNSTRUCT_EVENT: LazyLock<Criterion> = LazyLock::new(|| {
    criterion("iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-*")
});
/// What the envelope of entities may be.
pub(crate) static ANY_CONTEXTS: LazyLock<Criterion> =
    LazyLock::new(|| criterion("iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-*"));
static VALIDATION_INFO: LazyLock<SchemaKey> = LazyLock::new(|| {
    let uri = "iglu:com.snowplowanalytics.iglu/validation_info/jsonschema/1-0-0";
    SchemaKey::parse(uri).expect("the key is well-formed")
});

/// Checks texts against the recipe's schemas.
#[derive(Clone, Copy)]
pub(crate) struct Checker<'a> {
    pub(crate) schemas: &'a Schemas,
    /// Takes note of the questions that registries must answer first. Data is let pass until then, so that one look at
    /// a record finds as many of them as it can; what is made of it is thrown away.
    pub(crate) open: &'a RefCell<Vec<SchemaKey>>,
    pub(crate) json_depth_max: u32,
}

/// Data that obeys its schema, named by the schema it was validated with.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) entity: Entity,
    /// The entity that tells of a superseded schema.
    pub(crate) validation_info: Option<Entity>,
}

/// What is wrong with data, and the data: the bad row shows the former alone, a failed event both.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) message: FailureMessage,
    /// The inner data; none where the message has the text or the value itself.
    pub(crate) data: Option<Value>,
}

impl Refused {
    fn alone(message: FailureMessage) -> Box<Refused> {
        Box::new(Refused { message, data: None })
    }

    /// The data as a failed event shows it.
    pub(crate) fn into_failure(self, source: &'static str) -> Failure {
        let Refused { message, data } = self;
        let data = match (&message, data) {
            (_, Some(data)) => Some(data),
            (FailureMessage::NotJson { field, value, .. }, None) => {
                Some(json!({ field.as_str(): value }))
            }
            (FailureMessage::NotIglu { json, .. }, None) => Some(json.clone()),
            (_, None) => None,
        };
        Failure { cause: Cause::Data { message, source }, data }
    }
}

impl<'a> Checker<'a> {
    /// Checks the text of `ue_pr` or `ue_px`.
    pub(crate) fn unstruct(self, text: &str) -> Result<Checked, Box<Refused>> {
        if let Some(entity) = self.plain_unstruct(text) {
            return Ok(Checked { entity, validation_info: None });
        }
        self.any_unstruct(text)
    }

    /// The same for every text, by way of a document.
    fn any_unstruct(self, text: &str) -> Result<Checked, Box<Refused>> {
        let inner = self.unwrap(text, "unstruct", &ANY_UNSTRUCT_EVENT)?;
        self.entity(inner)
    }

    /// Checks the text of `co` or `cx`: the valid entities in their order, and what is wrong with the others.
    pub(crate) fn contexts(self, text: &str) -> (Vec<Checked>, Vec<Refused>) {
        if let Some(entities) = self.plain_contexts(text) {
            let valid = |entity| Checked { entity, validation_info: None };
            return (entities.into_iter().map(valid).collect(), Vec::new());
        }
        self.any_contexts(text)
    }

    /// The same for every text, by way of a document.
    fn any_contexts(self, text: &str) -> (Vec<Checked>, Vec<Refused>) {
        let items = match self.unwrap(text, "contexts", &ANY_CONTEXTS) {
            Ok(Value::Array(items)) => items,
            // The wrapper's schema lets nothing else through, unless a local one replaces it.
            Ok(other) => {
                let message = not_iglu(other, "INVALID_DATA_PAYLOAD");
                return (Vec::new(), vec![Refused { message, data: None }]);
            }
            Err(refused) => return (Vec::new(), vec![*refused]),
        };
        let (mut valid, mut failures) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            match self.entity(item) {
                Ok(checked) => valid.push(checked),
                Err(refused) => failures.push(*refused),
            }
        }
        (valid, failures)
    }

    /// The event in a text in which nothing is wrong and nothing unusual: no document is made of it. `None` says no more
    /// than that the long way is to be taken.
    fn plain_unstruct(self, text: &str) -> Option<Entity> {
        self.read_plain(text, |tape| {
            let (schema, data) = self.plain(tape.root())?;
            ANY_UNSTRUCT_EVENT.matches(schema.key()).then(|| self.plain_entity(data))?
        })
    }

    /// The same for entities.
    fn plain_contexts(self, text: &str) -> Option<Vec<Entity>> {
        self.read_plain(text, |tape| {
            let (schema, data) = self.plain(tape.root())?;
            if !ANY_CONTEXTS.matches(schema.key()) {
                return None;
            }
            data.items().map(|item| self.plain_entity(item)).collect()
        })
    }

    /// Reads a text, printed as its document would be. Trackers in Python put spaces between values, those in Swift and
    /// PHP a backslash before each slash: to print them anew and read them once more is still cheaper than a document.
    fn read_plain<T>(self, text: &str, read: impl FnOnce(&Tape<'_>) -> Option<T>) -> Option<T> {
        let tape = Tape::read(text, self.json_depth_max)?;
        if tape.is_canonical() {
            return read(&tape);
        }
        let text = tape.print()?;
        let tape = Tape::read(&text, self.json_depth_max).filter(Tape::is_canonical)?;
        read(&tape)
    }

    fn plain_entity(self, item: Item<'_, '_>) -> Option<Entity> {
        let (schema, data) = self.plain(item)?;
        Some(Entity::of_text(schema.key().clone(), data.json()))
    }

    /// The schema and the data of a value that is self-describing and surely obeys its schema.
    fn plain<'i, 't>(self, item: Item<'i, 't>) -> Option<(Plain<'a>, Item<'i, 't>)> {
        let at = |name| item.entries().find(|(key, _)| key.raw() == name).map(|(_, value)| value);
        let (schema, data) = (at("schema")?, at("data")?);
        let schema = self.schemas.find_plain(schema.plain_text()?)?;
        schema.surely_allows(data).then_some((schema, data))
    }

    /// Parses a text, checks that its schema matches the criterion and that it obeys it, and gives its data.
    fn unwrap(self, text: &str, field: &str, criterion: &Criterion) -> Result<Value, Box<Refused>> {
        let value = json::parse(text, self.json_depth_max).map_err(|error| {
            let (field, value) = (field.to_owned(), Some(text.to_owned()));
            Refused::alone(FailureMessage::NotJson { field, value, error })
        })?;
        let SelfDescribing { schema, data } = self_describing(value).map_err(Refused::alone)?;
        let checked =
            check_criterion(&schema, criterion).and_then(|()| self.validate(&schema, &data));
        match checked {
            Ok(_) => Ok(data),
            Err(message) => Err(Box::new(Refused { message, data: Some(data) })),
        }
    }

    /// Checks that a value is self-describing and obeys its schema.
    pub(crate) fn entity(self, value: Value) -> Result<Checked, Box<Refused>> {
        self.check(self_describing(value).map_err(Refused::alone)?.into())
    }

    /// Checks that data obeys its schema.
    pub(crate) fn check(self, mut entity: Entity) -> Result<Checked, Box<Refused>> {
        if let Some(known) = entity.known()
            && let Some(schema) = self.schemas.find_plain(entity.schema.as_str())
            && known.obeys(schema.number(), |data| schema.allows(data))
        {
            return Ok(Checked { entity, validation_info: None });
        }
        let superseded_by = match self.validate(&entity.schema, entity.data()) {
            Ok(superseded_by) => superseded_by,
            Err(message) => {
                return Err(Box::new(Refused { message, data: Some(entity.into_data()) }));
            }
        };
        let validation_info = superseded_by.map(|newer| {
            let original = std::mem::replace(&mut entity.schema, newer);
            let info = json!({
                "originalSchema": original.as_str(),
                "validatedWith": entity.schema.version().to_string(),
            });
            Entity::new(VALIDATION_INFO.clone(), info)
        });
        Ok(Checked { entity, validation_info })
    }

    /// Resolves a schema and checks data against it; gives the superseding schema if there is one.
    pub(crate) fn validate(
        self,
        key: &SchemaKey,
        data: &Value,
    ) -> Result<Option<SchemaKey>, FailureMessage> {
        match self.schemas.validate(key, data) {
            Some(Ok(validated)) => Ok(validated.superseded_by),
            Some(Err(error)) => Err(FailureMessage::Iglu { schema_key: key.to_string(), error }),
            None => {
                self.open.borrow_mut().push(key.clone());
                Ok(None)
            }
        }
    }
}

/// Takes a value apart, or says why it is not self-describing.
pub(crate) fn self_describing(value: Value) -> Result<SelfDescribing, FailureMessage> {
    SelfDescribing::from_value(value).map_err(|(reason, value)| not_iglu(value, reason.code()))
}

pub(crate) fn check_criterion(
    key: &SchemaKey,
    criterion: &Criterion,
) -> Result<(), FailureMessage> {
    match criterion.matches(key) {
        true => Ok(()),
        false => Err(FailureMessage::CriterionMismatch {
            schema_key: key.to_string(),
            schema_criterion: criterion.to_string(),
        }),
    }
}

/// A criterion that is written in the code.
pub(crate) fn criterion(uri: &str) -> Criterion {
    Criterion::parse(uri).expect("the criterion is well-formed")
}

fn not_iglu(json: Value, code: &str) -> FailureMessage {
    FailureMessage::NotIglu { json, error: code.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read without a document is what the document gives. Says whether it was.
    fn check(text: &str) -> bool {
        let (schemas, open) = (Schemas::embedded(), RefCell::default());
        let checker = Checker { schemas: &schemas, open: &open, json_depth_max: 8 };
        let printed = |entity: &Entity| {
            let mut text = String::new();
            entity.print(&mut text);
            text
        };
        let contexts = checker.plain_contexts(text);
        if let Some(entities) = &contexts {
            let (valid, refused) = checker.any_contexts(text);
            assert!(refused.is_empty(), "{text}");
            assert!(valid.iter().all(|it| it.validation_info.is_none()));
            let valid: Vec<String> = valid.iter().map(|it| printed(&it.entity)).collect();
            assert_eq!(entities.iter().map(printed).collect::<Vec<_>>(), valid, "{text}");
        }
        let event = checker.plain_unstruct(text);
        if let Some(event) = &event {
            let known = checker.any_unstruct(text).unwrap();
            assert!(known.validation_info.is_none());
            assert_eq!(printed(event), printed(&known.entity), "{text}");
        }
        contexts.is_some() || event.is_some()
    }

    fn samples() -> [String; 2] {
        let described = |name: &str, data: Value| {
            let schema = format!("iglu:com.snowplowanalytics.snowplow/{name}");
            json::self_describing(&schema, data)
        };
        let id = "3f2b8f5e-0f2d-4c7a-9a35-0123456789ab";
        let session = json!({
            "userId": id, "sessionId": id, "sessionIndex": 3, "previousSessionId": null,
            "storageMechanism": "COOKIE_1", "firstEventTimestamp": "2026-11-22T10:00:00.000Z",
        });
        let page = described("web_page/jsonschema/1-0-0", json!({"id": id}));
        let session = described("client_session/jsonschema/1-0-2", session);
        let click = json!({"targetUrl": "https://a.example/?\"é\\", "elementClasses": ["a", "b"]});
        let click = described("link_click/jsonschema/1-0-1", click);
        [
            described("contexts/jsonschema/1-0-0", json!([page, session])).to_string(),
            described("unstruct_event/jsonschema/1-0-0", click).to_string(),
        ]
    }

    #[test]
    fn what_trackers_send_needs_no_document() {
        for text in samples() {
            assert!(check(&text), "{text}");
            assert!(check(&text.replacen(':', ": ", 1)));
            assert!(check(&text.replace(',', "\n , ").replace('/', "\\/").replace('é', "\\u00e9")));
            assert!(!check(&text.replacen("\"data\"", "\"d\\u0061ta\"", 1)));
            assert!(!check(&text.replacen("snowplow/", "acme/", 1)));
        }
    }

    proptest! {
        #[test]
        fn a_text_that_was_changed_is_read_as_its_document_is(
            at in 0usize..2, cuts in proptest::collection::vec((any::<usize>(), 0usize..4, "[\"\\\\{}\\[\\],:0a1u. -]{0,3}"), 0..3),
        ) {
            let mut text = samples()[at].clone();
            for (place, count, other) in cuts {
                let from = text.floor_char_boundary(place % text.len());
                let to = text.floor_char_boundary((from + count).min(text.len())).max(from);
                text.replace_range(from..to, &other);
                if text.is_empty() {
                    break;
                }
            }
            check(&text);
        }
    }
}
