//! Path MTU discovery by probing (RFC 8899, RFC 9000 §14.3).
//!
//! s2n-quic-core's controller searches too, but from Ethernet's size upwards and bound to its own path, frame and event
//! types; what is needed here is a search over sizes.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;

use crate::config::MIN_UDP_PAYLOAD;

/// Probes of one size before it is taken not to pass (RFC 8899 §5.1.2, MAX_PROBES).
const MAX_PROBES: u8 = 3;

/// The search ends when it is this close, in bytes: less than what a probe costs is not worth another one.
const THRESHOLD: u16 = 20;

/// After this time larger sizes are tried once more (RFC 8899 §5.1.1, PMTU_RAISE_TIMER).
const RAISE_INTERVAL: Duration = Duration::from_secs(600);

/// Rest after a black hole before the size is raised again.
const BLACK_HOLE_INTERVAL: Duration = Duration::from_secs(60);

/// Rounds in which full-sized datagrams were lost, with none of that size acknowledged in between, after which the path is
/// taken to no longer carry them (RFC 8899 §4.3). Rounds and not datagrams: a full queue or a link that is down for a
/// moment takes many at once, of whatever size.
const BLACK_HOLE_ROUNDS: u8 = 4;

/// Sizes tried first, as they are what paths mostly have: Ethernet less the headers of IPv4 and IPv6, and jumbo frames
/// of 9000 bytes less the same.
const COMMON: [u16; 4] = [1472, 1452, 8972, 8952];

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// Probing is off, or not yet allowed.
    Off,
    /// A probe of `size` is to be sent.
    Wanted { size: u16 },
    /// A probe is out.
    Probing { size: u16, number: u64 },
    /// Nothing to do until then.
    Rest { until: Timestamp },
}

/// The datagram size of one path, and the search for a larger one.
#[derive(Clone, Debug)]
pub(crate) struct Mtu {
    state: State,
    /// Size that is known to pass.
    current: u16,
    /// Size known to pass everywhere on this path: what it started with.
    base: u16,
    /// Largest size to try at all.
    limit: u16,
    /// Smallest size found not to pass, or `limit` + 1.
    ceiling: u16,
    attempts: u8,
    /// Rounds with losses, since a full-sized datagram was acknowledged.
    lossy_rounds: u8,
    /// The first packet of the round after the last one counted: whatever was under way when a loss was noticed is of
    /// that loss's round.
    next_round: u64,
}

impl Mtu {
    /// A path that starts with datagrams of `initial` bytes; probes go up to `limit`.
    pub(crate) fn new(initial: u16, limit: u16) -> Self {
        let current = initial.min(limit).max(MIN_UDP_PAYLOAD);
        Self {
            state: State::Off,
            current,
            base: current,
            limit: limit.max(current),
            ceiling: limit.max(current).saturating_add(1),
            attempts: 0,
            lossy_rounds: 0,
            next_round: 0,
        }
    }

    /// The same size for a path that is most likely the same. The search begins anew.
    pub(crate) fn continued(&self) -> Self {
        Self { state: State::Off, attempts: 0, lossy_rounds: 0, ..self.clone() }
    }

    /// Bytes of the largest datagram to send.
    #[inline]
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// Bytes that pass everywhere on this path, as far as anybody knows.
    #[inline]
    pub(crate) fn base(&self) -> u16 {
        self.base
    }

    /// The peer takes datagrams of at most this size (max_udp_payload_size, RFC 9000 §18.2), or our device sends no
    /// larger ones.
    pub(crate) fn limit_to(&mut self, most: u64) {
        let most = u16::try_from(most).unwrap_or(u16::MAX).max(MIN_UDP_PAYLOAD);
        self.limit = self.limit.min(most);
        self.ceiling = self.ceiling.min(self.limit.saturating_add(1));
        self.current = self.current.min(self.limit);
        self.base = self.base.min(self.limit);
    }

