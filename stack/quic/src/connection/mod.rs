//! One QUIC connection: everything between datagrams on one side and streams on the other.
//!
//! The life of a received packet: `receive` takes the datagram apart and the packets out of their protection, `frames`
//! hands each frame to where it belongs, `acked` learns from ACK frames what became of our packets. The life of a sent
//! one: `transmit` decides what datagram to build, `packet` fills and protects it. `handshake` drives TLS, `agree` takes
//! the peer's parameters, `timers` what happens when nothing happens, `close` the end, `migrate` the change of
//! addresses.

mod acked;
mod agree;
mod api;
mod close;
mod extension;
mod frames;
mod handshake;
mod local_cids;
mod log;
mod migrate;
mod packet;
mod params;
mod path;
mod peer_cids;
mod receive;
mod space;
mod start;
mod stats;
mod timers;
mod tls_context;
mod transmit;
mod version;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::time::Timestamp;

pub use migrate::MigrateError;
pub(crate) use start::Accept;
pub use start::Connect;
pub use stats::{Counters, Limit, Limited, Limits, PathStats, Stats};

use self::close::Closing;
use self::extension::Extensions;
use self::handshake::Handshake;
use self::local_cids::LocalCids;
use self::path::Paths;
use self::peer_cids::PeerCids;
use self::space::Space;
use self::stats::LimitWatch;
use self::timers::Timers;
use crate::ack::AckPolicy;
use crate::cid::Cid;
use crate::config::TransportConfig;
use crate::crypto::CryptoStream;
use crate::datagram::Datagrams;
use crate::event::Event;
use crate::packet::{OneRttKeys, SpaceId};
use crate::qlog;
use crate::random::Random;
use crate::role::Role;
use crate::stream::Streams;
use crate::tls;

/// How the handshake went, once it is complete.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeOutcome {
    /// It continued an earlier session: no certificate was sent.
    pub resumed: bool,
    /// The server had the client's address validated by a Retry first (RFC 9000 §8.1.2).
    pub retried: bool,
    /// The cipher suite that protects the packets.
    pub cipher_suite: Option<tls::CipherSuite>,
    /// The peer takes resets that leave the start of a stream standing (RESET_STREAM_AT).
    pub partial_resets: bool,
}

/// Where a connection stands in its life.
#[derive(Debug)]
enum State {
    /// TLS is at work.
    Handshaking,
    /// TLS is done on our side (RFC 9001 §4.1.1).
    Complete,
    /// And known to be done on the peer's (RFC 9001 §4.1.2).
    Confirmed,
    /// We closed it: only CONNECTION_CLOSE is sent (RFC 9000 §10.2.1).
    Closing(Box<Closing>),
    /// The peer closed it: nothing is sent (RFC 9000 §10.2.2).
    Draining,
    /// Nothing is left.
    Drained,
}

/// What the peer's transport parameters say about the life of the connection.
#[derive(Copy, Clone, Debug)]
struct PeerLimits {
    ack_delay_exponent: u8,
    /// The peer asks us not to change our address.
    disable_active_migration: bool,
    max_udp_payload: u64,
    /// The peer takes packets with an arbitrary fixed bit (RFC 9287).
    grease_quic_bit: bool,
    /// The peer takes RESET_STREAM_AT.
    reset_stream_at: bool,
}

/// A frame without content of its own that is to be delivered once.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
enum Delivery {
    /// Not to be sent, or delivered.
    #[default]
    Idle,
    /// To be sent.
    Wanted,
    /// On its way.
    Sent,
}

/// Frames of the connection itself waiting to be sent in 1-RTT packets.
#[derive(Debug, Default)]
struct Control {
    handshake_done: Delivery,
    /// An address token for the client's next connection.
    new_token: Option<Bytes>,
    new_token_delivery: Delivery,
}

