//! The collector's part of the configuration tree, under `collector`.
//!
//! The names are Snowplow's in kebab-case (Snowplow: `collector.md` 8), the defaults are meant for a laptop as well as
//! for production. Durations are written `500ms`, `10s`, `10m`, `365d`.

use crate::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

mod delivery;

mod ip;

mod operations;

mod surface;

mod telemetry;

pub use delivery::{
    Ack, BackoffPolicy, Buffer, Durability, OnFull, Oversized, SinkConfig, SinkKind, SpoolConfig,
    Streams,
};
pub use ip::{Anonymize, Ip};
pub use operations::{AccessLog, Health, Metrics, Monitoring, Ssl, Statsd};
pub use surface::{
    Compat, Compression, CompressionType, CookieBounce, CrossDomain, DoNotTrackCookie, Hsts, P3p,
    Profile, RedirectMacro, RootResponse,
};
pub(crate) use telemetry::is_host;
pub use telemetry::{Method as TelemetryMethod, Telemetry};

/// Everything that can be set about the collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The address to listen on. Default: 0.0.0.0, every IPv4 address of the machine.
    pub bind: IpAddr,
    /// The port for plain HTTP. Default: 8080. 0 means any free one.
    pub port: u16,
    /// Threads that serve connections. Default: 0, one for each core.
    pub threads: usize,
    /// Which Snowplow collector this one stands in for.
    pub compat: Compat,
    /// Paths of two segments that stand for others: `"/com.acme/track" = "/com.snowplowanalytics.snowplow/tp2"`. The
    /// record has the path on the right. Default: none.
    pub paths: BTreeMap<String, String>,
    /// Whether `/r/…` redirects. Default: false, 404; a path that `paths` maps to `/r/…` redirects in any case.
    pub enable_default_redirect: bool,
    /// The hosts that a redirect may lead to, each in full. Default: none, which means every host.
    pub redirect_domains: Vec<String>,
    /// The macro in redirect targets.
    pub redirect_macro: RedirectMacro,
    /// The cookie that carries the network user id.
    pub cookie: Cookie,
    /// The probe for browsers that keep no third-party cookie.
    pub cookie_bounce: CookieBounce,
    /// A cookie by which a person asks not to be tracked.
    pub do_not_track_cookie: DoNotTrackCookie,
    /// Cross-origin requests.
    pub cors: Cors,
    /// `Strict-Transport-Security`.
    pub hsts: Hsts,
    /// The `P3P` header of the profile `v2`.
    pub p3p: P3p,
    /// `/crossdomain.xml`.
    pub cross_domain: CrossDomain,
    /// What `GET /` answers.
    pub root_response: RootResponse,
    /// What is recorded of a request that carries `SP-Anonymous`.
    pub anonymous: Anonymous,
    /// The recorded headers.
    pub headers: Headers,
    /// Whose address is recorded, and how much of it.
    pub ip: Ip,
    /// Whether all records of one address go to one partition. Default: false, the partitions take turns. Many people
    /// behind one address make one partition hot.
    pub use_ip_address_as_partition_key: bool,
    /// Many payloads in one compressed record.
    pub compression: Compression,
    /// Limits and timeouts of connections and requests.
    pub networking: Networking,
    /// Requests that are too large for a record.
    pub oversized: Oversized,
    /// The bound on what is held while it waits for the disk.
    pub memory: Memory,
    /// When a request hears 200, and what happens while the sink is away.
    pub durability: Durability,
    /// The two sinks.
    pub streams: Streams,
    /// HTTPS.
    pub ssl: Ssl,
    /// What is told to others.
    pub monitoring: Monitoring,
    /// A sign of life to a collector of yours.
    pub telemetry: Telemetry,
    /// `/health` and `/sink-health`.
    pub health: Health,
    /// One JSON object per request.
    pub access_log: AccessLog,
    /// How long requests are taken after SIGTERM, so that a balancer notices before the port is closed. Default: 0s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub pre_termination_period: Duration,
    /// Whether `/health` answers 503 from SIGTERM on. Default: false.
    pub pre_termination_unhealthy: bool,
    /// How long records are sent to the sinks at the end, beginning when the last request is answered. Default: 30s.
    /// What is left then stays in the spool if there is one, and its count is the exit's reason.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub drain_deadline: Duration,
    /// How long requests that are under way may take to finish at shutdown. Default: 10s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub termination_deadline: Duration,
    /// The version in the record's `collector` field: `snowmelt-VERSION-log` or `snowmelt-VERSION-stdout`. Set by the
    /// binary, not by a file.
    #[serde(skip, default = "default_version")]
    pub version: String,
}

