//! Rows read back from Arrow as texts that can be compared: by tests, the simulator and `verify`.
//!
//! The reverse of [`crate::shred`], as far as it can be one: a typed column no longer knows whether a price was written
//! 18.5 or 18.50. So a reference row is made by pushing the event through the same builders, and then the texts are
//! equal exactly when the rows are.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use model::failed::FAILURE;
use model::position::{Offset, Partition, Position};
use serde_json::Value;

use crate::Error;
use crate::schema;

/// One row: its position, and its other cells in the order of the schema; `None` is a null.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub position: Position,
    pub cells: Vec<Option<String>>,
}

impl Row {
    /// The row of `atomic.events` without what equality leaves out: `etl_tstamp`.
    /// Snowmelt: `exactness.md`, "Recipes".
    pub fn without_stamps(mut self) -> Row {
        let place = schema::events().index_of("etl_tstamp").expect("a column of the event");
        self.cells[place] = None;
        self
    }

    /// The row of `atomic.failed_events` without what equality leaves out: `etl_tstamp`, and of its failures the time and
    /// the attempt counters of look-up histories.
    pub fn without_failure_stamps(self) -> Row {
        let mut row = self.without_stamps();
        let place = schema::events().index_of("derived_contexts").expect("a column of the event");
        row.cells[place] = row.cells[place].take().map(|text| without_failure_times(&text));
        row
    }

    /// The row of `atomic.bad_rows` without what equality leaves out: the failure's time, and the attempt counters of
    /// look-up histories.
    pub fn without_failure_time(mut self) -> Row {
        const FAILURE_TSTAMP: usize = 2;
        const MESSAGES: usize = 3;
        const BAD_ROW: usize = 5;
        self.cells[FAILURE_TSTAMP] = None;
        for place in [MESSAGES, BAD_ROW] {
            self.cells[place] = self.cells[place].take().map(|text| without_counters(&text));
        }
        self
    }
}

/// All rows of batches that have the schema of a table, in their order.
///
/// # Errors
/// [`Error::Arrow`] when a batch does not end with the position columns, or a type is not one of ours.
pub fn read(batches: &[RecordBatch]) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let places = Places::of(batch)?;
        let cells = batch.num_columns() - schema::POSITION_COLUMNS.len();
        // Records and lists, of wide columns: equal values have equal texts.
        let nested = batch.columns().iter().map(|column| match column.data_type() {
            DataType::Struct(_) | DataType::List(_) => {
                ArrayFormatter::try_new(column, &NESTED).map(Some)
            }
            _ => Ok(None),
        });
        let nested = nested.collect::<Result<Vec<_>, _>>()?;
        for at in 0..batch.num_rows() {
            let cells = (0..cells).map(|column| match &nested[column] {
                Some(_) if batch.column(column).is_null(at) => Ok(None),
                Some(formatter) => Ok(Some(formatter.value(at).to_string())),
                None => text_of(batch.column(column), at),
            });
            rows.push(Row {
                position: places.position(at)?,
                cells: cells.collect::<Result<_, Error>>()?,
            });
        }
    }
    Ok(rows)
}

const NESTED: FormatOptions<'static> = FormatOptions::new().with_null("null");

/// The position columns of a batch.
pub(crate) struct Places<'a> {
    partitions: &'a arrow::array::StringArray,
    offsets: &'a arrow::array::StringArray,
    indexes: &'a arrow::array::Int32Array,
}

impl<'a> Places<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Places<'a>, Error> {
        let column = |name: &str| batch.column_by_name(name);
        let [partition, offset, index] = schema::POSITION_COLUMNS;
        match (
            column(partition).and_then(|array| array.as_string_opt::<i32>()),
            column(offset).and_then(|array| array.as_string_opt::<i32>()),
            column(index).and_then(|array| array.as_primitive_opt::<Int32Type>()),
        ) {
            (Some(partitions), Some(offsets), Some(indexes)) => {
                Ok(Places { partitions, offsets, indexes })
            }
            _ => Err(wrong("the batch has no position columns".to_owned())),
        }
    }

    pub(crate) fn partition(&self, at: usize) -> &str {
        self.partitions.value(at)
    }

    pub(crate) fn offset(&self, at: usize) -> Result<Offset, Error> {
        let text = self.offsets.value(at);
        text.parse().map_err(|_| wrong(format!("`{text}` in _offset is not an offset")))
    }

    pub(crate) fn index(&self, at: usize) -> Result<u32, Error> {
        let number = self.indexes.value(at);
        u32::try_from(number).map_err(|_| wrong(format!("{number} in _index is below 0")))
    }

    pub(crate) fn position(&self, at: usize) -> Result<Position, Error> {
        let name = self.partition(at);
        let partition = Partition::parse(name)
            .map_err(|_| wrong(format!("`{name}` in _partition is not a partition")))?;
        Ok(Position { partition, offset: self.offset(at)?, index: self.index(at)? })
    }
}

fn text_of(column: &dyn Array, at: usize) -> Result<Option<String>, Error> {
    if column.is_null(at) {
        return Ok(None);
    }
    let text = match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Boolean => column.as_boolean().value(at).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at).to_string(),
        DataType::Decimal128(_, _) => column.as_primitive::<Decimal128Type>().value_as_string(at),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            column.as_primitive::<TimestampMicrosecondType>().value(at).to_string()
        }
        DataType::Utf8View => column.as_string_view().value(at).to_owned(),
        other => return Err(wrong(format!("a column of type {other}"))),
    };
    Ok(Some(text))
}

fn wrong(detail: String) -> Error {
    arrow::error::ArrowError::SchemaError(detail).into()
}

/// The JSON without `failure.timestamp`, and without `attempts` and `lastAttempt` in entries of a `lookupHistory`.
fn without_counters(json: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        return json.to_owned();
    };
    if let Some(failure) = value.pointer_mut("/data/failure").and_then(Value::as_object_mut) {
        failure.shift_remove("timestamp");
        failure.values_mut().for_each(strip_histories);
    } else {
        strip_histories(&mut value);
    }
    value.to_string()
}

/// The contexts without `timestamp`, `attempts` and `lastAttempt` in those that say what failed.
fn without_failure_times(contexts: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(contexts) else {
        return contexts.to_owned();
    };
    let entities = value.get_mut("data").and_then(Value::as_array_mut);
    for entity in entities.into_iter().flatten() {
        if entity["schema"] == FAILURE
            && let Some(failure) = entity.get_mut("data").and_then(Value::as_object_mut)
        {
            failure.shift_remove("timestamp");
            failure.get_mut("errors").into_iter().for_each(strip_histories);
        }
    }
    value.to_string()
}

fn strip_histories(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Array(entries)) = object.get_mut("lookupHistory") {
                for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                    entry.shift_remove("attempts");
                    entry.shift_remove("lastAttempt");
                }
            }
            object.values_mut().for_each(strip_histories);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_histories),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