/// One QUIC connection.
///
/// Feed it datagrams and the time, poll it for datagrams, the next timeout and [`Event`]s. After each input: poll
/// events until `None`, send what [`poll_transmit`](Self::poll_transmit) gives until `None`, and wait no longer than
/// [`poll_timeout`](Self::poll_timeout) says.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    version: u32,
    config: Arc<TransportConfig>,
    /// The time of the last input.
    now: Timestamp,
    /// What only the handshake needs; gone once it is confirmed.
    handshake: Option<Box<Handshake>>,
    /// 1-RTT keys.
    keys: Option<Box<OneRttKeys>>,
    /// The 0-RTT and 1-RTT packet number space.
    app: Space,
    app_crypto: Option<Box<CryptoStream>>,
    /// After the handshake, as long as TLS still waits for something (a client's tickets).
    tls: Option<Box<tls::Session>>,
    alpn: Option<Bytes>,
    outcome: HandshakeOutcome,
    /// Server: streams the peer had opened, by type, when the last 0-RTT packet came.
    early_streams: [u64; 2],
    streams: Streams,
    datagrams: Datagrams,
    control: Control,
    paths: Paths,
    local_cids: LocalCids,
    peer_cids: PeerCids,
    peer: PeerLimits,
    ack_policy: AckPolicy,
    timers: Timers,
    /// Probe timeouts in a row (RFC 9002 §6.2.1).
    pto_count: u32,
    /// Effective idle timeout.
    idle_timeout: Option<Duration>,
    /// An ack-eliciting packet was sent since the last one received (RFC 9000 §10.1).
    sent_since_received: bool,
    /// Largest packet number that came with a frame other than those of path probing (RFC 9000 §9.3).
    largest_non_probing: u64,
    /// Bytes of UDP payload the device sends at most.
    device_limit: u16,
    /// The next packet number to leave out (RFC 9000 §21.4).
    next_skip: u64,
    /// By which packets get their fixed bit cleared (RFC 9287).
    grease: u64,
    counters: Counters,
    limits: LimitWatch,
    /// Smoothed time by which the peer says it held acknowledgements back.
    ack_delay_micros: u32,
    events: VecDeque<Event>,
    random: Random,
    /// Its log, if it has one.
    qlog: qlog::Slot,
    /// What extensions remember, if any is in use.
    extensions: Option<Box<Extensions>>,
    /// A payload to send as it is.
    #[cfg(test)]
    raw: Option<Vec<u8>>,
}

impl Connection {
    fn is_closed_or_closing(&self) -> bool {
        matches!(self.state, State::Closing(_) | State::Draining | State::Drained)
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.state, State::Confirmed)
    }

    /// Our probe timeout in the application space, without back-off.
    fn pto(&self) -> Duration {
        self.paths.active.rtt.pto_period(1, SpaceId::App.number_space())
    }

    fn event(&mut self, event: Event) {
        if self.qlog.is_used() {
            self.log_event(&event);
        }
        self.events.push_back(event);
    }

    /// The packet number space, if it still exists.
    fn space_mut(&mut self, id: SpaceId) -> Option<&mut Space> {
        match id {
            SpaceId::App => Some(&mut self.app),
            _ => self.handshake.as_mut()?.level_mut(id).map(|level| &mut level.space),
        }
    }

    fn space(&self, id: SpaceId) -> Option<&Space> {
        match id {
            SpaceId::App => Some(&self.app),
            _ => self.handshake.as_ref()?.level(id).map(|level| &level.space),
        }
    }

    /// The connection ID to address packets on a path to.
    fn dcid(&self, path: u8) -> Option<Cid> {
        if self.peer_cids.is_zero_length() { Some(Cid::EMPTY) } else { self.peer_cids.of_path(path) }
    }
}

/// Sizes of the parts of a connection.
#[cfg(test)]
pub(crate) fn sizes() -> Vec<(&'static str, usize)> {
    vec![
        ("Connection", size_of::<Connection>()),
        ("Space", size_of::<Space>()),
        ("PendingAcks", size_of::<crate::ack::PendingAcks>()),
        ("SentPackets", size_of::<crate::recovery::SentPackets>()),
        ("SentPacket", size_of::<crate::recovery::SentPacket>()),
        ("Streams", size_of::<Streams>()),
        ("Datagrams", size_of::<Datagrams>()),
        ("Paths", size_of::<Paths>()),
        ("Path", size_of::<path::Path>()),
        ("Congestion", size_of::<crate::recovery::Congestion>()),
        ("LocalCids", size_of::<LocalCids>()),
        ("PeerCids", size_of::<PeerCids>()),
        ("Timers", size_of::<Timers>()),
        ("Counters", size_of::<Counters>()),
        ("OneRttKeys", size_of::<OneRttKeys>()),
        ("Event", size_of::<Event>()),
    ]
}
