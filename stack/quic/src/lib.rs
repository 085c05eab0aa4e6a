//! A sans-IO QUIC v1 connection state machine.
//!
//! One [`Connection`] is one state machine. Datagrams and the time go in (`on_*`), datagrams and [`Event`]s come out
//! (`poll_*`), the application's wishes are plain calls. Nothing here reads a clock, opens a socket or starts a task.

mod ack;
pub mod cid;
pub mod config;
mod crypto;
mod error;
mod event;
mod frame;
mod net;
mod packet;
mod random;
mod recovery;
pub mod reset;
mod role;

pub use bytes::Bytes;
pub use s2n_quic_core::stream::{StreamId, StreamType};
pub use s2n_quic_core::time::Timestamp;
pub use s2n_quic_core::varint::VarInt;

pub use cid::{Cid, CidGenerator};
pub use config::TransportConfig;
pub use error::{CloseReason, ConnectError, TransportError};
pub use event::Event;
pub use net::{Ecn, NetPath, Transmit};
pub use random::Random;
pub use role::Role;
