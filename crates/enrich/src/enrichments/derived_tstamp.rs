//! When the event happened, by the collector's clock. Snowplow: `enrich-core.md` 3.7.

use model::bad_row::EnrichmentError;
use model::time::Timestamp;

use super::Work;

pub(super) fn run(work: &mut Work<'_>) -> Result<(), EnrichmentError> {
    let event = &mut work.event;
    let derived = derive(
        event.dvce_created_tstamp,
        event.dvce_sent_tstamp,
        event.collector_tstamp,
        event.true_tstamp,
    );
    // Two device times can lie ten thousand years apart.
    if let Some(at) = derived
        && !at.has_plain_year()
    {
        let error =
            format!("Exception calculating derived timestamp: {} is out of range", at.to_tsv());
        return Err(EnrichmentError::Simple { error });
    }
    event.derived_tstamp = derived;
    Ok(())
}

/// The true time if it is told; else the collector's, put back by what passed on the device between making and sending
/// the event, in exact milliseconds.
pub(crate) fn derive(
    created: Option<Timestamp>,
    sent: Option<Timestamp>,
    collector: Option<Timestamp>,
    told: Option<Timestamp>,
) -> Option<Timestamp> {
    match (told, created, sent, collector) {
        (Some(told), ..) => Some(told),
        (None, Some(created), Some(sent), Some(collector)) if created < sent => {
            Some(Timestamp(collector.0 - (sent.0 - created.0)))
        }
        (None, _, _, collector) => collector,
    }
}
