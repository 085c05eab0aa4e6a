//! Cipher suites and key exchange groups we offer.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suites, kx_group};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, Tls13CipherSuite};
use s2n_quic_core::crypto::tls;

use crate::tls::ConfigError;
use crate::tls::protection::{self, Protection};

/// QUIC is for TLS 1.3 and later only (RFC 9001 §4.2).
pub(super) static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A TLS 1.3 cipher suite with its packet protection (RFC 9001 §5.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256: the fastest where the processor has AES instructions.
    Aes128Gcm,
    /// TLS_AES_256_GCM_SHA384.
    Aes256Gcm,
    /// TLS_CHACHA20_POLY1305_SHA256: the fastest without AES instructions.
    ChaCha20Poly1305,
}

impl CipherSuite {
    /// What is offered unless told otherwise, the preferred first.
    pub const DEFAULT: &'static [Self] = &[Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The suite as rustls knows it.
    pub(super) fn tls13(self) -> &'static Tls13CipherSuite {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

static AES_128_GCM: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| protected_by(suites::TLS13_AES_128_GCM_SHA256, &protection::AES_128_GCM));
static AES_256_GCM: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| protected_by(suites::TLS13_AES_256_GCM_SHA384, &protection::AES_256_GCM));
static CHACHA20_POLY1305: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| protected_by(suites::TLS13_CHACHA20_POLY1305_SHA256, &protection::CHACHA20_POLY1305));

/// The suite, with packets protected by our own choice of cipher code.
fn protected_by(suite: SupportedCipherSuite, packets: &'static Protection) -> Tls13CipherSuite {
    let suite = suite.tls13().expect("these are suites of TLS 1.3");
    let CipherSuiteCommon { suite: id, hash_provider, confidentiality_limit } = suite.common;
    Tls13CipherSuite {
        common: CipherSuiteCommon { suite: id, hash_provider, confidentiality_limit },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: Some(packets),
    }
}

/// X25519 first: the only one a client sends a key share for, cheap, and small enough that the ClientHello fits one
/// datagram. The hybrid with ML-KEM serves peers that insist on it.
static GROUPS: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1, kx_group::X25519MLKEM768];

static DEFAULT_PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(provide(CipherSuite::DEFAULT)));

fn provide(suites: &[CipherSuite]) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites.iter().map(|suite| suite.tls13().into()).collect(),
        kx_groups: GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

/// Cryptography with the default suites.
pub(super) fn default_provider() -> Arc<CryptoProvider> {
    DEFAULT_PROVIDER.clone()
}

/// Cryptography with these suites, the preferred first.
pub(super) fn provider(suites: &[CipherSuite]) -> Result<Arc<CryptoProvider>, ConfigError> {
    if suites.is_empty() {
        return Err(ConfigError::NoCipherSuite);
    }
    Ok(Arc::new(provide(suites)))
}

/// Our name of a suite.
pub(super) fn known(suite: SupportedCipherSuite) -> Option<CipherSuite> {
    CipherSuite::DEFAULT.iter().copied().find(|known| known.tls13().common.suite == suite.suite())
}

/// Is this one of our own suites, the very object? Others may have their name and protect packets by other means.
pub(super) fn is_own(suite: Option<SupportedCipherSuite>) -> bool {
    let Some(suite) = suite.and_then(|suite| suite.tls13()) else { return false };
    CipherSuite::DEFAULT.iter().any(|own| std::ptr::eq(own.tls13(), suite))
}

/// Does a provider have any of them?
pub(super) fn has_own(provider: &CryptoProvider) -> bool {
    provider.cipher_suites.iter().any(|&suite| is_own(Some(suite)))
}

/// s2n-quic-core's name of a suite.
pub(super) fn name(suite: Option<SupportedCipherSuite>) -> tls::CipherSuite {
    use rustls::CipherSuite as Id;
    match suite.map(|suite| suite.suite()) {
        Some(Id::TLS13_AES_128_GCM_SHA256) => tls::CipherSuite::TLS_AES_128_GCM_SHA256,
        Some(Id::TLS13_AES_256_GCM_SHA384) => tls::CipherSuite::TLS_AES_256_GCM_SHA384,
        Some(Id::TLS13_CHACHA20_POLY1305_SHA256) => tls::CipherSuite::TLS_CHACHA20_POLY1305_SHA256,
        _ => tls::CipherSuite::Unknown,
    }
}
