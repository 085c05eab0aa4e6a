//! TLS 1.3 for QUIC (RFC 9001): rustls on aws-lc-rs, with packets protected by ring, behind the session contract of
//! s2n-quic-core.
//!
//! [`ServerConfig`] and [`ClientConfig`] are what applications set up once and share among connections. Everything
//! else here serves the connection state machine: `Session` runs one handshake, `keys` protect packets in place.

mod client;
mod error;
pub(crate) mod hello;
mod initial;
mod key_log;
mod keys;
mod one_rtt;
mod pem;
mod protection;
mod server;
mod session;
mod suite;
mod tickets;
mod verified;
mod version_keys;

pub use client::ClientConfig;
pub use error::ConfigError;
pub(crate) use initial::{initial_keys, retry_tag};
pub use key_log::KeySink;
pub(crate) use keys::{HandshakeHeaderKey, HandshakeKey, ZeroRttHeaderKey, ZeroRttKey};
pub(crate) use one_rtt::{OneRttHeaderKey, OneRttKey};
pub use server::ServerConfig;
pub(crate) use session::Session;
pub use suite::CipherSuite;
pub use verified::RememberingVerifier;

#[cfg(test)]
pub(crate) mod tests;