/// The network user id cookie. Snowplow: `collector.md` 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cookie {
    /// Whether a cookie is set. Default: true. One that the client sends is read in any case.
    pub enabled: bool,
    /// Its name. Default: `sp`.
    pub name: String,
    /// How long it lasts, counted from the last event. Default: 365d.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub expiration: Duration,
    /// Domains for the `Domain` attribute: the first that the request's `Origin` lies in is taken. Default: none.
    pub domains: Vec<String>,
    /// The `Domain` attribute where none of `domains` fits. Default: the attribute is left out.
    pub fallback_domain: Option<String>,
    /// The `Secure` attribute. Default: true; always on with `same-site = "None"`.
    pub secure: bool,
    /// The `HttpOnly` attribute. Default: true.
    pub http_only: bool,
    /// The `SameSite` attribute: `None`, `Lax` or `Strict`. Default: `None`. Left out when it is `""`.
    #[serde(with = "same_site")]
    #[schemars(with = "String")]
    pub same_site: Option<SameSite>,
    /// The name of a second cookie with the same value that scripts may read. Default: no such cookie.
    pub client_cookie_name: Option<String>,
}

/// Values of the `SameSite` attribute; read without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    None,
    Lax,
    Strict,
}

/// Cross-origin requests. Snowplow: `collector.md` 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cors {
    /// How long a browser may remember a preflight answer, in whole seconds. Default: 60m.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub access_control_max_age: Duration,
    /// Request headers that are allowed besides `Content-Type` and `SP-Anonymous`. Default: none. Pages that add
    /// tracing headers such as `traceparent` to every request need them here.
    pub allowed_headers: Vec<String>,
}

/// Requests with `SP-Anonymous`. Snowplow: `collector.md` 2.7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Anonymous {
    /// Headers that are not recorded, besides `Cookie`, `X-Forwarded-For` and `X-Real-IP`. Default: other headers in
    /// which proxies pass on the client's address.
    pub drop_headers: Vec<String>,
}

/// The recorded headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Headers {
    /// Headers that are never recorded. Default: none. `Authorization` keeps credentials out of the stream.
    pub drop: Vec<String>,
}

/// Limits and timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Networking {
    /// Connections at a time. Default: 1024. Beyond it, the one without a request for longest is closed; where all are
    /// busy, new ones wait in the system's queue.
    pub max_connections: usize,
    /// How long a connection may stay open without a request. Default: 610s, more than balancers usually wait, so
    /// that they close first.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub idle_timeout: Duration,
    /// How long the head of a request may take, from its first byte on; 408 then. Default: 10s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub header_read_timeout: Duration,
    /// How long the body may take, from the end of the head on; 408 then. Default: 25s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub body_read_timeout: Duration,
    /// How long the answer may take, from the end of the head on, the body included; 408 then. Default: 30s. Also
    /// the longest time that a client may leave an answer unread.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub response_header_timeout: Duration,
    /// The longest request line, in bytes; a longer one is answered 400. Default: 20480. Pixels carry their events
    /// here.
    pub max_request_line_length: usize,
    /// The most bytes of all header lines together; 400 beyond. Default: 40960.
    pub max_headers_length: usize,
    /// The most header lines; 400 beyond. Default: 100; at most 128.
    pub max_headers: usize,
    /// A body of this many bytes or more is answered 413 and not recorded. Default: 2097152. A body with
    /// `Content-Encoding: gzip` is measured unfolded as well.
    pub drop_payload_size: usize,
    /// The largest record, in bytes; Snowplow has one for each sink (`maxBytes`). A POST of many events is split into
    /// records below it, and what cannot be split becomes a bad row. Default: 1000000.
    pub max_record_size: usize,
    /// A record above it becomes a bad row without being split; only with `compat.strict`. Default: 1048576.
    pub max_payload_size: usize,
}

