//! All figures of a stack at one moment: what answers are made from, and what recordings hold.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use wirepath_trace::{KindSnapshot, Registry, Tracer, TracerStats};

use crate::api::{ConnectionState, DataPathInfo, Distribution, MessageKind, Rings, TombstoneRow, UmemLedger};

/// What the dashboard looks at. Reading disturbs nobody: it copies counters and last published reports.
pub trait Source: Send + Sync + 'static {
    /// All figures now; `None` when the stack has ended.
    fn read(&self) -> Option<Reading>;

    /// What samples datagrams.
    fn tracer(&self) -> Arc<Tracer>;
}

/// All figures at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The moment.
    pub t_ns: u64,
    /// Since the stack was started.
    pub uptime_ns: u64,
    /// The data path in use.
    pub data_path: DataPathInfo,
    /// Whether UDP checksums of packets from AF_XDP are believed unseen.
    pub checksum_trusted: bool,
    /// Live actors, by id.
    pub actors: Vec<ActorReading>,
    /// Kinds of actors.
    pub kinds: Vec<KindReading>,
    /// Ends of actors, oldest first.
    pub history: Vec<TombstoneRow>,
    /// Devices: XSKs first.
    pub devices: Vec<DeviceReading>,
    /// XDP rules and their hits.
    pub rules: Vec<(String, u64)>,
    /// UMEM ledgers.
    pub umems: Vec<UmemLedger>,
    /// Live connections.
    pub connections: Vec<ConnectionReading>,
    /// Drops above the devices, by cause.
    pub drops: BTreeMap<String, u64>,
    /// How tracing does.
    pub tracer: TracerReading,
}

/// One actor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ActorReading {
    /// Its id.
    pub id: u64,
    /// Its kind.
    pub kind: Cow<'static, str>,
    /// Its name.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<u64>,
    /// When it was started.
    pub started_ns: u64,
    /// Predecessors that failed.
    pub restarts: u64,
    /// Messages sent, handled, dropped: what is left is queued.
    pub sent: u64,
    /// Likewise.
    pub handled: u64,
    /// Likewise.
    pub dropped: u64,
    /// Items in messages handled.
    pub items_handled: u64,
    /// Items in messages dropped.
    pub items_dropped: u64,
    /// Items queued.
    pub items_queued: u64,
    /// The most messages there ever were at once.
    pub depth_peak: u64,
    /// When the oldest message was sent.
    pub oldest_at_ns: u64,
    /// Time spent handling.
    pub busy_ns: u64,
    /// Time messages spent waiting, summed.
    pub wait_ns: u64,
}

impl ActorReading {
    /// Messages in the mailbox.
    pub fn queued(&self) -> u64 {
        self.sent.saturating_sub(self.handled + self.dropped)
    }

    /// How long the oldest of them has waited.
    pub fn oldest_age(&self, now: u64) -> u64 {
        if self.queued() == 0 { 0 } else { now.saturating_sub(self.oldest_at_ns) }
    }

    /// `"demux 0"`; the id stands for a name where there is none.
    pub fn label(&self) -> String {
        if self.name.is_empty() {
            format!("{} {}", self.kind, self.id)
        } else {
            format!("{} {}", self.kind, self.name)
        }
    }
}

/// One kind of actor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KindReading {
    /// Its name.
    pub name: String,
    /// Each kind of message.
    pub messages: Vec<MessageKind>,
    /// All of them.
    pub wait: Distribution,
    /// All of them.
    pub run: Distribution,
    /// Actors ever made.
    pub spawned: u64,
    /// Of these, failed.
    pub failed: u64,
}

/// One device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeviceReading {
    /// `"eth0/0"`, as its actor is named.
    pub name: String,
    /// The interface.
    pub interface: Option<String>,
    /// The RSS queue.
    pub queue: Option<u32>,
    /// `"xdp"`, `"os_udp"` or `"memory"`.
    pub kind: String,
    /// The path, for people.
    pub path: String,
    /// Why not a better one.
    pub reason: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Why there is no device now.
    pub trouble: Option<String>,
    /// Its rings.
    pub rings: Option<Rings>,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Datagrams sent.
    pub tx_datagrams: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// System calls to send.
    pub kicks: u64,
    /// All other counters, by name.
    pub counters: BTreeMap<String, u64>,
}

