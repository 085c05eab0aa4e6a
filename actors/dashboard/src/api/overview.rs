//! The first page: is it well, and if not, what is it?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Direction, TraceFilter};

/// How the stack is, at one glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// `"live"`, or the id of the recording shown.
    pub source: String,
    /// Since the stack was started.
    pub uptime_ns: u64,
    /// The way packets take.
    pub data_path: DataPathInfo,
    /// What passes now.
    pub rates: Rates,
    /// What has passed.
    pub totals: Totals,
    /// Live actors.
    pub actors: u64,
    /// Live actors by kind.
    pub actors_by_kind: BTreeMap<String, u64>,
    /// Live connections.
    pub connections: u64,
    /// Of these, the ones the lists don't have: there was no memory for them.
    pub connections_left_out: u64,
    /// Times of each stage on a datagram's way, from sampled datagrams, in the order of the way; RX then TX.
    pub hops: Vec<HopSummary>,
    /// Times of whole journeys.
    pub journeys: Journeys,
    /// What is wrong or worth knowing, worst first.
    pub lints: Vec<Lint>,
    /// Whether nothing is unaccounted for: for every actor sent = handled + dropped + queued, by the books of both ends,
    /// and likewise for every hop.
    pub conserved: bool,
    /// The books of the hops.
    pub books: Vec<HopBooks>,
    /// What watching costs.
    pub tracing: TracingCost,
}

/// The data path in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataPathInfo {
    /// For people: `"AF_XDP (driver mode, copy) on eth0"`.
    pub summary: String,
    /// `"xdp"`, `"os_udp"`, `"memory"` or `"none"`.
    pub kind: String,
    /// AF_XDP: driver (native) mode, or else SKB mode.
    pub driver_mode: Option<bool>,
    /// AF_XDP: zero-copy, or else copy.
    pub zero_copy: Option<bool>,
    /// The interface.
    pub interface: Option<String>,
    /// Why not a better path: one sentence, empty when it is the best there is.
    pub reason: String,
    /// Why AF_XDP is not in use though it was asked for.
    pub fallback: Option<String>,
}

/// What passes per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Packets received.
    pub rx_packets_per_s: f64,
    /// Bytes received.
    pub rx_bytes_per_s: f64,
    /// Datagrams sent.
    pub tx_datagrams_per_s: f64,
    /// Bytes sent.
    pub tx_bytes_per_s: f64,
    /// Packets dropped, by whatever cause.
    pub drops_per_s: f64,
    /// Messages actors handle.
    pub messages_per_s: f64,
    /// System calls made to send.
    pub kicks_per_s: f64,
}

/// What has passed since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Datagrams sent.
    pub tx_datagrams: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Messages handled.
    pub messages: u64,
}

/// Datagrams on one hop, by the books of both its ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopBooks {
    /// From where to where: `"device → demux"`.
    pub hop: String,
    /// Handed on, as those count who do.
    pub sent: u64,
    /// Arrived, as those count who handled them.
    pub received: u64,
    /// In mailboxes.
    pub queued: u64,
    /// Dropped by name.
    pub dropped: u64,
    /// What the counters, read one after the other while packets move, differ by: no loss, and 0 at rest.
    pub moving: i64,
    /// Lost for certain: a defect if above 0. `sent = received + queued + dropped + moving + unaccounted`.
    pub unaccounted: u64,
}

/// One stage of the way, over the sampled datagrams of late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopSummary {
    /// Which way.
    pub direction: Direction,
    /// The stage, as in [`Hop::stage`](super::Hop::stage).
    pub stage: String,
    /// Waiting, median.
    pub wait_p50_ns: u64,
    /// Waiting, 99th percentile.
    pub wait_p99_ns: u64,
    /// Running, median.
    pub run_p50_ns: u64,
    /// Running, 99th percentile.
    pub run_p99_ns: u64,
    /// Sampled datagrams these come from.
    pub samples: u64,
}

/// Whole journeys of sampled datagrams of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journeys {
    /// Received ones: how many, median, 99th percentile.
    pub rx_samples: u64,
    /// Median.
    pub rx_p50_ns: u64,
    /// 99th percentile.
    pub rx_p99_ns: u64,
    /// Sent ones: how many.
    pub tx_samples: u64,
    /// Median.
    pub tx_p50_ns: u64,
    /// 99th percentile.
    pub tx_p99_ns: u64,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs speed or memory.
    Warning,
    /// Loses packets, or will soon.
    Critical,
}

/// Something that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lint {
    /// What kind: `copy_mode`, `skb_mode`, `os_udp_fallback`, `mailbox_jam`, `slow_actor`, `checksum_trusted`,
    /// `frames_held`, `frame_leak_suspected`, `hot_queue`, `ring_full`, `fill_ring_empty`, `actor_failed`,
    /// `link_down`, `not_conserved`, `figures_left_out`.
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// A few words.
    pub title: String,
    /// What was seen, with figures, and what to do: a sentence or two.
    pub detail: String,
    /// The node of the topology that causes it (never a victim).
    pub node: Option<String>,
    /// The actor that causes it.
    pub actor: Option<String>,
    /// The page that shows more: `queues`, `actors`, `frames`, `drops`, `tree`, `connections`.
    pub page: String,
}

/// A part of the memory that watching takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// `rings`, `journeys`, `timelines`, `figures` or `recordings`.
    pub name: String,
    /// Bytes it takes, about.
    pub bytes: u64,
    /// Bytes it may take.
    pub limit_bytes: u64,
}

/// What the tracing holds and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TracingCost {
    /// One of so many datagrams is sampled; 0: none.
    pub sample_one_in: u32,
    /// The filter armed, if any.
    pub armed: Option<TraceFilter>,
    /// Journeys begun since the start.
    pub journeys_begun: u64,
    /// Hops written since the start.
    pub hops_recorded: u64,
    /// Hops that were overwritten before anybody read them.
    pub hops_overwritten: u64,
    /// Memory that is held of what may be.
    pub memory_bytes: u64,
    /// What may be held: fixed when the stack was made.
    pub memory_limit_bytes: u64,
    /// By part. `figures`, the last ones of each actor and connection, grow with what there is to look at, and recordings
    /// have what those leave; where they don't suffice, connections are left out.
    pub memory: Vec<MemoryPart>,
    /// An estimate of the time spent on tracing, as a share of a core: hops recorded times their measured cost.
    pub share_of_core: f64,
    /// Viewers of the live stream.
    pub viewers: u64,
    /// CPU time of the dashboard's own thread of late, answers included, as a share of a core.
    pub reader_share_of_core: f64,
}
