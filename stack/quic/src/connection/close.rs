//! The end of a connection (RFC 9000 §10).

use bytes::Bytes;
use s2n_quic_core::frame::ConnectionClose;
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;

use super::timers::Timer;
use super::{Connection, State};
use crate::error::{CloseReason, TransportError};
use crate::event::Event;
use crate::net::{Ecn, NetPath, Transmit};
use crate::packet::{PacketKind, SpaceId};

/// Bytes of a reason phrase sent: enough for a sentence, and the packet still fits with all coalesced before it.
const MAX_REASON: usize = 256;

/// What a closing connection answers with.
#[derive(Debug)]
pub(super) struct Closing {
    code: VarInt,
    /// `None`: the application closed.
    frame_type: Option<VarInt>,
    reason: Bytes,
    /// A CONNECTION_CLOSE is to be sent.
    pending: bool,
    /// Datagrams received since closing began.
    received: u32,
}

impl Closing {
    /// The frame for packets of this kind.
    pub(super) fn frame(&self, kind: PacketKind) -> ConnectionClose<'_> {
        let handshake = matches!(kind, PacketKind::Initial | PacketKind::Handshake);
        if handshake && self.frame_type.is_none() {
            // RFC 9000 §10.2.3: nothing of the application is told before the peer is authenticated.
            return TransportError::APPLICATION_ERROR.with_reason("").into();
        }
        let reason = &self.reason[..self.reason.len().min(MAX_REASON)];
        ConnectionClose {
            error_code: self.code,
            frame_type: self.frame_type,
            reason: (!reason.is_empty()).then_some(reason),
        }
    }

    /// Is there one to be sent?
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }
}

impl Connection {
    /// Closes the connection for the application. Data not yet acknowledged is given up.
    pub fn close(&mut self, now: Timestamp, code: VarInt, reason: &[u8]) {
        self.now = now;
        if self.is_closed_or_closing() {
            return;
        }
        let reason = Bytes::copy_from_slice(reason);
        let closed = CloseReason::Local { code, reason: reason.clone() };
        self.start_closing(now, closed, code, None, reason);
    }

    /// Closes the connection because of a violation, or because the handshake failed: with CONNECTION_CLOSE, as there is state
    /// to send it by (RFC 9000 §11, §11.1).
    pub(super) fn fail(&mut self, now: Timestamp, error: TransportError) {
        if self.is_closed_or_closing() {
            return;
        }
        let reason = Bytes::from_static(error.reason.as_bytes());
        let code = error.code.as_varint();
        self.start_closing(now, CloseReason::Violation(error), code, Some(error.frame_type), reason);
    }

    fn start_closing(
        &mut self,
        now: Timestamp,
        closed: CloseReason,
        code: VarInt,
        frame_type: Option<VarInt>,
        reason: Bytes,
    ) {
        self.forget_traffic();
        let closing = Closing { code, frame_type, reason, pending: true, received: 0 };
        self.state = State::Closing(Box::new(closing));
        self.timers.stop_all();
        self.timers.set(Timer::Close, now + self.three_ptos());
        self.event(Event::Closed(closed));
    }

    /// The peer closed the connection (RFC 9000 §10.2.2).
    pub(super) fn on_closed_by_peer(&mut self, now: Timestamp, reason: CloseReason) {
        if self.is_closed_or_closing() {
            return;
        }
        let deadline = now + self.three_ptos();
        self.forget_everything();
        self.state = State::Draining;
        self.timers.set(Timer::Close, deadline);
        self.event(Event::Closed(reason));
    }

    /// RFC 9000 §10.3.1.
    pub(super) fn on_stateless_reset(&mut self, now: Timestamp) {
        self.on_closed_by_peer(now, CloseReason::StatelessReset);
    }

    /// A closing connection says once more that it is closed, but less and less often (RFC 9000 §10.2.1).
    pub(super) fn on_datagram_while_closing(
        &mut self,
        now: Timestamp,
        net: NetPath,
        _ecn: Ecn,
        datagram: &mut [u8],
    ) {
        if self.paths.active.net.matches(&net) {
            self.paths.active.on_received(datagram.len());
        }
        // The peer knows by itself if it closes too, or has forgotten the connection.
        if self.peer_cids.is_stateless_reset(datagram) {
            self.state = State::Draining;
            return;
        }
        let _ = now;
        if let State::Closing(closing) = &mut self.state {
            closing.received += 1;
            closing.pending |= closing.received.is_power_of_two();
        }
    }

    /// Writes the datagram of a closing connection: CONNECTION_CLOSE at each level the peer may have keys for (RFC 9000
    /// §10.2.3).
    pub(super) fn write_close(&mut self, now: Timestamp, buffer: &mut [u8]) -> Option<Transmit> {
        let State::Closing(closing) = &mut self.state else { return None };
        if !std::mem::take(&mut closing.pending) {
            return None;
        }
        let path = &self.paths.active;
        let room = usize::from(path.mtu.current()).min(path.allowance()).min(buffer.len());
        let net = path.net;
        let has = |id| self.space(id).is_some();
        let kinds = [
            (PacketKind::Initial, has(SpaceId::Initial)),
            (PacketKind::Handshake, has(SpaceId::Handshake)),
            (PacketKind::OneRtt, self.keys.is_some()),
        ];
        let kinds = kinds.into_iter().filter(|(_, has)| *has).map(|(kind, _)| kind);
        let len = self.write_close_packets(now, kinds, &mut buffer[..room])?;
        self.on_datagram_sent(len);
        Some(Transmit { len, segment_size: None, path: net, ecn: Ecn::NotEct })
    }

    /// The time of closing or draining is over.
    pub(super) fn drain_finished(&mut self) {
        if !matches!(self.state, State::Drained) {
            self.forget_everything();
            self.state = State::Drained;
            self.event(Event::Drained);
        }
    }

    fn forget_traffic(&mut self) {
        self.streams.on_closed();
        self.datagrams.on_closed();
        self.tls = None;
    }

    pub(super) fn forget_everything(&mut self) {
        self.forget_traffic();
        self.handshake = None;
        self.keys = None;
        self.app = Default::default();
        self.app_crypto = None;
        self.paths.others = Vec::new();
        self.timers.stop_all();
    }
}
