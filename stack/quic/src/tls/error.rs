//! What can be wrong with certificates, keys and names, and what TLS failures become on the wire.

use rustls::{CertificateError, Error as TlsError, HandshakeType, PeerMisbehaved};
use s2n_quic_core::crypto::tls;
use s2n_quic_core::transport;

/// A TLS configuration that can't work, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A PEM file is damaged.
    #[error("the {what} is not valid PEM ({cause}): give the file as text, from BEGIN to END lines")]
    BadPem {
        /// Which of the inputs.
        what: &'static str,
        /// The parser's finding.
        cause: String,
    },
    /// No certificate in the chain.
    #[error(
        "no certificate found: the chain needs a `-----BEGIN CERTIFICATE-----` block, the server's own first"
    )]
    NoCertificate,
    /// No private key in the key file.
    #[error(
        "no private key found: the key needs a `-----BEGIN PRIVATE KEY-----` block (PKCS#8, SEC1 or PKCS#1)"
    )]
    NoPrivateKey,
    /// No root certificate.
    #[error(
        "no root certificate found: give the `-----BEGIN CERTIFICATE-----` block of the authority that signed \
         the server's certificate"
    )]
    NoRoots,
    /// Certificate and key don't belong together.
    #[error(
        "the private key does not match the certificate: give the key the first certificate of the chain was made for"
    )]
    KeyMismatch,
    /// A private key we can't use.
    #[error(
        "the private key can't be used ({cause}): use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more"
    )]
    BadKey {
        /// The library's finding.
        cause: String,
    },
    /// A certificate we can't read.
    #[error("the certificate can't be read ({cause}): give X.509 certificates in PEM")]
    BadCertificate {
        /// The library's finding.
        cause: String,
    },
    /// No application protocol set.
    #[error("no application protocol set: QUIC needs at least one ALPN name on both sides, such as \"h3\"")]
    EmptyAlpn,
    /// An ALPN name of impossible length.
    #[error("an ALPN name is {len} bytes long: names have 1 to 255 bytes")]
    BadAlpn {
        /// Its length.
        len: usize,
    },
    /// No cipher suite chosen.
    #[error("no cipher suite chosen: allow at least one of AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305")]
    NoCipherSuite,
    /// A server name that is neither DNS name nor address.
    #[error(
        "{name:?} is not a server name: give the DNS name or IP address that the server's certificate is for"
    )]
    BadServerName {
        /// The name.
        name: String,
    },
    /// rustls refuses for another reason.
    #[error("TLS refuses this configuration: {cause}")]
    Refused {
        /// The library's finding.
        cause: String,
    },
}

impl ConfigError {
    pub(super) fn refused(error: TlsError) -> Self {
        Self::Refused { cause: error.to_string() }
    }
}

/// The connection error that a failed handshake ends in: the alert's code from 0x100 up (RFC 9001 §4.8), but for what
/// QUIC forbids and TLS doesn't.
pub(super) fn transport_error(alert: Option<rustls::AlertDescription>, error: &TlsError) -> transport::Error {
    if let Some(reason) = violation(error) {
        return transport::Error::PROTOCOL_VIOLATION.with_reason(reason);
    }
    let code = alert.map_or_else(|| alert_without_tls(error), u8::from);
    tls::Error { code, reason: reason(error) }.into()
}

/// What breaks the rules of QUIC rather than those of TLS.
fn violation(error: &TlsError) -> Option<&'static str> {
    match error {
        // RFC 9001 §4.6.1.
        TlsError::PeerMisbehaved(PeerMisbehaved::InvalidMaxEarlyDataSize) => {
            Some("a session ticket limits early data by itself")
        }
        // RFC 9001 §4.4: no client authentication after the handshake.
        TlsError::InappropriateHandshakeMessage { got_type: HandshakeType::CertificateRequest, .. } => {
            Some("unexpected CertificateRequest")
        }
        _ => None,
    }
}

/// The alert that fits an error for which rustls raised none.
fn alert_without_tls(error: &TlsError) -> u8 {
    match error {
        TlsError::InvalidMessage(_) => tls::Error::DECODE_ERROR.code,
        TlsError::InappropriateMessage { .. } | TlsError::InappropriateHandshakeMessage { .. } => {
            tls::Error::UNEXPECTED_MESSAGE.code
        }
        TlsError::NoApplicationProtocol => tls::Error::NO_APPLICATION_PROTOCOL.code,
        _ => tls::Error::INTERNAL_ERROR.code,
    }
}

/// Words for the reason phrase of CONNECTION_CLOSE.
fn reason(error: &TlsError) -> &'static str {
    match error {
        TlsError::InvalidCertificate(certificate) => certificate_reason(certificate),
        TlsError::NoCertificatesPresented => "no certificate presented",
        TlsError::NoApplicationProtocol => "no common application protocol",
        TlsError::PeerIncompatible(_) => "no common TLS version, cipher suite or group",
        TlsError::PeerMisbehaved(_) => "the peer broke the rules of TLS",
        TlsError::InappropriateMessage { .. } | TlsError::InappropriateHandshakeMessage { .. } => {
            "unexpected handshake message"
        }
        TlsError::InvalidMessage(_) => "malformed handshake message",
        TlsError::DecryptError => "handshake message can't be verified",
        _ => "TLS failed",
    }
}

fn certificate_reason(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::BadEncoding => "certificate can't be read",
        E::Expired | E::ExpiredContext { .. } => "certificate expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "certificate not valid yet",
        E::Revoked => "certificate revoked",
        E::UnknownIssuer => "certificate of an unknown issuer",
        E::NotValidForName | E::NotValidForNameContext { .. } => "certificate is for another name",
        _ => "certificate not acceptable",
    }
}
