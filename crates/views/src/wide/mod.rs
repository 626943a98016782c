//! Wide columns: one typed column for each family of schemas beside the 131 of an event, as warehouses show
//! self-describing events and entities. `unstruct_event_com_acme_cart_1` is a struct, `contexts_com_acme_user_1` a list
//! of structs.
//!
//! The columns follow from what was seen ([`Inventory`]), and their values from the three JSON columns of a row, which
//! both layers have in the same form: so a value does not depend on the side of the cut, and a column that changes with
//! a new version of a schema needs no file to be written again. Which schemas there are is noted by the layers; what they
//! say ([`Shape`]) they ask the recipe. Decision 22.
//!
//! In the order of reading:
//! - [`shape`]: what one schema says.
//! - `inventory`: which schemas were seen.
//! - `form`: the shapes of a family, merged.
//! - `columns`: the columns that follow, with names, types and bounds.
//! - `read`: their values, with `scalar` for those of each leaf.

mod columns;
mod form;
mod inventory;
mod json;
mod read;
mod scalar;
pub mod shape;

pub use columns::{COLUMNS_MAX, Column, Columns};
pub use inventory::{Inventory, Mentions, Schemas, Seen, Since, Union};
pub use read::{Sources, of_batch, pieces, read};
pub use shape::Shape;
