//! The streams of one type and initiator, by their dense numbers.

use std::collections::VecDeque;

use super::Stream;

#[cfg(test)]
thread_local! {
    /// Streams looked at on this thread: what the work for a packet must not grow with.
    pub(super) static LOOKUPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The window may be this long without regard to how many of its streams are over: below, scanning is not worth it.
const MIN_SPAN: usize = 64;

/// The window is at most this many times as long as it has streams that are not over; then the oldest move out.
const MAX_SPARSENESS: usize = 8;

/// What is known of one stream.
#[derive(Debug)]
enum Slot {
    /// Over in both directions.
    Over,
    /// Opened, perhaps only implied by a higher-numbered one (RFC 9000 §3.2), but never used: costs no state.
    Unused,
    /// In use.
    Used(Box<Stream>),
}

/// Streams of one type and initiator, found by their number in constant time.
///
/// Numbers are handed out in order and streams mostly end in about that order, so that a window over the numbers serves
/// nearly all. A stream that outlives many later ones moves to a hash map, else it would hold the window open.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    /// Number of the first stream in the window.
    base: u64,
    window: VecDeque<Slot>,
    /// Streams in the window that are not over.
    live: usize,
    /// Old streams that are not over.
    old: Option<Box<ahash::HashMap<u64, Slot>>>,
}

impl StreamTable {
    /// Streams opened so far, those over included: the number of the next one.
    pub(super) fn opened(&self) -> u64 {
        self.base + self.window.len() as u64
    }

    /// Are all streams over?
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.live == 0 && self.old.is_none()
    }

    /// Opens all streams below `count`.
    pub(super) fn open_until(&mut self, count: u64) {
        while self.opened() < count {
            self.window.push_back(Slot::Unused);
            self.live += 1;
        }
        self.keep_dense();
    }

    /// The stream, if it is in use.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Stream> {
        match self.slot_mut(number)? {
            Slot::Used(stream) => Some(stream),
            Slot::Over | Slot::Unused => None,
        }
    }

    /// The stream, made by `make` if it was opened and never used; `None` if it is over or was not opened.
    #[inline]
    pub(super) fn get_or_use(&mut self, number: u64, make: impl FnOnce() -> Stream) -> Option<&mut Stream> {
        let slot = self.slot_mut(number)?;
        if let Slot::Unused = slot {
            *slot = Slot::Used(Box::new(make()));
        }
        match slot {
            Slot::Used(stream) => Some(stream),
            Slot::Over | Slot::Unused => None,
        }
    }

    /// Frees a stream.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(index) = number.checked_sub(self.base) else {
            if let Some(old) = &mut self.old {
                old.remove(&number);
                if old.is_empty() {
                    self.old = None;
                }
            }
            return;
        };
        let Some(slot) = self.window.get_mut(index as usize) else { return };
        if !matches!(slot, Slot::Over) {
            *slot = Slot::Over;
            self.live -= 1;
        }
        self.keep_dense();
    }

    /// Every stream in use, in no particular order. Takes as long as there are streams: for rare occasions only.
    pub(super) fn used(&mut self) -> impl Iterator<Item = (u64, &mut Stream)> {
        let base = self.base;
        let old = self.old.iter_mut().flat_map(|old| old.iter_mut().map(|(number, slot)| (*number, slot)));
        let window = self.window.iter_mut().enumerate().map(move |(i, slot)| (base + i as u64, slot));
        old.chain(window).filter_map(|(number, slot)| match slot {
            Slot::Used(stream) => {
                #[cfg(test)]
                LOOKUPS.set(LOOKUPS.get() + 1);
                Some((number, &mut **stream))
            }
            Slot::Over | Slot::Unused => None,
        })
    }

    /// Forgets all streams.
    pub(super) fn clear(&mut self) {
        self.base = self.opened();
        self.window = VecDeque::new();
        self.live = 0;
        self.old = None;
    }

    /// Gives spare capacity back.
    pub(super) fn shrink(&mut self) {
        self.window.shrink_to_fit();
    }

    #[inline]
    fn slot_mut(&mut self, number: u64) -> Option<&mut Slot> {
        #[cfg(test)]
        LOOKUPS.set(LOOKUPS.get() + 1);
        match number.checked_sub(self.base) {
            Some(index) => self.window.get_mut(usize::try_from(index).ok()?),
            None => self.old.as_mut()?.get_mut(&number),
        }
    }

    /// Moves the window past streams that are over, and past old ones if it has become sparse. Each stream is passed
    /// once, so that the time for all is proportional to the streams opened.
    fn keep_dense(&mut self) {
        while let Some(front) = self.window.front() {
            let sparse =
                self.window.len() > MIN_SPAN && self.window.len() > MAX_SPARSENESS * self.live.max(1);
            match front {
                Slot::Over => {}
                Slot::Unused | Slot::Used(_) if sparse => self.live -= 1,
                Slot::Unused | Slot::Used(_) => return,
            }
            let Some(front) = self.window.pop_front() else { return };
            if !matches!(front, Slot::Over) {
                self.old.get_or_insert_default().insert(self.base, front);
            }
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream::new(None, None)
    }

    #[test]
    fn long_lived_streams_do_not_hold_the_window_open() {
        let mut table = StreamTable::default();
        table.open_until(1);
        assert!(table.get_or_use(0, stream).is_some());
        table.open_until(3);
        for number in 1..100_000 {
            table.open_until(number + 3);
            assert!(table.get_or_use(number, stream).is_some());
            if number % 1000 != 0 {
                table.remove(number);
                assert!(table.get_mut(number).is_none());
                assert!(table.get_or_use(number, stream).is_none());
            }
        }
        assert!(table.window.len() <= MIN_SPAN.max(MAX_SPARSENESS * 3));
        assert_eq!(table.used().count(), 100);
        for number in 0..100_002 {
            table.remove(number);
        }
        assert!(table.is_empty());
        assert_eq!(table.opened(), 100_002);
    }

    #[test]
    fn implied_streams_cost_no_state_until_used() {
        let mut table = StreamTable::default();
        table.open_until(1000);
        assert_eq!(table.used().count(), 0);
        assert!(table.get_mut(999).is_none());
        assert!(table.get_or_use(999, stream).is_some());
        assert_eq!(table.used().count(), 1);
        assert!(table.get_or_use(1000, stream).is_none());
        assert!(size_of::<Slot>() <= 16);
    }
}
