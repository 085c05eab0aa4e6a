//! How often a neighbour that seems to have moved is asked for: each time costs a broadcast or multicast on the link.

use std::time::{Duration, Instant};

/// Asked for so often in a row. A busy machine has probe timeouts of its own, and the first must not use up what the
/// next, by a real change, needs; the kernel itself asks three times, too, before it gives up.
const BURST: u32 = 4;

/// In the long run asked for once in this time (RFC 1122 §2.3.2.1, RFC 4861 §10: RETRANS_TIMER).
const INTERVAL: Duration = Duration::from_secs(1);

/// An answer that was asked for within this time is newer than what seems to be lost: a probe timeout is never shorter than
/// the peer's longest delay of an acknowledgement, by default 25 ms. The doubts of many connections are one.
const ANSWER_HOLDS: Duration = Duration::from_millis(20);

/// What may be asked yet.
#[derive(Debug)]
pub(super) struct Suspicions {
    left: u32,
    /// When `left` was last added to.
    filled: Instant,
    taken: Option<Instant>,
}

impl Suspicions {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now, taken: None }
    }

    /// Whether the neighbour is to be asked for now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = (now.duration_since(self.filled).as_nanos() / INTERVAL.as_nanos()) as u32;
        self.filled += INTERVAL * passed;
        self.left = self.left.saturating_add(passed).min(BURST);
        let answered = self.taken.is_some_and(|taken| now.duration_since(taken) < ANSWER_HOLDS);
        if self.left == 0 || answered {
            return false;
        }
        self.left -= 1;
        self.taken = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_a_row_then_one_a_second() {
        let mut now = Instant::now();
        let mut suspicions = Suspicions::new(now);
        let mut taken = |wait: Duration| {
            now += wait;
            suspicions.take(now)
        };
        let apart = Duration::from_millis(30);
        assert!((0..BURST).all(|_| taken(apart)));
        assert!(!taken(apart));
        assert!(taken(INTERVAL) && !taken(apart));
        assert!(taken(INTERVAL) && !taken(apart));
        assert!((0..BURST).all(|n| taken(if n == 0 { INTERVAL * 100 } else { apart })));
        assert!(!taken(apart));
    }

    #[test]
    fn doubts_at_one_time_are_one() {
        let now = Instant::now();
        let mut suspicions = Suspicions::new(now);
        assert!(suspicions.take(now));
        assert!(!suspicions.take(now) && !suspicions.take(now + ANSWER_HOLDS / 2));
        assert!(suspicions.take(now + ANSWER_HOLDS));
        assert_eq!(suspicions.left, BURST - 2);
    }
}
