//! A collector payload that passed the loader, and the parameters of one event.
//!
//! Made by `loader`, read by the adapters and the phases. The conversions to the objects of bad rows are here, so that
//! both kinds of bad row show the same request.

use model::bad_row::{RawEventView, RequestView};
use model::time::Timestamp;

use crate::charset::Charset;
use crate::querystring::Pair;

/// One HTTP request, checked.
#[derive(Clone, Debug)]
pub struct Request {
    pub vendor: String,
    pub version: String,
    /// In the order of arrival, duplicates kept.
    pub querystring: Vec<Pair>,
    pub content_type: Option<String>,
    pub body: Option<String>,
    pub collector: String,
    /// The charset as the record names it.
    pub encoding: String,
    pub charset: Charset,
    pub hostname: Option<String>,
    pub timestamp: Timestamp,
    /// From the forwarding headers, or else from the collector.
    pub ip_address: String,
    pub user_agent: Option<String>,
    pub referer_uri: Option<String>,
    pub headers: Vec<String>,
    /// In canonical form.
    pub network_userid: Option<String>,
}

/// The parameters of one event: sorted by name, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Pair>);

impl Parameters {
    /// The map of a list of pairs: of equal names the last one stays.
    pub fn of_pairs(mut pairs: Vec<Pair>) -> Parameters {
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Of neighbours with one name, `dedup_by` keeps the first: hand it the value of the last.
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1.take();
            }
            same
        });
        Parameters(pairs)
    }

    /// `None` if there is no such parameter, `Some(None)` if it has no value.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(self.0[at].1.as_deref())
    }

    /// The parameter's value, if it has one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    pub fn set(&mut self, name: &str, value: impl Into<Option<String>>) {
        let value = value.into();
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Request {
    /// The map of the query string.
    pub fn parameters(&self) -> Parameters {
        Parameters::of_pairs(self.querystring.clone())
    }

    /// As bad rows of the adapters show it.
    pub fn view(&self) -> RequestView {
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
    pub fn event_view(&self, parameters: Parameters) -> RawEventView {
        RawEventView {
            vendor: self.vendor.clone(),
            version: self.version.clone(),
            parameters: parameters.0,
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
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [("a", None), ("b", Some("2"))]);
        assert_eq!((parameters.get("a"), parameters.get("c")), (Some(None), None));
    }
}
