//! The seam between a device that writes Ethernet headers itself and whoever resolves routes.

use std::net::IpAddr;

/// Resolves where a datagram goes next. The device asks on its own thread, once a run of datagrams to one
/// remote, so an answer must be a table look-up and never wait; resolving goes on elsewhere.
pub trait NextHops: Send {
    /// What is known now of the way to `remote`.
    fn lookup(&mut self, remote: IpAddr) -> NextHop;

    /// A number that changes whenever an earlier answer of [`lookup`](Self::lookup) may have become wrong.
    /// The device keeps its last answer for as long as this stays the same.
    fn generation(&self) -> u64;
}

/// An answer of [`NextHops::lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The way is known.
    Resolved {
        /// The hardware address of the interface the datagram leaves by.
        src_mac: [u8; 6],
        /// The hardware address of the neighbour: the remote itself, or the gateway towards it.
        dst_mac: [u8; 6],
        /// The source address the route prefers, for datagrams that name none. Same family as the remote.
        src_ip: IpAddr,
        /// The VLAN id (12 bits) to tag with.
        vlan: Option<u16>,
    },
    /// A neighbour is being solicited or a route looked up: ask again soon.
    Pending,
    /// There is no way, or the neighbour does not answer.
    Unreachable,
}
