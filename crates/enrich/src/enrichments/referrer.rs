//! The parts of the referrer's URL. Snowplow: `enrich-core.md` 3.2, step 8.
//!
//! The text in `page_referrer` stays as it was sent. Who the referrer is, is told by `referer_parser`.

use model::bad_row::EnrichmentError;

use super::Work;
use crate::convert::tsv_safe;
use crate::uri::Uri;

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    let event = &mut work.event;
    let Some(text) = &event.page_referrer else { return Ok(()) };
    let uri = Uri::parse(text).map_err(|error| EnrichmentError::Simple { error })?;
    event.refr_urlscheme = uri.scheme().and_then(tsv_safe);
    event.refr_urlhost = uri.host().and_then(tsv_safe);
    event.refr_urlport = Some(uri.port());
    event.refr_urlpath = uri.path().and_then(tsv_safe);
    event.refr_urlquery = uri.query().and_then(tsv_safe);
    event.refr_urlfragment = uri.fragment().and_then(tsv_safe);
    work.referrer_uri = Some(uri);
    Ok(())
}
