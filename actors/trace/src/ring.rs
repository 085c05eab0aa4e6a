//! Where journeys are kept: a ring of fixed size that writers never wait at.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering, fence},
};

use crate::{
    Nanos,
    journey::{Direction, Hop, JourneyRecord, MAX_CID_LEN, MAX_HOPS, Stage},
};

/// Words before the hops: id, begin, flags, four of addresses, ports, three of CID, connection.
const HEAD: usize = 12;
const WORDS_PER_HOP: usize = 4;
const WORDS: usize = HEAD + MAX_HOPS * WORDS_PER_HOP;

/// Words of a slot: one journey, behind a sequence number that is odd while it is written.
const SLOT: usize = 1 + WORDS;

/// Bytes of memory one journey takes.
pub(crate) const SLOT_BYTES: usize = SLOT * size_of::<AtomicU64>();

/// A ring of journeys. A writer takes the next slot and overwrites it, unless another is still at work there; a reader
/// copies a slot and looks whether it was overwritten meanwhile.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: Box<[AtomicU64]>,
    head: AtomicU64,
    /// Journeys up to here have been read.
    read_up_to: AtomicU64,
    lost: AtomicU64,
    lost_hops: AtomicU64,
}

impl Ring {
    /// A ring of at most so many bytes, and at least one slot.
    pub(crate) fn new(bytes: usize) -> Self {
        // Zeroed memory as the system hands it out, and nothing of it touched: a page is there once it is written.
        let zeroed = vec![0; (bytes / SLOT_BYTES).max(1) * SLOT];
        let slots = zeroed.into_iter().map(AtomicU64::new).collect();
        let zero = || AtomicU64::new(0);
        Self { slots, head: zero(), read_up_to: zero(), lost: zero(), lost_hops: zero() }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Journeys it holds.
    fn len(&self) -> u64 {
        (self.slots.len() / SLOT) as u64
    }

    /// The sequence number and the words of the slot that the `ticket`th journey goes to.
    fn slot(&self, ticket: u64) -> (&AtomicU64, &[AtomicU64]) {
        let begin = (ticket % self.len()) as usize * SLOT;
        (&self.slots[begin], &self.slots[begin + 1..begin + SLOT])
    }

    /// Journeys ever written.
    pub(crate) fn written(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Journeys nobody will read any more though nobody has, and their hops.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost.load(Ordering::Relaxed), self.lost_hops.load(Ordering::Relaxed))
    }

    fn lose(&self, hops: u8) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.lost_hops.fetch_add(hops.into(), Ordering::Relaxed);
    }

    /// Notes that the journeys before the `ticket`th have been read.
    pub(crate) fn on_read(&self, ticket: u64) {
        self.read_up_to.fetch_max(ticket, Ordering::Relaxed);
    }

    /// Writes a journey over the oldest one. `outcome` is the number of its outcome's name.
    pub(crate) fn push(&self, record: &JourneyRecord, outcome: u16) {
        let ticket = self.head.fetch_add(1, Ordering::AcqRel);
        let (sequence, slot_words) = self.slot(ticket);
        // Even and larger with every lap, odd while being written. Who finds another writer in the slot, or one that was
        // a lap ahead, goes without its journey: two in one slot would garble both.
        let found = sequence.load(Ordering::Relaxed);
        let (writing, written) = (2 * ticket + 1, 2 * ticket + 2);
        let taken = !found.is_multiple_of(2) || found > written;
        if taken || sequence.compare_exchange(found, writing, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return self.lose(record.hop_count);
        }
        // The one written here a lap or more ago.
        if let Some(earlier) = (found / 2).checked_sub(1)
            && earlier >= self.read_up_to.load(Ordering::Relaxed)
        {
            self.lose((slot_words[2].load(Ordering::Relaxed) >> HOP_COUNT_SHIFT) as u8);
        }
        // A reader that sees one of the words below sees the odd sequence, too.
        fence(Ordering::Release);
        for (word, value) in slot_words.iter().zip(encode_head(record, outcome)) {
            word.store(value, Ordering::Relaxed);
        }
        // What lies behind the last hop is of journeys long gone, and is not read.
        for (hop, words) in record.hops().iter().zip(slot_words[HEAD..].chunks_exact(WORDS_PER_HOP)) {
            let head = hop.stage as u64 | u64::from(hop.batch) << 8;
            for (word, value) in words.iter().zip([head, hop.actor, hop.wait, hop.run]) {
                word.store(value, Ordering::Relaxed);
            }
        }
        sequence.store(written, Ordering::Release);
    }

    /// The `ticket`th journey written and the number of its outcome; `None` if it is being written or gone.
    pub(crate) fn read(&self, ticket: u64) -> Option<(JourneyRecord, u16)> {
        let (sequence, slot_words) = self.slot(ticket);
        if sequence.load(Ordering::Acquire) != 2 * ticket + 2 {
            return None;
        }
        let mut words = [0; WORDS];
        for (value, word) in words.iter_mut().zip(slot_words) {
            // Acquire, so that the sequence is read after every word.
            *value = word.load(Ordering::Acquire);
        }
        (sequence.load(Ordering::Relaxed) == 2 * ticket + 2).then(|| decode(&words))?
    }

    /// The first ticket that may still be there.
    pub(crate) fn oldest(&self) -> u64 {
        self.written().saturating_sub(self.len())
    }
}

