//! What connections that have ended found and made: their part of the books.

use std::ops::AddAssign;

use parking_lot::Mutex;
use wirepath_quic::Counters;

/// What came into connections and out of them, by their own books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuicBooks {
    /// Datagrams taken.
    pub datagram_received: u64,
    /// Packets found in them.
    pub packet_found: u64,
    /// Of these, opened, or understood without.
    pub packet_received: u64,
    /// Of these, kept for later, to be found once more.
    pub packet_deferred: u64,
    /// Of these, dropped by name.
    pub packet_dropped: u64,
    /// Datagrams made, a train of them counted once.
    pub transmit_made: u64,
}

impl From<&Counters> for QuicBooks {
    fn from(it: &Counters) -> Self {
        Self {
            datagram_received: it.datagram_received,
            packet_found: it.packet_found,
            packet_received: it.packet_received + it.packet_control,
            packet_deferred: it.packet_deferred,
            packet_dropped: it.packet_duplicate_dropped
                + it.packet_forged_dropped
                + it.packet_keyless_dropped
                + it.packet_invalid_dropped,
            transmit_made: it.transmit_made,
        }
    }
}

impl AddAssign for QuicBooks {
    fn add_assign(&mut self, other: Self) {
        self.datagram_received += other.datagram_received;
        self.packet_found += other.packet_found;
        self.packet_received += other.packet_received;
        self.packet_deferred += other.packet_deferred;
        self.packet_dropped += other.packet_dropped;
        self.transmit_made += other.transmit_made;
    }
}

/// The sum over connections that have ended.
#[derive(Debug, Default)]
pub struct Departed(Mutex<QuicBooks>);

impl Departed {
    /// One ends.
    pub(crate) fn add(&self, counters: &Counters) {
        *self.0.lock() += counters.into();
    }

    /// The sum so far.
    pub fn books(&self) -> QuicBooks {
        *self.0.lock()
    }
}
