//! One direction of the wire, without a clock or a socket: frames go in, and come out when they are due.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{Counts, Impairment, frame};

/// The longest a frame is held back for others to overtake it: the last frame of a flight has none behind it,
/// and must not look lost.
const HELD_AT_MOST: Duration = Duration::from_millis(5);

/// One direction of the wire.
pub(super) struct Lane {
    rule: Impairment,
    random: SmallRng,
    /// Frames on their way, the first due on top.
    under_way: BinaryHeap<Reverse<Due>>,
    /// Frames held back, with how many may still overtake each.
    held: Vec<Held>,
    /// When the wire will have sent all it was given, if it has a rate.
    busy_until: Option<Instant>,
    accepted: u64,
    pub(super) counts: Counts,
}

struct Due {
    at: Instant,
    /// Keeps frames due at the same time in order.
    number: u64,
    frame: Vec<u8>,
}

struct Held {
    overtakers_left: u32,
    released: Instant,
    frame: Vec<u8>,
}

impl Lane {
    pub(super) fn new(rule: Impairment) -> Self {
        Self {
            rule,
            random: SmallRng::seed_from_u64(rule.seed),
            under_way: BinaryHeap::new(),
            held: Vec::new(),
            busy_until: None,
            accepted: 0,
            counts: Counts::default(),
        }
    }

    /// Changes what happens to frames from now on.
    pub(super) fn set(&mut self, rule: Impairment) {
        if rule.seed != self.rule.seed {
            self.random = SmallRng::seed_from_u64(rule.seed);
        }
        self.rule = rule;
    }

    /// Takes a frame off the wire's one end.
    pub(super) fn offer(&mut self, frame: &[u8], now: Instant) {
        let Some(udp) = frame::udp_offset(frame) else {
            self.counts.passed += 1;
            return self.send(frame.to_vec(), now);
        };
        if self.happens(self.rule.loss) {
            self.counts.lost += 1;
            return;
        }
        let mut frame = frame.to_vec();
        if self.happens(self.rule.corruption) && frame::flip_bit(&mut frame, udp, self.random.random(), false)
        {
            self.counts.corrupted += 1;
        }
        if self.happens(self.rule.forgery) && frame::flip_bit(&mut frame, udp, self.random.random(), true) {
            self.counts.forged += 1;
        }
        let twice = self.happens(self.rule.duplication);
        if twice {
            self.counts.duplicated += 1;
        }
        if self.happens(self.rule.reordering) {
            self.counts.reordered += 1;
            let overtakers_left = self.random.random_range(1..=self.rule.reorder_by.max(1));
            self.held.push(Held { overtakers_left, released: now + HELD_AT_MOST, frame: frame.clone() });
        } else {
            self.send(frame.clone(), now);
            self.overtake(now);
        }
        if twice {
            self.send(frame, now);
        }
    }

