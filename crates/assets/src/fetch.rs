//! One GET of a whole file over HTTP or HTTPS, for the files that enrichments read.
//!
//! Redirects are followed. Blocking; called when a recipe is made, never for an event.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::http;

/// The largest file.
const BYTES_MAX: u64 = 1 << 30;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Fetch {
    timeout: Duration,
}

impl Fetch {
    /// `timeout` is for the whole of a file.
    pub(crate) fn new(timeout: Duration) -> Fetch {
        Fetch { timeout }
    }

    /// The content of a file, or why it is not to be had.
    pub(crate) fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(http::certificates())))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("snowmelt/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let agent: Agent = config.into();
        let mut response = agent.get(address).call().map_err(|error| error.to_string())?;
        let body = response.body_mut().with_config().limit(BYTES_MAX).read_to_vec();
        body.map_err(|error| error.to_string())
    }
}
