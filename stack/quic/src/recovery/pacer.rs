//! Pacing (RFC 9002 §7.7): packets go out in small bursts, spread over the round trip.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;

/// Datagrams of one burst at least: RFC 9002 §7.7 allows as many as of the initial window.
const BURST_PACKETS: u64 = 10;

/// Time a burst may cover. At high rates a timer for every ten packets would cost more than all else.
const BURST_TIME: Duration = Duration::from_micros(500);

/// Bytes of a burst at most: what the shallowest buffers of switches hold for one port.
const MAX_BURST: u64 = 64 * 1024;

/// Decides when the next burst may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacer {
    /// Bytes left of the burst under way.
    credit: u64,
    /// When it began.
    start: Option<Timestamp>,
    /// When its time is over, going by the rate it began with.
    end: Option<Timestamp>,
    /// It is used up: when the next may go.
    next: Option<Timestamp>,
}

impl Pacer {
    /// The time before which nothing should be sent.
    #[inline]
    pub(super) fn departure(&self) -> Option<Timestamp> {
        if self.credit > 0 { None } else { self.next }
    }

    /// A packet of `bytes` is sent, at a rate of `window` bytes in the time of `rtt`.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Timestamp, bytes: u64, mtu: u64, window: f64, rtt: Duration) {
        if self.credit == 0 || self.end.is_some_and(|end| end <= now) {
            let (burst, interval) = Self::burst(mtu, window, rtt);
            // Who comes late by less than a burst makes up for it.
            let due = self.next.filter(|&next| now.saturating_duration_since(next) < interval).unwrap_or(now);
            self.credit = burst;
            self.start = Some(due);
            self.end = Some(due + interval);
        }
        self.credit = self.credit.saturating_sub(bytes);
        if self.credit == 0 {
            // By the rate as it is now: what was assumed before the first sample may be far off.
            let (_, interval) = Self::burst(mtu, window, rtt);
            self.next = self.start.map(|start| start + interval);
        }
    }

    /// Bytes of a burst, and the time it stands for.
    fn burst(mtu: u64, window: f64, rtt: Duration) -> (u64, Duration) {
        let rate = window / rtt.as_secs_f64().max(1e-6);
        let timed = (rate * BURST_TIME.as_secs_f64()) as u64;
        let burst = timed.min(MAX_BURST).max(BURST_PACKETS * mtu);
        (burst, Duration::from_secs_f64(burst as f64 / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    /// Bytes sent in a second by who asks `late` after the time it was told.
    fn rate(window: f64, rtt: Duration, late: Duration) -> f64 {
        let mut pacer = Pacer::default();
        let start = NoopClock.get_time() + Duration::from_secs(1);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(1) {
            while pacer.departure().is_none_or(|at| at <= now) {
                pacer.on_sent(now, 1400, 1400, window, rtt);
                sent += 1400;
            }
            now = pacer.departure().unwrap() + late;
        }
        sent as f64
    }

    #[test]
    fn the_rate_is_held_also_by_who_is_late() {
        for (window, rtt) in [(100_000.0, 100), (10_000_000.0, 100), (1_250_000.0, 1)] {
            let rtt = Duration::from_millis(rtt);
            let wanted = window / rtt.as_secs_f64();
            for late in [Duration::ZERO, Duration::from_micros(30)] {
                let got = rate(window, rtt, late);
                assert!((got / wanted - 1.0).abs() < 0.12, "{got} of {wanted}, late by {late:?}");
            }
        }
    }

    #[test]
    fn a_rate_assumed_too_low_holds_nothing_back_once_it_is_known() {
        let mut pacer = Pacer::default();
        let start = NoopClock.get_time() + Duration::from_secs(1);
        pacer.on_sent(start, 1200, 1200, 12_000.0, Duration::from_millis(333));
        let later = start + Duration::from_millis(20);
        for _ in 0..9 {
            pacer.on_sent(later, 1200, 1200, 12_000.0, Duration::from_millis(10));
        }
        assert!(pacer.departure().unwrap() <= later);
    }
}
