//! What the application is told when it uses a stream.

use bytes::Bytes;
use s2n_quic_core::varint::VarInt;

/// What reading a stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The next bytes, in order and never empty. They stay counted against the windows until released.
    Data(Bytes),
    /// Nothing now. [`Event::StreamReadable`](crate::Event::StreamReadable) follows when there is.
    Blocked,
    /// The peer finished the stream and all of it has been read.
    Finished,
}

/// Why a stream can't do what was asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No such stream: never opened, or over in both directions.
    #[error("the stream does not exist or is over")]
    Unknown,
    /// A unidirectional stream in the other direction.
    #[error("the stream has no such direction")]
    Direction,
    /// The sending side was finished before.
    #[error("the stream was finished")]
    Finished,
    /// This side of the stream was given up by us: reset, or no longer wanted.
    #[error("the stream was given up by us with code {0}")]
    Abandoned(VarInt),
    /// The peer reset the stream (RESET_STREAM).
    #[error("the stream was reset by the peer with code {0}")]
    Reset(VarInt),
    /// The peer does not want the stream (STOP_SENDING).
    #[error("the stream was stopped by the peer with code {0}")]
    Stopped(VarInt),
    /// The peer's transport parameters don't allow it.
    #[error("the peer does not support it")]
    Unsupported,
    /// More bytes than a stream can have, 2^62 - 1 (RFC 9000 §4.5).
    #[error("the stream is full: no stream has more than 2^62 - 1 bytes")]
    TooLong,
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
}
