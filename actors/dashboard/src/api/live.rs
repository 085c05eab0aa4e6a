//! The live stream, `GET /api/v1/stream`.

use serde::{Deserialize, Serialize};

use super::{Drops, Overview, Queues, Topology};

/// What the stream carries. The first event is `snapshot`, an [`Envelope`](super::Envelope) of this; every other is
/// `delta`, a [`LiveDelta`], at most four a second. `?source=` is not for this request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// As `/api/v1/overview`.
    pub overview: Overview,
    /// As `/api/v1/topology`.
    pub topology: Topology,
    /// As `/api/v1/queues`.
    pub queues: Queues,
    /// As `/api/v1/drops`.
    pub drops: Drops,
}

/// What has changed since the event before. A viewer that is slow gets fewer of them, each newer: `lost` says how many
/// were left out, and the change spans them all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveDelta {
    /// [`VERSION`](super::VERSION).
    pub v: u32,
    /// When the figures were read.
    pub t_ns: u64,
    /// Number of the reading.
    pub seq: u64,
    /// Readings this viewer was too slow for since its last event.
    pub lost: u64,
    /// A merge patch (RFC 7386) of [`Live`]: objects member by member, anything else (arrays too) as a whole.
    pub data: serde_json::Value,
}
