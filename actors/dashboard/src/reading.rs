//! All figures of a stack at one moment: what answers are made from, and what recordings hold.

mod connection;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

pub use connection::{ConnectionReading, PathReading, StreamReading, StreamsReading};

use serde::{Deserialize, Serialize};
use wirepath_trace::{KindSnapshot, Registry, Tracer, TracerStats};

use crate::{
    Books, HopReading,
    api::{DataPathInfo, Distribution, MessageKind, Rings, TombstoneRow, UmemLedger},
};

/// What the dashboard looks at. Reading disturbs nobody: it copies counters and last published reports.
pub trait Source: Send + Sync + 'static {
    /// All figures now; `None` when the stack has ended.
    fn read(&self, wants: &Wants) -> Option<Reading>;

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
    /// Packets the XDP program passed to the kernel without a rule saying so, by cause.
    #[serde(default)]
    pub passed: BTreeMap<String, u64>,
    /// UMEM ledgers.
    pub umems: Vec<UmemLedger>,
    /// Live connections.
    pub connections: Vec<ConnectionReading>,
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

/// What is listed by id.
pub(crate) trait Listed {
    fn id(&self) -> u64;
}

impl Listed for ActorReading {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Listed for ConnectionReading {
    fn id(&self) -> u64 {
        self.id
    }
}

/// The one of this id, in a list sorted by it.
pub(crate) fn find<T: Listed>(list: &[T], id: u64) -> Option<&T> {
    list.binary_search_by_key(&id, T::id).ok().and_then(|at| list.get(at))
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

/// What a registry tells: actors by id, kinds, history. The books of the hops are [closed](Books::close) when drops have
/// been read.
pub fn read_registry(registry: &Registry, reading: &mut Reading) -> Books {
    let mut books = Books::open(registry);
    let actors = registry.actors();
    books.read(registry, &actors);
    reading.actors = actors
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
            items_queued: actor.meter.item_depth,
            depth: actor.meter.depth,
            missing: actor.meter.message_missing,
            items_missing: actor.meter.item_missing,
            unaccounted: 0,
            items_unaccounted: 0,
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
    books
}
