//! The page's URL and its parts. Snowplow: `enrich-core.md` 3.2, step 2, and 3.8.
//!
//! A tracker that sends no `url` is taken to stand on the page that the request came from.

use model::bad_row::EnrichmentError;

use super::Work;
use crate::convert::tsv_safe;
use crate::uri::Uri;

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    let event = &mut work.event;
    if event.page_url.is_none() {
        event.page_url = work.request.referer_uri.as_deref().and_then(tsv_safe);
    }
    let Some(text) = &event.page_url else { return Ok(()) };
    let uri = Uri::parse(text).map_err(|error| EnrichmentError::Simple { error })?;
    event.page_urlscheme = uri.scheme().and_then(tsv_safe);
    event.page_urlhost = uri.host().and_then(tsv_safe);
    event.page_urlport = Some(uri.port());
    event.page_urlpath = uri.path().and_then(tsv_safe);
    event.page_urlquery = uri.query().and_then(tsv_safe);
    event.page_urlfragment = uri.fragment().and_then(tsv_safe);
    if event.page_url.as_deref() != Some(uri.printed()) {
        event.page_url = Some(uri.printed().to_owned());
    }
    work.page_uri = Some(uri);
    Ok(())
}
