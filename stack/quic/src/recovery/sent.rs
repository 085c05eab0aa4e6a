//! The packets sent in one packet number space and not yet forgotten, with what they carried.

use std::collections::VecDeque;

use s2n_quic_core::time::Timestamp;

use crate::frame::{Records, SentFrame};
use crate::net::Ecn;

/// Packets outside the congestion controller (bare ACKs) that are kept for the peer's acknowledgement. Acknowledged,
/// they let us forget ranges received; this many cover several round trips' worth.
const MAX_SILENT: u64 = 64;

/// Bare ACKs that are kept behind a packet whose fate is open. With more of them it is taken out of their row, so that they
/// can be forgotten: a peer that never acknowledges it could make us keep one for every two packets of its own. A fast
/// receiver on a long path has as many before an acknowledgement can be there.
const MAX_BEHIND: usize = 1024;

/// What has become of a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing known yet.
    Outstanding,
    /// The peer has acknowledged it.
    Acked,
    /// Declared lost; an acknowledgement may still come.
    Lost,
    /// Its number was left out on purpose, to catch peers that acknowledge what they never got (RFC 9000 §21.4).
    Skipped,
}

/// One packet.
#[derive(Copy, Clone, Debug)]
pub(crate) struct SentPacket {
    /// When it was sent.
    pub(crate) time: Timestamp,
    /// Bytes of the packet.
    pub(crate) size: u16,
    /// Number of its records.
    records: u16,
    /// Running number of its first record.
    records_at: u32,
    /// Path it was sent on.
    pub(crate) path: u8,
    /// What has become of it.
    pub(crate) fate: Fate,
    /// It asks for an acknowledgement.
    pub(crate) ack_eliciting: bool,
    /// It counts for congestion control.
    pub(crate) in_flight: bool,
    /// It probes a larger datagram size.
    pub(crate) mtu_probe: bool,
    /// Its datagram's mark.
    pub(crate) ecn: Ecn,
}

impl SentPacket {
    /// A packet just built; its records have been pushed to the [`SentPackets`].
    pub(crate) fn new(time: Timestamp, size: usize, path: u8) -> Self {
        Self {
            time,
            size: size as u16,
            records: 0,
            records_at: 0,
            path,
            fate: Fate::Outstanding,
            ack_eliciting: false,
            in_flight: false,
            mtu_probe: false,
            ecn: Ecn::NotEct,
        }
    }
}

/// The packets sent, as a ring from the oldest still of interest to the newest, and their records in a second ring
/// beside it: nothing is allocated per packet.
#[derive(Debug, Default)]
pub(crate) struct SentPackets {
    /// Packets that were sent long before those in the ring, and whose fate is open. In flight, all of them, so that the
    /// congestion window is their limit.
    held: VecDeque<Held>,
    packets: VecDeque<SentPacket>,
    /// Number of the first packet in the ring.
    base: u64,
    records: VecDeque<SentFrame>,
    /// Running number of the first record in the ring; wraps.
    records_base: u32,
    /// Records that belong to packets; behind them are those of the packet under construction.
    committed: usize,
    /// All packets below are acknowledged or lost.
    resolved: u64,
    /// Outstanding packets that ask for an acknowledgement.
    eliciting: usize,
    /// Packets in the ring that are not in flight.
    silent: usize,
}

/// A packet taken out of the ring.
#[derive(Debug)]
struct Held {
    number: u64,
    packet: SentPacket,
    records: Box<[SentFrame]>,
}

impl Records for SentPackets {
    #[inline]
    fn push(&mut self, record: SentFrame) {
        self.records.push_back(record);
    }
}

impl SentPackets {
    /// Number of the next packet.
    #[inline]
    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Number of the oldest packet.
    #[inline]
    pub(crate) fn first_number(&self) -> u64 {
        self.held.front().map_or(self.base, |held| held.number)
    }

    /// All packets below are acknowledged or lost.
    #[inline]
    pub(crate) fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Are packets outstanding that ask for an acknowledgement?
    #[inline]
    pub(crate) fn has_eliciting(&self) -> bool {
        self.eliciting > 0
    }

    /// Adds the packet under construction under [`next_number`](Self::next_number), with the records pushed.
    #[inline]
    pub(crate) fn commit(&mut self, mut packet: SentPacket) {
        packet.records = (self.records.len() - self.committed) as u16;
        packet.records_at = self.records_base.wrapping_add(self.committed as u32);
        self.committed = self.records.len();
        self.eliciting += usize::from(packet.ack_eliciting);
        self.silent += usize::from(!packet.in_flight);
        self.packets.push_back(packet);
    }

    /// Drops the records pushed for a packet that is not sent after all.
    #[inline]
    pub(crate) fn abort(&mut self) {
        self.records.truncate(self.committed);
    }

    /// Leaves out the next packet number.
    pub(crate) fn skip_number(&mut self, now: Timestamp, path: u8) {
        let mut packet = SentPacket::new(now, 0, path);
        packet.fate = Fate::Skipped;
        self.commit(packet);
    }

