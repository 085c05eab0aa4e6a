//! A log-linear histogram of durations.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Nanos;

/// Each power of two is cut into this many equal parts, as a power of two: a bound is off by an eighth at most.
const SUB_BITS: u32 = 3;
const SUBS: usize = 1 << SUB_BITS;

/// Durations from 2^40 ns (18 minutes) on share the last bucket.
const MAX_BITS: u32 = 40;
const BUCKETS: usize = (MAX_BITS - SUB_BITS + 1) as usize * SUBS;

/// Counts durations in buckets of an eighth of a power of two. Written from any thread, without locks.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

/// The bucket of a duration: exact below 8 ns, then 8 to each power of two.
#[inline]
fn bucket(nanos: Nanos) -> usize {
    let bits = Nanos::BITS - nanos.leading_zeros();
    match bits.checked_sub(SUB_BITS + 1) {
        None => nanos as usize,
        Some(shift) if bits <= MAX_BITS => (shift as usize + 1) * SUBS + (nanos >> shift) as usize - SUBS,
        Some(_) => BUCKETS - 1,
    }
}

/// The largest duration of a bucket.
fn upper(bucket: usize) -> Nanos {
    match (bucket / SUBS).checked_sub(1) {
        None => bucket as Nanos,
        Some(shift) => (((bucket % SUBS + SUBS + 1) as Nanos) << shift) - 1,
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, nanos: Nanos) {
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
    }

    /// Copies the counts.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { buckets: self.buckets.iter().map(|count| count.load(Relaxed)).collect() }
    }
}

/// A copy of a [`Histogram`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: Vec<u64>,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl HistogramSnapshot {
    /// A histogram of these durations.
    pub fn of(durations: impl IntoIterator<Item = Nanos>) -> Self {
        let mut this = Self::default();
        durations.into_iter().for_each(|nanos| this.buckets[bucket(nanos)] += 1);
        this
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| *own += other);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound, in nanoseconds, of the bucket that holds the given quantile (0.0 to 1.0); 0 when empty.
    pub fn quantile(&self, quantile: f64) -> Nanos {
        let rank = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return bound;
            }
        }
        0
    }

    /// The largest durations of the buckets, in nanoseconds, with their counts, smallest first.
    pub fn buckets(&self) -> impl Iterator<Item = (Nanos, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(n, count)| (upper(n), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_within_an_eighth_of_its_buckets_bound() {
        for nanos in (0..5000).chain((0..40).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1])) {
            let bound = upper(bucket(nanos));
            assert!(nanos <= bound && bound <= nanos + nanos / 8, "{nanos}: {bound}");
            assert!(bucket(nanos) == 0 || upper(bucket(nanos) - 1) < nanos, "{nanos}");
        }
        assert_eq!(bucket(Nanos::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_bound_the_values_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), 0);
        for _ in 0..99 {
            histogram.record(100);
        }
        histogram.record(1_000_000);
        assert_eq!(histogram.snapshot().quantile(0.5), 103);
        assert_eq!(histogram.snapshot().quantile(0.99), 103);
        assert!((1_000_000..1_125_000).contains(&histogram.snapshot().quantile(1.0)));
    }

    #[test]
    fn merged_histograms_count_both() {
        let mut both = HistogramSnapshot::of([1, 2]);
        both.merge(&HistogramSnapshot::of([2, 1 << 50]));
        assert_eq!(both.count(), 4);
        assert_eq!(both.buckets().find(|(bound, _)| *bound == 2), Some((2, 2)));
    }
}
