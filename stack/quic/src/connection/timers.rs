//! What happens when time passes.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;

use super::{Connection, State};
use crate::error::CloseReason;
use crate::event::Event;
use crate::packet::SpaceId;

/// Doublings of the probe timeout at most: beyond, the idle timeout decides.
const MAX_PTO_DOUBLINGS: u32 = 10;

/// Probe timeouts of silence after which memory for traffic is given back.
pub(super) const QUIET_PTOS: u32 = 8;

/// Timers of a connection, except those that live with what they time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A packet is lost, or a probe is due (RFC 9002 §6).
    Loss,
    /// The peer has been silent too long.
    Idle,
    /// A PING against the idle timeout.
    KeepAlive,
    /// The handshake takes too long.
    Handshake,
    /// The end of closing and draining.
    Close,
    /// Pacing lets the next packets go.
    Pacing,
    /// Memory for traffic can be given back.
    Quiet,
}

const COUNT: usize = Timer::Quiet as usize + 1;

/// The timers.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Timestamp>; COUNT]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        self.0 = [None; COUNT];
    }

    /// Stops the timer if it is due, and says whether it was.
    fn fire(&mut self, timer: Timer, now: Timestamp) -> bool {
        let slot = &mut self.0[timer as usize];
        let due = slot.is_some_and(|at| at <= now);
        if due {
            *slot = None;
        }
        due
    }

    fn next(&self) -> Option<Timestamp> {
        self.0.iter().flatten().min().copied()
    }
}

