//! The values of wide columns, made from the JSON columns of the same rows.
//!
//! A value depends on the row and on its column alone. What a column's type cannot hold is null there, and stays in the
//! JSON column. Snowplow: `lake-and-postgres.md` 4, with the offending field alone nulled.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int64Builder, ListArray, NullBufferBuilder, RecordBatch, StringViewBuilder, StructArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use memchr::memmem::Finder;
use model::sdk::Place;
use model::time::Timestamp;

use super::columns::{Column, Columns, SCHEMA_VERSION, version_of};
use super::form::{Form, item_field};
use super::inventory::entities;
use super::json::Json;
use super::shape::Shape;
use crate::Error;
use crate::schema::POSITION_COLUMNS;

/// The JSON columns of some rows; what no column is made from may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    pub unstruct_event: Option<&'a ArrayRef>,
    pub contexts: Option<&'a ArrayRef>,
    pub derived_contexts: Option<&'a ArrayRef>,
}

/// Columns of which so few families are wanted that it is worth looking for their names before a text is read.
const LOOKED_FOR_MAX: usize = 8;

/// What a value takes of memory at most, its text left out.
const VALUE_BYTES: usize = 16;

/// Nulls that a piece of rows without any of the wanted columns comes to at most, if it has more than one row.
const PIECE_NULLS_MAX: usize = 1 << 16;

