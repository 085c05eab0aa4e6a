//! The state of a network in memory: paths, datagrams on their way, inboxes.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    faults::{Delivery, Fate, Faults, Impairment},
    timer::Timer,
};
use crate::Ecn;

#[derive(Debug)]
pub(super) struct World {
    seed: u64,
    faults: Faults,
    clock: Clock,
    paths: HashMap<(IpAddr, IpAddr), Impairment>,
    /// Where what is sent to an address goes: several addresses may lead to one inbox.
    attached: HashMap<IpAddr, usize>,
    inboxes: HashMap<usize, Inbox>,
    outside_of: HashMap<SocketAddr, SocketAddr>,
    inside_of: HashMap<SocketAddr, SocketAddr>,
    next_inbox: usize,
    /// Tells datagrams apart that arrive at one instant: those sent first come first.
    next_number: u64,
    stats: MemoryNetStats,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Virtual(Duration),
    Real(Instant),
}

#[derive(Debug, Default)]
struct Inbox {
    arrivals: BinaryHeap<Arrival>,
    timer: Option<Arc<Timer>>,
}

/// A datagram on its way, or waiting to be received.
#[derive(Debug)]
pub(super) struct Arrival {
    at: Duration,
    number: u64,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) ecn: Ecn,
    pub(super) payload: BytesMut,
}

