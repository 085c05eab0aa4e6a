//! What a network does to datagrams, as a piece on its own: no clock, no addresses, no memory.

use std::time::Duration;

use super::random::Random;
use crate::Ecn;

/// How one direction of a path behaves. The default is a perfect wire. Fractions are of datagrams, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Lost.
    pub loss: f64,
    /// Delivered a second time, right behind the first.
    pub duplicate: f64,
    /// Delivered with one bit flipped.
    pub corrupt: f64,
    /// Held back by [`reorder_by`](Self::reorder_by), so that later ones overtake.
    pub reorder: f64,
    /// How much later the reordered arrive.
    pub reorder_by: Duration,
    /// The way takes so long.
    pub delay: Duration,
    /// And up to so much longer, evenly spread, without changing the order.
    pub jitter: Duration,
    /// Bits a second, of IP packets. `None`: no limit.
    pub bandwidth: Option<u64>,
    /// Bytes that may wait for the bandwidth; what comes on top is dropped.
    pub queue: usize,
    /// The longest IP packet. Longer ones vanish, as in a black hole.
    pub mtu: u16,
    /// ECN-capable datagrams marked "congestion experienced".
    pub ecn_ce: f64,
    /// ECN marks wiped out on the way.
    pub ecn_bleached: bool,
}

/// 100 ms at 10 Mbit/s: what home routers have.
const DEFAULT_QUEUE: usize = 125_000;

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            queue: DEFAULT_QUEUE,
            mtu: u16::MAX,
            ecn_ce: 0.0,
            ecn_bleached: false,
        }
    }
}

/// One direction of a path. The same seed and the same datagrams at the same times have the same fate.
#[derive(Clone, Debug)]
pub struct Impairment {
    faults: Faults,
    random: Random,
    /// When the line has sent what was given to it.
    line_free: Duration,
    /// When the last datagram in order arrives.
    last_arrival: Duration,
}

/// What happens to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Delivered(Delivery),
    /// It arrives twice.
    Duplicated(Delivery),
    /// It was lost by chance.
    Lost,
    /// It was longer than the MTU.
    TooLong,
    /// The queue before the line was full.
    QueueFull,
}

/// An arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub at: Duration,
    /// Its ECN field then.
    pub ecn: Ecn,
    /// A bit of the payload that is flipped.
    pub flipped_bit: Option<usize>,
    /// Later ones may arrive before it.
    pub reordered: bool,
}

