//! The tables the hot path reads: which connection owns a CID, which socket owns a port.
//!
//! Actors write them, the demux reads them; nobody walks them on the hot path.

mod claim;
mod departed;
mod socket_pool;

use std::sync::atomic::AtomicU64;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use ahash::RandomState;
use dashmap::DashMap;
use wirepath_drivers::RouteTable;
use wirepath_quic::Cid;
use wirepath_trace::Tracer;

pub use claim::{Arrival, Carrier, Carriers, Claim};
pub use departed::{Departed, QuicBooks};
pub(crate) use socket_pool::Found;
pub use socket_pool::{Socket, SocketPool};

use crate::{
    connection::ConnectionMessage, drops::Drops, kit::Mailbox, link::ConnectionLink, qlog::QlogBuffer,
    qtip::Flows,
};

/// Length of the CIDs we issue, in bytes, unless a CIBIR identifier makes them longer: what short headers carry and the
/// demux looks up. Eight random bytes can't be guessed and fit a word.
pub const LOCAL_CID_LEN: usize = 8;

/// A stateless reset token (RFC 9000 §10.3).
pub type ResetToken = [u8; 16];

/// All tables of one stack.
#[derive(Debug)]
pub struct Tables {
    /// Connections by local CID.
    pub connections: DashMap<Cid, Mailbox<ConnectionMessage>, RandomState>,
    /// Connections of servers during the handshake, by the client's address and source CID: where a long header leads
    /// whose destination CID is not ours.
    pub handshakes: DashMap<(SocketAddr, Cid), Mailbox<ConnectionMessage>, RandomState>,
    /// Connections by the stateless reset tokens their peers may send.
    pub reset_tokens: DashMap<ResetToken, Mailbox<ConnectionMessage>, RandomState>,
    /// Sockets by local port.
    pub sockets: SocketPool,
    /// The routes out of the interface AF_XDP is on.
    pub routes: OnceLock<RouteTable>,
    /// The TCP flows that carry QUIC datagrams.
    pub qtip: Flows,
    /// Datagrams given to be sent that went to no device then: they wait for their flow, or were dropped by name.
    pub sent_aside: AtomicU64,
    /// Packets that found no owner, or were not worth one.
    pub drops: Drops,
    /// What connections that have ended had dropped.
    pub departed_drops: Drops,
    /// What they found and made.
    pub departed: Departed,
    /// What live connections share with their applications, by actor: for the status, not the hot path.
    pub links: DashMap<u64, Arc<ConnectionLink>, RandomState>,
    /// Samples datagrams.
    pub tracer: Arc<Tracer>,
    /// Whether connections log what they do.
    pub logs_connections: bool,
    /// The logs of live connections, by actor, if so.
    pub qlogs: DashMap<u64, Arc<QlogBuffer>, RandomState>,
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(Tracer::off())
    }
}

impl Tables {
    /// Empty tables.
    pub fn new(tracer: Arc<Tracer>) -> Self {
        Self {
            connections: DashMap::default(),
            handshakes: DashMap::default(),
            reset_tokens: DashMap::default(),
            sockets: SocketPool::default(),
            routes: OnceLock::new(),
            qtip: Flows::default(),
            sent_aside: AtomicU64::new(0),
            drops: Drops::default(),
            departed_drops: Drops::default(),
            departed: Departed::default(),
            links: DashMap::default(),
            tracer,
            logs_connections: false,
            qlogs: DashMap::default(),
        }
    }
}
