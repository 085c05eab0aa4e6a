//! Sets of byte ranges of a stream: what is acknowledged beyond the first gap, what must be sent again.

use std::{collections::VecDeque, ops::Range};

/// Sorted, disjoint and never adjacent ranges of stream offsets.
///
/// Ranges nearly always come and go at the ends (acknowledgements rise, repairs start at the lowest offset), so a
/// deque with binary search serves each operation in constant time there, and allocates nothing while empty.
#[derive(Debug, Default)]
pub(super) struct RangeSet {
    ranges: VecDeque<Range<u64>>,
}

impl RangeSet {
    /// Spare room kept when the set empties; a burst of loss beyond it gives its memory back.
    const KEEP: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    pub(super) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }

    /// Adds `range`, merging what it touches.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // The first range that could merge with ours: it ends at or after our start.
        let first = self.ranges.partition_point(|r| r.end < range.start);
        match self.ranges.get_mut(first) {
            None => self.ranges.push_back(range),
            Some(found) if found.start > range.end => self.ranges.insert(first, range),
            Some(found) => {
                found.start = found.start.min(range.start);
                found.end = found.end.max(range.end);
                let end = found.end;
                let after = first + 1;
                let mut swallowed = after;
                let mut merged_end = end;
                while let Some(next) = self.ranges.get(swallowed) {
                    if next.start > end {
                        break;
                    }
                    merged_end = merged_end.max(next.end);
                    swallowed += 1;
                }
                if swallowed > after {
                    self.ranges[first].end = merged_end;
                    self.ranges.drain(after..swallowed);
                }
            }
        }
    }

    /// Takes `range` out of the set, wherever it overlaps.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut index = self.ranges.partition_point(|r| r.end <= range.start);
        while let Some(found) = self.ranges.get_mut(index) {
            if found.start >= range.end {
                break;
            }
            let (left, right) = (found.start..range.start, range.end..found.end);
            match (left.start < left.end, right.start < right.end) {
                (true, true) => {
                    *found = left;
                    self.ranges.insert(index + 1, right);
                    break;
                }
                (true, false) => {
                    *found = left;
                    index += 1;
                }
                (false, true) => {
                    *found = right;
                    break;
                }
                (false, false) => {
                    self.ranges.remove(index);
                }
            }
        }
        self.trim();
    }

    /// If the lowest range starts at or below `offset`, removes it and returns its end.
    pub(super) fn take_reaching(&mut self, offset: u64) -> Option<u64> {
        let first = self.ranges.front()?;
        if first.start > offset {
            return None;
        }
        let end = first.end;
        self.ranges.pop_front();
        self.trim();
        Some(end)
    }

    /// Calls `each` with every part of `range` that is not in the set, in rising order.
    pub(super) fn gaps(&self, range: Range<u64>, mut each: impl FnMut(Range<u64>)) {
        let mut start = range.start;
        let mut index = self.ranges.partition_point(|r| r.end <= start);
        while start < range.end {
            let Some(found) = self.ranges.get(index).filter(|r| r.start < range.end) else {
                each(start..range.end);
                return;
            };
            if found.start > start {
                each(start..found.start);
            }
            start = found.end;
            index += 1;
        }
    }

    fn trim(&mut self) {
        if self.ranges.is_empty() && self.ranges.capacity() > Self::KEEP {
            self.ranges = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn model_of(set: &RangeSet) -> BTreeSet<u64> {
        set.ranges.iter().flat_map(|r| r.clone()).collect()
    }

    #[test]
    fn agrees_with_a_set_of_offsets() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        let mut set = RangeSet::default();
        let mut model = BTreeSet::new();
        for _ in 0..20_000 {
            let start = next(200);
            let range = start..start + next(20);
            match next(5) {
                0 | 1 => {
                    set.insert(range.clone());
                    model.extend(range);
                }
                2 | 3 => {
                    set.remove(range.clone());
                    model.retain(|v| !range.contains(v));
                }
                _ => {
                    let mut gaps = Vec::new();
                    set.gaps(range.clone(), |gap| gaps.extend(gap));
                    let expected: Vec<u64> = range.filter(|v| !model.contains(v)).collect();
                    assert_eq!(gaps, expected);
                    if let Some(end) = set.take_reaching(start) {
                        let first = *model.first().unwrap();
                        assert!(first <= start);
                        model.retain(|v| *v >= end);
                    }
                }
            }
            assert_eq!(model_of(&set), model);
            let ranges: Vec<_> = set.ranges.iter().cloned().collect();
            assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
        }
    }
}
