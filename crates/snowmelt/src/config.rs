//! The one configuration tree: defaults, then a TOML file, then the environment, then `--set`.
//!
//! Each role documents its own keys in its `Config`; here they are put together, unknown keys are refused, and the
//! effective tree is printed with secrets masked.

mod origins;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use assets::enrichments::{Configured, Source};
use assets::look_up_http::AllowedHost;
use assets::resolver_config::ResolverConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stream::disk::Disk;

use self::origins::Origins;

/// The whole tree. Every key has a default that runs on a laptop with nothing else installed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where everything durable lies. Default: `./snowmelt-data`.
    pub(crate) data_dir: PathBuf,
    pub(crate) collector: collector::Config,
    pub(crate) stream: Stream,
    pub(crate) enrich: Enrich,
    pub(crate) speed: speed::Config,
    pub(crate) batch: batch::Config,
    pub(crate) server: serving::Config,
    pub(crate) admin: Admin,
}

/// The embedded log.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Stream {
    /// Partitions of the raw stream, 1 to 64. They are only ever added: a smaller number than before is refused.
    /// Default: 2. More partitions use more cores for enriching, and fsync in parallel.
    pub(crate) partitions: u32,
    /// Bytes of free disk below which the collector answers 503, so that archiver, batcher and trimming still have
    /// room. 0 switches the reserve off. Default: the larger of 1 GiB and 5 % of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_reserve: Option<u64>,
    /// Bytes of requests that may wait for their group commit in one partition; beyond it the collector answers 503.
    /// Default: 33554432 (32 MiB).
    pub(crate) queue_bytes: usize,
}

/// What the enrich function is given besides the record.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Enrich {
    /// Folders of Iglu schemas laid out as `vendor/name/format/version`, or JSON files with an array of schemas; the
    /// first that has a schema wins. Read at every iteration. Default: none, so only the embedded schemas are known.
    pub(crate) schemas: Vec<PathBuf>,
    /// Registries on the network, asked for schemas that are neither embedded nor in `schemas`: `iglu-central`, or the
    /// path of a Snowplow resolver JSON, which is read at the start. Default: none, and no network is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resolver: Option<String>,
    /// Folder of Snowplow's enrichment configurations, one JSON file each; an empty one turns none on. Read at every
    /// iteration. Default: none, and the quick-start set is on: campaign_attribution, event_fingerprint,
    /// referer_parser and ua_parser, with the lists that are built in; and ip_lookups for countries once
    /// `snowmelt fetch-assets geo` has fetched their file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enrichments: Option<PathBuf>,
    /// How often files on the network that enrichments read are looked at again. A changed one is part of the recipe from
    /// the next iteration's cut on; one that cannot be had again stays as it was. Default: 7d; 0 = never.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub(crate) assets_update_period: Duration,
    /// Hosts that look-ups over HTTP (`api_request_enrichment_config`, a mirror of exchange rates) may ask although their
    /// addresses lie inside this machine or its network, each `host` or `host:port`, as the configurations name them.
    /// Default: none, since whoever sends events has a part in what is asked. SQL databases need no entry.
    pub(crate) look_up_hosts: Vec<String>,
    /// The deepest nesting of a JSON text; deeper ones are bad rows. Default: 50.
    pub(crate) json_depth_max: u32,
    /// The largest enriched event or bad row, in bytes; larger ones become a size violation. Default: 1000000.
    pub(crate) record_bytes_max: u64,
    /// Whether an event stays good whose text columns are longer than allowed. Default: false, and it is a bad row.
    /// Snowplow's `validation.acceptInvalid`.
    pub(crate) accept_invalid: bool,
    /// The most UTF-16 code units of text columns by name, for example `{ page_url = 20000 }`. Default: none, and
    /// Snowplow's limits hold. Snowplow's `validation.atomicFieldsLimits`.
    pub(crate) atomic_field_limits: BTreeMap<String, u32>,
    /// Whether bad rows show long parameters and headers whole. Default: false, and they are cut to the lengths of the
    /// published schemas. Recovery jobs of Snowplow want whole ones.
    pub(crate) whole_bad_rows: bool,
    /// Whether an event that is refused is shown in `atomic.failed_events`, too: as much of it as is valid, with what
    /// went wrong among its derived contexts. Default: true. A change holds from the next iteration's cut on.
    pub(crate) failed_events: bool,
}

