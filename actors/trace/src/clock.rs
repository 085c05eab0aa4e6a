//! One clock reading a batch, shared by everything that runs on a thread meanwhile.

use std::{cell::Cell, sync::OnceLock, time::Instant};

/// Nanoseconds of monotonic time since the process first asked.
pub type Nanos = u64;

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

thread_local! {
    static LAST: Cell<Nanos> = const { Cell::new(0) };
}

/// The clock of a thread: read once when a batch starts, then remembered.
///
/// A reading costs about 24 ns, a remembered one nothing worth counting, so per-packet work uses
/// [`BatchClock::last`].
#[derive(Debug)]
pub struct BatchClock;

impl BatchClock {
    /// Reads the clock and remembers the reading for this thread.
    pub fn read() -> Nanos {
        let now = epoch().elapsed().as_nanos() as Nanos;
        LAST.set(now);
        now
    }

    /// The last reading on this thread; reads the clock if there is none yet.
    pub fn last() -> Nanos {
        match LAST.get() {
            0 => Self::read(),
            last => last,
        }
    }

    /// The instant a reading stands for.
    pub fn instant(nanos: Nanos) -> Instant {
        epoch() + std::time::Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_repeats_the_reading_and_readings_never_go_back() {
        let first = BatchClock::read();
        assert_eq!(BatchClock::last(), first);
        assert!(BatchClock::read() >= first);
    }

    #[test]
    fn instant_round_trips() {
        let now = BatchClock::read();
        assert_eq!(BatchClock::instant(now).duration_since(epoch()).as_nanos() as u64, now);
    }
}
