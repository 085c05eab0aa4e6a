//! CUBIC (RFC 9438), with slow start by HyStart++ (RFC 9406).

use std::time::Duration;

use s2n_quic_core::recovery::RttEstimator;
use s2n_quic_core::time::Timestamp;

use super::LossKind;
use super::hystart::{HyStart, Verdict};
use super::pacer::Pacer;
use super::slow_start_limit;

/// RFC 9438 §4.6: what is left of the window after congestion.
const BETA: f64 = 0.7;

/// RFC 9438 §5.1: aggressiveness, in segments per second cubed.
const C: f64 = 0.4;

/// RFC 9438 §4.3: growth of the window that Reno would have, per round trip.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// RFC 9438 §4.4: growth within one round trip is bounded by this.
const MAX_GROWTH: f64 = 1.5;

/// RFC 9002 §7.2: packets in the least window.
const MIN_WINDOW_PACKETS: f64 = 2.0;

/// Packets a window may have unused and still count as used: a burst that is yet to go.
const UNUSED_PACKETS: u32 = 3;

/// Pacing sends faster than a window a round trip, lest the pacer become the limit (RFC 9002 §7.7); in slow start twice,
/// since the window doubles meanwhile.
const PACING_GAIN: f64 = 1.25;
const SLOW_START_PACING_GAIN: f64 = 2.0;

/// Largest window, in bytes.
const MAX_WINDOW: f64 = (1_u32 << 30) as f64;

/// Congestion avoidance since the last congestion.
#[derive(Clone, Debug)]
struct Epoch {
    /// When it began; later by the time in which the window was not used.
    start: Timestamp,
    /// Window at the start.
    window: f64,
    /// Seconds until the window is back at `w_max`.
    k: f64,
    /// What Reno's window would be.
    reno: f64,
}

/// State of one path. Windows are in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    mtu: u16,
    window: f64,
    in_flight: u32,
    slow_start_threshold: f64,
    hystart: HyStart,
    /// Window before the last congestion.
    w_max: f64,
    epoch: Option<Epoch>,
    /// Losses of packets sent before this time have been reacted to (RFC 9002 §7.3.2).
    recovery_start: Option<Timestamp>,
    in_recovery: bool,
    /// RFC 9002 §7.3.2: one packet may go beyond the window when recovery begins.
    fast_retransmission: bool,
    /// Since when the window has not been used.
    unused_since: Option<Timestamp>,
    last_sent: Option<Timestamp>,
    pacer: Pacer,
}

impl Cubic {
    pub(super) fn new(mtu: u16, initial_window: Option<u32>) -> Self {
        Self {
            mtu,
            window: f64::from(initial_window.unwrap_or_else(|| slow_start_limit(mtu))),
            in_flight: 0,
            slow_start_threshold: f64::INFINITY,
            hystart: HyStart::default(),
            w_max: 0.0,
            epoch: None,
            recovery_start: None,
            in_recovery: false,
            fast_retransmission: false,
            unused_since: None,
            last_sent: None,
            pacer: Pacer::default(),
        }
    }

    #[inline]
    pub(super) fn window(&self) -> u32 {
        self.window as u32
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    #[inline]
    pub(super) fn allows(&self, size: usize) -> bool {
        self.in_flight as usize + size <= self.window as usize || self.fast_retransmission
    }

    #[inline]
    pub(super) fn departure(&self) -> Option<Timestamp> {
        self.pacer.departure()
    }

    pub(super) fn is_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }

