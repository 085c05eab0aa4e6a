//! Devices, rules, UMEM frames.

use super::{View, drops::is_kernels};
use crate::{
    api::{Frames, QueueRow, Queues, RuleRow},
    reading::DeviceReading,
};

impl View<'_> {
    /// Devices and rules.
    pub(crate) fn queues(&self) -> Queues {
        let rules = self.now.rules.iter().map(|(rule, hits)| {
            let before = self.before.rules.iter().find(|(other, _)| other == rule).map_or(0, |it| it.1);
            RuleRow { rule: rule.clone(), hits: *hits, hits_per_s: self.rate(*hits, before) }
        });
        Queues {
            queues: self.now.devices.iter().map(|device| self.queue(device)).collect(),
            rules: rules.collect(),
            passed: self.now.passed.clone(),
        }
    }

    fn queue(&self, device: &DeviceReading) -> QueueRow {
        let before = self.before.devices.iter().find(|it| it.name == device.name).unwrap_or(device);
        let actor = self.now.actors.iter().find(|it| it.kind == "device" && it.name == device.name);
        let kicks = self.rate(device.kicks, before.kicks);
        let datagrams = self.rate(device.tx_datagrams, before.tx_datagrams);
        let (kernel, counters) = device.counters.clone().into_iter().partition(|(name, _)| is_kernels(name));
        QueueRow {
            name: device.name.clone(),
            actor: actor.map(|it| it.id.to_string()),
            interface: device.interface.clone(),
            queue: device.queue,
            path: device.path.clone(),
            reason: device.reason.clone(),
            link_up: device.link_up,
            trouble: device.trouble.clone(),
            rings: device.rings.clone(),
            rx_packets_per_s: self.rate(device.rx_packets, before.rx_packets),
            rx_bytes_per_s: self.rate(device.rx_bytes, before.rx_bytes),
            tx_datagrams_per_s: datagrams,
            tx_bytes_per_s: self.rate(device.tx_bytes, before.tx_bytes),
            kicks_per_s: kicks,
            datagrams_per_kick: if kicks > 0.0 { datagrams / kicks } else { 0.0 },
            kernel,
            counters,
        }
    }

    /// Where the frames are.
    pub(crate) fn frames(&self) -> Frames {
        Frames { umems: self.now.umems.clone() }
    }
}
