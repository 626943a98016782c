//! HTTPS: rustls with the ring provider, and a certificate that can be exchanged while connections are open.
//!
//! A reload that fails leaves the certificate before in use: an operator who copies half a file must not take the
//! collector down. Connections keep the one they were opened with.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Ssl;
use crate::error::Error;

/// The certificate in use, and where the next one comes from.
#[derive(Debug)]
pub(crate) struct Tls {
    ssl: Ssl,
    config: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// # Errors
    /// [`Error::Tls`] names the key of the configuration and the file.
    pub(crate) fn load(ssl: &Ssl) -> Result<Tls, Error> {
        Ok(Tls { ssl: ssl.clone(), config: Mutex::new(read(ssl)?) })
    }

    /// Reads the files again; new connections get what is in them.
    ///
    /// # Errors
    /// As [`Tls::load`]; then nothing has changed.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let config = read(&self.ssl)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(ssl: &Ssl) -> Result<Arc<ServerConfig>, Error> {
    let failed = |key: &'static str, path: &Path, problem: String| Error::Tls {
        key,
        path: path.to_owned(),
        problem,
    };
    // The configuration is checked before: both are there.
    let certificates = ssl.cert_file.as_deref().unwrap_or(Path::new(""));
    let key = ssl.key_file.as_deref().unwrap_or(Path::new(""));
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed("cert-file", certificates, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("cert-file", certificates, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| failed("key-file", key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret))
        .map_err(|error| failed("key-file", key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