/// The values of some columns, by their places, for a piece of the rows. What the rows take although they have nothing is
/// announced to `grow`, and each entity before it is read, with the bytes that it may come to; if that says no, there are
/// no values.
///
/// # Errors
/// [`Error::Arrow`] when a source is no column of texts, or rows hold more items than a list can have.
pub fn read(
    columns: &Columns,
    wanted: &[usize],
    sources: Sources<'_>,
    rows: Range<usize>,
    mut grow: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<ArrayRef>>, Error> {
    let wanted: Vec<(usize, &Column)> =
        wanted.iter().filter_map(|at| Some((*at, columns.get(*at)?))).collect();
    if !grow(width(&wanted).saturating_mul(rows.len()).saturating_mul(VALUE_BYTES)) {
        return Ok(None);
    }
    let mut builders: Vec<ColumnBuilder<'_>> =
        wanted.iter().map(|(_, column)| ColumnBuilder::of(column)).collect();
    // Where the builder of a column is.
    let mut places = vec![None; columns.len()];
    for (builder, (at, _)) in wanted.iter().enumerate() {
        places[*at] = Some(builder);
    }
    let finders = |is_context: bool| {
        let of_kind = wanted.iter().filter(|(_, column)| column.is_context == is_context);
        let families: Vec<&String> = of_kind.flat_map(|(_, column)| &column.families).collect();
        let few = families.len() <= LOOKED_FOR_MAX;
        few.then(|| families.into_iter().map(Finder::new).collect::<Vec<_>>())
    };
    let mut texts = Vec::with_capacity(3);
    for (place, source) in [
        (Place::UnstructEvent, sources.unstruct_event),
        (Place::Contexts, sources.contexts),
        (Place::DerivedContexts, sources.derived_contexts),
    ] {
        if let Some(source) = source {
            texts.push((place, Texts::of(source)?, finders(place != Place::UnstructEvent)));
        }
    }
    for row in rows {
        for (place, texts, finders) in &texts {
            let Some(text) = texts.get(row) else { continue };
            let is_named = |finder: &Finder<'_>| finder.find(text.as_bytes()).is_some();
            if finders.as_ref().is_some_and(|finders| !finders.iter().any(is_named)) {
                continue;
            }
            for (schema, data) in entities(*place, text) {
                let column = columns.place_of(*place != Place::UnstructEvent, schema);
                if let Some(builder) = column.and_then(|column| places[column]) {
                    let builder = &mut builders[builder];
                    if !grow(builder.bytes_at_most(data)) {
                        return Ok(None);
                    }
                    builder.add(schema, data);
                }
            }
        }
        builders.iter_mut().for_each(ColumnBuilder::end_row);
    }
    let values: Result<Vec<ArrayRef>, ArrowError> =
        builders.iter_mut().map(ColumnBuilder::finish).collect();
    Ok(Some(values?))
}

/// How many values a row has that has none of the columns: a null for each field of each struct.
fn width(wanted: &[(usize, &Column)]) -> usize {
    let of_column = |column: &Column| if column.is_context { 1 } else { column.form.extent().0 };
    wanted.iter().map(|(_, column)| of_column(column)).sum()
}

/// The rows in pieces for [`read`], each of so many bytes of JSON text or of one row, and of fewer rows where the wanted
/// columns are many or wide.
///
/// # Errors
/// When a column is not one of texts.
pub fn pieces(
    columns: &Columns,
    wanted: &[usize],
    sources: Sources<'_>,
    rows: usize,
    bytes_max: usize,
) -> Result<Vec<Range<usize>>, Error> {
    let sources = [sources.unstruct_event, sources.contexts, sources.derived_contexts];
    let texts: Vec<Texts<'_>> =
        sources.into_iter().flatten().map(Texts::of).collect::<Result<_, _>>()?;
    let wanted: Vec<(usize, &Column)> =
        wanted.iter().filter_map(|at| Some((*at, columns.get(*at)?))).collect();
    let rows_max = (PIECE_NULLS_MAX / width(&wanted).max(1)).max(1);
    let mut pieces = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for row in 0..rows {
        let more: usize = texts.iter().filter_map(|texts| Some(texts.get(row)?.len())).sum();
        if row > begin && (bytes + more > bytes_max || row - begin == rows_max) {
            pieces.push(begin..row);
            (begin, bytes) = (row, 0);
        }
        bytes += more;
    }
    pieces.push(begin..rows);
    Ok(pieces)
}

/// The wide columns of rows of a table, and their position columns.
///
/// # Errors
/// As [`read`]; also when the rows have no position columns.
pub fn of_batch(columns: &Columns, rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let source = |name| rows.column_by_name(name);
    let sources = Sources {
        unstruct_event: source("unstruct_event"),
        contexts: source("contexts"),
        derived_contexts: source("derived_contexts"),
    };
    let all: Vec<usize> = (0..columns.len()).collect();
    let values = read(columns, &all, sources, 0..rows.num_rows(), |_| true)?;
    let mut values = values.unwrap_or_default();
    let mut fields: Vec<Field> = columns.iter().map(Column::field).collect();
    let schema = rows.schema();
    for name in POSITION_COLUMNS {
        let at = schema.index_of(name)?;
        fields.push(schema.field(at).clone());
        values.push(rows.column(at).clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)
}

/// A column of texts in either of the two forms.
enum Texts<'a> {
    Plain(&'a arrow::array::StringArray),
    Views(&'a arrow::array::StringViewArray),
}

impl<'a> Texts<'a> {
    fn of(array: &'a ArrayRef) -> Result<Texts<'a>, Error> {
        match array.data_type() {
            DataType::Utf8 => Ok(Texts::Plain(array.as_string())),
            DataType::Utf8View => Ok(Texts::Views(array.as_string_view())),
            other => Err(ArrowError::SchemaError(format!("a JSON column of type {other}")).into()),
        }
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Texts::Plain(texts) => {
                (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row))
            }
            Texts::Views(texts) => {
                (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row))
            }
        }
    }
}

/// One column under construction.
struct ColumnBuilder<'a> {
    column: &'a Column,
    values: Builder,
    /// Entities of the row so far, and where those of each row end.
    count: usize,
    ends: Vec<usize>,
    rows: NullBufferBuilder,
    /// The JSON text of a row's entities.
    text: String,
}

