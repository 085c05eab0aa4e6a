//! What a connection has done so far.

use std::time::Duration;

use s2n_quic_core::stream::StreamId;
use s2n_quic_core::time::Timestamp;

use super::{Connection, Delivery};
use crate::net::NetPath;
use crate::stream::{SendProgress, StreamStats};

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
    /// The peer's address is known to be its own.
    pub validated: bool,
    /// How long the peer says it held its acknowledgements back: smoothed, in microseconds.
    pub ack_delay_micros: u32,
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
    /// There is no more to send.
    #[default]
    Application,
    /// There is, and the peer's flow control forbids it: for the connection, or for each stream that has more.
    FlowControl,
    /// The congestion window is full.
    Congestion,
    /// Pacing spreads packets over the round trip.
    Pacing,
    /// The peer has not shown that its address is its own, or has given no connection ID for the path.
    Path,
    /// The caller has no memory to send from, or no room to send to: see [`Connection::on_no_room`].
    Device,
}

/// How often and how long each limit held.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The one that holds now.
    pub current: Limit,
    /// The application.
    pub application: Limited,
    /// The peer's flow control.
    pub flow_control: Limited,
    /// The congestion window.
    pub congestion: Limited,
    /// Pacing.
    pub pacing: Limited,
    /// The path: anti-amplification, or no connection ID.
    pub path: Limited,
    /// The caller's memory, its device, or its lateness: what pacing waits for beyond its time.
    pub device: Limited,
}

/// How often and how long a limit held, up to the last input.
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
    /// While pacing holds: when it lets the next packet go.
    departure: Timestamp,
}

/// A caller who comes this much later than pacing asks for is what holds the connection back: timers are a millisecond
/// coarse, a core that is busy elsewhere is later.
const LATE: Duration = Duration::from_millis(2);

impl LimitWatch {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { limits: Limits::default(), since: now, departure: now }
    }

    #[inline]
    fn note(&mut self, now: Timestamp, limit: Limit) {
        if limit != self.limits.current {
            self.change(now, limit);
        }
    }

    /// Pacing holds until then.
    #[inline]
    fn note_paced(&mut self, now: Timestamp, departure: Timestamp) {
        if self.limits.current == Limit::Pacing && now > self.departure {
            (self.limits, self.since) = (self.until(now), now);
        }
        self.note(now, Limit::Pacing);
        self.departure = departure;
    }

    fn change(&mut self, now: Timestamp, limit: Limit) {
        self.limits = self.until(now);
        self.limits.of(limit).count += 1;
        self.limits.current = limit;
        self.since = now;
    }

    /// The limits, with the time that the current one has held so far.
    fn until(&self, now: Timestamp) -> Limits {
        let mut limits = self.limits;
        let passed = now.saturating_duration_since(self.since).as_micros() as u64;
        let late = match limits.current {
            Limit::Pacing => {
                let due = self.departure.max(self.since) + LATE;
                now.saturating_duration_since(due).as_micros() as u64
            }
            _ => 0,
        };
        limits.of(limits.current).micros += passed - late.min(passed);
        limits.device.micros += late.min(passed);
        limits
    }
}

impl Limits {
    fn of(&mut self, limit: Limit) -> &mut Limited {
        match limit {
            Limit::Application => &mut self.application,
            Limit::FlowControl => &mut self.flow_control,
            Limit::Congestion => &mut self.congestion,
            Limit::Pacing => &mut self.pacing,
            Limit::Path => &mut self.path,
            Limit::Device => &mut self.device,
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
    /// ECN works on it.
    pub ecn_capable: bool,
    /// It does not, or is off: packets go without marks.
    pub ecn_failed: bool,
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
    /// Datagrams that came when all was said: we had closed the connection, or the peer had. They count as received.
    pub datagram_closed: u64,
    /// Packets found in datagrams, whatever became of them.
    pub packet_found: u64,
    /// Of these, what has no number and told us something: a Retry, a stateless reset.
    pub packet_control: u64,
    /// Of these, kept until there are keys for them: found once more then.
    pub packet_deferred: u64,
    /// Times [`Connection::poll_transmit`] had something: a datagram, or a train of them.
    pub transmit_made: u64,
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

impl Counters {
    /// Packets found in datagrams of which nothing became. Always 0.
    pub fn packet_unaccounted(&self) -> u64 {
        let told = self.packet_received + self.packet_control + self.packet_deferred;
        let dropped = self.packet_duplicate_dropped
            + self.packet_forged_dropped
            + self.packet_keyless_dropped
            + self.packet_invalid_dropped;
        self.packet_found.abs_diff(told + dropped)
    }
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
            validated: path.validated,
            ack_delay_micros: self.ack_delay_micros,
            limits: self.limits.until(self.now),
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
            ecn_capable: path.ecn.is_capable(),
            ecn_failed: path.ecn.has_failed(),
        })
    }

    /// How many paths there are, the one in use included.
    pub fn path_count(&self) -> usize {
        1 + self.paths.others.len()
    }

    /// What one stream's sending side has come to; `None` if it has none, or is over.
    pub fn send_progress(&mut self, id: StreamId) -> Option<SendProgress> {
        self.streams.send_progress(id)
    }

    /// There may be more to send, and the caller has no memory for it, or no room where it goes.
    #[inline]
    pub fn on_no_room(&mut self, now: Timestamp) {
        self.limits.note(now, Limit::Device);
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
            if self.streams.is_flow_limited() { Limit::FlowControl } else { Limit::Application }
        } else if !self.may_transmit() {
            Limit::Path
        } else if !path.congestion.allows(usize::from(path.mtu.current())) {
            Limit::Congestion
        } else if let Some(departure) = path.congestion.departure().filter(|departure| *departure > now) {
            return self.limits.note_paced(now, departure);
        } else {
            // Keys are missing, or the caller's buffer was too small.
            return;
        };
        self.limits.note(now, limit);
    }
}

#[cfg(test)]
mod tests {
    use s2n_quic_core::time::{Clock, NoopClock};

    use super::*;

    #[test]
    fn a_caller_who_comes_late_is_told_from_pacing() {
        let start = NoopClock.get_time();
        let at = |millis: u64| start + Duration::from_millis(1000 + millis);
        let mut watch = LimitWatch::new(at(0));
        let told = |watch: &LimitWatch, now: u64| {
            let limits = watch.until(at(now));
            (limits.application.micros, limits.pacing.micros, limits.device.micros)
        };
        watch.note_paced(at(5), at(15));
        assert_eq!(told(&watch, 16), (5_000, 11_000, 0), "a timer may be late by a little");
        watch.note(at(16), Limit::Application);
        watch.note_paced(at(20), at(21));
        // The thread was elsewhere for a tenth of a second.
        watch.note_paced(at(121), at(122));
        watch.note(at(122), Limit::Congestion);
        assert_eq!(told(&watch, 130), (9_000, 15_000, 98_000));
        assert_eq!((watch.limits.pacing.count, watch.limits.current), (2, Limit::Congestion));
    }
}
