//! What a listener would have to remember of a SYN, in the number it answers with.

use std::fmt;

use ahash::RandomState;
use wirepath_quic::NetPath;
use wirepath_trace::Nanos;

/// Time a cookie is good for, at least; at most twice that. A client answers a SYN/ACK within a round trip.
const EPOCH: Nanos = 64_000_000_000;

/// Segment sizes told apart: three bits of the number. A client's is rounded down.
const SIZES: [u16; 8] = [1200, 1220, 1280, 1360, 1400, 1440, 1460, super::UNLIMITED_MSS];

/// Makes and checks a listener's first sequence numbers: a keyed hash of the flow's addresses and the time.
pub struct Cookies {
    // Forging one takes 2^28 guesses, and gains a flow entry that carries nothing QUIC would believe: no more than
    // address validation by QUIC is at stake, which has stronger means of its own.
    keys: RandomState,
}

impl Default for Cookies {
    fn default() -> Self {
        Self { keys: RandomState::new() }
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// The first sequence number to answer a SYN with.
    pub fn make(&self, now: Nanos, path: &NetPath, mss: u16) -> u32 {
        let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0) as u32;
        self.number(now / EPOCH, path) & !0b111 | size
    }

    /// The segment size told in the SYN that this number answered, if it is one of ours.
    pub fn check(&self, now: Nanos, path: &NetPath, number: u32) -> Option<u16> {
        let epoch = now / EPOCH;
        let made = [epoch, epoch.wrapping_sub(1)].map(|epoch| self.number(epoch, path) & !0b111);
        made.contains(&(number & !0b111)).then(|| SIZES[(number & 0b111) as usize])
    }

    fn number(&self, epoch: u64, path: &NetPath) -> u32 {
        self.keys.hash_one((epoch, path.local, path.remote)) as u32
    }
}
