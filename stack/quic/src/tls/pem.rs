//! Certificates and keys from PEM, ALPN names checked.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::tls::ConfigError;

/// Most bytes of an ALPN name: its length is one byte (RFC 7301 §3.1).
const MAX_ALPN_LEN: usize = 255;

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError::BadPem { what, cause: error.to_string() })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => ConfigError::NoPrivateKey,
        error => ConfigError::BadPem { what: "private key", cause: error.to_string() },
    })
}

/// A certificate chain with the key of its first certificate.
pub(super) fn certified_key(
    chain_pem: &[u8],
    key_pem: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ConfigError> {
    let chain = certificates(chain_pem, "certificate chain")?;
    if chain.is_empty() {
        return Err(ConfigError::NoCertificate);
    }
    let key = provider
        .key_provider
        .load_private_key(private_key(key_pem)?)
        .map_err(|error| ConfigError::BadKey { cause: error.to_string() })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key that can't tell its public half can't be compared; rustls' own all can.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(ConfigError::KeyMismatch),
        Err(error) => Err(ConfigError::BadCertificate { cause: error.to_string() }),
    }
}

/// Roots of trust.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "root certificate")? {
        store.add(certificate).map_err(|error| ConfigError::BadCertificate { cause: error.to_string() })?;
    }
    if store.is_empty() { Err(ConfigError::NoRoots) } else { Ok(store) }
}

/// ALPN names as rustls takes them. Whether they are any good is `check_alpn`'s business.
pub(super) fn alpn<P: AsRef<[u8]>>(protocols: impl IntoIterator<Item = P>) -> Vec<Vec<u8>> {
    protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect()
}

/// QUIC connections must agree on an application protocol (RFC 9000 §7, RFC 9001 §8.1).
pub(super) fn check_alpn(protocols: &[Vec<u8>]) -> Result<(), ConfigError> {
    if protocols.is_empty() {
        return Err(ConfigError::EmptyAlpn);
    }
    match protocols.iter().map(Vec::len).find(|len| !(1..=MAX_ALPN_LEN).contains(len)) {
        Some(len) => Err(ConfigError::BadAlpn { len }),
        None => Ok(()),
    }
}
