//! The cases, by the names the runner knows.

/// A case of the runner. What the network does in it (loss, corruption, rebinding, silence) is not the endpoints' doing;
/// they just have to bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// One connection, nothing special.
    Plain,
    /// One connection with windows so small that they have to grow.
    Transfer,
    /// Only ChaCha20-Poly1305 is offered.
    ChaCha20,
    /// The server asks the client to come again.
    Retry,
    /// The second connection continues the session of the first.
    Resumption,
    /// And asks for files ahead of its handshake's end.
    ZeroRtt,
    /// The client updates the keys early.
    KeyUpdate,
    /// The client goes on at the server's preferred address.
    ConnectionMigration,
    /// The client begins with a version that does not exist.
    VersionNegotiation,
    /// The client begins with version 1, and the server goes over to version 2.
    V2,
    /// A connection for each file.
    MultiConnect,
    /// Datagrams are echoed.
    Datagram,
}

const NAMES: &[(&str, Case)] = &[
    ("handshake", Case::Plain),
    ("longrtt", Case::Plain),
    ("multiplexing", Case::Plain),
    ("ecn", Case::Plain),
    ("amplificationlimit", Case::Plain),
    ("ipv6", Case::Plain),
    ("transfer", Case::Transfer),
    ("blackhole", Case::Transfer),
    ("transferloss", Case::Transfer),
    ("transfercorruption", Case::Transfer),
    ("rebind-port", Case::Transfer),
    ("rebind-addr", Case::Transfer),
    ("chacha20", Case::ChaCha20),
    ("retry", Case::Retry),
    ("resumption", Case::Resumption),
    ("zerortt", Case::ZeroRtt),
    ("keyupdate", Case::KeyUpdate),
    ("connectionmigration", Case::ConnectionMigration),
    ("v2", Case::V2),
    ("versionnegotiation", Case::VersionNegotiation),
    ("multiconnect", Case::MultiConnect),
    ("handshakeloss", Case::MultiConnect),
    ("handshakecorruption", Case::MultiConnect),
    ("datagram", Case::Datagram),
];

impl Case {
    /// The case of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, case)| *case)
    }
}
