//! Overlapping address prefixes flattened into intervals, for a binary search of fixed depth.

use wirepath_wire::rules::MAX_PREFIX_RULES;

use super::tables::NO_RULE;

/// Places for intervals: `PREFIX_SLOTS` of the program.
pub(super) const PREFIX_SLOTS: usize = 512;

// Each prefix starts one interval and ends one, and address zero starts one.
const _: () = assert!(2 * MAX_PREFIX_RULES < PREFIX_SLOTS);

/// Cuts the addresses 0 to `last` into [`PREFIX_SLOTS`] intervals, each given by its start and the lowest rule
/// of those ranges (`first..=last`, rule) that cover it. Places that are not needed repeat the last interval
/// from the last address on.
pub(super) fn intervals(ranges: &[(u128, u128, u16)], last: u128) -> Vec<(u128, u16)> {
    let mut starts = vec![0];
    for (first, end, _) in ranges {
        starts.push(*first);
        if *end < last {
            starts.push(end + 1);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let rule_at = |address: u128| {
        ranges
            .iter()
            .filter(|(first, end, _)| (*first..=*end).contains(&address))
            .map(|(_, _, rule)| *rule)
            .min()
            .unwrap_or(NO_RULE)
    };
    let mut intervals: Vec<_> = starts.into_iter().map(|start| (start, rule_at(start))).collect();
    intervals.resize(PREFIX_SLOTS, (last, rule_at(last)));
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_rule_wins_wherever_prefixes_overlap() {
        let ranges = [(16, 31, 2), (0, 127, 3), (20, 23, 1), (255, 255, 4)];
        let intervals = intervals(&ranges, 255);
        assert_eq!(intervals.len(), PREFIX_SLOTS);
        let look_up = |address| intervals[intervals.partition_point(|(start, _)| *start <= address) - 1].1;
        for address in 0..=255u128 {
            let expected = match address {
                20..=23 => 1,
                16..=31 => 2,
                0..=127 => 3,
                255 => 4,
                _ => NO_RULE,
            };
            assert_eq!(look_up(address), expected, "{address}");
        }
    }

    #[test]
    fn as_many_prefixes_as_allowed_fit() {
        let ranges: Vec<_> =
            (0..MAX_PREFIX_RULES as u16).map(|i| (1 + 4 * u128::from(i), 2 + 4 * u128::from(i), i)).collect();
        assert_eq!(intervals(&ranges, u128::MAX).len(), PREFIX_SLOTS);
        assert_eq!(intervals(&[(0, u128::MAX, 0)], u128::MAX)[0], (0, 0));
    }
}
