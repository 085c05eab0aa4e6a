//! How far behind a partition is, and whether packets find their connections on it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wirepath_trace::Nanos;

/// Average wait of received packets above which a partition takes no new connections: those it has would only become
/// slower, and a client that hears nothing tries again after 1 s. As in MsQuic (`MaxWorkerQueueDelayUs`).
pub const MAX_QUEUE_DELAY: Nanos = 250_000_000;

/// The share of a new sample in the average: one stall alone is no overload.
const SAMPLE_SHARE: u64 = 8;

/// The queue delay of a partition: how long packets wait between the device and the demux, averaged.
#[derive(Debug, Default)]
pub struct PartitionLoad {
    queue_delay: AtomicU64,
    home: AtomicU64,
    away: AtomicU64,
}

impl PartitionLoad {
    /// A batch has waited this long. Called by one actor alone.
    pub fn observe(&self, waited: Nanos) {
        let average = self.queue_delay.load(Relaxed);
        self.queue_delay.store((average * (SAMPLE_SHARE - 1) + waited) / SAMPLE_SHARE, Relaxed);
    }

    /// The average.
    pub fn queue_delay(&self) -> Nanos {
        self.queue_delay.load(Relaxed)
    }

    /// A connection of this partition has received so many datagrams, through a device of this one (`home`), whose
    /// replies leave the same way, or of another.
    pub fn count_received(&self, datagrams: usize, home: bool) {
        let counter = if home { &self.home } else { &self.away };
        counter.fetch_add(datagrams as u64, Relaxed);
    }

    /// Datagrams that connections of this partition received through devices of this partition, and of others.
    pub fn received(&self) -> (u64, u64) {
        (self.home.load(Relaxed), self.away.load(Relaxed))
    }

    /// Whether new connections are to be turned away.
    pub fn is_overloaded(&self) -> bool {
        self.queue_delay() > MAX_QUEUE_DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stall_is_no_overload_and_a_standing_queue_is() {
        let load = PartitionLoad::default();
        load.observe(4 * MAX_QUEUE_DELAY);
        assert!(!load.is_overloaded());
        (0..20).for_each(|_| load.observe(2 * MAX_QUEUE_DELAY));
        assert!(load.is_overloaded());
        (0..20).for_each(|_| load.observe(1000));
        assert!(!load.is_overloaded() && load.queue_delay() < MAX_QUEUE_DELAY / 2);
    }
}