    /// From now on at most this size may be tried: another one than before. Says the new size if it changed.
    pub(crate) fn on_limit(&mut self, most: u64, now: Timestamp) -> Option<u16> {
        let before = (self.current, self.limit);
        let most = u16::try_from(most).unwrap_or(u16::MAX).max(MIN_UDP_PAYLOAD);
        if most > self.limit {
            self.limit = most;
            self.ceiling = most.saturating_add(1);
        }
        self.limit_to(most.into());
        if self.limit != before.1 && self.state != State::Off {
            // A probe that is out may be of a size that no longer passes: what becomes of it says nothing.
            self.attempts = 0;
            self.lossy_rounds = 0;
            self.search(now);
        }
        (self.current != before.0).then_some(self.current)
    }

    /// Probing may begin: the handshake is confirmed or the path validated.
    pub(crate) fn start(&mut self, now: Timestamp) {
        if self.state == State::Off {
            self.search(now);
        }
    }

    /// The size of the probe to send now.
    #[inline]
    pub(crate) fn probe(&self) -> Option<u16> {
        match self.state {
            State::Wanted { size } => Some(size),
            _ => None,
        }
    }

    /// The probe went out in this packet.
    pub(crate) fn on_probe_sent(&mut self, number: u64) {
        if let State::Wanted { size } = self.state {
            self.attempts += 1;
            self.state = State::Probing { size, number };
        }
    }

    /// Packets were acknowledged, the largest of them of `size` bytes.
    #[inline]
    pub(crate) fn on_acked(&mut self, size: u16) {
        if size >= self.current {
            self.lossy_rounds = 0;
        }
    }

    /// The probe was acknowledged. Says the new size if it changed.
    pub(crate) fn on_probe_acked(&mut self, number: u64, now: Timestamp) -> Option<u16> {
        match self.state {
            State::Probing { size, number: probe } if probe == number => {
                self.current = size;
                self.lossy_rounds = 0;
                self.attempts = 0;
                self.search(now);
                Some(size)
            }
            _ => None,
        }
    }

    /// A packet was lost that was no probe: of `size` bytes, its number, and the next one's to be sent. Says the new size
    /// if it changed.
    pub(crate) fn on_lost(&mut self, size: u16, number: u64, next: u64, now: Timestamp) -> Option<u16> {
        // Larger ones are from before the size was lowered.
        if size <= self.base || size != self.current || number < self.next_round {
            return None;
        }
        self.next_round = next;
        self.lossy_rounds += 1;
        if self.lossy_rounds < BLACK_HOLE_ROUNDS {
            return None;
        }
        // RFC 8899 §4.3: back to the base, and probe from there later.
        self.lossy_rounds = 0;
        self.attempts = 0;
        self.current = self.base;
        self.ceiling = self.limit.saturating_add(1);
        self.state = State::Rest { until: now + BLACK_HOLE_INTERVAL };
        Some(self.current)
    }

    /// The probe was lost.
    pub(crate) fn on_probe_lost(&mut self, number: u64, now: Timestamp) {
        match self.state {
            State::Probing { size, number: probe } if probe == number => {
                if self.attempts < MAX_PROBES {
                    self.state = State::Wanted { size };
                } else {
                    self.attempts = 0;
                    self.ceiling = size;
                    self.search(now);
                }
            }
            _ => {}
        }
    }

