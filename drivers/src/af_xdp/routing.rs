//! The way of the datagrams at hand: the last answer kept, and those that wait for one.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use wirepath_wire::{Link, MacAddr, VlanTag};

use super::{counters::Counters, headers::Addressing};
use crate::{
    TxDatagram,
    next_hop::{NextHop, NextHops},
};

/// Datagrams that wait for a next hop, in all: each holds a UMEM frame of those that sending has.
const PARKED_MAX: usize = 256;
/// Datagrams that wait for the next hop to one remote: three first flights. More are of no use, and a remote
/// that never answers must not take the room of others.
const PARKED_PER_REMOTE_MAX: usize = 32;
/// How long one waits: three solicitations a second apart (RFC 4861 §10: MAX_MULTICAST_SOLICIT,
/// RETRANS_TIMER), after which a neighbour is unreachable anyway.
const PARKED_AGE_MAX: Duration = Duration::from_secs(3);
/// How often those that wait ask again, though the table shows no change.
pub(super) const PARKED_RETRY: Duration = Duration::from_millis(5);

/// Where a datagram goes.
#[derive(Debug)]
pub(super) enum Way {
    Known(Addressing),
    Pending,
    Unreachable,
    /// Source and destination are of different families.
    Mismatched,
}

struct Cached {
    remote: IpAddr,
    link: Link,
    src_ip: IpAddr,
}

/// The route table, with the last answer kept.
pub(super) struct Router {
    hops: Box<dyn NextHops>,
    generation: u64,
    cached: Option<Cached>,
}

impl Router {
    pub(super) fn new(hops: Box<dyn NextHops>) -> Self {
        Self { generation: hops.generation(), hops, cached: None }
    }

    /// Forgets the kept answer if the table has changed; called once a batch. Tells whether it has.
    pub(super) fn refresh(&mut self) -> bool {
        let generation = self.hops.generation();
        let changed = generation != self.generation;
        if changed {
            self.generation = generation;
            self.cached = None;
        }
        changed
    }

    #[inline]
    pub(super) fn way(&mut self, datagram: &TxDatagram) -> Way {
        let remote = SocketAddr::new(datagram.remote.ip().to_canonical(), datagram.remote.port());
        let known = match &self.cached {
            Some(cached) if cached.remote == remote.ip() => cached,
            _ => match self.ask(remote.ip()) {
                NextHop::Resolved { src_mac, dst_mac, src_ip, vlan } => self.cached.insert(Cached {
                    remote: remote.ip(),
                    link: Link { src: MacAddr(src_mac), dst: MacAddr(dst_mac), vlan: vlan.map(VlanTag::new) },
                    src_ip,
                }),
                NextHop::Pending => return Way::Pending,
                NextHop::Unreachable => return Way::Unreachable,
            },
        };
        let named = datagram.local.ip().to_canonical();
        let src_ip = if datagram.local.ip().is_unspecified() { known.src_ip } else { named };
        if src_ip.is_ipv4() != remote.is_ipv4() {
            return Way::Mismatched;
        }
        Way::Known(Addressing {
            link: known.link,
            local: SocketAddr::new(src_ip, datagram.local.port()),
            remote,
            ecn: datagram.ecn,
        })
    }

    fn ask(&mut self, remote: IpAddr) -> NextHop {
        self.cached = None;
        self.hops.lookup(remote)
    }
}

struct Parked {
    since: Instant,
    datagram: TxDatagram,
}

/// Datagrams whose next hop is being resolved, in the order they came.
#[derive(Default)]
pub(super) struct ParkedQueue {
    queue: VecDeque<Parked>,
    asked: Option<Instant>,
}

