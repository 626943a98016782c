//! The certificate of the Postgres wire: rustls with the ring provider, chosen here and nowhere else.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::Error;

/// Reads certificate chain and key from PEM files.
///
/// # Errors
/// [`Error::Tls`] names the key of the configuration and the file.
pub(crate) fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
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
