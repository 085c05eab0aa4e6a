//! What is read of a connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Counters, LimitsReading,
    api::{ConnectionRole, ConnectionState, Ecn, PathRow},
    rows::Listed,
};

/// One connection. Kept small: there may be tens of thousands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionReading {
    /// Its actor.
    pub id: u64,
    /// How often the connection had told of itself then.
    #[serde(skip)]
    pub version: u64,
    /// Which end this is.
    pub role: ConnectionRole,
    /// Where it stands.
    pub state: ConnectionState,
    /// Local address.
    pub local: SocketAddr,
    /// Peer's.
    pub remote: SocketAddr,
    /// Application protocol.
    pub alpn: Option<Box<str>>,
    /// Local CIDs, in hex, if they were wanted.
    pub cids: Box<[String]>,
    /// Whether it logs what it does, as qlog.
    pub has_qlog: bool,
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
    /// Whether the peer has shown that its address is its own.
    pub validated: bool,
    /// Marks of congestion.
    pub ecn: Ecn,
    /// How long the peer says it holds acknowledgements back.
    pub ack_delay_ns: u64,
    /// What kept it from sending more.
    pub limits: LimitsReading,
    /// Whether the application waits for the peer to allow more streams.
    pub waits_for_streams: bool,
    /// Received bytes that the application has not read, or flow control not told of.
    pub unread_bytes: u64,
    /// Bytes the peer may be ahead of the application.
    pub receive_window_bytes: u64,
    /// The peer's limit of all streams together has been reached.
    pub is_credit_used: bool,
    /// All paths, the one in use first, while there are several.
    pub paths: Box<[PathRow]>,
    /// Its open streams, if they were wanted.
    pub streams: Option<Box<StreamsReading>>,
    /// Counters by name; `byte_sent`, `byte_received`, `packet_lost`, `connection_blocked`, `stream_blocked` are looked at.
    pub counters: Counters,
}

impl Default for ConnectionReading {
    fn default() -> Self {
        let nowhere = SocketAddr::from(([0; 4], 0));
        Self {
            id: 0,
            version: 0,
            role: ConnectionRole::default(),
            state: ConnectionState::default(),
            local: nowhere,
            remote: nowhere,
            alpn: None,
            cids: Box::default(),
            has_qlog: false,
            rtt_ns: 0,
            min_rtt_ns: 0,
            cwnd_bytes: 0,
            in_flight_bytes: 0,
            mtu_bytes: 0,
            validated: false,
            ecn: Ecn::default(),
            ack_delay_ns: 0,
            limits: LimitsReading::default(),
            waits_for_streams: false,
            unread_bytes: 0,
            receive_window_bytes: 0,
            is_credit_used: false,
            paths: Box::default(),
            streams: None,
            counters: Counters::default(),
        }
    }
}

/// The open streams of a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StreamsReading {
    /// How many there are.
    pub open: u64,
    /// Those that carried most.
    pub rows: Vec<StreamReading>,
}

/// One open stream.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StreamReading {
    /// Its id (RFC 9000 §2.1).
    pub id: u64,
    /// More may come.
    pub receiving: bool,
    /// More may go.
    pub sending: bool,
    /// Higher ones send first.
    pub priority: i8,
    /// Bytes handed over to be sent.
    pub written: u64,
    /// Sent, as of the last acknowledgement.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// The peer's limit, as of the last acknowledgement.
    pub limit: Option<u64>,
    /// Received in order.
    pub received: u64,
    /// Not read of that.
    pub unread: u64,
}

impl ConnectionReading {
    /// A counter; 0 if there is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.of(name)
    }
}

impl Listed for ConnectionReading {
    // With its place in the list, what keeps count of those who share it, and its counters.
    const MEMORY: usize = size_of::<Self>() + 140;

    fn id(&self) -> u64 {
        self.id
    }

    fn beyond(&self) -> usize {
        let rows = self.streams.as_ref().map_or(0, |it| it.rows.len());
        let cids: usize = self.cids.iter().map(|cid| size_of::<String>() + cid.len()).sum();
        rows * size_of::<StreamReading>() + size_of_val(&*self.paths) + cids
    }
}
