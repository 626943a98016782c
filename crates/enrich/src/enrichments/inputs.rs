//! Values that configurations pick out of an event: a column (`pojo`), or what a path finds in a self-describing JSON
//! (`json`). Used by pseudonymisation, SQL look-ups and API look-ups.
//!
//! A configuration that names a column or a path that cannot be is refused when it is read, where Snowplow fails every
//! event. Snowplow: `enrichments.md` 1.7, 20 and 21.

use model::event::{COLUMNS, Cell, Kind};
use model::iglu::Criterion;
use serde::Deserialize;
use serde_json::Value;

use super::Work;
use crate::entity::Entity;
use crate::json_path::JsonPath;

/// As configurations write it; exactly one of the two is there.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Written {
    pub(super) pojo: Option<WrittenColumn>,
    pub(super) json: Option<WrittenJson>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct WrittenColumn {
    pub(super) field: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenJson {
    pub(super) field: Field,
    pub(super) schema_criterion: String,
    pub(super) json_path: String,
}

/// Which JSON of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Field {
    UnstructEvent,
    Contexts,
    DerivedContexts,
}

/// Where a value stands.
#[derive(Debug)]
pub(super) enum Source {
    /// A place in [`COLUMNS`].
    Column(usize),
    Json(Locator),
}

/// Entities by their schema, and a path inside of their data.
#[derive(Debug)]
pub(super) struct Locator {
    pub(super) field: Field,
    pub(super) criterion: Criterion,
    pub(super) path: JsonPath,
}

/// What a source gives.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    Cell(Cell<'a>),
    /// All that the path finds in the first entity of the schema.
    Values(Vec<&'a Value>),
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::UnstructEvent => "unstruct_event",
            Field::Contexts => "contexts",
            Field::DerivedContexts => "derived_contexts",
        }
    }

    /// What the event has there, as the column would show it: of derived entities the newest first.
    fn entities<'w>(self, work: &'w Work<'_>) -> Box<dyn Iterator<Item = &'w Entity> + 'w> {
        match self {
            Field::UnstructEvent => Box::new(work.unstruct.iter()),
            Field::Contexts => Box::new(work.contexts.iter()),
            Field::DerivedContexts => Box::new(work.derived.iter().rev()),
        }
    }
}

impl Written {
    /// # Errors
    /// What cannot be meant, and what to write instead.
    pub(super) fn source(&self) -> Result<Source, String> {
        match (&self.pojo, &self.json) {
            (Some(column), None) => {
                let name = column.field.as_str();
                let at = COLUMNS.iter().position(|known| known.name == name);
                let at = at.ok_or_else(|| format!("an event has no column `{name}`"))?;
                if COLUMNS[at].kind == Kind::Json {
                    return Err(format!("`{name}` holds entities: use `json` with a path"));
                }
                Ok(Source::Column(at))
            }
            (None, Some(json)) => json.locator().map(Source::Json),
            _ => Err("an input needs `pojo` or `json`, and not both".to_owned()),
        }
    }
}

impl WrittenJson {
    pub(super) fn locator(&self) -> Result<Locator, String> {
        let criterion = Criterion::parse(&self.schema_criterion).map_err(|error| {
            format!("schemaCriterion `{}` is none: {error}", self.schema_criterion)
        })?;
        let path = self.json_path.parse::<JsonPath>().map_err(|error| error.to_string())?;
        Ok(Locator { field: self.field, criterion, path })
    }
}

impl Source {
    /// The value in an event; `None` for a null column, and where no entity has the schema.
    pub(super) fn find<'w>(&self, work: &'w Work<'_>) -> Option<Found<'w>> {
        match self {
            Source::Column(at) => match work.event.cell(*at) {
                Cell::Null => None,
                cell => Some(Found::Cell(cell)),
            },
            Source::Json(locator) => {
                let mut entities = locator.field.entities(work);
                let first = entities.find(|entity| locator.criterion.matches(&entity.schema))?;
                Some(Found::Values(locator.path.select(first.data())))
            }
        }
    }
}

/// A cell as text, as the TSV has it.
pub(super) fn cell_text(cell: Cell<'_>) -> String {
    let mut text = String::new();
    cell.print(&mut text);
    text
}
