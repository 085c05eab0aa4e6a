//! What holds a connection back: how long each cause held, between two readings.

use serde::{Deserialize, Serialize};

use crate::{
    api::{BlockedBy, ConnectionState},
    reading::ConnectionReading,
};

/// How long, in microseconds and since its start, each cause kept a connection from sending more; and the one that does
/// now. As of the connection's last turn, the current one's time included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReading {
    /// The cause now.
    pub current: Limit,
    /// Times by cause, in the order of [`Limit`].
    pub micros: [u64; LIMITS],
}

/// What kept a connection from sending more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// There was no more to send.
    #[default]
    Application,
    /// The peer's flow control.
    FlowControl,
    /// The congestion window.
    Cwnd,
    /// Pacing.
    Pacing,
    /// The path: the peer's address is not proven yet, or there is no ID to send to.
    Path,
    /// No memory, or no room in the device.
    Frames,
}

const LIMITS: usize = 6;

/// A peer that holds acknowledgements back for longer than a round trip empties the window later than the network does.
const SLOW_ACKS: u64 = 1;

/// A connection that gets this many times as many bytes as it sends mostly receives.
const MOSTLY: u64 = 4;

/// The part of the time that congestion control holds a connection back for which its window is full, if that is why.
const FILLS: f64 = 0.1;

/// The part of its window that received bytes take when the reader is what the peer waits for.
const UNREAD_PART: u64 = 4;

impl LimitsReading {
    /// Microseconds by cause since an earlier reading, of `elapsed` in all.
    fn since(&self, earlier: &Self, elapsed_ns: u64) -> [u64; LIMITS] {
        let mut spent: [u64; LIMITS] =
            std::array::from_fn(|cause| self.micros[cause].saturating_sub(earlier.micros[cause]));
        // It has had no turn since: what held then still does.
        let told: u64 = spent.iter().sum();
        let untold = (elapsed_ns / 1000).saturating_sub(told);
        spent[self.current as usize] += if told == 0 { untold.max(1) } else { untold };
        spent
    }
}

/// How long each cause held a connection back between two readings, longest first, as shares of the time.
pub(crate) fn shares(
    now: &ConnectionReading,
    before: &ConnectionReading,
    elapsed_ns: u64,
) -> Vec<(BlockedBy, f64)> {
    let spent = now.limits.since(&before.limits, elapsed_ns);
    let total = spent.iter().sum::<u64>().max(1) as f64;
    let causes =
        [Limit::Application, Limit::FlowControl, Limit::Cwnd, Limit::Pacing, Limit::Path, Limit::Frames];
    let mut shares: Vec<_> = causes
        .into_iter()
        .filter(|limit| spent[*limit as usize] > 0)
        .map(|limit| (name(limit, now, before), spent[limit as usize] as f64 / total))
        .collect();
    shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    shares
}

/// A window that is spread over the round trip by pacing is full for a part of it only, and is why all the same: pacing
/// sends it in four fifths of a round trip (RFC 9002 §7.7). Pacing alone is the cause where the window never fills.
fn principal(shares: &[(BlockedBy, f64)]) -> BlockedBy {
    let share = |cause| shares.iter().find(|(it, _)| *it == cause).map_or(0.0, |(_, share)| *share);
    let window = [BlockedBy::Cwnd, BlockedBy::AckDelay].into_iter().find(|it| share(*it) > 0.0);
    let (pacing, full) = (share(BlockedBy::Pacing), window.map_or(0.0, share));
    let controlled = match window {
        Some(window) if full >= FILLS * (pacing + full) => window,
        _ => BlockedBy::Pacing,
    };
    let others = shares.iter().filter(|(it, _)| *it != BlockedBy::Pacing && Some(*it) != window);
    let most = others.max_by(|(_, a), (_, b)| a.total_cmp(b));
    match most {
        Some((cause, share)) if *share >= pacing + full => *cause,
        None if pacing + full == 0.0 => BlockedBy::Idle,
        _ => controlled,
    }
}

/// What held it back most of that time.
pub(crate) fn blocked_by(now: &ConnectionReading, before: &ConnectionReading, elapsed_ns: u64) -> BlockedBy {
    if now.state != ConnectionState::Open {
        return BlockedBy::Idle;
    }
    principal(&shares(now, before, elapsed_ns))
}

