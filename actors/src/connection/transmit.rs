//! Sending: from the state machine, through leased memory, to the device.

use std::sync::Arc;

use wirepath_drivers::{Ecn, TxDatagram};
use wirepath_quic::Timestamp;
use wirepath_trace::{BatchClock, Passed};

use super::{Connection, ConnectionMessage};
use crate::{
    clock::timestamp,
    kit::Shift,
    tables::{Arrival, Carrier},
    traced::Traced,
};

/// Datagrams one turn sends at most, in one message to the device, which then says when it has sent them: a train of
/// the longest kind, and a fourth of a millisecond.
const TURN_BUDGET: usize = 256;

impl Connection {
    /// Sends what the machine has, as far as its congestion window, the budget, the memory and the device allow.
    pub(super) fn transmit(&mut self, cx: &Shift<ConnectionMessage>) {
        let now = timestamp(BatchClock::last());
        // What the former way has come to carry of late holds for the new one, until a larger size is found to pass.
        self.renew_limit(now);
        if self.via.is_ended() {
            self.fail_over();
            self.renew_limit(now);
        }
        let mut datagrams = Vec::new();
        let mut sent = 0;
        while self.quic.wants_transmit(now) {
            // The device says when it has sent these: a connection never runs ahead of its device, and what the
            // peer says in between is heard in time.
            if sent >= TURN_BUDGET || !self.via.has_room(TURN_BUDGET as u32) {
                self.await_room(cx, now, !datagrams.is_empty());
                break;
            }
            let segments = self.via.max_segments().min(TURN_BUDGET - sent);
            let Some(mut buf) = self.via.lease(segments) else {
                self.await_room(cx, now, !datagrams.is_empty());
                break;
            };
            let Some(transmit) = self.quic.poll_transmit(now, buf.as_mut_slice(), segments) else { break };
            sent += transmit.segment_size.map_or(1, |size| transmit.len.div_ceil(size.into()));
            buf.truncate(transmit.len);
            buf.hold(self.actor as u32);
            let datagram = TxDatagram {
                local: transmit.path.local,
                remote: transmit.path.remote,
                ecn: ecn_from_quic(transmit.ecn),
                segment_size: transmit.segment_size,
                tcp: None,
                buf,
            };
            match self.via.sends_from(datagram.local.port()) {
                true => datagrams.push(datagram),
                false => self.send_aside(cx, datagram),
            }
        }
        if !datagrams.is_empty() {
            let traced = self.sample(cx, &datagrams);
            cx.myself().meter().on_passed(Passed::Down, datagrams.len() as u32);
            self.hand_over(datagrams, traced);
        }
    }

    /// Has the device say when it has room. If it is given something now, so that it is certain to, nothing is sent
    /// until then; else whatever happens next is a chance to try again.
    fn await_room(&mut self, cx: &Shift<ConnectionMessage>, now: Timestamp, is_certain: bool) {
        self.quic.on_no_room(now);
        self.awaits_room = is_certain;
        self.via.wait_for_room(cx.myself());
    }

    /// Sends on another path than packets come by: from the operating system's socket on that path's port.
    fn send_aside(&mut self, cx: &Shift<ConnectionMessage>, datagram: TxDatagram) {
        let (local, remote) = (datagram.local, datagram.remote);
        let arrival = Arrival { local, remote, carrier: Carrier::Udp, datagram: &[] };
        let socket = self.tables.sockets.find(&arrival);
        let Some(os) = socket.as_ref().and_then(|socket| socket.os.get()) else {
            return self.tables.drops.count("path_unbound_dropped");
        };
        let datagrams = vec![datagram];
        let traced = self.sample(cx, &datagrams);
        cx.myself().meter().on_passed(Passed::Down, 1);
        // A device that has ended sends nothing; loss recovery sees to the contents.
        drop(os.send(datagrams, traced));
    }

    /// Hands datagrams to the device; if it has ended, to the operating system's socket on the same port.
    fn hand_over(&mut self, datagrams: Vec<TxDatagram>, traced: Traced) {
        // The datagrams lie in memory of the lost device. Loss recovery sends their contents again.
        if let Err(_lost) = self.via.send(datagrams, traced) {
            self.fail_over();
        }
    }

    /// Sends nothing longer than the device does now.
    pub(super) fn renew_limit(&mut self, now: Timestamp) {
        let most = self.via.max_udp_payload(self.quic.path().remote.ip());
        self.quic.on_device_limit(now, most);
    }

    fn fail_over(&mut self) {
        if self.via.is_qtip() {
            // No other way leads to a peer that speaks QTIP. Until the queue has a device again what is sent is lost.
            if let Some(successor) = self.via.successor() {
                tracing::info!(path = ?self.quic.path(), "the queue has a device again; QTIP goes on");
                self.via = successor;
                self.is_stranded = false;
            } else if !std::mem::replace(&mut self.is_stranded, true) {
                tracing::warn!(path = ?self.quic.path(), "the device has ended; QTIP waits for the queue's next one");
            }
            return;
        }
        if let Some(os) = self.socket.os.get().filter(|os| !Arc::ptr_eq(os, &self.via)) {
            tracing::info!(from = ?self.via, to = ?os, "the device has ended; going on over OS UDP");
            self.via = os.clone();
        }
    }
}

pub(super) fn ecn_to_quic(ecn: Ecn) -> wirepath_quic::Ecn {
    wirepath_quic::Ecn::new(ecn as u8)
}

fn ecn_from_quic(ecn: wirepath_quic::Ecn) -> Ecn {
    Ecn::from_bits(ecn as u8)
}
