//! Limits on what strangers can make an endpoint do.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use s2n_quic_core::time::{Clock, NoopClock, Timestamp};

use super::DropCause;

/// Handshakes under way at which Retry switches on ([`RetryPolicy::UnderLoad`](super::RetryPolicy::UnderLoad)). About
/// half a second of full handshakes on one core: more of them means that clients don't finish theirs.
const RETRY_FROM: usize = 1024;

/// Handshakes under way at most. Each holds about 16 KiB: together 128 MiB at an endpoint.
const HALF_OPEN: usize = 8192;

/// Handshakes under way with one source at most. Many clients may share an address, but not the whole endpoint.
const HALF_OPEN_PER_SOURCE: usize = 2048;

/// Version Negotiation, Retry and refusals a second. A Retry costs 4 us: together a fifth of a core.
const RESPONSES_PER_SECOND: u32 = 50_000;

/// The same to one source: an attacker behind one address can't use up everybody's.
const RESPONSES_PER_SOURCE: u32 = 5_000;

/// Stateless resets a second. A restarted server should tell its clients within seconds, and not more (RFC 9000
/// §10.3.3).
const RESETS_PER_SECOND: u32 = 2_000;

/// The same to one source.
const RESETS_PER_SOURCE: u32 = 200;

/// Sources whose rates are counted apart. Others fall together with one of them by a keyed hash; memory stays 8 bytes
/// each whoever sends.
const SOURCE_SLOTS: usize = 1024;

/// How much of a second's allowance may be used at once: a tenth.
const BURST_DIVISOR: u32 = 10;

/// Time within which one packet of a client is answered once, however often it comes: a doubled packet needs no second
/// answer, and a client's own retransmission comes later (RFC 9002 §6.2.4: not before 1 s). As in MsQuic.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

/// Answers remembered for that. The oldest of two that share a place is forgotten, and may be given again.
const RECENT_SLOTS: usize = 4096;

/// Limits on what strangers can make an endpoint do. A source is an IPv4 address or an IPv6 network of 64 bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes under way from which on clients are asked to validate their address. Default 1024.
    pub retry_from: usize,
    /// Handshakes under way at most. Default 8192.
    pub half_open: usize,
    /// Handshakes under way with one source at most. Default 2048.
    pub half_open_per_source: usize,
    /// Version Negotiation packets, Retry packets and refusals a second. Default 50 000.
    pub responses_per_second: u32,
    /// The same to one source. Default 5000.
    pub responses_per_source: u32,
    /// Stateless resets a second. Default 2000.
    pub resets_per_second: u32,
    /// The same to one source. Default 200.
    pub resets_per_source: u32,
    /// Time within which the same remote address with the same connection IDs is answered once. Default 100 ms.
    pub repeat_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retry_from: RETRY_FROM,
            half_open: HALF_OPEN,
            half_open_per_source: HALF_OPEN_PER_SOURCE,
            responses_per_second: RESPONSES_PER_SECOND,
            responses_per_source: RESPONSES_PER_SOURCE,
            resets_per_second: RESETS_PER_SECOND,
            resets_per_source: RESETS_PER_SOURCE,
            repeat_after: REPEAT_AFTER,
        }
    }
}

/// Who shares a limit: an IPv4 address, or the 64 bits of an IPv6 network.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

impl Source {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // Into the range of multicast networks, which send nothing.
            IpAddr::V4(ip) => Self(0xffff << 48 | u64::from(u32::from(ip))),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

/// So many a second, at an even pace with small bursts (the generic cell rate algorithm).
#[derive(Copy, Clone, Debug)]
struct Rate {
    /// Nanoseconds between two.
    interval: u64,
    /// Nanoseconds that one may come early.
    tolerance: u64,
}

impl Rate {
    fn per_second(count: u32) -> Self {
        let count = count.max(1);
        let interval = 1_000_000_000 / u64::from(count);
        Self { interval, tolerance: interval * u64::from(count / BURST_DIVISOR) }
    }

