//! What went nowhere: by layer, from the wire up.

use std::collections::BTreeMap;

use super::View;
use crate::{
    api::{DropRow, DropSample, Drops, Journey},
    reading::Reading,
};

const LAYERS: [&str; 6] = ["kernel", "device", "demux", "connection", "mailbox", "transmit"];

impl View<'_> {
    /// The waterfall.
    pub(crate) fn drops(&self) -> Drops {
        let (now, before) = (all(self.now), all(self.before));
        let mut rows: Vec<_> = now
            .into_iter()
            .map(|((layer, cause), count)| {
                let earlier = before.get(&(layer, cause.clone())).copied().unwrap_or(0);
                let seen = self.drops_seen.get(&format!("{layer}/{cause}"));
                let sample = self.journeys.iter().rev().find(|journey| journey.outcome == cause);
                DropRow {
                    layer: layer.to_owned(),
                    meaning: meaning(&cause),
                    count,
                    per_s: self.rate(count, earlier),
                    first_ns: seen.map(|seen| seen.0),
                    last_ns: seen.map(|seen| seen.1),
                    sample: sample.map(|journey| sample_of(journey)),
                    cause,
                }
            })
            .collect();
        let place = |row: &DropRow| LAYERS.iter().position(|layer| *layer == row.layer);
        rows.sort_by(|a, b| place(a).cmp(&place(b)).then(b.count.cmp(&a.count)));
        Drops {
            total: rows.iter().map(|row| row.count).sum(),
            per_s: rows.iter().map(|row| row.per_s).sum(),
            rx_packets: self.now.devices.iter().map(|device| device.rx_packets).sum(),
            rows,
        }
    }
}

/// All drops of a reading that ever happened, by layer and cause.
pub(crate) fn all(reading: &Reading) -> BTreeMap<(&'static str, String), u64> {
    let mut drops: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
    let mut add = |layer, cause: String, count: u64| {
        if count > 0 {
            *drops.entry((layer, cause)).or_default() += count;
        }
    };
    for (cause, count) in reading.devices.iter().flat_map(|device| &device.counters) {
        if cause.ends_with("_dropped") {
            let layer = match cause.as_str() {
                cause if is_kernels(cause) => "kernel",
                cause if cause.starts_with("tx_") => "transmit",
                _ => "device",
            };
            add(layer, cause.clone(), *count);
        }
    }
    for (_, count) in reading.rules.iter().filter(|(rule, _)| rule.starts_with("drop ")) {
        add("kernel", "xdp_rule_dropped".to_owned(), *count);
    }
    for (cause, count) in &reading.drops {
        let layer = match cause.as_str() {
            "binding_backlog_dropped" => "mailbox",
            "datagram_unread_dropped"
            | "connection_refused_dropped"
            | "connection_unstarted_dropped"
            | "path_unbound_dropped" => "connection",
            _ => "demux",
        };
        add(layer, cause.clone(), *count);
    }
    for (cause, count) in &reading.connection_drops {
        add("connection", cause.clone(), *count);
    }
    drops
}

/// Whether the kernel counts this.
pub(crate) fn is_kernels(counter: &str) -> bool {
    matches!(
        counter,
        "rx_kernel_dropped"
            | "rx_kernel_descriptor_rejected"
            | "tx_kernel_descriptor_rejected"
            | "rx_ring_full_dropped"
            | "rx_fill_ring_empty_dropped"
            | "tx_ring_found_empty"
    )
}

fn sample_of(journey: &Journey) -> DropSample {
    DropSample {
        t_ns: journey.begin_ns,
        local: journey.local.clone(),
        remote: journey.remote.clone(),
        len_bytes: journey.len_bytes,
        cid: journey.cid.clone(),
    }
}

fn meaning(cause: &str) -> String {
    let known = match cause {
        "xdp_rule_dropped" => "A rule of the XDP program says so (see Queues).",
        "rx_kernel_dropped" => "The kernel had no buffer for a packet meant for the XSK.",
        "rx_ring_full_dropped" => "The RX ring was full: the device's actor did not come to poll in time.",
        "rx_fill_ring_empty_dropped" => {
            "The fill ring was empty: somebody holds the UMEM frames (see Frames)."
        }
        "socket_unmatched_dropped" => "No socket of ours is bound to the port.",
        "connection_unmatched_dropped" => "No connection claims it, and nobody listens on the port.",
        "binding_backlog_dropped" => {
            "The mailbox of the connection or listener was full: it is slower than its packets."
        }
        "datagram_unread_dropped" => "The application did not fetch received datagrams in time.",
        "response_unleased_dropped" => "There was no memory for an answer.",
        "connection_refused_dropped" => "A new connection could not be made.",
        "packet_duplicate_dropped" => "The packet was received before.",
        "packet_forged_dropped" => "The packet could not be opened: forged or damaged.",
        "packet_keyless_dropped" => "There were no keys for it, not yet or no more.",
        "packet_invalid_dropped" => "It was not for this connection, or malformed.",
        "datagram_path_dropped" => "It came from an address the connection takes no packets from.",
        "path_unbound_dropped" => "It was to be sent on a path whose local port has no socket any more.",
        "udp_checksum_wrong_dropped" | "checksum_dropped" => {
            "The UDP checksum was wrong; behind a veth pair: the sender left it to a device that isn't there."
        }
        "tx_too_long_dropped" => "It was longer than the MTU.",
        "tx_unreachable_dropped" => "No route, or no neighbour that answers.",
        "tx_link_down_dropped" => "The own link was down.",
        "tx_parked_expired_dropped" => "It waited for its next hop for too long.",
        "tx_parked_full_dropped" => "Too many others waited for a next hop.",
        _ => return format!("{}.", cause.trim_end_matches("_dropped").replace('_', " ")),
    };
    known.to_owned()
}