/// One connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionReading {
    /// Its actor.
    pub id: u64,
    /// `client` or `server`.
    pub role: String,
    /// Where it stands.
    pub state: ConnectionState,
    /// Local address.
    pub local: String,
    /// Peer's.
    pub remote: String,
    /// Application protocol.
    pub alpn: Option<String>,
    /// Local CIDs, in hex.
    pub cids: Vec<String>,
    /// Smoothed round-trip time.
    pub rtt_ns: u64,
    /// Least.
    pub min_rtt_ns: u64,
    /// Congestion window.
    pub cwnd_bytes: u64,
    /// In flight.
    pub in_flight_bytes: u64,
    /// Datagram size.
    pub mtu_bytes: u64,
    /// Counters by name; `byte_sent`, `byte_received`, `packet_lost`, `connection_blocked`, `stream_blocked` are looked at.
    pub counters: BTreeMap<Cow<'static, str>, u64>,
}

impl ConnectionReading {
    /// A counter; 0 if there is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }
}

/// How tracing does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TracerReading {
    /// One of so many is sampled.
    pub one_in: u32,
    /// Journeys begun.
    pub journeys_begun: u64,
    /// Journeys kept.
    pub journeys_kept: u64,
    /// Hops recorded.
    pub hops_recorded: u64,
    /// Bytes the ring takes.
    pub memory_bytes: u64,
}

impl From<TracerStats> for TracerReading {
    fn from(stats: TracerStats) -> Self {
        Self {
            one_in: stats.one_in,
            journeys_begun: stats.journey_begun,
            journeys_kept: stats.journey_kept,
            hops_recorded: stats.hop_recorded,
            memory_bytes: stats.memory,
        }
    }
}

impl From<&wirepath_trace::HistogramSnapshot> for Distribution {
    fn from(histogram: &wirepath_trace::HistogramSnapshot) -> Self {
        let buckets: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        Self {
            count: histogram.count(),
            p50_ns: histogram.quantile(0.5),
            p90_ns: histogram.quantile(0.9),
            p99_ns: histogram.quantile(0.99),
            max_ns: buckets.last().map_or(0, |(bound, _)| *bound),
            buckets,
        }
    }
}

impl From<&KindSnapshot> for KindReading {
    fn from(kind: &KindSnapshot) -> Self {
        let messages = kind.messages.iter().map(|message| MessageKind {
            name: message.name.to_owned(),
            handled: message.run.count(),
            wait: (&message.wait).into(),
            run: (&message.run).into(),
        });
        Self {
            name: kind.name.to_owned(),
            messages: messages.collect(),
            wait: (&kind.wait).into(),
            run: (&kind.run).into(),
            spawned: kind.actor_spawned,
            failed: kind.actor_failed,
        }
    }
}

/// What a registry tells: actors, kinds, history.
pub fn read_registry(registry: &Registry, reading: &mut Reading) {
    reading.actors = registry
        .actors()
        .into_iter()
        .map(|actor| ActorReading {
            id: actor.id,
            kind: Cow::Borrowed(actor.kind),
            name: actor.name,
            parent: actor.parent,
            started_ns: actor.started_at,
            restarts: actor.restarts,
            sent: actor.meter.message_sent,
            handled: actor.meter.message_handled,
            dropped: actor.meter.message_dropped,
            items_handled: actor.meter.item_handled,
            items_dropped: actor.meter.item_dropped,
            items_queued: actor
                .meter
                .item_sent
                .saturating_sub(actor.meter.item_handled + actor.meter.item_dropped),
            depth_peak: actor.meter.depth_peak,
            oldest_at_ns: actor.meter.oldest_at,
            busy_ns: actor.meter.busy_ns,
            wait_ns: actor.meter.wait_ns,
        })
        .collect();
    reading.kinds = registry.kinds().iter().map(KindReading::from).collect();
    let text = |id: u64| id.to_string();
    reading.history = registry
        .history()
        .into_iter()
        .map(|it| TombstoneRow {
            id: text(it.id),
            kind: it.kind.to_owned(),
            name: it.name,
            parent: it.parent.map(text),
            ended_ns: it.ended_at,
            failed: it.failure.is_some(),
            reason: it.failure.unwrap_or_else(|| "it was done, or told to stop".to_owned()),
            successor: it.successor.map(text),
        })
        .collect();
}