const FLAG_TX: u64 = 1 << 0;
const FLAG_PATH: u64 = 1 << 1;
const FLAG_V4: u64 = 1 << 2;
const HOP_COUNT_SHIFT: u32 = 16;

fn encode_head(record: &JourneyRecord, outcome: u16) -> [u64; HEAD] {
    let mut words = [0; HEAD];
    let mut flags = if record.direction == Direction::Tx { FLAG_TX } else { 0 };
    words[0] = record.id;
    words[1] = record.begin;
    if let Some((local, remote)) = record.path {
        flags |= FLAG_PATH | if local.is_ipv4() { FLAG_V4 } else { 0 };
        words[3..5].copy_from_slice(&halves(local));
        words[5..7].copy_from_slice(&halves(remote));
        words[7] = u64::from(local.port()) | u64::from(remote.port()) << 16;
    }
    words[7] |= u64::from(record.len) << 32;
    for (word, bytes) in words[8..11].iter_mut().zip(record.cid.1.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    words[11] = record.connection;
    words[2] = flags
        | u64::from(record.cid.0) << 8
        | u64::from(record.hop_count) << HOP_COUNT_SHIFT
        | u64::from(outcome) << 24;
    words
}

fn decode(words: &[u64; WORDS]) -> Option<(JourneyRecord, u16)> {
    let flags = words[2];
    let mut cid = [0; MAX_CID_LEN];
    for (bytes, word) in cid.chunks_mut(8).zip(&words[8..11]) {
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
    let path = (flags & FLAG_PATH != 0).then(|| {
        let v4 = flags & FLAG_V4 != 0;
        let (local, remote) = (words[7] as u16, (words[7] >> 16) as u16);
        (address(&words[3..5], v4, local), address(&words[5..7], v4, remote))
    });
    let hop_count = (flags >> HOP_COUNT_SHIFT) as u8;
    let mut hops = [Hop { stage: Stage::Device, actor: 0, wait: 0, run: 0, batch: 0 }; MAX_HOPS];
    for (hop, words) in hops.iter_mut().zip(words[HEAD..].chunks(WORDS_PER_HOP)).take(usize::from(hop_count))
    {
        let stage = Stage::from_u8(words[0] as u8)?;
        *hop = Hop { stage, batch: (words[0] >> 8) as u32, actor: words[1], wait: words[2], run: words[3] };
    }
    let total: Nanos = hops.iter().map(|hop| hop.wait + hop.run).sum();
    let record = JourneyRecord {
        id: words[0],
        direction: if flags & FLAG_TX != 0 { Direction::Tx } else { Direction::Rx },
        begin: words[1],
        end: words[1] + total,
        len: (words[7] >> 32) as u32,
        path,
        cid: ((flags >> 8) as u8, cid),
        connection: words[11],
        outcome: "",
        hop_count,
        hops,
    };
    Some((record, (flags >> 24) as u16))
}

fn halves(address: SocketAddr) -> [u64; 2] {
    let bits = match address.ip() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn address(halves: &[u64], v4: bool, port: u16) -> SocketAddr {
    let bits = u128::from(halves[0]) << 64 | u128::from(halves[1]);
    let ip = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) };
    SocketAddr::new(ip, port)
}
