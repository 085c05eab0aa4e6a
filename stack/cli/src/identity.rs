//! Certificates.

use std::{fs, path::Path};

use perf_protocol::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

/// The name that certificates made here are for.
pub const SERVER_NAME: &str = "localhost";

/// A certificate chain and its private key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The chain, the server's own first.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

impl Identity {
    /// A new one: self-signed, ECDSA P-256, for [`SERVER_NAME`].
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new([SERVER_NAME.to_owned()])?.self_signed(&key)?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// From files.
    ///
    /// # Errors
    /// One can't be read; the text says which.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self { certificate_pem: read_pem(certificate)?, key_pem: read_pem(key)? })
    }
}

/// The text of a PEM file.
///
/// # Errors
/// It can't be read; the text says which file it is.
pub fn read_pem(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is nobody's business.
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}
