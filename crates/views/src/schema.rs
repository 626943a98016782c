//! The columns of `atomic.events`, `atomic.failed_events` and `atomic.bad_rows` as Arrow types: one canonical type per column, the same in table
//! files, in the real-time view and in SQL.
//!
//! Texts are `Utf8`, never `Utf8View`: sketches hash the two differently. `_layer` is not here: it depends on the cut,
//! so that only the reader can say it.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use model::event::{COLUMNS, Kind};

use crate::catalog::Table;

/// Digits of a money column, and how many of them stand after the point.
pub const MONEY_PRECISION: u8 = 18;
pub const MONEY_SCALE: i8 = 2;

/// The three columns that every table ends with, in this order.
pub const POSITION_COLUMNS: [&str; 3] = ["_partition", "_offset", "_index"];

/// The columns of a table. A failed event has those of an event.
pub fn of(table: Table) -> SchemaRef {
    match table {
        Table::Events | Table::FailedEvents => events(),
        Table::BadRows => bad_rows(),
    }
}

/// The 131 columns of the enriched event, then the position.
pub fn events() -> SchemaRef {
    static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
        let columns =
            COLUMNS.iter().map(|column| Field::new(column.name, data_type(column.kind), true));
        Arc::new(Schema::new(columns.chain(position_fields()).collect::<Vec<_>>()))
    });
    EVENTS.clone()
}

/// The columns of a bad row, then the position. `messages`, `payload` and `bad_row` are JSON as text.
pub fn bad_rows() -> SchemaRef {
    static BAD_ROWS: LazyLock<SchemaRef> = LazyLock::new(|| {
        let columns = [
            Field::new("schema", DataType::Utf8, true),
            Field::new("type", DataType::Utf8, true),
            Field::new("failure_tstamp", data_type(Kind::Time), true),
            Field::new("messages", DataType::Utf8, true),
            Field::new("payload", DataType::Utf8, true),
            Field::new("bad_row", DataType::Utf8, false),
        ];
        Arc::new(Schema::new(columns.into_iter().chain(position_fields()).collect::<Vec<_>>()))
    });
    BAD_ROWS.clone()
}

/// The Arrow type of an enriched event's column.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text(_) | Kind::Json => DataType::Utf8,
        Kind::Int => DataType::Int32,
        Kind::Bit => DataType::Boolean,
        Kind::Number | Kind::Float => DataType::Float64,
        Kind::Money => DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE),
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

/// The SQL name of a column's type in lower case, as the API and the documentation show it. Also for the types that
/// only results have; an Arrow type without an SQL name shows its own, in lower case.
pub fn sql_type(field: &Field) -> String {
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::UInt64 => "decimal(20,0)".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea".to_owned(),
        // Records, and lists of them.
        DataType::Struct(_) => "json".to_owned(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            match sql_type(item) {
                of if of == "json" || of.ends_with("[]") => "json".to_owned(),
                of => format!("{of}[]"),
            }
        }
        DataType::Dictionary(_, value) => {
            sql_type(&Field::new(field.name(), value.as_ref().clone(), field.is_nullable()))
        }
        other => other.to_string().to_lowercase(),
    }
}

fn position_fields() -> [Field; 3] {
    [
        Field::new(POSITION_COLUMNS[0], DataType::Utf8, false),
        Field::new(POSITION_COLUMNS[1], DataType::Utf8, false),
        Field::new(POSITION_COLUMNS[2], DataType::Int32, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: &str) {
        let schema = events();
        assert_eq!(sql_type(schema.field_with_name(name).unwrap()), expect, "{name}");
    }

    #[test]
    fn the_columns_have_their_sql_types() {
        check("app_id", "text");
        check("contexts", "text");
        check("collector_tstamp", "timestamp");
        check("domain_sessionidx", "integer");
        check("geo_latitude", "double precision");
        check("se_value", "double precision");
        check("tr_total", "decimal(18,2)");
        check("br_cookies", "boolean");
        check("_partition", "text");
        check("_offset", "text");
        check("_index", "integer");
        assert_eq!(events().fields().len(), 134);
        assert_eq!(bad_rows().fields().len(), 9);
    }

    #[test]
    fn a_list_is_named_by_its_items() {
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let list = Field::new("a", DataType::List(item), true);
        assert_eq!(sql_type(&list), "bigint[]");
        let record = Field::new("r", DataType::Struct(vec![list.clone()].into()), true);
        assert_eq!(sql_type(&record), "json");
        for item in [list, record] {
            assert_eq!(sql_type(&Field::new("a", DataType::List(Arc::new(item)), true)), "json");
        }
    }
}
