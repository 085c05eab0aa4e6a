//! When to acknowledge (RFC 9000 §13.2).

use std::time::Duration;

use s2n_quic_core::frame::Ack;
use s2n_quic_core::frame::ack::EcnCounts;
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;

use super::ranges::{AckRanges, Insert};
use crate::frame::{FrameWriter, SentFrame, varint};
use crate::net::Ecn;

/// Ranges in one ACK frame. The newest matter; 32 take at most 200 bytes in practice.
const MAX_RANGES_SENT: usize = 32;

/// Ranges from which on our ACKs should be acknowledged themselves, so that old ranges can be forgotten (RFC 9000
/// §13.2.4).
const MANY_RANGES: usize = 8;

/// ACK-only packets between two that ask for an acknowledgement.
const SILENT_ACKS: u8 = 32;

/// How to acknowledge 1-RTT packets.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AckPolicy {
    /// Ack-eliciting packets after which an ACK is sent at once.
    pub(crate) threshold: u8,
    /// Longest time an ACK is held back.
    pub(crate) max_delay: Duration,
    /// Packet numbers by which a packet may be missing before that is told at once; 0: never. 1 (RFC 9000 §13.2.1)
    /// unless the peer asks for another (draft-ietf-quic-ack-frequency)
    pub(crate) reordering: u64,
}

impl AckPolicy {
    /// RFC 9000 §13.2.1: Initial and Handshake packets are acknowledged at once.
    pub(crate) const IMMEDIATE: Self = Self { threshold: 1, max_delay: Duration::ZERO, reordering: 1 };
}

/// What was received in a packet number space, and what of it the peer must still be told.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    ranges: AckRanges,
    /// When the largest packet number came.
    largest_time: Option<Timestamp>,
    ecn: [u64; 3],
    /// Ack-eliciting packets since the last ACK.
    eliciting: u8,
    /// Something came since the last ACK.
    news: bool,
    immediate: bool,
    deadline: Option<Timestamp>,
    /// Largest packet number told in an ACK.
    told: u64,
    /// ACK-only packets sent since the last that asked for an acknowledgement.
    silent: u8,
}

impl PendingAcks {
    /// Is a packet a duplicate, or too old to tell?
    #[inline]
    pub(crate) fn is_duplicate(&self, number: u64) -> bool {
        self.ranges.contains(number)
    }

    /// The largest packet number received.
    #[inline]
    pub(crate) fn largest(&self) -> Option<u64> {
        self.ranges.largest()
    }

    /// A packet that is no duplicate was processed.
    #[inline]
    pub(crate) fn on_received(
        &mut self,
        number: u64,
        eliciting: bool,
        ecn: Ecn,
        now: Timestamp,
        policy: &AckPolicy,
    ) {
        if self.ranges.largest().is_none_or(|largest| number > largest) {
            self.largest_time = Some(now);
        }
        let order = self.ranges.insert(number);
        // RFC 9000 §13.4.1: whether or not we mark our own.
        match ecn {
            Ecn::NotEct => {}
            Ecn::Ect0 => self.ecn[0] += 1,
            Ecn::Ect1 => self.ecn[1] += 1,
            Ecn::Ce => self.ecn[2] += 1,
        }
        self.news = true;
        if !eliciting {
            return;
        }
        self.eliciting = self.eliciting.saturating_add(1);
        let reordered = match policy.reordering {
            0 => false,
            1 => order == Insert::OutOfOrder,
            threshold => self.is_reordered_by(threshold, number, order),
        };
        if reordered || ecn == Ecn::Ce || self.eliciting >= policy.threshold {
            self.immediate = true;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + policy.max_delay);
        }
    }

    /// Is it time to tell of a gap, or of what fills one (draft-ietf-quic-ack-frequency, "Response to Out-of-Order
    /// Packets")?
    fn is_reordered_by(&self, threshold: u64, number: u64, order: Insert) -> bool {
        let Some(largest) = self.ranges.largest().filter(|_| self.ranges.len() > 1) else { return false };
        let reported = self.told.saturating_sub(threshold);
        let late = order == Insert::OutOfOrder && number < largest && number <= reported;
        late || self.ranges.first_missing(reported + 1).is_some_and(|missing| largest - missing >= threshold)
    }

    /// The peer asks for an ACK now.
    pub(crate) fn hurry(&mut self) {
        self.immediate = true;
        self.news = true;
        self.eliciting = self.eliciting.max(1);
    }

    /// Must an ACK be sent now, even alone?
    #[inline]
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.immediate || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Is there something an ACK would tell that asks for one? Then it goes along with other frames.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.eliciting > 0
    }

    /// When an ACK held back is due.
    #[inline]
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        if self.immediate { None } else { self.deadline }
    }

    /// Writes an ACK frame, with as many ranges as fit.
    pub(crate) fn write_frame(&mut self, writer: &mut FrameWriter<'_, '_>, delay_exponent: u8) -> bool {
        let (Some(largest), Some(time)) = (self.ranges.largest(), self.largest_time) else { return false };
        // RFC 9000 §13.2.5: from the packet's arrival here; what its device and ours took before and after is none of it.
        let delay = writer.cx().now.saturating_duration_since(time).as_micros() as u64 >> delay_exponent;
        let ecn_counts = (self.ecn != [0; 3]).then(|| EcnCounts {
            ect_0_count: varint(self.ecn[0]),
            ect_1_count: varint(self.ecn[1]),
            ce_count: varint(self.ecn[2]),
        });
        let mut count = self.ranges.len().min(MAX_RANGES_SENT);
        while count > 0 {
            let ack_delay = VarInt::new(delay).unwrap_or(VarInt::MAX);
            let frame = Ack { ack_delay, ack_ranges: self.ranges.newest(count), ecn_counts };
            if writer.push_silent(&frame, Some(SentFrame::Ack { largest })) {
                self.told = largest;
                self.eliciting = 0;
                self.news = false;
                self.immediate = false;
                self.deadline = None;
                return true;
            }
            count /= 2;
        }
        false
    }

    /// A packet with an ACK and nothing else that asks for an acknowledgement is about to be sent: should a PING go
    /// along, for the ACK's sake?
    pub(crate) fn wants_ping(&mut self) -> bool {
        self.silent = self.silent.saturating_add(1);
        let due = self.silent >= SILENT_ACKS && self.ranges.len() >= MANY_RANGES;
        if due {
            self.silent = 0;
        }
        due
    }

    /// The peer has our acknowledgement of all up to `largest`.
    #[inline]
    pub(crate) fn on_ack_acked(&mut self, largest: u64) {
        self.ranges.forget_through(largest);
    }
}
