//! Validation of ECN on one path (RFC 9000 §13.4).

use s2n_quic_core::frame::ack::EcnCounts;

use crate::net::Ecn;

/// Marked packets with which a path is tested (RFC 9000 §13.4.2).
const TEST_PACKETS: u8 = 10;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// This many marked packets were sent.
    Testing(u8),
    /// The test's packets are out; what comes back decides.
    Unknown,
    /// Marks arrive and are reported.
    Capable,
    /// They don't, or ECN is off.
    Failed,
}

/// The ECN state of one path.
#[derive(Clone, Debug)]
pub(crate) struct EcnPath {
    state: State,
    /// Packets sent with ECT(0) that are not acknowledged yet.
    outstanding: u64,
    /// Marked packets of the test that were lost: if all are, the marks are the cause.
    test_lost: u8,
}

/// What the counts of an ACK frame tell.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum EcnOutcome {
    /// Nothing to react to.
    Fine,
    /// This many more packets were marked as having met congestion.
    Congestion(u64),
}

impl EcnPath {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { state: if enabled { State::Testing(0) } else { State::Failed }, outstanding: 0, test_lost: 0 }
    }

    /// The mark for the next datagram. Probes go without: the mark may be why packets are lost.
    #[inline]
    pub(crate) fn mark(&self, probe: bool) -> Ecn {
        match self.state {
            State::Testing(_) | State::Capable if !probe => Ecn::Ect0,
            _ => Ecn::NotEct,
        }
    }

    /// A packet of a datagram with this mark was sent.
    #[inline]
    pub(crate) fn on_sent(&mut self, mark: Ecn) {
        if mark == Ecn::NotEct {
            return;
        }
        self.outstanding += 1;
        if let State::Testing(sent) = &mut self.state {
            *sent += 1;
            if *sent == TEST_PACKETS {
                self.state = State::Unknown;
            }
        }
    }

    /// A marked packet was lost.
    #[inline]
    pub(crate) fn on_lost(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if matches!(self.state, State::Testing(_) | State::Unknown) {
            self.test_lost += 1;
            // RFC 9000 §13.4.2: all packets of the test are lost.
            if self.test_lost >= TEST_PACKETS {
                self.state = State::Failed;
            }
        }
    }

    /// An ACK frame that raised the largest acknowledged packet number: `acked` packets with ECT(0) were newly
    /// acknowledged (RFC 9000 §13.4.2.1). `reported` are the counts the peer gave last in the packet number space.
    #[inline]
    pub(crate) fn on_ack(
        &mut self,
        acked: u64,
        counts: Option<EcnCounts>,
        reported: &mut EcnCounts,
    ) -> EcnOutcome {
        let outstanding = self.outstanding;
        self.outstanding = outstanding.saturating_sub(acked);
        // RFC 9000 §13.4.2.2: packets are marked no more.
        if self.state == State::Failed {
            return EcnOutcome::Fine;
        }
        let Some(counts) = counts else {
            if acked > 0 {
                self.state = State::Failed;
            }
            return EcnOutcome::Fine;
        };
        let before = std::mem::replace(reported, counts);
        let growth = |now: s2n_quic_core::varint::VarInt, then: s2n_quic_core::varint::VarInt| {
            now.as_u64().checked_sub(then.as_u64())
        };
        let (Some(ect0), Some(ect1), Some(ce)) = (
            growth(counts.ect_0_count, before.ect_0_count),
            growth(counts.ect_1_count, before.ect_1_count),
            growth(counts.ce_count, before.ce_count),
        ) else {
            self.state = State::Failed;
            return EcnOutcome::Fine;
        };
        // Too few: marks are erased. Too many, or of a kind we never send: the counts are invented.
        if ect0 + ce < acked || ect0 + ce > outstanding || ect1 > 0 {
            self.state = State::Failed;
            return EcnOutcome::Fine;
        }
        if acked > 0 && self.state == State::Unknown {
            self.state = State::Capable;
        }
        if ce > 0 { EcnOutcome::Congestion(ce) } else { EcnOutcome::Fine }
    }

    /// Is ECN off, or was it found not to work?
    pub(crate) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Has the path been found to carry marks?
    pub(crate) fn is_capable(&self) -> bool {
        self.state == State::Capable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::varint::VarInt;

    fn counts(ect0: u32, ect1: u32, ce: u32) -> Option<EcnCounts> {
        Some(EcnCounts {
            ect_0_count: VarInt::from_u32(ect0),
            ect_1_count: VarInt::from_u32(ect1),
            ce_count: VarInt::from_u32(ce),
        })
    }

    fn tested() -> EcnPath {
        let mut path = EcnPath::new(true);
        for _ in 0..10 {
            assert_eq!(path.mark(false), Ecn::Ect0);
            path.on_sent(Ecn::Ect0);
        }
        assert_eq!(path.mark(false), Ecn::NotEct);
        path
    }

    #[test]
    fn a_path_that_reports_marks_is_capable_and_congestion_is_heard() {
        let (mut path, mut last) = (tested(), EcnCounts::default());
        assert_eq!(path.on_ack(4, counts(4, 0, 0), &mut last), EcnOutcome::Fine);
        assert!(path.is_capable());
        assert_eq!(path.on_ack(6, counts(7, 0, 3), &mut last), EcnOutcome::Congestion(3));
        assert_eq!((path.mark(false), path.mark(true)), (Ecn::Ect0, Ecn::NotEct));
    }

    #[test]
    fn lies_switch_it_off() {
        let reports = [None, counts(2, 0, 0), counts(11, 0, 0), counts(4, 1, 0), counts(4, 0, 7)];
        for report in reports {
            let mut path = tested();
            assert_eq!(path.on_ack(4, report, &mut EcnCounts::default()), EcnOutcome::Fine, "{report:?}");
            assert_eq!(path.mark(false), Ecn::NotEct);
            assert!(!path.is_capable());
        }
        let (mut path, mut last) = (tested(), EcnCounts::default());
        path.on_ack(4, counts(4, 0, 0), &mut last);
        path.on_ack(1, counts(3, 0, 2), &mut last);
        assert_eq!(path.mark(false), Ecn::NotEct);
    }

    #[test]
    fn a_path_that_eats_marked_packets_is_given_up() {
        let mut path = tested();
        (0..10).for_each(|_| path.on_lost());
        assert_eq!(path.on_ack(0, counts(0, 0, 0), &mut EcnCounts::default()), EcnOutcome::Fine);
        assert_eq!(path.mark(false), Ecn::NotEct);
    }
}
