//! All figures of a stack at one moment: what answers are made from, and what recordings hold.

mod connection;
mod registry;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

pub use connection::{ConnectionReading, StreamReading, StreamsReading};
pub use registry::read_registry;

use serde::{Deserialize, Serialize};
use wirepath_trace::{KindSnapshot, Tracer, TracerStats};

use crate::{
    HopReading,
    api::{DataPathInfo, Distribution, MessageKind, Rings, TombstoneRow, UmemLedger},
    rows::{Listed, Rows},
};

/// What the dashboard looks at. Reading disturbs nobody: it copies counters and last published reports.
pub trait Source: Send + Sync + 'static {
    /// All figures now; `None` when the stack has ended. Rows that are as they were in `last`, the reading before, are
    /// best shared with it.
    fn read(&self, wants: &Wants, last: &Reading) -> Option<Reading>;

    /// What samples datagrams.
    fn tracer(&self) -> Arc<Tracer>;

    /// What a connection has logged, as qlog, if it does and is still there.
    fn qlog(&self, _connection: u64) -> Option<Vec<u8>> {
        None
    }

    /// Whether secrets of TLS sessions may leave, and those there are, as lines of a TLS key log.
    fn secrets(&self) -> Option<String> {
        None
    }
}

/// What of a reading is wanted. The rest may be left out: with thousands of connections it is most of the work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Connections' CIDs.
    pub cids: bool,
    /// Open streams, of the connections somebody looks at.
    pub streams: Vec<u64>,
    /// And of all of them, if they are few: a recording is made.
    pub all_streams: bool,
    /// Bytes that rows of actors and connections may take, those of the reading before that are not shared included;
    /// `None`: any.
    pub memory: Option<usize>,
}

impl Wants {
    /// Connections of a recording whose streams are told.
    const FEW: usize = 64;

    /// Whether the streams of a connection, one of so many, are wanted.
    pub fn streams_of(&self, connection: u64, connections: usize) -> bool {
        self.all_streams && connections <= Self::FEW || self.streams.contains(&connection)
    }
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
    /// Live actors.
    pub actors: Rows<ActorReading>,
    /// Kinds of actors.
    pub kinds: Vec<KindReading>,
    /// Ends of actors, oldest first.
    pub history: Vec<TombstoneRow>,
    /// Devices: XSKs first.
    pub devices: Vec<DeviceReading>,
    /// XDP rules and their hits.
    pub rules: Vec<(String, u64)>,
    /// Packets the XDP program passed to the kernel without a rule saying so, by cause.
    #[serde(default)]
    pub passed: BTreeMap<String, u64>,
    /// UMEM ledgers.
    pub umems: Vec<UmemLedger>,
    /// Live connections.
    pub connections: Rows<ConnectionReading>,
    /// Connections, and their actors, that there was no memory to tell of.
    #[serde(default)]
    pub left_out: u64,
    /// Drops above the devices, by cause.
    pub drops: BTreeMap<String, u64>,
    /// Drops by connections, those that have ended included, by cause.
    pub connection_drops: BTreeMap<String, u64>,
    /// The books of the hops between actors.
    pub hops: Vec<HopReading>,
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
    /// Messages sent, by the book of those who sent them.
    pub sent: u64,
    /// Messages handled, by the actor's own.
    pub handled: u64,
    /// Messages dropped.
    pub dropped: u64,
    /// Messages in the mailbox: the last number sent less the last one handled.
    pub depth: u64,
    /// Messages that should have been handled by now; it may be for a moment only.
    pub missing: i64,
    /// Items, likewise.
    pub items_missing: i64,
    /// Messages that are missing for certain.
    pub unaccounted: u64,
    /// Items, likewise.
    pub items_unaccounted: u64,
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
        // What only seems to be missing is on its way.
        self.depth + (self.missing.max(0) as u64).saturating_sub(self.unaccounted)
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

impl Reading {
    /// Bytes it takes, about: actors and connections are what grows.
    pub(crate) fn memory(&self) -> u64 {
        (REST + self.actors.memory() + self.connections.memory()) as u64
    }

    /// Bytes it takes beside an earlier one, with which it shares rows.
    pub(crate) fn memory_beside(&self, earlier: &Self) -> u64 {
        let rows = self.actors.memory_beside(&earlier.actors);
        (REST + rows + self.connections.memory_beside(&earlier.connections)) as u64
    }
}

/// What a reading takes besides its rows, about.
const REST: usize = 16_384;

impl Listed for ActorReading {
    // With its place in the list, and what keeps count of those who share it.
    const MEMORY: usize = size_of::<Self>() + 48;

    fn id(&self) -> u64 {
        self.id
    }

    fn beyond(&self) -> usize {
        self.name.len()
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
    /// Journeys overwritten before they were read, or too long for their record.
    pub journeys_incomplete: u64,
    /// Hops overwritten before they were read.
    pub hops_overwritten: u64,
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
            journeys_incomplete: stats.journey_overwritten + stats.journey_truncated,
            hops_overwritten: stats.hop_overwritten,
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
