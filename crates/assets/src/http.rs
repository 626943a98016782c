//! Registries over HTTP: static ones such as Iglu Central, and Iglu Server.
//!
//! One GET per question, with connections kept open between them. An answer is recorded for good, so only what a registry
//! means to say about this very key counts as one: see `docs/decisions/0012-what-counts-as-an-answer.md`. Blocking; called
//! from the threads of both layers. Snowplow: enrich-core.md 4.4 and 4.5.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use enrich::iglu::Repository;
use model::bad_row::LookupError;
use model::iglu::SchemaKey;
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::ask::{Ask, NoReply, Reply};
use crate::resolver_config::ApiKey;

/// How long one question may take, redirects included. Snowplow's default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest schema.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// What is read of a body that is no schema.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// Redirects that are followed for one question.
const REDIRECTS_MAX: u32 = 5;

/// The longest key that is asked for. Anybody can send a longer one, and a server's refusal of a long line must not look
/// like a registry that is away.
const KEY_BYTES_MAX: usize = 512;

/// Questions of one record that are under way at the same time.
const AT_ONCE: usize = 8;

/// Asks over HTTP and HTTPS.
pub struct Http {
    agent: Agent,
    /// By name and base of the repository.
    keys: HashMap<(String, String), ApiKey>,
}

impl Http {
    /// `keys` are sent to the repositories they stand for, and to nobody else. For HTTPS the certificates of the system
    /// are trusted (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others); proxies come from `HTTP_PROXY` and its like.
    pub fn new(keys: HashMap<(String, String), ApiKey>) -> Http {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            // Followed here, since an API key must not follow them.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(AT_ONCE)
            .user_agent(concat!("snowmelt/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .tls_config(tls())
            .build();
        Http { agent: config.into(), keys }
    }

    /// What a registry lists of a schema's versions, those with the model of `key`; none where it has none, or makes no
    /// lists. Snowplow: enrich-core.md 4.3.
    ///
    /// # Errors
    /// When it gives no answer, or one that is no list of schema keys.
    pub fn list(
        &self,
        repository: &Repository,
        key: &SchemaKey,
    ) -> Result<Vec<SchemaKey>, NoReply> {
        let model = key.model();
        let place = format!("{}/{}/{}/{model}", key.vendor(), key.name(), key.format());
        let mut response = self.get(repository, &place)?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(Vec::new()),
            status => return Err(NoReply(format!("status {status}"))),
        }
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| NoReply(describe(&error)))?;
        let uris: Vec<String> = serde_json::from_slice(&body)
            .map_err(|error| NoReply(format!("its answer is no list of texts: {error}")))?;
        let keys = uris.iter().map(|uri| {
            SchemaKey::parse(uri).map_err(|_| NoReply(format!("it lists `{uri}`, no schema key")))
        });
        keys.collect()
    }

    /// `place` is below `/schemas/`.
    fn get(&self, repository: &Repository, place: &str) -> Result<Response<Body>, NoReply> {
        let mut uri: Uri = format!("{}/schemas/{place}", repository.uri)
            .parse()
            .map_err(|error| NoReply(format!("its address is not one: {error}")))?;
        let home = origin(&uri);
        let api_key = self.keys.get(&(repository.name.clone(), repository.uri.clone()));
        for _ in 0..=REDIRECTS_MAX {
            let api_key = api_key.filter(|_| origin(&uri) == home);
            let response = self.get_once(&uri, api_key)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = target(&uri, &response)?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(NoReply(format!("it redirects from HTTPS to {next}")));
            }
            uri = next;
        }
        Err(NoReply(format!("it redirects more than {REDIRECTS_MAX} times")))
    }

    fn get_once(&self, uri: &Uri, api_key: Option<&ApiKey>) -> Result<Response<Body>, NoReply> {
        let send = || {
            let mut request = self.agent.get(uri);
            if let Some(api_key) = api_key {
                request = request.header("apikey", api_key.expose());
            }
            request.call()
        };
        let response = match send() {
            // A connection that was kept open, and that the other side has closed meanwhile.
            Err(ureq::Error::Io(error)) if is_stale(&error) => send(),
            other => other,
        };
        response.map_err(|error| NoReply(describe(&error)))
    }
}

impl Ask for Http {
    fn ask(&self, repository: &Repository, key: &SchemaKey) -> Result<Reply, NoReply> {
        // No file and no route has such a name, and a server might read it as a way out of its folder.
        if key.vendor().chars().all(|it| it == '.') || key.as_str().len() > KEY_BYTES_MAX {
            return Ok(Reply::not_found());
        }
        let mut response = self.get(repository, key.path())?;
        let status = response.status().as_u16();
        let has_key = self.keys.contains_key(&(repository.name.clone(), repository.uri.clone()));
        if status != 200 {
            // Read to its end, the connection can carry the next question. What the body says does not matter.
            let _ = response.body_mut().with_config().limit(REFUSAL_BYTES_MAX).read_to_vec();
        }
        match status {
            200 => {}
            404 | 410 => return Ok(Reply::not_found()),
            // To us it gives nothing, whatever we ask for.
            401 | 407 => return Err(NoReply(format!("status {status}: it wants another API key"))),
            403 if has_key => return Err(NoReply("status 403: it refuses the API key".to_owned())),
            // It may say otherwise in a moment.
            408 | 421 | 425 | 429 => return Err(NoReply(format!("status {status}"))),
            // It will not give this one to anybody. A store of files that may not be listed says 403 for what is absent.
            400..=499 => {
                let message = Some(format!("Unexpected response status {status}"));
                return Ok(Reply::Not(LookupError { error: "ClientFailure".to_owned(), message }));
            }
            _ => return Err(NoReply(format!("status {status}"))),
        }
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                NoReply(format!("its answer is larger than {BODY_BYTES_MAX} bytes"))
            }
            error => NoReply(describe(&error)),
        })?;
        serde_json::from_slice::<Value>(&body)
            .map(Reply::Schema)
            .map_err(|error| NoReply(format!("its answer is not JSON: {error}")))
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// What an API key may be sent to.
fn origin(uri: &Uri) -> (Option<String>, Option<String>) {
    (uri.scheme_str().map(str::to_owned), uri.authority().map(|it| it.as_str().to_lowercase()))
}

/// Where a redirect leads: a whole address, or a path on the same server.
fn target(from: &Uri, response: &Response<Body>) -> Result<Uri, NoReply> {
    let status = response.status().as_u16();
    let odd = || NoReply(format!("status {status} without an address that can be followed"));
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(odd)?;
    let whole = if location.starts_with('/') && !location.starts_with("//") {
        let (Some(scheme), Some(authority)) = (from.scheme_str(), from.authority()) else {
            return Err(odd());
        };
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let uri: Uri = whole.parse().map_err(|_| odd())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() => Ok(uri),
        _ => Err(odd()),
    }
}

fn is_stale(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => format!("no answer within {} seconds", TIMEOUT.as_secs()),
        other => other.to_string(),
    }
}

/// rustls with ring, and the certificates of the system; for every client of ours.
pub fn tls() -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates())))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// The certificates that the system trusts. One that cannot be read is left out; without any, HTTPS says so.
pub(crate) fn certificates() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.first() {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
}
