//! Which hit counter belongs to which rule: a rule keeps its counter, and so its count, while others around it
//! come and go.

use std::collections::HashMap;

use wirepath_wire::rules::{MAX_RULES, Rule};

/// The counters of the rule list in force.
#[derive(Debug, Default)]
pub(super) struct CounterSlots {
    of: Vec<(Rule, u32)>,
}

/// The counters of a rule list about to be in force.
pub(super) struct NextSlots {
    of: Vec<(Rule, u32)>,
    /// Counters that start anew, to be set to zero first.
    pub(super) fresh: Vec<u32>,
}

impl CounterSlots {
    /// Assigns counters to `rules`, those of equal rules in force where there are any.
    pub(super) fn assign(&self, rules: &[Rule]) -> NextSlots {
        let mut known: HashMap<&Rule, Vec<u32>> = HashMap::new();
        for (rule, slot) in self.of.iter().rev() {
            known.entry(rule).or_default().push(*slot);
        }
        let kept: Vec<_> = rules.iter().map(|rule| known.get_mut(rule).and_then(Vec::pop)).collect();
        let mut taken = [false; MAX_RULES];
        kept.iter().flatten().for_each(|slot| taken[*slot as usize] = true);
        let mut free = (0..MAX_RULES as u32).filter(|slot| !taken[*slot as usize]);
        let mut fresh = Vec::new();
        let of = rules
            .iter()
            .zip(kept)
            .filter_map(|(rule, kept)| {
                let slot = kept.or_else(|| {
                    let slot = free.next()?;
                    fresh.push(slot);
                    Some(slot)
                })?;
                Some((rule.clone(), slot))
            })
            .collect();
        NextSlots { of, fresh }
    }

    /// Puts an assignment in force.
    pub(super) fn adopt(&mut self, next: NextSlots) {
        self.of = next.of;
    }

    /// The counters, in the order of the rules.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.of.iter().map(|(_, slot)| *slot)
    }
}

impl NextSlots {
    /// The counters, in the order of the rules.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.of.iter().map(|(_, slot)| *slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[&str]) -> Vec<Rule> {
        lines.iter().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn rules_keep_their_counter_while_others_come_and_go() {
        let mut slots = CounterSlots::default();
        let next = slots.assign(&rules(&["drop udp port 1", "drop udp port 2", "drop udp port 2"]));
        assert_eq!((next.slots(), next.fresh.clone()), (vec![0, 1, 2], vec![0, 1, 2]));
        slots.adopt(next);
        let next = slots.assign(&rules(&["drop udp port 3", "drop udp port 2", "pass udp port 1"]));
        assert_eq!((next.slots(), next.fresh.clone()), (vec![0, 1, 2], vec![0, 2]));
        slots.adopt(next);
        let next = slots.assign(&rules(&["drop udp port 2"]));
        assert_eq!((next.slots(), next.fresh.len()), (vec![1], 0));
    }
}
