//! Congestion control of one path: s2n-quic-core's CUBIC behind the few calls the connection makes.

use num_rational::Ratio;
use s2n_quic_core::event::builder::{BbrState, SlowStartExitCause};
use s2n_quic_core::inet;
use s2n_quic_core::path::mtu;
use s2n_quic_core::recovery::bandwidth::{Bandwidth, RateSample};
use s2n_quic_core::recovery::congestion_controller::{CongestionController, Endpoint, PathInfo, Publisher};
use s2n_quic_core::recovery::{CubicCongestionController, RttEstimator, cubic};
use s2n_quic_core::time::Timestamp;

use crate::config::TransportConfig;
use crate::random::Random;

/// How the loss of a packet is to be taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum LossKind {
    /// A sign of congestion.
    Congestion,
    /// So many in a row that the path is taken to have changed (RFC 9002 §7.6).
    Persistent,
    /// None of the controller's business: a path MTU probe (RFC 9000 §14.4).
    Probe,
}

/// The congestion controller of a path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    cubic: CubicCongestionController,
    /// Losses of packets sent before this time have been reacted to (RFC 9002 §7.3.2).
    recovery_start: Option<Timestamp>,
    pacing: bool,
    /// A packet was sent. The controller does not take round-trip times before.
    has_sent: bool,
}

impl Congestion {
    pub(crate) fn new(config: &TransportConfig, datagram_size: u16) -> Self {
        let mut cubic = match config.initial_window {
            None => CubicCongestionController::new(datagram_size, Default::default()),
            Some(window) => {
                // The only way to a window of one's own. It begins with the smallest datagrams, whatever the address.
                let mut endpoint =
                    cubic::builder::Builder::default().with_initial_congestion_window(window).build();
                let address = inet::SocketAddress::IpV4(Default::default());
                endpoint.new_congestion_controller(PathInfo::new(&mtu::Config::MIN, &address))
            }
        };
        if config.initial_window.is_some() {
            cubic.on_mtu_update(datagram_size, &mut Silent);
        }
        Self { cubic, recovery_start: None, pacing: config.pacing, has_sent: false }
    }

    /// The same state for a path that is most likely the same, with nothing in flight on it.
    pub(crate) fn continued(&self) -> Self {
        let mut this = self.clone();
        this.cubic.on_packet_discarded(this.cubic.bytes_in_flight() as usize, &mut Silent);
        this
    }

    /// Bytes that may be in flight.
    #[inline]
    pub(crate) fn window(&self) -> u32 {
        self.cubic.congestion_window()
    }

    /// Bytes that are.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.cubic.bytes_in_flight()
    }

    /// May a datagram of `size` bytes be sent?
    #[inline]
    pub(crate) fn allows(&self, size: usize) -> bool {
        self.cubic.bytes_in_flight() as usize + size <= self.cubic.congestion_window() as usize
            || self.cubic.requires_fast_retransmission()
    }

    /// The time before which pacing wants nothing sent.
    #[inline]
    pub(crate) fn departure(&self) -> Option<Timestamp> {
        if self.pacing { self.cubic.earliest_departure_time() } else { None }
    }

    /// Was a packet ever sent under this controller?
    #[inline]
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// A packet of `bytes` was sent. `app_limited`: there was no more to send; `None` in the handshake.
    #[inline]
    pub(crate) fn on_sent(
        &mut self,
        now: Timestamp,
        bytes: usize,
        app_limited: Option<bool>,
        rtt: &RttEstimator,
    ) {
        self.has_sent = true;
        self.cubic.on_packet_sent(now, bytes, app_limited, rtt, &mut Silent);
    }

    /// A new round-trip time sample, of a packet sent at `sent`.
    #[inline]
    pub(crate) fn on_rtt(&mut self, sent: Timestamp, now: Timestamp, rtt: &RttEstimator) {
        self.cubic.on_rtt_update(sent, now, rtt, &mut Silent);
    }

    /// `bytes` were acknowledged, the newest of them sent at `newest`.
    #[inline]
    pub(crate) fn on_acked(
        &mut self,
        newest: Timestamp,
        bytes: usize,
        rtt: &RttEstimator,
        random: &mut Random,
        now: Timestamp,
    ) {
        let bytes = bytes.min(self.in_flight() as usize);
        self.cubic.on_ack(newest, bytes, (), rtt, random, now, &mut Silent);
    }

    /// A packet of `bytes`, sent at `sent`, is lost.
    pub(crate) fn on_lost(
        &mut self,
        sent: Timestamp,
        bytes: u16,
        kind: LossKind,
        random: &mut Random,
        now: Timestamp,
    ) {
        // RFC 9002 §7.3.2: one reaction per round trip. The controller itself only knows whether the last recovery
        // period is over, not which losses belong to it.
        let old = self.recovery_start.is_some_and(|start| sent <= start);
        let counted = self.counted(bytes);
        if kind == LossKind::Probe || old && kind != LossKind::Persistent || counted == 0 {
            self.on_discarded(bytes);
            return;
        }
        self.recovery_start = Some(now);
        self.cubic.on_packet_lost(counted, (), kind == LossKind::Persistent, true, random, now, &mut Silent);
    }

    /// The peer reports congestion marks on packets, the newest of them sent at `sent`.
    pub(crate) fn on_congestion_marked(&mut self, sent: Timestamp, count: u64, now: Timestamp) {
        if self.recovery_start.is_none_or(|start| sent > start) {
            self.recovery_start = Some(now);
            self.cubic.on_explicit_congestion(count, now, &mut Silent);
        }
    }

    /// A packet of `bytes` is no longer in flight, for reasons that say nothing about the path.
    pub(crate) fn on_discarded(&mut self, bytes: u16) {
        self.cubic.on_packet_discarded(self.counted(bytes) as usize, &mut Silent);
    }

    /// How many of a packet's bytes this controller counts as in flight: none of those sent before it took over
    /// the path, and their news must not take from the count of others.
    fn counted(&self, bytes: u16) -> u32 {
        u32::from(bytes).min(self.in_flight())
    }

    /// Datagrams now have this size.
    pub(crate) fn on_mtu(&mut self, datagram_size: u16) {
        self.cubic.on_mtu_update(datagram_size, &mut Silent);
    }
}

/// Nobody listens to the controller's events.
struct Silent;

impl Publisher for Silent {
    #[inline]
    fn on_slow_start_exited(&mut self, _: SlowStartExitCause, _: u32) {}
    #[inline]
    fn on_delivery_rate_sampled(&mut self, _: RateSample) {}
    #[inline]
    fn on_pacing_rate_updated(&mut self, _: Bandwidth, _: u32, _: Ratio<u64>) {}
    #[inline]
    fn on_bbr_state_changed(&mut self, _: BbrState) {}
}
