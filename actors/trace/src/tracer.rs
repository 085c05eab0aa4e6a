//! Which datagrams are sampled, and where their journeys go.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock};

use crate::{
    Nanos,
    journey::{Direction, Journey, JourneyRecord},
    payload::{Payload, Payloads},
    ring::Ring,
};

/// One of so many datagrams is sampled, unless told otherwise: rare enough to cost nothing, often enough that an idle
/// link's p99 is there within minutes.
pub const DEFAULT_ONE_IN: u32 = 1024;

/// What to sample besides: all that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Either end's address.
    pub ip: Option<IpAddr>,
    /// Either end's port.
    pub port: Option<u16>,
    /// The local CID begins so.
    pub cid: Option<Vec<u8>>,
    /// Only what ends so is kept.
    pub drop_cause: Option<String>,
    /// One of so many of those that match; 0 counts as 1.
    pub one_in: u32,
}

impl Filter {
    /// Whether a datagram between these addresses, to this CID, is meant (but for how often).
    pub fn matches(&self, path: Option<(SocketAddr, SocketAddr)>, cid: &[u8]) -> bool {
        let address = |wanted: &dyn Fn(SocketAddr) -> bool| {
            path.is_some_and(|(local, remote)| wanted(local) || wanted(remote))
        };
        let ends = match (self.ip, self.port) {
            (None, None) => true,
            (Some(ip), None) => address(&|end| end.ip() == ip),
            (None, Some(port)) => address(&|end| end.port() == port),
            (Some(ip), Some(port)) => address(&|end| end == SocketAddr::new(ip, port)),
        };
        ends && self.cid.as_ref().is_none_or(|prefix| cid.starts_with(prefix))
    }
}

/// Samples datagrams and keeps their journeys. Shared by all actors of a stack.
#[derive(Debug)]
pub struct Tracer {
    one_in: AtomicU32,
    is_armed: AtomicBool,
    filter: RwLock<Option<Filter>>,
    matched: AtomicU64,
    next_id: AtomicU64,
    hops: AtomicU64,
    skipped: AtomicU64,
    truncated: AtomicU64,
    outcomes: Mutex<Vec<&'static str>>,
    ring: Ring,
    payloads: Option<Payloads>,
}

/// How tracing does.
#[derive(Clone, Debug, Default)]
pub struct TracerStats {
    /// One of so many datagrams is sampled; 0: none.
    pub one_in: u32,
    /// Journeys begun.
    pub journey_begun: u64,
    /// Journeys written to the ring.
    pub journey_kept: u64,
    /// Journeys ended whose outcome the filter did not want.
    pub journey_skipped: u64,
    /// Hops in those kept.
    pub hop_recorded: u64,
    /// Journeys that were overwritten in the ring before anybody read them.
    pub journey_overwritten: u64,
    /// Hops in those.
    pub hop_overwritten: u64,
    /// Journeys that had more hops than a journey holds.
    pub journey_truncated: u64,
    /// Journeys the ring holds at most.
    pub capacity: u64,
    /// Bytes the ring takes, whatever happens.
    pub memory: u64,
}

impl Tracer {
    /// A tracer that samples one datagram in `one_in` (0: none) and keeps journeys in `memory` bytes.
    pub fn new(one_in: u32, memory: usize) -> Arc<Self> {
        Self::with_payloads(one_in, memory, 0)
    }

    /// The same, and it keeps the bytes of sampled datagrams in `payload_memory` bytes more; 0: it keeps none.
    pub fn with_payloads(one_in: u32, memory: usize, payload_memory: usize) -> Arc<Self> {
        Arc::new(Self {
            payloads: (payload_memory > 0).then(|| Payloads::new(payload_memory)),
            one_in: AtomicU32::new(one_in),
            is_armed: AtomicBool::new(false),
            filter: RwLock::new(None),
            matched: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            hops: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            outcomes: Mutex::default(),
            ring: Ring::new(memory),
        })
    }

    /// A tracer that samples nothing and holds next to no memory.
    pub fn off() -> Arc<Self> {
        Self::new(0, 0)
    }

