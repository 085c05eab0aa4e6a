//! Transmit memory of devices that copy on sending.

use std::sync::Arc;

use crate::{HeapPool, PacketBuf, PacketMemory, TX_HEADROOM, TxPool};

/// The longest payload of one send call over either family: a 16-bit length less an IPv6 and a UDP header. (IPv4
/// counts its own header in, 20 bytes, but takes no more.)
pub(super) const MAX_TRAIN: usize = 65_535 - 40 - 8;

/// Single datagrams leased at a time: 6 MiB at Ethernet size. Devices that send at once hold few.
const SINGLES: usize = 4096;

/// Trains leased at a time: 16 MiB.
const TRAINS: usize = 256;

/// Of what comes back, this much is kept for reuse: 1.5 MiB of single datagrams and 2 MiB of trains.
const IDLE_SINGLES: usize = 1024;
const IDLE_TRAINS: usize = 32;

/// Recycled heap memory behind the [`TxPool`] interface.
#[derive(Debug)]
pub struct HeapTxPool {
    capacity: usize,
    max_segments: usize,
    singles: Arc<HeapPool>,
    trains: Arc<HeapPool>,
}

impl HeapTxPool {
    /// Buffers of `capacity` bytes a datagram, and of as many datagrams a train as the system takes at once, but
    /// at most `max_segments`.
    pub fn new(capacity: usize, max_segments: usize) -> Self {
        let capacity = capacity.clamp(1, MAX_TRAIN);
        let max_segments = max_segments.clamp(1, MAX_TRAIN / capacity);
        Self {
            capacity,
            max_segments,
            singles: HeapPool::new(TX_HEADROOM + capacity, SINGLES, IDLE_SINGLES),
            trains: HeapPool::new(TX_HEADROOM + capacity * max_segments, TRAINS, IDLE_TRAINS),
        }
    }

    /// The most datagrams of full size that one buffer holds.
    pub fn max_segments(&self) -> usize {
        self.max_segments
    }
}

impl TxPool for HeapTxPool {
    fn lease(&self, segments: usize) -> Option<PacketBuf> {
        let segments = segments.clamp(1, self.max_segments);
        let pool = if segments == 1 { &self.singles } else { &self.trains };
        let window = TX_HEADROOM..TX_HEADROOM + self.capacity * segments;
        Some(PacketBuf::new(PacketMemory::Pooled(pool.take()?), window))
    }

    fn datagram_capacity(&self) -> usize {
        self.capacity
    }

    fn available(&self) -> usize {
        // A caller that wants trains is blocked by the scarcer of the two.
        self.singles.available().min(self.trains.available())
    }
}
