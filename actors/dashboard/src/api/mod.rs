//! Every JSON answer of the API, as types.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/overview` | [`Envelope`]`<`[`Overview`]`>` |
//! | `GET /api/v1/topology` | [`Envelope`]`<`[`Topology`]`>` |
//! | `GET /api/v1/actors?sort=&desc=&filter=&kind=&offset=&limit=` | [`Envelope`]`<`[`Page`]`<`[`ActorRow`]`>>` |
//! | `GET /api/v1/actors/{id}` | [`Envelope`]`<`[`ActorDetail`]`>` |
//! | `GET /api/v1/tree` | [`Envelope`]`<`[`Tree`]`>` |
//! | `GET /api/v1/queues` | [`Envelope`]`<`[`Queues`]`>` |
//! | `GET /api/v1/frames` | [`Envelope`]`<`[`Frames`]`>` |
//! | `GET /api/v1/traces?direction=&path=&actor=&limit=` | [`Envelope`]`<`[`Traces`]`>` |
//! | `GET /api/v1/traces/{id}` | [`Envelope`]`<`[`Journey`]`>` |
//! | `POST /api/v1/traces` with a [`TraceFilter`] | [`Envelope`]`<`[`Armed`]`>`: samples what matches |
//! | `DELETE /api/v1/traces` | [`Envelope`]`<`[`Armed`]`>`: back to the default sampling |
//! | `GET /api/v1/connections?sort=&desc=&filter=&offset=&limit=` | [`Envelope`]`<`[`Page`]`<`[`ConnectionRow`]`>>` |
//! | `GET /api/v1/connections/{id}` | [`Envelope`]`<`[`ConnectionDetail`]`>` |
//! | `GET /api/v1/connections/{id}/qlog` | the connection's log, if it keeps one |
//! | `GET /api/v1/drops` | [`Envelope`]`<`[`Drops`]`>` |
//! | `GET /api/v1/recordings` | [`Envelope`]`<`[`Recordings`]`>` |
//! | `POST /api/v1/recordings` with a [`RecordingRequest`] | [`Envelope`]`<`[`RecordingRow`]`>`: starts one |
//! | `POST /api/v1/recordings/open` with a file that was downloaded as `trace` | [`Envelope`]`<`[`RecordingRow`]`>` |
//! | `POST /api/v1/recordings/{id}/stop` | [`Envelope`]`<`[`RecordingRow`]`>` |
//! | `GET /api/v1/recordings/{id}/download?format=trace` (or `pcapng`, `qlog`) | the file |
//! | `GET /api/v1/stream` | SSE: see [`Live`] |
//! | `GET /metrics` | Prometheus text |
//!
//! Every `GET` takes `?source=<recording id>` as well and then answers from that recording instead of the live stack;
//! `t_ns` is then the time of the recording's reading (`&at=<t_ns>` chooses the latest one not after it).
//! Errors are an [`ErrorBody`] with status 400, 401, 403, 404 or 405.
//!
//! Conventions: ids are strings; times are nanoseconds since the process's trace clock began (`_ns`); rates are per
//! second (`_per_s`) over the last second or so and fall to 0 when their source goes idle; shares are 0 to 1; counts
//! only grow. An `Option` that is `None` is `null`, never left out.

mod actors;
mod connections;
mod live;
mod overview;
mod queues;
mod recordings;
mod topology;
mod traces;

use serde::{Deserialize, Serialize};

pub use actors::{ActorDetail, ActorRef, ActorRow, MessageKind, TombstoneRow, Tree, TreeNode};
pub use connections::{
    BlockedBy, CauseShare, ConnectionDetail, ConnectionRole, ConnectionRow, ConnectionState, Ecn, PathRow,
    StreamRow, StreamWait, Streams, Timeline,
};
pub use live::{Live, LiveDelta};
pub use overview::{
    DataPathInfo, HopBooks, HopSummary, Journeys, Lint, MemoryPart, Overview, Rates, Severity, Totals,
    TracingCost,
};
pub use queues::{
    DropRow, DropSample, Drops, FrameHolder, FrameSuspect, Frames, PlaceCount, QueueRow, Queues, Ring, Rings,
    RuleRow, UmemLedger,
};
pub use recordings::{RecordingRequest, RecordingRow, RecordingState, Recordings};
pub use topology::{Edge, Node, NodeState, Topology};
pub use traces::{Armed, Direction, Hop, Journey, PathGroup, StageSummary, TraceFilter, Traces};

/// Version of the API, in every [`Envelope`].
pub const VERSION: u32 = 1;

/// What every JSON answer comes in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`VERSION`].
    pub v: u32,
    /// When the figures were read.
    pub t_ns: u64,
    /// The answer.
    pub data: T,
}

/// An answer that is none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong, and what to do about it: one sentence.
    pub error: String,
}

/// A stretch of a list that was filtered and sorted on the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// Rows that match the filter.
    pub total: u64,
    /// Rows there are, filter or not.
    pub total_unfiltered: u64,
    /// The first row's place among those that match.
    pub offset: u64,
    /// The rows asked for at most: 100 by default, 1000 at the most.
    pub limit: u64,
    /// The rows.
    pub rows: Vec<T>,
}

/// The distribution of a duration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Durations counted.
    pub count: u64,
    /// Median, to within 1/16: an upper bound.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The upper bound of the highest bucket in use.
    pub max_ns: u64,
    /// Buckets in use: upper bound in nanoseconds, count. Log-linear: 8 to each power of two.
    pub buckets: Vec<(u64, u64)>,
}