    /// A packet of the ring.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&SentPacket> {
        self.packets.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// How many packets are kept, and of these, how many apart from the ring.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.packets.len() + self.held.len(), self.held.len())
    }

    /// Notes what has become of a packet.
    #[cfg(test)]
    fn set_fate(&mut self, number: u64, fate: Fate) {
        let Some(packet) =
            number.checked_sub(self.base).and_then(|index| self.packets.get_mut(index as usize))
        else {
            return;
        };
        if packet.fate == Fate::Outstanding && packet.ack_eliciting {
            self.eliciting -= 1;
        }
        packet.fate = fate;
    }

    /// Raises [`resolved`](Self::resolved) over packets that have met their fate, but not beyond `limit`.
    #[inline]
    pub(crate) fn advance_resolved(&mut self, limit: u64) {
        let open = self.held.iter().find(|held| held.packet.fate == Fate::Outstanding);
        if let Some(open) = open {
            self.resolved = self.resolved.max(open.number);
            return;
        }
        self.resolved = self.resolved.max(self.base);
        while self.resolved < limit
            && self
                .get(self.resolved)
                .is_some_and(|packet| packet.fate != Fate::Outstanding || !packet.in_flight)
        {
            self.resolved += 1;
        }
    }

    /// The records of a run of packets, first to last, handed one by one to `each` with the packet. `each` may change
    /// the packet's fate.
    #[inline]
    pub(crate) fn visit(
        &mut self,
        first: u64,
        last: u64,
        mut each: impl FnMut(u64, &mut SentPacket, &mut dyn Iterator<Item = SentFrame>),
    ) {
        if first < self.base && !self.held.is_empty() {
            self.visit_held(first, last, &mut each);
        }
        let first = first.max(self.base);
        let end = (last + 1).min(self.next_number());
        if first >= end {
            return;
        }
        for number in first..end {
            let packet = &mut self.packets[(number - self.base) as usize];
            let count = usize::from(packet.records);
            let offset = packet.records_at.wrapping_sub(self.records_base) as usize;
            let before = *packet;
            each(number, packet, &mut self.records.range(offset..offset + count).copied());
            if before.fate == Fate::Outstanding && packet.fate != Fate::Outstanding && before.ack_eliciting {
                self.eliciting -= 1;
            }
        }
    }

    #[cold]
    fn visit_held(
        &mut self,
        first: u64,
        last: u64,
        each: &mut impl FnMut(u64, &mut SentPacket, &mut dyn Iterator<Item = SentFrame>),
    ) {
        let begin = self.held.partition_point(|held| held.number < first);
        for held in self.held.range_mut(begin..).take_while(|held| held.number <= last) {
            let before = held.packet.fate;
            each(held.number, &mut held.packet, &mut held.records.iter().copied());
            if before == Fate::Outstanding
                && held.packet.fate != Fate::Outstanding
                && held.packet.ack_eliciting
            {
                self.eliciting -= 1;
            }
        }
    }

    /// Are there more packets than bare ACKs are kept?
    #[inline]
    pub(crate) fn is_long(&self) -> bool {
        self.packets.len() as u64 > 2 * MAX_SILENT
    }

    /// Forgets packets at the front that matter no more. Lost ones are kept while younger than `keep_lost_after`, to
    /// recognise losses that were none.
    #[inline]
    pub(crate) fn trim(&mut self, keep_lost_after: Option<Timestamp>) {
        let is_past = |packet: &SentPacket| match packet.fate {
            Fate::Acked => true,
            Fate::Lost => keep_lost_after.is_none_or(|time| packet.time < time),
            Fate::Outstanding | Fate::Skipped => false,
        };
        // Before an acknowledged one none stays open: it is lost by then.
        while self.held.front().is_some_and(|held| is_past(&held.packet)) {
            self.held.pop_front();
        }
        while let Some(&packet) = self.packets.front() {
            let is_old = self.base + MAX_SILENT < self.next_number();
            let done = match packet.fate {
                Fate::Acked | Fate::Lost => is_past(&packet),
                // Kept as long as a wrong acknowledgement could still name it.
                Fate::Skipped => self.base < self.resolved || self.eliciting == 0 && is_old,
                Fate::Outstanding => !packet.in_flight && is_old,
            };
            if !done && self.silent <= MAX_BEHIND {
                break;
            }
            let records = usize::from(packet.records);
            let front = self.records.drain(..records);
            if !done && packet.in_flight {
                self.held.push_back(Held { number: self.base, packet, records: front.collect() });
            } else {
                drop(front);
                if packet.fate == Fate::Outstanding && packet.ack_eliciting {
                    self.eliciting -= 1;
                }
            }
            self.records_base = self.records_base.wrapping_add(records as u32);
            self.committed -= records;
            self.silent -= usize::from(!packet.in_flight);
            self.packets.pop_front();
            self.base += 1;
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.held.shrink_to(0);
        self.packets.shrink_to(0);
        self.records.shrink_to(0);
    }

    /// Takes all packets out, oldest first, for example because their keys are gone.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = SentPacket> + '_ {
        self.base = self.next_number();
        self.resolved = self.base;
        (self.eliciting, self.silent) = (0, 0);
        self.records_base = self.records_base.wrapping_add(self.committed as u32);
        self.committed = 0;
        self.records.clear();
        let held = std::mem::take(&mut self.held);
        held.into_iter().map(|held| held.packet).chain(self.packets.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    fn send(sent: &mut SentPackets, records: u64) -> u64 {
        let number = sent.next_number();
        for index in 0..records {
            sent.push(SentFrame::MaxData { limit: number * 10 + index });
        }
        let mut packet = SentPacket::new(NoopClock.get_time(), 1200, 0);
        packet.ack_eliciting = true;
        packet.in_flight = true;
        sent.commit(packet);
        number
    }

    #[test]
    fn records_stay_with_their_packets() {
        let mut sent = SentPackets::default();
        for number in 0..20 {
            assert_eq!(send(&mut sent, number % 4), number);
        }
        sent.push(SentFrame::Ping);
        sent.abort();
        for (first, last) in [(0, 19), (3, 3), (17, 18), (5, 100)] {
            let mut seen = Vec::new();
            sent.visit(first, last, |number, _, records| {
                let records: Vec<_> = records.collect();
                let expected: Vec<_> =
                    (0..number % 4).map(|index| SentFrame::MaxData { limit: number * 10 + index }).collect();
                assert_eq!(records, expected);
                seen.push(number);
            });
            assert_eq!(seen, (first..=last.min(19)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_open_leaves_the_row_of_too_many_acks_and_is_still_found() {
        let mut sent = SentPackets::default();
        let silent = |sent: &mut SentPackets, count: usize| {
            for _ in 0..count {
                sent.push(SentFrame::Ack { largest: 0 });
                sent.commit(SentPacket::new(NoopClock.get_time(), 40, 0));
                sent.trim(None);
                assert!(sent.packets.len() <= MAX_BEHIND + 2 && sent.records.len() <= MAX_BEHIND + 5);
            }
        };
        assert_eq!([send(&mut sent, 2), send(&mut sent, 1)], [0, 1]);
        silent(&mut sent, 3 * MAX_BEHIND);
        let late = send(&mut sent, 3);
        silent(&mut sent, 2 * MAX_BEHIND);
        assert_eq!((sent.held.len(), sent.first_number()), (3, 0));
        let mut seen = Vec::new();
        sent.visit(0, late, |number, packet, records| {
            if packet.in_flight {
                seen.push((number, records.count()));
            }
        });
        assert_eq!(seen, [(0, 2), (1, 1), (late, 3)]);
        sent.visit(1, 1, |number, _, _| assert_eq!(number, 1));
        assert!(sent.has_eliciting());

        // The peer acknowledges the last of them; the others are lost.
        sent.advance_resolved(late);
        assert_eq!(sent.resolved(), 0);
        sent.visit(late, late, |_, packet, _| packet.fate = Fate::Acked);
        sent.visit(0, late - 1, |_, packet, _| packet.fate = Fate::Lost);
        assert!(!sent.has_eliciting());
        sent.advance_resolved(late);
        sent.trim(None);
        assert!(sent.held.is_empty() && sent.resolved() == sent.first_number());
        let kept = sent.packets.len();
        assert_eq!(sent.drain().count(), kept);
        assert_eq!(sent.silent, 0);
    }

    #[test]
    fn many_packets_in_flight_stay_in_their_row() {
        let mut sent = SentPackets::default();
        for _ in 0..4 * MAX_BEHIND {
            send(&mut sent, 1);
            sent.trim(None);
        }
        assert!(sent.held.is_empty());
        assert_eq!(sent.drain().count(), 4 * MAX_BEHIND);
    }

    #[test]
    fn the_front_goes_when_it_is_resolved() {
        let mut sent = SentPackets::default();
        for _ in 0..10 {
            send(&mut sent, 2);
        }
        for number in [1, 2, 5] {
            sent.set_fate(number, Fate::Acked);
        }
        sent.advance_resolved(10);
        sent.trim(None);
        assert_eq!((sent.first_number(), sent.resolved()), (0, 0));
        sent.set_fate(0, Fate::Acked);
        sent.advance_resolved(10);
        sent.trim(None);
        assert_eq!((sent.first_number(), sent.resolved(), sent.next_number()), (3, 3, 10));
        assert!(sent.has_eliciting());
        let mut limits = Vec::new();
        sent.visit(3, 3, |_, _, records| limits.extend(records));
        assert_eq!(limits, [SentFrame::MaxData { limit: 30 }, SentFrame::MaxData { limit: 31 }]);
        assert_eq!(sent.drain().count(), 7);
        assert!(!sent.has_eliciting());
        assert_eq!(sent.next_number(), 10);
    }
}
