//! Entities from the rows of a database, asked with values of the event. Snowplow: `enrichments.md` 20.
//!
//! Here is only what can be said without asking: which query an event makes, and what becomes of the rows. The asking,
//! its bounds and its cache are in `assets`.

mod statement;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::bad_row::EnrichmentError;
use model::event::Cell;
use model::iglu::SchemaKey;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use self::statement::Statement;
use super::inputs::{self, Found, Source, cell_text};
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::look_up::{
    Cache, Database, Holds, Question, Request, RowKind, Rows, SqlKind, SqlRequest, SqlValue, Tls,
};

pub(super) const KIND: Kind = Kind {
    name: "sql_query_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/sql_query_enrichment_config/jsonschema/1-0-*",
    schema: include_str!("sql_query.schema.json"),
    identifier: "sql-query",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| Ok(Box::new(SqlQuery::new(configured::parameters(data)?)?)),
};

/// How long a query may take where the configuration does not say.
const TIMEOUT_MS: u32 = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    inputs: Vec<Input>,
    database: WrittenDatabase,
    query: Query,
    output: Output,
    cache: WrittenCache,
    ignore_on_error: Option<bool>,
}

#[derive(Deserialize)]
struct Input {
    placeholder: usize,
    #[serde(flatten)]
    value: inputs::Written,
}

