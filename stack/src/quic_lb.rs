//! QUIC-LB: connection IDs that carry a server's ID, and the XDP rules that steer by it.
//!
//! ```
//! use wirepath::{quic_lb::{self, QuicLb}, rules::Rules};
//!
//! // Configuration 0, server a1b2, in the clear: its packets to port 443 are taken, those of other servers not.
//! let server = QuicLb::plain(0, &[0xa1, 0xb2], 8)?;
//! let patterns = quic_lb::patterns(443, &server).expect("readable server IDs");
//! let rules = patterns.into_iter().fold(Rules::builder(), |list, pattern| list.redirect().quic_flow(pattern)).build()?;
//! # let _ = rules;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`ServerConfig::quic_lb`](crate::ServerConfig::quic_lb) makes a listener give out such IDs, and
//! [`ServerConfig::share_port`](crate::ServerConfig::share_port) sets these rules by itself.
//!
//! A client's first packets carry a connection ID of its own making, which tells no server: they go by the rules
//! behind, and by addresses at most. Encrypted server IDs tell nothing to whoever lacks the key, so an XDP rule can't
//! steer by them; give each server a port or an address of its own, or use IDs in the clear within a network where
//! others may link them.

pub use wirepath_quic::quic_lb::{QuicLb, QuicLbError};
use wirepath_wire::rules::{CidField, CidPattern};

/// What XDP rules know a server's packets to `port` by: its connection IDs in short headers, and in long ones once
/// the client has learnt one. `None` for encrypted ones.
pub fn patterns(port: u16, server: &QuicLb) -> Option<[CidPattern; 2]> {
    let prefix = server.prefix()?;
    let pattern = |field| CidPattern::new(port, field, 0, prefix.as_slice()).ok();
    Some([pattern(CidField::ShortDestination)?, pattern(CidField::LongDestination)?])
}
