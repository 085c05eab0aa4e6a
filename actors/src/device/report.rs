//! What a device tells of itself without being asked.

use parking_lot::Mutex;
use wirepath_drivers::{DriverStats, DriverStatus};

/// The last published status and counters of a device. Readers never disturb the device.
#[derive(Debug)]
pub struct DeviceReport {
    latest: Mutex<(DriverStatus, DriverStats)>,
}

impl DeviceReport {
    pub(super) fn new(status: DriverStatus) -> Self {
        Self { latest: Mutex::new((status, DriverStats::default())) }
    }

    pub(super) fn publish(&self, status: DriverStatus, stats: DriverStats) {
        *self.latest.lock() = (status, stats);
    }

    /// The status and counters as last published: at most 10 ms old while busy, exact when idle.
    pub fn read(&self) -> (DriverStatus, DriverStats) {
        self.latest.lock().clone()
    }
}
