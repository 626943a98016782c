//! The enrichments that a recipe turns on: Snowplow's configuration files from a folder, and the files that they name.
//!
//! Asked when a recipe is made: at the start, and at every iteration. What a file holds is pinned with the recipe (see
//! [`crate::recipes`]), so a later change is another recipe. A file on the network is fetched once for each process.
//! Not here: what a configuration means, see [`enrich::enrichments`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use enrich::Enrichments;
use enrich::enrichments::{Asset, Assets, Config};
use model::files::Files;

use crate::Error;
use crate::fetch::Fetch;

/// Where configurations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// The set that is on where nothing else is said: campaign_attribution, event_fingerprint, referer_parser and
    /// ua_parser, with the lists that are built in.
    QuickStart,
    /// The files of a folder that end in `.json`. None of them: no enrichment.
    Folder(PathBuf),
}

const QUICK_START: [(&str, &str); 4] = [
    ("campaign_attribution.json", include_str!("quick_start/campaign_attribution.json")),
    ("event_fingerprint.json", include_str!("quick_start/event_fingerprint.json")),
    ("referer_parser.json", include_str!("quick_start/referer_parser.json")),
    ("ua_parser.json", include_str!("quick_start/ua_parser.json")),
];

/// How long a file on the network may take. A city database has a hundred megabytes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads configurations and the files that they name.
pub struct Source {
    files: Arc<dyn Files>,
    configured: Configured,
    fetch: Fetch,
    last: Mutex<Last>,
}

/// What was read last, so that what did not change is neither fetched nor compiled again.
#[derive(Default)]
struct Last {
    /// What came over the network, by address.
    fetched: Assets,
    /// All configurations and digests, and what they gave.
    built: Option<(Vec<Config>, BTreeMap<String, String>, Enrichments)>,
}

impl Source {
    /// Reads nothing yet.
    pub fn new(files: Arc<dyn Files>, configured: Configured) -> Source {
        Source { files, configured, fetch: Fetch::new(FETCH_TIMEOUT), last: Mutex::default() }
    }

    /// The enrichments as configurations and files have them now. Blocking; files on the network are fetched the first
    /// time only.
    ///
    /// # Errors
    /// For a folder or a file that cannot be read or fetched, and a configuration that cannot be used.
    pub fn read(&self) -> Result<Enrichments, Error> {
        let configs = self.configs()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut assets = Assets::new();
        for address in Enrichments::addresses(&configs)? {
            let asset = self.asset(&address, &mut last.fetched)?;
            assets.insert(address, asset);
        }
        let digests: BTreeMap<String, String> =
            assets.iter().map(|(address, it)| (address.clone(), it.digest.clone())).collect();
        if let Some((known, of, built)) = &last.built
            && (known, of) == (&configs, &digests)
        {
            return Ok(built.clone());
        }
        let built = Enrichments::new(configs.clone(), &assets)?;
        for warning in built.warnings() {
            tracing::warn!("{warning}");
        }
        last.built = Some((configs, digests, built.clone()));
        Ok(built)
    }

    /// Whether all configurations can be read and obey their schemas. The files that they name are not looked at.
    ///
    /// # Errors
    /// For the first one that cannot be used.
    pub fn check(&self) -> Result<(), Error> {
        Enrichments::addresses(&self.configs()?)?;
        Ok(())
    }

    fn configs(&self) -> Result<Vec<Config>, Error> {
        match &self.configured {
            Configured::QuickStart => Ok(quick_start()),
            Configured::Folder(folder) => read_folder(&*self.files, folder),
        }
    }

