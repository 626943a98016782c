//! The event that a script works on, as the script's `event` object reads and writes it.
//!
//! The machine's native functions call this. Every change can be taken back, for a script that is run once more.

use model::decimal::Decimal;
use model::event::{COLUMNS, Cell, EnrichedEvent, Kind};
use model::iglu::Criterion;
use model::position::{Offset, Partition};
use model::time::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::{Rewritten, Work};
use crate::entity::{self, Entity};
use crate::json;
use crate::self_describing::{
    ANY_CONTEXTS, ANY_UNSTRUCT_EVENT, CONTEXTS, UNSTRUCT_EVENT, check_criterion, self_describing,
};

/// What is taken out of [`Work`] for the time of a call.
#[derive(Debug, Default)]
pub(super) struct Stage {
    event: EnrichedEvent,
    unstruct: Option<Entity>,
    contexts: Vec<Entity>,
    derived: Vec<Entity>,
    pub(super) rewritten: Rewritten,
    pub(super) is_dropped: bool,
    pub(super) is_erased: bool,
    undo: Vec<Undo>,
    /// Where the event lies.
    place: Option<(Partition, Offset, usize)>,
    /// Of the place, from the first draw on.
    seed: u64,
    draws: u64,
    now_ms: f64,
    json_depth_max: u32,
}

#[derive(Debug)]
enum Undo {
    Column(usize, Option<String>),
    Unstruct(Option<Entity>),
    Contexts(Vec<Entity>),
}

/// A value of a script, as a column can take it.
#[derive(Debug, PartialEq)]
pub(super) enum Given {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// A column's value, as a script gets it.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    Null,
    Number(f64),
    Text(String),
}

/// Which JSON of the event; the numbers are the prelude's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Unstruct,
    Contexts,
    Derived,
}

impl Json {
    pub(super) fn of_number(number: u32) -> Json {
        match number {
            0 => Json::Unstruct,
            1 => Json::Contexts,
            _ => Json::Derived,
        }
    }
}

impl Stage {
    pub(super) fn take(&mut self, work: &mut Work<'_>) {
        *self = Stage {
            event: std::mem::take(&mut *work.event),
            unstruct: work.unstruct.take(),
            contexts: std::mem::take(&mut work.contexts),
            derived: std::mem::take(&mut work.derived),
            place: Some((work.record.partition.clone(), work.record.offset, work.index)),
            now_ms: work.request.timestamp.0 as f64,
            json_depth_max: work.json_depth_max,
            ..Stage::default()
        };
    }

    pub(super) fn give_back(&mut self, work: &mut Work<'_>) {
        *work.event = std::mem::take(&mut self.event);
        work.unstruct = self.unstruct.take();
        work.contexts = std::mem::take(&mut self.contexts);
        work.derived = std::mem::take(&mut self.derived);
        work.rewritten.unstruct |= self.rewritten.unstruct;
        work.rewritten.contexts |= self.rewritten.contexts;
    }