impl<'a> ColumnBuilder<'a> {
    fn of(column: &'a Column) -> ColumnBuilder<'a> {
        ColumnBuilder {
            column,
            values: Builder::of(&column.form),
            count: 0,
            ends: vec![0],
            rows: NullBufferBuilder::new(0),
            text: String::new(),
        }
    }

    /// What the data may come to in memory: a value for each field of each item, of lists in lists all that there can
    /// be, and the texts themselves.
    fn bytes_at_most(&self, data: Option<Json<'_>>) -> usize {
        let text = data.map_or("", Json::written);
        let (fields, has_lists) = self.column.form.extent();
        let items =
            if has_lists { 1 + memchr::memchr_iter(b',', text.as_bytes()).count() } else { 1 };
        text.len() + items.saturating_mul(fields).saturating_mul(VALUE_BYTES)
    }

    /// Adds data of the row; of a self-describing event there is one.
    fn add(&mut self, schema: &str, data: Option<Json<'_>>) {
        match (&self.column.form, self.column.is_context) {
            (Form::Leaf(_), true) => {
                self.text.push(if self.count == 0 { '[' } else { ',' });
                push_versioned(&mut self.text, version_of(schema), data);
            }
            (form, true) => self.values.push_entity(form, version_of(schema), data),
            (form, false) if self.count == 0 => _ = self.values.push(form, data),
            (_, false) => return,
        }
        self.count += 1;
    }

    fn end_row(&mut self) {
        let is_there = self.count > 0;
        match (&self.column.form, self.column.is_context) {
            (Form::Leaf(_), true) => {
                self.text.push(']');
                // Not a JSON value for the builder, but its text.
                self.values.push_written(is_there.then_some(self.text.as_str()));
                self.text.clear();
            }
            (_, true) => {
                self.ends.push(self.ends.last().copied().unwrap_or(0) + self.count);
                self.rows.append(is_there);
            }
            (form, false) if !is_there => _ = self.values.push(form, None),
            (_, false) => {}
        }
        self.count = 0;
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let values = self.values.finish()?;
        if !self.column.is_context || matches!(self.column.form, Form::Leaf(_)) {
            return Ok(values);
        }
        list(std::mem::take(&mut self.ends), &mut self.rows, values)
    }
}

/// The entity with the version of its schema: what the SDK shows. Snowplow: `analytics-sdk.md` 2.
fn push_versioned(into: &mut String, version: &str, data: Option<Json<'_>>) {
    into.push('{');
    for (name, value) in data.into_iter().flat_map(Json::entries) {
        if name != SCHEMA_VERSION {
            into.push('"');
            into.push_str(name);
            into.push_str("\":");
            into.push_str(value.written());
            into.push(',');
        }
    }
    // Nothing in a version needs an escape.
    into.push_str("\"_schema_version\":\"");
    into.push_str(version);
    into.push_str("\"}");
}

/// Values of one form under construction.
enum Builder {
    Json(StringViewBuilder),
    Text(StringViewBuilder),
    Boolean(BooleanBuilder),
    Bigint(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    List { ends: Vec<usize>, rows: NullBufferBuilder, items: Box<Builder> },
    Struct { fields: Fields, rows: NullBufferBuilder, members: Vec<Builder> },
}

impl Builder {
    fn of(form: &Form) -> Builder {
        match form {
            Form::Leaf(Shape::Text) => Builder::Text(StringViewBuilder::new()),
            Form::Leaf(Shape::Boolean) => Builder::Boolean(BooleanBuilder::new()),
            Form::Leaf(Shape::Bigint) => Builder::Bigint(Int64Builder::new()),
            Form::Leaf(Shape::Double) => Builder::Double(Float64Builder::new()),
            Form::Leaf(Shape::Decimal(precision, scale)) => {
                let builder = Decimal128Builder::new().with_data_type(form.data_type());
                Builder::Decimal(builder, *precision, *scale)
            }
            Form::Leaf(Shape::Date) => Builder::Date(Date32Builder::new()),
            Form::Leaf(Shape::Timestamp) => Builder::Timestamp(TimestampMicrosecondBuilder::new()),
            Form::Leaf(Shape::Json | Shape::List(_) | Shape::Struct(_)) => {
                Builder::Json(StringViewBuilder::new())
            }
            Form::List(item) => Builder::List {
                ends: vec![0],
                rows: NullBufferBuilder::new(0),
                items: Box::new(Builder::of(item)),
            },
            Form::Struct(members) => Builder::Struct {
                fields: match form.data_type() {
                    DataType::Struct(fields) => fields,
                    _ => Fields::empty(),
                },
                rows: NullBufferBuilder::new(0),
                members: members.iter().map(|member| Builder::of(&member.form)).collect(),
            },
        }
    }

