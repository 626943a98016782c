//! The SQL type of every column that an answer can have, in lower case: `text`, `bigint`, `numeric(18,2)`.
//!
//! The names are PostgreSQL's; types that it does not have are shown as the nearest wider one.

use arrow::datatypes::{DataType, TimeUnit};

/// The name of the type in the API and in `information_schema`'s sense.
pub(crate) fn sql_type(data_type: &DataType) -> String {
    let plain = match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64 => "numeric(20,0)",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Duration(_) | DataType::Interval(_) => "interval",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("numeric({precision},{scale})"),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => return format!("{}[]", sql_type(item.data_type())),
        DataType::Dictionary(_, value) => return sql_type(value),
        DataType::RunEndEncoded(_, value) => return sql_type(value.data_type()),
        DataType::Struct(_) | DataType::Union(_, _) => "record",
        DataType::Map(_, _) => "jsonb",
    };
    plain.to_owned()
}

/// How many units of a timestamp make a microsecond, as a fraction: multiply, then divide.
pub(crate) fn to_micros(unit: TimeUnit) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (1_000_000, 1),
        TimeUnit::Millisecond => (1000, 1),
        TimeUnit::Microsecond => (1, 1),
        TimeUnit::Nanosecond => (1, 1000),
    }
}
