//! The self-describing event and the contexts of an event: parse, check the wrapper, check what is inside.
//! Snowplow: `enrich-core.md` 3.1, 3.12, 4.2 and 4.6.

use std::cell::RefCell;

use model::bad_row::FailureMessage;
use model::failed::{Cause, Failure};
use model::iglu::{Criterion, SchemaKey, SelfDescribing};
use serde_json::{Value, json};

use crate::iglu::Schemas;
use crate::json;

pub(crate) const UNSTRUCT_EVENT: &str =
    "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
pub(crate) const CONTEXTS: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1";
const VALIDATION_INFO: &str = "iglu:com.snowplowanalytics.iglu/validation_info/jsonschema/1-0-0";

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
    pub(crate) entity: SelfDescribing,
    /// The entity that tells of a superseded schema.
    pub(crate) validation_info: Option<Value>,
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

impl Checker<'_> {
    /// Checks the text of `ue_pr` or `ue_px`.
    pub(crate) fn unstruct(self, text: &str) -> Result<Checked, Box<Refused>> {
        let inner = self.unwrap(
            text,
            "unstruct",
            "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-*",
        )?;
        self.entity(inner)
    }

    /// Checks the text of `co` or `cx`: the valid entities in their order, and what is wrong with the others.
    pub(crate) fn contexts(self, text: &str) -> (Vec<Checked>, Vec<Refused>) {
        let criterion = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-*";
        let items = match self.unwrap(text, "contexts", criterion) {
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

    /// Parses a text, checks that its schema matches the criterion and that it obeys it, and gives its data.
    fn unwrap(self, text: &str, field: &str, criterion: &str) -> Result<Value, Box<Refused>> {
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
        self.check(self_describing(value).map_err(Refused::alone)?)
    }

    /// Checks that data obeys its schema.
    pub(crate) fn check(self, mut entity: SelfDescribing) -> Result<Checked, Box<Refused>> {
        let superseded_by = match self.validate(&entity.schema, &entity.data) {
            Ok(superseded_by) => superseded_by,
            Err(message) => return Err(Box::new(Refused { message, data: Some(entity.data) })),
        };
        let validation_info = superseded_by.map(|newer| {
            let original = std::mem::replace(&mut entity.schema, newer);
            let info = json!({
                "originalSchema": original.as_str(),
                "validatedWith": entity.schema.version().to_string(),
            });
            json::self_describing(VALIDATION_INFO, info)
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

pub(crate) fn check_criterion(key: &SchemaKey, criterion: &str) -> Result<(), FailureMessage> {
    let parsed = Criterion::parse(criterion).expect("the criterion is well-formed");
    match parsed.matches(key) {
        true => Ok(()),
        false => Err(FailureMessage::CriterionMismatch {
            schema_key: key.to_string(),
            schema_criterion: criterion.to_owned(),
        }),
    }
}

fn not_iglu(json: Value, code: &str) -> FailureMessage {
    FailureMessage::NotIglu { json, error: code.to_owned() }
}