    /// Appends a value; what the form cannot hold is null. Says whether it is there.
    fn push(&mut self, form: &Form, json: Option<Json<'_>>) -> bool {
        let json = json.filter(|json| !json.is_null());
        match (self, form) {
            (Builder::List { ends, rows, items }, Form::List(item)) => {
                let json = json.filter(|json| json.is_array());
                let mut end = ends.last().copied().unwrap_or(0);
                for value in json.into_iter().flat_map(Json::items) {
                    items.push(item, Some(value));
                    end += 1;
                }
                ends.push(end);
                rows.append(json.is_some());
                json.is_some()
            }
            (Builder::Struct { rows, members, .. }, Form::Struct(of)) => {
                let json = json.filter(|json| json.is_object());
                let found = json.map(Found::in_object);
                for (builder, member) in members.iter_mut().zip(of) {
                    builder.push_first(&member.form, &member.properties, found.as_ref());
                }
                rows.append(json.is_some());
                json.is_some()
            }
            (leaf, _) => leaf.push_leaf(json),
        }
    }

    /// Appends the first of some properties that the form can hold.
    fn push_first(&mut self, form: &Form, properties: &[String], found: Option<&Found<'_>>) {
        let mut values = properties.iter().filter_map(|name| found?.get(name));
        let first = values.next();
        match values.next() {
            None => _ = self.push(form, first),
            // Two names for one field, which is rare: what can be held is told before anything is appended.
            Some(second) => {
                let mut all = first.into_iter().chain([second]).chain(values);
                let held = all.find(|value| Builder::of(form).push(form, Some(*value)));
                self.push(form, held);
            }
        }
    }

    /// Appends an entity, whose first member is the version of its schema.
    fn push_entity(&mut self, form: &Form, version: &str, json: Option<Json<'_>>) {
        let (Builder::Struct { rows, members, .. }, Form::Struct(of)) = (self, form) else {
            return;
        };
        let found = json.filter(|json| json.is_object()).map(Found::in_object);
        for (builder, member) in members.iter_mut().zip(of) {
            match builder {
                Builder::Text(texts) if member.name == SCHEMA_VERSION => {
                    texts.append_value(version)
                }
                builder => builder.push_first(&member.form, &member.properties, found.as_ref()),
            }
        }
        rows.append(true);
    }

    /// Appends a text as it is.
    fn push_written(&mut self, text: Option<&str>) {
        if let Builder::Json(texts) | Builder::Text(texts) = self {
            texts.append_option(text);
        }
    }

    fn push_leaf(&mut self, json: Option<Json<'_>>) -> bool {
        macro_rules! append {
            ($builder:expr, $value:expr) => {{
                let value = $value;
                let is_there = value.is_some();
                $builder.append_option(value);
                is_there
            }};
        }
        match self {
            Builder::Json(texts) => append!(texts, json.map(Json::written)),
            Builder::Text(texts) => append!(texts, json.and_then(Json::text)),
            Builder::Boolean(values) => append!(values, json.and_then(Json::boolean)),
            Builder::Bigint(values) => {
                append!(values, json.and_then(Json::number).and_then(bigint))
            }
            Builder::Double(values) => {
                append!(values, json.and_then(Json::number).and_then(double))
            }
            Builder::Decimal(values, precision, scale) => {
                let number = json.and_then(Json::number);
                append!(values, number.and_then(|number| decimal(number, *precision, *scale)))
            }
            Builder::Date(values) => {
                append!(values, json.and_then(Json::text).and_then(|text| date(&text)))
            }
            Builder::Timestamp(values) => {
                append!(values, json.and_then(Json::text).and_then(|text| timestamp(&text)))
            }
            Builder::List { .. } | Builder::Struct { .. } => false,
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Builder::Json(texts) | Builder::Text(texts) => Arc::new(texts.finish()),
            Builder::Boolean(values) => Arc::new(values.finish()),
            Builder::Bigint(values) => Arc::new(values.finish()),
            Builder::Double(values) => Arc::new(values.finish()),
            Builder::Decimal(values, ..) => Arc::new(values.finish()),
            Builder::Date(values) => Arc::new(values.finish()),
            Builder::Timestamp(values) => Arc::new(values.finish()),
            Builder::List { ends, rows, items } => {
                list(std::mem::take(ends), rows, items.finish()?)?
            }
            Builder::Struct { fields, rows, members } => {
                let count = rows.len();
                let columns = members.iter_mut().map(Builder::finish);
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                let nulls = rows.finish();
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, count)?)
            }
        })
    }
}

