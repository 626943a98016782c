//! Reads a key and its certificates from PKCS#12, the form in which Java keeps them. Snowplow: `collector.md` 9.

use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The first key of the store that has a certificate, and its chain, its own certificate first.
///
/// # Errors
/// What is wrong with the store, for people. A wrong password cannot be told from a damaged store.
pub(crate) fn read(
    bytes: &[u8],
    password: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict)
        .map_err(|error| format!("{error}: is it PKCS#12, and `key-store-password` right?"))?;
    let (_, entry) = store.private_key_chain().ok_or("there is no key with a certificate in it")?;
    let chain = entry.certs().iter().map(|it| CertificateDer::from(it.as_der().to_vec()));
    let key = PrivatePkcs8KeyDer::from(entry.key().as_der().to_vec());
    Ok((chain.collect(), key.into()))
}
