//! s2n-quic-core's BBR version 2, which wants back what it knew when a packet was sent.

use std::collections::VecDeque;

use num_rational::Ratio;
use s2n_quic_core::event::builder::{BbrState, SlowStartExitCause};
use s2n_quic_core::inet;
use s2n_quic_core::path::mtu;
use s2n_quic_core::recovery::RttEstimator;
use s2n_quic_core::recovery::bandwidth::{Bandwidth, PacketInfo, RateSample};
use s2n_quic_core::recovery::bbr::{self, BbrCongestionController};
use s2n_quic_core::recovery::congestion_controller::{CongestionController, Endpoint, PathInfo, Publisher};
use s2n_quic_core::time::Timestamp;

use super::LossKind;
use crate::random::Random;

/// Times of sending remembered. A train of packets has one; with more in flight the oldest are taken for the one after.
const MAX_REMEMBERED: usize = 16 * 1024;

/// State of one path.
#[derive(Clone, Debug)]
pub(crate) struct Bbr {
    controller: BbrCongestionController,
    /// What the controller knew at each time of sending, in order.
    sent: VecDeque<(Timestamp, PacketInfo)>,
    /// When the last burst of losses began: packets sent before are of the same.
    burst_start: Option<Timestamp>,
}

impl Bbr {
    pub(super) fn new(mtu: u16, initial_window: Option<u32>) -> Self {
        let mut builder = bbr::builder::Builder::default();
        if let Some(window) = initial_window {
            builder = builder.with_initial_congestion_window(window);
        }
        let address = inet::SocketAddress::IpV4(Default::default());
        let mut controller =
            builder.build().new_congestion_controller(PathInfo::new(&mtu::Config::MIN, &address));
        controller.on_mtu_update(mtu, &mut Silent);
        Self { controller, sent: VecDeque::new(), burst_start: None }
    }

    pub(super) fn window(&self) -> u32 {
        self.controller.congestion_window()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.controller.bytes_in_flight()
    }

    pub(super) fn allows(&self, size: usize) -> bool {
        self.in_flight() as usize + size <= self.window() as usize
            || self.controller.requires_fast_retransmission()
    }

    pub(super) fn departure(&self) -> Option<Timestamp> {
        self.controller.earliest_departure_time()
    }

    pub(super) fn on_sent(
        &mut self,
        now: Timestamp,
        bytes: usize,
        app_limited: Option<bool>,
        rtt: &RttEstimator,
    ) {
        if self.in_flight() == 0 {
            self.sent.clear();
        }
        let info = self.controller.on_packet_sent(now, bytes, app_limited, rtt, &mut Silent);
        match self.sent.back_mut() {
            Some(last) if last.0 == now => last.1 = info,
            _ => {
                if self.sent.len() == MAX_REMEMBERED {
                    self.sent.pop_front();
                }
                self.sent.push_back((now, info));
            }
        }
    }

    /// What the controller knew when a packet was sent.
    fn info(&self, sent: Timestamp) -> Option<PacketInfo> {
        let at = self.sent.partition_point(|(time, _)| *time < sent);
        self.sent.get(at).or(self.sent.back()).map(|(_, info)| *info)
    }

    pub(super) fn on_rtt(&mut self, sent: Timestamp, now: Timestamp, rtt: &RttEstimator) {
        self.controller.on_rtt_update(sent, now, rtt, &mut Silent);
    }

    pub(super) fn on_acked(
        &mut self,
        newest: Timestamp,
        bytes: u32,
        rtt: &RttEstimator,
        random: &mut Random,
        now: Timestamp,
    ) {
        let Some(info) = self.info(newest) else { return self.on_discarded(bytes) };
        self.controller.on_ack(newest, bytes as usize, info, rtt, random, now, &mut Silent);
        // Anything much older than what was just acknowledged is acknowledged or lost too.
        let keep = rtt.smoothed_rtt() * 4;
        while self.sent.len() > 1 && self.sent.front().is_some_and(|(time, _)| *time + keep < newest) {
            self.sent.pop_front();
        }
    }

    pub(super) fn on_lost(
        &mut self,
        sent: Timestamp,
        bytes: u32,
        kind: LossKind,
        random: &mut Random,
        now: Timestamp,
    ) {
        let info = self.info(sent).filter(|_| kind != LossKind::Probe && bytes > 0);
        let Some(info) = info else { return self.on_discarded(bytes) };
        let new_burst = self.burst_start.is_none_or(|start| sent > start);
        if new_burst {
            self.burst_start = Some(now);
        }
        let persistent = kind == LossKind::Persistent;
        self.controller.on_packet_lost(bytes, info, persistent, new_burst, random, now, &mut Silent);
    }

    pub(super) fn on_congestion_marked(&mut self, count: u64, now: Timestamp) {
        self.controller.on_explicit_congestion(count, now, &mut Silent);
    }

    pub(super) fn on_discarded(&mut self, bytes: u32) {
        self.controller.on_packet_discarded(bytes as usize, &mut Silent);
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.controller.on_mtu_update(mtu, &mut Silent);
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
