//! Vendor, name, format and version of the event. Snowplow: `enrich-core.md` 3.6.

use model::bad_row::EnrichmentError;

use super::{Work, input_data};
use crate::entity::Entity;
use crate::path::SNOWPLOW;

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    let event = &mut work.event;
    let (vendor, name, format, version) = match event.event.as_deref() {
        Some(name @ ("page_view" | "page_ping" | "transaction" | "transaction_item")) => {
            (SNOWPLOW.to_owned(), name.to_owned(), "jsonschema".to_owned(), "1-0-0".to_owned())
        }
        Some("struct") => (
            "com.google.analytics".to_owned(),
            "event".to_owned(),
            "jsonschema".to_owned(),
            "1-0-0".to_owned(),
        ),
        Some("unstruct") => {
            // Without a self-describing event all four stay null, and that is no failure.
            let Some(Entity { schema: key, .. }) = &work.unstruct else { return Ok(()) };
            (
                key.vendor().to_owned(),
                key.name().to_owned(),
                key.format().to_owned(),
                key.version().to_string(),
            )
        }
        other => return Err(input_data("event", other, "not recognized as an event type")),
    };
    event.event_vendor = Some(vendor);
    event.event_name = Some(name);
    event.event_format = Some(format);
    event.event_version = Some(version);
    Ok(())
}