/// Datagrams of a network in memory, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNetStats {
    /// Given to the network.
    pub datagram_sent: u64,
    /// Put into an inbox, or on the way there; duplicates count.
    pub datagram_delivered: u64,
    /// Delivered twice.
    pub datagram_duplicated: u64,
    /// Delivered with a bit flipped.
    pub datagram_corrupted: u64,
    /// Held back.
    pub datagram_reordered: u64,
    /// Marked "congestion experienced".
    pub datagram_marked: u64,
    /// Lost by chance.
    pub lost_dropped: u64,
    /// Longer than the MTU.
    pub too_long_dropped: u64,
    /// Found the queue full.
    pub queue_full_dropped: u64,
    /// Sent where no device is.
    pub unattached_dropped: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults, real: Option<Instant>) -> Self {
        Self {
            seed,
            faults,
            clock: real.map_or(Clock::Virtual(Duration::ZERO), Clock::Real),
            paths: HashMap::new(),
            attached: HashMap::new(),
            inboxes: HashMap::new(),
            outside_of: HashMap::new(),
            inside_of: HashMap::new(),
            next_inbox: 0,
            next_number: 0,
            stats: MemoryNetStats::default(),
        }
    }

    pub(super) fn is_real_time(&self) -> bool {
        matches!(self.clock, Clock::Real(_))
    }

    pub(super) fn now(&self) -> Duration {
        match self.clock {
            Clock::Virtual(now) => now,
            Clock::Real(start) => start.elapsed(),
        }
    }

    pub(super) fn advance(&mut self, time: Duration) {
        if let Clock::Virtual(now) = &mut self.clock {
            *now += time;
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.paths.values_mut().for_each(|path| path.set_faults(faults));
    }

    pub(super) fn set_path_faults(&mut self, from: IpAddr, to: IpAddr, faults: Faults) {
        self.path(from, to).set_faults(faults);
    }

    pub(super) fn translate(&mut self, inside: SocketAddr, outside: SocketAddr) {
        if let Some(old) = self.outside_of.insert(inside, outside) {
            self.inside_of.remove(&old);
        }
        self.inside_of.insert(outside, inside);
    }

    pub(super) fn attach(&mut self, timer: Option<Arc<Timer>>) -> usize {
        self.next_inbox += 1;
        self.inboxes.insert(self.next_inbox, Inbox { timer, ..Inbox::default() });
        self.next_inbox
    }

    /// Returns whether the address was free.
    pub(super) fn add_address(&mut self, inbox: usize, ip: IpAddr) -> bool {
        *self.attached.entry(ip).or_insert(inbox) == inbox
    }

    pub(super) fn detach(&mut self, inbox: usize) {
        self.attached.retain(|_, attached| *attached != inbox);
        self.inboxes.remove(&inbox);
    }

    pub(super) fn send(&mut self, local: SocketAddr, remote: SocketAddr, ecn: Ecn, payload: &[u8]) {
        self.stats.datagram_sent += 1;
        let now = self.now();
        let seen_from = self.outside_of.get(&local).copied().unwrap_or(local);
        let goes_to = self.inside_of.get(&remote).copied().unwrap_or(remote);
        // An outside address that was bound once, and is no more, belongs to nobody.
        let Some(inbox) = self.attached.get(&goes_to.ip()).copied() else {
            self.stats.unattached_dropped += 1;
            return;
        };
        let packet_len = payload.len() + if remote.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let fate = self.path(local.ip(), goes_to.ip()).on_datagram(now, packet_len, payload.len(), ecn);
        let (delivery, copies) = match fate {
            Fate::Delivered(delivery) => (delivery, 1),
            Fate::Duplicated(delivery) => (delivery, 2),
            Fate::Lost => return self.stats.lost_dropped += 1,
            Fate::TooLong => return self.stats.too_long_dropped += 1,
            Fate::QueueFull => return self.stats.queue_full_dropped += 1,
        };
        self.count(delivery, copies, ecn);
        for _ in 0..copies {
            let mut payload = BytesMut::from(payload);
            if let Some(bit) = delivery.flipped_bit {
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            let number = self.next_number;
            self.next_number += 1;
            let (at, ecn) = (delivery.at, delivery.ecn);
            let arrival = Arrival { at, number, local: goes_to, remote: seen_from, ecn, payload };
            self.inboxes.entry(inbox).or_default().arrivals.push(arrival);
        }
        self.set_timer(inbox);
    }

    /// The next datagram that has arrived.
    pub(super) fn receive(&mut self, inbox: usize) -> Option<Arrival> {
        let now = self.now();
        let arrivals = &mut self.inboxes.get_mut(&inbox)?.arrivals;
        arrivals.peek().is_some_and(|arrival| arrival.at <= now).then(|| arrivals.pop()).flatten()
    }

    /// Lets the device's descriptor become readable when its next datagram arrives, and not before.
    pub(super) fn set_timer(&self, inbox: usize) {
        if let Some(Inbox { arrivals, timer: Some(timer) }) = self.inboxes.get(&inbox) {
            timer.set(arrivals.peek().map(|arrival| arrival.at.saturating_sub(self.now())));
        }
    }

    pub(super) fn next_arrival(&self) -> Option<Duration> {
        self.inboxes.values().filter_map(|inbox| Some(inbox.arrivals.peek()?.at)).min()
    }

    pub(super) fn stats(&self) -> MemoryNetStats {
        self.stats
    }

    /// Each direction has dice of its own, by its addresses, so that what happens on one does not depend on the
    /// traffic of another.
    fn path(&mut self, from: IpAddr, to: IpAddr) -> &mut Impairment {
        let (seed, faults) = (self.seed, self.faults);
        self.paths.entry((from, to)).or_insert_with(|| {
            let mut own = seed;
            for ip in [from, to] {
                let bits = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
                    IpAddr::V6(ip) => ip.to_bits(),
                };
                // FNV-1a over the words.
                for word in [bits as u64, (bits >> 64) as u64] {
                    own = (own ^ word).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            Impairment::new(faults, own)
        })
    }

    fn count(&mut self, delivery: Delivery, copies: u64, ecn: Ecn) {
        self.stats.datagram_delivered += copies;
        self.stats.datagram_duplicated += copies - 1;
        self.stats.datagram_corrupted += u64::from(delivery.flipped_bit.is_some());
        self.stats.datagram_reordered += u64::from(delivery.reordered);
        self.stats.datagram_marked += u64::from(delivery.ecn == Ecn::Ce && ecn != Ecn::Ce);
    }
}

/// The earliest is the greatest, as `BinaryHeap` has that on top.
impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Arrival {}
