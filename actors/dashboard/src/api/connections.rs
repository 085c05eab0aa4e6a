//! Connections: the list, and one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Keys are not agreed on yet.
    Handshaking,
    /// Open.
    Open,
    /// Over.
    Closed,
}

/// What keeps a connection from sending more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    /// It has nothing to send and does nothing.
    Idle,
    /// The application writes no faster.
    Application,
    /// The congestion window is full.
    Cwnd,
    /// The peer's flow control.
    FlowControl,
    /// Pacing: the time for the next packet has not come.
    Pacing,
    /// No memory to send from, or no room in the device.
    Frames,
}

/// One line of the list of connections. Sort by any field's name; `filter` looks in id, addresses, ALPN, state, what
/// blocks it and its local CIDs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// The id of its actor.
    pub id: String,
    /// `client` or `server`.
    pub role: String,
    /// Where it stands.
    pub state: ConnectionState,
    /// Local address.
    pub local: String,
    /// Peer's address.
    pub remote: String,
    /// Application protocol agreed on.
    pub alpn: Option<String>,
    /// Since it was begun.
    pub age_ns: u64,
    /// Smoothed round-trip time.
    pub rtt_ns: u64,
    /// The least one seen.
    pub min_rtt_ns: u64,
    /// Congestion window.
    pub cwnd_bytes: u64,
    /// Sent, and neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// Bytes sent.
    pub tx_bytes_per_s: f64,
    /// Bytes received.
    pub rx_bytes_per_s: f64,
    /// Packets lost, ever.
    pub packets_lost: u64,
    /// Packets lost.
    pub lost_per_s: f64,
    /// What it waits for.
    pub blocked_by: BlockedBy,
    /// Share of the last 10 seconds' readings in which it waited for that.
    pub blocked_share: f64,
    /// Messages in its actor's mailbox.
    pub queued: u64,
    /// How long the oldest of them has waited.
    pub oldest_age_ns: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionDetail {
    /// What the list says of it.
    pub row: ConnectionRow,
    /// Why it is as fast as it is: a sentence for people.
    pub explanation: String,
    /// The last minutes, a reading a second or so.
    pub timeline: Timeline,
    /// Its local CIDs, in hex.
    pub local_cids: Vec<String>,
    /// Its paths, the one in use first: `"10.0.0.1:4433 → 10.0.0.2:52011"`.
    pub paths: Vec<String>,
    /// Datagram size in use.
    pub mtu_bytes: u64,
    /// Its streams that carried most; at most 100. Empty when the stack does not tell of streams.
    pub streams: Vec<StreamRow>,
    /// All its counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Where its qlog can be had, if one is written.
    pub qlog_url: Option<String>,
}

/// Columns of equal length; `t_ns` grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When.
    pub t_ns: Vec<u64>,
    /// Congestion window.
    pub cwnd_bytes: Vec<u64>,
    /// In flight.
    pub in_flight_bytes: Vec<u64>,
    /// Round-trip time.
    pub rtt_ns: Vec<u64>,
    /// Packets lost.
    pub lost_per_s: Vec<f64>,
    /// Sent.
    pub tx_bytes_per_s: Vec<f64>,
    /// Received.
    pub rx_bytes_per_s: Vec<f64>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its id (RFC 9000 §2.1).
    pub id: String,
    /// `bidi` or `uni`.
    pub kind: String,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// `open`, `finished`, `reset`.
    pub state: String,
}
