//! The streams of a connection (RFC 9000 §2 to §4), without input or output of their own.
//!
//! `Streams` is the whole: the peer's frames go in by `on_*` (`arrive.rs`), the application's commands by their verbs
//! (`command.rs`), frames go out by `write_frames` (`transmit.rs`), their fate comes back by `on_frame_acked` and
//! `on_frame_lost` (`outcome.rs`), and the application is told by `poll_event` (`news.rs`).
//!
//! A stream's two directions are state machines of their own, `send::SendSide` and `recv::RecvSide`. Both directions
//! over and told, a stream's memory is freed. No operation takes time in proportion to the number of streams, except a
//! change of the peer's initial limits.

mod arena;
mod arrive;
mod command;
mod error;
mod flow;
mod gaps;
mod news;
mod outbound;
mod outcome;
mod ranges;
mod recv;
mod recv_buffer;
mod registry;
mod schedule;
mod send;
mod send_buffer;
mod sets;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod transmit;

use s2n_quic_core::stream::{StreamId, StreamType};

pub(crate) use arena::Arena;
pub use error::{ReadOutcome, StreamError};
pub(crate) use registry::PeerLimits;
pub use stats::{SendProgress, StreamStats};

use self::{
    flow::ReceiveWindow,
    news::{News, NewsQueue},
    outbound::{Control, Outbound, Queue},
    recv::{Inbound, RecvSide},
    registry::Registry,
    send::SendSide,
    sets::Set,
};
use crate::{config::TransportConfig, role::Role};

/// One stream: its directions, and the queues it stands in.
#[derive(Debug)]
struct Stream {
    send: Option<SendSide>,
    recv: Option<RecvSide>,
    /// Higher ones send first.
    priority: i8,
    /// Queues of [`Outbound`] that hold the stream's ID.
    queued: Set<Queue>,
    /// Control frames to be sent.
    control: Set<Control>,
    /// What the application is to be told; the stream stands in the news queue while this is not empty.
    news: Set<News>,
}

impl Stream {
    fn new(send: Option<SendSide>, recv: Option<RecvSide>) -> Self {
        Self {
            send,
            recv,
            priority: 0,
            queued: Set::default(),
            control: Set::default(),
            news: Set::default(),
        }
    }

    /// Is nothing left to do in either direction?
    fn is_terminal(&self) -> bool {
        self.send.as_ref().is_none_or(SendSide::is_terminal)
            && self.recv.as_ref().is_none_or(RecvSide::is_terminal)
            && self.news.is_empty()
    }
}

/// All streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    registry: Registry,
    inbound: Inbound,
    outbound: Outbound,
    news: NewsQueue,
    /// Ceilings of the receive windows.
    max_stream_window: u64,
    max_connection_window: u64,
}

impl Streams {
    /// No streams yet, and none may be opened until the peer's limits are known.
    pub(crate) fn new(role: Role, config: &TransportConfig) -> Self {
        Self {
            registry: Registry::new(role, config),
            inbound: Inbound {
                window: ReceiveWindow::new(config.connection_window),
                received: 0,
                held: 0,
                arena: Arena::default(),
            },
            outbound: Outbound::new(u64::from(config.stream_burst)),
            news: NewsQueue::default(),
            max_stream_window: config.max_stream_window,
            max_connection_window: config.max_connection_window,
        }
    }

    /// Takes the peer's initial limits, remembered ones (0-RTT) or those of this handshake. Limits only grow.
    pub(crate) fn on_peer_parameters(&mut self, limits: &PeerLimits) {
        self.outbound.credit.raise(limits.max_data);
        self.registry.raise_initial(limits);
        let Self { registry, outbound, .. } = self;
        registry.each_used(|id, stream, allowed| outbound.plan(id, stream, allowed));
    }

    /// Client: the server refused 0-RTT, so everything sent so far counts as never sent (RFC 9001 §4.6.2). The limits
    /// are 0 until [`on_peer_parameters`](Self::on_peer_parameters).
    pub(crate) fn on_zero_rtt_rejected(&mut self) {
        self.outbound.drop_queues();
        self.registry.drop_limits();
        let Self { registry, outbound, .. } = self;
        registry.each_used(|id, stream, allowed| outbound.start_over(id, stream, allowed));
    }

    /// How many streams of each type the peer has opened, bidirectional ones first.
    pub(crate) fn opened_by_peer(&mut self) -> [u64; 2] {
        [StreamType::Bidirectional, StreamType::Unidirectional]
            .map(|ty| self.registry.theirs(ty).table.opened())
    }

    /// The connection is over: drops all streams and what was to be told of them.
    pub(crate) fn on_closed(&mut self) {
        self.registry.close();
        self.outbound.clear();
        self.news.clear();
        self.inbound.arena.shrink();
    }

    /// Is there no stream, and nothing to send or to tell?
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.registry.is_empty() && self.news.is_empty() && !self.wants_transmit()
    }

    /// Gives back memory that only traffic needs.
    pub(crate) fn shrink(&mut self) {
        self.registry.shrink();
        self.outbound.shrink();
        self.news.shrink();
        self.inbound.arena.shrink();
    }

    /// Frees a stream that is over, and lets the peer open another one in its place.
    fn free_if_over(&mut self, id: StreamId) {
        let Some(was_limited) = self.registry.free_if_over(id) else { return };
        self.outbound.limited -= u32::from(was_limited);
        if let Some(control) = self.registry.max_streams_due(id) {
            self.outbound.connection.insert(control);
        }
    }
}