impl ParkedQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Keeps a datagram until its next hop is known. With too many waiting, it is this one that is dropped:
    /// the first of a flight are worth more than the last.
    #[cold]
    pub(super) fn park(&mut self, datagram: TxDatagram, counters: &mut Counters) {
        let of_remote =
            self.queue.iter().filter(|parked| parked.datagram.remote.ip() == datagram.remote.ip()).count();
        if self.queue.len() >= PARKED_MAX || of_remote >= PARKED_PER_REMOTE_MAX {
            counters.tx_parked_full_dropped += 1;
            return;
        }
        counters.tx_datagram_parked += 1;
        self.queue.push_back(Parked { since: Instant::now(), datagram });
    }

    /// Asks the router for all that wait, if it is time to, and calls `ready` with each whose way is known.
    /// Returns how many left, dropped ones included. `ready` gives back what it has no room for.
    #[cold]
    pub(super) fn retry(
        &mut self,
        router: &mut Router,
        changed: bool,
        mut ready: impl FnMut(TxDatagram, Addressing) -> Option<TxDatagram>,
        counters: &mut Counters,
    ) -> usize {
        let now = Instant::now();
        let due = self.asked.is_none_or(|asked| now.duration_since(asked) >= PARKED_RETRY);
        if !changed && !due {
            return 0;
        }
        self.asked = Some(now);
        let before = self.queue.len();
        let mut pending = None;
        for _ in 0..before {
            let Some(Parked { since, datagram }) = self.queue.pop_front() else { break };
            let remote = datagram.remote.ip();
            let way = if pending == Some(remote) { Way::Pending } else { router.way(&datagram) };
            let kept = match way {
                Way::Known(to) => ready(datagram, to),
                Way::Pending if now.duration_since(since) < PARKED_AGE_MAX => {
                    pending = Some(remote);
                    Some(datagram)
                }
                Way::Pending => {
                    counters.tx_parked_expired_dropped += 1;
                    None
                }
                Way::Unreachable => {
                    counters.tx_unreachable_dropped += 1;
                    None
                }
                Way::Mismatched => {
                    counters.tx_family_mismatched_dropped += 1;
                    None
                }
            };
            if let Some(datagram) = kept {
                self.queue.push_back(Parked { since, datagram });
            }
        }
        before - self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use parking_lot::Mutex;

    use super::*;
    use crate::{Ecn, PacketBuf};

    #[derive(Clone, Default)]
    struct Table {
        hops: Arc<Mutex<HashMap<IpAddr, NextHop>>>,
        lookups: Arc<AtomicU64>,
        generation: Arc<AtomicU64>,
    }

    impl Table {
        fn set(&self, remote: &str, hop: NextHop) {
            self.hops.lock().insert(remote.parse().unwrap(), hop);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl NextHops for Table {
        fn lookup(&mut self, remote: IpAddr) -> NextHop {
            self.lookups.fetch_add(1, Ordering::Relaxed);
            self.hops.lock().get(&remote).copied().unwrap_or(NextHop::Pending)
        }
        fn generation(&self) -> u64 {
            self.generation.load(Ordering::Relaxed)
        }
    }

    fn hop(last: u8) -> NextHop {
        NextHop::Resolved {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, last],
            src_ip: "10.0.0.1".parse().unwrap(),
            vlan: None,
        }
    }

    fn datagram(local: &str, remote: &str) -> TxDatagram {
        TxDatagram {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            ecn: Ecn::Ect0,
            segment_size: None,
            tcp: None,
            buf: PacketBuf::heap(10),
        }
    }

    #[test]
    fn a_run_to_one_remote_asks_once_until_the_table_changes() {
        let table = Table::default();
        table.set("10.0.0.2", hop(2));
        let mut router = Router::new(Box::new(table.clone()));
        let datagram = datagram("0.0.0.0:1", "10.0.0.2:2");
        for _ in 0..10 {
            assert!(!router.refresh());
            let Way::Known(to) = router.way(&datagram) else { panic!() };
            assert_eq!(to.link.dst, MacAddr([2, 0, 0, 0, 0, 2]));
            assert_eq!(to.local, "10.0.0.1:1".parse().unwrap());
        }
        assert_eq!(table.lookups.load(Ordering::Relaxed), 1);
        table.set("10.0.0.2", hop(3));
        assert!(router.refresh());
        let Way::Known(to) = router.way(&datagram) else { panic!() };
        assert_eq!(to.link.dst, MacAddr([2, 0, 0, 0, 0, 3]));
    }

    #[test]
    fn named_sources_stay_and_families_must_agree() {
        let table = Table::default();
        table.set("10.0.0.2", hop(2));
        let mut router = Router::new(Box::new(table));
        let Way::Known(to) = router.way(&datagram("10.0.0.9:1", "[::ffff:10.0.0.2]:2")) else { panic!() };
        assert_eq!((to.local, to.remote), ("10.0.0.9:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()));
        assert!(matches!(router.way(&datagram("[fd00::1]:1", "10.0.0.2:2")), Way::Mismatched));
        assert!(matches!(router.way(&datagram("[::]:1", "10.0.0.2:2")), Way::Known(_)));
    }

    #[test]
    fn the_first_wait_in_order_and_the_overflow_is_counted() {
        let table = Table::default();
        let mut router = Router::new(Box::new(table.clone()));
        let (mut parked, mut counters) = (ParkedQueue::default(), Counters::default());
        for port in 0..40_u16 {
            let mut datagram = datagram("0.0.0.0:1", "10.0.0.2:2");
            datagram.remote.set_port(port);
            parked.park(datagram, &mut counters);
        }
        assert_eq!(parked.len(), PARKED_PER_REMOTE_MAX);
        assert_eq!(counters.tx_parked_full_dropped, 40 - PARKED_PER_REMOTE_MAX as u64);
        assert_eq!(parked.retry(&mut router, true, |_, _| panic!("not resolved"), &mut counters), 0);
        assert_eq!(table.lookups.load(Ordering::Relaxed), 1, "one question a remote");
        table.set("10.0.0.2", hop(2));
        let changed = router.refresh();
        let mut ports = Vec::new();
        let left = parked.retry(
            &mut router,
            changed,
            |datagram, _| {
                ports.push(datagram.remote.port());
                None
            },
            &mut counters,
        );
        assert_eq!(left, PARKED_PER_REMOTE_MAX);
        assert!(ports.iter().copied().eq(0..PARKED_PER_REMOTE_MAX as u16));
        for host in 0..PARKED_MAX / PARKED_PER_REMOTE_MAX + 1 {
            for _ in 0..PARKED_PER_REMOTE_MAX {
                parked.park(datagram("0.0.0.0:1", &format!("10.0.1.{host}:2")), &mut counters);
            }
        }
        assert_eq!(parked.len(), PARKED_MAX);
    }

    #[test]
    fn the_unreachable_and_the_old_are_dropped_by_name() {
        let table = Table::default();
        let mut router = Router::new(Box::new(table.clone()));
        let (mut parked, mut counters) = (ParkedQueue::default(), Counters::default());
        parked.park(datagram("0.0.0.0:1", "10.0.0.2:2"), &mut counters);
        parked.park(datagram("0.0.0.0:1", "10.0.0.3:2"), &mut counters);
        parked.queue[1].since -= PARKED_AGE_MAX;
        table.set("10.0.0.2", NextHop::Unreachable);
        let left = parked.retry(&mut router, true, |_, _| panic!("not resolved"), &mut counters);
        assert_eq!(left, 2);
        assert!(parked.is_empty());
        assert_eq!((counters.tx_unreachable_dropped, counters.tx_parked_expired_dropped), (1, 1));
    }
}
