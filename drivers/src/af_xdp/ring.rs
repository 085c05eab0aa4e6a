//! The four rings shared with the kernel: single producer, single consumer, counters that run freely and wrap.
//!
//! Protocol (Documentation/networking/af_xdp.rst, `xsk_queue.h`): the producer writes entries and then stores
//! its counter with release; the consumer loads it with acquire, reads, and then stores its own counter with
//! release, which the producer loads with acquire before it overwrites. The number of entries is a power of
//! two; the index of an entry is the counter modulo that.
//!
//! A counter of the other side that claims more than the ring holds is a [`RingFault`]: nothing in the ring
//! can be trusted any more, and nothing is read or written.
#![allow(unsafe_code)] // reads and writes memory shared with the kernel

use std::{
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::ring_memory::RingMemory;

/// The kernel wants a system call before it looks at the ring again (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// The other side's counter can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingFault;

/// Where the parts of one ring are in its memory.
#[derive(Debug)]
pub(super) struct RingParts<T> {
    pub(super) producer: NonNull<AtomicU32>,
    pub(super) consumer: NonNull<AtomicU32>,
    pub(super) flags: Option<NonNull<AtomicU32>>,
    pub(super) entries: NonNull<T>,
    pub(super) mask: u32,
    /// Keeps the pointers valid.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) memory: RingMemory,
}

// SAFETY: the pointers lead into memory that `memory` owns or shares and that belongs to no thread; the ring
// types below hand out no references to it, and each needs `&mut self` to read or write entries.
unsafe impl<T: Send> Send for RingParts<T> {}

impl<T> RingParts<T> {
    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `RingMemory` made the pointer aligned and in range, and `self.memory` keeps it so.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn size(&self) -> u32 {
        self.mask + 1
    }

    #[inline]
    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        self.flags.is_some_and(|flags| unsafe { flags.as_ref() }.load(Relaxed) & NEED_WAKEUP != 0)
    }
}

/// The end of a ring that writes: ours of the fill and TX rings.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    parts: RingParts<T>,
    /// Entries written, published or not.
    head: u32,
    /// The consumer's counter when last looked at.
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(parts: RingParts<T>) -> Self {
        let head = parts.producer().load(Relaxed);
        let consumed = parts.consumer().load(Acquire);
        Self { parts, head, consumed }
    }

    /// Slots free, looking at the consumer only when fewer than `wanted` are known to be.
    #[inline]
    pub(crate) fn free(&mut self, wanted: u32) -> Result<u32, RingFault> {
        let known = self.parts.size() - self.head.wrapping_sub(self.consumed);
        if known >= wanted {
            return Ok(known);
        }
        let consumed = self.parts.consumer().load(Acquire);
        let used = self.head.wrapping_sub(consumed);
        if used > self.parts.size() {
            return Err(RingFault);
        }
        self.consumed = consumed;
        Ok(self.parts.size() - used)
    }

    /// Writes an entry that the consumer sees at the next [`publish`](Self::publish). Refused if no slot is
    /// known to be free: see [`free`](Self::free).
    #[inline]
    #[must_use]
    pub(crate) fn push(&mut self, entry: T) -> bool {
        if self.head.wrapping_sub(self.consumed) >= self.parts.size() {
            return false;
        }
        // SAFETY: the masked index lies within the ring. The slot is ours: the consumer's counter, loaded with
        // acquire, has passed it, and ours has not been published beyond it.
        unsafe { self.parts.entries.add((self.head & self.parts.mask) as usize).write(entry) };
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Shows the consumer everything pushed.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.parts.producer().store(self.head, Release);
    }

    /// Published entries that the consumer has not taken, as of now.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        self.parts.producer().load(Relaxed).wrapping_sub(self.parts.consumer().load(Acquire))
    }

    /// Whether the kernel asks for a system call.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.parts.needs_wakeup()
    }

    /// Entries the ring holds.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.parts.size()
    }
}

/// The end of a ring that reads: ours of the RX and completion rings.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    parts: RingParts<T>,
    /// Entries read, released or not.
    tail: u32,
    /// The producer's counter when last looked at.
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(parts: RingParts<T>) -> Self {
        let tail = parts.consumer().load(Relaxed);
        let produced = tail;
        Self { parts, tail, produced }
    }

    /// Entries to read, looking at the producer only when fewer than `wanted` are known to be there.
    #[inline]
    pub(crate) fn available(&mut self, wanted: u32) -> Result<u32, RingFault> {
        let known = self.produced.wrapping_sub(self.tail);
        if known >= wanted {
            return Ok(known);
        }
        let produced = self.parts.producer().load(Acquire);
        let filled = produced.wrapping_sub(self.tail);
        if filled > self.parts.size() {
            return Err(RingFault);
        }
        self.produced = produced;
        Ok(filled)
    }

    /// Reads an entry. `None` if none is known to be there: see [`available`](Self::available).
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.tail == self.produced {
            return None;
        }
        // SAFETY: the masked index lies within the ring. The producer's counter, loaded with acquire, has
        // passed the entry, so it is written; ours has not, so it is not being overwritten. `T` is an integer
        // or a struct of integers: every bit pattern is one.
        let entry = unsafe { self.parts.entries.add((self.tail & self.parts.mask) as usize).read() };
        self.tail = self.tail.wrapping_add(1);
        Some(entry)
    }

    /// Gives the slots of everything popped back to the producer.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.parts.consumer().store(self.tail, Release);
    }

    /// Entries the ring holds.
    pub(crate) fn size(&self) -> u32 {
        self.parts.size()
    }

    /// Entries that wait to be read, as of now.
    pub(crate) fn pending(&self) -> u32 {
        self.parts.producer().load(Acquire).wrapping_sub(self.tail)
    }
}

