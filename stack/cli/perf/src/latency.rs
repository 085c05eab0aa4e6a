//! The distribution of a run's latencies.

use std::time::Duration;

use crate::Json;

/// Latencies as they were measured, every one kept: a bucketed histogram would round the tail.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// None yet, with room for `capacity` so that measuring allocates nothing.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { nanoseconds: Vec::with_capacity(capacity) }
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.nanoseconds.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.nanoseconds.len() as u64
    }

    /// Adds percentiles and mean to a result, in microseconds.
    #[must_use]
    pub fn report(mut self, json: Json) -> Json {
        self.nanoseconds.sort_unstable();
        let total: f64 = self.nanoseconds.iter().map(|&ns| ns as f64).sum();
        let mean = total / (self.nanoseconds.len().max(1)) as f64 / 1e3;
        json.number("p50_us", self.microseconds_at(0.50))
            .number("p90_us", self.microseconds_at(0.90))
            .number("p99_us", self.microseconds_at(0.99))
            .number("p999_us", self.microseconds_at(0.999))
            .number("mean_us", mean)
    }

    /// The value below which `fraction` of the (sorted) latencies lie; 0 where there are none.
    fn microseconds_at(&self, fraction: f64) -> f64 {
        let rank = (self.nanoseconds.len() as f64 * fraction) as usize;
        let last = self.nanoseconds.len().saturating_sub(1);
        self.nanoseconds.get(rank.min(last)).map_or(0.0, |&ns| ns as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let mut latencies = Latencies::with_capacity(100);
        for us in (0..100).rev() {
            latencies.record(Duration::from_micros(us));
        }
        let mut twice = latencies.clone();
        twice.merge(latencies.clone());
        assert_eq!(twice.count(), 200);
        assert_eq!(
            latencies.report(Json::new()).to_string(),
            r#"{"p50_us":50,"p90_us":90,"p99_us":99,"p999_us":99,"mean_us":49.500000}"#
        );
    }

    #[test]
    fn none_is_zero() {
        assert!(Latencies::default().report(Json::new()).to_string().contains(r#""p99_us":0"#));
    }
}
