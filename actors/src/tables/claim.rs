//! What a socket is bound to, and which datagrams are its own for that.

use std::net::SocketAddr;

use wirepath_quic::{CibirId, Cid};

/// What carries QUIC datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// UDP datagrams.
    Udp,
    /// TCP segments, one datagram each (QTIP).
    Tcp,
}

/// Which carriers a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carriers {
    /// UDP.
    pub udp: bool,
    /// QTIP.
    pub tcp: bool,
}

impl Carriers {
    /// UDP alone.
    pub const UDP: Self = Self { udp: true, tcp: false };
    /// QTIP alone.
    pub const TCP: Self = Self { udp: false, tcp: true };
    /// Both at once.
    pub const BOTH: Self = Self { udp: true, tcp: true };

    /// Whether this one is among them.
    pub fn has(self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Udp => self.udp,
            Carrier::Tcp => self.tcp,
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.udp && other.udp || self.tcp && other.tcp
    }
}

/// What a socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The local address; an unspecified IP takes datagrams to any, and over IPv6 those of IPv4 as well.
    pub local: SocketAddr,
    /// The one remote address a connected socket takes datagrams from.
    pub remote: Option<SocketAddr>,
    /// What may carry them.
    pub carriers: Carriers,
    /// The identifier by which the port is shared: only datagrams that carry it count.
    pub cibir: Option<CibirId>,
    /// The bytes that all its connection IDs start with, if the port is shared with other processes by those: only what
    /// carries them, and what XDP rules say besides, comes here.
    pub server: Option<Cid>,
}

/// A received datagram, as far as sockets are told apart by it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Where it was sent to.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What carried it.
    pub carrier: Carrier,
    /// The QUIC datagram.
    pub datagram: &'a [u8],
}

impl Claim {
    /// UDP from anywhere.
    pub fn udp(local: SocketAddr) -> Self {
        Self { local, remote: None, carriers: Carriers::UDP, cibir: None, server: None }
    }

    /// Whether other processes share its port, so that no socket of the operating system holds it.
    pub fn is_shared(&self) -> bool {
        self.cibir.is_some() || self.server.is_some()
    }

    /// Whether a datagram is the socket's, if no other has the better claim.
    pub fn takes(&self, arrival: &Arrival<'_>) -> bool {
        self.carriers.has(arrival.carrier)
            && self.covers(arrival.local)
            && self.remote.is_none_or(|remote| remote == arrival.remote)
            && self.cibir.is_none_or(|id| id.takes(arrival.datagram))
    }

    /// Whether it is bound to this local address, alone or among others.
    pub fn covers(&self, local: SocketAddr) -> bool {
        self.local.port() == local.port() && self.takes_address(local)
    }

    fn takes_address(&self, local: SocketAddr) -> bool {
        if self.local.ip().is_unspecified() {
            // An IPv6 wildcard socket is dual-stack.
            self.local.is_ipv6() || local.is_ipv4()
        } else {
            self.local.ip() == local.ip()
        }
    }

    /// Whether local address and carrier alone decide about a datagram.
    pub fn is_plain(&self) -> bool {
        self.remote.is_none() && self.cibir.is_none()
    }

    /// The order of claims on a port, the best first: connected before open, a specific address before a wildcard, an
    /// identifier before none, IPv4 before IPv6.
    pub(super) fn rank(&self) -> (bool, bool, bool, bool) {
        (self.remote.is_none(), self.local.ip().is_unspecified(), self.cibir.is_none(), self.local.is_ipv6())
    }

    /// Whether no datagram could tell the two apart.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.local == other.local
            && self.remote == other.remote
            && self.carriers.overlaps(other.carriers)
            && match (&self.cibir, &other.cibir) {
                (None, None) => true,
                // One within the other: a packet may carry both.
                (Some(one), Some(two)) => one.agrees_with(two),
                _ => false,
            }
    }
}