    /// May one more pass now? `due` is when the next would come at an even pace.
    fn allows(&self, due: &mut u64, now: u64) -> bool {
        let next = (*due).max(now);
        if next - now > self.tolerance {
            return false;
        }
        *due = next + self.interval;
        true
    }
}

/// A rate for all, and one for each source.
struct Pair {
    total: Rate,
    per_source: Rate,
    due: u64,
    due_by_source: Box<[u64; SOURCE_SLOTS]>,
}

impl Pair {
    fn new(total: u32, per_source: u32) -> Self {
        Self {
            total: Rate::per_second(total),
            per_source: Rate::per_second(per_source),
            due: 0,
            due_by_source: Box::new([0; SOURCE_SLOTS]),
        }
    }

    fn allows(&mut self, now: u64, slot: usize) -> bool {
        // The source first, so that one that is over its share takes nothing from the others.
        self.per_source.allows(&mut self.due_by_source[slot], now) && self.total.allows(&mut self.due, now)
    }
}

/// Rates of answers.
pub(super) struct RateLimits {
    hasher: ahash::RandomState,
    responses: Pair,
    resets: Pair,
}

impl RateLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            hasher: ahash::RandomState::new(),
            responses: Pair::new(limits.responses_per_second, limits.responses_per_source),
            resets: Pair::new(limits.resets_per_second, limits.resets_per_source),
        }
    }

    /// May another answer go to `remote`?
    pub(super) fn response(&mut self, now: Timestamp, remote: SocketAddr) -> Result<(), DropCause> {
        let slot = self.slot(remote);
        if self.responses.allows(nanos(now), slot) { Ok(()) } else { Err(DropCause::ResponseLimited) }
    }

    /// May another stateless reset go to `remote`?
    pub(super) fn reset(&mut self, now: Timestamp, remote: SocketAddr) -> Result<(), DropCause> {
        let slot = self.slot(remote);
        if self.resets.allows(nanos(now), slot) { Ok(()) } else { Err(DropCause::ResetLimited) }
    }

    fn slot(&self, remote: SocketAddr) -> usize {
        self.hasher.hash_one(Source::of(remote.ip())) as usize % SOURCE_SLOTS
    }
}

/// Answers given lately.
pub(super) struct Recent {
    hasher: ahash::RandomState,
    repeat_after: u64,
    /// What was answered, as a keyed hash, and until when it is not answered again.
    slots: Box<[(u64, u64); RECENT_SLOTS]>,
}

impl Recent {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            hasher: ahash::RandomState::new(),
            repeat_after: limits.repeat_after.as_nanos() as u64,
            slots: Box::new([(0, 0); RECENT_SLOTS]),
        }
    }

    /// Is this the first of its kind for a while?
    pub(super) fn first(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        ids: [&[u8]; 2],
    ) -> Result<(), DropCause> {
        let hash = self.hasher.hash_one((remote, ids));
        let (answered, until) = &mut self.slots[hash as usize % RECENT_SLOTS];
        let now = nanos(now);
        if *answered == hash && now < *until {
            return Err(DropCause::ResponseRepeated);
        }
        (*answered, *until) = (hash, now + self.repeat_after);
        Ok(())
    }
}

fn nanos(now: Timestamp) -> u64 {
    now.saturating_duration_since(NoopClock.get_time()).as_nanos() as u64
}

/// Handshakes under way.
pub(super) struct HalfOpen {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    // No larger than `total`: sources without a handshake are taken out.
    by_source: HashMap<Source, usize, ahash::RandomState>,
}

impl HalfOpen {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, counts: Arc::default() }
    }

    pub(super) fn total(&self) -> usize {
        lock(&self.counts).total
    }

    /// Counts another handshake until the guard goes.
    pub(super) fn admit(&self, ip: IpAddr) -> Result<HalfOpenGuard, DropCause> {
        let source = Source::of(ip);
        let mut counts = lock(&self.counts);
        if counts.total >= self.limits.half_open {
            return Err(DropCause::HalfOpenLimited);
        }
        if counts.by_source.get(&source).is_some_and(|count| *count >= self.limits.half_open_per_source) {
            return Err(DropCause::SourceLimited);
        }
        counts.total += 1;
        *counts.by_source.entry(source).or_default() += 1;
        Ok(HalfOpenGuard { counts: self.counts.clone(), source })
    }
}

/// Counts one handshake under way, as long as it exists. It lives in the handshake state of its connection.
#[derive(Debug)]
pub(crate) struct HalfOpenGuard {
    counts: Arc<Mutex<Counts>>,
    source: Source,
}

