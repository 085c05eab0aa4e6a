//! Why a datagram of no connection is dropped.

use crate::header::HeaderError;

/// Why a datagram of no connection is dropped without an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DropCause {
    /// Its header can't be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The fixed bit is clear: not QUIC (RFC 9000 §17.2).
    #[error("the fixed bit is clear")]
    FixedBitCleared,
    /// A short header with a connection ID that we can't have made.
    #[error("the connection ID is of foreign make")]
    CidUnknown,
    /// Too small to be answered by a smaller stateless reset (RFC 9000 §10.3.3).
    #[error("too small for a stateless reset")]
    ResetUndersized,
    /// Too many stateless resets already.
    #[error("too many stateless resets a second")]
    ResetLimited,
    /// Too many other answers already.
    #[error("too many answers a second")]
    ResponseLimited,
    /// The same was answered a moment ago.
    #[error("the same was answered a moment ago")]
    ResponseRepeated,
    /// No room for the answer in the buffer given.
    #[error("no room for the answer")]
    ResponseOutsized,
    /// Version Negotiation that nobody waits for (RFC 9000 §6.1).
    #[error("unexpected Version Negotiation")]
    NegotiationUnmatched,
    /// Retry that nobody waits for.
    #[error("unexpected Retry")]
    RetryUnmatched,
    /// Handshake packet of no connection.
    #[error("Handshake packet of no connection")]
    HandshakeUnmatched,
    /// 0-RTT packet of no connection, mostly one that overtook its Initial packet.
    #[error("0-RTT packet of no connection")]
    ZeroRttUnmatched,
    /// A version we don't know, in a datagram too small to be told so (RFC 9000 §5.2.2).
    #[error("unknown version in a small datagram")]
    VersionUnsupported,
    /// A new client, and we accept none.
    #[error("nobody listens")]
    ListenerMissing,
    /// Initial packet in a datagram below 1200 bytes (RFC 9000 §14.1).
    #[error("Initial packet in a datagram below 1200 bytes")]
    InitialUndersized,
    /// Initial packet whose token or length can't be right.
    #[error("malformed Initial packet")]
    InitialMalformed,
    /// A client's own Destination Connection ID below 8 bytes (RFC 9000 §7.2).
    #[error("Destination Connection ID below 8 bytes")]
    DcidUndersized,
    /// Too many handshakes under way.
    #[error("too many handshakes under way")]
    HalfOpenLimited,
    /// Too many handshakes under way with the same source.
    #[error("too many handshakes under way with one source")]
    SourceLimited,
}

impl DropCause {
    /// Name of the counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header(error) => error.name(),
            Self::FixedBitCleared => "fixed_bit_cleared_dropped",
            Self::CidUnknown => "cid_unknown_dropped",
            Self::ResetUndersized => "reset_undersized_dropped",
            Self::ResetLimited => "reset_limited_dropped",
            Self::ResponseLimited => "response_limited_dropped",
            Self::ResponseRepeated => "response_repeated_dropped",
            Self::ResponseOutsized => "response_outsized_dropped",
            Self::NegotiationUnmatched => "negotiation_unmatched_dropped",
            Self::RetryUnmatched => "retry_unmatched_dropped",
            Self::HandshakeUnmatched => "handshake_unmatched_dropped",
            Self::ZeroRttUnmatched => "zero_rtt_unmatched_dropped",
            Self::VersionUnsupported => "version_unsupported_dropped",
            Self::ListenerMissing => "listener_missing_dropped",
            Self::InitialUndersized => "initial_undersized_dropped",
            Self::InitialMalformed => "initial_malformed_dropped",
            Self::DcidUndersized => "dcid_undersized_dropped",
            Self::HalfOpenLimited => "half_open_limited_dropped",
            Self::SourceLimited => "source_limited_dropped",
        }
    }
}
