//! A histogram of durations in powers of two.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Nanos;

/// Bucket `n` counts values in `[2^(n-1), 2^n)` nanoseconds; the last takes all above. 2^39 ns is nine minutes.
const BUCKETS: usize = 40;

/// Counts durations by their binary order of magnitude. Written from any thread, without locks.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, nanos: Nanos) {
        let bucket = (Nanos::BITS - nanos.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// Copies the counts.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { buckets: std::array::from_fn(|n| self.buckets[n].load(Relaxed)) }
    }
}

/// A copy of a [`Histogram`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
}

impl HistogramSnapshot {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound, in nanoseconds, of the bucket that holds the given quantile (0.0 to 1.0); 0 when empty.
    pub fn quantile(&self, quantile: f64) -> Nanos {
        let rank = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (n, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return if n == 0 { 0 } else { 1 << n };
            }
        }
        0
    }

    /// Upper bounds in nanoseconds with their counts, smallest first.
    pub fn buckets(&self) -> impl Iterator<Item = (Nanos, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(n, count)| (if n == 0 { 0 } else { 1 << n }, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_land_in_their_power_of_two() {
        let histogram = Histogram::default();
        for nanos in [0, 1, 2, 3, 1023, 1024, u64::MAX] {
            histogram.record(nanos);
        }
        let counts: Vec<_> = histogram.snapshot().buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(0, 1), (2, 1), (4, 2), (1024, 1), (2048, 1), (1 << 39, 1)]);
    }

    #[test]
    fn quantiles_bound_the_values_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), 0);
        for _ in 0..99 {
            histogram.record(100);
        }
        histogram.record(1_000_000);
        assert_eq!(histogram.snapshot().quantile(0.5), 128);
        assert_eq!(histogram.snapshot().quantile(0.99), 128);
        assert_eq!(histogram.snapshot().quantile(1.0), 1 << 20);
    }
}
