//! The certificate of the Postgres wire: rustls with the ring provider, chosen here and nowhere else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::Error;

/// The certificate in use, and the files it came from.
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    acceptor: Mutex<TlsAcceptor>,
}

impl Certificate {
    /// Reads certificate chain and key from PEM files.
    ///
    /// # Errors
    /// [`Error::Tls`] names the key of the configuration and the file.
    pub(crate) fn read(chain: &Path, key: &Path) -> Result<Certificate, Error> {
        let acceptor = Mutex::new(acceptor(chain, key)?);
        Ok(Certificate { chain: chain.to_owned(), key: key.to_owned(), acceptor })
    }

    /// Reads the files again; new connections get what they hold now.
    ///
    /// # Errors
    /// As [`Certificate::read`]; then the certificate before stays in use.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let renewed = acceptor(&self.chain, &self.key)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.chain.display())
    }
}

fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let failed = |name: &'static str, path: &Path, problem: String| Error::Tls {
        key: name,
        path: path.to_owned(),
        problem,
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed("tls-cert", certificates, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("tls-cert", certificates, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| failed("tls-key", key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret))
        .map_err(|error| failed("tls-key", key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