    /// Whether a filter is armed: then whoever knows a datagram's addresses asks [`wants`](Self::wants).
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.is_armed.load(Relaxed)
    }

    /// What is armed.
    pub fn filter(&self) -> Option<Filter> {
        self.filter.read().clone()
    }

    /// Arms a filter, or disarms.
    pub fn arm(&self, filter: Option<Filter>) {
        let mut armed = self.filter.write();
        self.is_armed.store(filter.is_some(), Relaxed);
        *armed = filter;
    }

    /// Samples one datagram in so many from now on; 0: none.
    pub fn set_one_in(&self, one_in: u32) {
        self.one_in.store(one_in, Relaxed);
    }

    /// Whether the armed filter wants this datagram's journey. Slow: ask only when [`is_armed`](Self::is_armed).
    pub fn wants(&self, path: Option<(SocketAddr, SocketAddr)>, cid: &[u8]) -> bool {
        let filter = self.filter.read();
        let Some(filter) = filter.as_ref() else { return false };
        filter.matches(path, cid)
            && self.matched.fetch_add(1, Relaxed).is_multiple_of(u64::from(filter.one_in.max(1)))
    }

    /// Whether the armed filter wants a packet whose addresses nobody knows yet: one by how it is dropped.
    pub fn wants_unseen(&self) -> bool {
        self.wants_drop() && self.wants(None, &[])
    }

    fn wants_drop(&self) -> bool {
        self.filter.read().as_ref().is_some_and(|filter| filter.drop_cause.is_some())
    }

    /// Begins a journey.
    pub fn begin(self: &Arc<Self>, direction: Direction, begin: Nanos) -> Box<Journey> {
        Journey::new(self.clone(), self.next_id.fetch_add(1, Relaxed), direction, begin)
    }

    pub(crate) fn on_truncated(&self) {
        self.truncated.fetch_add(1, Relaxed);
    }

    /// Whether the bytes of sampled datagrams are kept.
    pub fn keeps_payloads(&self) -> bool {
        self.payloads.is_some()
    }

    /// Takes the bytes of the datagrams whose journeys ended since. Those of every journey in the ring are here before it
    /// is there.
    pub fn take_payloads(&self) -> Vec<Payload> {
        self.payloads.as_ref().map(Payloads::take).unwrap_or_default()
    }

    pub(crate) fn keep(&self, record: &JourneyRecord, payload: Option<Payload>) {
        let unwanted = self.is_armed()
            && self.filter.read().as_ref().is_some_and(|filter| {
                filter.drop_cause.as_deref().is_some_and(|cause| cause != record.outcome)
            });
        if unwanted {
            self.skipped.fetch_add(1, Relaxed);
            return;
        }
        self.hops.fetch_add(record.hop_count.into(), Relaxed);
        if let (Some(payloads), Some(payload)) = (&self.payloads, payload) {
            payloads.push(payload);
        }
        self.ring.push(record, self.outcome_number(record.outcome));
    }

    fn outcome_number(&self, outcome: &'static str) -> u16 {
        let mut outcomes = self.outcomes.lock();
        let number = outcomes.iter().position(|known| *known == outcome).unwrap_or_else(|| {
            outcomes.push(outcome);
            outcomes.len() - 1
        });
        // Outcomes are names in the source: a few dozen.
        number as u16
    }

    /// Copies the journeys from the `from`th on, the newest `limit` of them, oldest first, and the number to go on
    /// from. What was overwritten meanwhile is left out.
    pub fn read(&self, from: u64, limit: usize) -> (Vec<JourneyRecord>, u64) {
        let next = self.ring.written();
        let first = from.max(self.ring.oldest()).max(next.saturating_sub(limit as u64));
        let outcomes = self.outcomes.lock().clone();
        let records = (first..next).filter_map(|ticket| {
            let (mut record, outcome) = self.ring.read(ticket)?;
            record.outcome = outcomes.get(usize::from(outcome))?;
            Some(record)
        });
        let records = records.collect();
        self.ring.on_read(next);
        (records, next)
    }

    /// How it does.
    pub fn stats(&self) -> TracerStats {
        let (journey_overwritten, hop_overwritten) = self.ring.lost();
        TracerStats {
            journey_overwritten,
            hop_overwritten,
            journey_truncated: self.truncated.load(Relaxed),
            one_in: self.one_in.load(Relaxed),
            journey_begun: self.next_id.load(Relaxed) - 1,
            journey_kept: self.ring.written(),
            journey_skipped: self.skipped.load(Relaxed),
            hop_recorded: self.hops.load(Relaxed),
            capacity: (self.ring.memory() / crate::ring::SLOT_BYTES) as u64,
            memory: (self.ring.memory() + self.payloads.as_ref().map_or(0, |it| it.limit)) as u64,
        }
    }
}

