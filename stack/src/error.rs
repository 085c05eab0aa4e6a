//! What can go wrong, in terms of what the caller can do about it.

use wirepath_drivers::DriverError;
use wirepath_quic::{CloseReason, ConnectError, VarInt, tls};

/// A stack, a listener or a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network device, the port or the rights.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// AF_XDP was required and is not to be had.
    #[error("AF_XDP was required and is not available: {0}")]
    XdpRequired(String),
    /// Certificates, keys or the choice of protocols.
    #[error(transparent)]
    Tls(#[from] tls::ConfigError),
    /// A setting makes no sense, or the handshake could not start.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another listener of this stack serves one of the protocols on the same address.
    #[error("a listener on {0} already serves one of these application protocols; give each its own")]
    ProtocolInUse(std::net::SocketAddr),
    /// Listeners on one address differ in protocols and certificates only.
    #[error("listeners on {0} share its transport settings; use the same, or another address")]
    SettingsDiffer(std::net::SocketAddr),
    /// The connection was not established.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The operating system refused something else.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The stack was closed.
    #[error("the stack was closed")]
    Closed,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is over: {0}")]
pub struct ConnectionError(pub CloseReason);

/// Why a connection can't go on from another address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// It is not allowed to.
    #[error(transparent)]
    Refused(#[from] wirepath_quic::MigrateError),
    /// The address can't be used.
    #[error(transparent)]
    Place(#[from] Box<Error>),
    /// The connection is over.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Why a stream can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer reset the stream with this application error code.
    #[error("the peer reset the stream with code {0}")]
    Reset(VarInt),
    /// More than the caller's limit came.
    #[error("the stream is longer than {0} bytes")]
    TooLong(usize),
    /// The connection is over.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Why a stream can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer wants no more of the stream, and says so with this application error code.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(VarInt),
    /// The stream was finished or reset before.
    #[error("the stream was finished or reset before")]
    Finished,
    /// The peer does not know how to do that, or it is not known yet whether it does.
    #[error("the peer does not support it")]
    Unsupported,
    /// The connection is over.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(_) => std::io::ErrorKind::ConnectionReset,
            ReadError::TooLong(_) => std::io::ErrorKind::InvalidData,
            ReadError::Connection(_) => std::io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

impl From<WriteError> for std::io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Stopped(_) => std::io::ErrorKind::ConnectionReset,
            WriteError::Finished => std::io::ErrorKind::BrokenPipe,
            WriteError::Unsupported => std::io::ErrorKind::Unsupported,
            WriteError::Connection(_) => std::io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