/// A list with its items; `ends` has a 0 before the end of each row.
fn list(
    ends: Vec<usize>,
    rows: &mut NullBufferBuilder,
    items: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    let too_many = |_| {
        ArrowError::ComputeError("more items in a list column than a batch can hold".to_owned())
    };
    let ends: Vec<i32> =
        ends.into_iter().map(i32::try_from).collect::<Result<_, _>>().map_err(too_many)?;
    let field = item_field(items.data_type().clone());
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::new(ends.into()), items, rows.finish())?))
}

/// The members of an object: looked through once, since most have few. Of two with one name the first counts.
struct Found<'a> {
    plain: Vec<(&'a str, Json<'a>)>,
    /// Names may be written with escapes; few are.
    escaped: Vec<(String, Json<'a>)>,
    /// Of an object with many members: the places in `plain`.
    places: HashMap<&'a str, usize>,
}

/// An object with more members than this is not looked through for each field.
const FEW_MEMBERS: usize = 32;

impl<'a> Found<'a> {
    fn in_object(object: Json<'a>) -> Found<'a> {
        let (escaped, plain): (Vec<_>, Vec<_>) =
            object.entries().partition(|(name, _)| name.contains('\\'));
        let unescaped = |(name, value): (&str, _)| {
            Some((serde_json::from_str::<String>(&format!("\"{name}\"")).ok()?, value))
        };
        let escaped = escaped.into_iter().filter_map(unescaped).collect();
        let mut places = HashMap::new();
        if plain.len() > FEW_MEMBERS {
            for (place, (name, _)) in plain.iter().enumerate() {
                places.entry(*name).or_insert(place);
            }
        }
        Found { plain, escaped, places }
    }

    fn get(&self, name: &str) -> Option<Json<'a>> {
        let plain = match self.plain.len() > FEW_MEMBERS {
            true => self.places.get(name).map(|place| self.plain[*place].1),
            false => self.plain.iter().find(|(found, _)| *found == name).map(|(_, value)| *value),
        };
        let escaped = || self.escaped.iter().find(|(found, _)| found == name);
        plain.or_else(|| escaped().map(|(_, value)| *value))
    }
}

/// A whole number, also one that is written `5.0` or `5e0`.
fn bigint(number: &str) -> Option<i64> {
    match number.parse() {
        Ok(whole) => Some(whole),
        Err(_) => decimal(number, 38, 0).and_then(|whole| whole.try_into().ok()),
    }
}

fn double(number: &str) -> Option<f64> {
    number.parse::<f64>().ok().filter(|double| double.is_finite())
}

/// The number times 10^scale, if that is whole and has at most so many digits: nothing is rounded.
fn decimal(number: &str, precision: u8, scale: u8) -> Option<i128> {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse::<i32>().ok()?.into();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let significant = format!("{whole}{fraction}");
    let trimmed = significant.trim_end_matches('0');
    let significant = if trimmed.is_empty() { return Some(0) } else { trimmed };
    // Zeros that were cut off behind stand for powers of ten.
    let cut = (whole.len() + fraction.len() - significant.len()) as i64;
    let places = exponent - fraction.len() as i64 + cut + i64::from(scale);
    let digits = significant.trim_start_matches('0');
    let zeros = usize::try_from(places).ok().filter(|zeros| *zeros <= usize::from(precision))?;
    if digits.len() + zeros > usize::from(precision) {
        return None;
    }
    let value = digits.parse::<i128>().ok()?.checked_mul(10i128.pow(zeros as u32))?;
    Some(if is_negative { -value } else { value })
}

