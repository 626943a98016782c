//! An entity or a self-describing event on its way through the steps: its schema, and its data as the text that will be
//! printed, as a document, or as both.
//!
//! Most data is never looked into between its check and its printing, so it stays the text that it was. A step that
//! looks gets a document, which is made at the first look; one that changes gets the document in place of the text.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::iglu::{SchemaKey, SelfDescribing};
use serde_json::Value;

/// Data that names its schema.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub(crate) schema: SchemaKey,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Document(Value),
    /// As the document would print.
    Text {
        json: Box<str>,
        document: OnceCell<Value>,
    },
    Known(Arc<Known>),
}

/// Data that many events share, for steps that remember what they have made.
#[derive(Debug)]
pub(crate) struct Known {
    json: Box<str>,
    document: Value,
    /// The number of the schema that it was last found to obey; 0 before that.
    obeys: AtomicU64,
}

impl Known {
    pub(crate) fn new(document: Value) -> Known {
        Known { json: document.to_string().into(), document, obeys: AtomicU64::new(0) }
    }

    /// Whether it obeys the schema with this number, asked only where that is not remembered.
    pub(crate) fn obeys(&self, schema: u64, ask: impl FnOnce(&Value) -> bool) -> bool {
        // Two threads may ask and remember the same; a number that another recipe left only means to ask again.
        if self.obeys.load(Ordering::Relaxed) == schema {
            return true;
        }
        let obeys = ask(&self.document);
        if obeys {
            self.obeys.store(schema, Ordering::Relaxed);
        }
        obeys
    }
}

impl Entity {
    pub(crate) fn new(schema: SchemaKey, document: Value) -> Entity {
        Entity { schema, data: Data::Document(document) }
    }

    /// `json` is what its document would print.
    pub(crate) fn of_text(schema: SchemaKey, json: &str) -> Entity {
        Entity { schema, data: Data::Text { json: json.into(), document: OnceCell::new() } }
    }

    pub(crate) fn of_known(schema: SchemaKey, known: Arc<Known>) -> Entity {
        Entity { schema, data: Data::Known(known) }
    }

    /// What it shares with other events, if that is all its data.
    pub(crate) fn known(&self) -> Option<&Known> {
        match &self.data {
            Data::Known(known) => Some(known),
            Data::Document(_) | Data::Text { .. } => None,
        }
    }

    pub(crate) fn data(&self) -> &Value {
        match &self.data {
            Data::Document(document) => document,
            Data::Text { json, document } => document.get_or_init(|| read(json)),
            Data::Known(known) => &known.document,
        }
    }

    /// The data, to be changed.
    pub(crate) fn data_mut(&mut self) -> &mut Value {
        if !matches!(self.data, Data::Document(_)) {
            self.data = Data::Document(self.data().clone());
        }
        match &mut self.data {
            Data::Document(document) => document,
            Data::Text { .. } | Data::Known(_) => unreachable!("it was made a document above"),
        }
    }

    pub(crate) fn into_data(self) -> Value {
        match self.data {
            Data::Document(document) => document,
            Data::Text { json, document } => document.into_inner().unwrap_or_else(|| read(&json)),
            Data::Known(known) => known.document.clone(),
        }
    }

    /// Appends the object `{"schema": …, "data": …}`.
    pub(crate) fn print(&self, text: &mut String) {
        // Nothing in a schema key needs an escape.
        begin(self.schema.as_str(), text);
        match &self.data {
            Data::Document(document) => text.push_str(&document.to_string()),
            Data::Text { json, .. } => text.push_str(json),
            Data::Known(known) => text.push_str(&known.json),
        }
        text.push('}');
    }
}

impl From<SelfDescribing> for Entity {
    fn from(SelfDescribing { schema, data }: SelfDescribing) -> Entity {
        Entity::new(schema, data)
    }
}

/// The text of a self-describing event or of entities in the envelope that `schema` names.
pub(crate) fn envelope(schema: &str, inside: impl FnOnce(&mut String)) -> String {
    let mut text = String::with_capacity(1024);
    begin(schema, &mut text);
    inside(&mut text);
    text.push('}');
    text
}

/// The text of a list of entities in the envelope that `schema` names.
pub(crate) fn list<'e>(schema: &str, entities: impl IntoIterator<Item = &'e Entity>) -> String {
    envelope(schema, |text| {
        text.push('[');
        for (at, entity) in entities.into_iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            entity.print(text);
        }
        text.push(']');
    })
}

fn begin(schema: &str, text: &mut String) {
    text.push_str("{\"schema\":\"");
    text.push_str(schema);
    text.push_str("\",\"data\":");
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("what was read without a document is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_forms_print_and_read_alike_and_only_a_change_shows() {
        let schema = SchemaKey::parse("iglu:org.example/a/jsonschema/1-0-0").unwrap();
        let data = json!({"b": [1.50, "é\n\""], "a": null});
        let forms = [
            Entity::new(schema.clone(), data.clone()),
            Entity::of_text(schema.clone(), &data.to_string()),
            Entity::of_known(schema.clone(), Arc::new(Known::new(data.clone()))),
        ];
        let expect = json!({"schema": schema.as_str(), "data": data}).to_string();
        for mut entity in forms {
            let mut text = String::new();
            entity.print(&mut text);
            assert_eq!(text, expect);
            assert_eq!(entity.data(), &data);
            entity.data_mut()["a"] = json!(1);
            assert_eq!(entity.clone().into_data(), json!({"b": [1.50, "é\n\""], "a": 1}));
            let list = list("iglu:x", [&entity, &entity]);
            let entity = json!({"schema": schema.as_str(), "data": entity.data()});
            assert_eq!(list, json!({"schema": "iglu:x", "data": [entity, entity]}).to_string());
        }
    }

    #[test]
    fn what_is_known_is_asked_once_for_each_schema() {
        let known = Known::new(json!({}));
        assert!(!known.obeys(1, |_| false));
        assert!(known.obeys(1, |_| true));
        assert!(known.obeys(1, |_| panic!("it is remembered")));
        assert!(!known.obeys(2, |_| false));
    }
}
