//! A set of ports.

use std::{ops::RangeInclusive, sync::Arc};

const WORDS: usize = 65_536 / 64;

/// Any number of ports, as one rule takes them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PortSet(Arc<[u64; WORDS]>);

impl PortSet {
    /// No port.
    pub fn new() -> Self {
        Self(Arc::new([0; WORDS]))
    }

    /// Adds a port. Returns whether it was not yet there.
    pub fn insert(&mut self, port: u16) -> bool {
        let missing = !self.contains(port);
        Arc::make_mut(&mut self.0)[usize::from(port) / 64] |= 1 << (port % 64);
        missing
    }

    /// Takes a port out. Returns whether it was there.
    pub fn remove(&mut self, port: u16) -> bool {
        let present = self.contains(port);
        Arc::make_mut(&mut self.0)[usize::from(port) / 64] &= !(1 << (port % 64));
        present
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] >> (port % 64) & 1 != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Ports in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ports, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..WORDS).filter(|word| self.0[*word] != 0).flat_map(|word| {
            let first = (word * 64) as u16;
            (0..64).map(move |bit| first + bit).filter(|port| self.contains(*port))
        })
    }

    /// The ports as ranges, ascending and as few as can be.
    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for port in self.iter() {
            match ranges.last_mut() {
                Some(last) if port > 0 && *last.end() == port - 1 => *last = *last.start()..=port,
                _ => ranges.push(port..=port),
            }
        }
        ranges
    }
}

impl Default for PortSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::new();
        set.extend(ports);
        set
    }
}

impl Extend<u16> for PortSet {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, ports: I) {
        for port in ports {
            self.insert(port);
        }
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}