/// A cause for people: what the machine calls a lack of data may be the peer's, or a reader's.
fn name(limit: Limit, now: &ConnectionReading, before: &ConnectionReading) -> BlockedBy {
    let grown = |counter: &str| now.counter(counter).saturating_sub(before.counter(counter));
    match limit {
        Limit::FlowControl => BlockedBy::FlowControl,
        Limit::Cwnd if now.ack_delay_ns > SLOW_ACKS * now.rtt_ns => BlockedBy::AckDelay,
        Limit::Cwnd => BlockedBy::Cwnd,
        Limit::Pacing => BlockedBy::Pacing,
        Limit::Path => BlockedBy::Path,
        Limit::Frames => BlockedBy::Frames,
        Limit::Application if now.waits_for_streams => BlockedBy::FlowControl,
        Limit::Application if now.unread_bytes * UNREAD_PART > now.receive_window_bytes => BlockedBy::Reader,
        Limit::Application if grown("byte_received") > MOSTLY * grown("byte_sent") => BlockedBy::Peer,
        Limit::Application if grown("byte_sent") > 0 => BlockedBy::Application,
        Limit::Application => BlockedBy::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counters;

    const SECOND: u64 = 1_000_000_000;

    fn reading(current: Limit, micros: [u64; LIMITS]) -> ConnectionReading {
        ConnectionReading {
            state: ConnectionState::Open,
            rtt_ns: 10_000_000,
            receive_window_bytes: 1 << 20,
            limits: LimitsReading { current, micros },
            ..ConnectionReading::default()
        }
    }

    #[test]
    fn the_cause_that_held_longest_is_named_and_a_connection_at_rest_waits_for_what_it_waited_for() {
        let before = reading(Limit::Application, [5_000, 0, 0, 0, 0, 0]);
        let now = reading(Limit::Cwnd, [105_000, 0, 300_000, 600_000, 0, 0]);
        assert_eq!(blocked_by(&now, &before, SECOND), BlockedBy::Cwnd, "pacing spreads the window");
        let spread = reading(Limit::Pacing, [105_000, 0, 30_000, 870_000, 0, 0]);
        assert_eq!(blocked_by(&spread, &before, SECOND), BlockedBy::Pacing);
        let busy = reading(Limit::Frames, [5_000, 0, 200_000, 200_000, 0, 600_000]);
        assert_eq!(blocked_by(&busy, &before, SECOND), BlockedBy::Frames);
        let shares = shares(&now, &before, SECOND);
        let causes: Vec<_> = shares.iter().map(|(cause, share)| (*cause, (share * 10.0).round())).collect();
        assert_eq!(causes, [(BlockedBy::Pacing, 6.0), (BlockedBy::Cwnd, 3.0), (BlockedBy::Idle, 1.0)]);
        // Nothing has happened since.
        assert_eq!(blocked_by(&now, &now, SECOND), BlockedBy::Cwnd);
        let stuck = reading(Limit::FlowControl, [0; LIMITS]);
        assert_eq!(blocked_by(&stuck, &stuck, SECOND), BlockedBy::FlowControl);
    }

    #[test]
    fn a_full_window_is_the_acknowledgements_fault_if_they_are_held_back_for_longer_than_a_round_trip() {
        let full = reading(Limit::Cwnd, [0; LIMITS]);
        assert_eq!(blocked_by(&full, &full, SECOND), BlockedBy::Cwnd);
        let late = ConnectionReading { ack_delay_ns: 25_000_000, ..full };
        assert_eq!(blocked_by(&late, &late, SECOND), BlockedBy::AckDelay);
    }

    #[test]
    fn without_data_of_its_own_it_waits_for_its_application_its_reader_its_peer_or_for_nothing() {
        let bytes =
            |sent: u64, received: u64| Counters::from([("byte_sent", sent), ("byte_received", received)]);
        let before = reading(Limit::Application, [0; LIMITS]);
        let after = |sent, received| ConnectionReading { counters: bytes(sent, received), ..before.clone() };
        assert_eq!(blocked_by(&after(0, 0), &before, SECOND), BlockedBy::Idle);
        assert_eq!(blocked_by(&after(5000, 100), &before, SECOND), BlockedBy::Application);
        assert_eq!(blocked_by(&after(100, 5000), &before, SECOND), BlockedBy::Peer);
        let unread = ConnectionReading { unread_bytes: 1 << 19, ..after(100, 5000) };
        assert_eq!(blocked_by(&unread, &before, SECOND), BlockedBy::Reader);
        let waits = ConnectionReading { waits_for_streams: true, ..after(0, 0) };
        assert_eq!(blocked_by(&waits, &before, SECOND), BlockedBy::FlowControl);
    }
}
