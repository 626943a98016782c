//! Arrow types as PostgreSQL's: the number that names a type on the wire, and its size.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// A type of PostgreSQL, as far as results and parameters here have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// With Arrow's precision and scale.
    Numeric(u8, i8),
    Text,
    Json,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
}

/// A column: one value or an array of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnType {
    pub(crate) item: Type,
    pub(crate) is_array: bool,
}

/// Type, its number, the number of its array, its size (-1 is any).
const NUMBERS: [(Type, u32, u32, i16); 15] = [
    (Type::Bool, 16, 1000, 1),
    (Type::Int2, 21, 1005, 2),
    (Type::Int4, 23, 1007, 4),
    (Type::Int8, 20, 1016, 8),
    (Type::Float4, 700, 1021, 4),
    (Type::Float8, 701, 1022, 8),
    (Type::Numeric(38, 0), 1700, 1231, -1),
    (Type::Text, 25, 1009, -1),
    (Type::Json, 114, 199, -1),
    (Type::Bytea, 17, 1001, -1),
    (Type::Date, 1082, 1182, 4),
    (Type::Time, 1083, 1183, 8),
    (Type::Timestamp, 1114, 1115, 8),
    (Type::TimestampTz, 1184, 1185, 8),
    (Type::Interval, 1186, 1187, 16),
];

/// Types that are read like another one: name, unknown, varchar, char(n), jsonb's text, uuid, "char"; oid.
const ALIASES: [(u32, Type); 9] = [
    (18, Type::Text),
    (19, Type::Text),
    (26, Type::Int8),
    (705, Type::Text),
    (1042, Type::Text),
    (1043, Type::Text),
    (1002, Type::Text),
    (2275, Type::Text),
    (0, Type::Text),
];

impl ColumnType {
    /// Whether a column that was described like this cannot show every value of one like `found`: a wide column whose
    /// schemas have grown since.
    pub(crate) fn loses(self, found: ColumnType) -> bool {
        use Type::{Float4, Float8, Int2, Int4, Int8, Json, Numeric};
        let bits = |of: Type| match of {
            Int2 => Some(16),
            Int4 => Some(32),
            Int8 => Some(64),
            _ => None,
        };
        if self.is_array != found.is_array {
            return true;
        }
        match (self.item, found.item) {
            (told, found) if told == found => false,
            (Json, _) | (_, Json) => true,
            (Int2 | Int4 | Int8, Float4 | Float8 | Numeric(..)) | (Float4, Float8) => true,
            (Float4 | Float8, Numeric(..)) | (Numeric(..), Float4 | Float8) => true,
            (Numeric(_, told), Numeric(_, found)) => found > told,
            (told, found) => bits(told).zip(bits(found)).is_some_and(|(told, found)| found > told),
        }
    }
}

impl Type {
    fn row(self) -> (u32, u32, i16) {
        let same = |other: &Type| match (self, other) {
            (Type::Numeric(..), Type::Numeric(..)) => true,
            (ours, other) => ours == *other,
        };
        let found = NUMBERS.iter().find(|(of, ..)| same(of));
        found.map_or((25, 1009, -1), |(_, number, array, size)| (*number, *array, *size))
    }

    /// Bytes of a value; -1 is any number.
    pub(crate) fn size(self) -> i16 {
        self.row().2
    }
}

impl ColumnType {
    pub(crate) const TEXT: ColumnType = ColumnType { item: Type::Text, is_array: false };

    const JSON: ColumnType = ColumnType { item: Type::Json, is_array: false };

