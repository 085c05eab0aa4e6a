//! A network between two endpoints, with faults by seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use s2n_quic_core::time::Timestamp;

use crate::net::{Ecn, NetPath};

/// How the network treats datagrams.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    /// One-way delay.
    pub(super) latency: Duration,
    /// Up to this much more, at random: datagrams overtake each other.
    pub(super) jitter: Duration,
    /// Share lost, in 1/1000.
    pub(super) loss: u32,
    /// Share delivered twice, in 1/1000.
    pub(super) duplicate: u32,
    /// Share with a flipped byte, in 1/1000.
    pub(super) corrupt: u32,
    /// Share cut short, in 1/1000.
    pub(super) truncate: u32,
    /// Larger datagrams vanish.
    pub(super) mtu: usize,
    /// Bits per second each way; 0: no limit.
    pub(super) bandwidth: u64,
    /// Bytes queued before the bottleneck drops.
    pub(super) queue: usize,
    /// Marks are erased.
    pub(super) bleach_ecn: bool,
    /// Share of ECN-capable datagrams marked as having met congestion, in 1/1000.
    pub(super) mark_ce: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            truncate: 0,
            mtu: 65535,
            bandwidth: 0,
            queue: 1 << 20,
            bleach_ecn: false,
            mark_ce: 0,
        }
    }
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    at: Timestamp,
    sequence: u64,
    /// Seen from the sender.
    pub(super) path: NetPath,
    pub(super) ecn: Ecn,
    pub(super) bytes: Vec<u8>,
}

impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// One direction's bottleneck.
#[derive(Clone, Debug, Default)]
struct Link {
    free_at: Option<Timestamp>,
}

/// The network.
pub(super) struct Network {
    pub(super) faults: Faults,
    rng: StdRng,
    queue: BinaryHeap<Reverse<InFlight>>,
    sequence: u64,
    links: [Link; 2],
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

impl Network {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            rng: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            links: Default::default(),
            delivered: 0,
            dropped: 0,
        }
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_range(0..1000) < per_thousand
    }

    /// Takes a datagram from the client (`link` 0) or the server (1).
    pub(super) fn send(&mut self, now: Timestamp, link: usize, path: NetPath, mut ecn: Ecn, bytes: &[u8]) {
        let faults = self.faults.clone();
        if bytes.len() > faults.mtu || self.chance(faults.loss) {
            self.dropped += 1;
            return;
        }
        if faults.bleach_ecn {
            ecn = Ecn::NotEct;
        }
        if ecn != Ecn::NotEct && self.chance(faults.mark_ce) {
            ecn = Ecn::Ce;
        }
        let mut departure = now;
        if faults.bandwidth > 0 {
            let free_at = self.links[link].free_at.filter(|&at| at > now).unwrap_or(now);
            let waiting =
                free_at.saturating_duration_since(now).as_secs_f64() * faults.bandwidth as f64 / 8.0;
            if waiting > faults.queue as f64 {
                self.dropped += 1;
                return;
            }
            departure = free_at + Duration::from_secs_f64(bytes.len() as f64 * 8.0 / faults.bandwidth as f64);
            self.links[link].free_at = Some(departure);
        }
        let mut bytes = bytes.to_vec();
        if self.chance(faults.corrupt) {
            let index = self.rng.random_range(0..bytes.len());
            bytes[index] ^= self.rng.random_range(1..=255_u8);
        }
        if self.chance(faults.truncate) {
            let len = self.rng.random_range(0..bytes.len());
            bytes.truncate(len);
        }
        let copies = if self.chance(faults.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = match faults.jitter.as_micros() as u64 {
                0 => Duration::ZERO,
                micros => Duration::from_micros(self.rng.random_range(0..=micros)),
            };
            self.sequence += 1;
            self.queue.push(Reverse(InFlight {
                at: departure + faults.latency + jitter,
                sequence: self.sequence,
                path,
                ecn,
                bytes: bytes.clone(),
            }));
        }
    }

    /// When the next datagram arrives.
    pub(super) fn next_arrival(&self) -> Option<Timestamp> {
        self.queue.peek().map(|Reverse(datagram)| datagram.at)
    }

    /// The next datagram that has arrived.
    pub(super) fn deliver(&mut self, now: Timestamp) -> Option<InFlight> {
        if self.next_arrival()? > now {
            return None;
        }
        self.delivered += 1;
        self.queue.pop().map(|Reverse(datagram)| datagram)
    }

    /// The datagram sent last of those on the way.
    pub(super) fn peek_last(&self) -> Option<&[u8]> {
        self.queue.iter().max_by_key(|Reverse(sent)| sent.sequence).map(|Reverse(sent)| &sent.bytes[..])
    }

    /// Other faults from now on.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    /// Forgets all on the way.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}
