//! A sans-IO QUIC connection state machine, versions 1 and 2.
//!
//! One [`Connection`] is one state machine. Datagrams and the time go in (`on_*`), datagrams and [`Event`]s come out
//! (`poll_*`), the application's wishes are plain calls. Nothing here reads a clock, opens a socket or starts a task.

mod ack;
pub mod cid;
pub mod config;
pub mod connection;
mod crypto;
pub mod datagram;
mod ecn;
pub mod endpoint;
mod error;
mod event;
mod frame;
mod header;
mod mtu;
mod net;
mod packet;
pub mod qlog;
pub mod quic_lb;
mod random;
mod recovery;
pub mod reset;
mod role;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod token;

pub use bytes::Bytes;
pub use s2n_quic_core::stream::{StreamId, StreamType};
pub use s2n_quic_core::time::{Clock, NoopClock, Timestamp};
pub use s2n_quic_core::varint::VarInt;

pub use cid::{CibirId, Cid, CidGenerator};
pub use config::{AckRequest, AddressDiscovery, TransportConfig};
pub use connection::{
    Connect, Connection, Counters, HandshakeOutcome, Limit, Limited, Limits as SendLimits, MigrateError,
    PathStats, Stats,
};
pub use endpoint::{
    DropCause, Endpoint, EndpointSettings, EndpointStats, Incoming, Limits, RetryPolicy, Unmatched,
};
pub use error::{CloseReason, ConnectError, TransportError};
pub use event::Event;
pub use header::{Header, HeaderError, LongHeader, LongKind, VERSION_1, VERSION_2, classify};
pub use net::{Ecn, NetPath, Transmit};
pub use quic_lb::QuicLb;
pub use random::Random;
pub use role::Role;
pub use token::TokenKey;