/// Days since 1970-01-01 of `2026-11-22`.
fn date(text: &str) -> Option<i32> {
    let Timestamp(millis) = Timestamp::from_tsv(&format!("{text} 00:00:00.000"))?;
    millis.div_euclid(86_400_000).try_into().ok()
}

/// Microseconds of an ISO instant with its offset: `2026-11-22T10:00:00.123456+01:00`. Digits beyond the sixth are cut.
fn timestamp(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let (seconds, leap) = match time.strip_suffix("60") {
        Some(minutes) => (format!("{minutes}59"), 1_000_000),
        None => (time.to_owned(), 0),
    };
    let Timestamp(millis) = Timestamp::from_tsv(&format!("{day} {seconds}.000"))?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            rest.split_at(digits)
        }
        None => ("", rest),
    };
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let offset_minutes = match offset {
        "Z" | "z" => 0,
        _ => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
            let two = |text: &str, most: i64| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<i64>().ok().filter(|number| digits && *number <= most)
            };
            sign * (two(hours, 23)? * 60 + two(minutes, 59)?)
        }
    };
    Some(millis * 1000 + leap + micros.parse::<i64>().ok()? - offset_minutes * 60_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Mentions, Union};
    use super::*;
    use arrow::array::{StringArray, StringViewArray};
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    use model::position::Offset;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const CO: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1";
    const UE: &str = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";

    fn entity(schema: &str, data: Value) -> Value {
        json!({"schema": schema, "data": data})
    }

    /// Columns for the schemas that the texts name, by what they say.
    fn columns(texts: &[(Place, &Value)], shapes: &[(&str, Value)]) -> Columns {
        let mut mentions = Mentions::default();
        for (place, value) in texts {
            mentions.note_text(Offset::BEGINNING, *place, &value.to_string());
        }
        let schemas = mentions.schemas(|schema| {
            let shape = shapes.iter().find(|(uri, _)| *uri == schema.as_str());
            shape.map_or(Ok::<_, ()>(Shape::Json), |(_, shape)| {
                Ok(shape.clone().try_into().unwrap())
            })
        });
        let (schemas, mut all) = (schemas.unwrap(), Union::new());
        schemas.add_to(&mut all, Offset::BEGINNING);
        Columns::of(&all)
    }

    fn shown(array: &ArrayRef) -> Vec<String> {
        let options = FormatOptions::new().with_null("null");
        let formatter = ArrayFormatter::try_new(array, &options).unwrap();
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
    }

    #[test]
    fn a_self_describing_event_is_a_struct_of_its_properties() {
        let cart = |version: &str, data| {
            entity(UE, entity(&format!("iglu:com.acme/cart/jsonschema/{version}"), data))
        };
        let texts = [
            cart("1-0-0", json!({"totalPrice": 12.0, "items": [{"sku": "a\nb", "n": 5}, {}]})),
            cart(
                "1-0-1",
                json!({"totalPrice": 0.25, "at": "2026-11-22T10:00:00.5+01:00", "x": {"y": [1]}}),
            ),
            cart("1-0-0", json!({"items": null, "day": "2026-11-22", "unknown": 1})),
        ];
        let columns = columns(
            &texts.each_ref().map(|text| (Place::UnstructEvent, text)),
            &[
                (
                    "iglu:com.acme/cart/jsonschema/1-0-0",
                    json!({"totalPrice": "bigint", "items": [{"sku": "text", "n": "bigint"}], "day": "date"}),
                ),
                (
                    "iglu:com.acme/cart/jsonschema/1-0-1",
                    json!({"totalPrice": "double", "at": "timestamp", "x": "json"}),
                ),
            ],
        );
        let mut rows: Vec<Option<String>> =
            texts.iter().map(|text| Some(text.to_string())).collect();
        rows.push(None);
        for array in [
            Arc::new(StringArray::from(rows.clone())) as ArrayRef,
            Arc::new(StringViewArray::from_iter(rows)),
        ] {
            let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
            let values = read(&columns, &[0], sources, 0..4, |_| true).unwrap().unwrap();
            assert_eq!(
                shown(&values[0]),
                [
                    "{day: null, items: [{n: 5, sku: a\nb}, {n: null, sku: null}], total_price: 12.0, at: null, x: null}",
                    "{day: null, items: null, total_price: 0.25, at: 2026-11-22T09:00:00.500, x: {\"y\":[1]}}",
                    "{day: 2026-11-22, items: null, total_price: null, at: null, x: null}",
                    "null",
                ]
            );
            assert_eq!(*values[0].data_type(), columns.get(0).unwrap().data_type());
        }
    }

    #[test]
    fn entities_are_a_list_with_own_contexts_first() {
        let user = "iglu:com.acme/user/jsonschema/1-0-0";
        let newer = "iglu:com.acme/user/jsonschema/1-0-2";
        let free = "iglu:com.acme/free/jsonschema/1-0-0";
        let own =
            entity(CO, json!([entity(user, json!({"id": "a"})), entity(free, json!({"b": 1}))]));
        let derived =
            entity(CO, json!([entity(newer, json!({"id": "b"})), entity(free, json!(3))]));
        let columns = columns(
            &[(Place::Contexts, &own), (Place::DerivedContexts, &derived)],
            &[(user, json!({"id": "text"})), (newer, json!({"id": "text"}))],
        );
        let names: Vec<&str> = columns.iter().map(Column::name).collect();
        assert_eq!(names, ["contexts_com_acme_free_1", "contexts_com_acme_user_1"]);
        let own: ArrayRef = Arc::new(StringArray::from(vec![Some(own.to_string()), None]));
        let derived: ArrayRef = Arc::new(StringArray::from(vec![Some(derived.to_string()), None]));
        let sources = Sources {
            contexts: Some(&own),
            derived_contexts: Some(&derived),
            unstruct_event: None,
        };
        let values = read(&columns, &[1, 0], sources, 0..2, |_| true).unwrap().unwrap();
        assert_eq!(
            shown(&values[0]),
            ["[{_schema_version: 1-0-0, id: a}, {_schema_version: 1-0-2, id: b}]", "null"]
        );
        assert_eq!(
            shown(&values[1]),
            [r#"[{"b":1,"_schema_version":"1-0-0"},{"_schema_version":"1-0-0"}]"#, "null"]
        );
    }

    #[test]
    fn a_value_that_its_type_cannot_hold_is_null() {
        let schema = "iglu:com.acme/a/jsonschema/1-0-0";
        let value = |json: Value, of: &str| {
            let text = entity(UE, entity(schema, json!({"a": json})));
            let columns = columns(&[(Place::UnstructEvent, &text)], &[(schema, json!({"a": of}))]);
            let array: ArrayRef = Arc::new(StringArray::from(vec![text.to_string()]));
            let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
            let values = read(&columns, &[0], sources, 0..1, |_| true).unwrap().unwrap();
            shown(&values[0])[0].trim_start_matches("{a: ").trim_end_matches('}').to_owned()
        };
        for (json, of, expected) in [
            (json!(5.0), "bigint", "5"),
            (json!(9_223_372_036_854_775_807_i64), "bigint", "9223372036854775807"),
            (json!(9_223_372_036_854_775_808_u64), "bigint", "null"),
            (json!(5.5), "bigint", "null"),
            (json!("5"), "bigint", "null"),
            (serde_json::from_str("1e3").unwrap(), "bigint", "1000"),
            (serde_json::from_str("1e400").unwrap(), "double", "null"),
            (json!(7), "double", "7.0"),
            (json!(12.5), "decimal(18,2)", "12.50"),
            (json!(-0.25), "decimal(18,2)", "-0.25"),
            (json!(9.999), "decimal(18,2)", "null"),
            (serde_json::from_str("1e16").unwrap(), "decimal(18,2)", "null"),
            (serde_json::from_str("1e15").unwrap(), "decimal(18,2)", "1000000000000000.00"),
            (serde_json::from_str("0.000").unwrap(), "decimal(18,2)", "0.00"),
            (serde_json::from_str("1.5000e1").unwrap(), "decimal(18,2)", "15.00"),
            (json!(true), "boolean", "true"),
            (json!("true"), "boolean", "null"),
            (json!(1), "text", "null"),
            (json!("\u{e9}\""), "text", "\u{e9}\""),
            (json!("2016-12-31T23:59:60Z"), "timestamp", "2017-01-01T00:00:00"),
            (json!("2026-11-22 10:00:00.1234567-00:30"), "timestamp", "2026-11-22T10:30:00.123456"),
            (json!("2026-11-22T10:00:00"), "timestamp", "null"),
            (json!("2026-11-22"), "timestamp", "null"),
            (json!("2026-02-30"), "date", "null"),
            (json!("1969-12-31"), "date", "1969-12-31"),
            (json!("+12345-01-01"), "date", "null"),
            (json!([1, "a"]), "json", r#"[1,"a"]"#),
            (json!("a"), "json", "\"a\""),
            (json!(null), "json", "null"),
        ] {
            assert_eq!(value(json.clone(), of), expected, "{json} as {of}");
        }
    }

    #[test]
    fn the_first_property_that_fits_is_shown() {
        let schema = "iglu:com.acme/a/jsonschema/1-0-0";
        let text = entity(UE, entity(schema, json!({"item_id": 2, "itemId": "x"})));
        let columns = columns(
            &[(Place::UnstructEvent, &text)],
            &[(schema, json!({"itemId": "bigint", "item_id": "bigint"}))],
        );
        let array: ArrayRef = Arc::new(StringArray::from(vec![text.to_string()]));
        let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
        let values = read(&columns, &[0], sources, 0..1, |_| true).unwrap().unwrap();
        assert_eq!(shown(&values[0]), ["{item_id: 2}"]);
    }

    proptest! {
        /// Whatever a file holds: rows stay rows, and arrays have the types that the columns say.
        #[test]
        fn no_text_makes_it_panic(
            texts in proptest::collection::vec(
                proptest::option::of("(\\{\"schema\":\"a/1-0\",\"data\":)?[\\[\\]{}:,\" \\\\ati0-9./-]{0,30}"), 0..6,
            ),
        ) {
            let schema = "iglu:com.acme/a/jsonschema/1-0-0";
            let known = entity(UE, entity(schema, json!({})));
            let list = entity(CO, json!([entity(schema, json!({}))]));
            let of = json!({"a": "bigint", "t": ["timestamp"], "i": {"a": "decimal(18,2)"}});
            let columns = columns(
                &[(Place::UnstructEvent, &known), (Place::Contexts, &list)],
                &[(schema, of)],
            );
            let inside = |text: &Option<String>| {
                text.as_ref().map(|text| known.to_string().replace("{}", text))
            };
            let first: ArrayRef = Arc::new(StringArray::from_iter(texts.iter().map(inside)));
            let second: ArrayRef = Arc::new(StringArray::from_iter(texts.iter()));
            let sources = Sources {
                unstruct_event: Some(&first), contexts: Some(&second), derived_contexts: Some(&first),
            };
            let values = read(&columns, &[0, 1], sources, 0..texts.len(), |_| true).unwrap().unwrap();
            let fields = columns.iter().map(Column::field).collect::<Vec<_>>();
            let schema = Arc::new(arrow::datatypes::Schema::new(fields));
            if !texts.is_empty() {
                prop_assert_eq!(RecordBatch::try_new(schema, values).unwrap().num_rows(), texts.len());
            }
        }
    }
}
