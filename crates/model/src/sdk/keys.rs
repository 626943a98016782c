//! The keys of the flat form: how a schema is named where its data is a column. Snowplow: `analytics-sdk.md` 3.

use crate::iglu::SchemaKey;

/// Where an event holds self-describing data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    UnstructEvent,
    Contexts,
    DerivedContexts,
}

/// The key of a schema's family: `contexts_com_acme_cart_item_1`. Revision, addition and format have no part in it, and
/// schemas whose names differ by `-`, `.` and `_` alone share one.
pub fn key(place: Place, schema: &SchemaKey) -> String {
    let prefix = match place {
        Place::UnstructEvent => "unstruct_event",
        Place::Contexts | Place::DerivedContexts => "contexts",
    };
    let vendor = schema.vendor().replace(['.', '-'], "_").to_ascii_lowercase();
    format!("{prefix}_{vendor}_{}_{}", snake(schema.name()), schema.model())
}

/// `cartV2Item` becomes `cart_v2_item`: a capital begins a word unless one stands before it.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for character in name.chars().map(|it| if matches!(it, '.' | '-') { '_' } else { it }) {
        if character.is_ascii_uppercase() && !before.is_ascii_uppercase() && before != '_' {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
        before = character;
    }
    snake
}
