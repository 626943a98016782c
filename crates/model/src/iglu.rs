//! The names of Iglu schemas: schema keys, versions, criteria, and self-describing data (a key and what it describes).
//!
//! Read by the enrich core (every event and entity names its schema), by the registries in `assets`, and by the bad
//! rows. What a schema says, and whether data obeys it, is not here: see `enrich::iglu`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

/// Why a text is no schema key. Snowplow: enrich-core.md 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text lacks the shape `iglu:vendor/name/format/1-0-0`.
    #[error("INVALID_IGLUURI")]
    Uri,
    /// The shape is right, but no version looks like that: `0-1-0`, `1-00-0`, a number above 2^31-1.
    #[error("INVALID_SCHEMAVER")]
    Version,
}

impl InvalidKey {
    /// The code that bad rows carry.
    pub fn code(self) -> &'static str {
        match self {
            InvalidKey::Uri => "INVALID_IGLUURI",
            InvalidKey::Version => "INVALID_SCHEMAVER",
        }
    }

    /// The plain words that failure entities carry.
    pub fn words(self) -> &'static str {
        match self {
            InvalidKey::Uri => "Invalid Iglu URI",
            InvalidKey::Version => "Invalid schema version",
        }
    }
}

/// The version of a schema, `MODEL-REVISION-ADDITION`. Ordered by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    model: u32,
    revision: u32,
    addition: u32,
}

impl Version {
    /// Reads `1-0-2`. The model starts at 1, no number has a leading zero, each fits 31 bits.
    ///
    /// # Errors
    /// [`InvalidKey::Uri`] when these are not three runs of digits, [`InvalidKey::Version`] when a number is not allowed.
    pub fn parse(text: &str) -> Result<Version, InvalidKey> {
        let mut runs = text.split('-');
        let (Some(model), Some(revision), Some(addition), None) =
            (runs.next(), runs.next(), runs.next(), runs.next())
        else {
            return Err(InvalidKey::Uri);
        };
        if ![model, revision, addition].into_iter().all(is_digits) {
            return Err(InvalidKey::Uri);
        }
        Ok(Version {
            model: number(model).filter(|model| *model > 0).ok_or(InvalidKey::Version)?,
            revision: number(revision).ok_or(InvalidKey::Version)?,
            addition: number(addition).ok_or(InvalidKey::Version)?,
        })
    }

    pub fn model(self) -> u32 {
        self.model
    }

    pub fn revision(self) -> u32 {
        self.revision
    }

    pub fn addition(self) -> u32 {
        self.addition
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.model, self.revision, self.addition)
    }
}

impl FromStr for Version {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Version, InvalidKey> {
        Version::parse(text)
    }
}

/// The name of one version of one schema: `iglu:com.acme/cart/jsonschema/1-0-2`.
///
/// Cheap to clone. Ordered by vendor, name, format, then by the numbers of the version.
#[derive(Clone)]
pub struct SchemaKey {
    uri: Arc<str>,
    /// Where name, format and version begin in `uri`.
    name: u32,
    format: u32,
    version_text: u32,
    version: Version,
}

/// Every schema key begins like this.
const PROTOCOL: &str = "iglu:";

impl SchemaKey {
    /// Reads a full Iglu URI. Snowplow: enrich-core.md 4.1.
    pub fn parse(uri: &str) -> Result<SchemaKey, InvalidKey> {
        let (parts, version) = split(uri)?;
        let version = Version::parse(version)?;
        let after = |part: &str| u32::try_from(part.len() + 1).map_err(|_| InvalidKey::Uri);
        let name = PROTOCOL.len() as u32 + after(parts[0])?;
        let format = name.checked_add(after(parts[1])?).ok_or(InvalidKey::Uri)?;
        let version_text = format.checked_add(after(parts[2])?).ok_or(InvalidKey::Uri)?;
        Ok(SchemaKey { uri: uri.into(), name, format, version_text, version })
    }

    /// The key of another version of the same schema.
    #[must_use]
    pub fn with_version(&self, version: Version) -> SchemaKey {
        let uri = format!("{}{version}", &self.uri[..self.version_text as usize]);
        SchemaKey { uri: uri.into(), version, ..*self }
    }

    pub fn vendor(&self) -> &str {
        &self.uri[PROTOCOL.len()..self.name as usize - 1]
    }

    pub fn name(&self) -> &str {
        &self.uri[self.name as usize..self.format as usize - 1]
    }

    pub fn format(&self) -> &str {
        &self.uri[self.format as usize..self.version_text as usize - 1]
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn model(&self) -> u32 {
        self.version.model
    }

    pub fn revision(&self) -> u32 {
        self.version.revision
    }

    pub fn addition(&self) -> u32 {
        self.version.addition
    }

    /// The full URI, `iglu:…`.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The place in a registry, `vendor/name/format/version`.
    pub fn path(&self) -> &str {
        &self.uri[PROTOCOL.len()..]
    }

    fn order(&self) -> (&str, &str, &str, Version) {
        (self.vendor(), self.name(), self.format(), self.version)
    }
}

impl FromStr for SchemaKey {
    type Err = InvalidKey;

