//! Packets that went nowhere, by cause.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Counts drops by the name of their cause. Off the hot path by nature.
#[derive(Debug, Default)]
pub struct Drops {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Drops {
    /// Counts one.
    pub fn count(&self, cause: &'static str) {
        self.count_many(cause, 1);
    }

    /// Counts several.
    pub fn count_many(&self, cause: &'static str, n: u64) {
        *self.counts.lock().entry(cause).or_default() += n;
    }

    /// The counts so far, by name.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().clone()
    }
}
