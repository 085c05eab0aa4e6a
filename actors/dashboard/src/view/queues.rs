//! Devices, rules, UMEM frames.

use std::collections::HashMap;

use super::{View, drops::is_kernels};
use crate::{
    api::{FrameHolder, Frames, QueueRow, Queues, RuleRow, UmemLedger},
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
        let mut umems = self.now.umems.clone();
        for umem in &mut umems {
            umem.holders = self.holders(umem);
        }
        Frames { umems }
    }

    /// Whose mailboxes the frames that the program holds wait in: each datagram there holds one. What is in no mailbox
    /// is in the hands of an actor, or with the application.
    fn holders(&self, umem: &UmemLedger) -> Vec<FrameHolder> {
        if !umem.holders.is_empty() {
            return umem.holders.clone();
        }
        let parents: HashMap<u64, Option<u64>> =
            self.now.actors.iter().map(|it| (it.id, it.parent)).collect();
        let root = |mut id: u64| {
            while let Some(Some(parent)) = parents.get(&id) {
                id = *parent;
            }
            id
        };
        let device = self.now.actors.iter().find(|it| it.kind == "device" && it.name == umem.device);
        let partition = device.map(|it| root(it.id));
        let mut holders = Vec::new();
        let at = |place: &str| umem.places.iter().find(|it| it.place == place).map_or(0, |it| it.frames);
        let (mut received, mut leased) = (at("rx_app"), at("tx_app"));
        let waits = self.now.actors.iter().filter(|it| it.items_queued > 0);
        for actor in waits {
            let is_device = device.is_some_and(|device| device.id == actor.id);
            let is_receiver = matches!(&*actor.kind, "demux" | "listener" | "connection");
            let left = match (is_device, is_receiver && Some(root(actor.id)) == partition) {
                (true, _) => &mut leased,
                (_, true) => &mut received,
                _ => continue,
            };
            let frames = actor.items_queued.min(*left);
            *left -= frames;
            if frames > 0 {
                holders.push(FrameHolder {
                    holder: actor.label(),
                    actor: Some(actor.id.to_string()),
                    frames,
                    oldest_age_ns: Some(actor.oldest_age(self.now.t_ns)),
                });
            }
        }
        for (holder, frames) in [("in hand, or leased and not yet sent", leased), ("in hand", received)] {
            if frames > 0 {
                holders.push(FrameHolder { holder: holder.into(), actor: None, frames, oldest_age_ns: None });
            }
        }
        for (holder, place) in [("kernel, to receive into", "fill"), ("kernel, being sent", "tx_ring")] {
            if at(place) > 0 {
                holders.push(FrameHolder {
                    holder: holder.into(),
                    actor: None,
                    frames: at(place),
                    oldest_age_ns: None,
                });
            }
        }
        holders.sort_by_key(|it| std::cmp::Reverse(it.frames));
        holders
    }
}
