//! Plans: what a client asks of a server, stream by stream, and what came of it.

use std::{fmt, ops::Range, time::Duration};

use crate::peers::Fault;

/// Bytes of the request that opens every stream of a client.
pub(super) const REQUEST: usize = 25;

/// One stream's worth of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A bidirectional stream: that many bytes each way, at the same time, told good by both ends.
    Both {
        /// Bytes from the client.
        up: u64,
        /// Bytes from the server.
        down: u64,
    },
    /// The same on a unidirectional stream each way.
    Apart {
        /// Bytes from the client.
        up: u64,
        /// Bytes from the server.
        down: u64,
    },
    /// The server resets its side with this code once it has sent some bytes.
    ServerResets(u64),
    /// The server asks the client to stop, with this code, while that would send for ever.
    ServerStops(u64),
    /// The client resets its side with this code, and the server tells it what it saw.
    ClientResets(u64),
    /// The client asks the server to stop, with this code, while that would send for ever; the server tells it
    /// on another stream what it saw.
    ClientStops(u64),
}

/// What one client does.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// Carried out on each connection.
    pub exchanges: Vec<Exchange>,
    /// How many exchanges of a connection go on at once.
    pub at_once: usize,
    /// Connections, one after the other.
    pub connections: usize,
}

/// What came of a plan at the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections with a finished handshake and the right ALPN.
    pub connections: usize,
    /// Exchanges that went as planned.
    pub exchanges: usize,
    /// Bytes sent, and told good by the server.
    pub up: u64,
    /// Bytes received, and found good.
    pub down: u64,
    /// From the first packet on.
    pub took: Duration,
}

/// What a server saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections accepted.
    pub connections: usize,
    /// Streams served.
    pub streams: usize,
    /// Connections that a client, or somebody's damaged packet, began and that came to nothing.
    pub failed_handshakes: Vec<Fault>,
    /// How connections ended.
    pub ends: Vec<Fault>,
    /// What went wrong on streams.
    pub faults: Vec<String>,
    /// What the stack says of itself, if connections were still open at the end.
    pub open: String,
}

/// Why a plan failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(
    /// In words.
    pub String,
);

impl Plan {
    /// A handshake and a close.
    pub fn handshake() -> Self {
        Self { exchanges: Vec::new(), at_once: 1, connections: 1 }
    }

    /// One bidirectional stream with that many bytes each way.
    pub fn bytes(count: u64) -> Self {
        Self::of([Exchange::Both { up: count, down: count }])
    }

    /// One bidirectional stream that brings that many bytes from the server.
    pub fn download(count: u64) -> Self {
        Self::of([Exchange::Both { up: 0, down: count }])
    }

    /// One bidirectional stream that takes that many bytes to the server.
    pub fn upload(count: u64) -> Self {
        Self::of([Exchange::Both { up: count, down: 0 }])
    }

    /// All these exchanges at once.
    pub fn of(exchanges: impl Into<Vec<Exchange>>) -> Self {
        let exchanges = exchanges.into();
        Self { at_once: exchanges.len().max(1), exchanges, connections: 1 }
    }

    /// Streams of both kinds, with sizes between 0 and `most` bytes that differ by orders of magnitude, all at
    /// once.
    pub fn mixed(streams: usize, most: u64) -> Self {
        let sizes = [0, 1, 100, 1200, 5000, 64 << 10, 300_000, most];
        let size = |number: usize| sizes[number % sizes.len()].min(most);
        let exchange = |number| {
            let (up, down) = (size(number), size(number / 3 + 5));
            if number % 4 == 3 { Exchange::Apart { up, down } } else { Exchange::Both { up, down } }
        };
        Self::of((0..streams).map(exchange).collect::<Vec<_>>())
    }

    /// Every way to break a stream off, beside streams that go on.
    pub fn resets() -> Self {
        let whole = Exchange::Both { up: 100_000, down: 100_000 };
        Self::of([
            Exchange::ServerResets(7),
            whole,
            Exchange::ServerStops(8),
            Exchange::ClientResets(9),
            whole,
            Exchange::ClientStops((1 << 62) - 1),
        ])
    }

    /// The same on several connections, one after the other.
    pub fn on_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Bytes from the client on all connections, as planned.
    pub fn up(&self) -> u64 {
        self.total(|exchange| exchange.bytes().0)
    }

    /// Bytes from the server on all connections, as planned.
    pub fn down(&self) -> u64 {
        self.total(|exchange| exchange.bytes().1)
    }

    fn total(&self, count: impl Fn(&Exchange) -> u64) -> u64 {
        self.exchanges.iter().map(count).sum::<u64>() * self.connections as u64
    }
}

impl Exchange {
    /// Planned bytes up and down; none where the stream is broken off.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match *self {
            Self::Both { up, down } | Self::Apart { up, down } => (up, down),
            _ => (0, 0),
        }
    }

    /// The request: kind, seed of the patterns, and two numbers.
    pub(super) fn encode(&self, seed: u64) -> [u8; REQUEST] {
        let (kind, first, second) = match *self {
            Self::Both { up, down } => (0, up, down),
            Self::Apart { up, down } => (1, up, down),
            Self::ServerResets(code) => (2, code, 0),
            Self::ServerStops(code) => (3, code, 0),
            Self::ClientResets(code) => (4, code, 0),
            Self::ClientStops(code) => (5, code, 0),
        };
        let mut request = [0; REQUEST];
        request[0] = kind;
        for (range, number) in FIELDS.into_iter().zip([seed, first, second]) {
            request[range].copy_from_slice(&number.to_be_bytes());
        }
        request
    }

    /// Reads a request.
    pub(super) fn decode(request: &[u8; REQUEST]) -> Option<(Self, u64)> {
        let [seed, first, second] = FIELDS
            .map(|range| u64::from_be_bytes(request[range].try_into().expect("each field is eight bytes")));
        let exchange = match request[0] {
            0 => Self::Both { up: first, down: second },
            1 => Self::Apart { up: first, down: second },
            2 => Self::ServerResets(first),
            3 => Self::ServerStops(first),
            4 => Self::ClientResets(first),
            5 => Self::ClientStops(first),
            _ => return None,
        };
        Some((exchange, seed))
    }
}

const FIELDS: [Range<usize>; 3] = [1..9, 9..17, 17..25];

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Exchanges written out; more would bury the rest of a message.
        const SHOWN: usize = 6;
        let Self { exchanges, at_once, connections } = self;
        write!(f, "{} exchanges, {at_once} at once, on {connections} connections: ", exchanges.len())?;
        f.debug_list().entries(exchanges.iter().take(SHOWN)).finish()
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