/// Health and metrics of a process without a server.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Admin {
    /// The port for `/health` and `/metrics` of a collector that runs alone, on `server.bind` and with the server's
    /// password; 0 means any free one. Default: 8091 for `run`, and not allowed for `up`, which has both on
    /// `server.http-port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: "./snowmelt-data".into(),
            collector: Default::default(),
            stream: Default::default(),
            enrich: Default::default(),
            speed: Default::default(),
            batch: Default::default(),
            server: Default::default(),
            admin: Default::default(),
        }
    }
}

impl Default for Stream {
    fn default() -> Stream {
        Stream { partitions: 2, disk_reserve: None, queue_bytes: 32 << 20 }
    }
}

impl Default for Enrich {
    fn default() -> Enrich {
        let settings = ::enrich::Settings::default();
        Enrich {
            schemas: Vec::new(),
            resolver: None,
            enrichments: None,
            assets_update_period: Duration::from_secs(7 * 24 * 3600),
            look_up_hosts: Vec::new(),
            json_depth_max: settings.json_depth_max,
            record_bytes_max: settings.record_bytes_max,
            accept_invalid: settings.accept_invalid,
            atomic_field_limits: settings.atomic_field_limits,
            whole_bad_rows: settings.whole_bad_rows,
            failed_events: true,
        }
    }
}

impl Enrich {
    /// Whom to ask for other schemas; none if nobody is to be asked.
    ///
    /// # Errors
    /// For a file that cannot be read, or is no resolver configuration.
    pub(crate) fn resolver_config(&self) -> Result<Option<ResolverConfig>> {
        let named = self.resolver.as_deref();
        Ok(named.map(|named| ResolverConfig::read(&Disk, named)).transpose()?)
    }

    /// The hosts of `look-up-hosts`.
    ///
    /// # Errors
    /// For the first one that is no host.
    pub(crate) fn allowed_hosts(&self) -> Result<Vec<AllowedHost>> {
        Ok(self.look_up_hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?)
    }

    /// Where the enrichments come from.
    pub(crate) fn configured(&self) -> Configured {
        self.enrichments.clone().map_or(Configured::QuickStart, Configured::Folder)
    }

    /// The settings of the recipe.
    pub(crate) fn settings(&self) -> ::enrich::Settings {
        ::enrich::Settings {
            json_depth_max: self.json_depth_max,
            record_bytes_max: self.record_bytes_max,
            accept_invalid: self.accept_invalid,
            atomic_field_limits: self.atomic_field_limits.clone(),
            whole_bad_rows: self.whole_bad_rows,
            failed_events: self.failed_events,
            ..::enrich::Settings::default()
        }
    }
}

/// Where values come from, besides the defaults.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Sources {
    /// A TOML file with any of the keys that `snowmelt config dump` shows
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One key, for example `--set collector.port=9090`; the value is TOML, a bare word is a string
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The data folder; the same as `--set data-dir=DIR`
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Environment variables of ours that are no keys.
const NOT_KEYS: [&str; 2] = ["SNOWMELT_LOG", "SNOWMELT_LOG_FORMAT"];

