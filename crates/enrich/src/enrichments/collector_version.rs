//! Every event must name its collector; a parameter may have erased it. Snowplow: `enrich-core.md` 3.2, step 1.

use model::bad_row::EnrichmentError;

use super::{Work, input_data};

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    match &work.event.v_collector {
        Some(_) => Ok(()),
        None => Err(input_data("v_collector", None, "should be set")),
    }
}
