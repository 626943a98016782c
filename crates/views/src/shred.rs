//! Enriched events and bad rows become typed columns here, for both layers: the batcher and the real-time loader push
//! into the same builders, so that the same outcome makes the same row.
//!
//! The speed layer sends events as TSV. What a TSV line cannot hold is therefore levelled here too: a tab or line end in
//! a text is a space, an empty text is a null.

use arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int32Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;
use model::event::{COLUMNS, Cell, EnrichedEvent, Kind};
use model::position::Position;
use model::time::Timestamp;
use serde_json::Value;
use std::sync::Arc;

use crate::schema;
use crate::wide::Mentions;

/// Builds rows of `atomic.events`.
///
/// Values that a column's type cannot hold become nulls: money beyond 18 digits (rounded to 2 places, half away from
/// zero), a number or float that is not finite, an instant outside of the years 0 to 9999. The raw record keeps them.
#[derive(Debug)]
pub struct EventRows {
    columns: Vec<Column>,
    positions: Positions,
    mentions: Mentions,
}

impl Default for EventRows {
    fn default() -> EventRows {
        EventRows {
            columns: COLUMNS.iter().map(|column| Column::of(column.kind)).collect(),
            positions: Positions::default(),
            mentions: Mentions::default(),
        }
    }
}

impl EventRows {
    pub fn new() -> EventRows {
        EventRows::default()
    }

    /// Appends one row. Rows keep the order in which they are pushed; both views want the order of positions.
    pub fn push(&mut self, position: &Position, event: &EnrichedEvent) {
        for (column, cell) in self.columns.iter_mut().zip(event.cells()) {
            column.push(cell);
        }
        self.positions.push(position);
        self.mentions.note(position.offset, event);
    }

    /// The schemas that all events name which were ever pushed.
    pub fn mentions(&self) -> &Mentions {
        &self.mentions
    }

    /// Rows pushed since the last [`EventRows::finish`].
    pub fn len(&self) -> usize {
        self.positions.count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as one batch of [`schema::events`]; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let columns = self.columns.iter_mut().map(Column::finish).chain(self.positions.finish());
        RecordBatch::try_new(schema::events(), columns.collect())
            .expect("builders and schema are made from one table")
    }
}

/// Builds rows of `atomic.bad_rows`.
#[derive(Debug)]
pub struct BadRowRows {
    schema: StringBuilder,
    kind: StringBuilder,
    failure_tstamp: TimestampMicrosecondBuilder,
    messages: StringBuilder,
    payload: StringBuilder,
    bad_row: StringBuilder,
    positions: Positions,
}

impl Default for BadRowRows {
    fn default() -> BadRowRows {
        BadRowRows {
            schema: texts(),
            kind: texts(),
            failure_tstamp: TimestampMicrosecondBuilder::with_capacity(0),
            messages: texts(),
            payload: texts(),
            bad_row: texts(),
            positions: Positions::default(),
        }
    }
}

impl BadRowRows {
    pub fn new() -> BadRowRows {
        BadRowRows::default()
    }

    /// Appends one bad row, given as its self-describing JSON. What the JSON does not have is null; a text that is not
    /// JSON at all is kept in `bad_row`.
    ///
    /// `messages` is always a JSON array: `failure.messages`, or `failure.errors`, or the one `failure.message` or
    /// `failure.expectation`. Snowplow: `enrich-core.md` 6.
    pub fn push(&mut self, position: &Position, bad_row_json: &str) {
        let row: Value = serde_json::from_str(bad_row_json).unwrap_or(Value::Null);
        let schema = row.get("schema").and_then(Value::as_str);
        let data = row.get("data");
        let failure = data.and_then(|data| data.get("failure"));
        let failed_at = failure
            .and_then(|failure| failure.get("timestamp"))
            .and_then(Value::as_str)
            .and_then(timestamp_from_iso);
        self.schema.append_option(schema);
        self.kind.append_option(schema.and_then(name_of_schema));
        self.failure_tstamp.append_option(failed_at.and_then(micros));
        self.messages.append_option(failure.and_then(messages_of));
        self.payload.append_option(data.and_then(|data| data.get("payload")).map(Value::to_string));
        self.bad_row.append_value(bad_row_json);
        self.positions.push(position);
    }

    /// Rows pushed since the last [`BadRowRows::finish`].
    pub fn len(&self) -> usize {
        self.positions.count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as one batch of [`schema::bad_rows`]; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let columns: [ArrayRef; 6] = [
            Arc::new(self.schema.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.failure_tstamp.finish()),
            Arc::new(self.messages.finish()),
            Arc::new(self.payload.finish()),
            Arc::new(self.bad_row.finish()),
        ];
        let columns = columns.into_iter().chain(self.positions.finish()).collect();
        RecordBatch::try_new(schema::bad_rows(), columns).expect("builders follow the schema")
    }
}

/// The three position columns.
#[derive(Debug)]
struct Positions {
    partition: StringBuilder,
    offset: StringBuilder,
    index: Int32Builder,
    count: usize,
}

