//! One flow: the numbers of both directions.

use smallvec::SmallVec;
use wirepath_drivers::{SynOptions, TcpSegment, TxDatagram};
use wirepath_trace::Nanos;
use wirepath_wire::{
    Tcp,
    tcp::{ACK, RST, SYN},
};

use super::{RENEW_AFTER, RENEW_SEGMENTS, WINDOW, WINDOW_FIELD, WINDOW_SCALE};

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A client's, before its first SYN and after an RST: the next datagram opens it.
    Idle,
    /// A SYN was sent, last at this time.
    SynSent(Nanos),
    /// Datagrams pass.
    Open,
}

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) state: State,
    /// We opened it, and open it again after an RST.
    pub(super) client: bool,
    /// The next sequence number to send with.
    pub(super) next: u32,
    /// What to acknowledge: the end of the highest segment seen.
    pub(super) received: u32,
    /// Largest payload of a segment the peer takes.
    pub(super) mss: u16,
    /// When a segment last came.
    pub(super) seen: Nanos,
    /// A SYN came for a flow that is open: the client may have begun anew, and its next segment tells.
    pub(super) renewed: bool,
    /// Segments sent since one came.
    pub(super) unanswered: u32,
    /// Datagrams that wait for the SYN/ACK.
    pub(super) waiting: SmallVec<[TxDatagram; 1]>,
}

impl Flow {
    pub(super) fn of_client(now: Nanos) -> Self {
        Self {
            state: State::Idle,
            client: true,
            next: 0,
            received: 0,
            mss: super::UNLIMITED_MSS,
            seen: now,
            renewed: false,
            unanswered: 0,
            waiting: SmallVec::new(),
        }
    }

    /// A server's, once a segment has shown that the client got the SYN/ACK.
    pub(super) fn of_server(now: Nanos, next: u32, received: u32, mss: u16) -> Self {
        Self { state: State::Open, client: false, next, received, mss, ..Self::of_client(now) }
    }

    /// Whether a sequence number is within the window around what came last.
    pub(super) fn is_near(&self, sequence: u32) -> bool {
        (sequence.wrapping_sub(self.received) as i32).unsigned_abs() <= WINDOW
    }

    /// Whether nobody on the way seems to know the flow any more.
    pub(super) fn is_forgotten(&self, now: Nanos) -> bool {
        self.client && self.unanswered >= RENEW_SEGMENTS && now.saturating_sub(self.seen) >= RENEW_AFTER
    }

    /// Whether an RST is the peer's.
    pub(super) fn believes_reset(&self, tcp: &Tcp) -> bool {
        match self.state {
            State::Idle => false,
            // RFC 9293 §3.10.7.3: it must acknowledge the SYN.
            State::SynSent(_) => tcp.flags & ACK != 0 && tcp.acknowledgement == self.next.wrapping_add(1),
            State::Open => self.is_near(tcp.sequence),
        }
    }

    /// Takes note of a segment that ends before this number.
    pub(super) fn advance(&mut self, now: Nanos, end: u32) {
        (self.seen, self.unanswered) = (now, 0);
        if end.wrapping_sub(self.received) as i32 > 0 {
            self.received = end;
        }
    }

    /// The header of a segment with `len` bytes; it moves on by so much.
    pub(super) fn segment(&mut self, flags: u8, len: usize) -> TcpSegment {
        let segment = segment(self.next, self.received, flags);
        self.next = self.next.wrapping_add(len as u32);
        self.unanswered = self.unanswered.saturating_add(1);
        segment
    }

    /// The header of the SYN.
    pub(super) fn syn(&self, mss: u16) -> TcpSegment {
        TcpSegment { options: Some(options(mss)), ..segment(self.next, 0, SYN) }
    }

    /// The header of the RST that ends it.
    pub(super) fn reset(&self) -> TcpSegment {
        segment(self.next, self.received, RST | ACK)
    }
}

/// A header.
pub(super) fn segment(sequence: u32, acknowledgement: u32, flags: u8) -> TcpSegment {
    TcpSegment { sequence, acknowledgement, flags, window: WINDOW_FIELD, options: None }
}

/// What our SYNs tell.
pub(super) fn options(mss: u16) -> SynOptions {
    SynOptions { mss, window_scale: WINDOW_SCALE }
}
