//! How a collector is run: TLS, metrics over StatsD, health, the access log, and its end. Snowplow: `collector.md` 8.1,
//! 8.3 and 9.

use super::SinkKind;
use model::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ssl {
    /// Whether HTTPS is served. Default: false. `collector.port` goes on to serve plain HTTP unless `only` is set.
    pub enable: bool,
    /// Its port. Default: 443. 0 means any free one.
    pub port: u16,
    /// Whether HTTPS is all that is served, as by Snowplow's 3.x. Default: false.
    pub only: bool,
    /// Whether plain HTTP requests are answered 301 to HTTPS: those on `collector.port`, and behind a balancer those
    /// with `X-Forwarded-Proto: http`. Default: false.
    pub redirect: bool,
    /// The certificate and its chain, PEM. Read at the start and at SIGHUP. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Both in one PKCS#12 file, as Java has them; instead of the two PEM files. Read at the start and at SIGHUP.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_store: Option<PathBuf>,
    /// The password of `key-store`. Better given in the environment. Default: none, which means an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub key_store_password: Option<Secret>,
}

/// What is told to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Monitoring {
    /// Metrics that are sent; those that are asked for are on `GET /metrics` of the server.
    pub metrics: Metrics,
}

/// Metrics that are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// To a StatsD agent, with the names of Snowplow's collector.
    pub statsd: Statsd,
}

/// StatsD over UDP, in Datadog's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Statsd {
    /// Whether anything is sent. Default: false.
    pub enabled: bool,
    /// The agent's host. Default: `localhost`.
    pub hostname: String,
    /// The agent's port. Default: 8125.
    pub port: u16,
    /// How often. Default: 10s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub period: Duration,
    /// What the names begin with. Default: `snowplow.collector`.
    pub prefix: String,
    /// Tags of every metric, by name. Default: none.
    pub tags: BTreeMap<String, String>,
}

/// `/health` and `/sink-health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// A port of its own for them, on a thread of its own: it answers in milliseconds, also while every connection of
    /// `collector.port` is taken and every core busy. Default: none, they are on `collector.port` alone. 0 means any
    /// free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One JSON object per request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessLog {
    /// Whether it is written. Default: false. It has neither addresses nor query strings: the events have them.
    pub enabled: bool,
    /// The file it is appended to; opened again at SIGHUP, so that it can be moved away. Default: none, stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Default for Ssl {
    fn default() -> Ssl {
        Ssl {
            enable: false,
            port: 443,
            only: false,
            redirect: false,
            cert_file: None,
            key_file: None,
            key_store: None,
            key_store_password: None,
        }
    }
}

impl Default for Statsd {
    fn default() -> Statsd {
        Statsd {
            enabled: false,
            hostname: "localhost".to_owned(),
            port: 8125,
            period: Duration::from_secs(10),
            prefix: "snowplow.collector".to_owned(),
            tags: BTreeMap::new(),
        }
    }
}

/// Looks at the values that a type cannot refuse; `refuse` is told of each problem and its key.
pub(super) fn check(config: &super::Config, mut refuse: impl FnMut(bool, &str, &str)) {
    let ssl = &config.ssl;
    for (key, file) in [("ssl.cert-file", &ssl.cert_file), ("ssl.key-file", &ssl.key_file)] {
        let wanted = ssl.enable && ssl.key_store.is_none();
        let why = "`ssl.enable` wants a PEM file here, or `ssl.key-store`";
        refuse(wanted && file.is_none(), key, why);
        refuse(ssl.key_store.is_some() && file.is_some(), key, "goes without `ssl.key-store`");
    }
    refuse(
        ssl.key_store.is_none() && ssl.key_store_password.is_some(),
        "ssl.key-store-password",
        "wants `ssl.key-store`",
    );
    refuse(ssl.only && !ssl.enable, "ssl.only", "wants `ssl.enable`");
    refuse(
        ssl.enable && !ssl.only && ssl.port != 0 && ssl.port == config.port,
        "ssl.port",
        "must differ from `collector.port`",
    );
    refuse(
        config.health.port.is_some_and(|port| {
            port != 0 && (port == config.port || ssl.enable && port == ssl.port)
        }),
        "health.port",
        "must differ from `collector.port` and `collector.ssl.port`",
    );
    refuse(
        config.access_log.enabled
            && config.access_log.file.is_none()
            && config.streams.sink == SinkKind::Stdout,
        "access-log.file",
        "is wanted with `streams.sink = \"stdout\"`: bad rows are on stderr then",
    );
    let statsd = &config.monitoring.metrics.statsd;
    refuse(statsd.period.is_zero(), "monitoring.metrics.statsd.period", "must be above 0");
    let plain = |text: &String| !text.contains(['|', ',', '#', '\n', '@']);
    refuse(
        !plain(&statsd.prefix) || statsd.prefix.contains(':'),
        "monitoring.metrics.statsd.prefix",
        "must have none of |,#@: and no line feed",
    );
    refuse(
        !statsd.tags.iter().all(|(name, value)| plain(name) && plain(value)),
        "monitoring.metrics.statsd.tags",
        "must have none of |,#@ and no line feed",
    );
    refuse(statsd.hostname.is_empty(), "monitoring.metrics.statsd.hostname", "must not be empty");
}
