//! A collector payload that passed the loader, and the parameters of one event.
//!
//! Made by `loader`, read by the adapters and the phases. The conversions to the objects of bad rows are here, so that
//! both kinds of bad row show the same request.

use std::borrow::Cow;
use std::sync::Arc;

use model::bad_row::{RawEventView, RequestView};
use model::time::Timestamp;

use crate::charset::Charset;
use crate::querystring::{self, OwnedPair, Pair};

/// One HTTP request, checked. Texts are borrowed from the raw record where they stand in it as they are meant.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) vendor: Cow<'a, str>,
    pub(crate) version: Cow<'a, str>,
    /// In the order of arrival, duplicates kept.
    pub(crate) querystring: Vec<Pair<'a>>,
    pub(crate) content_type: Option<Cow<'a, str>>,
    pub(crate) body: Option<Cow<'a, str>>,
    pub(crate) collector: Cow<'a, str>,
    /// The charset as the record names it.
    pub(crate) encoding: Cow<'a, str>,
    pub(crate) charset: Charset,
    pub(crate) hostname: Option<Cow<'a, str>>,
    pub(crate) timestamp: Timestamp,
    /// From the forwarding headers, or else from the collector.
    pub(crate) ip_address: String,
    pub(crate) user_agent: Option<Cow<'a, str>>,
    pub(crate) referer_uri: Option<Cow<'a, str>>,
    pub(crate) headers: Vec<Cow<'a, str>>,
    /// In canonical form.
    pub(crate) network_userid: Option<String>,
}

/// The parameters of one event, by name. They are few, and most are asked for only once, so they stay in the order in
/// which they came; whoever needs them sorted sorts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters<'a> {
    /// Of equal names the last one counts.
    own: Vec<Pair<'a>>,
    over: Option<Arc<Over<'a>>>,
}

/// Parameters that win over those of many events: sorted, each name once, and shared, since one long query string may
/// stand over ten thousand events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over<'a>(Vec<Pair<'a>>);

impl<'a> Over<'a> {
    pub(crate) fn pairs(&self) -> &[Pair<'a>] {
        &self.0
    }

    /// As [`Parameters::get`].
    pub(crate) fn get(&self, name: &str) -> Option<Option<&str>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.0[at].1.as_deref())
    }
}

impl<'a> Parameters<'a> {
    /// The map of a list of pairs: of equal names the last one counts.
    pub(crate) fn of_pairs(pairs: Vec<Pair<'a>>) -> Parameters<'a> {
        Parameters { own: pairs, over: None }
    }

    /// The same with others that win. Nothing may be set or removed afterwards.
    pub(crate) fn below(self, over: Option<&Arc<Over<'a>>>) -> Parameters<'a> {
        Parameters { over: over.map(Arc::clone), ..self }
    }

    /// Parameters of which none stands below others, to win over others; `None` if there are none.
    pub(crate) fn into_over(self) -> Option<Arc<Over<'a>>> {
        let mut pairs = self.own;
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        keep_last(&mut pairs);
        (!pairs.is_empty()).then(|| Arc::new(Over(pairs)))
    }

    /// `None` if there is no such parameter, `Some(None)` if it has no value.
    pub(crate) fn get(&self, name: &str) -> Option<Option<&str>> {
        if let Some(found) = self.over.as_ref().and_then(|over| over.get(name)) {
            return Some(found);
        }
        let last = self.own.iter().rev().find(|(known, _)| known == name);
        last.map(|(_, value)| value.as_deref())
    }

    /// The event's own pairs as they came, and what wins over them. Of equal names the last one counts.
    pub(crate) fn parts(&self) -> (&[Pair<'a>], Option<&Over<'a>>) {
        (&self.own, self.over.as_deref())
    }

    /// The parameter's value, if it has one.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.remove(name);
        self.own.push((name.into(), Some(value.into())));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.own.retain(|(known, _)| known != name);
    }

    /// The parameters that have a value, in the order of their names.
    pub(crate) fn values(&self) -> Vec<(&str, &str)> {
        let sorted = self.sorted().into_iter();
        sorted.filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// All parameters, each once, in the order of their names.
    pub(crate) fn to_pairs(&self) -> Vec<OwnedPair> {
        let sorted = self.sorted().into_iter();
        sorted.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect()
    }

    fn sorted(&self) -> Vec<(&str, Option<&str>)> {
        let over = self.over.as_ref().map_or(&[][..], |over| over.pairs());
        let pairs = self.own.iter().chain(over);
        let mut pairs: Vec<_> = pairs.map(|(name, value)| (&**name, value.as_deref())).collect();
        pairs.sort_by_key(|(name, _)| *name);
        keep_last(&mut pairs);
        pairs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.over.is_none()
    }
}

/// Of neighbours with one name the last one stays.
fn keep_last<N: PartialEq, V: Default>(pairs: &mut Vec<(N, V)>) {
    // `dedup_by` keeps the first: hand it the value of the last.
    pairs.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = std::mem::take(&mut later.1);
        }
        same
    });
}

