//! The program's perfect hash table: each key stands in the one slot its hash names, so that a look-up compares
//! once, however many keys there are and whoever chose them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use wirepath_wire::rules::{CidPattern, MAX_EXACT_KEYS};

use super::tables::{NO_RULE, field_number};

/// Slots: `EXACT_SLOTS` of the program.
pub(super) const EXACT_SLOTS: usize = 2048;
/// Buckets that share a displacement: `EXACT_BUCKETS` of the program.
pub(super) const EXACT_BUCKETS: usize = 1024;
const WORDS: usize = 5;

// Half full, a displacement that fits is found within a few attempts.
const _: () = assert!(MAX_EXACT_KEYS * 2 <= EXACT_SLOTS);

const KIND_TUPLE_V4: u8 = 1;
const KIND_TUPLE_V6: u8 = 2;
const KIND_LOCAL_V4: u8 = 3;
const KIND_LOCAL_V6: u8 = 4;
const KIND_CID: u8 = 5;

/// `struct exact_key`, as the words it is hashed and compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub(super) struct ExactKey([u64; WORDS]);

/// `struct exact_entry`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ExactEntry {
    key: ExactKey,
    rule: u64,
}

/// The table and what its hash depends on.
pub(super) struct ExactTable {
    pub(super) seed: u64,
    pub(super) displacement: Box<[u16; EXACT_BUCKETS]>,
    pub(super) entries: Vec<ExactEntry>,
}

impl ExactKey {
    fn from_parts(head: [u8; 4], dst_port: u16, src_port: u16, bytes: [u8; 32]) -> Self {
        let mut all = [0; WORDS * 8];
        all[..4].copy_from_slice(&head);
        all[4..6].copy_from_slice(&dst_port.to_be_bytes());
        all[6..8].copy_from_slice(&src_port.to_be_bytes());
        all[8..].copy_from_slice(&bytes);
        // The kernel runs on this machine: its words are ours.
        Self(std::array::from_fn(|i| u64::from_ne_bytes(std::array::from_fn(|j| all[i * 8 + j]))))
    }

    /// A UDP tuple. The address families are the same: `Rules` has checked.
    pub(super) fn tuple(src: SocketAddr, dst: SocketAddr) -> Self {
        let kind = if dst.is_ipv4() { KIND_TUPLE_V4 } else { KIND_TUPLE_V6 };
        let mut bytes = [0; 32];
        put_address(&mut bytes[..16], dst.ip());
        put_address(&mut bytes[16..], src.ip());
        Self::from_parts([kind, 0, 0, 0], dst.port(), src.port(), bytes)
    }

    /// An address of this host.
    pub(super) fn local(address: IpAddr) -> Self {
        let kind = if address.is_ipv4() { KIND_LOCAL_V4 } else { KIND_LOCAL_V6 };
        let mut bytes = [0; 32];
        put_address(&mut bytes, address);
        Self::from_parts([kind, 0, 0, 0], 0, 0, bytes)
    }

    /// Bytes of a connection ID.
    pub(super) fn cid(pattern: &CidPattern, tcp: bool) -> Self {
        let kind = KIND_CID + field_number(pattern.field()) + if tcp { 3 } else { 0 };
        let len = pattern.bytes().len();
        let mut bytes = [0; 32];
        bytes[..len].copy_from_slice(pattern.bytes());
        Self::from_parts([kind, pattern.offset() as u8, len as u8, 0], pattern.port(), 0, bytes)
    }

    /// As the program's `look_up` does.
    fn hash(&self, seed: u64) -> u64 {
        self.0.iter().fold(seed, |hash, word| {
            let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^ hash >> 29
        })
    }
}

fn put_address(into: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => into[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => into[..16].copy_from_slice(&v6.octets()),
    }
}

impl ExactTable {
    /// Places the keys; of equal ones the lowest rule stays.
    pub(super) fn of(keys: impl IntoIterator<Item = (ExactKey, u16)>) -> Self {
        let mut lowest = BTreeMap::new();
        for (key, rule) in keys {
            lowest.entry(key).and_modify(|known: &mut u16| *known = rule.min(*known)).or_insert(rule);
        }
        // Two keys of one bucket with the same remaining hash never part: about every fourth seed of a full
        // table has such a pair, so this ends soon.
        let mut seed = 0x5851_f42d_4c95_7f2d_u64;
        loop {
            if let Some(table) = Self::with_seed(seed, &lowest) {
                return table;
            }
            seed = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        }
    }

    fn with_seed(seed: u64, keys: &BTreeMap<ExactKey, u16>) -> Option<Self> {
        let mut buckets = vec![Vec::new(); EXACT_BUCKETS];
        for (key, rule) in keys {
            let hash = key.hash(seed);
            buckets[hash as usize % EXACT_BUCKETS].push((hash >> 32, *key, *rule));
        }
        let mut order: Vec<usize> = (0..EXACT_BUCKETS).filter(|at| !buckets[*at].is_empty()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(buckets[*at].len()));

        let empty = ExactEntry { key: ExactKey::default(), rule: NO_RULE.into() };
        let mut table =
            Self { seed, displacement: Box::new([0; EXACT_BUCKETS]), entries: vec![empty; EXACT_SLOTS] };
        for at in order {
            let bucket = &buckets[at];
            let displacement = (0..EXACT_SLOTS as u16).find(|d| table.has_room(bucket, *d))?;
            table.displacement[at] = displacement;
            for (rest, key, rule) in bucket {
                table.entries[slot(*rest, displacement)] = ExactEntry { key: *key, rule: (*rule).into() };
            }
        }
        Some(table)
    }

    fn has_room(&self, bucket: &[(u64, ExactKey, u16)], displacement: u16) -> bool {
        bucket.iter().enumerate().all(|(at, (rest, ..))| {
            let here = slot(*rest, displacement);
            self.entries[here].key == ExactKey::default()
                && bucket[..at].iter().all(|(other, ..)| slot(*other, displacement) != here)
        })
    }
}

fn slot(rest: u64, displacement: u16) -> usize {
    (rest + u64::from(displacement)) as usize % EXACT_SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(table: &ExactTable, key: &ExactKey) -> Option<u16> {
        let hash = key.hash(table.seed);
        let entry = &table.entries[slot(hash >> 32, table.displacement[hash as usize % EXACT_BUCKETS])];
        (entry.key == *key).then_some(entry.rule as u16)
    }

    #[test]
    fn as_many_keys_as_allowed_are_all_found_and_no_others() {
        let key = |i: u32| ExactKey::local(IpAddr::from(i.to_be_bytes()));
        let count = MAX_EXACT_KEYS as u32;
        let table = ExactTable::of((0..count).map(|i| (key(i), i as u16)));
        for i in 0..count {
            assert_eq!(look_up(&table, &key(i)), Some(i as u16));
            assert_eq!(look_up(&table, &key(count + i)), None);
        }
    }

    #[test]
    fn of_equal_keys_the_lowest_rule_stays() {
        let (src, dst) = ("[fd00::1]:1".parse().unwrap(), "[fd00::2]:2".parse().unwrap());
        let key = ExactKey::tuple(src, dst);
        let table = ExactTable::of([(key, 7), (key, 3), (ExactKey::tuple(dst, src), 1)]);
        assert_eq!(look_up(&table, &key), Some(3));
    }
}
