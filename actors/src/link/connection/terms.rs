//! What handles ask of a connection's actor, and what they are told.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use wirepath_quic::{CloseReason, HandshakeOutcome, StreamId, VarInt};

use crate::{connection::Move, link::StreamLink};

/// What an application asks of its connection.
#[derive(Debug)]
pub enum Command {
    /// A stream was opened; it carries the next ID of its type.
    Open(Arc<StreamLink>),
    /// Send this, within the stream's credit.
    Write(StreamId, Bytes),
    /// Send this and then FIN.
    WriteLast(StreamId, Bytes),
    /// End the stream's sending half with an error code.
    Reset(StreamId, VarInt),
    /// End it, but deliver its first bytes, so many.
    ResetAt(StreamId, VarInt, u64),
    /// Ask the peer to stop sending.
    StopSending(StreamId, VarInt),
    /// The application took this many bytes: flow control may move on.
    Release(StreamId, u64),
    /// Send this datagram (RFC 9221).
    Datagram(Bytes),
    /// Send the stream's data before that of streams of a lower priority.
    Priority(StreamId, i8),
    /// Update the keys of packets; tell when it is done.
    UpdateKeys(oneshot::Sender<()>),
    /// Client: go on from another address.
    Move(Box<Move>),
    /// Close the connection.
    Close(VarInt, Bytes),
}

/// Where a connection stands.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Keys are not agreed on yet.
    Handshaking,
    /// Nor yet, but early data (0-RTT) flows: on a server under this application protocol, on a client under that of
    /// the session it continues, if the server takes it.
    Early(Bytes),
    /// Open, under these terms.
    Open(Agreed),
    /// Over.
    Closed(CloseReason),
}

/// What the handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// The application protocol.
    pub alpn: Bytes,
    /// The QUIC version.
    pub version: u32,
    /// How it went.
    pub outcome: HandshakeOutcome,
}

/// What became of a client's early data (0-RTT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// There is none: no session to continue, or it or the settings do not allow it.
    #[default]
    None,
    /// It may be sent; whether the server takes it is not known yet.
    Offered,
    /// The server took it.
    Accepted,
    /// The server refused it; what was written is sent once more, with the handshake done.
    Rejected,
}

/// Why a handle can't do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The connection is over; [`ConnectionLink::phase`](super::ConnectionLink::phase) tells why.
    Closed,
    /// The peer stopped the stream with this code.
    Stopped(VarInt),
    /// The stream was finished before.
    Finished,
}