    fn asset(&self, address: &str, fetched: &mut Assets) -> Result<Asset, Error> {
        let unavailable = |what| Error::Asset { address: address.to_owned(), what };
        match Place::of(address).map_err(unavailable)? {
            Place::File(path) => {
                let read = self.files.read(path);
                let bytes = read.map_err(|error| unavailable(error.to_string()))?;
                Ok(Asset::of(Arc::new(bytes)))
            }
            Place::Network => {
                if let Some(known) = fetched.get(address) {
                    return Ok(known.clone());
                }
                tracing::info!(address, "fetch a file that an enrichment needs");
                let bytes = self.fetch.get(address).map_err(unavailable)?;
                let asset = Asset::of(Arc::new(bytes));
                fetched.insert(address.to_owned(), asset.clone());
                Ok(asset)
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("configured", &self.configured).finish_non_exhaustive()
    }
}

/// The configurations of [`Configured::QuickStart`].
fn quick_start() -> Vec<Config> {
    let config = |(file, text): (&str, &str)| Config {
        file: file.to_owned(),
        json: serde_json::from_str(text).expect("the built-in configurations are JSON"),
    };
    QUICK_START.map(config).into()
}

fn read_folder(files: &dyn Files, folder: &Path) -> Result<Vec<Config>, Error> {
    let names = files.list(folder).map_err(|source| Error::Io {
        action: "read the folder of enrichments",
        path: folder.to_owned(),
        source,
    })?;
    let mut configs = Vec::new();
    for name in names.into_iter().filter(|name| !name.starts_with('.')) {
        let path = folder.join(&name);
        if !name.ends_with(".json") {
            tracing::warn!(file = %path.display(), "skip a file that is no enrichment: they end in .json");
            continue;
        }
        let content = files.read(&path).map_err(|source| Error::Io {
            action: "read the enrichment",
            path: path.clone(),
            source,
        })?;
        let json = serde_json::from_slice(&content)
            .map_err(|source| Error::EnrichmentNotJson { path, source })?;
        configs.push(Config { file: name, json });
    }
    Ok(configs)
}

/// What kind of place an address is.
enum Place<'a> {
    File(&'a Path),
    Network,
}

impl Place<'_> {
    fn of(address: &str) -> Result<Place<'_>, String> {
        let Some((scheme, _)) = address.split_once("://") else {
            // `file:/path` has one slash.
            let path = address.strip_prefix("file:").unwrap_or(address);
            return Ok(Place::File(Path::new(path)));
        };
        match scheme {
            "file" => {
                let path = &address["file://".len()..];
                let path = path.strip_prefix("localhost").unwrap_or(path);
                Ok(Place::File(Path::new(path)))
            }
            "http" | "https" => Ok(Place::Network),
            other => Err(format!(
                "nothing is fetched by {other}://; copy the file, and name it by file:// or https://"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use stream::disk::Disk;
    use tempfile::TempDir;

    use super::*;

    fn source(folder: &Path) -> Source {
        Source::new(Arc::new(Disk), Configured::Folder(folder.to_owned()))
    }

    fn referers(uri: &str) -> Value {
        json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0",
            "data": {
                "vendor": "com.snowplowanalytics.snowplow", "name": "referer_parser", "enabled": true,
                "parameters": {"internalDomains": [], "uri": uri, "database": "referers.json"},
            },
        })
    }

    #[test]
    fn the_quick_start_set_can_be_used_and_needs_no_file() {
        let source = Source::new(Arc::new(Disk), Configured::QuickStart);
        let enrichments = source.read().unwrap();
        assert_eq!(enrichments.configs().len(), 4);
        assert!(enrichments.assets().is_empty() && enrichments.warnings().is_empty());
    }

    #[test]
    fn an_empty_folder_turns_nothing_on() {
        let folder = TempDir::new().unwrap();
        assert!(source(folder.path()).read().unwrap().configs().is_empty());
        let error = source(&folder.path().join("none")).read().unwrap_err().to_string();
        assert!(error.starts_with("read the folder of enrichments"), "{error}");
    }

    #[test]
    fn a_file_is_read_by_path_and_by_address_and_again_when_it_changed() {
        let folder = TempDir::new().unwrap();
        let lists = TempDir::new().unwrap();
        fs::write(lists.path().join("referers.json"), r#"{"search":{}}"#).unwrap();
        let path = lists.path().display();
        let digests: Vec<String> = ["", "file:", "file://", "file://localhost"]
            .into_iter()
            .map(|scheme| {
                let text = referers(&format!("{scheme}{path}/")).to_string();
                fs::write(folder.path().join("referers.json"), text).unwrap();
                let read = source(folder.path()).read().unwrap();
                read.assets().values().next().unwrap().digest.clone()
            })
            .collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]));

        let source = source(folder.path());
        assert_eq!(source.read().unwrap().assets().values().next().unwrap().digest, digests[0]);
        fs::write(lists.path().join("referers.json"), r#"{"social":{}}"#).unwrap();
        assert_ne!(source.read().unwrap().assets().values().next().unwrap().digest, digests[0]);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_a_way_out() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("referers.json");
        let error = |content: &str| {
            fs::write(&file, content).unwrap();
            source(folder.path()).read().unwrap_err().to_string()
        };
        let text = error("{");
        assert!(text.contains(&file.display().to_string()), "{text}");
        assert!(text.contains("mend it"), "{text}");
        let text = error(&referers("s3://bucket").to_string());
        assert_eq!(
            text,
            "fetch s3://bucket/referers.json, which an enrichment needs: nothing is fetched by s3://; copy the file, \
             and name it by file:// or https://"
        );
        let text = error(&referers("/nowhere").to_string());
        assert!(text.starts_with("fetch /nowhere/referers.json"), "{text}");
        let text = error(r#"{"schema": "iglu:a/referer_parser/jsonschema/2-0-0", "data": {}}"#);
        assert!(text.starts_with("enrichment referers.json: Schema key"), "{text}");
    }
}