    fn from_str(uri: &str) -> Result<SchemaKey, InvalidKey> {
        SchemaKey::parse(uri)
    }
}

impl fmt::Display for SchemaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SchemaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl PartialEq for SchemaKey {
    fn eq(&self, other: &SchemaKey) -> bool {
        self.uri == other.uri
    }
}

impl Eq for SchemaKey {}

impl Hash for SchemaKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl Ord for SchemaKey {
    fn cmp(&self, other: &SchemaKey) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for SchemaKey {
    fn partial_cmp(&self, other: &SchemaKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A set of schema keys: a name with versions left open from the right (`1-0-*`, `1-*-*`, `*-*-*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criterion {
    vendor: String,
    name: String,
    format: String,
    model: Option<u32>,
    revision: Option<u32>,
    addition: Option<u32>,
}

impl Criterion {
    /// Reads `iglu:com.acme/cart/jsonschema/1-0-*`. Once a number is open, so are those after it.
    pub fn parse(uri: &str) -> Result<Criterion, InvalidKey> {
        let ([vendor, name, format], version) = split(uri)?;
        let mut runs = version.split('-');
        let (Some(model), Some(revision), Some(addition), None) =
            (runs.next(), runs.next(), runs.next(), runs.next())
        else {
            return Err(InvalidKey::Uri);
        };
        let (model, revision, addition) = (open(model)?, open(revision)?, open(addition)?);
        let gap =
            (model.is_none() && revision.is_some()) || (revision.is_none() && addition.is_some());
        if gap || model == Some(0) {
            return Err(InvalidKey::Version);
        }
        Ok(Criterion {
            vendor: vendor.to_owned(),
            name: name.to_owned(),
            format: format.to_owned(),
            model,
            revision,
            addition,
        })
    }

    pub fn matches(&self, key: &SchemaKey) -> bool {
        let open_or = |wanted: Option<u32>, found: u32| wanted.is_none_or(|wanted| wanted == found);
        self.vendor == key.vendor()
            && self.name == key.name()
            && self.format == key.format()
            && open_or(self.model, key.model())
            && open_or(self.revision, key.revision())
            && open_or(self.addition, key.addition())
    }
}

impl FromStr for Criterion {
    type Err = InvalidKey;

    fn from_str(uri: &str) -> Result<Criterion, InvalidKey> {
        Criterion::parse(uri)
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROTOCOL}{}/{}/{}/", self.vendor, self.name, self.format)?;
        for (number, before) in [(self.model, ""), (self.revision, "-"), (self.addition, "-")] {
            match number {
                Some(number) => write!(f, "{before}{number}")?,
                None => write!(f, "{before}*")?,
            }
        }
        Ok(())
    }
}

/// Why a JSON value is not self-describing. Snowplow: enrich-core.md 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSelfDescribing {
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// No object, or one without a text `schema` and any `data`.
    #[error("INVALID_DATA_PAYLOAD")]
    Payload,
}

impl NotSelfDescribing {
    /// The code that bad rows carry.
    pub fn code(self) -> &'static str {
        match self {
            NotSelfDescribing::Key(key) => key.code(),
            NotSelfDescribing::Payload => "INVALID_DATA_PAYLOAD",
        }
    }

    /// The plain words that failure entities carry.
    pub fn words(self) -> &'static str {
        match self {
            NotSelfDescribing::Key(key) => key.words(),
            NotSelfDescribing::Payload => "Invalid data payload",
        }
    }
}

/// Data and the key of the schema that describes it: `{"schema": "iglu:…", "data": …}`.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfDescribing {
    pub schema: SchemaKey,
    pub data: Value,
}

impl SelfDescribing {
    /// Takes a value apart. Keys besides `schema` and `data` are ignored here; the wrappers' own schemas forbid them.
    ///
    /// # Errors
    /// The value comes back with the reason, since bad rows show it.
    pub fn from_value(value: Value) -> Result<SelfDescribing, (NotSelfDescribing, Value)> {
        let schema = match SelfDescribing::split(&value) {
            Ok((schema, _)) => schema,
            Err(reason) => return Err((reason, value)),
        };
        let Value::Object(mut object) = value else {
            unreachable!("split answers Ok only for an object");
        };
        // Not `remove`: on a map that keeps key order it moves every later key.
        let data = object.swap_remove("data").unwrap_or_default();
        Ok(SelfDescribing { schema, data })
    }

    /// The same by reference.
    pub fn split(value: &Value) -> Result<(SchemaKey, &Value), NotSelfDescribing> {
        let object = value.as_object().ok_or(NotSelfDescribing::Payload)?;
        let (Some(Value::String(schema)), Some(data)) = (object.get("schema"), object.get("data"))
        else {
            return Err(NotSelfDescribing::Payload);
        };
        Ok((SchemaKey::parse(schema)?, data))
    }

    /// The object `{"schema": …, "data": …}`, keys in this order.
    pub fn into_value(self) -> Value {
        let mut object = serde_json::Map::with_capacity(2);
        object.insert("schema".to_owned(), Value::String(self.schema.to_string()));
        object.insert("data".to_owned(), self.data);
        Value::Object(object)
    }
}

/// Vendor, name and format of a URI, and the text of its version.
fn split(uri: &str) -> Result<([&str; 3], &str), InvalidKey> {
    let mut parts = uri.strip_prefix(PROTOCOL).ok_or(InvalidKey::Uri)?.split('/');
    let (Some(vendor), Some(name), Some(format), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(InvalidKey::Uri);
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let vendor_ok = !vendor.is_empty() && vendor.bytes().all(|byte| word(byte) || byte == b'.');
    let words_ok = [name, format].iter().all(|part| !part.is_empty() && part.bytes().all(word));
    if vendor_ok && words_ok { Ok(([vendor, name, format], version)) } else { Err(InvalidKey::Uri) }
}

fn is_digits(run: &str) -> bool {
    !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number of a version: no leading zero, at most 2^31-1.
fn number(run: &str) -> Option<u32> {
    if run.len() > 1 && run.starts_with('0') {
        return None;
    }
    run.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok())
}

fn open(run: &str) -> Result<Option<u32>, InvalidKey> {
    match run {
        "*" => Ok(None),
        run if is_digits(run) => number(run).map(Some).ok_or(InvalidKey::Version),
        _ => Err(InvalidKey::Uri),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key(uri: &str) -> SchemaKey {
        SchemaKey::parse(uri).unwrap()
    }

    #[test]
    fn a_key_has_its_parts_and_prints_as_it_was_read() {
        let key = key("iglu:org.example-2.a_b/Check-out_1/jsonschema/12-0-345");
        assert_eq!(key.vendor(), "org.example-2.a_b");
        assert_eq!(key.name(), "Check-out_1");
        assert_eq!(key.format(), "jsonschema");
        assert_eq!((key.model(), key.revision(), key.addition()), (12, 0, 345));
        assert_eq!(key.to_string(), "iglu:org.example-2.a_b/Check-out_1/jsonschema/12-0-345");
        assert_eq!(key.path(), "org.example-2.a_b/Check-out_1/jsonschema/12-0-345");
    }

    #[test]
    fn a_text_without_the_shape_is_an_invalid_uri() {
        for text in [
            "",
            "iglu:",
            "org.example/basket/jsonschema/1-0-0",
            "IGLU:org.example/basket/jsonschema/1-0-0",
            "iglu:org.example/basket/jsonschema",
            "iglu:org.example/basket/jsonschema/1-0",
            "iglu:org.example/basket/jsonschema/1-0-0-0",
            "iglu:org.example/basket/jsonschema/1-0-*",
            "iglu:org.example/basket/jsonschema/1-0-",
            "iglu:org.example/basket/jsonschema/1-0-0/",
            "iglu:org.example/bas.ket/jsonschema/1-0-0",
            "iglu:org.example//jsonschema/1-0-0",
            "iglu:/basket/jsonschema/1-0-0",
            "iglu:org.exämple/basket/jsonschema/1-0-0",
            " iglu:org.example/basket/jsonschema/1-0-0",
            "iglu:org.example/basket/jsonschema/+1-0-0",
            "iglu:org.example/basket/jsonschema/1-0-0\n",
        ] {
            assert_eq!(SchemaKey::parse(text), Err(InvalidKey::Uri), "{text}");
        }
    }

    #[test]
    fn a_version_that_cannot_be_is_named_as_such() {
        for version in
            ["0-0-1", "01-0-0", "1-00-0", "1-0-01", "2147483648-0-0", "1-0-99999999999999999999"]
        {
            let uri = format!("iglu:org.example/basket/jsonschema/{version}");
            assert_eq!(SchemaKey::parse(&uri), Err(InvalidKey::Version), "{version}");
        }
        assert_eq!(key("iglu:a/b/c/2147483647-0-0").model(), 2_147_483_647);
    }

    #[test]
    fn keys_are_ordered_by_their_parts_and_versions_by_their_numbers() {
        let mut keys = [
            "iglu:a.b/c/x/1-0-0",
            "iglu:a/b/x/10-0-0",
            "iglu:a/b/x/9-0-0",
            "iglu:a/b/x/9-0-10",
            "iglu:a/b/x/9-0-9",
        ]
        .map(key);
        keys.sort();
        let sorted = keys.map(|key| key.path().to_owned());
        assert_eq!(
            sorted,
            ["a/b/x/9-0-0", "a/b/x/9-0-9", "a/b/x/9-0-10", "a/b/x/10-0-0", "a.b/c/x/1-0-0"]
        );
    }

    #[test]
    fn another_version_keeps_the_name() {
        let superseding =
            key("iglu:org.example/basket/jsonschema/1-0-0").with_version("2-1-30".parse().unwrap());
        assert_eq!(superseding, key("iglu:org.example/basket/jsonschema/2-1-30"));
        assert_eq!(
            (superseding.name(), superseding.version().to_string()),
            ("basket", "2-1-30".to_owned())
        );
    }

    #[test]
    fn a_criterion_is_open_from_the_right() {
        let cases = [
            ("1-0-*", "1-0-0", true),
            ("1-0-*", "1-0-7", true),
            ("1-0-*", "1-1-0", false),
            ("1-*-*", "1-9-9", true),
            ("1-*-*", "2-0-0", false),
            ("*-*-*", "3-2-1", true),
            ("1-0-2", "1-0-2", true),
            ("1-0-2", "1-0-3", false),
        ];
        for (criterion, version, expected) in cases {
            let criterion =
                Criterion::parse(&format!("iglu:org.example/basket/jsonschema/{criterion}"))
                    .unwrap();
            let found = key(&format!("iglu:org.example/basket/jsonschema/{version}"));
            assert_eq!(criterion.matches(&found), expected, "{criterion} {version}");
        }
        let criterion = Criterion::parse("iglu:org.example/basket/jsonschema/1-0-*").unwrap();
        assert_eq!(criterion.to_string(), "iglu:org.example/basket/jsonschema/1-0-*");
        assert!(!criterion.matches(&key("iglu:org.example/cart/jsonschema/1-0-0")));
        for version in ["1-*-0", "*-0-*", "0-*-*", "01-*-*"] {
            let uri = format!("iglu:org.example/basket/jsonschema/{version}");
            assert_eq!(Criterion::parse(&uri), Err(InvalidKey::Version), "{version}");
        }
        assert_eq!(
            Criterion::parse("iglu:org.example/basket/jsonschema/1-0-x"),
            Err(InvalidKey::Uri)
        );
    }

    #[test]
    fn self_describing_data_needs_a_key_and_data() {
        let value = json!({"data": {"b": 1, "a": 2}, "more": true, "schema": "iglu:a/b/c/1-0-0"});
        let described = SelfDescribing::from_value(value).unwrap();
        assert_eq!(described.schema, key("iglu:a/b/c/1-0-0"));
        assert_eq!(
            described.into_value().to_string(),
            r#"{"schema":"iglu:a/b/c/1-0-0","data":{"b":1,"a":2}}"#
        );

        let cases = [
            (json!([]), "INVALID_DATA_PAYLOAD"),
            (json!("iglu:a/b/c/1-0-0"), "INVALID_DATA_PAYLOAD"),
            (json!({"schema": "iglu:a/b/c/1-0-0"}), "INVALID_DATA_PAYLOAD"),
            (json!({"data": {}}), "INVALID_DATA_PAYLOAD"),
            (json!({"schema": 1, "data": {}}), "INVALID_DATA_PAYLOAD"),
            (json!({"schema": "nonsense"}), "INVALID_DATA_PAYLOAD"),
            (json!({"schema": "nonsense", "data": {}}), "INVALID_IGLUURI"),
            (json!({"schema": "iglu:a/b/c/0-0-1", "data": null}), "INVALID_SCHEMAVER"),
        ];
        for (value, code) in cases {
            let (reason, given_back) = SelfDescribing::from_value(value.clone()).unwrap_err();
            assert_eq!((reason.code(), &given_back), (code, &value));
            assert_eq!(reason.to_string(), code);
        }
    }

    #[test]
    fn null_is_data() {
        let value = json!({"schema": "iglu:a/b/c/1-0-0", "data": null});
        assert_eq!(SelfDescribing::split(&value).unwrap().1, &Value::Null);
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(uri in "iglu:[a-z.]{1,8}/[a-z_]{1,8}/[a-z]{1,4}/[0-9]{1,2}-[0-9]{1,2}-[0-9]{1,2}") {
            match SchemaKey::parse(&uri) {
                Ok(key) => {
                    prop_assert_eq!(key.to_string(), uri.clone());
                    let rebuilt = format!("iglu:{}/{}/{}/{}", key.vendor(), key.name(), key.format(), key.version());
                    prop_assert_eq!(rebuilt, uri);
                }
                Err(reason) => prop_assert_eq!(reason, InvalidKey::Version),
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = SchemaKey::parse(&text);
            let _ = Criterion::parse(&text);
        }
    }
}
