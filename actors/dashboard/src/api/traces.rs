//! Journeys of single datagrams.

use serde::{Deserialize, Serialize};

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Received.
    Rx,
    /// Sent.
    Tx,
}

/// What is sampled. All that is given must match; all `null` matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceFilter {
    /// An IP address, or address and port, of either end.
    pub address: Option<String>,
    /// A local CID, in hex: a prefix will do.
    pub cid: Option<String>,
    /// Only datagrams that end in this drop (`"socket_unmatched_dropped"`).
    pub drop_cause: Option<String>,
    /// One of so many of those that match; default 2, and 1 with a drop cause.
    pub one_in: Option<u32>,
}

/// What is armed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Armed {
    /// The filter; `None`: the default sampling only.
    pub filter: Option<TraceFilter>,
    /// One of so many of all datagrams is sampled besides.
    pub sample_one_in: u32,
}

/// Sampled datagrams of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traces {
    /// What is armed.
    pub armed: Armed,
    /// The journeys kept, by the way they took; most frequent first.
    pub groups: Vec<PathGroup>,
    /// Those that match the query, newest first; 100 by default, 1000 at the most.
    pub journeys: Vec<Journey>,
    /// Journeys kept in all.
    pub kept: u64,
    /// Journeys that were overwritten before they were read, or had more hops than are kept: not shown, or not whole.
    pub incomplete: u64,
}

/// Journeys that took the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathGroup {
    /// Stages joined: `"device > demux > connection > quic > stream"`.
    pub path: String,
    /// Which way.
    pub direction: Direction,
    /// How many.
    pub count: u64,
    /// Median of their totals.
    pub total_p50_ns: u64,
    /// 99th percentile.
    pub total_p99_ns: u64,
    /// Each stage.
    pub stages: Vec<StageSummary>,
}

/// One stage of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// As in [`Hop::stage`].
    pub stage: String,
    /// Waiting, median.
    pub wait_p50_ns: u64,
    /// Waiting, 99th percentile.
    pub wait_p99_ns: u64,
    /// Running, median.
    pub run_p50_ns: u64,
    /// Running, 99th percentile.
    pub run_p99_ns: u64,
}

/// One datagram's way. `total_ns` is exactly the sum of the hops' `wait_ns + run_ns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journey {
    /// Its trace id.
    pub id: String,
    /// Which way.
    pub direction: Direction,
    /// When its first hop began.
    pub begin_ns: u64,
    /// From there to the end of its last hop.
    pub total_ns: u64,
    /// The stages joined by `" > "`.
    pub path: String,
    /// UDP payload bytes.
    pub len_bytes: u64,
    /// Local address, if it came to that.
    pub local: Option<String>,
    /// Peer's address, if it came to that.
    pub remote: Option<String>,
    /// Local CID in hex, if it came to that.
    pub cid: Option<String>,
    /// The connection's actor, if it came to that.
    pub connection: Option<String>,
    /// `delivered`, `sent`, or the cause of its drop.
    pub outcome: String,
    /// In order; each begins where the one before ends.
    pub hops: Vec<Hop>,
}

/// One stage of a journey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// RX: `device`, `demux`, `listener` or `connection`, `quic`, `stream`. TX: `application`, `connection`, `device`,
    /// `ring`, `kernel`.
    pub stage: String,
    /// The actor, if it is one.
    pub actor: Option<String>,
    /// The actor's kind and name.
    pub label: String,
    /// When it arrived here.
    pub begin_ns: u64,
    /// How long it waited here before it was worked on.
    pub wait_ns: u64,
    /// How long it was worked on, with those of its batch.
    pub run_ns: u64,
    /// Items that were worked on together with it.
    pub batch: u32,
}