/// Puts the tree together and checks it.
///
/// # Errors
/// For a file that cannot be read, an unknown key or a value of the wrong form (named with its path and with where it
/// was written), and values that do not fit together; all of the latter at once.
pub(crate) fn load(
    sources: &Sources,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config> {
    let mut origins = Origins::default();
    let defaults =
        toml::Table::try_from(Config::default()).context("print the default configuration")?;
    let mut tree = match &sources.config {
        Some(file) => read_file(file, &mut origins)?,
        None => toml::Table::new(),
    };
    let mut variables: Vec<(String, String)> = environment
        .filter(|(name, _)| name.starts_with("SNOWMELT_") && !NOT_KEYS.contains(&name.as_str()))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let key =
            name["SNOWMELT_".len()..].to_ascii_lowercase().replace("__", ".").replace('_', "-");
        insert(&mut tree, &key, value_of(&key, &value, &defaults))
            .with_context(|| format!("environment variable `{name}`"))?;
        origins.note(&key, format!("environment variable `{name}`"));
    }
    for setting in &sources.set {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("`--set {setting}`: expected KEY=VALUE, for example `--set batch.interval=1m`");
        };
        insert(&mut tree, key, value_of(key, value, &defaults))
            .with_context(|| format!("`--set {key}`"))?;
        origins.note(key, format!("`--set {key}`"));
    }
    if let Some(dir) = &sources.data_dir {
        let dir =
            dir.to_str().with_context(|| format!("`{}` is not valid UTF-8", dir.display()))?;
        insert(&mut tree, "data-dir", toml::Value::String(dir.to_owned()))?;
    }
    if let Some(toml::Value::Table(server)) = tree.get("server")
        && server.get("password").is_some_and(|password| !password.is_str())
    {
        bail!("configuration key `server.password`: expected a text in quotes");
    }
    wrap_single_values(&mut tree, &defaults);
    let config: Config =
        serde_path_to_error::deserialize(toml::Value::Table(tree)).map_err(|error| {
            let path = error.path().to_string();
            refused(&path, &error.into_inner().to_string(), &origins, &defaults)
        })?;
    check(&config)?;
    Ok(config)
}

/// A key that is unknown, or whose value is of the wrong form.
fn refused(key: &str, reason: &str, origins: &Origins, defaults: &toml::Table) -> anyhow::Error {
    let origin = origins.of(key).map(|origin| format!(" ({origin})")).unwrap_or_default();
    let reason = match reason.starts_with("unknown field") {
        // The list of all its neighbours helps less than the one that was meant.
        true => {
            let mut known = origins::keys(defaults);
            known.extend(UNSET.iter().map(|(key, _)| (*key).to_owned()));
            match origins::nearest(key, &known) {
                Some(meant) => format!("there is no such key; did you mean `{meant}`?"),
                None => "there is no such key;".to_owned(),
            }
        }
        false => format!("{};", reason.lines().next().unwrap_or(reason)),
    };
    anyhow::anyhow!(
        "configuration key `{key}`{origin}: {reason} `snowmelt config dump` shows every key"
    )
}

/// The effective tree as TOML, secrets masked.
pub(crate) fn dump(config: &Config) -> Result<String> {
    let mut tree = toml::Table::try_from(config).context("print the configuration")?;
    if let Some(toml::Value::Table(server)) = tree.get_mut("server")
        && server.contains_key("password")
    {
        server.insert("password".to_owned(), "********".into());
    }
    let mut text = toml::to_string(&tree).context("print the configuration")?;
    let unset: Vec<&(&str, &str)> = UNSET.iter().filter(|(key, _)| is_unset(&tree, key)).collect();
    if !unset.is_empty() {
        text.push_str("\n# Not set:\n");
        unset.iter().for_each(|(key, meaning)| text.push_str(&format!("# {key}: {meaning}\n")));
    }
    Ok(text)
}

/// Keys that have no value unless they are given one, and what that means.
pub(crate) const UNSET: [(&str, &str); 24] = [
    ("stream.disk-reserve", "the larger of 1 GiB and 5 % of the disk; 0 switches it off"),
    ("enrich.enrichments", "the quick-start set is on; a folder of Snowplow's configurations"),
    ("enrich.resolver", "no registry is asked; iglu-central, or the path of a resolver JSON"),
    ("collector.cookie.fallback-domain", "no Domain attribute when no domain matches"),
    ("collector.cookie.client-cookie-name", "no second cookie"),
    ("collector.durability.spool.dir", "`spool` in the data folder"),
    ("collector.ssl.cert-file", "none; `collector.ssl.enable` wants one"),
    ("collector.ssl.key-file", "none; `collector.ssl.enable` wants one"),
    ("collector.ssl.key-store", "certificate and key are the two files above"),
    ("collector.ssl.key-store-password", "the key store has an empty one"),
    ("collector.oversized.dir", "`oversized` in the data folder"),
    ("collector.health.port", "/health and /sink-health are on `collector.port` alone"),
    ("collector.access-log.file", "stderr"),
    ("collector.telemetry.url", "none; `collector.telemetry.disable = false` wants one"),
    ("collector.telemetry.user-provided-id", "left out of the event"),
    ("collector.telemetry.auto-generated-id", "left out of the event"),
    ("collector.telemetry.instance-id", "left out of the event"),
    ("collector.telemetry.module-name", "left out of the event"),
    ("collector.telemetry.module-version", "left out of the event"),
    ("server.password", "none, which only a loopback `server.bind` allows"),
    ("server.password-file", "none; better than `server.password`"),
    ("server.tls-cert", "the Postgres wire offers no TLS"),
    ("server.tls-key", "none"),
    ("admin.port", "8091 for `run`; `up` has no use for it"),
];