    /// As it was before the call.
    pub(super) fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Column(at, text) => {
                    let set = self.event.set(at, text.as_deref());
                    set.expect("the text of a value is read back");
                }
                Undo::Unstruct(unstruct) => self.unstruct = unstruct,
                Undo::Contexts(contexts) => self.contexts = contexts,
            }
        }
        self.rewritten = Rewritten::default();
        (self.is_dropped, self.is_erased, self.draws) = (false, false, 0);
    }

    pub(super) fn get(&self, at: usize) -> Got {
        match self.event.cell(at) {
            Cell::Null => Got::Null,
            Cell::Text(text) | Cell::Json(text) => Got::Text(text.to_owned()),
            Cell::Int(number) => Got::Number(number.into()),
            Cell::Bit(bit) => Got::Number(if bit { 1.0 } else { 0.0 }),
            Cell::Number(decimal) | Cell::Money(decimal) => number_of(decimal),
            // Through its text: 0.1 stays 0.1.
            Cell::Float(number) => Got::Number(number.to_string().parse().unwrap_or(f64::NAN)),
            Cell::Time(at) => Got::Text(at.to_tsv()),
        }
    }

    /// Sets a column.
    ///
    /// # Errors
    /// When the value is not one of the column's type; the script is told so.
    pub(super) fn set(&mut self, at: usize, given: Given) -> Result<(), String> {
        let name = COLUMNS[at].name;
        let kind = COLUMNS[at].kind;
        let text = text_of(kind, given).map_err(|what| format!("{name} takes {what}"))?;
        let old = match self.event.cell(at) {
            Cell::Null => None,
            cell => Some(super::super::inputs::cell_text(cell)),
        };
        // An empty text is a null, as in the TSV.
        let set = self.event.set(at, text.as_deref().filter(|text| !text.is_empty()));
        set.map_err(|error| error.to_string())?;
        self.undo.push(Undo::Column(at, old));
        Ok(())
    }

    /// The text of a JSON with its envelope; none when there is nothing in it.
    pub(super) fn json(&self, json: Json) -> Option<String> {
        match json {
            Json::Unstruct => {
                let event = self.unstruct.as_ref()?;
                Some(entity::envelope(UNSTRUCT_EVENT, |text| event.print(text)))
            }
            Json::Contexts if self.contexts.is_empty() => None,
            Json::Contexts => Some(entity::list(CONTEXTS, &self.contexts)),
            Json::Derived if self.derived.is_empty() => None,
            Json::Derived => Some(entity::list(CONTEXTS, self.derived.iter().rev())),
        }
    }

    /// Replaces a JSON of the tracker. It is validated after all steps.
    ///
    /// # Errors
    /// When it is not an envelope with what belongs inside; the script is told so.
    pub(super) fn put(&mut self, json: Json, text: Option<&str>) -> Result<(), String> {
        match json {
            Json::Unstruct => {
                let new = text.map(|text| self.unstruct_of(text)).transpose()?;
                self.undo.push(Undo::Unstruct(std::mem::replace(&mut self.unstruct, new)));
                self.rewritten.unstruct = true;
            }
            Json::Contexts => {
                let new = text.map(|text| self.contexts_of(text)).transpose()?.unwrap_or_default();
                self.undo.push(Undo::Contexts(std::mem::replace(&mut self.contexts, new)));
                self.rewritten.contexts = true;
            }
            Json::Derived => {}
        }
        Ok(())
    }

    fn unstruct_of(&self, text: &str) -> Result<Entity, String> {
        described(self.inside(text, &ANY_UNSTRUCT_EVENT)?)
    }

    fn contexts_of(&self, text: &str) -> Result<Vec<Entity>, String> {
        match self.inside(text, &ANY_CONTEXTS)? {
            Value::Array(items) => items.into_iter().map(described).collect(),
            _ => Err("the data of contexts is no array".to_owned()),
        }
    }

    /// What an envelope of this kind holds.
    fn inside(&self, text: &str, criterion: &Criterion) -> Result<Value, String> {
        let envelope = described(json::parse(text, self.json_depth_max)?)?;
        match check_criterion(&envelope.schema, criterion) {
            Ok(()) => Ok(envelope.into_data()),
            Err(_) => Err(format!("{} is not {criterion}", envelope.schema)),
        }
    }

    /// The collector's time, in milliseconds.
    pub(super) fn now_ms(&self) -> f64 {
        self.now_ms
    }

    /// The next number of a sequence that follows from the event's position; from 0, below 1.
    pub(super) fn random(&mut self) -> f64 {
        if self.draws == 0
            && let Some((partition, offset, index)) = &self.place
        {
            let of_place = Sha256::digest(format!("{partition}\n{offset}\n{index}").as_bytes());
            let mut seed = [0; 8];
            seed.copy_from_slice(&of_place[..8]);
            self.seed = u64::from_be_bytes(seed);
        }
        // SplitMix64: each step adds an odd constant, and the bits are mixed twice.
        self.draws += 1;
        let mut bits = self.seed.wrapping_add(self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        const BITS_OF_A_DOUBLE: u32 = 53;
        (bits >> (64 - BITS_OF_A_DOUBLE)) as f64 / (1u64 << BITS_OF_A_DOUBLE) as f64
    }
}

/// Takes a self-describing JSON apart.
pub(super) fn described(value: Value) -> Result<Entity, String> {
    self_describing(value)
        .map(Entity::from)
        .map_err(|_| "not self-describing: it needs `schema` and `data`".to_owned())
}

fn number_of(decimal: &Decimal) -> Got {
    Got::Number(decimal.as_str().parse().unwrap_or(f64::NAN))
}

/// The TSV form of what a script gives to a column; the error says what the column takes.
fn text_of(kind: Kind, given: Given) -> Result<Option<String>, String> {
    let text = match (kind, given) {
        (_, Given::Null) => return Ok(None),
        (Kind::Json, _) => return Err("no text: it holds entities".to_owned()),
        (Kind::Bit, Given::Bool(bit)) => u8::from(bit).to_string(),
        (Kind::Bit, Given::Number(number)) if number == 0.0 || number == 1.0 => number.to_string(),
        (Kind::Bit, Given::Text(text)) if text == "0" || text == "1" => text,
        (Kind::Bit, _) => return Err("0 or 1".to_owned()),
        (Kind::Int, Given::Number(number)) if f64::from(number as i32) == number => {
            (number as i32).to_string()
        }
        (Kind::Int, Given::Text(text)) if text.parse::<i32>().is_ok() => text,
        (Kind::Int, _) => return Err("a whole number of 32 bits".to_owned()),
        (Kind::Number | Kind::Money, Given::Number(number)) if number.is_finite() => {
            number.to_string()
        }
        (Kind::Number | Kind::Money, Given::Text(text)) if Decimal::parse(&text).is_ok() => text,
        (Kind::Number | Kind::Money, _) => return Err("a number".to_owned()),
        (Kind::Float, Given::Number(number)) if (number as f32).is_finite() => {
            (number as f32).to_string()
        }
        (Kind::Float, Given::Text(text)) if text.parse::<f32>().is_ok_and(f32::is_finite) => text,
        (Kind::Float, _) => return Err("a number".to_owned()),
        (Kind::Time, Given::Text(text)) if Timestamp::from_tsv(&text).is_some() => text,
        (Kind::Time, _) => return Err("a text like `2026-11-22 10:00:00.123`".to_owned()),
        (Kind::Text(_), Given::Text(text)) => text,
        (Kind::Text(_), Given::Bool(bit)) => bit.to_string(),
        (Kind::Text(_), Given::Number(number)) => number.to_string(),
    };
    Ok(Some(text))
}