/// The bound on memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// Bytes of bodies and records that may be held at a time, over all connections; 503 beyond. Default: 268435456
    /// (256 MiB). Besides, a connection holds a buffer for the head: 8 KiB as a rule, and never more than twice
    /// `max-request-line-length` plus `max-headers-length`.
    pub max_in_flight_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 8080,
            threads: 0,
            compat: Compat::default(),
            paths: BTreeMap::new(),
            enable_default_redirect: false,
            redirect_domains: Vec::new(),
            redirect_macro: RedirectMacro::default(),
            cookie: Cookie::default(),
            cookie_bounce: CookieBounce::default(),
            do_not_track_cookie: DoNotTrackCookie::default(),
            cors: Cors::default(),
            hsts: Hsts::default(),
            p3p: P3p::default(),
            cross_domain: CrossDomain::default(),
            root_response: RootResponse::default(),
            anonymous: Anonymous::default(),
            headers: Headers::default(),
            ip: Ip::default(),
            use_ip_address_as_partition_key: false,
            compression: Compression::default(),
            networking: Networking::default(),
            oversized: Oversized::default(),
            memory: Memory::default(),
            durability: Durability::default(),
            streams: Streams::default(),
            ssl: Ssl::default(),
            monitoring: Monitoring::default(),
            telemetry: Telemetry::default(),
            health: Health::default(),
            access_log: AccessLog::default(),
            pre_termination_period: Duration::ZERO,
            pre_termination_unhealthy: false,
            drain_deadline: Duration::from_secs(30),
            termination_deadline: Duration::from_secs(10),
            version: default_version(),
        }
    }
}

impl Default for Cookie {
    fn default() -> Cookie {
        Cookie {
            enabled: true,
            name: "sp".to_owned(),
            expiration: Duration::from_secs(365 * 86_400),
            domains: Vec::new(),
            fallback_domain: None,
            secure: true,
            http_only: true,
            same_site: Some(SameSite::None),
            client_cookie_name: None,
        }
    }
}

impl Default for Cors {
    fn default() -> Cors {
        Cors { access_control_max_age: Duration::from_secs(3600), allowed_headers: Vec::new() }
    }
}

impl Default for Anonymous {
    fn default() -> Anonymous {
        let names =
            ["Forwarded", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP"];
        Anonymous { drop_headers: names.map(str::to_owned).to_vec() }
    }
}

impl Default for Networking {
    fn default() -> Networking {
        Networking {
            max_connections: 1024,
            idle_timeout: Duration::from_secs(610),
            header_read_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_secs(25),
            response_header_timeout: Duration::from_secs(30),
            max_request_line_length: 20_480,
            max_headers_length: 40_960,
            max_headers: 100,
            drop_payload_size: 2_097_152,
            max_record_size: 1_000_000,
            max_payload_size: 1_048_576,
        }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { max_in_flight_bytes: 256 * 1024 * 1024 }
    }
}

fn default_version() -> String {
    "0.1.0".to_owned()
}

/// The most header lines that `max-headers` may allow.
pub const HEADERS_MAX: usize = 128;

impl Config {
    /// Looks at the values that a type cannot refuse.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem, each with its key.
    pub fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut refuse = |wrong: bool, key: &str, why: &str| {
            if wrong {
                problems.push(format!("`collector.{key}`: {why}"));
            }
        };
        let cookie = &self.cookie;
        let token = "a name of letters, digits and any of !#$%&'*+-.^_`|~";
        let domain = "letters, digits, dots and hyphens, without a dot in front";
        refuse(!is_token(&cookie.name), "cookie.name", token);
        let client_name = &cookie.client_cookie_name;
        refuse(
            client_name.as_ref().is_some_and(|name| !is_token(name)),
            "cookie.client-cookie-name",
            token,
        );
        refuse(
            client_name.as_ref() == Some(&cookie.name),
            "cookie.client-cookie-name",
            "must differ from `cookie.name`",
        );
        refuse(!cookie.domains.iter().all(|name| is_domain(name)), "cookie.domains", domain);
        refuse(
            cookie.fallback_domain.as_ref().is_some_and(|name| !is_domain(name)),
            "cookie.fallback-domain",
            domain,
        );
        for (key, names) in [
            ("cors.allowed-headers", &self.cors.allowed_headers),
            ("anonymous.drop-headers", &self.anonymous.drop_headers),
            ("headers.drop", &self.headers.drop),
        ] {
            refuse(!names.iter().all(|name| is_token(name)), key, token);
        }
        let limits = &self.networking;
        for (key, limit) in [
            ("networking.max-connections", limits.max_connections),
            ("networking.max-request-line-length", limits.max_request_line_length),
            ("networking.max-headers-length", limits.max_headers_length),
            ("networking.max-headers", limits.max_headers),
            ("networking.drop-payload-size", limits.drop_payload_size),
            ("networking.max-record-size", limits.max_record_size),
            ("networking.max-payload-size", limits.max_payload_size),
            ("memory.max-in-flight-bytes", self.memory.max_in_flight_bytes),
        ] {
            refuse(limit == 0, key, "must be above 0");
        }
        refuse(limits.max_headers > HEADERS_MAX, "networking.max-headers", "must be 128 or less");
        for (key, bytes) in [
            ("networking.drop-payload-size", limits.drop_payload_size),
            ("networking.max-record-size", limits.max_record_size),
            ("networking.max-request-line-length", limits.max_request_line_length),
            ("networking.max-headers-length", limits.max_headers_length),
        ] {
            refuse(bytes > 1 << 30, key, "must be 1 GiB or less");
        }
        for (key, timeout) in [
            ("networking.idle-timeout", limits.idle_timeout),
            ("networking.header-read-timeout", limits.header_read_timeout),
            ("networking.body-read-timeout", limits.body_read_timeout),
            ("networking.response-header-timeout", limits.response_header_timeout),
        ] {
            refuse(timeout.is_zero(), key, "must be above 0");
        }
        ip::check(self, &mut refuse);
        surface::check(self, &mut refuse);
        delivery::check(self, &mut refuse);
        operations::check(self, &mut refuse);
        telemetry::check(self, &mut refuse);
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
    }

