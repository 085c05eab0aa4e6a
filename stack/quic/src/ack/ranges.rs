//! The packet numbers received and still to be acknowledged.

use std::ops::RangeInclusive;

use s2n_quic_core::frame::ack;
use s2n_quic_core::varint::VarInt;
use smallvec::SmallVec;

use crate::frame::varint;

/// Ranges kept. Each is a gap in what arrived; beyond that the oldest are given up, since the peer will have taken
/// those packets for lost and acknowledgement of each only once is no longer possible to tell.
const MAX_RANGES: usize = 64;

/// Ranges kept without an allocation: enough for a path that neither loses nor reorders.
const INLINE_RANGES: usize = 2;

/// First and last packet number of a run.
type Range = (u64, u64);

/// The packet numbers received, as ascending runs.
///
/// It also tells duplicates: all below a floor count as received, and the floor rises with what is forgotten (RFC 9000
/// §13.2.3: packets not known not to have been received must not be processed again).
#[derive(Clone, Debug, Default)]
pub(crate) struct AckRanges {
    runs: SmallVec<[Range; INLINE_RANGES]>,
    floor: u64,
}

/// What inserting a packet number found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    /// The next one after the largest so far.
    InOrder,
    /// A new one with a gap before it or below the largest.
    OutOfOrder,
}

impl AckRanges {
    /// Is this packet a duplicate, or too old to tell?
    #[inline]
    pub(crate) fn contains(&self, pn: u64) -> bool {
        if pn < self.floor {
            return true;
        }
        match self.runs.last() {
            None => false,
            Some(&(_, last)) if pn > last => false,
            Some(&(first, _)) if pn >= first => true,
            Some(_) => {
                let index = self.runs.partition_point(|&(_, last)| last < pn);
                self.runs.get(index).is_some_and(|&(first, _)| first <= pn)
            }
        }
    }

    /// The first number from `from` on that did not come, below the largest that did.
    pub(crate) fn first_missing(&self, from: u64) -> Option<u64> {
        let from = from.max(self.floor);
        let index = self.runs.partition_point(|&(_, last)| last < from);
        let &(first, last) = self.runs.get(index)?;
        let missing = if first <= from { last + 1 } else { from };
        (missing < self.largest()?).then_some(missing)
    }

    /// Adds a packet number for which [`contains`](Self::contains) said no.
    #[inline]
    pub(crate) fn insert(&mut self, pn: u64) -> Insert {
        match self.runs.last_mut() {
            Some((_, last)) if *last + 1 == pn => {
                *last = pn;
                Insert::InOrder
            }
            None => {
                let in_order = pn == self.floor;
                self.runs.push((pn, pn));
                if in_order { Insert::InOrder } else { Insert::OutOfOrder }
            }
            Some(_) => {
                self.insert_slow(pn);
                Insert::OutOfOrder
            }
        }
    }

    fn insert_slow(&mut self, pn: u64) {
        let index = self.runs.partition_point(|&(first, _)| first <= pn);
        let joins_left = index > 0 && self.runs[index - 1].1 + 1 == pn;
        let joins_right = index < self.runs.len() && pn + 1 == self.runs[index].0;
        match (joins_left, joins_right) {
            (true, true) => {
                self.runs[index - 1].1 = self.runs[index].1;
                self.runs.remove(index);
            }
            (true, false) => self.runs[index - 1].1 = pn,
            (false, true) => self.runs[index].0 = pn,
            (false, false) => {
                self.runs.insert(index, (pn, pn));
                if self.runs.len() > MAX_RANGES {
                    let (_, last) = self.runs.remove(0);
                    self.floor = last + 1;
                }
            }
        }
    }

    /// Forgets all up to `largest`: the peer knows that they were received.
    pub(crate) fn forget_through(&mut self, largest: u64) {
        // The largest received stays: ACK frames need it, and packet numbers are expanded from it.
        let Some(&(_, last)) = self.runs.last() else { return };
        let through = largest.min(last.saturating_sub(1));
        if through < self.floor || last == 0 {
            return;
        }
        self.floor = through + 1;
        let gone = self.runs.partition_point(|&(_, last)| last <= through);
        self.runs.drain(..gone);
        if let Some((first, _)) = self.runs.first_mut() {
            *first = (*first).max(through + 1);
        }
        if self.runs.len() <= INLINE_RANGES {
            self.runs.shrink_to_fit();
        }
    }

    /// The largest packet number received.
    #[inline]
    pub(crate) fn largest(&self) -> Option<u64> {
        self.runs.last().map(|&(_, last)| last)
    }

    /// Number of runs.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// The newest `count` runs, as an ACK frame wants them.
    #[inline]
    pub(crate) fn newest(&self, count: usize) -> Newest<'_> {
        Newest(&self.runs[self.runs.len().saturating_sub(count)..])
    }
}

/// The newest runs of an [`AckRanges`].
#[derive(Copy, Clone)]
pub(crate) struct Newest<'a>(&'a [Range]);

impl<'a> ack::AckRanges for Newest<'a> {
    type Iter =
        std::iter::Map<std::iter::Rev<std::slice::Iter<'a, Range>>, fn(&Range) -> RangeInclusive<VarInt>>;

    fn ack_ranges(&self) -> Self::Iter {
        self.0.iter().rev().map(|&(first, last)| varint(first)..=varint(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut ranges = AckRanges::default();
            let mut set = BTreeSet::new();
            for _ in 0..300 {
                let pn = rng.random_range(0..120);
                if rng.random_ratio(1, 40) {
                    ranges.forget_through(pn);
                    continue;
                }
                let known = ranges.contains(pn);
                assert_eq!(known, pn < ranges.floor || set.contains(&pn));
                if !known {
                    ranges.insert(pn);
                    set.insert(pn);
                }
                assert_eq!(ranges.largest(), set.last().copied());
                let runs = &ranges.runs;
                assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                let held: BTreeSet<u64> = runs.iter().flat_map(|&(first, last)| first..=last).collect();
                let expected: BTreeSet<u64> = set.range(ranges.floor..).copied().collect();
                assert_eq!(held, expected);
            }
        }
    }

    #[test]
    fn gaps_are_bounded_and_what_is_forgotten_counts_as_received() {
        let mut ranges = AckRanges::default();
        for pn in (0..1000).step_by(2) {
            assert!(!ranges.contains(pn));
            ranges.insert(pn);
        }
        assert_eq!(ranges.len(), MAX_RANGES);
        assert!(ranges.contains(1));
        assert!(!ranges.contains(997));
    }

    #[test]
    fn order_is_told() {
        let mut ranges = AckRanges::default();
        assert_eq!(ranges.insert(0), Insert::InOrder);
        assert_eq!(ranges.insert(1), Insert::InOrder);
        assert_eq!(ranges.insert(3), Insert::OutOfOrder);
        assert_eq!(ranges.insert(2), Insert::OutOfOrder);
        assert_eq!(ranges.insert(4), Insert::InOrder);
    }
}
