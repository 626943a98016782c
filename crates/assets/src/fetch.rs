//! One whole file from a server or a cloud's storage, for the files that enrichments read; or the word that it is still
//! the one that is known.
//!
//! Redirects are followed. Blocking; called when a recipe is made, never for an event.

use std::time::Duration;

use ureq::Agent;
use ureq::http::header;

use crate::http;

/// The largest file.
const BYTES_MAX: u64 = 1 << 30;

/// How long a connection may take to come about, and an answer to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Fetch {
    timeout: Duration,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The file with this tag is still the one.
    Unchanged,
    Content {
        bytes: Vec<u8>,
        etag: Option<String>,
    },
}

/// Why nothing came.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    /// Whether it may go away by itself.
    pub(crate) is_passing: bool,
}

impl Fetch {
    /// `timeout` is for the whole of a file.
    pub(crate) fn new(timeout: Duration) -> Fetch {
        Fetch { timeout }
    }

    /// The content of a file at an address of HTTP, HTTPS or a cloud's storage; if `etag` is still its tag, the word
    /// that it is.
    pub(crate) fn get(&self, address: &str, etag: Option<&str>) -> Result<Fetched, Failure> {
        match address.split_once("://") {
            Some(("http" | "https", _)) => self.over_http(address, etag),
            _ => self.in_cloud(address, etag),
        }
    }

    fn over_http(&self, address: &str, etag: Option<&str>) -> Result<Fetched, Failure> {
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("snowmelt/", env!("CARGO_PKG_VERSION")))
            .tls_config(http::tls())
            .build();
        let agent: Agent = config.into();
        let request = agent.get(address);
        let request = match etag {
            Some(etag) => request.header(header::IF_NONE_MATCH, etag),
            None => request,
        };
        let mut response = request.call().map_err(Failure::of)?;
        if response.status().as_u16() == 304 {
            return Ok(Fetched::Unchanged);
        }
        let etag = response.headers().get(header::ETAG).and_then(|it| it.to_str().ok());
        let etag = etag.map(str::to_owned);
        let body = response.body_mut().with_config().limit(BYTES_MAX).read_to_vec();
        Ok(Fetched::Content { bytes: body.map_err(Failure::of)?, etag })
    }

    #[cfg(feature = "cloud")]
    fn in_cloud(&self, address: &str, etag: Option<&str>) -> Result<Fetched, Failure> {
        crate::cloud::get(address, etag, self.timeout, BYTES_MAX)
    }

    #[cfg(not(feature = "cloud"))]
    fn in_cloud(&self, address: &str, _etag: Option<&str>) -> Result<Fetched, Failure> {
        let scheme = address.split_once("://").map_or(address, |(scheme, _)| scheme);
        Err(Failure::lasting(format!(
            "this binary is built without cloud storage, so nothing is fetched by {scheme}:// (build it with \
             --features cloud; or copy the file, and name it by file:// or https://)"
        )))
    }
}

impl Failure {
    pub(crate) fn lasting(what: String) -> Failure {
        Failure { what, is_passing: false }
    }

    fn of(error: ureq::Error) -> Failure {
        let is_passing = match &error {
            ureq::Error::StatusCode(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        Failure { what: error.to_string(), is_passing }
    }
}
