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
use crate::key_store;

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
    let (key, path) = match (&ssl.key_store, &ssl.key_file) {
        (Some(store), _) => ("key-store", store.as_path()),
        (None, key) => ("key-file", key.as_deref().unwrap_or(Path::new(""))),
    };
    let failed = |problem: String| Error::Tls { key, path: path.to_owned(), problem };
    let (chain, secret) = match &ssl.key_store {
        Some(_) => {
            let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let password = ssl.key_store_password.as_ref().map_or("", |it| it.reveal());
            key_store::read(&bytes, password).map_err(failed)?
        }
        None => {
            let secret = PrivateKeyDer::from_pem_file(path);
            // The certificate is the first that is named where both files are missing.
            (certificates(ssl)?, secret.map_err(|error| failed(error.to_string()))?)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret))
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The chain in `ssl.cert-file`.
fn certificates(ssl: &Ssl) -> Result<Vec<CertificateDer<'static>>, Error> {
    // The configuration is checked before: it is there.
    let path = ssl.cert_file.as_deref().unwrap_or(Path::new(""));
    let failed = |problem: String| Error::Tls { key: "cert-file", path: path.to_owned(), problem };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(chain)
}
