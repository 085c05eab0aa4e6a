//! What is wrong or worth knowing.

use super::{View, topology::node_of};
use crate::api::{Lint, Severity};

/// A share of the frames that, held by the program, leaves the kernel too few to receive into.
const HELD_SHARE: f64 = 0.5;
/// One queue that takes so much more than its share is hot.
const HOT_SHARE: f64 = 0.8;
/// Below this there is too little traffic to call a queue hot.
const HOT_PACKETS_PER_S: f64 = 1000.0;
/// How long a failure is news.
const NEWS_NS: u64 = 300_000_000_000;

impl View<'_> {
    /// All lints, worst first.
    pub(crate) fn lints(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        self.path_lints(&mut lints);
        self.device_lints(&mut lints);
        self.frame_lints(&mut lints);
        self.actor_lints(&mut lints);
        lints.sort_by_key(|lint| std::cmp::Reverse(lint.severity));
        lints
    }

    fn path_lints(&self, lints: &mut Vec<Lint>) {
        let path = &self.now.data_path;
        if let Some(why) = &path.fallback {
            lints.push(lint(
                "os_udp_fallback",
                Severity::Warning,
                "Traffic is not on AF_XDP",
                format!("AF_XDP was asked for, and OS UDP is used since {why}"),
                "queues",
            ));
        }
        if path.kind == "xdp" && path.driver_mode == Some(false) {
            lints.push(lint("skb_mode", Severity::Warning, "SKB mode", format!("The XDP program runs after the kernel has made a socket buffer of each packet, not in the driver: {}", path.reason), "queues"));
        }
        if path.kind == "xdp" && path.zero_copy == Some(false) {
            lints.push(lint(
                "copy_mode",
                Severity::Info,
                "Copy mode",
                format!("The kernel copies each packet into the UMEM: {}", path.reason),
                "queues",
            ));
        }
        if self.now.left_out > 0 {
            let (left_out, all) = (self.now.left_out, self.now.left_out + self.now.connections.len() as u64);
            let detail = format!(
                "{left_out} of {all} connections are in no list here: the memory for figures is used up (`trace_memory` gives more). All sums have them."
            );
            let title = "Not every connection is listed";
            lints.push(lint("figures_left_out", Severity::Info, title, detail, "connections"));
        }
        if self.now.checksum_trusted {
            lints.push(lint("checksum_trusted", Severity::Info, "UDP checksums are not verified", "The builder turned it off: damaged packets are found by QUIC's own protection only, as packets that can't be opened.".into(), "drops"));
        }
    }

    fn device_lints(&self, lints: &mut Vec<Lint>) {
        for device in &self.now.devices {
            let before = self.before.devices.iter().find(|it| it.name == device.name);
            let grew = |name: &str| {
                let of = |it: &crate::reading::DeviceReading| it.counters.get(name).copied().unwrap_or(0);
                of(device).saturating_sub(before.map_or(0, of))
            };
            if let Some(trouble) = &device.trouble {
                let mut it = lint(
                    "queue_down",
                    Severity::Critical,
                    "A queue has no XSK",
                    format!("{}: {trouble}", device.name),
                    "queues",
                );
                it.node = self.actor_named("nic_queue", &device.name).map(node_of);
                lints.push(it);
            } else if !device.link_up {
                lints.push(lint(
                    "link_down",
                    Severity::Critical,
                    "The link is down",
                    format!("{} is down, or its peer is.", device.name),
                    "queues",
                ));
            }
            for (counter, kind, title, advice) in [
                (
                    "rx_ring_full_dropped",
                    "ring_full",
                    "The RX ring overflows",
                    "the partition's thread does not come to poll in time (see Actors, by busy share)",
                ),
                (
                    "rx_fill_ring_empty_dropped",
                    "fill_ring_empty",
                    "The fill ring runs dry",
                    "UMEM frames are held elsewhere (see Frames)",
                ),
            ] {
                let lost = grew(counter);
                if lost > 0 {
                    let mut it = lint(
                        kind,
                        Severity::Critical,
                        title,
                        format!("{} lost {lost} packets within the last second: {advice}.", device.name),
                        "queues",
                    );
                    it.actor = self.actor_named("device", &device.name).map(|id| id.to_string());
                    it.node = self.actor_named("device", &device.name).map(node_of);
                    lints.push(it);
                }
            }
        }
        self.hot_queue(lints);
    }

    fn hot_queue(&self, lints: &mut Vec<Lint>) {
        let rates: Vec<_> = self
            .now
            .devices
            .iter()
            .filter(|it| it.kind == "xdp")
            .map(|it| {
                let before = self.before.devices.iter().find(|other| other.name == it.name);
                (it, self.rate(it.rx_packets, before.map_or(0, |it| it.rx_packets)))
            })
            .collect();
        let all: f64 = rates.iter().map(|(_, rate)| rate).sum();
        if rates.len() < 2 || all < HOT_PACKETS_PER_S {
            return;
        }
        if let Some((device, rate)) = rates.iter().find(|(_, rate)| rate / all > HOT_SHARE) {
            let mut it = lint(
                "hot_queue",
                Severity::Warning,
                "One queue is hot",
                format!(
                    "{} gets {:.0} % of the packets of {} queues: RSS does not spread them (few peers, or a hash over addresses only).",
                    device.name,
                    rate / all * 100.0,
                    rates.len()
                ),
                "queues",
            );
            it.node = self.actor_named("nic_queue", &device.name).map(node_of);
            lints.push(it);
        }
    }

    fn frame_lints(&self, lints: &mut Vec<Lint>) {
        for umem in &self.frames().umems {
            let held = umem.places.iter().filter(|it| it.place == "rx_app" || it.place == "tx_app");
            let held: u64 = held.map(|it| it.frames).sum();
            if umem.capacity > 0 && held as f64 / umem.capacity as f64 > HELD_SHARE {
                let holder = umem.holders.iter().find(|it| it.actor.is_some());
                let name = holder.map_or("the program", |it| it.holder.as_str());
                let mut it = lint(
                    "frames_held",
                    Severity::Warning,
                    "UMEM frames are held",
                    format!(
                        "{held} of {} frames of {} are with the program, most with {name}.",
                        umem.capacity, umem.device
                    ),
                    "frames",
                );
                it.actor = holder.and_then(|it| it.actor.clone());
                it.node = it.actor.as_ref().map(|id| format!("actor:{id}"));
                lints.push(it);
            }
            if let Some(oldest) = umem.suspects.first() {
                lints.push(lint(
                    "frame_leak_suspected",
                    Severity::Warning,
                    "Frames may be lost",
                    format!(
                        "{} frames of {} have been held for long; the oldest, {}, by {} for {} s.",
                        umem.suspects.len(),
                        umem.device,
                        oldest.frame,
                        oldest.holder,
                        oldest.age_ns / 1_000_000_000
                    ),
                    "frames",
                ));
            }
        }
    }

    fn actor_lints(&self, lints: &mut Vec<Lint>) {
        if let Some(actor) = self.cause() {
            let age = actor.oldest_age(self.now.t_ns) as f64 / 1e9;
            let mut it = lint(
                "mailbox_jam",
                Severity::Warning,
                "A mailbox jams",
                format!(
                    "{} has {} messages in its mailbox, the oldest for {age:.2} s: what it handles takes too long, or a task of the application holds its thread. Others of the thread wait, too.",
                    actor.label(),
                    actor.queued()
                ),
                "actors",
            );
            it.actor = Some(actor.id.to_string());
            it.node = Some(node_of(actor.id));
            lints.push(it);
        }
        let news =
            |it: &&crate::api::TombstoneRow| it.failed && self.now.t_ns.saturating_sub(it.ended_ns) < NEWS_NS;
        for dead in self.now.history.iter().rev().filter(news).take(5) {
            let then = match &dead.successor {
                Some(id) => format!("its successor is {id}"),
                None => "it has no successor".to_owned(),
            };
            let mut it = lint(
                "actor_failed",
                Severity::Warning,
                "An actor failed",
                format!("{} {} ended: {}; {then}.", dead.kind, dead.name, dead.reason),
                "tree",
            );
            it.actor = dead.successor.clone();
            it.node = dead.successor.as_ref().map(|id| format!("actor:{id}"));
            lints.push(it);
        }
        if let Some(actor) = self.now.actors.iter().find(|it| it.unaccounted + it.items_unaccounted > 0) {
            let mut it = lint(
                "not_conserved",
                Severity::Critical,
                "Messages are unaccounted for",
                format!(
                    "{} messages with {} datagrams were sent to {} and neither handled, dropped nor queued: a defect of the kit.",
                    actor.unaccounted,
                    actor.items_unaccounted,
                    actor.label()
                ),
                "actors",
            );
            it.actor = Some(actor.id.to_string());
            it.node = Some(node_of(actor.id));
            lints.push(it);
        }
        for hop in self.now.hops.iter().filter(|it| it.unaccounted > 0) {
            lints.push(lint(
                "not_conserved",
                Severity::Critical,
                "Datagrams are unaccounted for",
                format!(
                    "{} datagrams were handed on ({}) and neither arrived nor were dropped by name: a defect of the actors.",
                    hop.unaccounted, hop.hop
                ),
                "overview",
            ));
        }
    }

    fn actor_named(&self, kind: &str, name: &str) -> Option<u64> {
        self.now.actors.iter().find(|it| it.kind == kind && it.name == name).map(|it| it.id)
    }
}

fn lint(kind: &str, severity: Severity, title: &str, detail: String, page: &str) -> Lint {
    Lint {
        kind: kind.to_owned(),
        severity,
        title: title.to_owned(),
        detail,
        node: None,
        actor: None,
        page: page.to_owned(),
    }
}
