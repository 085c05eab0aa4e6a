//! A packet number space (RFC 9000 §12.3): what was received in it, what was sent, and what became of that.

use s2n_quic_core::frame::ack::EcnCounts;
use s2n_quic_core::time::Timestamp;
use smallvec::SmallVec;

use crate::ack::PendingAcks;
use crate::recovery::SentPackets;

/// Ranges of the last ACK frame remembered, so that the next one's old parts cost nothing.
const REMEMBERED_RANGES: usize = 4;

/// A packet number space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) acks: PendingAcks,
    pub(crate) sent: SentPackets,
    /// Largest packet number the peer acknowledged.
    pub(crate) largest_acked: Option<u64>,
    /// Ranges of the ACK frame processed last, newest first.
    pub(crate) last_ack: SmallVec<[(u64, u64); REMEMBERED_RANGES]>,
    /// ECN counts the peer reported last.
    pub(crate) ecn_reported: EcnCounts,
    /// When the next packet is lost unless acknowledged.
    pub(crate) loss_time: Option<Timestamp>,
    /// When the last ack-eliciting packet was sent.
    pub(crate) last_eliciting: Option<Timestamp>,
    /// Probes to send, not held back by congestion control (RFC 9002 §6.2.4).
    pub(crate) probes: u8,
    /// A PING is to be sent.
    pub(crate) ping: bool,
}

impl Space {
    /// Notes the ranges of an ACK frame and calls `fresh` for the parts that the last one did not have.
    pub(crate) fn fresh_ranges(
        last: &mut SmallVec<[(u64, u64); REMEMBERED_RANGES]>,
        ranges: impl Iterator<Item = (u64, u64)> + Clone,
        mut fresh: impl FnMut(u64, u64),
    ) {
        let mut old = last.iter().copied().peekable();
        for (first, mut end) in ranges.clone() {
            // Both lists descend. Old ranges above this one are of no more use.
            while let Some(&(old_first, old_end)) = old.peek() {
                if old_first > end {
                    old.next();
                    continue;
                }
                if old_end < first {
                    break;
                }
                if old_end < end {
                    fresh(old_end + 1, end);
                }
                if old_first <= first {
                    end = first;
                    break;
                }
                end = old_first - 1;
                old.next();
            }
            let covered =
                old.peek().is_some_and(|&(old_first, old_end)| old_first <= first && first <= old_end);
            if !covered {
                fresh(first, end);
            }
        }
        last.clear();
        last.extend(ranges.take(REMEMBERED_RANGES));
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.sent.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;

    fn runs(set: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &number in set.iter().rev() {
            match runs.last_mut() {
                Some((first, _)) if *first == number + 1 => *first = number,
                _ => runs.push((number, number)),
            }
        }
        runs
    }

    #[test]
    fn fresh_parts_and_only_those_are_told() {
        for seed in 0..2000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut last = SmallVec::new();
            let mut set = BTreeSet::new();
            for round in 0..20 {
                let before: BTreeSet<u64> = set.clone();
                let remembered: BTreeSet<u64> =
                    last.iter().flat_map(|&(first, end): &(u64, u64)| first..=end).collect();
                for _ in 0..rng.random_range(1..6) {
                    set.insert(rng.random_range(0..=round * 4 + 3));
                }
                if rng.random_ratio(1, 10) {
                    set.retain(|&number| number > 10);
                }
                if set.is_empty() {
                    continue;
                }
                let mut told = BTreeSet::new();
                let ranges = runs(&set);
                Space::fresh_ranges(&mut last, ranges.iter().copied(), |first, end| {
                    assert!(first <= end);
                    for number in first..=end {
                        assert!(told.insert(number), "told twice");
                    }
                });
                let expected: BTreeSet<u64> = set.difference(&remembered).copied().collect();
                assert_eq!(told, expected, "{before:?} {ranges:?}");
            }
        }
    }
}