    pub(super) fn state(&self) -> &'static str {
        match (self.in_recovery, self.is_slow_start()) {
            (true, _) => "recovery",
            (false, true) => "slow_start",
            (false, false) => "congestion_avoidance",
        }
    }

    #[inline]
    pub(super) fn on_sent(
        &mut self,
        now: Timestamp,
        bytes: usize,
        app_limited: Option<bool>,
        rtt: &RttEstimator,
    ) {
        self.in_flight = self.in_flight.saturating_add(bytes as u32);
        self.fast_retransmission = false;
        self.last_sent = Some(now);
        let unused = app_limited.unwrap_or(true) && self.has_room();
        match (unused, self.unused_since) {
            (true, None) => self.unused_since = Some(now),
            (false, Some(since)) => {
                // RFC 9438 §5.8: time without use is no time of growth.
                self.unused_since = None;
                if let Some(epoch) = &mut self.epoch {
                    epoch.start += now.saturating_duration_since(since);
                }
            }
            _ => {}
        }
        let gain = if self.is_slow_start() { SLOW_START_PACING_GAIN } else { PACING_GAIN };
        self.pacer.on_sent(now, bytes as u64, u64::from(self.mtu), self.window * gain, rtt.smoothed_rtt());
    }

    /// Is so much of the window free that it can't be what limits us? In slow start, up to half of it may be.
    fn has_room(&self) -> bool {
        let room = (self.window as u32).saturating_sub(self.in_flight);
        let slow_start = self.is_slow_start() && f64::from(self.in_flight) >= self.window / 2.0;
        !slow_start && room > UNUSED_PACKETS * u32::from(self.mtu)
    }

    #[inline]
    pub(super) fn on_rtt(&mut self, sent: Timestamp, rtt: &RttEstimator) {
        // RFC 9406 §4.3: for the first slow start only.
        if self.slow_start_threshold.is_infinite()
            && let Some(last_sent) = self.last_sent
            && self.hystart.on_rtt(sent, last_sent, rtt.latest_rtt()) == Verdict::Exit
        {
            self.slow_start_threshold = self.window;
        }
    }

    #[inline]
    pub(super) fn on_acked(&mut self, newest: Timestamp, bytes: u32, rtt: &RttEstimator, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if self.recovery_start.is_some_and(|start| newest <= start) {
            return;
        }
        self.in_recovery = false;
        // RFC 9002 §7.8.
        if self.unused_since.is_some() {
            return;
        }
        let acked = f64::from(bytes);
        self.window = if self.is_slow_start() {
            (self.window + self.hystart.growth(acked)).min(self.slow_start_threshold.max(self.window))
        } else {
            self.avoid(acked, rtt.smoothed_rtt(), now)
        }
        .min(MAX_WINDOW);
    }

    /// RFC 9438 §4.2 to §4.5.
    fn avoid(&mut self, acked: f64, rtt: Duration, now: Timestamp) -> f64 {
        let (mtu, window, w_max) = (f64::from(self.mtu), self.window, self.w_max);
        let epoch = self.epoch.get_or_insert_with(|| {
            // RFC 9438 §4.2; without congestion before, the plateau is here (§4.10).
            let k = if window < w_max { ((w_max - window) / mtu / C).cbrt() } else { 0.0 };
            Epoch { start: now, window, k, reno: window }
        });
        let origin = if epoch.k > 0.0 { w_max } else { epoch.window };
        let cubic = |t: f64| C * mtu * (t - epoch.k).powi(3) + origin;
        let t = now.saturating_duration_since(epoch.start).as_secs_f64();
        let alpha = if epoch.reno < w_max { ALPHA } else { 1.0 };
        epoch.reno += alpha * mtu * acked / window;
        if cubic(t) < epoch.reno {
            return window.max(epoch.reno);
        }
        let target = cubic(t + rtt.as_secs_f64()).clamp(window, window * MAX_GROWTH);
        window + (target - window) * acked / window
    }

    pub(super) fn on_lost(&mut self, sent: Timestamp, bytes: u32, kind: LossKind, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        match kind {
            LossKind::Probe => {}
            LossKind::Congestion => self.on_congestion(sent, now),
            LossKind::Persistent => {
                self.on_congestion(sent, now);
                self.window = self.min_window();
                self.epoch = None;
                self.recovery_start = None;
                self.in_recovery = false;
            }
        }
    }

    /// The path is congested, says the fate of a packet sent at `sent`.
    pub(super) fn on_congestion(&mut self, sent: Timestamp, now: Timestamp) {
        // RFC 9002 §7.3.1: slow start ends here. RFC 9002 §7.3.2: one reaction per round trip.
        if self.recovery_start.is_some_and(|start| sent <= start) {
            return;
        }
        self.recovery_start = Some(now);
        self.in_recovery = true;
        self.fast_retransmission = true;
        // RFC 9438 §4.7: a window that shrinks makes room for newcomers.
        self.w_max = if self.window < self.w_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(self.min_window());
        self.slow_start_threshold = self.window;
        self.epoch = None;
    }

    fn min_window(&self) -> f64 {
        MIN_WINDOW_PACKETS * f64::from(self.mtu)
    }

    pub(super) fn on_discarded(&mut self, bytes: u32) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Datagrams now have this size: the window keeps its number of packets.
    pub(super) fn on_mtu(&mut self, mtu: u16) {
        let scale = f64::from(mtu) / f64::from(self.mtu);
        self.mtu = mtu;
        self.window = (self.window * scale).max(self.min_window());
        self.w_max *= scale;
        if self.slow_start_threshold.is_finite() {
            self.slow_start_threshold *= scale;
        }
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::packet::number::PacketNumberSpace;
    use s2n_quic_core::time::{Clock, NoopClock};

    const MTU: u16 = 1200;

    struct World {
        cubic: Cubic,
        rtt: RttEstimator,
        now: Timestamp,
    }

    impl World {
        fn new(rtt: Duration) -> Self {
            let now = NoopClock.get_time() + Duration::from_secs(1);
            let mut estimator = RttEstimator::new(rtt);
            estimator.update_rtt(Duration::ZERO, rtt, now, true, PacketNumberSpace::ApplicationData);
            Self { cubic: Cubic::new(MTU, None), rtt: estimator, now }
        }

        /// Sends a window and has it acknowledged a round trip later.
        fn round(&mut self) {
            let sent = self.now;
            let mut packets = 0;
            while self.cubic.allows(usize::from(MTU)) {
                self.cubic.on_sent(sent, usize::from(MTU), Some(false), &self.rtt);
                packets += 1;
            }
            self.now += self.rtt.smoothed_rtt();
            for _ in 0..packets {
                self.cubic.on_rtt(sent, &self.rtt);
                self.cubic.on_acked(sent, u32::from(MTU), &self.rtt, self.now);
            }
        }

        fn lose(&mut self) {
            let sent = self.now;
            self.cubic.on_sent(sent, usize::from(MTU), Some(false), &self.rtt);
            self.now += self.rtt.smoothed_rtt();
            self.cubic.on_lost(sent, u32::from(MTU), LossKind::Congestion, self.now);
        }
    }

    #[test]
    fn slow_start_doubles_and_congestion_takes_three_tenths() {
        let mut world = World::new(Duration::from_millis(100));
        let first = world.cubic.window();
        world.round();
        assert_eq!(world.cubic.window(), 2 * first);
        for _ in 0..4 {
            world.round();
        }
        let before = world.cubic.window;
        world.lose();
        assert!((world.cubic.window / before - BETA).abs() < 1e-9);
        assert!(!world.cubic.is_slow_start());
        assert_eq!(world.cubic.state(), "recovery");
        // Losses of the same round trip count once.
        let sent = world.now - Duration::from_millis(1);
        world.cubic.on_lost(sent, 0, LossKind::Congestion, world.now);
        assert!((world.cubic.window / before - BETA).abs() < 1e-9);
        world.now += Duration::from_millis(1);
        world.round();
        assert_eq!(world.cubic.state(), "congestion_avoidance");
    }

    #[test]
    fn the_window_is_back_after_k_seconds() {
        let mut world = World::new(Duration::from_millis(100));
        for _ in 0..7 {
            world.round();
        }
        world.lose();
        world.now += Duration::from_millis(1);
        let (w_max, start) = (world.cubic.w_max, world.now);
        let k = ((w_max - world.cubic.window) / f64::from(MTU) / C).cbrt();
        while world.cubic.window < w_max * 0.995 {
            world.round();
        }
        let took = (world.now - start).as_secs_f64();
        assert!((took - k).abs() < 0.3 * k, "{took} s for {k}");
    }

    #[test]
    fn on_short_paths_it_is_no_slower_than_reno() {
        let mut world = World::new(Duration::from_millis(1));
        for _ in 0..3 {
            world.round();
        }
        world.lose();
        world.now += Duration::from_millis(1);
        let before = world.cubic.window;
        for _ in 0..100 {
            world.round();
        }
        let grown = (world.cubic.window - before) / f64::from(MTU);
        assert!(grown > 100.0 * ALPHA * 0.9, "{grown}");
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut world = World::new(Duration::from_millis(50));
        let first = world.cubic.window();
        for _ in 0..20 {
            let sent = world.now;
            world.cubic.on_sent(sent, 1000, Some(true), &world.rtt);
            world.now += Duration::from_millis(50);
            world.cubic.on_acked(sent, 1000, &world.rtt, world.now);
        }
        assert_eq!(world.cubic.window(), first);
    }

    #[test]
    fn persistent_congestion_leaves_two_packets() {
        let mut world = World::new(Duration::from_millis(50));
        for _ in 0..5 {
            world.round();
        }
        world.cubic.on_lost(world.now, 0, LossKind::Persistent, world.now);
        assert_eq!(world.cubic.window(), 2 * u32::from(MTU));
        assert!(world.cubic.is_slow_start());
        world.cubic.on_mtu(2400);
        assert_eq!(world.cubic.window(), 4800);
    }
}