fn is_unset(tree: &toml::Table, key: &str) -> bool {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let table = path.split('.').try_fold(tree, |table, part| table.get(part)?.as_table());
    !table.is_some_and(|table| table.contains_key(last))
}

fn check(config: &Config) -> Result<()> {
    let mut problems = Vec::new();
    if !(1..=64).contains(&config.stream.partitions) {
        problems.push(format!(
            "`stream.partitions`: {} is not between 1 and 64",
            config.stream.partitions
        ));
    }
    if config.enrich.json_depth_max == 0 || config.enrich.json_depth_max > 100 {
        problems.push(format!(
            "`enrich.json-depth-max`: {} is not between 1 and 100",
            config.enrich.json_depth_max
        ));
    }
    if config.enrich.record_bytes_max > 4 << 20 || config.enrich.record_bytes_max < 10_000 {
        problems.push(format!(
            "`enrich.record-bytes-max`: {} is not between 10000 and 4194304",
            config.enrich.record_bytes_max
        ));
    }
    problems.extend(config.speed.problems());
    problems.extend(config.batch.validate().into_iter().map(|problem| format!("batch.{problem}")));
    if let Err(error) = config.collector.check() {
        problems.push(error.to_string());
    }
    problems.extend(config.server.problems().iter().map(ToString::to_string));
    for (key, port) in
        [("server.http-port", config.server.http_port), ("server.pg-port", config.server.pg_port)]
    {
        if config.collector.port != 0 && config.collector.port == port {
            problems.push(format!("`collector.port` and `{key}` are both {port}"));
        }
    }
    if let Err(error) = config.enrich.settings().check() {
        problems.push(format!("`enrich.atomic-field-limits`: {error}"));
    }
    if let Err(error) = config.enrich.allowed_hosts() {
        problems.push(format!("`enrich.look-up-hosts`: {error}"));
    }
    for place in &config.enrich.schemas {
        if !place.is_dir() && !place.is_file() {
            let place = place.display();
            problems.push(format!("`enrich.schemas`: `{place}` is neither a folder nor a file"));
        }
    }
    let enrichments = Source::new(Arc::new(Disk), config.enrich.configured());
    if let Err(error) = enrichments.with_data_dir(&config.data_dir).check() {
        problems.push(format!("`enrich.enrichments`: {:#}", anyhow::Error::from(error)));
    }
    match config.enrich.resolver_config() {
        Ok(Some(resolver)) => {
            for folder in resolver.folders.iter().filter(|folder| !folder.is_dir()) {
                problems.push(format!(
                    "`enrich.resolver`: the embedded repository `{}` is not a folder",
                    folder.display()
                ));
            }
        }
        Ok(None) => {}
        Err(error) => problems.push(format!("`enrich.resolver`: {error:#}")),
    }
    if problems.is_empty() { Ok(()) } else { bail!("configuration: {}", problems.join("; ")) }
}

fn read_file(file: &Path, origins: &mut Origins) -> Result<toml::Table> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read configuration `{}`", file.display()))?;
    origins.note_file(file, &text);
    text.parse().map_err(|error: toml::de::Error| {
        // Not the line itself: it may be the one with the password.
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.lines().count().max(1));
        anyhow::anyhow!(
            "configuration `{}` is not TOML: line {line}: {}",
            file.display(),
            error.message()
        )
    })
}

/// What is a text by its default is one whatever it looks like, and so is a password, which stands in no message.
fn value_of(key: &str, text: &str, defaults: &toml::Table) -> toml::Value {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut parts = path.split('.').filter(|part| !part.is_empty());
    let table = parts.try_fold(defaults, |table, part| table.get(part)?.as_table());
    let is_text = table.and_then(|table| table.get(last)).is_some_and(toml::Value::is_str);
    match parse_value(text) {
        value @ toml::Value::String(_) => value,
        _ if is_text || last.ends_with("password") => toml::Value::String(text.to_owned()),
        value => value,
    }
}