#[cfg(test)]
mod tests {
    use std::{ptr, thread};

    use super::{super::ring_memory::RingMemory, *};

    fn pair(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let memory = RingMemory::plain::<u64>(size, start);
        (Producer::new(memory.plain_parts(size)), Consumer::new(memory.plain_parts(size)))
    }

    #[test]
    fn an_empty_ring_yields_nothing_and_a_full_one_takes_nothing() {
        let (mut producer, mut consumer) = pair(4, 0);
        assert_eq!(consumer.available(1), Ok(0));
        assert_eq!(consumer.pop(), None);
        for entry in 0..4 {
            assert!(producer.push(entry));
        }
        assert!(!producer.push(4));
        assert_eq!(consumer.available(1), Ok(0), "nothing is seen before it is published");
        producer.publish();
        assert_eq!(producer.free(1), Ok(0));
        assert_eq!(consumer.available(1), Ok(4));
        assert_eq!(consumer.pop(), Some(0));
        assert_eq!(producer.free(1), Ok(0), "a slot is not free before it is released");
        consumer.release();
        assert_eq!(producer.free(1), Ok(1));
        assert!(producer.push(4));
        assert!(!producer.push(5));
    }

    #[test]
    fn counters_wrap_at_two_to_the_thirty_second() {
        for size in [1_u32, 2, 64, 1024] {
            let (mut producer, mut consumer) = pair(size, u32::MAX - 2);
            let (mut sent, mut received) = (0_u64, 0_u64);
            for burst in (1..=size).cycle().take(200) {
                for _ in 0..burst.min(producer.free(burst).unwrap()) {
                    assert!(producer.push(sent));
                    sent += 1;
                }
                producer.publish();
                consumer.available(size).unwrap();
                while let Some(entry) = consumer.pop() {
                    assert_eq!(entry, received);
                    received += 1;
                }
                consumer.release();
            }
            assert_eq!(sent, received);
            assert!(sent > 3, "wrapped");
            assert_eq!(producer.free(size), Ok(size));
        }
    }

    #[test]
    fn impossible_counters_are_faults_and_move_nothing() {
        let (mut producer, mut consumer) = pair(8, 100);
        // As a kernel gone mad would: far ahead, and behind.
        for wrong in [109, 99, 100 + (1 << 31), u32::MAX] {
            consumer.parts.producer().store(wrong, Release);
            assert_eq!(consumer.available(1), Err(RingFault), "producer at {wrong}");
            assert_eq!(consumer.pop(), None);
        }
        consumer.parts.producer().store(100, Release);
        for entry in 0..8 {
            assert!(producer.push(entry));
        }
        for wrong in [99, 109, 100 - 64] {
            producer.parts.consumer().store(wrong, Release);
            assert_eq!(producer.free(1), Err(RingFault), "consumer at {wrong}");
            assert!(!producer.push(9));
        }
    }

    #[test]
    fn two_threads_lose_and_tear_nothing() {
        let count: u64 = if cfg!(miri) { 500 } else { 300_000 };
        let (mut producer, mut consumer) = pair(64, u32::MAX - 1000);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < count {
                let free = producer.free(1).unwrap();
                for _ in 0..u64::from(free).min(count - next) {
                    assert!(producer.push(next * 0x0001_0001_0001));
                    next += 1;
                }
                producer.publish();
                thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < count {
            consumer.available(1).unwrap();
            while let Some(entry) = consumer.pop() {
                assert_eq!(entry, expected * 0x0001_0001_0001);
                expected += 1;
            }
            consumer.release();
            thread::yield_now();
        }
        sender.join().unwrap();
        assert_eq!(consumer.available(1), Ok(0));
    }

    #[test]
    fn both_ends_lie_in_one_memory() {
        let (producer, consumer) = pair(4, 7);
        assert!(ptr::eq(producer.parts.producer(), consumer.parts.producer()));
        assert_eq!((producer.pending(), consumer.pending()), (0, 0));
        assert!(!producer.needs_wakeup());
        assert_eq!(producer.size(), 4);
    }
}
