//! Stored recipes: what is read is stored again as a text of the same digest. `@function` and `@embedded` stand for this
//! binary's own, without which nothing else is looked at.

use enrich::Recipe;
use enrich::iglu::Schemas;

pub(crate) fn recipe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes)
        .replace("@function", enrich::VERSION)
        .replace("@embedded", Schemas::embedded_digest());
    let Ok(recipe) = Recipe::from_json(&text) else { return };
    let again = Recipe::from_json(&recipe.to_json()).expect("a recipe reads back");
    assert_eq!(again.digest(), recipe.digest());
    assert_eq!(again.to_json(), recipe.to_json());
}