impl Default for Positions {
    fn default() -> Positions {
        let index = Int32Builder::with_capacity(0);
        Positions { partition: texts(), offset: texts(), index, count: 0 }
    }
}

impl Positions {
    fn push(&mut self, position: &Position) {
        self.partition.append_value(position.partition.as_str());
        self.offset.append_value(position.offset.to_string());
        let index = i32::try_from(position.index);
        self.index
            .append_value(index.expect("a record of at most 1 MB has fewer outcomes than 2^31"));
        self.count += 1;
    }

    fn finish(&mut self) -> [ArrayRef; 3] {
        self.count = 0;
        [
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.index.finish()),
        ]
    }
}

/// One column under construction.
#[derive(Debug)]
enum Column {
    Text(StringBuilder),
    Int(Int32Builder),
    Bit(BooleanBuilder),
    Double(Float64Builder),
    Money(Decimal128Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Column {
    fn of(kind: Kind) -> Column {
        match kind {
            Kind::Text(_) | Kind::Json => Column::Text(texts()),
            Kind::Int => Column::Int(Int32Builder::with_capacity(0)),
            Kind::Bit => Column::Bit(BooleanBuilder::with_capacity(0)),
            Kind::Number | Kind::Float => Column::Double(Float64Builder::with_capacity(0)),
            Kind::Money => Column::Money(Decimal128Builder::with_capacity(0).with_data_type(
                DataType::Decimal128(schema::MONEY_PRECISION, schema::MONEY_SCALE),
            )),
            Kind::Time => Column::Time(TimestampMicrosecondBuilder::with_capacity(0)),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Column::Text(texts), Cell::Text(text) | Cell::Json(text)) => push_text(texts, text),
            (Column::Int(ints), Cell::Int(int)) => ints.append_value(int),
            (Column::Bit(bits), Cell::Bit(bit)) => bits.append_value(bit),
            (Column::Double(doubles), Cell::Number(decimal)) => {
                doubles.append_option(finite(decimal.to_f64()));
            }
            (Column::Double(doubles), Cell::Float(float)) => {
                doubles.append_option(finite(widen(float)));
            }
            (Column::Money(decimals), Cell::Money(decimal)) => {
                decimals.append_option(decimal.to_hundredths());
            }
            (Column::Time(times), Cell::Time(at)) => times.append_option(micros(at)),
            (column, Cell::Null) => column.push_null(),
            (column, cell) => unreachable!("{cell:?} in {column:?}: both follow the column's kind"),
        }
    }

    fn push_null(&mut self) {
        match self {
            Column::Text(texts) => texts.append_null(),
            Column::Int(ints) => ints.append_null(),
            Column::Bit(bits) => bits.append_null(),
            Column::Double(doubles) => doubles.append_null(),
            Column::Money(decimals) => decimals.append_null(),
            Column::Time(times) => times.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Text(texts) => Arc::new(texts.finish()),
            Column::Int(ints) => Arc::new(ints.finish()),
            Column::Bit(bits) => Arc::new(bits.finish()),
            Column::Double(doubles) => Arc::new(doubles.finish()),
            Column::Money(decimals) => Arc::new(decimals.finish()),
            Column::Time(times) => Arc::new(times.finish()),
        }
    }
}

/// An empty builder. Arrow's default capacities would make a batch of one row take 800 kB: most batches of the speed
/// layer are small.
fn texts() -> StringBuilder {
    StringBuilder::with_capacity(0, 0)
}

fn push_text(texts: &mut StringBuilder, text: &str) {
    if text.is_empty() {
        texts.append_null();
    } else if text.contains(['\t', '\n', '\r']) {
        texts.append_value(text.replace(['\t', '\n', '\r'], " "));
    } else {
        texts.append_value(text);
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// The double that reads like the float: 37.1 becomes 37.1 and not 37.09999847412109, as it does when a warehouse loads
/// the TSV.
fn widen(float: f32) -> f64 {
    float.to_string().parse().unwrap_or(f64::NAN)
}

fn micros(at: Timestamp) -> Option<i64> {
    at.has_plain_year().then(|| at.0 * 1000)
}

/// `2026-11-22T10:00:00.123Z`, with or without decimals.
fn timestamp_from_iso(text: &str) -> Option<Timestamp> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    Timestamp::from_tsv(&format!("{day} {seconds}.{millis}"))
}

/// `adapter_failures` of `iglu:vendor/adapter_failures/jsonschema/1-0-0`.
fn name_of_schema(schema: &str) -> Option<&str> {
    schema.strip_prefix("iglu:")?.split('/').nth(1)
}

fn messages_of(failure: &Value) -> Option<String> {
    let several = failure.get("messages").or_else(|| failure.get("errors"));
    let one = || failure.get("message").or_else(|| failure.get("expectation"));
    match several {
        Some(messages) => Some(messages.to_string()),
        None => one().map(|message| format!("[{message}]")),
    }
}
