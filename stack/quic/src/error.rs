//! Why a connection ends or never starts.

use std::fmt;

use bytes::Bytes;
use s2n_quic_core::varint::VarInt;

use crate::config::TransportConfigError;
use crate::tls;
/// A violation of the protocol, as it goes into a CONNECTION_CLOSE frame.
pub use s2n_quic_core::transport::Error as TransportError;

/// Why no connection could be made out of what was given.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A transport setting makes no sense.
    #[error(transparent)]
    Config(#[from] TransportConfigError),
    /// TLS does not take its configuration or the server's name.
    #[error(transparent)]
    Tls(#[from] tls::ConfigError),
    /// TLS failed before anything was sent.
    #[error("the handshake can't start: {0}")]
    Handshake(TransportError),
    /// The version is none we speak.
    #[error("unsupported QUIC version {0:#010x}")]
    Version(u32),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Our application closed it.
    Local {
        /// Application error code.
        code: VarInt,
        /// Explanation for people.
        reason: Bytes,
    },
    /// The peer's application closed it.
    Application {
        /// Application error code.
        code: VarInt,
        /// Explanation for people, as the peer wrote it.
        reason: Bytes,
    },
    /// The peer's QUIC implementation closed it.
    Transport {
        /// Code of RFC 9000 §20.1; 0x100 to 0x1ff carry a TLS alert.
        code: VarInt,
        /// Type of the frame that was wrong, if told.
        frame_type: VarInt,
        /// Explanation for people, as the peer wrote it.
        reason: Bytes,
    },
    /// We found the peer violating the protocol, or the handshake failing.
    Violation(TransportError),
    /// Nothing came from the peer for the negotiated idle timeout.
    IdleTimeout,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The peer has forgotten the connection (RFC 9000 §10.3).
    StatelessReset,
    /// The server speaks none of our versions (RFC 9000 §6.2).
    VersionMismatch,
    /// Whoever ran the state machine dropped it without closing.
    Ended,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { code, .. } => write!(f, "closed by us with application code {code}"),
            Self::Application { code, reason } => {
                write!(f, "closed by the peer with application code {code}: {}", Text(reason))
            }
            Self::Transport { code, reason, .. } => {
                let code = code.as_u64();
                match TransportError::new(VarInt::new(code).unwrap_or_default()).description() {
                    Some(name) => write!(f, "closed by the peer: {name}: {}", Text(reason)),
                    None => write!(f, "closed by the peer with code {code:#x}: {}", Text(reason)),
                }
            }
            Self::Violation(error) => {
                write!(f, "closed by us: {}", error.code)?;
                if error.reason.is_empty() { Ok(()) } else { write!(f, ": {}", error.reason) }
            }
            Self::IdleTimeout => f.write_str("timed out: the peer is silent"),
            Self::HandshakeTimeout => f.write_str("timed out: the handshake was not completed"),
            Self::StatelessReset => f.write_str("reset: the peer does not know the connection"),
            Self::VersionMismatch => f.write_str("the server speaks none of our QUIC versions"),
            Self::Ended => f.write_str("ended by us without a word to the peer"),
        }
    }
}

impl std::error::Error for CloseReason {}

/// Bytes of the peer, shown without control characters.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in String::from_utf8_lossy(self.0).chars().filter(|char| !char.is_control()) {
            fmt::Write::write_char(f, char)?;
        }
        Ok(())
    }
}
