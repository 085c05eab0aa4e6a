//! What a connection tells its owner.

use bytes::Bytes;
use s2n_quic_core::stream::{StreamId, StreamType};
use s2n_quic_core::varint::VarInt;

use crate::cid::Cid;
use crate::error::CloseReason;
use crate::net::NetPath;

/// What a connection tells its owner, polled from it after each input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// TLS is done; the application protocol is known and data may flow.
    HandshakeCompleted {
        /// The protocol both sides agreed on by ALPN.
        alpn: Bytes,
    },
    /// The peer is known to have completed the handshake too (RFC 9001 §4.1.2).
    HandshakeConfirmed,
    /// Client: what the server did with the 0-RTT data sent.
    EarlyData {
        /// The data was taken. If not, the streams written before are empty again and must be written once more.
        accepted: bool,
    },
    /// The peer opened a stream.
    StreamOpened(StreamId),
    /// A stream has data, its end or a reset to read.
    StreamReadable(StreamId),
    /// The peer acknowledged data (or it won't be needed any more): credit back to the writer.
    SendReleased {
        /// The stream.
        id: StreamId,
        /// Bytes no longer kept.
        bytes: u64,
    },
    /// The end of our side of a stream and all its data are acknowledged.
    StreamFinished(StreamId),
    /// The peer gave up sending on a stream (RESET_STREAM, RESET_STREAM_AT).
    StreamReset {
        /// The stream.
        id: StreamId,
        /// The peer's application error code.
        code: VarInt,
        /// What was read before is to be used all the same, and is all there was to be had (RESET_STREAM_AT).
        partial: bool,
    },
    /// The peer does not want more of a stream (STOP_SENDING).
    StreamStopped {
        /// The stream.
        id: StreamId,
        /// The peer's application error code.
        code: VarInt,
    },
    /// The peer lets us open more streams.
    StreamsAvailable {
        /// Which type.
        ty: StreamType,
        /// How many streams of this type we may have opened in total.
        limit: u64,
    },
    /// A datagram frame (RFC 9221) can be read.
    DatagramReadable,
    /// A connection ID by which the peer will reach this connection from now on: for the demux's table.
    CidIssued {
        /// The ID.
        cid: Cid,
    },
    /// A connection ID that no longer leads to this connection.
    CidRetired {
        /// The ID.
        cid: Cid,
    },
    /// A stateless reset of this connection by the peer would end in this token (RFC 9000 §10.3): for the demux's table.
    ResetTokenLearned {
        /// The token.
        token: [u8; 16],
    },
    /// A token that no longer stands for this connection.
    ResetTokenForgotten {
        /// The token.
        token: [u8; 16],
    },
    /// The connection goes on between other addresses, and they were found to work.
    PathChanged {
        /// The new path.
        path: NetPath,
    },
    /// Client: an address token for the next connection to this server (RFC 9000 §8.1.3).
    NewToken(Bytes),
    /// The connection is over. It may still have packets to send and receive until [`Event::Drained`].
    Closed(CloseReason),
    /// Nothing is left to do: forget the connection.
    Drained,
}
