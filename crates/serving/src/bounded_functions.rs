//! Scalar functions whose output can be much larger than their input, each behind a bound on what one call may add.
//!
//! Called by the query engine when it starts. A kernel of DataFusion does not yield, so neither the statement timeout
//! nor a cancel stops it, and what it allocates is not charged to the memory pool: `repeat('x', 1000000000)` would take
//! its gigabyte past `server.memory-limit`. Hence the size is estimated from the arguments before the kernel runs. Not
//! here: aggregates, which the pool counts, and the `||` operator, which is no function.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::kernels::length::length;
use arrow::compute::{cast, sum};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use crate::error::TooMuch;

/// What one call, that is one function over one batch of rows, may add to its input.
const CALL_BYTES_MAX: u64 = 16 << 20;

/// The same for a call with constants only. What it makes is a literal of the plan from then on: each step of planning
/// copies and prints it, and each batch of rows may repeat it. A text is no longer than one that a statement can spell.
const CONSTANT_TEXT_BYTES_MAX: u64 = crate::statement::BYTES_MAX as u64;
const CONSTANT_ARRAY_BYTES_MAX: u64 = 1 << 20;

/// How the size of the output follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// text, count
    Repeat,
    /// text, characters, fill
    Pad,
    /// element, count
    ArrayRepeat,
    /// array, count, fill
    ArrayResize,
    /// start, stop, step
    Series,
    /// text, from, to
    Replace,
    /// text, pattern, to, flags
    RegexpReplace,
    /// array, from, to
    ArrayReplace,
    /// array, delimiter, text for null
    ArrayToString,
    /// All arguments one after the other.
    Concat,
    /// separator, then all others
    ConcatWs,
}

/// Names, not aliases: an alias is registered with its function. A name that this DataFusion does not have is passed
/// over.
const BOUNDED: [(&str, Growth); 20] = [
    ("repeat", Growth::Repeat),
    ("space", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("array_repeat", Growth::ArrayRepeat),
    ("array_resize", Growth::ArrayResize),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
    ("replace", Growth::Replace),
    ("regexp_replace", Growth::RegexpReplace),
    ("array_replace", Growth::ArrayReplace),
    ("array_replace_n", Growth::ArrayReplace),
    ("array_replace_all", Growth::ArrayReplace),
    ("array_to_string", Growth::ArrayToString),
    ("concat", Growth::Concat),
    ("array_concat", Growth::Concat),
    ("array_append", Growth::Concat),
    ("array_prepend", Growth::Concat),
    ("make_array", Growth::Concat),
    ("concat_ws", Growth::ConcatWs),
];

/// Taken away: `arrow_cast(null, 'FixedSizeBinary(2147483647)')` allocates by its type alone, and SQL has CAST;
/// `levenshtein` takes minutes over long texts and cannot be stopped meanwhile.
const REMOVED: [&str; 3] = ["arrow_cast", "arrow_try_cast", "levenshtein"];

/// Puts the bound before the session's functions.
///
/// # Errors
/// Those of the registry.
pub(crate) fn bound(session: &mut SessionState) -> Result<()> {
    for name in REMOVED {
        session.deregister_udf(name)?;
    }
    for (name, growth) in BOUNDED {
        let Ok(inner) = session.udf(name) else { continue };
        let bounded = Bounded { inner: inner.as_ref().clone(), growth };
        session.register_udf(Arc::new(ScalarUDF::new_from_impl(bounded)))?;
    }
    Ok(())
}

/// A function behind its bound. It is not simplified: some functions replace themselves by an unbounded twin there or
/// compute constants. Constants are folded by calling it, so the bound holds at planning too.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments = Arguments::new(&args.args)?;
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let bytes = match args.return_field.data_type() {
            _ if !constant => CALL_BYTES_MAX,
            DataType::List(_) | DataType::LargeList(_) => CONSTANT_ARRAY_BYTES_MAX,
            _ => CONSTANT_TEXT_BYTES_MAX,
        };
        if arguments.growth(self.growth)? > bytes {
            let function = self.inner.name().to_owned();
            return Err(DataFusionError::External(Box::new(TooMuch { function, bytes })));
        }
        self.inner.invoke_with_args(args)
    }
}

/// The evaluated arguments; a constant is a column of one row.
struct Arguments {
    columns: Vec<ArrayRef>,
    rows: usize,
}

