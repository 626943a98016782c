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

use super::columns::{Column, Columns, SCHEMA_VERSION, version_of};
use super::form::{Form, item_field};
use super::inventory::entities;
use super::json::Json;
use super::scalar::{bigint, date, decimal, double, timestamp};
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
        wanted.iter().map(|(_, column)| ColumnBuilder::of(column, rows.len())).collect();
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
    fn of(column: &'a Column, rows: usize) -> ColumnBuilder<'a> {
        ColumnBuilder {
            column,
            values: Builder::of(&column.form, if column.is_context { 0 } else { rows }),
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
    /// With room for so many values. The builders' own idea of room, 1024 values for each field, would be more than all
    /// that there is where columns are many.
    fn of(form: &Form, room: usize) -> Builder {
        match form {
            Form::Leaf(Shape::Text) => Builder::Text(StringViewBuilder::with_capacity(room)),
            Form::Leaf(Shape::Boolean) => Builder::Boolean(BooleanBuilder::with_capacity(room)),
            Form::Leaf(Shape::Bigint) => Builder::Bigint(Int64Builder::with_capacity(room)),
            Form::Leaf(Shape::Double) => Builder::Double(Float64Builder::with_capacity(room)),
            Form::Leaf(Shape::Decimal(precision, scale)) => {
                let builder =
                    Decimal128Builder::with_capacity(room).with_data_type(form.data_type());
                Builder::Decimal(builder, *precision, *scale)
            }
            Form::Leaf(Shape::Date) => Builder::Date(Date32Builder::with_capacity(room)),
            Form::Leaf(Shape::Timestamp) => {
                Builder::Timestamp(TimestampMicrosecondBuilder::with_capacity(room))
            }
            Form::Leaf(Shape::Json | Shape::List(_) | Shape::Struct(_)) => {
                Builder::Json(StringViewBuilder::with_capacity(room))
            }
            Form::List(item) => Builder::List {
                ends: vec![0],
                rows: NullBufferBuilder::new(0),
                items: Box::new(Builder::of(item, room)),
            },
            Form::Struct(members) => Builder::Struct {
                fields: match form.data_type() {
                    DataType::Struct(fields) => fields,
                    _ => Fields::empty(),
                },
                rows: NullBufferBuilder::new(0),
                members: members.iter().map(|member| Builder::of(&member.form, room)).collect(),
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
                let held = all.find(|value| Builder::of(form, 1).push(form, Some(*value)));
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

#[cfg(test)]
mod tests;
