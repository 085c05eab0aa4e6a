//! What a datagram carries besides its payload.

use std::net::SocketAddr;

pub use s2n_quic_core::inet::ExplicitCongestionNotification as Ecn;

/// The two addresses between which datagrams move.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetPath {
    /// Our address and port. The address may be unspecified where the system does not tell.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

impl NetPath {
    /// Do both name the same path? An unspecified local address matches any.
    pub fn matches(&self, other: &Self) -> bool {
        self.remote == other.remote
            && (self.local == other.local
                || self.local.port() == other.local.port()
                    && (self.local.ip().is_unspecified() || other.local.ip().is_unspecified()))
    }
}

/// What [`Connection::poll_transmit`](crate::Connection::poll_transmit) wrote: one datagram, or a train of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes written to the buffer.
    pub len: usize,
    /// If there are several datagrams: the size in bytes of each but the last, which may be shorter.
    pub segment_size: Option<u16>,
    /// Where to send.
    pub path: NetPath,
    /// The mark to send with.
    pub ecn: Ecn,
}
