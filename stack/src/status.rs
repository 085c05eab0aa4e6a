//! What a stack tells of its data path.

use std::{collections::BTreeMap, fmt};

use wirepath_drivers::{DriverStats, DriverStatus};
use wirepath_wire::rules::Rule;

/// A stack's data path and its counters.
#[derive(Clone, Debug, Default)]
pub struct StackStatus {
    /// Its devices: XSKs first, then the OS UDP socket of each bound port.
    pub devices: Vec<DeviceStatus>,
    /// Why AF_XDP is not in use (any more), if it was asked for.
    pub fallback: Option<String>,
    /// Packets that found no owner or were not worth one, by cause.
    pub drops: BTreeMap<&'static str, u64>,
    /// The XDP rules in force, first match wins: those that were set, then those of the bound ports.
    pub rules: Vec<RuleStatus>,
    /// Packets that the XDP program passed to the kernel without a rule saying so, by cause.
    pub passed: BTreeMap<&'static str, u64>,
    /// Connection IDs that lead to a connection: a few for each.
    pub cids: usize,
    /// By partition: datagrams that its connections received through its own devices, by which replies leave, and
    /// through those of other partitions, across cores.
    pub received: Vec<(u64, u64)>,
}

/// One device.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// Its mode and state.
    pub status: DriverStatus,
    /// Its counters.
    pub stats: DriverStats,
}

/// One XDP rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStatus {
    /// The rule. It prints as the line of text that reads back as the same rule.
    pub rule: Rule,
    /// Packets it decided about since it was put in force; it keeps its count while others come and go.
    pub hits: u64,
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
