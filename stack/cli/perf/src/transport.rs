//! What the benchmark asks of a QUIC stack.
//!
//! Everything runs inside the stack's own single-threaded runtime: the client and the server start their tasks
//! with `tokio::spawn`, so whoever calls them chooses the thread.

use std::future::Future;

use bytes::Bytes;

use crate::{Json, Result};

/// A stream's sending half.
pub trait Sender: Send + 'static {
    /// Queues bytes for sending, without copying where the stack can; waits for room in the send buffer.
    fn write(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// The last bytes and FIN, in one call where the stack has it. Need not wait for the acknowledgement.
    fn finish(&mut self, last: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// A stream's receiving half.
pub trait Receiver: Send + 'static {
    /// The next bytes in order; `None` at FIN.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Takes all bytes there are, drops them, and says how many; waits for the first. `None` at FIN.
    fn discard(&mut self) -> impl Future<Output = Result<Option<usize>>> + Send;
}

/// An established connection. Clones are handles of the same one; it lives as long as one of them.
pub trait Connection: Clone + Send + Sync + 'static {
    /// Its streams' sending halves.
    type Sender: Sender;
    /// Its streams' receiving halves.
    type Receiver: Receiver;

    /// Opens a bidirectional stream; waits while the peer's limit is reached.
    fn open(&self) -> impl Future<Output = Result<(Self::Sender, Self::Receiver)>> + Send;

    /// The peer's next bidirectional stream; `None` once the connection has ended.
    fn accept(&self) -> impl Future<Output = Option<(Self::Sender, Self::Receiver)>> + Send;

    /// The largest datagram that may be sent now; `None` where datagrams are not to be had.
    fn max_datagram(&self) -> Option<usize>;

    /// Sends a datagram; waits for room.
    fn send_datagram(&self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Waits for a datagram, takes all there are, and says how many.
    fn receive_datagrams(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Closes at once.
    fn close(&self);

    /// Adds what the stack knows of the connection (losses, round-trip time, …) to a result.
    #[must_use]
    fn report(&self, json: Json) -> Json {
        json
    }
}

/// Makes connections to the one server of a run.
pub trait Connector: Clone + Send + Sync + 'static {
    /// What it makes.
    type Connection: Connection;

    /// A new connection, after a full handshake.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection>> + Send;
}