    /// When [`on_timeout`](Self::on_timeout) is due.
    #[inline]
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::Rest { until } if self.current < self.limit => Some(until),
            _ => None,
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Timestamp) {
        if self.timeout().is_some_and(|until| until <= now) {
            self.ceiling = self.limit.saturating_add(1);
            self.attempts = 0;
            self.search(now);
        }
    }

    /// Chooses the next size.
    fn search(&mut self, now: Timestamp) {
        let largest = self.ceiling - 1;
        if largest <= self.current
            || self.ceiling != self.limit.saturating_add(1) && largest - self.current < THRESHOLD
        {
            self.state = State::Rest { until: now + RAISE_INTERVAL };
            return;
        }
        // The very largest first: where the device's MTU is the path's, as in a data centre, one probe is enough.
        let size = if self.ceiling == self.limit.saturating_add(1) {
            self.limit
        } else {
            let middle = self.current + (largest - self.current).div_ceil(2);
            let common = COMMON.into_iter().filter(|size| (self.current + 1..=largest).contains(size)).max();
            common.unwrap_or(middle)
        };
        self.state = State::Wanted { size };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    /// Searches on a path that carries `path` bytes; gives the size found and the probes it took.
    fn discover(limit: u16, path: u16) -> (u16, u64) {
        let mut mtu = Mtu::new(1200, limit);
        let now = NoopClock.get_time();
        mtu.start(now);
        let mut number = 0;
        while let Some(size) = mtu.probe() {
            mtu.on_probe_sent(number);
            if size <= path {
                assert_eq!(mtu.on_probe_acked(number, now), Some(size));
            } else {
                mtu.on_probe_lost(number, now);
            }
            number += 1;
            assert!(number < 100);
        }
        (mtu.current(), number)
    }

    #[test]
    fn the_search_ends_close_below_the_path() {
        for limit in [1200, 1210, 1472, 8972, 65527] {
            for path in (1200..9100).step_by(7).chain([65000]) {
                let (found, _) = discover(limit, path);
                assert!(found <= path.min(limit));
                assert!(found + THRESHOLD >= path.min(limit), "limit {limit}, path {path}: {found}");
            }
        }
        assert_eq!(discover(1472, 1472), (1472, 1));
        assert_eq!(discover(8972, 8972), (8972, 1));
        assert_eq!(discover(8972, 1472).0, 1472);
    }

    #[test]
    fn a_black_hole_is_left_and_tried_again_later() {
        let mut mtu = Mtu::new(1200, 1472);
        let now = NoopClock.get_time();
        mtu.start(now);
        mtu.on_probe_sent(7);
        assert_eq!(mtu.on_probe_acked(7, now), Some(1472));
        assert_eq!(mtu.on_lost(1472, 10, 20, now), None);
        assert_eq!(mtu.on_lost(1472, 20, 30, now), None);
        mtu.on_acked(1472);
        for round in 3..6 {
            // However many are lost of one round.
            for number in round * 10..(round + 1) * 10 {
                assert_eq!(mtu.on_lost(1472, number, (round + 1) * 10, now), None);
            }
        }
        assert_eq!(mtu.on_lost(1472, 60, 70, now), Some(1200));
        assert_eq!(mtu.probe(), None);
        let later = mtu.timeout().unwrap();
        mtu.on_timeout(later);
        assert_eq!(mtu.probe(), Some(1472));
    }

    #[test]
    fn another_limit_clamps_at_once_and_a_higher_one_is_searched() {
        let now = NoopClock.get_time();
        let mut mtu = Mtu::new(1200, 9000);
        mtu.start(now);
        mtu.on_probe_sent(1);
        assert_eq!(mtu.on_probe_acked(1, now), Some(9000));
        assert_eq!(mtu.on_limit(1472, now), Some(1472));
        assert_eq!((mtu.current(), mtu.probe()), (1472, None));
        assert_eq!(mtu.on_limit(1472, now), None);
        for number in 0..=u64::from(BLACK_HOLE_ROUNDS) {
            assert_eq!(mtu.on_lost(9000, number, number + 1, now), None, "it was sent before");
        }
        assert_eq!(mtu.on_limit(2972, now), None, "a larger size must pass first");
        assert_eq!((mtu.current(), mtu.probe()), (1472, Some(2972)));
        mtu.on_probe_sent(2);
        // Lower again, while that probe is out: it is tried no more, whatever becomes of it.
        assert_eq!(mtu.on_limit(1400, now), Some(1400));
        mtu.on_probe_lost(2, now);
        assert_eq!((mtu.current(), mtu.probe()), (1400, None));
    }

    #[test]
    fn sizes_beyond_what_the_device_sends_are_not_tried() {
        let now = NoopClock.get_time();
        let mut mtu = Mtu::new(1200, 9000);
        mtu.limit_to(1452);
        mtu.start(now);
        assert_eq!(mtu.probe(), Some(1452));
        mtu.limit_to(100);
        assert_eq!(mtu.current(), MIN_UDP_PAYLOAD);
    }
}
