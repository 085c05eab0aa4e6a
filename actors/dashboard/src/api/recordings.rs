//! The flight recorder.

use serde::{Deserialize, Serialize};

use super::TraceFilter;

/// What was recorded, and what can be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recordings {
    /// Newest first.
    pub rows: Vec<RecordingRow>,
    /// Whether packets' bytes may be recorded: the builder opted in.
    pub payload_allowed: bool,
    /// Whether TLS secrets may be: the builder opted in.
    pub secrets_allowed: bool,
    /// Bytes all recordings hold.
    pub memory_bytes: u64,
    /// What they may hold; the oldest go first.
    pub memory_limit_bytes: u64,
}

/// What to record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordingRequest {
    /// For people.
    pub name: String,
    /// Which datagrams; all `null`: as sampled.
    pub filter: TraceFilter,
    /// Ends by itself after this many seconds: 10 by default, 600 at the most.
    pub seconds: Option<u32>,
}

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// Still recording.
    Recording,
    /// Done.
    Done,
}

/// One recording. `?source=<id>` on any other request answers from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: RecordingState,
    /// When it was begun.
    pub begin_ns: u64,
    /// When it ended, or its last reading.
    pub end_ns: u64,
    /// What was armed.
    pub filter: TraceFilter,
    /// Journeys in it.
    pub journeys: u64,
    /// Readings of all figures in it.
    pub readings: u64,
    /// Packets with their bytes in it.
    pub packets: u64,
    /// Bytes it holds.
    pub memory_bytes: u64,
    /// Whether the `.pcapng` has the secrets to decrypt it.
    pub has_secrets: bool,
    /// What `download?format=` takes: `trace`, `pcapng`, `qlog`.
    pub formats: Vec<String>,
}
