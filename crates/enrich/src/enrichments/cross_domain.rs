//! The `_sp` parameter that a tracker adds to links between domains. Snowplow: `enrich-core.md` 3.9.
//!
//! Sets the two columns, which needs no configuration; the entity of the configured enrichment is made by
//! `cross_navigation`, which calls this first.

use model::bad_row::EnrichmentError;
use model::time::Timestamp;

use super::{Work, input_data};
use crate::{base64_lenient, convert};

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    set_columns(work).map(|_link| ())
}

/// Sets both columns, and gives the whole link if there is one.
pub(super) fn set_columns(work: &mut Work<'_>) -> Result<Option<Link>, EnrichmentError> {
    let Some(query) = work.page_uri.as_ref().and_then(|uri| uri.query()) else { return Ok(None) };
    // Most pages have no such parameter: do not decode their query for nothing.
    if !query.contains("_sp") && !query.contains('%') {
        return Ok(None);
    }
    let last = work.page_query().iter().rev().find(|(name, _)| name == "_sp");
    let value = last.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
    let Some(link) = split(value)? else { return Ok(None) };
    work.event.refr_domain_userid.clone_from(&link.domain_userid);
    work.event.refr_dvce_tstamp = link.timestamp;
    Ok(Some(link))
}

/// What a link says of the visit that it comes from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) domain_userid: Option<String>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) session_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) source_id: Option<String>,
    pub(crate) source_platform: Option<String>,
    pub(crate) reason: Option<String>,
}

/// Takes the value apart; `None` when there is nothing in it or more than seven parts.
pub(crate) fn split(value: &str) -> Result<Option<Link>, EnrichmentError> {
    const PARTS: usize = 7;
    if value.is_empty() || value.split('.').count() > PARTS {
        return Ok(None);
    }
    let mut parts = value.split('.');
    let mut part = || parts.next().unwrap_or_default();
    let not_blank = |text: String| (!text.trim().is_empty()).then_some(text);
    let plain = |text: &str| not_blank(text.to_owned());
    let encoded = |text: &str| not_blank(base64_lenient::decode(text));
    Ok(Some(Link {
        domain_userid: convert::tsv_safe(part()),
        timestamp: match part() {
            "" => None,
            text => convert::epoch_ms(text)
                .map_err(|message| input_data("sp_dtm", Some(text), message))?,
        },
        session_id: plain(part()),
        user_id: encoded(part()),
        source_id: encoded(part()),
        source_platform: plain(part()),
        reason: encoded(part()),
    }))
}
