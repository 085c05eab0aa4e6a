//! QUIC stacks, ours and others', behind one face.

pub mod ours;
mod quinn;
mod s2n;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, time::Duration};

use bytes::Bytes;

pub use self::{ours::Ours, quinn::Quinn, s2n::S2n};
use crate::cert::Identity;

/// The code that clients of tests close with once all went well.
pub const DONE: u64 = 42;

/// A future that stays on its thread, as everything here does.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Why a stream or a connection ended otherwise than by its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer reset the stream with this code.
    Reset(u64),
    /// The peer asked to stop sending, with this code.
    Stopped(u64),
    /// The peer's application closed the connection with this code.
    Closed(u64),
    /// Anything else, in the stack's words.
    Broken(String),
}

/// What an endpoint is told.
#[derive(Clone, Debug)]
pub struct Setting {
    /// A server's certificate and key; to a client, what to trust.
    pub identity: Identity,
    /// The interface to use AF_XDP on, for a stack that can; `None` for the sockets of the system.
    pub interface: Option<String>,
    /// The application protocol.
    pub alpn: &'static [u8],
    /// Limits.
    pub tuning: Tuning,
}

/// Limits that every stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes the peer may send on a stream beyond what was read.
    pub stream_window: u32,
    /// Bytes the peer may send on all streams beyond what was read.
    pub connection_window: u32,
    /// Streams of each kind the peer may have open.
    pub streams: u32,
    /// Silence after which a connection is given up.
    pub idle: Duration,
    /// Time a handshake may take, in stacks that limit it.
    pub handshake: Duration,
    /// Largest UDP payload to send.
    pub udp_payload: u16,
}

/// A QUIC stack's endpoint.
pub trait Endpoint: Sized + 'static {
    /// Its connections.
    type Connection: Connection;

    /// A server, listening at an address.
    async fn server(at: SocketAddr, setting: &Setting) -> Result<Self, String>;

    /// A client, sending from an address.
    async fn client(at: SocketAddr, setting: &Setting) -> Result<Self, String>;

    /// The address listened at or sent from.
    fn local_addr(&self) -> Result<SocketAddr, String>;

    /// The next connection of a client, when it is through with its handshake. `None` once shut down.
    async fn accept(&mut self) -> Option<LocalFuture<Result<Self::Connection, Fault>>>;

    /// Connects to a server.
    async fn connect(&mut self, to: SocketAddr, server_name: &str) -> Result<Self::Connection, Fault>;

    /// What the stack knows of itself, for the message of a failure.
    fn describe(&self) -> String {
        String::new()
    }

    /// Closes what is open and waits until the peers were told.
    async fn shutdown(self);
}

/// A connection.
pub trait Connection: Clone + 'static {
    /// The sending side of its streams.
    type Sender: Sender;
    /// The receiving side of its streams.
    type Receiver: Receiver;

    /// Opens a bidirectional stream, when the peer's limit allows.
    async fn open_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault>;

    /// Opens a unidirectional stream, when the peer's limit allows.
    async fn open_uni(&self) -> Result<Self::Sender, Fault>;

    /// The next bidirectional stream of the peer.
    async fn accept_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault>;

    /// The next unidirectional stream of the peer.
    async fn accept_uni(&self) -> Result<Self::Receiver, Fault>;

    /// The application protocol agreed on.
    fn alpn(&self) -> Option<Bytes>;

    /// Closes the connection.
    fn close(&self, code: u64);
}

/// A stack that can send ahead of its handshake's end.
pub trait Early: Endpoint {
    /// Connects to a server once more. What is sent at once is early data; the future tells whether the server took it.
    /// `None`: the server has given no ticket (yet) that allows that; the handshake goes on as any other.
    async fn connect_early(
        &mut self,
        to: SocketAddr,
        server_name: &str,
    ) -> Result<(Self::Connection, Option<LocalFuture<bool>>), Fault>;
}

/// A connection with datagrams (RFC 9221).
pub trait Datagrams: Connection {
    /// Sends a datagram, which may be lost.
    fn send_datagram(&self, bytes: Bytes) -> Result<(), Fault>;

    /// The next datagram of the peer.
    async fn receive_datagram(&self) -> Result<Bytes, Fault>;
}

/// The sending side of a stream.
pub trait Sender: 'static {
    /// Sends bytes, when there is room.
    async fn send(&mut self, bytes: Bytes) -> Result<(), Fault>;

    /// Tells the peer that this was all. What was sent still arrives.
    async fn finish(self) -> Result<(), Fault>;

    /// Breaks off.
    fn reset(self, code: u64);
}

/// The receiving side of a stream.
pub trait Receiver: 'static {
    /// The next bytes; `None` at the end.
    async fn receive(&mut self) -> Result<Option<Bytes>, Fault>;

    /// Asks the peer to stop.
    fn stop(self, code: u64);
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            streams: 128,
            idle: Duration::from_secs(20),
            // The probe timeout starts at a second and doubles: a handshake that loses its first packets in a row
            // outlasts the stacks' own limits of 10 s, and no fault of theirs.
            handshake: Duration::from_secs(60),
            udp_payload: 1452,
        }
    }
}

impl Tuning {
    /// Windows of a few packets only, and few streams at once.
    pub fn tight() -> Self {
        Self { stream_window: 8 << 10, connection_window: 20 << 10, streams: 5, ..Self::default() }
    }

    /// Windows wider than anything sent in tests.
    pub fn wide() -> Self {
        Self { stream_window: 128 << 20, connection_window: 256 << 20, ..Self::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the stream was reset with {code}"),
            Self::Stopped(code) => write!(f, "the stream was stopped with {code}"),
            Self::Closed(code) => write!(f, "the connection was closed with {code}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}
