//! What a connection has done so far.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;

use super::{Connection, Delivery};
use crate::net::NetPath;
use crate::stream::StreamStats;

/// Figures of a connection, cheap to read. Those of the path are of the one in use.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Least round-trip time seen.
    pub min_rtt: Duration,
    /// Its mean variation.
    pub rtt_variation: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub bytes_in_flight: u64,
    /// Bytes of the largest datagram sent.
    pub mtu: u16,
    /// ECN works on the path.
    pub ecn_capable: bool,
    /// It does not, or is off: packets go without marks.
    pub ecn_failed: bool,
    /// What kept us from sending more.
    pub limits: Limits,
    /// What streams carried, and what held them up.
    pub streams: StreamStats,
    /// Counters.
    pub counters: Counters,
}

/// What keeps a connection from sending more than it does.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// There is no more to send, or the peer's flow control forbids it: see [`StreamStats`] for the latter.
    #[default]
    Application,
    /// The congestion window is full.
    Congestion,
    /// Pacing spreads packets over the round trip.
    Pacing,
    /// The peer has not shown that its address is its own, or has given no connection ID for the path.
    Path,
}

/// How often and how long each limit held.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The one that holds now.
    pub current: Limit,
    /// The application, or flow control.
    pub application: Limited,
    /// The congestion window.
    pub congestion: Limited,
    /// Pacing.
    pub pacing: Limited,
    /// The path: anti-amplification, or no connection ID.
    pub path: Limited,
}

/// How often and how long a limit held. The time up to now counts once another limit holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// Times it began to.
    pub count: u32,
    /// For how long in all, in microseconds.
    pub micros: u64,
}

/// What limits sending, and since when.
#[derive(Copy, Clone, Debug)]
pub(super) struct LimitWatch {
    limits: Limits,
    since: Timestamp,
}

impl LimitWatch {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { limits: Limits::default(), since: now }
    }

    #[inline]
    fn note(&mut self, now: Timestamp, limit: Limit) {
        if limit != self.limits.current {
            self.change(now, limit);
        }
    }

    fn change(&mut self, now: Timestamp, limit: Limit) {
        let passed = now.saturating_duration_since(self.since).as_micros() as u64;
        self.limits.of(self.limits.current).micros += passed;
        self.limits.of(limit).count += 1;
        self.limits.current = limit;
        self.since = now;
    }
}

impl Limits {
    fn of(&mut self, limit: Limit) -> &mut Limited {
        match limit {
            Limit::Application => &mut self.application,
            Limit::Congestion => &mut self.congestion,
            Limit::Pacing => &mut self.pacing,
            Limit::Path => &mut self.path,
        }
    }
}

/// Figures of one path.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PathStats {
    /// Its addresses.
    pub path: NetPath,
    /// It is the one in use.
    pub active: bool,
    /// The peer's address is known to be its own.
    pub validated: bool,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Least round-trip time seen.
    pub min_rtt: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub bytes_in_flight: u64,
    /// Bytes of the largest datagram sent.
    pub mtu: u16,
    /// Packets sent on it.
    pub packet_sent: u64,
    /// Of these, declared lost.
    pub packet_lost: u64,
}

/// Counters of a connection.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagram_sent: u64,
    /// Bytes of UDP payload sent.
    pub byte_sent: u64,
    /// Datagrams received.
    pub datagram_received: u64,
    /// Bytes of UDP payload received.
    pub byte_received: u64,
    /// Packets sent.
    pub packet_sent: u64,
    /// Packets received and opened.
    pub packet_received: u64,
    /// Packets of ours declared lost.
    pub packet_lost: u64,
    /// Packets declared lost and acknowledged after all.
    pub packet_spuriously_lost: u64,
    /// Received packets dropped: seen before.
    pub packet_duplicate_dropped: u64,
    /// Received packets dropped: could not be opened.
    pub packet_forged_dropped: u64,
    /// Received packets dropped: no keys for them (any more).
    pub packet_keyless_dropped: u64,
    /// Received packets dropped: not for this connection, or malformed.
    pub packet_invalid_dropped: u64,
    /// Datagrams dropped: from an address we don't take packets from.
    pub datagram_path_dropped: u64,
    /// Probe timeouts.
    pub probe_timeout: u64,
    /// Times so many packets in a row were lost that the window was reset.
    pub persistent_congestion: u64,
    /// Packets received with an ECN mark.
    pub ecn_received: u64,
    /// Packets of ours that the peer says came with an ECN mark, without the handshake's.
    pub ecn_reported: u64,
    /// Reports of congestion marks.
    pub congestion_marked: u64,
    /// Path MTU probes sent.
    pub mtu_probe_sent: u64,
    /// Updates of the 1-RTT keys.
    pub key_updated: u64,
    /// Changes of the path in use.
    pub path_changed: u64,
}

impl Connection {
    /// Its counters alone.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Figures of the connection.
    pub fn stats(&self) -> Stats {
        let path = &self.paths.active;
        Stats {
            rtt: path.rtt.smoothed_rtt(),
            min_rtt: path.rtt.min_rtt(),
            rtt_variation: path.rtt.rttvar(),
            congestion_window: u64::from(path.congestion.window()),
            bytes_in_flight: u64::from(path.congestion.in_flight()),
            mtu: path.mtu.current(),
            ecn_capable: path.ecn.is_capable(),
            ecn_failed: path.ecn.has_failed(),
            limits: self.limits.limits,
            streams: self.streams.stats(),
            counters: self.counters,
        }
    }

    /// Figures of each path, the one in use first.
    pub fn path_stats(&self) -> impl Iterator<Item = PathStats> {
        self.paths.iter().map(|path| PathStats {
            path: path.net,
            active: path.id == self.paths.active.id,
            validated: path.validated,
            rtt: path.rtt.smoothed_rtt(),
            min_rtt: path.rtt.min_rtt(),
            congestion_window: u64::from(path.congestion.window()),
            bytes_in_flight: u64::from(path.congestion.in_flight()),
            mtu: path.mtu.current(),
            packet_sent: path.packet_sent,
            packet_lost: path.packet_lost,
        })
    }

    /// Nothing more is sent now: notes why.
    #[inline]
    pub(super) fn note_limit(&mut self, now: Timestamp) {
        let path = &self.paths.active;
        let waiting = self.streams.wants_transmit()
            || self.datagrams.wants_transmit()
            || self.control.new_token_delivery == Delivery::Wanted
            || self.handshake.as_ref().is_some_and(|handshake| handshake.wants_transmit());
        let limit = if !waiting {
            Limit::Application
        } else if !self.may_transmit() {
            Limit::Path
        } else if !path.congestion.allows(usize::from(path.mtu.current())) {
            Limit::Congestion
        } else if path.congestion.departure().is_some_and(|departure| departure > now) {
            Limit::Pacing
        } else {
            // Keys are missing, or the caller's buffer was too small.
            return;
        };
        self.limits.note(now, limit);
    }
}
