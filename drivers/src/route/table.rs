//! The table devices read: from destination to next hop.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::cell::{Hop, NeighbourCell};
use crate::NextHop;

/// Destinations kept, at about 130 bytes each. A full table makes room by dropping ones unused of late, so that a
/// flood of spoofed sources drives out its own.
const DESTINATIONS: usize = 65_536;

/// Places looked at to make room for one destination. All of them in use means that the table is busy for good
/// reason.
const EVICTION_STEPS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Table {
    destinations: RwLock<Destinations>,
    local: RwLock<HashSet<IpAddr>>,
    /// Moves whenever an answer may have changed, or a mark of use was cleared.
    pub(super) generation: AtomicU64,
    overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Destinations {
    ways: HashMap<IpAddr, Place, ahash::RandomState>,
    /// All keys of `ways`, oldest first; those found in use on eviction go to the end (second chance).
    order: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Place {
    way: Way,
    used: AtomicBool,
    /// The way may be another by now: good until there is an answer, but whoever uses it must ask.
    doubtful: bool,
}

/// How to reach a destination.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// The question found no answer: whoever needs it must ask again.
    Unknown,
    /// Asked for.
    Asked,
    /// Through a neighbour.
    Through { source: IpAddr, neighbour: Arc<NeighbourCell> },
    /// Not by this interface.
    No,
}

/// What a look-up finds.
#[derive(Debug)]
pub(super) enum Known {
    Hop(NextHop),
    /// The last answer, that may be outdated, and nobody has asked yet.
    Doubtful(NextHop),
    /// Nothing, and nobody has asked yet.
    Nothing,
}

impl Table {
    #[inline]
    pub(super) fn lookup(&self, remote: IpAddr) -> Known {
        let destinations = self.destinations.read();
        let Some(place) = destinations.ways.get(&remote) else { return Known::Nothing };
        if !place.used.load(Ordering::Relaxed) {
            place.used.store(true, Ordering::Relaxed);
        }
        let hop = match &place.way {
            Way::Unknown => return Known::Nothing,
            Way::Asked => NextHop::Pending,
            Way::No => NextHop::Unreachable,
            Way::Through { source, neighbour } => match neighbour.use_hop() {
                Hop::At(dst_mac) => NextHop::Resolved {
                    src_mac: neighbour.source(),
                    dst_mac,
                    src_ip: *source,
                    vlan: neighbour.vlan,
                },
                Hop::Pending => NextHop::Pending,
                Hop::Unreachable => NextHop::Unreachable,
                Hop::Cold => return Known::Nothing,
            },
        };
        if place.doubtful { Known::Doubtful(hop) } else { Known::Hop(hop) }
    }

    /// Marks a destination as asked for. True for the one caller who is to ask.
    pub(super) fn ask(&self, remote: IpAddr) -> bool {
        let mut destinations = self.destinations.write();
        if let Some(place) = destinations.ways.get_mut(&remote) {
            let doubtful = std::mem::take(&mut place.doubtful);
            return match &place.way {
                Way::Through { .. } | Way::No if doubtful => true,
                Way::Unknown => {
                    place.way = Way::Asked;
                    true
                }
                Way::Through { neighbour, .. } => neighbour.warm(),
                Way::Asked | Way::No => false,
            };
        }
        if destinations.ways.len() >= DESTINATIONS && !destinations.evict() {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        destinations
            .ways
            .insert(remote, Place { way: Way::Asked, used: AtomicBool::new(false), doubtful: false });
        destinations.order.push_back(remote);
        true
    }

    /// Stores an answer, unless the destination was dropped in the meantime.
    pub(super) fn answer(&self, remote: IpAddr, way: Way) {
        let mut destinations = self.destinations.write();
        if let Entry::Occupied(mut place) = destinations.ways.entry(remote)
            && !place.get().way.is_same(&way)
        {
            place.get_mut().way = way;
            drop(destinations);
            self.changed();
        }
    }

    /// The neighbour a destination goes through, if that is known.
    pub(super) fn neighbour(&self, remote: IpAddr) -> Option<Arc<NeighbourCell>> {
        match &self.destinations.read().ways.get(&remote)?.way {
            Way::Through { neighbour, .. } => Some(neighbour.clone()),
            Way::Unknown | Way::Asked | Way::No => None,
        }
    }

    /// Routes to these destinations may have changed. Returns those in use, to be asked for at once; the others
    /// are asked for when next used. All keep their answer until there is a new one.
    pub(super) fn doubt(&self, affected: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let mut in_use = Vec::new();
        let mut destinations = self.destinations.write();
        for (remote, place) in &mut destinations.ways {
            if !affected(*remote) {
                continue;
            }
            match place.way {
                Way::Unknown => {}
                _ if std::mem::take(place.used.get_mut()) => in_use.push(*remote),
                // The answer to its question may be from before the change.
                Way::Asked => in_use.push(*remote),
                Way::Through { .. } | Way::No => place.doubtful = true,
            }
        }
        drop(destinations);
        self.changed();
        in_use
    }

    /// Moves the generation: devices that kept an answer look again.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn is_local(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || ip.is_unspecified() || self.local.read().contains(&ip)
    }

    pub(super) fn set_local(&self, ip: IpAddr, local: bool) {
        let mut addresses = self.local.write();
        if local {
            addresses.insert(ip)
        } else {
            addresses.remove(&ip)
        };
    }

    pub(super) fn replace_local(&self, addresses: HashSet<IpAddr>) {
        *self.local.write() = addresses;
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }
}

impl Destinations {
    /// Drops one destination unused since it was last looked at here.
    fn evict(&mut self) -> bool {
        for _ in 0..EVICTION_STEPS {
            let Some(oldest) = self.order.pop_front() else { return false };
            let Some(place) = self.ways.get_mut(&oldest) else { continue };
            if std::mem::take(place.used.get_mut()) {
                self.order.push_back(oldest);
            } else {
                self.ways.remove(&oldest);
                return true;
            }
        }
        false
    }
}

impl Way {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Through { source, neighbour },
                Self::Through { source: other_source, neighbour: other_neighbour },
            ) => source == other_source && Arc::ptr_eq(neighbour, other_neighbour),
            (Self::No, Self::No) | (Self::Unknown, Self::Unknown) | (Self::Asked, Self::Asked) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_asks_and_all_see_the_answer() {
        let table = Table::default();
        let remote = ip(1);
        assert!(matches!(table.lookup(remote), Known::Nothing));
        assert!(table.ask(remote));
        assert!(!table.ask(remote));
        assert!(matches!(table.lookup(remote), Known::Hop(NextHop::Pending)));
        let neighbour = Arc::new(NeighbourCell::new(Hop::At([7; 6]), [1; 6], Some(5)));
        let before = table.generation.load(Ordering::Relaxed);
        table.answer(remote, Way::Through { source: ip(9), neighbour: neighbour.clone() });
        assert_ne!(table.generation.load(Ordering::Relaxed), before);
        let Known::Hop(hop) = table.lookup(remote) else { panic!("answered") };
        let resolved = NextHop::Resolved { src_mac: [1; 6], dst_mac: [7; 6], src_ip: ip(9), vlan: Some(5) };
        assert_eq!(hop, resolved);
        neighbour.set_hop(Hop::Cold);
        assert!(matches!(table.lookup(remote), Known::Nothing));
        assert!(table.ask(remote), "a cold neighbour is asked for again");
        assert!(!table.ask(remote));
    }

    #[test]
    fn doubt_names_those_in_use_and_marks_the_others() {
        let table = Table::default();
        for n in 0..4 {
            assert!(table.ask(ip(n)));
            table.answer(ip(n), Way::No);
        }
        let _ = table.lookup(ip(1));
        let _ = table.lookup(ip(3));
        let in_use = table.doubt(|remote| remote != ip(3));
        assert_eq!(in_use, [ip(1)]);
        assert!(matches!(table.lookup(ip(1)), Known::Hop(NextHop::Unreachable)));
        assert!(matches!(table.lookup(ip(0)), Known::Doubtful(NextHop::Unreachable)));
        assert!(table.ask(ip(0)));
        assert!(!table.ask(ip(0)));
        assert!(matches!(table.lookup(ip(0)), Known::Hop(NextHop::Unreachable)));
        assert!(matches!(table.lookup(ip(3)), Known::Hop(NextHop::Unreachable)));
    }

    #[test]
    fn a_flood_drives_out_its_own() {
        let table = Table::default();
        for n in 0..10 {
            table.ask(ip(n));
        }
        for n in 10..10 + 4 * DESTINATIONS as u32 {
            for used in 0..10 {
                let _ = table.lookup(ip(used));
            }
            assert!(table.ask(ip(n)));
        }
        let destinations = table.destinations.read();
        assert_eq!(destinations.ways.len(), DESTINATIONS);
        assert_eq!(destinations.order.len(), DESTINATIONS);
        assert!((0..10).all(|n| destinations.ways.contains_key(&ip(n))));
        assert_eq!(table.overflowed(), 0);
    }

    #[test]
    fn a_table_full_of_used_destinations_says_so() {
        let table = Table::default();
        for n in 0..DESTINATIONS as u32 {
            table.ask(ip(n));
            let _ = table.lookup(ip(n));
        }
        assert!(!table.ask(ip(u32::MAX)));
        assert_eq!(table.overflowed(), 1);
    }

    fn ip(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }
}