#[derive(Deserialize)]
struct WrittenDatabase {
    postgresql: Option<PostgreSql>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostgreSql {
    host: String,
    port: u16,
    ssl_mode: bool,
    #[serde(default)]
    ssl_insecure: bool,
    username: String,
    password: String,
    database: String,
}

#[derive(Deserialize)]
struct Query {
    sql: String,
    timeout: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    expected_rows: ExpectedRows,
    json: OutputJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ExpectedRows {
    ExactlyOne,
    AtMostOne,
    AtLeastOne,
    AtLeastZero,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutputJson {
    schema: String,
    describes: Describes,
    property_names: PropertyNames,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Describes {
    AllRows,
    EveryRow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum PropertyNames {
    AsIs,
    CamelCase,
    PascalCase,
    SnakeCase,
    LowerCase,
    UpperCase,
}

#[derive(Deserialize)]
struct WrittenCache {
    size: usize,
    ttl: u32,
}

struct SqlQuery {
    inputs: Vec<(usize, Source)>,
    database: Arc<Database>,
    statement: Arc<str>,
    placeholders: usize,
    timeout_ms: u32,
    expected: ExpectedRows,
    schema: SchemaKey,
    describes: Describes,
    names: PropertyNames,
    cache: Cache,
    ignores_errors: bool,
}

impl SqlQuery {
    fn new(parameters: Parameters) -> Result<SqlQuery, String> {
        let Some(written) = parameters.database.postgresql else {
            return Err(
                "`database`: MySQL is not asked, only `postgresql` is; copy the table there, or put an API before it \
                 and use api_request_enrichment_config"
                    .to_owned(),
            );
        };
        let tls = match (written.ssl_mode, written.ssl_insecure) {
            (true, false) => Tls::Verified,
            (true, true) => Tls::Unverified,
            (false, false) => Tls::Off,
            (false, true) => {
                return Err("`sslInsecure` means nothing without `\"sslMode\": true`".to_owned());
            }
        };
        let inputs = parameters.inputs.into_iter().map(|Input { placeholder, value }| {
            let source = value.source();
            Ok((placeholder, source.map_err(|what| format!("input {placeholder}: {what}"))?))
        });
        let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
        let statement = Statement::parse(&parameters.query.sql);
        let statement = statement.map_err(|what| format!("`query.sql`: {what}"))?;
        let Output { expected_rows, json } = parameters.output;
        let schema = SchemaKey::parse(&json.schema);
        Ok(SqlQuery {
            inputs,
            database: Arc::new(Database {
                host: written.host,
                port: written.port,
                tls,
                username: written.username,
                password: written.password,
                name: written.database,
            }),
            statement: statement.text.into(),
            placeholders: statement.placeholders,
            timeout_ms: parameters.query.timeout.unwrap_or(TIMEOUT_MS),
            expected: expected_rows,
            schema: schema.map_err(|error| format!("output `{}`: {error}", json.schema))?,
            describes: json.describes,
            names: json.property_names,
            cache: Cache { size: parameters.cache.size, ttl_s: parameters.cache.ttl },
            ignores_errors: parameters.ignore_on_error.unwrap_or(false),
        })
    }

    /// The query of an event; none if its values are not those of the placeholders.
    fn request(&self, work: &Work<'_>) -> Option<SqlRequest> {
        let mut found: BTreeMap<usize, SqlValue> = BTreeMap::new();
        for (placeholder, source) in &self.inputs {
            // Of several inputs the last one that is there counts.
            if let Some(value) = source.find(work).and_then(|found| bound(&found)) {
                found.insert(*placeholder, value);
            }
        }
        let fits = found.len() == self.placeholders
            && found.last_key_value().is_none_or(|(last, _)| *last == found.len());
        fits.then(|| SqlRequest {
            database: Arc::clone(&self.database),
            statement: Arc::clone(&self.statement),
            values: found.into_values().collect(),
            timeout_ms: self.timeout_ms,
        })
    }

    /// What the rows say, one entity's data each.
    fn data(&self, answer: &Value) -> Result<Vec<Value>, String> {
        let rows = Rows::deserialize(answer).map_err(|error| format!("no rows: {error}"))?;
        let count = rows.rows.len();
        let expected = match self.expected {
            ExpectedRows::ExactlyOne if count != 1 => "exactly one row",
            ExpectedRows::AtMostOne if count > 1 => "one row at most",
            ExpectedRows::AtLeastOne if count == 0 => "one row at least",
            _ => "",
        };
        if !expected.is_empty() {
            return Err(format!("{count} rows, where {expected} is expected"));
        }
        let objects = rows.rows.iter().map(|row| self.object(&rows, row));
        let mut objects = objects.collect::<Result<Vec<Value>, String>>()?;
        let is_list = matches!(self.expected, ExpectedRows::AtLeastOne | ExpectedRows::AtLeastZero);
        Ok(match self.describes {
            Describes::EveryRow => objects,
            Describes::AllRows if is_list => vec![objects.into()],
            // One row, or none.
            Describes::AllRows => objects.pop().into_iter().collect(),
        })
    }

    fn object(&self, rows: &Rows, row: &[Option<String>]) -> Result<Value, String> {
        if row.len() != rows.columns.len() {
            return Err("no rows: one has not a value for each column".to_owned());
        }
        let mut object = Map::new();
        for (column, value) in rows.columns.iter().zip(row) {
            let value = value.as_deref().map_or(Value::Null, |text| json_of(column.kind, text));
            object.insert(self.names.of(&column.label), value);
        }
        Ok(object.into())
    }
}

impl Enrichment for SqlQuery {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let Some(request) = self.request(work) else { return Ok(()) };
        let request = Request::Sql(request);
        let holds = Holds::ForTheRecord;
        let question = Question { enrichment: KIND.name, request, cache: self.cache, holds };
        let Some(answer) = work.look_ups.ask(question) else { return Ok(()) };
        match answer.as_ref().map_err(String::clone).and_then(|it| self.data(it)) {
            // The first of them stands before the others.
            Ok(rows) => {
                rows.into_iter().rev().for_each(|data| work.derive(self.schema.clone(), data));
                Ok(())
            }
            Err(_) if self.ignores_errors => Ok(()),
            Err(cause) => Err(["Error while executing the sql lookup".to_owned(), cause]
                .map(|error| EnrichmentError::Simple { error })
                .into()),
        }
    }
}

impl std::fmt::Debug for SqlQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest may hold secrets.
        f.write_str("SqlQuery")
    }
}

/// A value as the database gets it; none where nothing can be bound.
fn bound(found: &Found<'_>) -> Option<SqlValue> {
    let value = |kind, text: String| Some(SqlValue { kind, text });
    match found {
        Found::Cell(cell) => {
            let kind = match cell {
                Cell::Null | Cell::Json(_) => return None,
                Cell::Text(_) | Cell::Time(_) => SqlKind::Text,
                Cell::Int(_) => SqlKind::Integer,
                Cell::Bit(_) => SqlKind::Short,
                Cell::Number(_) | Cell::Money(_) => SqlKind::Decimal,
                Cell::Float(_) => SqlKind::Float,
            };
            value(kind, cell_text(*cell))
        }
        Found::Values(values) => match values[..] {
            [Value::Bool(it)] => value(SqlKind::Boolean, it.to_string()),
            [Value::Number(number)] => number_of(&number.to_string()),
            [Value::String(text)] => match text.as_str() {
                "true" | "false" => value(SqlKind::Boolean, text.clone()),
                _ => number_of(text).or_else(|| value(SqlKind::Text, text.clone())),
            },
            _ => None,
        },
    }
}

/// A number in the narrowest type that holds it. Whole ones may have a point: `7.0` is 7.
fn number_of(text: &str) -> Option<SqlValue> {
    let value = |kind, text: String| Some(SqlValue { kind, text });
    let is_number = text.starts_with(|it: char| it.is_ascii_digit() || "+-.".contains(it))
        && text.ends_with(|it: char| it.is_ascii_digit() || it == '.');
    if !is_number {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return match i32::try_from(whole) {
            Ok(_) => value(SqlKind::Integer, whole.to_string()),
            Err(_) => value(SqlKind::Long, whole.to_string()),
        };
    }
    let double: f64 = text.parse().ok().filter(|it: &f64| it.is_finite())?;
    value(SqlKind::Double, double.to_string())
}

/// A value of a row, from the database's spelling.
fn json_of(kind: RowKind, text: &str) -> Value {
    let parsed = || serde_json::from_str::<Value>(text).ok();
    let otherwise = || Value::from(text);
    match kind {
        RowKind::Boolean => Value::Bool(text == "t"),
        RowKind::Text => text.into(),
        RowKind::Integer => text.parse::<i64>().map_or_else(|_| otherwise(), Value::from),
        RowKind::Float => {
            let number = text.parse::<f64>().ok().and_then(Number::from_f64);
            number.map_or(Value::Null, Value::Number)
        }
        // `infinity` and years before our era stay what they are.
        RowKind::Date if text.len() == 10 => format!("{text}T00:00:00.000Z").into(),
        RowKind::Date => text.into(),
        RowKind::Other => parsed().unwrap_or_else(otherwise),
    }
}

impl PropertyNames {
    fn of(self, label: &str) -> String {
        let pascal = || {
            let camel = camel_case(label);
            let mut characters = camel.chars();
            match characters.next() {
                Some(first) => first.to_ascii_uppercase().to_string() + characters.as_str(),
                None => camel,
            }
        };
        match self {
            PropertyNames::AsIs => label.to_owned(),
            PropertyNames::CamelCase => camel_case(label),
            PropertyNames::PascalCase => pascal(),
            PropertyNames::SnakeCase => snake_case(label),
            PropertyNames::LowerCase => label.to_lowercase(),
            PropertyNames::UpperCase => label.to_uppercase(),
        }
    }
}

/// `_x` becomes `X`, for x in a–z and 0–9.
fn camel_case(label: &str) -> String {
    let mut name = String::with_capacity(label.len());
    let mut rest = label.chars().peekable();
    while let Some(character) = rest.next() {
        let next = rest.peek().filter(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        match (character, next.copied()) {
            ('_', Some(next)) => {
                name.push(next.to_ascii_uppercase());
                rest.next();
            }
            _ => name.push(character),
        }
    }
    name
}

/// An underscore before each capital and each digit, all in lower case.
fn snake_case(label: &str) -> String {
    let mut name = String::with_capacity(label.len() + 8);
    for character in label.chars() {
        if character.is_ascii_uppercase() || character.is_ascii_digit() {
            name.push('_');
        }
        name.extend(character.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests;