    /// The type of an Arrow column. Records are JSON; what else has no type of its own is text.
    pub(crate) fn of(data_type: &DataType) -> ColumnType {
        let item = match data_type {
            DataType::Boolean => Type::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::Int2,
            DataType::Int32 | DataType::UInt16 => Type::Int4,
            // A row number is an unsigned one here and a bigint in PostgreSQL.
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Type::Int8,
            DataType::Float16 | DataType::Float32 => Type::Float4,
            DataType::Float64 => Type::Float8,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Type::Numeric(*precision, *scale),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Type::Bytea,
            DataType::Date32 | DataType::Date64 => Type::Date,
            DataType::Time32(_) | DataType::Time64(_) => Type::Time,
            DataType::Timestamp(_, None) => Type::Timestamp,
            DataType::Timestamp(_, Some(_)) => Type::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Type::Interval,
            DataType::Dictionary(_, value) => return ColumnType::of(value),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let of = ColumnType::of(item.data_type());
                // An array of arrays or of records is JSON.
                let is_array = !of.is_array && of.item != Type::Json;
                return if is_array { ColumnType { is_array, ..of } } else { ColumnType::JSON };
            }
            DataType::Struct(_) => Type::Json,
            _ => Type::Text,
        };
        ColumnType { item, is_array: false }
    }

    /// The type of a parameter that the client declares; `None` for one that is not known here.
    pub(crate) fn of_number(number: u32) -> Option<ColumnType> {
        if let Some((_, item)) = ALIASES.iter().find(|(alias, _)| *alias == number) {
            return Some(ColumnType { item: *item, is_array: false });
        }
        NUMBERS.iter().find_map(|(item, single, array, _)| match number {
            _ if number == *single => Some(ColumnType { item: *item, is_array: false }),
            _ if number == *array => Some(ColumnType { item: *item, is_array: true }),
            // uuid, jsonb, varchar[], name[], oid[].
            2950 | 3802 => Some(ColumnType::TEXT),
            1015 | 1003 | 2951 => Some(ColumnType { item: Type::Text, is_array: true }),
            1028 => Some(ColumnType { item: Type::Int8, is_array: true }),
            _ => None,
        })
    }

    pub(crate) fn number(self) -> u32 {
        let (single, array, _) = self.item.row();
        if self.is_array { array } else { single }
    }

    pub(crate) fn size(self) -> i16 {
        if self.is_array { -1 } else { self.item.size() }
    }

    /// Precision and scale of a numeric; -1 for all else.
    pub(crate) fn modifier(self) -> i32 {
        match self.item {
            Type::Numeric(precision, scale) if scale >= 0 && !self.is_array => {
                ((i32::from(precision) << 16) | i32::from(scale)) + 4
            }
            _ => -1,
        }
    }

    /// The Arrow type that a value of this type is read into.
    pub(crate) fn arrow(self) -> DataType {
        let item = match self.item {
            Type::Bool => DataType::Boolean,
            Type::Int2 => DataType::Int16,
            Type::Int4 => DataType::Int32,
            Type::Int8 => DataType::Int64,
            Type::Float4 => DataType::Float32,
            Type::Float8 => DataType::Float64,
            Type::Numeric(precision, scale) => DataType::Decimal128(precision, scale),
            Type::Text | Type::Json => DataType::Utf8,
            Type::Bytea => DataType::Binary,
            Type::Date => DataType::Date32,
            Type::Time => DataType::Time64(TimeUnit::Microsecond),
            Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Type::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            Type::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        };
        if self.is_array { DataType::new_list(item, true) } else { item }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_reads_back_from_its_number() {
        for (item, single, array, _) in NUMBERS {
            for (is_array, number) in [(false, single), (true, array)] {
                let column = ColumnType { item, is_array };
                assert_eq!(column.number(), number);
                assert_eq!(ColumnType::of_number(number), Some(column));
            }
            // A JSON parameter is read as a text.
            let read = if item == Type::Json { Type::Text } else { item };
            assert_eq!(ColumnType::of(&ColumnType { item, is_array: true }.arrow()).item, read);
        }
        assert_eq!(ColumnType::of_number(2950), Some(ColumnType::TEXT));
        assert_eq!(ColumnType::of_number(999_999), None);
    }

    #[test]
    fn money_tells_its_digits() {
        let money = ColumnType::of(&DataType::Decimal128(18, 2));
        assert_eq!(
            (money.number(), money.size(), money.modifier()),
            (1700, -1, (18 << 16 | 2) + 4)
        );
    }
}
