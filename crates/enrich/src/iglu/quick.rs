//! The quick check of data against one schema: on the places of a text ([`crate::tape`]), without a document.
//!
//! Made beside the full validator, from the schema as that one compiles it, and one-sided: data that passes here passes
//! there. Whatever does not pass is checked by the full one, which has the last word and finds the words. Keywords that
//! are not known here are left to a full validator of their own, so that a rare one in a corner of a schema does not
//! make the whole of it slow.

use model::uuid;
use serde_json::{Map, Value};

use super::formats::{self, Check};
use super::validator::options;
use crate::names::Names;
use crate::tape::{Item, Kind};

/// Objects with more properties are left to the full validator.
const PROPERTIES_MAX: usize = 128;

/// Integers of so many characters fit 64 bits.
const INTEGER_CHARS_MAX: usize = 18;

/// Whole numbers up to this one are doubles without loss.
const EXACT_MAX: i64 = 1 << 53;

/// What a schema asks for.
#[derive(Debug)]
pub(super) struct Quick {
    /// A bit for each [`Kind`] that is allowed.
    kinds: u8,
    length_min: usize,
    length_max: usize,
    /// Of texts: formats and patterns.
    forms: Vec<Check>,
    /// The texts that are allowed, and whether null is one of the values.
    options: Option<(Vec<Box<str>>, bool)>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    items: Option<Box<Quick>>,
    items_min: usize,
    items_max: usize,
    object: Option<Object>,
    /// For the keywords that are not known here.
    rest: Option<jsonschema::Validator>,
}

#[derive(Debug)]
struct Object {
    names: Names,
    /// By the names' places; those that are only required have none.
    properties: Vec<Option<Quick>>,
    /// A bit for each name's place.
    required: u128,
    allows_others: bool,
}

impl Quick {
    /// The quick check for a prepared schema; none where one part of a schema refers to another.
    pub(super) fn compile(schema: &Value) -> Option<Quick> {
        if refers(schema) { None } else { Quick::of(schema) }
    }

    fn of(schema: &Value) -> Option<Quick> {
        let mut rest = schema.as_object()?.clone();
        let mut quick = Quick {
            kinds: u8::MAX,
            length_min: 0,
            length_max: usize::MAX,
            forms: Vec::new(),
            options: None,
            minimum: None,
            maximum: None,
            items: None,
            items_min: 0,
            items_max: usize::MAX,
            object: None,
            rest: None,
        };
        // Where keywords change each other's meaning, all of them stay together.
        let is_tangled =
            ["nullable", "patternProperties"].iter().any(|name| rest.contains_key(*name));
        if !is_tangled {
            for name in [
                "title",
                "description",
                "default",
                "$schema",
                "self",
                "$supersededBy",
                "definitions",
            ] {
                rest.remove(name);
            }
            quick.take_types(&mut rest);
            quick.take_texts(&mut rest);
            quick.take_bounds(&mut rest);
            quick.take_items(&mut rest);
            quick.take_properties(&mut rest);
        }
        if !rest.is_empty() {
            quick.rest = Some(options().build(&Value::Object(rest)).ok()?);
        }
        Some(quick)
    }