impl Connection {
    /// When [`on_timeout`](Self::on_timeout) is to be called at the latest. Changes with every input and output.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let own = self.timers.next();
        if self.is_closed_or_closing() {
            return own;
        }
        let keys = self.keys.as_ref().and_then(|keys| keys.timeout());
        let paths = self.paths.iter().filter_map(|path| path.challenge.as_ref()?.deadline).min();
        // An ACK that may not be sent must not wake anybody; what lets it be sent will.
        let acks = if self.may_transmit() { self.app.acks.timeout() } else { None };
        [own, acks, keys, self.paths.active.mtu.timeout(), paths].into_iter().flatten().min()
    }

    /// Time has passed. More often than [`poll_timeout`](Self::poll_timeout) says does no harm.
    pub fn on_timeout(&mut self, now: Timestamp) {
        self.now = now;
        if self.timers.fire(Timer::Close, now) {
            self.drain_finished();
        }
        if self.is_closed_or_closing() {
            return;
        }
        if self.timers.fire(Timer::Idle, now) {
            return self.give_up(CloseReason::IdleTimeout);
        }
        if self.timers.fire(Timer::Handshake, now) {
            return self.give_up(CloseReason::HandshakeTimeout);
        }
        if self.timers.fire(Timer::KeepAlive, now) {
            self.app.ping = true;
        }
        if self.timers.fire(Timer::Loss, now) {
            self.on_loss_timeout(now);
        }
        self.timers.fire(Timer::Pacing, now);
        if let Some(keys) = &mut self.keys {
            keys.on_timeout(now);
        }
        if self.timers.fire(Timer::Quiet, now) {
            self.shrink();
        }
        self.paths.active.mtu.on_timeout(now);
        self.on_path_timeout(now);
    }

    /// Restarts the timers that run while nothing happens (RFC 9000 §10.1).
    pub(super) fn restart_idle_timers(&mut self, now: Timestamp) {
        if let Some(timeout) = self.idle_timeout {
            // RFC 9000 §10.1: at least three probe timeouts, so that loss alone does not end the connection.
            let timeout = timeout.max(self.pto() * 3);
            self.timers.set(Timer::Idle, now + timeout);
        }
        if let Some(period) = self.config.keep_alive.filter(|_| !matches!(self.state, State::Handshaking)) {
            self.timers.set(Timer::KeepAlive, now + period);
        }
        if self.is_confirmed() {
            self.timers.set(Timer::Quiet, now + self.pto() * QUIET_PTOS);
        }
    }

    /// RFC 9002 A.8: the earliest time at which a packet is lost, or at which a probe is due.
    pub(super) fn set_loss_timer(&mut self, now: Timestamp) {
        let loss = SpaceId::ALL.into_iter().filter_map(|id| self.space(id)?.loss_time).min();
        if let Some(at) = loss {
            return self.timers.set(Timer::Loss, at);
        }
        // RFC 9002 §6.2.2.1: a server that may not send has nothing to probe with.
        match self.probe_time(now) {
            Some((at, _)) if self.may_transmit() => self.timers.set(Timer::Loss, at),
            _ => self.timers.stop(Timer::Loss),
        }
    }

    /// RFC 9002 A.8, GetPtoTimeAndSpace.
    fn probe_time(&self, now: Timestamp) -> Option<(Timestamp, SpaceId)> {
        let backoff = 1 << self.pto_count.min(MAX_PTO_DOUBLINGS);
        let rtt = &self.paths.active.rtt;
        let mut earliest: Option<(Timestamp, SpaceId)> = None;
        for id in SpaceId::ALL {
            let Some(space) = self.space(id).filter(|space| space.sent.has_eliciting()) else { continue };
            // RFC 9002 §6.2.1: not for application data before the handshake is confirmed.
            if id == SpaceId::App && !self.is_confirmed() {
                continue;
            }
            let Some(last) = space.last_eliciting else { continue };
            let at = last + rtt.pto_period(backoff, id.number_space());
            if earliest.is_none_or(|(time, _)| at < time) {
                earliest = Some((at, id));
            }
        }
        if earliest.is_none() && !self.peer_has_validated_us() {
            // RFC 9002 §6.2.2.1: the server may be waiting for more bytes from us.
            let id = self.handshake.as_ref().map_or(SpaceId::Initial, |handshake| handshake.highest());
            let at = now + rtt.pto_period(backoff, id.number_space());
            return Some((at, id));
        }
        earliest
    }

    /// RFC 9002 A.9.
    fn on_loss_timeout(&mut self, now: Timestamp) {
        let lost = SpaceId::ALL
            .into_iter()
            .find(|&id| self.space(id).is_some_and(|space| space.loss_time.is_some_and(|at| at <= now)));
        if let Some(id) = lost {
            self.detect_losses(now, id);
            return self.set_loss_timer(now);
        }
        if let Some((_, id)) = self.probe_time(now) {
            self.counters.probe_timeout += 1;
            self.pto_count += 1;
            // RFC 9002 §6.2.4: two probes, in case one is lost; and one of each other space that waits for an answer.
            for space in SpaceId::ALL {
                let due = space == id;
                let waits = self.space(space).is_some_and(|space| space.sent.has_eliciting());
                let app_early = space == SpaceId::App && !self.is_confirmed();
                if due || waits && !app_early {
                    let probes = if due && waits { 2 } else { 1 };
                    self.prepare_probes(space, probes);
                }
            }
        }
        self.set_loss_timer(now);
    }

    /// Gives memory back that only traffic needs.
    fn shrink(&mut self) {
        if self.app.sent.has_eliciting() {
            return;
        }
        self.app.shrink();
        self.streams.shrink();
        self.datagrams.shrink();
        self.local_cids.shrink();
        self.peer_cids.shrink();
        if let Some(keys) = &mut self.keys {
            keys.rest();
        }
        if self.events.is_empty() {
            self.events.shrink_to(0);
        }
    }

    /// Ends the connection without a word to the peer (RFC 9000 §10.1).
    pub(super) fn give_up(&mut self, reason: CloseReason) {
        self.forget_everything();
        self.event(Event::Closed(reason));
        self.event(Event::Drained);
        self.state = State::Drained;
    }

    /// Three probe timeouts: how long closing, draining and old keys last (RFC 9000 §10.2).
    pub(super) fn three_ptos(&self) -> Duration {
        self.pto() * 3
    }
}
