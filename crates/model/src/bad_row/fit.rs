//! Texts cut to the lengths that the published schemas of bad rows allow.
//!
//! Snowplow's own rows are not cut, and do not obey their schemas where a tracker sends more than 512 characters in a
//! parameter. Ours obey, unless a recipe asks for whole rows; the raw record has what is cut in any case.

use super::{
    BadRow, EnrichmentError, EnrichmentMessage, FailureMessage, FormatMessage, IgluError,
    RawEventView, RequestView,
};
use crate::time::Timestamp;

const FIELD: usize = 64;
const EXPECTATION: usize = 256;
const ERROR: usize = 512;
const VENDOR: usize = 64;
const VERSION: usize = 16;
const PARAMETER: usize = 512;
const CONTENT_TYPE: usize = 256;
const NAME: usize = 32;
const ADDRESS: usize = 128;
const USER_AGENT: usize = 4096;
const LONG: usize = 8192;

impl BadRow {
    /// Cuts what is longer than the row's schema allows, and takes out a collector time that no date can show.
    pub fn fit(&mut self) {
        match self {
            BadRow::CollectorPayloadFormatViolation { message, .. } => match message {
                FormatMessage::InputData { payload_field, expectation, .. } => {
                    cut(payload_field, FIELD);
                    cut(expectation, EXPECTATION);
                }
                FormatMessage::Fallback { error } => cut(error, ERROR),
            },
            BadRow::AdapterFailures { vendor, version, messages, payload }
            | BadRow::TrackerProtocolViolations { vendor, version, messages, payload } => {
                cut(vendor, VENDOR);
                cut(version, VERSION);
                messages.iter_mut().for_each(FailureMessage::fit);
                payload.fit();
            }
            BadRow::SchemaViolations { messages, payload } => {
                messages.iter_mut().for_each(FailureMessage::fit);
                payload.raw.fit();
            }
            BadRow::EnrichmentFailures { messages, payload } => {
                messages.iter_mut().for_each(EnrichmentMessage::fit);
                payload.raw.fit();
            }
            BadRow::SizeViolation { expectation, .. } => cut(expectation, EXPECTATION),
            BadRow::GenericError { .. } | BadRow::Forwarded { .. } => {}
        }
    }
}

impl FailureMessage {
    fn fit(&mut self) {
        match self {
            FailureMessage::InputData { field, expectation, .. } => {
                cut(field, FIELD);
                cut(expectation, EXPECTATION);
            }
            FailureMessage::NotJson { field, .. } => cut(field, FIELD),
            FailureMessage::Iglu { error, .. } => error.fit(),
            FailureMessage::NotIglu { .. } | FailureMessage::CriterionMismatch { .. } => {}
        }
    }
}

impl EnrichmentMessage {
    fn fit(&mut self) {
        match &mut self.message {
            EnrichmentError::InputData { field, expectation, .. } => {
                cut(field, FIELD);
                cut(expectation, EXPECTATION);
            }
            EnrichmentError::Simple { error } => cut(error, ERROR),
            EnrichmentError::Iglu { error, .. } => error.fit(),
        }
    }
}

impl IgluError {
    fn fit(&mut self) {
        let IgluError::Resolution { lookup_history } = self else { return };
        let errors = lookup_history.iter_mut().flat_map(|lookup| &mut lookup.errors);
        errors.filter_map(|error| error.message.as_mut()).for_each(|text| cut(text, EXPECTATION));
    }
}

impl RequestView {
    fn fit(&mut self) {
        cut(&mut self.vendor, VENDOR);
        cut(&mut self.version, VERSION);
        pairs(&mut self.querystring);
        cut_some(&mut self.content_type, CONTENT_TYPE);
        cut(&mut self.collector, NAME);
        cut(&mut self.encoding, NAME);
        cut_some(&mut self.hostname, LONG);
        dated(&mut self.timestamp);
        cut_some(&mut self.ip_address, ADDRESS);
        cut_some(&mut self.useragent, USER_AGENT);
        cut_some(&mut self.referer_uri, LONG);
        self.headers.iter_mut().for_each(|header| cut(header, LONG));
    }
}

impl RawEventView {
    fn fit(&mut self) {
        cut(&mut self.vendor, VENDOR);
        cut(&mut self.version, VERSION);
        pairs(&mut self.parameters);
        cut_some(&mut self.content_type, CONTENT_TYPE);
        cut(&mut self.loader_name, NAME);
        cut(&mut self.encoding, NAME);
        cut_some(&mut self.hostname, LONG);
        dated(&mut self.timestamp);
        cut_some(&mut self.ip_address, ADDRESS);
        cut_some(&mut self.useragent, USER_AGENT);
        cut_some(&mut self.referer_uri, LONG);
        self.headers.iter_mut().for_each(|header| cut(header, LONG));
    }
}

fn pairs(pairs: &mut [(String, Option<String>)]) {
    for (name, value) in pairs {
        cut(name, PARAMETER);
        cut_some(value, PARAMETER);
    }
}

fn dated(at: &mut Option<Timestamp>) {
    *at = at.filter(|at| at.has_plain_year());
}

fn cut_some(text: &mut Option<String>, characters_max: usize) {
    if let Some(text) = text {
        cut(text, characters_max);
    }
}

/// JSON Schema counts characters.
fn cut(text: &mut String, characters_max: usize) {
    if text.len() > characters_max
        && let Some((end, _)) = text.char_indices().nth(characters_max)
    {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_characters_and_what_fits_stays() {
        for (text, expected) in
            [("abcd", "abcd"), ("abcde", "abcd"), ("ääää", "ääää"), ("äääää", "ääää")]
        {
            let mut found = text.to_owned();
            cut(&mut found, 4);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_time_that_no_date_shows_is_left_out() {
        let mut view = RequestView { timestamp: Some(Timestamp(i64::MAX)), ..Default::default() };
        view.fit();
        assert_eq!(view.timestamp, None);
        view.timestamp = Some(Timestamp(0));
        view.fit();
        assert_eq!(view.timestamp, Some(Timestamp(0)));
    }
}
