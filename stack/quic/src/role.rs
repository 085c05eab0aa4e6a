//! Which end of a connection.

use s2n_quic_core::endpoint;

/// Which end of a connection an endpoint is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Role {
    /// The client's end?
    #[inline]
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Client)
    }

    /// The server's end?
    #[inline]
    pub const fn is_server(self) -> bool {
        matches!(self, Self::Server)
    }

    /// The other end.
    #[inline]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The same in the words of s2n-quic-core.
    #[inline]
    pub const fn endpoint_type(self) -> endpoint::Type {
        match self {
            Self::Client => endpoint::Type::Client,
            Self::Server => endpoint::Type::Server,
        }
    }
}
