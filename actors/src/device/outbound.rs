//! Journeys of datagrams on their way out, from the device's mailbox until the kernel is done with them.
//!
//! Datagrams leave the queue and complete in order, so counting tells which of them has: nothing is attached to a
//! datagram. One that the device drops instead shifts the count of those behind it in the kernel by one, which is
//! noticed with the next kick.

use wirepath_drivers::TxCounts;
use wirepath_trace::{Journey, Nanos, Stage};

use crate::traced::Traced;

/// Journeys that wait for their completion at most: sampling is rarer than completing.
const MAX_IN_KERNEL: usize = 64;

/// The journeys a device has in hand.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// With their place in the queue, counted from its front.
    queued: Vec<(usize, Nanos, Box<Journey>)>,
    /// With the count of submitted datagrams that includes theirs.
    in_kernel: Vec<(u64, Box<Journey>)>,
}

impl Outbound {
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    #[inline]
    pub(super) fn is_in_kernel(&self) -> bool {
        !self.in_kernel.is_empty()
    }

    /// Journeys of a batch about to be queued behind `queued` others.
    #[cold]
    pub(super) fn enter(&mut self, mut traced: Traced, queued: usize, taken: Nanos) {
        self.queued.extend(traced.drain().map(|(place, journey)| (queued + place, taken, journey)));
    }

    /// `left` datagrams have left the queue between `begun` and `done`.
    #[cold]
    pub(super) fn on_flushed(
        &mut self,
        actor: u64,
        left: usize,
        begun: Nanos,
        done: Nanos,
        counts: Option<TxCounts>,
    ) {
        let mut waiting = Vec::new();
        for (place, taken, mut journey) in std::mem::take(&mut self.queued) {
            if place >= left {
                waiting.push((place - left, taken, journey));
                continue;
            }
            journey.hop(Stage::Device, actor, taken, begun, left);
            journey.hop(Stage::Ring, actor, begun, done, left);
            match counts {
                Some(counts) if self.in_kernel.len() < MAX_IN_KERNEL => {
                    self.in_kernel.push((counts.submitted, journey));
                }
                _ => journey.finish("sent"),
            }
        }
        self.queued = waiting;
    }

    /// Ends the journeys of what the kernel is done with.
    #[cold]
    pub(super) fn on_completed(&mut self, counts: Option<TxCounts>, now: Nanos) {
        for (submitted, mut journey) in std::mem::take(&mut self.in_kernel) {
            if counts.is_some_and(|counts| counts.completed < submitted) {
                self.in_kernel.push((submitted, journey));
                continue;
            }
            journey.hop(Stage::Kernel, 0, now, now, 1);
            journey.finish("sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use wirepath_trace::{Direction, Tracer};

    use super::*;

    #[test]
    fn a_datagram_is_followed_by_counting_to_its_completion() {
        let tracer = Tracer::new(1, 1 << 16);
        let mut outbound = Outbound::default();
        let mut traced = Traced::default();
        traced.push(2, tracer.begin(Direction::Tx, 100));
        outbound.enter(traced, 3, 150);
        let counts = |submitted, completed| Some(TxCounts { submitted, completed });
        outbound.on_flushed(7, 5, 200, 300, counts(5, 0));
        assert!(outbound.is_queued(), "it is the sixth");
        outbound.on_flushed(7, 1, 400, 500, counts(6, 3));
        assert!(!outbound.is_queued() && outbound.is_in_kernel());
        outbound.on_completed(counts(9, 5), 600);
        assert!(outbound.is_in_kernel());
        outbound.on_completed(counts(9, 6), 700);
        let (records, _) = tracer.read(0, 10);
        let hops: Vec<_> = records[0].hops().iter().map(|hop| (hop.stage, hop.wait, hop.run)).collect();
        assert_eq!(hops, [(Stage::Device, 50, 250), (Stage::Ring, 0, 100), (Stage::Kernel, 200, 0)]);
        assert_eq!((records[0].outcome, records[0].total()), ("sent", 600));
    }
}
