//! What a stack tells of its data path.

use std::{collections::BTreeMap, fmt};

use wirepath_drivers::{DriverStats, DriverStatus};

/// A stack's data path and its counters.
#[derive(Clone, Debug, Default)]
pub struct StackStatus {
    /// Its devices: XSKs first, then the OS UDP socket of each bound port.
    pub devices: Vec<DeviceStatus>,
    /// Why AF_XDP is not in use (any more), if it was asked for.
    pub fallback: Option<String>,
    /// Packets that found no owner or were not worth one, by cause.
    pub drops: BTreeMap<&'static str, u64>,
    /// Connection IDs that lead to a connection: a few for each.
    pub cids: usize,
}

/// One device.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// Its mode and state.
    pub status: DriverStatus,
    /// Its counters.
    pub stats: DriverStats,
}

impl StackStatus {
    /// Whether packets take AF_XDP.
    pub fn is_xdp(&self) -> bool {
        self.devices.iter().any(|device| matches!(device.status.path, wirepath_drivers::DataPath::Xdp { .. }))
    }

    /// All drops, of the devices and above, by cause; causes that never happened are left out.
    pub fn all_drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = self.drops.clone();
        for (name, count) in self.devices.iter().flat_map(|device| &device.stats.named) {
            if name.ends_with("_dropped") && *count > 0 {
                *drops.entry(name).or_default() += count;
            }
        }
        drops
    }
}

/// The data path in one line.
impl fmt::Display for StackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.devices.first() else { return f.write_str("no device open yet") };
        write!(f, "{}", first.status.path)?;
        if let Some(interface) = &first.status.interface {
            write!(f, " on {interface}")?;
        }
        match &self.fallback {
            Some(why) => write!(f, ", since {why}"),
            None if !first.status.reason.is_empty() => write!(f, " ({})", first.status.reason),
            None => Ok(()),
        }
    }
}
