//! The cases, by the names the runner knows.

use wirepath::Stats;

/// A case of the runner. What the network does in it (loss, corruption, rebinding, silence) is not the endpoints' doing;
/// they just have to bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// One connection, nothing special.
    Plain,
    /// One connection with windows so small that they have to grow.
    Transfer,
    /// Both ends mark their packets ECN-capable, and hear from each other that the marks came.
    Ecn,
    /// The server's certificates are so many that it has to wait until it knows the client's address.
    AmplificationLimit,
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
    ("ecn", Case::Ecn),
    ("amplificationlimit", Case::AmplificationLimit),
    ("ipv6", Case::Plain),
    ("transfer", Case::Transfer),
    ("blackhole", Case::Transfer),
    ("transferloss", Case::Transfer),
    ("transfercorruption", Case::Transfer),
    // A NAT moves the client, which knows nothing of it: the runner itself gives both ends `transfer` here.
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

    /// What of the case a connection at its end shows not to have happened.
    pub(super) fn missed(self, role: wirepath::Role, stats: &Stats) -> Option<&'static str> {
        match self {
            Self::Ecn if stats.counters.ecn_received == 0 => Some("the peer's packets carried no ECN marks"),
            Self::Ecn if stats.counters.ecn_reported == 0 => Some("the peer reported no ECN marks"),
            Self::Ecn if stats.ecn_failed => Some("the path failed ECN validation"),
            Self::AmplificationLimit if role.is_server() && stats.limits.path.count == 0 => {
                Some("the handshake never met the anti-amplification limit: the certificates are too small")
            }
            _ => None,
        }
    }
}
