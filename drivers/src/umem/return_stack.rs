//! Where frames land that are dropped: a stack that any thread pushes onto and the pool empties at once.
//!
//! A push is one compare-and-swap. Nothing is ever popped singly, so a head that went away and came back
//! looking the same (ABA) is the same: the entry under it is linked as the stack of that moment needs it.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// The entry below, plus one; zero ends the stack. The top bit carries the tag.
const LINK_TAG: u32 = 1 << 31;
/// In the head: nothing is taken off any more.
const CLOSED: u64 = 1 << 63;
/// In the head: the entry count, above the top entry plus one.
const COUNT_SHIFT: u32 = 32;

/// Indices below a bound, each on the stack at most once, each with one bit beside it.
#[derive(Debug)]
pub(super) struct ReturnStack {
    head: AtomicU64,
    links: Box<[AtomicU32]>,
}

impl ReturnStack {
    pub(super) fn new(bound: u32) -> Self {
        assert!(bound < LINK_TAG, "{bound} UMEM frames");
        Self { head: AtomicU64::new(0), links: (0..bound).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Pushes. `true`, exactly once, if the stack is closed and now holds every index there is: after that
    /// nobody touches it again, and before that the caller may not assume it still exists.
    #[inline]
    pub(super) fn push(&self, index: u32, tag: bool) -> bool {
        let mut head = self.head.load(Relaxed);
        loop {
            let below = head as u32;
            self.links[index as usize].store(below | if tag { LINK_TAG } else { 0 }, Relaxed);
            let next = (head & CLOSED) | ((count(head) + 1) << COUNT_SHIFT) | u64::from(index + 1);
            // Release: what the pusher did to its frame comes before what its next owner does.
            match self.head.compare_exchange_weak(head, next, AcqRel, Relaxed) {
                Ok(_) => return head & CLOSED != 0 && count(head) + 1 == self.links.len() as u64,
                Err(now) => head = now,
            }
        }
    }

    /// How many are on the stack.
    #[inline]
    pub(super) fn len(&self) -> usize {
        count(self.head.load(Relaxed)) as usize
    }

    /// How many could be taken off: none once closed.
    #[inline]
    pub(super) fn takeable(&self) -> usize {
        let head = self.head.load(Relaxed);
        if head & CLOSED == 0 { count(head) as usize } else { 0 }
    }

    /// Takes all off, the last pushed first. Not after [`close`](Self::close).
    pub(super) fn take_all(&self, mut each: impl FnMut(u32, bool)) {
        let mut top = self.head.swap(0, Acquire) as u32;
        // Ends: the links of a taken stack lead down to its first entry, which links to nothing.
        while let Some(index) = top.checked_sub(1) {
            let link = self.links[index as usize].load(Relaxed);
            each(index, link & LINK_TAG != 0);
            top = link & !LINK_TAG;
        }
    }

    /// From now on entries stay. `true` if every index is on the stack already.
    pub(super) fn close(&self) -> bool {
        count(self.head.fetch_or(CLOSED, AcqRel)) == self.links.len() as u64
    }
}

#[inline]
fn count(head: u64) -> u64 {
    (head & !CLOSED) >> COUNT_SHIFT
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use super::*;

    #[test]
    fn what_is_pushed_comes_off_once_last_first_with_its_tag() {
        let stack = ReturnStack::new(8);
        for (index, tag) in [(3, true), (0, false), (7, true)] {
            assert!(!stack.push(index, tag));
        }
        assert_eq!(stack.len(), 3);
        let mut taken = Vec::new();
        stack.take_all(|index, tag| taken.push((index, tag)));
        assert_eq!(taken, [(7, true), (0, false), (3, true)]);
        stack.take_all(|_, _| panic!("empty"));
    }

    #[test]
    fn the_last_one_home_is_told_exactly_once() {
        let stack = ReturnStack::new(3);
        assert!(!stack.push(0, false));
        assert!(!stack.push(1, false));
        assert!(!stack.close());
        assert!(stack.push(2, true));

        let full = ReturnStack::new(2);
        assert!(!full.push(1, false) && !full.push(0, false), "not closed yet");
        assert!(full.close());
    }

    #[test]
    fn many_threads_push_while_one_takes() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let stack = ReturnStack::new(64);
        let back = [const { AtomicU32::new(0) }; 64];
        let (lasts, running) = (AtomicUsize::new(0), AtomicUsize::new(4));
        thread::scope(|scope| {
            for part in 0..4_u32 {
                let (stack, back, running) = (&stack, &back, &running);
                scope.spawn(move || {
                    for round in 1..=rounds {
                        for index in part * 16..part * 16 + 16 {
                            stack.push(index, index % 2 == 1);
                        }
                        // Each index comes back before it is pushed again.
                        for index in part * 16..part * 16 + 16 {
                            while back[index as usize].load(Acquire) != round {
                                thread::yield_now();
                            }
                        }
                    }
                    running.fetch_sub(1, AcqRel);
                });
            }
            while running.load(Acquire) > 0 {
                stack.take_all(|index, tag| {
                    assert_eq!(tag, index % 2 == 1);
                    back[index as usize].fetch_add(1, AcqRel);
                });
                thread::yield_now();
            }
        });
        assert_eq!(stack.len(), 0);
        // All of them home, from all threads, with the closing in between.
        thread::scope(|scope| {
            for part in 0..4_u32 {
                let (stack, lasts) = (&stack, &lasts);
                scope.spawn(move || {
                    for index in part * 16..part * 16 + 16 {
                        lasts.fetch_add(usize::from(stack.push(index, false)), Relaxed);
                    }
                });
            }
            lasts.fetch_add(usize::from(stack.close()), Relaxed);
        });
        assert_eq!(lasts.load(Relaxed), 1);
    }
}
