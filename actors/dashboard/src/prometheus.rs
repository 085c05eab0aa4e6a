//! `GET /metrics`: the figures in Prometheus' text format. No label for each connection, nor for each actor: what
//! grows with the traffic has no place in a time series.

use std::{collections::BTreeMap, fmt::Write};

use crate::{reading::Reading, view_drops};

pub(crate) fn write(reading: &Reading) -> String {
    let mut text = String::new();
    let mut counter = |name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>| {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let devices = |of: fn(&crate::reading::DeviceReading) -> u64| {
        let sample = |it: &crate::reading::DeviceReading| {
            (labels(&[("device", &it.name), ("path", &it.path)]), of(it))
        };
        // Sockets come and go, XSKs stay: but both are few.
        reading.devices.iter().map(sample).collect::<Vec<_>>()
    };
    counter(
        "wirepath_rx_packets_total",
        "counter",
        "Packets a device handed up.",
        devices(|it| it.rx_packets),
    );
    counter("wirepath_rx_bytes_total", "counter", "Bytes a device handed up.", devices(|it| it.rx_bytes));
    counter(
        "wirepath_tx_datagrams_total",
        "counter",
        "Datagrams given to the kernel or a ring.",
        devices(|it| it.tx_datagrams),
    );
    counter(
        "wirepath_tx_bytes_total",
        "counter",
        "Payload bytes given to the kernel or a ring.",
        devices(|it| it.tx_bytes),
    );
    counter("wirepath_tx_kicks_total", "counter", "System calls made to send.", devices(|it| it.kicks));
    let drops = view_drops(reading);
    let drops =
        drops.iter().map(|((layer, cause), count)| (labels(&[("layer", layer), ("cause", cause)]), *count));
    counter(
        "wirepath_packets_dropped_total",
        "counter",
        "Packets that went nowhere, by cause.",
        drops.collect(),
    );
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for actor in reading.actors.iter() {
        let kind = kinds.entry(&actor.kind).or_default();
        kind.0 += 1;
        kind.1 += actor.queued();
    }
    if reading.left_out > 0 {
        kinds.entry("connection").or_default().0 += reading.left_out;
    }
    let of_kind = |of: fn(&(u64, u64)) -> u64| {
        kinds.iter().map(|(kind, figures)| (labels(&[("kind", kind)]), of(figures))).collect::<Vec<_>>()
    };
    counter("wirepath_actors", "gauge", "Actors alive.", of_kind(|it| it.0));
    counter("wirepath_messages_queued", "gauge", "Messages in mailboxes.", of_kind(|it| it.1));
    let handled = reading.kinds.iter().map(|it| (labels(&[("kind", &it.name)]), it.run.count));
    counter("wirepath_messages_handled_total", "counter", "Messages handled.", handled.collect());
    let failed = reading.kinds.iter().map(|it| (labels(&[("kind", &it.name)]), it.failed));
    counter(
        "wirepath_actors_failed_total",
        "counter",
        "Actors that failed or were killed.",
        failed.collect(),
    );
    counter(
        "wirepath_connections",
        "gauge",
        "Live connections.",
        vec![(String::new(), reading.connections.len() as u64 + reading.left_out)],
    );
    counter(
        "wirepath_trace_memory_bytes",
        "gauge",
        "Memory of the tracing rings.",
        vec![(String::new(), reading.tracer.memory_bytes)],
    );
    let places = reading.umems.iter().flat_map(|umem| {
        umem.places.iter().map(|it| (labels(&[("device", &umem.device), ("place", &it.place)]), it.frames))
    });
    counter("wirepath_umem_frames", "gauge", "UMEM frames by where they are.", places.collect());
    text
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}