    /// The next frame that has come to the wire's other end by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.release(now);
        if self.under_way.peek()?.0.at > now {
            return None;
        }
        self.under_way.pop().map(|Reverse(due)| due.frame)
    }

    /// When [`take`](Self::take) may next have something.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.under_way.peek().map(|Reverse(due)| due.at);
        self.held.iter().map(|held| held.released).chain(first).min()
    }

    fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.random_bool(chance.min(1.0))
    }

    /// Counts one frame that went past those held back, and lets go the ones that have waited enough.
    fn overtake(&mut self, now: Instant) {
        for held in &mut self.held {
            held.overtakers_left -= 1;
            if held.overtakers_left == 0 {
                held.released = now;
            }
        }
        self.release(now);
    }

    fn release(&mut self, now: Instant) {
        while let Some(index) = self.held.iter().position(|held| held.released <= now) {
            let held = self.held.remove(index);
            self.send(held.frame, now);
        }
    }

    fn send(&mut self, frame: Vec<u8>, now: Instant) {
        let mut at = now;
        if let Some(rate) = self.rule.rate {
            let start = self.busy_until.unwrap_or(now).max(now);
            let waiting = (start - now).as_secs_f64() * rate as f64;
            if waiting as usize > self.rule.queue {
                self.counts.queue_full += 1;
                return;
            }
            at = start + Duration::from_secs_f64(frame.len() as f64 / rate as f64);
            self.busy_until = Some(at);
        }
        self.accepted += 1;
        self.counts.forwarded += 1;
        self.under_way.push(Reverse(Due { at: at + self.rule.delay, number: self.accepted, frame }));
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::{super::frame::tests::datagram, *};

    fn numbered(count: u32) -> Vec<Vec<u8>> {
        (0..count).map(|number| datagram(&number.to_be_bytes())).collect()
    }

    fn drain(lane: &mut Lane, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| lane.take(now))
            .map(|frame| u32::from_be_bytes(frame[42..46].try_into().unwrap()))
            .collect()
    }

    fn through(rule: Impairment, count: u32) -> (Vec<u32>, Counts) {
        let now = Instant::now();
        let mut lane = Lane::new(rule);
        for frame in numbered(count) {
            lane.offer(&frame, now);
        }
        (drain(&mut lane, now + HELD_AT_MOST), lane.counts)
    }

    #[test]
    fn a_perfect_wire_keeps_everything_in_order() {
        let (out, counts) = through(Impairment::NONE, 1000);
        assert_eq!(out, (0..1000).collect::<Vec<_>>());
        assert_eq!(counts, Counts { forwarded: 1000, ..Counts::default() });
    }

    #[test]
    fn the_same_seed_loses_the_same_frames() {
        let (out, counts) = through(Impairment::losing(0.02, 7), 10_000);
        assert_eq!(out.len() as u64 + counts.lost, 10_000);
        assert!((120..280).contains(&counts.lost), "{counts:?}");
        assert_eq!(through(Impairment::losing(0.02, 7), 10_000).0, out);
        assert_ne!(through(Impairment::losing(0.02, 8), 10_000).0, out);
    }

    #[test]
    fn reordered_and_doubled_frames_all_arrive() {
        let rule = Impairment { reordering: 0.3, duplication: 0.3, ..Impairment::NONE };
        let (mut out, counts) = through(rule, 1000);
        assert!(!out.is_sorted());
        assert_eq!(out.len() as u64, 1000 + counts.duplicated);
        out.sort_unstable();
        out.dedup();
        assert_eq!(out.len(), 1000);
    }

    #[test]
    fn a_held_frame_is_let_go_with_nothing_behind_it() {
        let now = Instant::now();
        let mut lane = Lane::new(Impairment { reordering: 1.0, ..Impairment::NONE });
        lane.offer(&datagram(b"held"), now);
        assert!(lane.take(now).is_none());
        assert_eq!(lane.due(), Some(now + HELD_AT_MOST));
        assert!(lane.take(now + HELD_AT_MOST).is_some());
        assert_eq!(lane.due(), None);
    }

    #[test]
    fn delay_and_rate_put_frames_where_they_belong_in_time() {
        let now = Instant::now();
        let delay = Duration::from_millis(20);
        let frame = datagram(&[0; 958]);
        assert_eq!(frame.len(), 1000);
        // One frame a millisecond, and room for four to wait.
        let mut lane =
            Lane::new(Impairment { delay, rate: Some(1_000_000), queue: 3999, ..Impairment::NONE });
        for _ in 0..10 {
            lane.offer(&frame, now);
        }
        assert_eq!(lane.counts.queue_full, 6);
        assert_eq!(lane.due(), Some(now + delay + Duration::from_millis(1)));
        assert!(lane.take(now + delay).is_none());
        let mut arrived = 0;
        while lane.take(now + delay + Duration::from_millis(4)).is_some() {
            arrived += 1;
        }
        assert_eq!(arrived, 4);
    }
}
