//! Congestion control of one path: the algorithm chosen, behind the few calls the connection makes.

use s2n_quic_core::recovery::RttEstimator;
use s2n_quic_core::time::Timestamp;

use super::bbr::Bbr;
use super::cubic::Cubic;
use crate::config::{self, TransportConfig};
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

/// Bytes in flight allowed at the start (RFC 9002 §7.2).
pub(super) fn slow_start_limit(datagram_size: u16) -> u32 {
    let size = u32::from(datagram_size);
    (10 * size).min(14720.max(2 * size))
}

/// The algorithms (see [`config::Congestion`]).
#[derive(Clone, Debug)]
enum Algorithm {
    Cubic(Cubic),
    /// Large, and not the default.
    Bbr(Box<Bbr>),
}

/// Calls the same of either algorithm.
macro_rules! either {
    ($self:expr, $algorithm:ident => $call:expr) => {
        match $self {
            Algorithm::Cubic($algorithm) => $call,
            Algorithm::Bbr($algorithm) => $call,
        }
    };
}

/// The congestion controller of a path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    algorithm: Algorithm,
    pacing: bool,
    /// A packet was sent. The controller does not take round-trip times before.
    has_sent: bool,
}

impl Congestion {
    pub(crate) fn new(config: &TransportConfig, datagram_size: u16) -> Self {
        let algorithm = match config.congestion {
            config::Congestion::Cubic => Algorithm::Cubic(Cubic::new(datagram_size, config.initial_window)),
            config::Congestion::Bbr => {
                Algorithm::Bbr(Box::new(Bbr::new(datagram_size, config.initial_window)))
            }
        };
        Self { algorithm, pacing: config.pacing, has_sent: false }
    }

    /// The same state for a path that is most likely the same, with nothing in flight on it.
    pub(crate) fn continued(&self) -> Self {
        let mut this = self.clone();
        let in_flight = this.in_flight();
        either!(&mut this.algorithm, algorithm => algorithm.on_discarded(in_flight));
        this
    }

    /// Bytes that may be in flight.
    #[inline]
    pub(crate) fn window(&self) -> u32 {
        either!(&self.algorithm, algorithm => algorithm.window())
    }

    /// Bytes that are.
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        either!(&self.algorithm, algorithm => algorithm.in_flight())
    }

    /// May a datagram of `size` bytes be sent?
    #[inline]
    pub(crate) fn allows(&self, size: usize) -> bool {
        either!(&self.algorithm, algorithm => algorithm.allows(size))
    }

    /// The time before which pacing wants nothing sent.
    #[inline]
    pub(crate) fn departure(&self) -> Option<Timestamp> {
        if self.pacing { either!(&self.algorithm, algorithm => algorithm.departure()) } else { None }
    }

    /// Was a packet ever sent under this controller?
    #[inline]
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// What it is doing, in the words of qlog.
    pub(crate) fn state(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Cubic(cubic) => cubic.state(),
            Algorithm::Bbr(_) => "bbr",
        }
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
        either!(&mut self.algorithm, algorithm => algorithm.on_sent(now, bytes, app_limited, rtt));
    }

    /// A new round-trip time sample, of a packet sent at `sent`.
    #[inline]
    pub(crate) fn on_rtt(&mut self, sent: Timestamp, now: Timestamp, rtt: &RttEstimator) {
        match &mut self.algorithm {
            Algorithm::Cubic(cubic) => cubic.on_rtt(sent, rtt),
            Algorithm::Bbr(bbr) => bbr.on_rtt(sent, now, rtt),
        }
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
        let bytes = (bytes as u64).min(u64::from(self.in_flight())) as u32;
        match &mut self.algorithm {
            Algorithm::Cubic(cubic) => cubic.on_acked(newest, bytes, rtt, now),
            Algorithm::Bbr(bbr) => bbr.on_acked(newest, bytes, rtt, random, now),
        }
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
        let counted = self.counted(bytes);
        if counted == 0 && kind != LossKind::Persistent {
            return;
        }
        match &mut self.algorithm {
            Algorithm::Cubic(cubic) => cubic.on_lost(sent, counted, kind, now),
            Algorithm::Bbr(bbr) => bbr.on_lost(sent, counted, kind, random, now),
        }
    }

    /// The peer reports congestion marks on packets, the newest of them sent at `sent`.
    pub(crate) fn on_congestion_marked(&mut self, sent: Timestamp, count: u64, now: Timestamp) {
        match &mut self.algorithm {
            Algorithm::Cubic(cubic) => cubic.on_congestion(sent, now),
            Algorithm::Bbr(bbr) => bbr.on_congestion_marked(count, now),
        }
    }

    /// A packet of `bytes` is no longer in flight, for reasons that say nothing about the path.
    pub(crate) fn on_discarded(&mut self, bytes: u16) {
        let counted = self.counted(bytes);
        either!(&mut self.algorithm, algorithm => algorithm.on_discarded(counted));
    }

    /// How many of a packet's bytes this controller counts as in flight: none of those sent before it took over
    /// the path, and their news must not take from the count of others.
    fn counted(&self, bytes: u16) -> u32 {
        u32::from(bytes).min(self.in_flight())
    }

    /// Datagrams now have this size.
    pub(crate) fn on_mtu(&mut self, datagram_size: u16) {
        either!(&mut self.algorithm, algorithm => algorithm.on_mtu(datagram_size));
    }
}
