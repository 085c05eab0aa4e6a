//! What the hot path reads of one neighbour: two words.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A neighbour as the tables of all destinations behind it see it. Written by the task, read by devices.
#[derive(Debug)]
pub(super) struct NeighbourCell {
    /// State and hardware address of the neighbour.
    hop: AtomicU64,
    /// Our own hardware address on the link.
    source: AtomicU64,
    /// The VLAN the link is, if it is one.
    pub(super) vlan: Option<u16>,
    /// Looked at since the task last cleared it.
    used: AtomicBool,
    /// Its hardware address is being found out anew, since packets to it seem to get lost.
    doubted: AtomicBool,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Being solicited.
    Pending,
    /// It answers at this hardware address (or did until lately).
    At([u8; 6]),
    /// It does not answer.
    Unreachable,
    /// Not known and not sought, since nobody used it. Whoever does must ask.
    Cold,
}

/// Where the state begins; the hardware address lies below.
const STATE_SHIFT: u32 = 48;

impl NeighbourCell {
    pub(super) fn new(hop: Hop, source: [u8; 6], vlan: Option<u16>) -> Self {
        Self {
            hop: AtomicU64::new(hop.pack()),
            source: AtomicU64::new(pack(source)),
            vlan,
            used: AtomicBool::new(true),
            doubted: AtomicBool::new(false),
        }
    }

    pub(super) fn set_doubted(&self, doubted: bool) {
        self.doubted.store(doubted, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// The state, for a packet about to be sent.
    #[inline]
    pub(super) fn use_hop(&self) -> Hop {
        // Mostly set already: no need to take the cache line from other readers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.hop()
    }

    #[inline]
    pub(super) fn hop(&self) -> Hop {
        // One word holds state and address, so no order among several loads matters.
        Hop::unpack(self.hop.load(Ordering::Relaxed))
    }

    /// Returns whether it changed.
    pub(super) fn set_hop(&self, hop: Hop) -> bool {
        self.hop.swap(hop.pack(), Ordering::Relaxed) != hop.pack()
    }

    #[inline]
    pub(super) fn source(&self) -> [u8; 6] {
        unpack(self.source.load(Ordering::Relaxed))
    }

    /// Returns whether it changed.
    pub(super) fn set_source(&self, source: [u8; 6]) -> bool {
        self.source.swap(pack(source), Ordering::Relaxed) != pack(source)
    }

    /// From `Cold` to `Pending`: true for the one caller who is to ask.
    pub(super) fn warm(&self) -> bool {
        let (cold, pending) = (Hop::Cold.pack(), Hop::Pending.pack());
        self.hop.compare_exchange(cold, pending, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it was used since the last call. Who clears the mark must move the table's generation, so that
    /// devices that kept their last answer look again.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl Hop {
    fn pack(self) -> u64 {
        match self {
            Self::Pending => 0,
            Self::At(mac) => 1 << STATE_SHIFT | pack(mac),
            Self::Unreachable => 2 << STATE_SHIFT,
            Self::Cold => 3 << STATE_SHIFT,
        }
    }

    fn unpack(word: u64) -> Self {
        match word >> STATE_SHIFT {
            0 => Self::Pending,
            1 => Self::At(unpack(word)),
            2 => Self::Unreachable,
            _ => Self::Cold,
        }
    }
}

fn pack(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn unpack(word: u64) -> [u8; 6] {
    let [_, _, mac @ ..] = word.to_be_bytes();
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_packing() {
        for hop in
            [Hop::Pending, Hop::At([0xff; 6]), Hop::At([0, 1, 2, 3, 4, 5]), Hop::Unreachable, Hop::Cold]
        {
            assert_eq!(Hop::unpack(hop.pack()), hop);
        }
    }

    #[test]
    fn one_caller_warms_a_cold_cell() {
        let cell = NeighbourCell::new(Hop::Cold, [1; 6], None);
        assert!(cell.warm());
        assert!(!cell.warm());
        assert_eq!(cell.hop(), Hop::Pending);
    }
}