impl Arguments {
    fn new(values: &[ColumnarValue]) -> Result<Arguments> {
        let column = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => Ok(array.clone()),
            ColumnarValue::Scalar(scalar) => scalar.to_array(),
        };
        let columns = values.iter().map(column).collect::<Result<Vec<_>>>()?;
        let arrays = values.iter().filter_map(|value| match value {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        Ok(Arguments { rows: arrays.max().unwrap_or(1), columns })
    }

    /// Bytes that the call adds to its input, at most.
    fn growth(&self, growth: Growth) -> Result<u64> {
        match growth {
            Growth::Repeat => match self.columns.len() {
                1 => self.total(&[self.numbers(0)?], |of| count(of[0])),
                _ => self.total(&[self.sizes(0)?, self.numbers(1)?], |of| {
                    size(of[0]).saturating_mul(count(of[1]))
                }),
            },
            Growth::Pad => {
                // Characters, each at most as long as the fill.
                self.total(&[self.numbers(1)?, self.sizes_or(2, 1)?], |of| {
                    count(of[0]).saturating_mul(size(of[1]).clamp(1, 4))
                })
            }
            Growth::ArrayRepeat => self.total(&[self.sizes(0)?, self.numbers(1)?], |of| {
                size(of[0]).max(8).saturating_mul(count(of[1]))
            }),
            Growth::ArrayResize => self.total(&[self.numbers(1)?, self.sizes_or(2, 0)?], |of| {
                count(of[0]).saturating_mul(size(of[1]).max(8))
            }),
            Growth::Series => self.series(),
            Growth::Replace => self.replace(),
            Growth::RegexpReplace => self.regexp_replace(),
            Growth::ArrayReplace => self.total(&[self.sizes(0)?, self.sizes(2)?], |of| {
                size(of[0]).saturating_mul(size(of[1]).saturating_sub(1))
            }),
            Growth::ArrayToString => {
                let sizes = [self.sizes(0)?, self.sizes(1)?, self.sizes_or(2, 0)?];
                self.total(&sizes, |of| {
                    size(of[0]).saturating_mul(size(of[1]).saturating_add(size(of[2])))
                })
            }
            Growth::Concat => self.concat(0),
            Growth::ConcatWs => self.concat(1),
        }
    }

    /// The sum over the rows.
    fn total(&self, columns: &[Int64Array], row: impl Fn(&[Option<i64>]) -> u64) -> Result<u64> {
        let mut values = vec![None; columns.len()];
        let mut total = 0u64;
        for at in 0..self.rows {
            for (value, column) in values.iter_mut().zip(columns) {
                let at = if column.len() == 1 { 0 } else { at };
                *value = column.is_valid(at).then(|| column.value(at));
            }
            total = total.saturating_add(row(&values));
        }
        Ok(total)
    }

    /// Argument `at` as numbers.
    fn numbers(&self, at: usize) -> Result<Int64Array> {
        let Some(column) = self.columns.get(at) else { return Ok(Int64Array::from(vec![0])) };
        Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    /// The bytes of each value of argument `at`.
    fn sizes(&self, at: usize) -> Result<Int64Array> {
        self.sizes_or(at, 0)
    }

    fn sizes_or(&self, at: usize, absent: i64) -> Result<Int64Array> {
        let Some(column) = self.columns.get(at) else {
            return Ok(Int64Array::from(vec![absent]));
        };
        if let Some(lengths) = text_lengths(column)? {
            return Ok(lengths);
        }
        let rows = (0..column.len()).map(|row| bytes_of(&column.slice(row, 1)));
        rows.map(|bytes| Ok(Some(i64::try_from(bytes?).unwrap_or(i64::MAX)))).collect()
    }

    /// All arguments together without the largest, and the separators.
    fn concat(&self, separators: usize) -> Result<u64> {
        let (mut total, mut largest) = (0u64, 0u64);
        for at in separators..self.columns.len() {
            let bytes = self.total(&[self.sizes(at)?], |of| size(of[0]))?;
            total = total.saturating_add(bytes);
            largest = largest.max(bytes);
        }
        if separators > 0 {
            let gaps = self.columns.len() as u64;
            let bytes = self.total(&[self.sizes(0)?], |of| size(of[0]))?;
            total = total.saturating_add(bytes.saturating_mul(gaps));
        }
        Ok(total - largest)
    }

    fn replace(&self) -> Result<u64> {
        let sizes = [self.sizes(0)?, self.sizes(1)?, self.sizes(2)?];
        let most = self.total(&sizes, |of| {
            let (text, from, to) = (size(of[0]), size(of[1]), size(of[2]));
            let found = text.checked_div(from).unwrap_or(text + 1);
            found.saturating_mul(to.saturating_sub(from))
        })?;
        if most <= CALL_BYTES_MAX {
            return Ok(most);
        }
        // Every byte of the text may be one that is replaced; counting tells.
        let texts = self.columns.iter().map(|column| cast(column, &DataType::LargeUtf8));
        let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
        let value = |column: usize, row: usize| {
            let texts = texts[column].as_string::<i64>();
            let row = if texts.len() == 1 { 0 } else { row };
            if texts.is_valid(row) { texts.value(row) } else { "" }
        };
        let mut total = 0u64;
        for row in 0..self.rows {
            let (text, from, to) = (value(0, row), value(1, row), value(2, row));
            let more = to.len().saturating_sub(from.len()) as u64;
            if more > 0 {
                total =
                    total.saturating_add(more.saturating_mul(text.matches(from).count() as u64));
            }
        }
        Ok(total)
    }

    fn regexp_replace(&self) -> Result<u64> {
        let everywhere = match self.columns.get(3) {
            Some(flags) => {
                let flags = cast(flags, &DataType::LargeUtf8)?;
                flags.as_string::<i64>().iter().flatten().any(|flags| flags.contains('g'))
            }
            None => false,
        };
        let replacements = cast(&self.columns[2], &DataType::LargeUtf8)?;
        let groups = replacements.as_string::<i64>().iter().flatten().map(|text| {
            // A capture of the text may stand at each of them.
            text.bytes().filter(|byte| matches!(byte, b'\\' | b'$')).count() as u64
        });
        let groups = groups.max().unwrap_or(0);
        self.total(&[self.sizes(0)?, self.sizes(2)?], |of| {
            let (text, to) = (size(of[0]), size(of[1]));
            let found = if everywhere { text.saturating_add(1) } else { 1 };
            // One byte for a match that is mostly longer: only empty matches make the text grow, at most to twice.
            let literal = if to == 1 { text / 4 } else { found.saturating_mul(to) };
            literal.saturating_add(groups.saturating_mul(text))
        })
    }

    /// Values between start and stop, of 8 bytes each.
    fn series(&self) -> Result<u64> {
        let values = |values: i128| u64::try_from(values).unwrap_or(u64::MAX).saturating_mul(8);
        if matches!(self.columns[0].data_type(), DataType::Null | DataType::Int64) {
            let single = self.columns.len() == 1;
            let start = if single { Int64Array::from(vec![0]) } else { self.numbers(0)? };
            let stop = self.numbers(usize::from(!single))?;
            let step = match self.columns.len() {
                3 => self.numbers(2)?,
                _ => Int64Array::from(vec![1]),
            };
            return self.total(&[start, stop, step], |of| match (of[0], of[1], of[2]) {
                (Some(start), Some(stop), Some(step)) if step != 0 => {
                    let steps = (i128::from(stop) - i128::from(start)) / i128::from(step);
                    if steps < 0 { 0 } else { values(steps + 1) }
                }
                _ => 0,
            });
        }
        let [start, stop, step] = self.columns.as_slice() else { return Ok(0) };
        let DataType::Interval(IntervalUnit::MonthDayNano) = step.data_type() else {
            return Ok(0);
        };
        let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let nanos = |column: &ArrayRef| -> Result<Int64Array> {
            let column = cast(&cast(column, &timestamp)?, &DataType::Int64)?;
            Ok(column.as_primitive::<Int64Type>().clone())
        };
        let steps = step.as_primitive::<IntervalMonthDayNanoType>();
        let rows = Int64Array::from_iter_values(0..self.rows as i64);
        self.total(&[nanos(start)?, nanos(stop)?, rows], |of| {
            let (Some(start), Some(stop), Some(row)) = (of[0], of[1], of[2]) else { return 0 };
            let row = if steps.len() == 1 { 0 } else { row as usize };
            if steps.is_null(row) {
                return 0;
            }
            let (months, days, nanos) = IntervalMonthDayNanoType::to_parts(steps.value(row));
            let parts = [i128::from(months), i128::from(days), i128::from(nanos)];
            let (up, down) =
                (parts.iter().any(|part| *part > 0), parts.iter().any(|part| *part < 0));
            if up && down {
                // Such a step may stand still.
                return u64::MAX;
            }
            const DAY: i128 = 86_400_000_000_000;
            let step = parts[0] * 28 * DAY + parts[1] * DAY + parts[2];
            if step == 0 {
                return 0;
            }
            let steps = (i128::from(stop) - i128::from(start)) / step;
            if steps < 0 { 0 } else { values(steps + 1) }
        })
    }
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.unwrap_or(0).max(0).unsigned_abs()
}

fn count(number: Option<i64>) -> u64 {
    size(number)
}

/// The bytes of each text, or `None` for other types.
fn text_lengths(column: &ArrayRef) -> Result<Option<Int64Array>> {
    let column = match column.data_type() {
        DataType::Dictionary(_, values) => &cast(column, values)?,
        _ => column,
    };
    match column.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => {
            let lengths = cast(&length(column.as_ref())?, &DataType::Int64)?;
            Ok(Some(lengths.as_primitive::<Int64Type>().clone()))
        }
        _ => Ok(None),
    }
}

/// The bytes of a column, of a list those of its part; never fewer than the values it has.
fn bytes_of(column: &ArrayRef) -> Result<u64> {
    if let Some(lengths) = text_lengths(column)? {
        return Ok(size(sum(&lengths)).saturating_add(4 * column.len() as u64));
    }
    let part = match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            let (from, to) = (offsets[0], offsets[list.len()]);
            list.values().slice(from as usize, (to - from) as usize)
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let offsets = list.value_offsets();
            let (from, to) = (offsets[0], offsets[list.len()]);
            list.values().slice(from as usize, (to - from) as usize)
        }
        other => {
            return Ok(match other.primitive_width() {
                Some(width) => (width * column.len()) as u64,
                None => column.to_data().get_slice_memory_size()? as u64 + column.len() as u64,
            });
        }
    };
    Ok(bytes_of(&part)?.saturating_add(4 * column.len() as u64))
}
