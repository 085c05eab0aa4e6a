//! Connections: the list, and one of them.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionRole {
    /// The one that asked for it.
    #[default]
    Client,
    /// The one that listened.
    Server,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Keys are not agreed on yet.
    #[default]
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
    /// The application here reads no faster than the peer may send.
    Reader,
    /// It receives, and what comes depends on the peer.
    Peer,
    /// The congestion window is full.
    Cwnd,
    /// The congestion window is full, and the peer holds its acknowledgements back for longer than a round trip.
    AckDelay,
    /// The peer's flow control: of a stream, of the connection, or of the number of streams.
    FlowControl,
    /// Pacing: the time for the next packet has not come.
    Pacing,
    /// The path: the peer has not shown yet that its address is its own, or gave no ID to send to.
    Path,
    /// No memory to send from, or no room in the device.
    Frames,
}

/// One line of the list of connections. Sort by any field's name; `filter` looks in id, addresses, ALPN, state, what
/// blocks it and its local CIDs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// The id of its actor.
    pub id: String,
    /// Which end this is.
    pub role: ConnectionRole,
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
    /// What held it back for most of the last second.
    pub blocked_by: BlockedBy,
    /// Share of the last 10 seconds' readings of which that is true.
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
    /// What held it back over the last second, longest first.
    pub causes: Vec<CauseShare>,
    /// How long the peer says it holds acknowledgements back, smoothed.
    pub ack_delay_ns: u64,
    /// Its paths, the one in use first.
    pub paths: Vec<PathRow>,
    /// Its open streams; `None` where they were not looked at: they are a moment after somebody asks for this
    /// connection, and of a recording's connections while there are few.
    pub streams: Option<Streams>,
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

/// How long one cause held a connection back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CauseShare {
    /// The cause.
    pub cause: BlockedBy,
    /// Share of the time.
    pub share: f64,
}

/// Whether marks of congestion get through (RFC 9000 §13.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ecn {
    /// Not known yet.
    #[default]
    Testing,
    /// They do.
    Capable,
    /// They don't, or are off.
    Off,
}

/// One path of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathRow {
    /// Local address.
    pub local: SocketAddr,
    /// Peer's address.
    pub remote: SocketAddr,
    /// Whether it is the one in use.
    pub active: bool,
    /// Whether the peer has shown that the address is its own (RFC 9000 §8).
    pub validated: bool,
    /// Smoothed round-trip time.
    pub rtt_ns: u64,
    /// The least one seen.
    pub min_rtt_ns: u64,
    /// Congestion window.
    pub cwnd_bytes: u64,
    /// Sent, and neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// Datagram size in use.
    pub mtu_bytes: u64,
    /// Marks of congestion.
    pub ecn: Ecn,
    /// Packets sent.
    pub packets_sent: u64,
    /// Of these, lost.
    pub packets_lost: u64,
}

/// Open streams of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Streams {
    /// How many are open.
    pub open: u64,
    /// Those that carried most; at most 100.
    pub rows: Vec<StreamRow>,
}

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamWait {
    /// The application here, to read what has come.
    Reader,
    /// The application here, to write, or the peer, to send.
    Application,
    /// All is sent: its acknowledgement.
    Acknowledgement,
    /// The peer's flow control of this stream.
    StreamFlowControl,
    /// The peer's flow control of the connection.
    ConnectionFlowControl,
    /// What holds the whole connection back.
    Connection,
}

/// One open stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its id (RFC 9000 §2.1).
    pub id: String,
    /// Whether both sides may send on it.
    pub bidirectional: bool,
    /// Whether this side opened it.
    pub local: bool,
    /// `open`, `sending` or `receiving`: which halves are open still.
    pub state: String,
    /// Bytes the application handed over to be sent.
    pub written_bytes: u64,
    /// Of these, sent at least once: as of the last acknowledgement.
    pub sent_bytes: u64,
    /// Of these, acknowledged.
    pub acked_bytes: u64,
    /// Of these, kept here: what is not acknowledged yet.
    pub buffered_bytes: u64,
    /// The peer's limit of what may be sent; `None` before its first acknowledgement.
    pub limit_bytes: Option<u64>,
    /// Bytes received in order.
    pub received_bytes: u64,
    /// Of these, not read by the application.
    pub unread_bytes: u64,
    /// Streams of a higher one send first.
    pub priority: i8,
    /// What it waits for.
    pub waits_for: StreamWait,
}