    /// `type` and `enum`.
    fn take_types(&mut self, rest: &mut Map<String, Value>) {
        let kinds = match rest.get("type") {
            Some(Value::String(name)) => kinds_of(name),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().and_then(kinds_of))
                .try_fold(0, |all, kinds| Some(all | kinds?)),
            _ => None,
        };
        if let Some(kinds) = kinds {
            self.kinds = kinds;
            rest.remove("type");
        }
        let Some(Value::Array(members)) = rest.get("enum") else { return };
        let texts = members.iter().filter_map(Value::as_str).map(Box::from).collect::<Vec<_>>();
        let has_null = members.contains(&Value::Null);
        if members.iter().all(|member| member.is_string() || member.is_null()) {
            self.options = Some((texts, has_null));
            rest.remove("enum");
        }
    }

    /// `minLength`, `maxLength`, `format` and `pattern`.
    fn take_texts(&mut self, rest: &mut Map<String, Value>) {
        if let Some(length) = take_size(rest, "minLength") {
            self.length_min = length;
        }
        if let Some(length) = take_size(rest, "maxLength") {
            self.length_max = length;
        }
        if let Some(format) = rest.get("format").and_then(Value::as_str) {
            let checked = formats::CHECKED.iter().find(|(name, _)| *name == format);
            let is_any = formats::UNKNOWN.contains(&format);
            if checked.is_some() || is_any {
                self.forms.extend(checked.map(|(_, check)| *check));
                rest.remove("format");
            }
        }
        if let Some(pattern) = rest.get("pattern").and_then(Value::as_str)
            && let Some((_, check)) = PATTERNS.iter().find(|(known, _)| *known == pattern)
        {
            self.forms.push(*check);
            rest.remove("pattern");
        }
    }

    /// `minimum` and `maximum`.
    fn take_bounds(&mut self, rest: &mut Map<String, Value>) {
        for (name, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
        {
            let bound = rest.get(name).and_then(Value::as_i64);
            let Some(bound) = bound.filter(|_| !rest.contains_key(exclusive)) else { continue };
            match name {
                "minimum" => self.minimum = Some(bound),
                _ => self.maximum = Some(bound),
            }
            rest.remove(name);
        }
    }

    /// `items`, `minItems` and `maxItems`.
    fn take_items(&mut self, rest: &mut Map<String, Value>) {
        if let Some(size) = take_size(rest, "minItems") {
            self.items_min = size;
        }
        if let Some(size) = take_size(rest, "maxItems") {
            self.items_max = size;
        }
        if !rest.contains_key("additionalItems")
            && let Some(items) = rest.get("items").and_then(Quick::of)
        {
            self.items = Some(Box::new(items));
            rest.remove("items");
        }
    }

    /// `properties`, `required` and `additionalProperties`.
    fn take_properties(&mut self, rest: &mut Map<String, Value>) {
        let allows_others = match rest.get("additionalProperties") {
            None | Some(Value::Bool(true)) => true,
            Some(Value::Bool(false)) => false,
            Some(_) => return,
        };
        let none = Map::new();
        let known = match rest.get("properties") {
            None => &none,
            Some(Value::Object(known)) => known,
            Some(_) => return,
        };
        let required: Vec<&str> = match rest.get("required") {
            None => Vec::new(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(_) => return,
        };
        let Some(mut properties) =
            known.values().map(|schema| Quick::of(schema).map(Some)).collect::<Option<Vec<_>>>()
        else {
            return;
        };
        let others = required.iter().filter(|name| !known.contains_key(**name));
        let names = Names::new(known.keys().map(String::as_str).chain(others.copied()));
        if names.len() > PROPERTIES_MAX {
            return;
        }
        properties.resize_with(names.len(), || None);
        let bits = required.iter().filter_map(|name| names.place(name)).map(|place| 1 << place);
        let required = bits.fold(0, |all: u128, bit: u128| all | bit);
        if !allows_others || names.len() > 0 {
            self.object = Some(Object { names, properties, required, allows_others });
        }
        for name in ["additionalProperties", "properties", "required"] {
            rest.remove(name);
        }
    }

    /// Whether data surely obeys. No key stands twice in an object of it.
    pub(super) fn allows(&self, item: Item<'_, '_>) -> bool {
        let kind = item.kind();
        if self.kinds & bit(kind) == 0 {
            return false;
        }
        let obeys = match kind {
            Kind::Null => self.options.as_ref().is_none_or(|(_, null)| *null),
            Kind::Bool => self.options.is_none(),
            Kind::Integer | Kind::Decimal => self.options.is_none() && self.allows_number(item),
            Kind::Text | Kind::Escaped => self.allows_text(item),
            Kind::Array => self.options.is_none() && self.allows_items(item),
            Kind::Object => self.options.is_none() && self.allows_object(item),
        };
        obeys
            && self.rest.as_ref().is_none_or(|rest| {
                serde_json::from_str(item.json()).is_ok_and(|value| rest.is_valid(&value))
            })
    }

    fn allows_text(&self, item: Item<'_, '_>) -> bool {
        // An escape is never shorter than what it stands for.
        let is_short = item.raw().len() <= self.length_max;
        if is_short && self.length_min == 0 && self.forms.is_empty() && self.options.is_none() {
            return true;
        }
        let Some(text) = item.text() else { return false };
        let characters = || text.chars().count();
        (is_short || characters() <= self.length_max)
            && (self.length_min == 0 || characters() >= self.length_min)
            && self.forms.iter().all(|is_form| is_form(&text))
            && self.options.as_ref().is_none_or(|(texts, _)| texts.iter().any(|it| **it == *text))
    }

    fn allows_number(&self, item: Item<'_, '_>) -> bool {
        if self.minimum.is_none() && self.maximum.is_none() {
            return true;
        }
        let text = item.raw();
        if item.kind() == Kind::Integer {
            return text.len() <= INTEGER_CHARS_MAX
                && text.parse::<i64>().is_ok_and(|number| {
                    self.minimum.is_none_or(|bound| number >= bound)
                        && self.maximum.is_none_or(|bound| number <= bound)
                });
        }
        // Rounding to a double keeps the order, so what is truly above a double was above it before.
        let is_exact = |bound: i64| (-EXACT_MAX..=EXACT_MAX).contains(&bound);
        text.parse::<f64>().is_ok_and(|number| {
            self.minimum.is_none_or(|bound| is_exact(bound) && number > bound as f64)
                && self.maximum.is_none_or(|bound| is_exact(bound) && number < bound as f64)
        })
    }

    fn allows_items(&self, array: Item<'_, '_>) -> bool {
        let mut count = 0;
        for item in array.items() {
            count += 1;
            if self.items.as_ref().is_some_and(|schema| !schema.allows(item)) {
                return false;
            }
        }
        (self.items_min..=self.items_max).contains(&count)
    }

    fn allows_object(&self, item: Item<'_, '_>) -> bool {
        let Some(object) = &self.object else { return true };
        let mut seen = 0u128;
        for (key, value) in item.entries() {
            // A key has no escapes, or the text would not have been read.
            let place = object.names.place(key.raw());
            seen |= place.map_or(0, |place| 1 << place);
            match place.and_then(|place| object.properties[place].as_ref()) {
                Some(schema) if schema.allows(value) => {}
                Some(_) => return false,
                None if object.allows_others => {}
                None => return false,
            }
        }
        seen & object.required == object.required
    }
}

fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

/// By the name of a type.
fn kinds_of(name: &str) -> Option<u8> {
    Some(match name {
        "array" => bit(Kind::Array),
        "boolean" => bit(Kind::Bool),
        "integer" => bit(Kind::Integer),
        "null" => bit(Kind::Null),
        "number" => bit(Kind::Integer) | bit(Kind::Decimal),
        "object" => bit(Kind::Object),
        "string" => bit(Kind::Text) | bit(Kind::Escaped),
        _ => return None,
    })
}

/// A whole number that is not negative, taken out of the schema.
fn take_size(rest: &mut Map<String, Value>, name: &str) -> Option<usize> {
    let size = usize::try_from(rest.get(name)?.as_u64()?).ok()?;
    rest.remove(name);
    Some(size)
}

/// Whether a reference or another base of references stands anywhere.
fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.contains_key("$ref")
                || fields.get("id").is_some_and(Value::is_string)
                || fields.values().any(refers)
        }
        Value::Array(items) => items.iter().any(refers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The patterns of schemas that nearly every event names, and what surely matches them.
const PATTERNS: &[(&str, Check)] = &[
    ("^iglu:[a-zA-Z0-9-_.]+/[a-zA-Z0-9-_]+/[a-zA-Z0-9-_]+/[0-9]+-[0-9]+-[0-9]+$", is_schema_key),
    (
        "^[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}$",
        uuid::is_canonical,
    ),
    ("^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$|^[0-9a-f]{16}$", |text| {
        uuid::is_canonical(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
    }),
];

/// What a byte may be a part of: a vendor, a word, a number.
const VENDOR: u8 = 1;
const WORD: u8 = 2;
const DIGIT: u8 = 4;

/// The parts that each byte may stand in. Every entity has its schema's name read here.
static PARTS: [u8; 256] = {
    let mut parts = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let is_word = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        parts[byte as usize] = (is_word || byte == b'.') as u8 * VENDOR
            + is_word as u8 * WORD
            + byte.is_ascii_digit() as u8 * DIGIT;
        byte += 1;
    }
    parts
};

fn is_schema_key(text: &str) -> bool {
    let Some(path) = text.strip_prefix("iglu:") else { return false };
    let mut rest = path.as_bytes();
    // Each part is as long as it can be, so what stands behind it is in no such part.
    let mut part = |kind: u8, end: Option<u8>| {
        let len = rest.iter().take_while(|byte| PARTS[usize::from(**byte)] & kind != 0).count();
        let is_ended = rest.get(len).copied() == end;
        rest = rest.get(len + 1..).unwrap_or_default();
        len > 0 && is_ended
    };
    part(VENDOR, Some(b'/'))
        && part(WORD, Some(b'/'))
        && part(WORD, Some(b'/'))
        && part(DIGIT, Some(b'-'))
        && part(DIGIT, Some(b'-'))
        && part(DIGIT, None)
}

#[cfg(test)]
mod tests;
