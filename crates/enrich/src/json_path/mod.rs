//! JSON paths: places in a JSON value, as configurations of enrichments name them. Snowplow: `enrichments.md` 1.7.
//!
//! Snowplow reads two dialects: Goessner's, whose answer is a list of values (SQL and API look-ups), and Jayway's, which
//! is mapped over (pseudonymisation). One reader serves both: it takes `$.['a','b']` of the second too. A path that finds
//! nothing gives nothing; no path ever adds a key. The reading of the text is in `parse`.

mod parse;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::str::FromStr;

use serde_json::Value;

/// A path that was read. Equal texts find the same places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath {
    steps: Vec<Step>,
}

/// From a value to some of those inside of it.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Whether the step is taken from every value below too, as `..` says.
    deep: bool,
    pick: Pick,
}

#[derive(Clone, Debug, PartialEq)]
enum Pick {
    /// Members of an object, each once.
    Names(Vec<String>),
    /// Items of an array; negative ones count from its end.
    Indexes(Vec<i64>),
    /// Items from the first bound on and before the second.
    Slice { from: Option<i64>, to: Option<i64>, by: usize },
    /// All members or items.
    All,
    /// The members or items of which a condition holds.
    Where(Condition),
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Either(Vec<Condition>),
    Both(Vec<Condition>),
    Not(Box<Condition>),
    /// A path below the value that is looked at finds something.
    Exists(JsonPath),
    Compare(Operand, Comparison, Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    /// What this path finds first, from the value that is looked at.
    Path(JsonPath),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A text that is no path. Says where, in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSON path `{path}`: {what} at character {at}")]
pub(crate) struct InvalidPath {
    path: String,
    at: usize,
    what: String,
}

impl FromStr for JsonPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<JsonPath, InvalidPath> {
        parse::parse(text)
    }
}

impl JsonPath {
    /// What the path finds, in the order of the document where one step finds several. A value that is found on two ways
    /// is given twice, as in Goessner's dialect.
    pub(crate) fn select<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        select(&self.steps, root, &mut found);
        found
    }

    /// Hands each place that the path finds to `change`, once.
    pub(crate) fn change(&self, root: &mut Value, change: &mut dyn FnMut(&mut Value)) {
        // Only where two steps are deep, two ways can lead to one place.
        if self.steps.iter().filter(|step| step.deep).count() < 2 {
            return visit(&self.steps, root, change);
        }
        let mut seen: HashSet<*const Value> = HashSet::new();
        // Nothing moves while the path is followed: a place is known by its address.
        visit(&self.steps, root, &mut |value| {
            if seen.insert(std::ptr::from_ref(value)) {
                change(value);
            }
        });
    }
}

fn select<'v>(steps: &[Step], value: &'v Value, found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match value {
        Value::Object(map) => match &step.pick {
            // The names' own order is the one that was asked for.
            Pick::Names(names) => names
                .iter()
                .filter_map(|name| map.get(name))
                .for_each(|member| select(rest, member, found)),
            pick => map
                .values()
                .filter(|member| pick.takes(member))
                .for_each(|member| select(rest, member, found)),
        },
        Value::Array(items) => match &step.pick {
            Pick::Indexes(_) | Pick::Slice { .. } => step
                .pick
                .places(items.len())
                .into_iter()
                .for_each(|at| select(rest, &items[at], found)),
            pick => items
                .iter()
                .filter(|item| pick.takes(item))
                .for_each(|item| select(rest, item, found)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    }
    if step.deep {
        match value {
            Value::Object(map) => map.values().for_each(|member| select(steps, member, found)),
            Value::Array(items) => items.iter().for_each(|item| select(steps, item, found)),
            _ => {}
        }
    }
}

fn visit(steps: &[Step], value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    let Some((step, rest)) = steps.split_first() else { return change(value) };
    match value {
        Value::Object(map) => match &step.pick {
            Pick::Names(names) => {
                for name in names {
                    if let Some(member) = map.get_mut(name) {
                        visit(rest, member, change);
                    }
                }
            }
            pick => map
                .values_mut()
                .filter(|member| pick.takes(member))
                .for_each(|member| visit(rest, member, change)),
        },
        Value::Array(items) => match &step.pick {
            Pick::Indexes(_) | Pick::Slice { .. } => step
                .pick
                .places(items.len())
                .into_iter()
                .for_each(|at| visit(rest, &mut items[at], change)),
            pick => items
                .iter_mut()
                .filter(|item| pick.takes(item))
                .for_each(|item| visit(rest, item, change)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    }
    if step.deep {
        match value {
            Value::Object(map) => map.values_mut().for_each(|member| visit(steps, member, change)),
            Value::Array(items) => items.iter_mut().for_each(|item| visit(steps, item, change)),
            _ => {}
        }
    }
}

impl Pick {
    /// Whether a member or an item is taken for what it is, not for its place.
    fn takes(&self, value: &Value) -> bool {
        match self {
            Pick::All => true,
            Pick::Where(condition) => condition.holds(value),
            Pick::Names(_) | Pick::Indexes(_) | Pick::Slice { .. } => false,
        }
    }

    /// The places in an array of this length, each once.
    fn places(&self, length: usize) -> Vec<usize> {
        let count = i64::try_from(length).unwrap_or(i64::MAX);
        let from_start = |at: i64| if at < 0 { at.saturating_add(count) } else { at };
        match self {
            Pick::Indexes(indexes) => {
                let mut places = Vec::with_capacity(indexes.len());
                for at in indexes.iter().map(|at| from_start(*at)) {
                    let at = usize::try_from(at).ok().filter(|at| *at < length);
                    places.extend(at.filter(|at| !places.contains(at)));
                }
                places
            }
            Pick::Slice { from, to, by } => {
                let bound = |at: Option<i64>, other: i64| {
                    usize::try_from(from_start(at.unwrap_or(other)).clamp(0, count)).unwrap_or(0)
                };
                (bound(*from, 0)..bound(*to, count)).step_by(*by).collect()
            }
            Pick::Names(_) | Pick::All | Pick::Where(_) => Vec::new(),
        }
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Condition::Either(some) => some.iter().any(|it| it.holds(value)),
            Condition::Both(all) => all.iter().all(|it| it.holds(value)),
            Condition::Not(it) => !it.holds(value),
            Condition::Exists(path) => !path.select(value).is_empty(),
            Condition::Compare(left, comparison, right) => {
                compare(left.of(value), *comparison, right.of(value))
            }
        }
    }
}

impl Operand {
    fn of<'v>(&'v self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Operand::Literal(literal) => Some(literal),
            Operand::Path(path) => path.select(value).first().copied(),
        }
    }
}

/// Numbers compare as numbers, texts as texts; what has no order is neither less nor greater, and nothing is equal to
/// what is not there.
fn compare(left: Option<&Value>, comparison: Comparison, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else {
        return comparison == Comparison::NotEqual && left.is_some() != right.is_some();
    };
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => None,
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (left, right) => (left == right).then_some(std::cmp::Ordering::Equal),
    };
    match comparison {
        Comparison::Equal => order.is_some_and(|it| it.is_eq()),
        Comparison::NotEqual => !order.is_some_and(|it| it.is_eq()),
        Comparison::Less => order.is_some_and(|it| it.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|it| it.is_le()),
        Comparison::Greater => order.is_some_and(|it| it.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|it| it.is_ge()),
    }
}