/// Counts datagrams down to the next one to sample. One of each actor that samples: nothing is shared.
#[derive(Debug, Default)]
pub struct Sampler {
    left: u32,
}

impl Sampler {
    /// Whether one of `count` datagrams is to be sampled: which. A subtraction and a branch, mostly.
    #[inline]
    pub fn pick(&mut self, tracer: &Tracer, count: u32) -> Option<u32> {
        if count < self.left {
            self.left -= count;
            return None;
        }
        self.pick_now(tracer, count)
    }

    #[cold]
    fn pick_now(&mut self, tracer: &Tracer, count: u32) -> Option<u32> {
        let one_in = tracer.one_in.load(Relaxed);
        if one_in == 0 {
            // Looks again after as many as by default.
            self.left = DEFAULT_ONE_IN;
            return None;
        }
        let index = self.left.min(one_in).saturating_sub(1);
        if index >= count {
            self.left = one_in;
            return None;
        }
        // One a batch at most: the rest of the batch counts towards the next.
        self.left = one_in.saturating_sub(count - index - 1).max(1);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::Stage;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn hops_sum_to_the_total_and_survive_the_ring() {
        let tracer = Tracer::new(1, 1 << 16);
        for (local, remote) in [("10.0.0.1:443", "10.0.0.2:5000"), ("[fd00::1]:443", "[fd00::2]:5000")] {
            let mut journey = tracer.begin(Direction::Rx, 1000);
            journey.set_path(addr(local), addr(remote), 1200);
            journey.set_cid(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            journey.set_connection(17);
            journey.hop(Stage::Device, 3, 1000, 1100, 64);
            journey.hop(Stage::Demux, 4, 1150, 1300, 64);
            // Another thread's clock is a little behind.
            journey.hop(Stage::Connection, 17, 1290, 1295, 7);
            journey.finish("delivered");
        }
        let (records, next) = tracer.read(0, 10);
        assert_eq!((records.len(), next), (2, 2));
        for record in &records {
            let sum: Nanos = record.hops().iter().map(|hop| hop.wait + hop.run).sum();
            assert_eq!((sum, record.total(), record.end), (300, 300, 1300));
            assert_eq!(
                (record.cid(), record.outcome, record.len),
                (&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], "delivered", 1200)
            );
            assert_eq!(
                record.hops()[1],
                Hop { stage: Stage::Demux, actor: 4, wait: 50, run: 150, batch: 64 }
            );
            assert_eq!(record.connection, 17);
        }
        assert_eq!(records[1].path, Some((addr("[fd00::1]:443"), addr("[fd00::2]:5000"))));
        use crate::journey::Hop;
    }

    #[test]
    fn one_that_just_goes_is_unfinished_and_the_ring_keeps_the_newest() {
        let tracer = Tracer::new(1, 4 * crate::ring::SLOT_BYTES);
        for begin in 0..10 {
            drop(tracer.begin(Direction::Tx, begin));
        }
        let (records, next) = tracer.read(0, 100);
        assert_eq!(next, 10);
        assert_eq!(records.iter().map(|record| record.begin).collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert!(records.iter().all(|record| record.outcome == "unfinished"));
        let stats = tracer.stats();
        assert_eq!(stats.memory, 4 * crate::ring::SLOT_BYTES as u64);
        assert_eq!(stats.journey_overwritten, 6, "nobody had read them");
    }

    #[test]
    fn what_is_overwritten_unread_is_counted_with_its_hops() {
        let tracer = Tracer::new(1, 4 * crate::ring::SLOT_BYTES);
        let write = |hops: u64| {
            let mut journey = tracer.begin(Direction::Rx, 0);
            (0..hops).for_each(|n| journey.hop(Stage::Quic, 1, n, n + 1, 1));
            journey.finish("delivered");
        };
        (0..4).for_each(|_| write(3));
        assert_eq!(tracer.read(0, 10).0.len(), 4);
        (0..4).for_each(|_| write(2));
        let overwritten = |tracer: &Tracer| {
            let stats = tracer.stats();
            (stats.journey_overwritten, stats.hop_overwritten)
        };
        assert_eq!(overwritten(&tracer), (0, 0), "those had been read");
        (0..3).for_each(|_| write(1));
        assert_eq!(overwritten(&tracer), (3, 6));
        write(crate::MAX_HOPS as u64 + 2);
        assert_eq!(tracer.stats().journey_truncated, 1);
    }

    #[test]
    fn one_in_n_is_sampled_however_they_are_batched() {
        let tracer = Tracer::new(100, 0);
        for batch in [1, 3, 64, 99] {
            let mut sampler = Sampler::default();
            let mut picked = 0u32;
            for _ in 0..9900 / batch {
                if let Some(index) = sampler.pick(&tracer, batch) {
                    assert!(index < batch);
                    picked += 1;
                }
            }
            assert!((98..=101).contains(&picked), "{picked} of batches of {batch}");
        }
        tracer.set_one_in(0);
        let mut sampler = Sampler::default();
        assert!((0..5000).all(|_| sampler.pick(&tracer, 64).is_none()));
    }

    #[test]
    fn a_filter_takes_what_matches_all_of_it() {
        let tracer = Tracer::new(0, 1 << 16);
        let path = Some((addr("10.0.0.1:443"), addr("10.0.0.2:5000")));
        assert!(!tracer.wants(path, &[1, 2]));
        let filter = Filter { ip: Some("10.0.0.2".parse().expect("an address")), ..Filter::default() };
        tracer.arm(Some(Filter { cid: Some(vec![1]), ..filter.clone() }));
        assert!(tracer.is_armed() && tracer.wants(path, &[1, 2]));
        assert!(!tracer.wants(path, &[2]) && !tracer.wants(None, &[1]));
        tracer.arm(Some(Filter { port: Some(443), ..filter.clone() }));
        assert!(!tracer.wants(path, &[]), "the address has another port");
        tracer.arm(Some(Filter { one_in: 3, ..filter }));
        assert_eq!((0..9).filter(|_| tracer.wants(path, &[])).count(), 3);
        tracer.arm(None);
        assert!(!tracer.is_armed() && !tracer.wants(path, &[]));
    }

    #[test]
    fn with_a_drop_cause_only_such_journeys_are_kept() {
        let tracer = Tracer::new(0, 1 << 16);
        tracer.arm(Some(Filter { drop_cause: Some("socket_unmatched_dropped".into()), ..Filter::default() }));
        tracer.begin(Direction::Rx, 0).finish("delivered");
        tracer.begin(Direction::Rx, 0).finish("socket_unmatched_dropped");
        assert_eq!(tracer.read(0, 10).0.len(), 1);
        assert_eq!(tracer.stats().journey_skipped, 1);
    }

    #[test]
    fn readers_never_see_half_a_journey() {
        let tracer = Tracer::new(1, 2 * crate::ring::SLOT_BYTES);
        let writers: Vec<_> = (1..=2u64)
            .map(|writer| {
                let tracer = tracer.clone();
                std::thread::spawn(move || {
                    for _ in 0..5000 {
                        let mut journey = tracer.begin(Direction::Rx, 0);
                        journey.set_connection(writer);
                        for _ in 0..4 {
                            journey.hop(
                                Stage::Quic,
                                writer,
                                journey.end() + writer,
                                journey.end() + 2 * writer,
                                1,
                            );
                        }
                        journey.finish("delivered");
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            for record in tracer.read(0, 8).0 {
                let writer = record.connection;
                assert!(
                    record.hops().iter().all(|hop| hop.actor == writer && hop.wait == writer),
                    "{record:?}"
                );
                assert_eq!(record.hops().len(), 4);
            }
        }
        writers.into_iter().for_each(|writer| writer.join().expect("it ran to its end"));
    }
}