    /// What can be used but is hardly meant, each with its key.
    pub fn warnings(&self) -> Vec<String> {
        delivery::warnings(self)
    }
}

pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(crate::head::is_token_byte)
}

fn is_domain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

mod same_site {
    use super::SameSite;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<SameSite>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.map_or("", SameSite::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SameSite>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        let known = [SameSite::None, SameSite::Lax, SameSite::Strict];
        match known.into_iter().find(|value| value.as_str().eq_ignore_ascii_case(&text)) {
            Some(value) => Ok(Some(value)),
            None => Err(D::Error::custom(format!("`{text}` is not one of None, Lax, Strict"))),
        }
    }
}

impl SameSite {
    /// The text of the attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            SameSite::None => "None",
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        Config::default().check().unwrap();
    }

    #[test]
    fn the_default_prints_and_reads_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert!(text.contains("max-connections = 1024"), "{text}");
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn keys_are_kebab_case_and_durations_are_texts() {
        let text = "
            bind = '127.0.0.1'
            port = 0
            termination-deadline = '500ms'
            [cookie]
            expiration = '42d'
            same-site = 'strict'
            [networking]
            idle-timeout = '2m'
        ";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.bind, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(config.termination_deadline, Duration::from_millis(500));
        assert_eq!(config.cookie.expiration, Duration::from_secs(42 * 86_400));
        assert_eq!(config.cookie.same_site, Some(SameSite::Strict));
        assert_eq!(config.networking.idle_timeout, Duration::from_secs(120));
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        for text in [
            "prot = 80",
            "[cookie]\nsamesite = 'Lax'",
            "[cookie]\nsame-site = 'Loose'",
            "version = '9.9.9'",
            "[compat]\nprofile = 'v4'",
            "[compression]\ntype = 'lzo'",
        ] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_problem_is_named_with_its_key() {
        let mut config = Config::default();
        config.cookie.name = "a b".to_owned();
        config.cookie.fallback_domain = Some("a.com,b.com".to_owned());
        config.networking.max_connections = 0;
        config.paths.insert("/a".to_owned(), "/b/c".to_owned());
        config.do_not_track_cookie =
            DoNotTrackCookie { enabled: true, name: "a b".to_owned(), value: "(".to_owned() };
        config.cookie_bounce.name = "a=b".to_owned();
        config.cross_domain.domains = vec!["\"".to_owned()];
        config.root_response.status_code = 99;
        config.root_response.headers.insert("Content-length".to_owned(), "1".to_owned());
        config.compression.zstd_compression_level = 23;
        let error = config.check().unwrap_err().to_string();
        for key in [
            "collector.cookie.name",
            "collector.cookie.fallback-domain",
            "collector.networking.max-connections",
            "collector.paths",
            "collector.do-not-track-cookie.name",
            "collector.do-not-track-cookie.value",
            "collector.cookie-bounce.name",
            "collector.cross-domain.domains",
            "collector.root-response.status-code",
            "collector.root-response.headers",
            "collector.compression.zstd-compression-level",
        ] {
            assert!(error.contains(key), "{error}");
        }
    }
}