impl Drop for HalfOpenGuard {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total -= 1;
        if let Some(count) = counts.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Nothing that holds the lock can leave the counts half changed.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rates_let_bursts_and_the_pace_pass() {
        let rate = Rate::per_second(100);
        let mut due = 0;
        let second = 1_000_000_000;
        let passed = |due: &mut u64, now| (0..1000).filter(|_| rate.allows(due, now)).count();
        assert_eq!(passed(&mut due, 5 * second), 11);
        assert_eq!(passed(&mut due, 5 * second), 0);
        assert_eq!(passed(&mut due, 5 * second + 30_000_000), 3);
        assert_eq!(passed(&mut due, 100 * second), 11);
        let in_a_second: usize = (0..1000).map(|i| passed(&mut due, 200 * second + i * second / 1000)).sum();
        assert!((100..=111).contains(&in_a_second), "{in_a_second}");
    }

    #[test]
    fn sources_are_addresses_or_networks() {
        assert_eq!(Source::of(ip("192.0.2.1")), Source::of(ip("::ffff:192.0.2.1")));
        assert_ne!(Source::of(ip("192.0.2.1")), Source::of(ip("192.0.2.2")));
        assert_eq!(Source::of(ip("2001:db8::1")), Source::of(ip("2001:db8::2:1")));
        assert_ne!(Source::of(ip("2001:db8::1")), Source::of(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn one_source_can_not_use_up_everybodys_rate() {
        let limits = Limits { responses_per_second: 1000, responses_per_source: 100, ..Limits::default() };
        let mut rates = RateLimits::new(&limits);
        let now = NoopClock.get_time() + Duration::from_secs(9);
        let greedy = SocketAddr::new(ip("192.0.2.1"), 1);
        let passed = (0..10_000).filter(|_| rates.response(now, greedy).is_ok()).count();
        assert_eq!(passed, 11);
        // Two sources share a slot once in a thousand times.
        let others =
            (2..52).filter(|i| rates.response(now, SocketAddr::new(ip(&format!("192.0.2.{i}")), 1)).is_ok());
        assert!(others.count() >= 48);
    }

    #[test]
    fn an_answer_is_given_once_to_a_remote_for_a_while() {
        let mut recent = Recent::new(&Limits::default());
        let now = NoopClock.get_time() + Duration::from_secs(9);
        let (one, two) = (SocketAddr::new(ip("192.0.2.1"), 1), SocketAddr::new(ip("192.0.2.1"), 2));
        assert!(recent.first(now, one, [&[1], &[]]).is_ok());
        for later in [0, 99] {
            let later = now + Duration::from_millis(later);
            assert_eq!(recent.first(later, one, [&[1], &[]]), Err(DropCause::ResponseRepeated));
        }
        assert!(recent.first(now, two, [&[1], &[]]).is_ok());
        assert!(recent.first(now, one, [&[], &[1]]).is_ok());
        assert!(recent.first(now + REPEAT_AFTER, one, [&[1], &[]]).is_ok());
    }

    #[test]
    fn everybodys_rate_is_a_bound() {
        let limits = Limits { resets_per_second: 100, resets_per_source: 100, ..Limits::default() };
        let mut rates = RateLimits::new(&limits);
        let now = NoopClock.get_time() + Duration::from_secs(9);
        let from = |i: u32| SocketAddr::new(IpAddr::from((0x0a00_0000 + i).to_be_bytes()), 1);
        assert_eq!((0..5000).filter(|&i| rates.reset(now, from(i)).is_ok()).count(), 11);
    }

    #[test]
    fn handshakes_are_counted_while_they_last() {
        let half_open = HalfOpen::new(&Limits { half_open: 3, half_open_per_source: 2, ..Limits::default() });
        let (one, two, three) = (ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3"));
        let first = half_open.admit(one).unwrap();
        let second = half_open.admit(one).unwrap();
        assert_eq!(half_open.admit(one).unwrap_err(), DropCause::SourceLimited);
        let third = half_open.admit(two).unwrap();
        assert_eq!(half_open.admit(three).unwrap_err(), DropCause::HalfOpenLimited);
        drop(first);
        let fourth = half_open.admit(one).unwrap();
        drop((second, third, fourth));
        assert_eq!(half_open.total(), 0);
        assert!(lock(&half_open.counts).by_source.is_empty());
    }
}