impl Impairment {
    /// A direction with a sequence of chances of its own.
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, random: Random::new(seed), line_free: Duration::ZERO, last_arrival: Duration::ZERO }
    }

    /// Changes the behaviour from the next datagram on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Decides about a datagram sent at `now`: an IP packet of `packet_len` bytes, `payload_len` of them UDP
    /// payload.
    pub fn on_datagram(&mut self, now: Duration, packet_len: usize, payload_len: usize, ecn: Ecn) -> Fate {
        let faults = self.faults;
        // All the dice are thrown for every datagram, so that one fault more or less leaves the others as they were.
        let mut happens = |fraction: f64| self.random.fraction() < fraction;
        let (lost, duplicated, corrupted) =
            (happens(faults.loss), happens(faults.duplicate), happens(faults.corrupt));
        let (reordered, marked) = (happens(faults.reorder), happens(faults.ecn_ce));
        let jitter = faults.jitter.mul_f64(self.random.fraction());
        let bit = self.random.next();

        if packet_len > faults.mtu.into() {
            return Fate::TooLong;
        }
        let Some(sent) = self.through_line(now, packet_len) else { return Fate::QueueFull };
        if lost {
            return Fate::Lost;
        }
        let mut at = sent + faults.delay + jitter;
        if reordered {
            at += faults.reorder_by;
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let delivery = Delivery {
            at,
            ecn: match ecn {
                _ if faults.ecn_bleached => Ecn::NotEct,
                Ecn::Ect0 | Ecn::Ect1 if marked => Ecn::Ce,
                unmarked => unmarked,
            },
            flipped_bit: (corrupted && payload_len > 0).then(|| (bit % (payload_len as u64 * 8)) as usize),
            reordered,
        };
        if duplicated { Fate::Duplicated(delivery) } else { Fate::Delivered(delivery) }
    }

    /// When the packet has left the line; `None` when it found no room before it.
    fn through_line(&mut self, now: Duration, len: usize) -> Option<Duration> {
        let Some(bandwidth) = self.faults.bandwidth else { return Some(now) };
        let time_of = |bytes: usize| {
            let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(bandwidth.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let wait = self.line_free.saturating_sub(now);
        if wait > time_of(self.faults.queue) {
            return None;
        }
        self.line_free = now + wait + time_of(len);
        Some(self.line_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAMS: usize = 100_000;

    fn fates(faults: Faults, seed: u64) -> Vec<Fate> {
        let mut path = Impairment::new(faults, seed);
        (0..DATAGRAMS)
            .map(|n| path.on_datagram(Duration::from_micros(n as u64), 1228, 1200, Ecn::Ect0))
            .collect()
    }

    fn share(fates: &[Fate], which: impl Fn(&Fate) -> bool) -> f64 {
        fates.iter().filter(|fate| which(fate)).count() as f64 / fates.len() as f64
    }

    fn delivery(fate: &Fate) -> Option<Delivery> {
        match fate {
            Fate::Delivered(delivery) | Fate::Duplicated(delivery) => Some(*delivery),
            Fate::Lost | Fate::TooLong | Fate::QueueFull => None,
        }
    }

    #[test]
    fn a_perfect_wire_changes_nothing() {
        for (n, fate) in fates(Faults::default(), 1).iter().enumerate() {
            let at = Duration::from_micros(n as u64);
            let wanted = Delivery { at, ecn: Ecn::Ect0, flipped_bit: None, reordered: false };
            assert_eq!(*fate, Fate::Delivered(wanted));
        }
    }

    #[test]
    fn the_same_seed_has_the_same_fates() {
        let faults = Faults { loss: 0.1, duplicate: 0.1, reorder: 0.1, corrupt: 0.1, ..Faults::default() };
        assert_eq!(fates(faults, 7), fates(faults, 7));
        assert_ne!(fates(faults, 7), fates(faults, 8));
    }

    #[test]
    fn each_fault_happens_as_often_as_asked() {
        let near = |share: f64| (0.048..0.052).contains(&share);
        let perfect = Faults::default();
        let lost = fates(Faults { loss: 0.05, ..perfect }, 1);
        assert!(near(share(&lost, |fate| *fate == Fate::Lost)));
        let twice = fates(Faults { duplicate: 0.05, ..perfect }, 2);
        assert!(near(share(&twice, |fate| matches!(fate, Fate::Duplicated(_)))));
        let flipped = fates(Faults { corrupt: 0.05, ..perfect }, 3);
        assert!(near(share(&flipped, |fate| delivery(fate).is_some_and(|told| told.flipped_bit.is_some()))));
        let bits: std::collections::HashSet<_> =
            flipped.iter().filter_map(|fate| delivery(fate)?.flipped_bit).collect();
        assert!(bits.len() > 3000 && bits.iter().all(|bit| *bit < 9600), "all over the payload");
        let late = fates(Faults { reorder: 0.05, ..perfect }, 4);
        assert!(near(share(&late, |fate| delivery(fate).is_some_and(|told| told.reordered))));
        let marked = fates(Faults { ecn_ce: 0.05, ..perfect }, 5);
        assert!(near(share(&marked, |fate| delivery(fate).is_some_and(|told| told.ecn == Ecn::Ce))));
    }

    #[test]
    fn one_fault_does_not_change_the_dice_of_another() {
        let lost =
            |faults| -> Vec<bool> { fates(faults, 9).iter().map(|fate| *fate == Fate::Lost).collect() };
        let few = Faults { loss: 0.02, ..Faults::default() };
        let many = Faults { duplicate: 0.3, corrupt: 0.3, jitter: Duration::from_millis(1), ..few };
        assert_eq!(lost(few), lost(many));
    }

    #[test]
    fn jitter_delays_without_reordering_and_reordering_overtakes() {
        let jitter =
            Faults { delay: Duration::from_millis(5), jitter: Duration::from_millis(3), ..Faults::default() };
        let arrivals: Vec<_> = fates(jitter, 1).iter().filter_map(delivery).map(|told| told.at).collect();
        assert!(arrivals.is_sorted());
        assert!(arrivals[0] >= Duration::from_millis(5) && arrivals[0] < Duration::from_millis(8));
        let reordering = Faults { reorder: 0.01, ..jitter };
        let arrivals: Vec<_> = fates(reordering, 1).iter().filter_map(delivery).map(|told| told.at).collect();
        assert!(!arrivals.is_sorted());
    }

    #[test]
    fn bandwidth_spreads_and_the_queue_overflows() {
        let faults = Faults { bandwidth: Some(8_000_000), queue: 10_000, ..Faults::default() };
        let mut path = Impairment::new(faults, 1);
        let mut arrivals = Vec::new();
        for _ in 0..20 {
            match path.on_datagram(Duration::ZERO, 1000, 972, Ecn::NotEct) {
                Fate::Delivered(told) => arrivals.push(told.at.as_millis()),
                fate => assert_eq!(fate, Fate::QueueFull),
            }
        }
        // A megabyte a second: a millisecond each; 10 fit before the line, and one in it.
        assert_eq!(arrivals, (1..=11).collect::<Vec<_>>());
        let later = path.on_datagram(Duration::from_millis(8), 1000, 972, Ecn::NotEct);
        assert!(matches!(later, Fate::Delivered(told) if told.at.as_millis() == 12), "{later:?}");
    }

    #[test]
    fn a_black_hole_takes_what_is_longer_than_the_mtu() {
        let mut path = Impairment::new(Faults { mtu: 1400, ..Faults::default() }, 1);
        assert!(matches!(path.on_datagram(Duration::ZERO, 1400, 1372, Ecn::NotEct), Fate::Delivered(_)));
        assert_eq!(path.on_datagram(Duration::ZERO, 1401, 1373, Ecn::NotEct), Fate::TooLong);
    }

    #[test]
    fn ecn_is_marked_or_bleached() {
        let marks = |faults, ecn| match Impairment::new(faults, 1).on_datagram(Duration::ZERO, 100, 72, ecn) {
            Fate::Delivered(told) => told.ecn,
            fate => panic!("{fate:?}"),
        };
        let all = Faults { ecn_ce: 1.0, ..Faults::default() };
        assert_eq!((marks(all, Ecn::Ect0), marks(all, Ecn::Ect1)), (Ecn::Ce, Ecn::Ce));
        assert_eq!(marks(all, Ecn::NotEct), Ecn::NotEct, "not capable");
        let bleached = Faults { ecn_bleached: true, ..all };
        assert_eq!(marks(bleached, Ecn::Ect0), Ecn::NotEct);
    }
}