impl Request<'_> {
    /// The map of the query string.
    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let pairs = self.querystring.iter();
        let pairs = pairs
            .map(|(name, value)| (Cow::Borrowed(&**name), value.as_deref().map(Cow::Borrowed)));
        Parameters::of_pairs(pairs.collect())
    }

    /// As bad rows of the adapters show it.
    pub(crate) fn view(&self) -> RequestView {
        RequestView {
            vendor: self.vendor.clone().into_owned(),
            version: self.version.clone().into_owned(),
            querystring: self.querystring.iter().cloned().map(querystring::owned).collect(),
            content_type: owned(&self.content_type),
            body: owned(&self.body),
            collector: self.collector.clone().into_owned(),
            encoding: self.encoding.clone().into_owned(),
            hostname: owned(&self.hostname),
            timestamp: Some(self.timestamp),
            ip_address: Some(self.ip_address.clone()),
            useragent: owned(&self.user_agent),
            referer_uri: owned(&self.referer_uri),
            headers: self.headers.iter().cloned().map(Cow::into_owned).collect(),
            network_userid: self.network_userid.clone(),
        }
    }

    /// As bad rows of one event show it, beside the event.
    pub(crate) fn event_view(&self, parameters: &Parameters<'_>) -> RawEventView {
        RawEventView {
            vendor: self.vendor.clone().into_owned(),
            version: self.version.clone().into_owned(),
            parameters: parameters.to_pairs(),
            content_type: owned(&self.content_type),
            loader_name: self.collector.clone().into_owned(),
            encoding: self.encoding.clone().into_owned(),
            hostname: owned(&self.hostname),
            timestamp: Some(self.timestamp),
            ip_address: Some(self.ip_address.clone()),
            useragent: owned(&self.user_agent),
            referer_uri: owned(&self.referer_uri),
            headers: self.headers.iter().cloned().map(Cow::into_owned).collect(),
            userid: self.network_userid.clone(),
        }
    }
}

fn owned(text: &Option<Cow<'_, str>>) -> Option<String> {
    text.as_deref().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair<'a>(name: &'a str, value: &'a str) -> Pair<'a> {
        (name.into(), Some(value.into()))
    }

    fn pairs<const N: usize>(expect: [(&str, Option<&str>); N]) -> Vec<OwnedPair> {
        expect.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).into()
    }

    #[test]
    fn the_last_of_three_duplicates_wins_even_without_a_value() {
        let parameters = Parameters::of_pairs(vec![
            pair("b", "1"),
            pair("a", "1"),
            pair("a", "2"),
            pair("b", "2"),
            ("a".into(), None),
        ]);
        assert_eq!((parameters.get("a"), parameters.get("c")), (Some(None), None));
        assert_eq!(parameters.to_pairs(), pairs([("a", None), ("b", Some("2"))]));
    }

    #[test]
    fn what_stands_over_an_event_wins_even_without_a_value() {
        let over = vec![pair("b", "under"), ("c".into(), None), pair("b", "over")];
        let over = Parameters::of_pairs(over).into_over();
        let own = Parameters::of_pairs(vec![pair("a", "own"), pair("b", "own"), pair("c", "own")]);
        let both = own.below(over.as_ref());
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| both.value(name)),
            [Some("own"), Some("over"), None, None]
        );
        assert_eq!(both.to_pairs(), pairs([("a", Some("own")), ("b", Some("over")), ("c", None)]));
    }
}
