//! Which stream sends next.

use std::collections::VecDeque;

use s2n_quic_core::stream::StreamId;

/// What a stream waits to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lost data, or the end alone: takes no flow control credit.
    Repair,
    /// Data never sent before: takes the connection's credit.
    Fresh,
}

/// Streams of one priority that have something to send, each at most once in each queue.
#[derive(Debug)]
struct Level {
    priority: i8,
    repair: VecDeque<StreamId>,
    fresh: VecDeque<StreamId>,
    /// Bytes the first stream of `fresh` may send before the next one has its turn.
    burst_left: u64,
}

/// Streams that have something to send: priorities strictly, within one of them repairs first, then fresh data in turn.
///
/// Every operation takes constant time in the number of streams. Priorities are few, and a level once used stays.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Highest priority first.
    levels: Vec<Level>,
    repairs: usize,
    fresh: usize,
    burst: u64,
}

/// The stream whose turn it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) id: StreamId,
    pub(super) kind: Kind,
    level: usize,
}

impl Schedule {
    /// A stream sends `burst` bytes before the next of its priority has its turn.
    pub(super) fn new(burst: u64) -> Self {
        Self { levels: Vec::new(), repairs: 0, fresh: 0, burst }
    }

    pub(super) fn has_repairs(&self) -> bool {
        self.repairs > 0
    }

    pub(super) fn has_fresh(&self) -> bool {
        self.fresh > 0
    }

    /// Queues a stream that is not queued for `kind`.
    #[inline]
    pub(super) fn push(&mut self, kind: Kind, priority: i8, id: StreamId) {
        let index = match self.levels.iter().position(|level| level.priority <= priority) {
            Some(index) if self.levels[index].priority == priority => index,
            other => {
                let index = other.unwrap_or(self.levels.len());
                let (repair, fresh) = (VecDeque::new(), VecDeque::new());
                self.levels.insert(index, Level { priority, repair, fresh, burst_left: self.burst });
                index
            }
        };
        match kind {
            Kind::Repair => {
                self.repairs += 1;
                self.levels[index].repair.push_back(id);
            }
            Kind::Fresh => {
                self.fresh += 1;
                self.levels[index].fresh.push_back(id);
            }
        }
    }

    /// Moves a queued stream to another priority. Takes time in the number of streams queued for the old one: a change
    /// by the application, of a stream with data waiting, is rare.
    pub(super) fn reprioritise(&mut self, kind: Kind, id: StreamId, from: i8, to: i8) {
        let Some(level) = self.levels.iter_mut().find(|level| level.priority == from) else { return };
        let queue = match kind {
            Kind::Repair => &mut level.repair,
            Kind::Fresh => &mut level.fresh,
        };
        let Some(position) = queue.iter().position(|queued| *queued == id) else { return };
        queue.remove(position);
        match kind {
            Kind::Repair => self.repairs -= 1,
            Kind::Fresh => {
                self.fresh -= 1;
                if position == 0 {
                    level.burst_left = self.burst;
                }
            }
        }
        self.push(kind, to, id);
    }

    /// Whose turn it is; streams with fresh data only if the connection `has_credit`.
    #[inline]
    pub(super) fn next(&self, has_credit: bool) -> Option<Turn> {
        if self.repairs == 0 && (self.fresh == 0 || !has_credit) {
            return None;
        }
        self.levels.iter().enumerate().find_map(|(index, level)| {
            if let Some(&id) = level.repair.front() {
                return Some(Turn { id, kind: Kind::Repair, level: index });
            }
            let id = *level.fresh.front().filter(|_| has_credit)?;
            Some(Turn { id, kind: Kind::Fresh, level: index })
        })
    }

    /// Takes the stream whose turn it is out of its queue.
    #[inline]
    pub(super) fn pop(&mut self, turn: Turn) {
        let level = &mut self.levels[turn.level];
        match turn.kind {
            Kind::Repair => {
                self.repairs -= usize::from(level.repair.pop_front().is_some());
            }
            Kind::Fresh => {
                self.fresh -= usize::from(level.fresh.pop_front().is_some());
                level.burst_left = self.burst;
            }
        }
    }

    /// Counts fresh bytes sent by the stream whose turn it is. Says whether its burst is over and its turn ended.
    #[inline]
    pub(super) fn spend(&mut self, turn: Turn, bytes: u64) -> bool {
        let level = &mut self.levels[turn.level];
        match turn.kind {
            Kind::Repair => false,
            Kind::Fresh => {
                level.burst_left = level.burst_left.saturating_sub(bytes);
                let over = level.burst_left == 0;
                if over {
                    level.burst_left = self.burst;
                    level.fresh.rotate_left(1);
                }
                over
            }
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.burst);
    }

    /// Gives spare capacity back.
    pub(super) fn shrink(&mut self) {
        self.levels.retain(|level| !level.repair.is_empty() || !level.fresh.is_empty());
        self.levels.shrink_to_fit();
        for level in &mut self.levels {
            level.repair.shrink_to_fit();
            level.fresh.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::varint::VarInt;

    fn id(n: u32) -> StreamId {
        StreamId::from_varint(VarInt::from_u32(n))
    }

    #[test]
    fn turns_go_round_within_a_priority_and_higher_ones_first() {
        let mut schedule = Schedule::new(100);
        for n in 0..3 {
            schedule.push(Kind::Fresh, 0, id(n));
        }
        schedule.push(Kind::Fresh, 5, id(9));
        schedule.push(Kind::Repair, -1, id(7));
        let mut order = Vec::new();
        for _ in 0..2 {
            let turn = schedule.next(true).unwrap();
            order.push(turn.id);
            schedule.spend(turn, 60);
        }
        schedule.pop(schedule.next(true).unwrap());
        for _ in 0..8 {
            let turn = schedule.next(true).unwrap();
            order.push(turn.id);
            schedule.spend(turn, 60);
        }
        assert_eq!(order, [9, 9, 0, 0, 1, 1, 2, 2, 0, 0].map(id));
        let turn = schedule.next(false).unwrap();
        assert_eq!((turn.id, turn.kind), (id(7), Kind::Repair));
        schedule.pop(turn);
        assert_eq!(schedule.next(false), None);
    }
}
