//! Files on the network that enrichments read: fetched before the first event, and looked at again from time to time.
//!
//! A file that has changed is handed out from then on, and so becomes part of the next recipe that is proposed. One that
//! cannot be had again stays as it is, and is told of. Snowplow: `enrichments.md` 1.5.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enrich::enrichments::Asset;

use crate::fetch::{Failure, Fetch, Fetched};

/// How long a file may take. A city database has a hundred megabytes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// A file that could not be had again is asked for again after this time, or after the period if that is shorter.
const RETRY: Duration = Duration::from_secs(3600);

/// How often a file is asked for before the first event, and how long it is waited in between: the first time this long,
/// then twice as long each.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(1500);

/// An address as it may be shown: without the name and password before the host, and without the query, where licence
/// keys and signatures stand.
pub(crate) fn shown(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match scheme {
        "" => format!("{host}{path}"),
        scheme => format!("{scheme}://{host}{path}"),
    }
}

/// Files by address, and what became of looking at them again.
#[derive(Debug)]
pub(crate) struct RemoteFiles {
    fetch: Fetch,
    /// None: they are fetched once.
    period: Option<Duration>,
    known: BTreeMap<String, Known>,
    refreshes: Refreshes,
}

#[derive(Debug)]
struct Known {
    asset: Asset,
    etag: Option<String>,
    /// When it is to be looked at again.
    due: Instant,
    /// What it was before the last look, if that is not yet known to be of use.
    before: Option<Asset>,
    /// Why it could not be had again.
    stale: Option<String>,
}

/// What became of looking at files on the network again, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshes {
    pub unchanged: u64,
    pub changed: u64,
    pub failed: u64,
    /// Files whose last look has failed, by address, each with the reason. They stay as they were.
    pub stale: Vec<(String, String)>,
}

impl RemoteFiles {
    pub(crate) fn new(period: Option<Duration>) -> RemoteFiles {
        let (known, refreshes) = (BTreeMap::new(), Refreshes::default());
        RemoteFiles { fetch: Fetch::new(FETCH_TIMEOUT), period, known, refreshes }
    }

    pub(crate) fn refreshes(&self) -> Refreshes {
        let stale =
            |(address, known): (&String, &Known)| Some((shown(address), known.stale.clone()?));
        Refreshes { stale: self.known.iter().filter_map(stale).collect(), ..self.refreshes.clone() }
    }

    /// The file as it is, or as it was if it cannot be had again. With `looks` the server is asked if it is time.
    ///
    /// # Errors
    /// When a file that was never fetched cannot be had.
    pub(crate) fn get(&mut self, address: &str, looks: bool) -> Result<Asset, String> {
        let Some(known) = self.known.get_mut(address) else { return self.first(address) };
        let now = Instant::now();
        let Some(period) = self.period.filter(|_| looks && now >= known.due) else {
            return Ok(known.asset.clone());
        };
        known.due = now + period;
        let failure = match self.fetch.get(address, known.etag.as_deref()) {
            Ok(Fetched::Unchanged) => None,
            Ok(Fetched::Content { bytes, etag }) => {
                let asset = Asset::of(Arc::new(bytes));
                known.etag = etag;
                if asset.digest != known.asset.digest {
                    tracing::info!(
                        address = shown(address),
                        digest = asset.digest,
                        "a file that an enrichment needs has changed"
                    );
                    known.before = Some(std::mem::replace(&mut known.asset, asset));
                }
                None
            }
            Err(Failure { what, .. }) => Some(what),
        };
        match (&failure, &known.before) {
            (Some(what), _) => {
                self.refreshes.failed += 1;
                known.put_off(now, period);
                tracing::warn!(
                    address = shown(address),
                    error = what,
                    "a file that an enrichment needs stays as it was"
                );
            }
            (None, Some(_)) => self.refreshes.changed += 1,
            (None, None) => self.refreshes.unchanged += 1,
        }
        known.stale = failure;
        Ok(known.asset.clone())
    }

    fn first(&mut self, address: &str) -> Result<Asset, String> {
        tracing::info!(address = shown(address), "fetch a file that an enrichment needs");
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.fetch.get(address, None) {
                Ok(Fetched::Content { bytes, etag }) => {
                    let asset = Asset::of(Arc::new(bytes));
                    let due = Instant::now() + self.period.unwrap_or_default();
                    let known =
                        Known { asset: asset.clone(), etag, due, before: None, stale: None };
                    self.known.insert(address.to_owned(), known);
                    return Ok(asset);
                }
                Ok(Fetched::Unchanged) => break,
                Err(failure) if !failure.is_passing || attempt == ATTEMPTS => {
                    return Err(failure.what);
                }
                Err(failure) => {
                    tracing::info!(
                        address = shown(address),
                        error = failure.what,
                        "the file is asked for again"
                    );
                    std::thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        Err("the server says that it has not changed, although nothing is known of it".to_owned())
    }

    /// What was handed out last is of use.
    pub(crate) fn keep(&mut self) {
        self.known.values_mut().for_each(|known| known.before = None);
    }

    /// What has changed lately is of no use: the files before it are handed out again. False if nothing had changed.
    pub(crate) fn take_back(&mut self, why: &str) -> bool {
        let (now, mut taken) = (Instant::now(), false);
        for (address, known) in &mut self.known {
            let Some(before) = known.before.take() else { continue };
            tracing::warn!(
                address = shown(address),
                error = why,
                "a file that has changed cannot be used, and stays as it was"
            );
            (known.asset, known.etag) = (before, None);
            known.stale = Some(format!("what is there now cannot be used: {why}"));
            known.put_off(now, self.period.unwrap_or_default());
            self.refreshes.changed -= 1;
            self.refreshes.failed += 1;
            taken = true;
        }
        taken
    }

    /// Forgets files that no configuration names any more.
    pub(crate) fn retain(&mut self, is_named: impl Fn(&str) -> bool) {
        self.known.retain(|address, _| is_named(address));
    }
}

impl Known {
    fn put_off(&mut self, now: Instant, period: Duration) {
        self.due = now + period.min(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (address, expect) in [
            ("https://h.example/a/b.mmdb", "https://h.example/a/b.mmdb"),
            ("https://me:s3cret@h.example:81/a?token=s3cret#s3cret", "https://h.example:81/a"),
            ("https://h.example?key=s3cret", "https://h.example"),
            ("https://h.example/a@b/c", "https://h.example/a@b/c"),
            ("s3://bucket/path/file", "s3://bucket/path/file"),
            ("fetched:geo/a.mmdb", "fetched:geo/a.mmdb"),
        ] {
            assert_eq!(shown(address), expect);
        }
    }
}