/// A value of `--set` or of the environment: TOML if it is TOML, else a string.
fn parse_value(text: &str) -> toml::Value {
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(tree: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    let mut table = tree;
    for part in path.into_iter().flat_map(|path| path.split('.')) {
        let entry = table.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry
            .as_table_mut()
            .with_context(|| format!("`{part}` in `{key}` is a value, not a section"))?;
    }
    if last.is_empty() {
        bail!("`{key}` is not a key");
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// One value is enough where a list is meant: `enrich.schemas = "./schemas"`.
fn wrap_single_values(tree: &mut toml::Table, defaults: &toml::Table) {
    for (key, value) in tree.iter_mut() {
        match (value, defaults.get(key)) {
            (toml::Value::Table(section), Some(toml::Value::Table(defaults))) => {
                wrap_single_values(section, defaults);
            }
            (toml::Value::Array(_), _) => {}
            (single, Some(toml::Value::Array(_))) => {
                *single = toml::Value::Array(vec![single.clone()]);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(set: &[&str], environment: &[(&str, &str)]) -> Result<Config> {
        let sources = Sources {
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            ..Sources::default()
        };
        load(
            &sources,
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn one_value_is_enough_where_a_list_is_meant() {
        let config = load_with(
            &["enrich.schemas=.", "collector.cookie.domains=shop.example"],
            &[("SNOWMELT_SERVER__HOSTS", "events.example")],
        )
        .unwrap();
        assert_eq!(config.enrich.schemas, [PathBuf::from(".")]);
        assert_eq!(config.collector.cookie.domains, ["shop.example"]);
        assert_eq!(config.server.hosts, ["events.example"]);
        let error = load_with(&["server.hosts=7"], &[]).unwrap_err().to_string();
        assert!(error.contains("server.hosts"), "{error}");
    }

    #[test]
    fn a_key_can_be_set_and_a_later_source_wins() {
        let config = load_with(
            &["collector.port=9091", "batch.interval=30s"],
            &[
                ("SNOWMELT_COLLECTOR__PORT", "1"),
                ("SNOWMELT_STREAM__DISK_RESERVE", "0"),
                ("SNOWMELT_LOG", "debug"),
            ],
        )
        .unwrap();
        assert_eq!(config.collector.port, 9091);
        assert_eq!(config.stream.disk_reserve, Some(0));
        assert_eq!(config.batch.interval, std::time::Duration::from_secs(30));
    }

    #[test]
    fn one_path_is_enough_where_a_list_is_meant() {
        let one = load_with(&["enrich.schemas=/"], &[]).unwrap();
        let two = load_with(&[r#"enrich.schemas=["/", "/tmp"]"#], &[]).unwrap();
        assert_eq!((one.enrich.schemas.len(), two.enrich.schemas.len()), (1, 2));
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_path() {
        for (set, name) in [
            ("collector.prot=1", "prot"),
            ("nothing=1", "nothing"),
            ("batch.interval=soon", "batch.interval"),
        ] {
            let error = format!("{:#}", load_with(&[set], &[]).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
        let error = load_with(&[], &[("SNOWMELT_NOTHING", "1")]).unwrap_err().to_string();
        assert!(error.contains("(environment variable `SNOWMELT_NOTHING`)"), "{error}");
        assert!(load_with(&["collector.port"], &[]).is_err());
        assert!(
            load_with(&["data-dir.x=1", "data-dir=/tmp"], &[])
                .is_ok_and(|c| c.data_dir == Path::new("/tmp"))
        );
    }

    #[test]
    fn an_unknown_key_of_a_file_is_named_with_its_line_and_the_key_that_was_meant() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[collector]\nport = 1\n\nprot = 2\n").unwrap();
        let sources = Sources { config: Some(file.path().to_owned()), ..Sources::default() };
        let error = load(&sources, std::iter::empty()).unwrap_err().to_string();
        let place = format!("key `collector.prot` (`{}`, line 4): ", file.path().display());
        assert!(error.contains(&place), "{error}");
        assert!(error.contains("did you mean `collector.port`?"), "{error}");
    }

    #[test]
    fn a_resolver_is_checked_and_its_keys_are_not_shown() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("resolver.json");
        let set = format!("enrich.resolver={}", path.display());
        let error = load_with(&[&set], &[]).unwrap_err().to_string();
        assert!(error.contains("`enrich.resolver`: read the resolver configuration"), "{error}");
        let text = |uri: &str| {
            let schema = "iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-1";
            let repository = format!(
                r#"{{"name":"A","priority":0,"vendorPrefixes":[],"connection":{{"http":{{"uri":"{uri}","apikey":"s3cret"}}}}}}"#
            );
            format!(
                r#"{{"schema":"{schema}","data":{{"cacheSize":1,"repositories":[{repository}]}}}}"#
            )
        };
        std::fs::write(&path, text("iglu.example")).unwrap();
        let error = load_with(&[&set], &[]).unwrap_err().to_string();
        assert!(error.contains("`data.repositories[0].connection.http.uri`"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        std::fs::write(&path, text("http://iglu.example")).unwrap();
        let dumped = dump(&load_with(&[&set], &[]).unwrap()).unwrap();
        assert!(dumped.contains("resolver = ") && !dumped.contains("s3cret"), "{dumped}");
        assert!(load_with(&["enrich.resolver=iglu-central"], &[]).is_ok());
    }

    #[test]
    fn hosts_of_look_ups_are_hosts() {
        for one in ["enrich.look-up-hosts=localhost:9000", "enrich.look-up-hosts=127.0.0.1"] {
            let config = load_with(&[one], &[]).unwrap();
            assert_eq!(config.enrich.allowed_hosts().unwrap().len(), 1);
        }
        let error = load_with(&["enrich.look-up-hosts=http://localhost"], &[]).unwrap_err();
        assert!(
            error.to_string().contains("`enrich.look-up-hosts`: `http://localhost` is no host")
        );
    }

    #[test]
    fn all_values_that_do_not_fit_are_named_at_once() {
        let error = load_with(&["stream.partitions=0", "enrich.json-depth-max=0"], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("stream.partitions") && error.contains("enrich.json-depth-max"),
            "{error}"
        );
    }

    #[test]
    fn a_text_may_look_like_a_number() {
        let set = ["collector.ssl.key-store=s.p12", "collector.do-not-track-cookie.value=1"];
        let variable = ("SNOWMELT_COLLECTOR__SSL__KEY_STORE_PASSWORD", "123456");
        let config = load_with(&set, &[variable]).unwrap().collector;
        assert_eq!(config.do_not_track_cookie.value, "1");
        assert_eq!(config.ssl.key_store_password.unwrap().reveal(), "123456");
    }

    #[test]
    fn a_password_stands_in_no_message() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "[server]\npassword = 'hush-5318008\n",
            "[server]\npassword = hush-5318008\n",
            "[server]\npassword = 5318008\n",
            "[server]\npassword = ['hush-5318008']\n",
            "[server]\npasword = 'hush-5318008'\n",
        ] {
            std::fs::write(file.path(), text).unwrap();
            let sources = Sources { config: Some(file.path().to_owned()), ..Sources::default() };
            let error = format!("{:#}", load(&sources, std::iter::empty()).unwrap_err());
            assert!(!error.contains("5318008"), "{error}");
        }
        // Elsewhere it is a text whatever it looks like.
        for (set, environment) in [
            (&["server.password=5318008"][..], &[][..]),
            (&[], &[("SNOWMELT_SERVER__PASSWORD", "5318008")]),
        ] {
            let config = load_with(set, environment).unwrap();
            assert_eq!(config.server.password, Some(serving::config::Secret::new("5318008")));
        }
        let error = load_with(&["server.pasword=hush-5318008"], &[]).unwrap_err();
        assert!(!format!("{error:#}").contains("5318008"), "{error:#}");
    }

    #[test]
    fn a_dump_reads_back_and_hides_the_password() {
        let config = load_with(&["server.password=hush"], &[]).unwrap();
        let text = dump(&config).unwrap();
        assert!(!text.contains("hush"), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(
            &Sources { config: Some(file.path().to_owned()), ..Sources::default() },
            std::iter::empty(),
        )
        .unwrap();
    }
}
