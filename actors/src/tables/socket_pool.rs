//! The socket pool: from local port and addresses to the socket that owns a datagram.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use ahash::RandomState;
use dashmap::DashMap;
use smallvec::SmallVec;

use crate::{device::DeviceReport, egress::Egress, kit::Slot, listener::ListenerMessage};

/// A bound local address: what the demux finds by port.
#[derive(Debug)]
pub struct Socket {
    /// The local address; an unspecified IP takes datagrams to any.
    pub local: SocketAddr,
    /// The way out through the operating system's socket on the same port: for local destinations, and when
    /// AF_XDP is not there (any more).
    pub os: OnceLock<Arc<Egress>>,
    /// The listener on each partition, if anybody listens.
    pub listeners: OnceLock<Box<[Slot<ListenerMessage>]>>,
    report: OnceLock<Arc<DeviceReport>>,
}

impl Socket {
    /// A socket nobody listens on yet.
    pub fn new(local: SocketAddr) -> Self {
        Self { local, os: OnceLock::new(), listeners: OnceLock::new(), report: OnceLock::new() }
    }

    /// What the OS UDP device on the port tells of itself.
    pub fn report(&self) -> Option<&Arc<DeviceReport>> {
        self.report.get()
    }

    pub(crate) fn set_report(&self, report: Arc<DeviceReport>) {
        // Set once, when the socket is bound.
        let _ = self.report.set(report);
    }

    /// Whether datagrams to `local` are this socket's.
    pub fn matches(&self, local: SocketAddr) -> bool {
        self.local.port() == local.port()
            && if self.local.ip().is_unspecified() {
                // An IPv6 wildcard socket is dual-stack.
                self.local.is_ipv6() || local.is_ipv4()
            } else {
                self.local.ip() == local.ip()
            }
    }
}

/// Sockets by local port.
#[derive(Debug, Default)]
pub struct SocketPool {
    by_port: DashMap<u16, SmallVec<[Arc<Socket>; 1]>, RandomState>,
}

impl SocketPool {
    /// Adds a socket; of several on a port the specific come before the wildcard ones.
    pub fn insert(&self, socket: Arc<Socket>) {
        let mut sockets = self.by_port.entry(socket.local.port()).or_default();
        sockets.push(socket);
        sockets.sort_by_key(|socket| (socket.local.ip().is_unspecified(), socket.local.is_ipv6()));
    }

    /// Removes a socket.
    pub fn remove(&self, socket: &Arc<Socket>) {
        let port = socket.local.port();
        if let Some(mut sockets) = self.by_port.get_mut(&port) {
            sockets.retain(|other| !Arc::ptr_eq(other, socket));
        }
        self.by_port.remove_if(&port, |_, sockets| sockets.is_empty());
    }

    /// The socket a datagram to `local` belongs to: a specific address before a wildcard.
    pub fn find(&self, local: SocketAddr) -> Option<Arc<Socket>> {
        self.by_port.get(&local.port())?.iter().find(|socket| socket.matches(local)).cloned()
    }

    /// All sockets: for the status, not the hot path.
    pub fn all(&self) -> Vec<Arc<Socket>> {
        self.by_port.iter().flat_map(|sockets| sockets.value().to_vec()).collect()
    }

    /// Whether some socket is bound to exactly this address.
    pub fn is_bound(&self, local: SocketAddr) -> bool {
        self.by_port
            .get(&local.port())
            .is_some_and(|sockets| sockets.iter().any(|socket| socket.local == local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn pool(addresses: &[&str]) -> (SocketPool, Vec<Arc<Socket>>) {
        let pool = SocketPool::default();
        let sockets: Vec<_> = addresses.iter().map(|text| Arc::new(Socket::new(addr(text)))).collect();
        sockets.iter().for_each(|socket| pool.insert(socket.clone()));
        (pool, sockets)
    }

    #[test]
    fn a_specific_address_comes_before_a_wildcard_whatever_the_order() {
        for order in [["0.0.0.0:443", "10.0.0.1:443"], ["10.0.0.1:443", "0.0.0.0:443"]] {
            let (pool, _) = pool(&order);
            assert_eq!(pool.find(addr("10.0.0.1:443")).expect("bound").local, addr("10.0.0.1:443"));
            assert_eq!(pool.find(addr("10.0.0.2:443")).expect("bound").local, addr("0.0.0.0:443"));
        }
    }

    #[test]
    fn other_ports_and_other_addresses_find_nothing() {
        let (pool, _) = pool(&["10.0.0.1:443"]);
        assert!(pool.find(addr("10.0.0.1:444")).is_none());
        assert!(pool.find(addr("10.0.0.2:443")).is_none());
    }

    #[test]
    fn an_ipv6_wildcard_takes_both_families_and_an_ipv4_one_its_own() {
        let (v6, _) = pool(&["[::]:443"]);
        assert!(v6.find(addr("10.0.0.1:443")).is_some() && v6.find(addr("[fd00::1]:443")).is_some());
        let (v4, _) = pool(&["0.0.0.0:443"]);
        assert!(v4.find(addr("10.0.0.1:443")).is_some() && v4.find(addr("[fd00::1]:443")).is_none());
    }

    #[test]
    fn removing_one_of_two_leaves_the_other() {
        let (pool, sockets) = pool(&["10.0.0.1:443", "0.0.0.0:443"]);
        pool.remove(&sockets[0]);
        assert_eq!(pool.find(addr("10.0.0.1:443")).expect("bound").local, sockets[1].local);
        pool.remove(&sockets[1]);
        assert!(pool.find(addr("10.0.0.1:443")).is_none());
    }
}
