//! A collector payload that passed the loader, and the parameters of one event.
//!
//! Made by `loader`, read by the adapters and the phases. The conversions to the objects of bad rows are here, so that
//! both kinds of bad row show the same request.

use std::sync::Arc;

use model::bad_row::{RawEventView, RequestView};
use model::time::Timestamp;

use crate::charset::Charset;
use crate::querystring::Pair;

/// One HTTP request, checked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) vendor: String,
    pub(crate) version: String,
    /// In the order of arrival, duplicates kept.
    pub(crate) querystring: Vec<Pair>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) collector: String,
    /// The charset as the record names it.
    pub(crate) encoding: String,
    pub(crate) charset: Charset,
    pub(crate) hostname: Option<String>,
    pub(crate) timestamp: Timestamp,
    /// From the forwarding headers, or else from the collector.
    pub(crate) ip_address: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) referer_uri: Option<String>,
    pub(crate) headers: Vec<String>,
    /// In canonical form.
    pub(crate) network_userid: Option<String>,
}

/// The parameters of one event: a map, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Each name once.
    own: Vec<Pair>,
    /// What wins over them. Shared, since one long query string may stand over ten thousand events.
    over: Option<Arc<Parameters>>,
}

impl Parameters {
    /// The map of a list of pairs: of equal names the last one stays.
    pub(crate) fn of_pairs(mut pairs: Vec<Pair>) -> Parameters {
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Of neighbours with one name, `dedup_by` keeps the first: hand it the value of the last.
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1.take();
            }
            same
        });
        Parameters { own: pairs, over: None }
    }

    /// The same with others that win. Nothing may be set or removed afterwards.
    pub(crate) fn below(self, over: &Arc<Parameters>) -> Parameters {
        Parameters { over: (!over.is_empty()).then(|| Arc::clone(over)), ..self }
    }

    /// `None` if there is no such parameter, `Some(None)` if it has no value.
    pub(crate) fn get(&self, name: &str) -> Option<Option<&str>> {
        if let Some(found) = self.over.as_ref().and_then(|over| over.get(name)) {
            return Some(found);
        }
        self.place(name).ok().map(|at| self.own[at].1.as_deref())
    }

    /// Its lists, each sorted by name and with each name once. What a later one says of a name wins.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &[Pair]> {
        [Some(&*self.own), self.over.as_ref().map(|over| &*over.own)].into_iter().flatten()
    }

    /// The parameter's value, if it has one.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.place(name) {
            Ok(at) => self.own[at].1 = Some(value),
            Err(at) => self.own.insert(at, (name.to_owned(), Some(value))),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.place(name) {
            self.own.remove(at);
        }
    }

    /// The parameters that have a value, in the order of their names.
    pub(crate) fn values(&self) -> Vec<(&str, &str)> {
        let over = self.over.as_ref().map_or(&[][..], |over| &over.own);
        let own = self.own.iter().filter(|(name, _)| {
            over.binary_search_by(|(known, _)| known.as_str().cmp(name)).is_err()
        });
        let mut values: Vec<(&str, &str)> = own
            .chain(over)
            .filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
            .collect();
        if !over.is_empty() {
            values.sort_unstable();
        }
        values
    }

    /// All pairs in the order of their names.
    pub(crate) fn into_pairs(self) -> Vec<Pair> {
        let Some(over) = self.over else { return self.own };
        let mut pairs = self.own;
        pairs.extend_from_slice(&over.own);
        Parameters::of_pairs(pairs).own
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.over.is_none()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.own.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl Request {
    /// The map of the query string.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters::of_pairs(self.querystring.clone())
    }

    /// As bad rows of the adapters show it.
    pub(crate) fn view(&self) -> RequestView {
        RequestView {
            vendor: self.vendor.clone(),
            version: self.version.clone(),
            querystring: self.querystring.clone(),
            content_type: self.content_type.clone(),
            body: self.body.clone(),
            collector: self.collector.clone(),
            encoding: self.encoding.clone(),
            hostname: self.hostname.clone(),
            timestamp: Some(self.timestamp),
            ip_address: Some(self.ip_address.clone()),
            useragent: self.user_agent.clone(),
            referer_uri: self.referer_uri.clone(),
            headers: self.headers.clone(),
            network_userid: self.network_userid.clone(),
        }
    }

    /// As bad rows of one event show it, beside the event.
    pub(crate) fn event_view(&self, parameters: Parameters) -> RawEventView {
        RawEventView {
            vendor: self.vendor.clone(),
            version: self.version.clone(),
            parameters: parameters.into_pairs(),
            content_type: self.content_type.clone(),
            loader_name: self.collector.clone(),
            encoding: self.encoding.clone(),
            hostname: self.hostname.clone(),
            timestamp: Some(self.timestamp),
            ip_address: Some(self.ip_address.clone()),
            useragent: self.user_agent.clone(),
            referer_uri: self.referer_uri.clone(),
            headers: self.headers.clone(),
            userid: self.network_userid.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> Pair {
        (name.to_owned(), Some(value.to_owned()))
    }

    #[test]
    fn the_last_of_three_duplicates_wins_even_without_a_value() {
        let parameters = Parameters::of_pairs(vec![
            pair("b", "1"),
            pair("a", "1"),
            pair("a", "2"),
            pair("b", "2"),
            ("a".to_owned(), None),
        ]);
        assert_eq!((parameters.get("a"), parameters.get("c")), (Some(None), None));
        assert_eq!(parameters.into_pairs(), [("a".to_owned(), None), pair("b", "2")]);
    }

    #[test]
    fn what_stands_over_an_event_wins_even_without_a_value() {
        let over = Arc::new(Parameters::of_pairs(vec![pair("b", "over"), ("c".to_owned(), None)]));
        let own = Parameters::of_pairs(vec![pair("a", "own"), pair("b", "own"), pair("c", "own")]);
        let both = own.below(&over);
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| both.value(name)),
            [Some("own"), Some("over"), None, None]
        );
        assert_eq!(
            both.into_pairs(),
            [pair("a", "own"), pair("b", "over"), ("c".to_owned(), None)]
        );
    }
}
