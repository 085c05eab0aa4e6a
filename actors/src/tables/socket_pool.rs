//! The socket pool: from local port and addresses to the socket that owns a datagram.

use std::sync::{Arc, OnceLock};

use ahash::RandomState;
use dashmap::DashMap;
use smallvec::SmallVec;

use super::{Arrival, Carrier, Claim, LOCAL_CID_LEN};
use crate::{device::DeviceReport, egress::Egress, kit::Slot, listener::ListenerMessage};

/// A bound socket: what the demux finds by port.
#[derive(Debug)]
pub struct Socket {
    /// What it is bound to.
    pub claim: Claim,
    /// Bytes of the connection IDs that lead to it: what its short headers carry.
    pub cid_len: usize,
    /// The way out through the operating system's socket on the same port: for local destinations, and when
    /// AF_XDP is not there (any more).
    pub os: OnceLock<Arc<Egress>>,
    /// The listener on each partition, if anybody listens.
    pub listeners: OnceLock<Box<[Slot<ListenerMessage>]>>,
    report: OnceLock<Arc<DeviceReport>>,
}

impl Socket {
    /// A socket nobody listens on yet.
    pub fn new(claim: Claim) -> Self {
        Self {
            claim,
            cid_len: LOCAL_CID_LEN,
            os: OnceLock::new(),
            listeners: OnceLock::new(),
            report: OnceLock::new(),
        }
    }

    /// The same, with connection IDs of another length.
    #[must_use]
    pub fn with_cid_len(mut self, cid_len: usize) -> Self {
        self.cid_len = cid_len;
        self
    }

    /// What the OS UDP device on the port tells of itself.
    pub fn report(&self) -> Option<&Arc<DeviceReport>> {
        self.report.get()
    }

    pub(crate) fn set_report(&self, report: Arc<DeviceReport>) {
        // Set once, when the socket is bound.
        let _ = self.report.set(report);
    }
}

/// The sockets of a port, the best claim first. Mostly one.
type OfPort = SmallVec<[Arc<Socket>; 1]>;

/// Sockets by local port.
#[derive(Debug, Default)]
pub struct SocketPool {
    by_port: DashMap<u16, OfPort, RandomState>,
}

/// A socket, and for how long it is the answer.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) socket: Arc<Socket>,
    local: std::net::SocketAddr,
    carrier: Carrier,
    /// Whether the same local address and carrier always lead to it.
    lasting: bool,
}

impl Found {
    /// Whether a look-up would find the same: saves it for the next datagram of a batch.
    pub(crate) fn answers(&self, arrival: &Arrival<'_>) -> bool {
        self.lasting && self.local == arrival.local && self.carrier == arrival.carrier
    }
}

impl SocketPool {
    /// Adds a socket. False, and nothing done, if another has a claim that no datagram could tell from this one's.
    pub fn insert(&self, socket: Arc<Socket>) -> bool {
        let mut sockets = self.by_port.entry(socket.claim.local.port()).or_default();
        if sockets.iter().any(|other| other.claim.conflicts(&socket.claim)) {
            return false;
        }
        let rank = socket.claim.rank();
        let at = sockets.partition_point(|other| other.claim.rank() <= rank);
        sockets.insert(at, socket);
        true
    }

    /// Removes a socket.
    pub fn remove(&self, socket: &Arc<Socket>) {
        let port = socket.claim.local.port();
        if let Some(mut sockets) = self.by_port.get_mut(&port) {
            sockets.retain(|other| !Arc::ptr_eq(other, socket));
        }
        self.by_port.remove_if(&port, |_, sockets| sockets.is_empty());
    }

    /// The socket with the best claim to a datagram.
    pub fn find(&self, arrival: &Arrival<'_>) -> Option<Arc<Socket>> {
        self.look_up(arrival).map(|found| found.socket)
    }

    pub(crate) fn look_up(&self, arrival: &Arrival<'_>) -> Option<Found> {
        let sockets = self.by_port.get(&arrival.local.port())?;
        let socket = sockets.iter().find(|socket| socket.claim.takes(arrival))?.clone();
        let lasting = sockets.iter().all(|socket| socket.claim.is_plain());
        Some(Found { socket, local: arrival.local, carrier: arrival.carrier, lasting })
    }

    /// All sockets: for the status, not the hot path.
    pub fn all(&self) -> Vec<Arc<Socket>> {
        self.by_port.iter().flat_map(|sockets| sockets.value().to_vec()).collect()
    }

    /// Whether a socket with such a claim could not be added.
    pub fn is_taken(&self, claim: &Claim) -> bool {
        self.by_port
            .get(&claim.local.port())
            .is_some_and(|sockets| sockets.iter().any(|socket| socket.claim.conflicts(claim)))
    }
}

#[cfg(test)]
mod tests;
