//! One benchmark, any QUIC stack: the command line, the meters, the JSON line, and the client and server of a
//! small protocol, written once over the traits in [`transport`].
//!
//! The protocol is in the manner of draft-banks-quic-performance (ALPN `perf`): the client opens a
//! bidirectional stream and sends a big-endian `u64` N, any further bytes and FIN; the server reads to FIN
//! and answers with N bytes and FIN. N = 2^64-1 ([`DATAGRAM_QUERY`]) asks for eight bytes instead: how many
//! datagrams the server has received on this connection.

mod args;
pub mod client;
mod json;
mod latency;
mod meter;
mod server;
mod socket;
pub mod transport;

use bytes::Bytes;

pub use args::{Mode, Options, Role};
pub use json::Json;
pub use latency::Latencies;
pub use meter::{ALLOCATIONS, Meter, Sample, resident_bytes};
pub use server::serve_connection;

/// What goes wrong in a run. The text is for a person.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Of this crate and of the transports under it.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"perf";

/// The name every server's certificate is for.
pub const SERVER_NAME: &str = "localhost";

/// A request for the count of datagrams received, not for bytes.
pub const DATAGRAM_QUERY: u64 = u64::MAX;

/// Asked for by a bulk download: a petabyte, which no run bounded in time gets to the end of.
pub const ENDLESS: u64 = 1 << 50;

/// Bytes given to a transport in one write. Large enough that the calls cost nothing beside the packets, small
/// enough for many streams to take turns.
pub const WRITE_LEN: usize = 128 * 1024;

static ZEROS: [u8; WRITE_LEN] = [0; WRITE_LEN];

/// `len` zero bytes (at most [`WRITE_LEN`]), of one static buffer: sending them copies nothing.
pub fn zeros(len: usize) -> Bytes {
    Bytes::from_static(&ZEROS).slice(..len)
}

/// A request of `len` bytes (at least the eight of the number) that asks for `answer_len` bytes.
pub fn request(len: usize, answer_len: u64) -> Bytes {
    let mut request = vec![0; len.max(8)];
    request[..8].copy_from_slice(&answer_len.to_be_bytes());
    request.into()
}

/// The line a server prints once it listens; whoever started it waits for this.
pub const READY: &str = "READY";
