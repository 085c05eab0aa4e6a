//! A set of stream offsets.

use std::ops::Range;

use smallvec::SmallVec;

/// A set of stream offsets as ascending ranges that don't touch. For few ranges: our own handshake messages cut into
/// packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetSet(SmallVec<[(u64, u64); 1]>);

impl OffsetSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.0.first().map(|&(start, end)| start..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|&(start, end)| start..end)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = SmallVec::new();
    }

    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end < range.start);
        let last = self.0.partition_point(|&(start, _)| start <= range.end);
        if first == last {
            self.0.insert(first, (range.start, range.end));
            return;
        }
        let start = self.0[first].0.min(range.start);
        let end = self.0[last - 1].1.max(range.end);
        self.0.drain(first + 1..last);
        self.0[first] = (start, end);
    }

    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut index = self.0.partition_point(|&(_, end)| end <= range.start);
        while let Some(&(start, end)) = self.0.get(index) {
            if start >= range.end {
                break;
            }
            match (start < range.start, end > range.end) {
                (true, true) => {
                    self.0[index].1 = range.start;
                    self.0.insert(index + 1, (range.end, end));
                    break;
                }
                (true, false) => {
                    self.0[index].1 = range.start;
                    index += 1;
                }
                (false, true) => {
                    self.0[index].0 = range.end;
                    break;
                }
                (false, false) => {
                    self.0.remove(index);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut offsets, mut set) = (OffsetSet::default(), BTreeSet::new());
            for _ in 0..100 {
                let start = rng.random_range(0..60);
                let range = start..start + rng.random_range(0..12);
                if rng.random() {
                    offsets.insert(range.clone());
                    set.extend(range);
                } else {
                    offsets.remove(range.clone());
                    set.retain(|offset| !range.contains(offset));
                }
                let held: Vec<u64> = offsets.iter().flatten().collect();
                assert_eq!(held, set.iter().copied().collect::<Vec<_>>());
                assert!(offsets.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
