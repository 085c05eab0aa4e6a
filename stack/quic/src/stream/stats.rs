//! What streams have carried, and what held them up.

use s2n_quic_core::stream::StreamId;

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
    /// The peer's limit for all streams together: what [`byte_sent`](Self::byte_sent) can come to now.
    pub send_limit: u64,
    /// Times the peer's limit for the connection kept data from being sent.
    pub connection_blocked: u64,
    /// Times the peer's limit for a stream did.
    pub stream_blocked: u64,
    /// Times the peer's limit of streams kept one from being opened.
    pub open_blocked: u64,
}

/// How far the sending side of a stream has come: offsets.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SendProgress {
    /// Sent at least once.
    pub sent: u64,
    /// The peer's limit.
    pub limit: u64,
}

/// Counters of what held sending up; each limit of the peer counts once.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Blocked {
    pub(super) connection: u64,
    pub(super) stream: u64,
    pub(super) open: u64,
}

impl Streams {
    /// How far a stream's sending side has come, if it is still there.
    pub(crate) fn send_progress(&mut self, id: StreamId) -> Option<SendProgress> {
        let send = self.registry.get_mut(id)?.send.as_ref()?;
        Some(SendProgress { sent: send.buffer.sent(), limit: send.max_data })
    }

    /// Is there more to send, and the peer's flow control why it is not?
    #[inline]
    pub(crate) fn is_flow_limited(&self) -> bool {
        self.outbound.limited > 0 || self.outbound.is_blocked()
    }

    /// Figures so far.
    pub(crate) fn stats(&self) -> StreamStats {
        let (inbound, outbound) = (&self.inbound, &self.outbound);
        StreamStats {
            byte_sent: outbound.credit.used,
            byte_received: inbound.received,
            byte_unreleased: inbound.received - inbound.window.consumed(),
            receive_window: inbound.window.size(),
            send_limit: outbound.credit.limit,
            connection_blocked: outbound.blocked.connection,
            stream_blocked: outbound.blocked.stream,
            open_blocked: outbound.blocked.open,
        }
    }
}
