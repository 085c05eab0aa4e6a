//! What streams have carried, and what held them up.

use super::Streams;

/// Figures of a connection's streams since its start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Stream bytes sent, each counted once.
    pub byte_sent: u64,
    /// Sum of the streams' highest offsets received.
    pub byte_received: u64,
    /// Received bytes that the application has read and not released, or not read at all.
    pub byte_unreleased: u64,
    /// The connection's receive window as tuned: bytes the peer may be ahead of the application.
    pub receive_window: u64,
    /// Times the peer's limit for the connection kept data from being sent.
    pub connection_blocked: u64,
    /// Times the peer's limit for a stream did.
    pub stream_blocked: u64,
    /// Times the peer's limit of streams kept one from being opened.
    pub open_blocked: u64,
}

/// Counters of what held sending up; each limit of the peer counts once.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Blocked {
    pub(super) connection: u64,
    pub(super) stream: u64,
    pub(super) open: u64,
}

impl Streams {
    /// Figures so far.
    pub(crate) fn stats(&self) -> StreamStats {
        let (inbound, outbound) = (&self.inbound, &self.outbound);
        StreamStats {
            byte_sent: outbound.credit.used,
            byte_received: inbound.received,
            byte_unreleased: inbound.received - inbound.window.consumed(),
            receive_window: inbound.window.size(),
            connection_blocked: outbound.blocked.connection,
            stream_blocked: outbound.blocked.stream,
            open_blocked: outbound.blocked.open,
        }
    }
}
