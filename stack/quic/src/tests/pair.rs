//! A client and a server with a network between them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::stream::StreamId;
use s2n_quic_core::time::{Clock, NoopClock, Timestamp};

use super::network::{Faults, Network};
use crate::cid::{CibirId, RandomCids};
use crate::config::TransportConfig;
use crate::connection::{Connect, Connection};
use crate::endpoint::{Endpoint, EndpointSettings, RetryPolicy, Unmatched};
use crate::error::CloseReason;
use crate::event::Event;
use crate::header::{VERSION_1, classify};
use crate::net::{Ecn, NetPath};
use crate::random::Random;
use crate::role::Role;
use crate::stream::ReadOutcome;
use crate::tls;
use crate::token::TokenKey;

/// Steps of a run before the test is taken to hang.
const MAX_STEPS: usize = 3_000_000;

/// Steps at one and the same time: more is a machine that spins.
const MAX_IDLE_STEPS: usize = 10_000;

/// Largest train of datagrams taken at a time.
const SEGMENTS: usize = 8;

pub(super) const NAME: &str = "localhost";

pub(super) struct Identity {
    pub(super) chain: String,
    pub(super) key: String,
}

pub(super) static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    Identity { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
});

pub(super) fn server_tls() -> tls::ServerConfig {
    tls::ServerConfig::new(IDENTITY.chain.as_bytes(), IDENTITY.key.as_bytes()).unwrap().alpn(["test"])
}

pub(super) fn client_tls() -> tls::ClientConfig {
    tls::ClientConfig::new(IDENTITY.chain.as_bytes()).unwrap().alpn(["test"])
}

pub(super) fn client_addr() -> std::net::SocketAddr {
    "192.0.2.1:5000".parse().unwrap()
}

pub(super) fn server_addr() -> std::net::SocketAddr {
    "198.51.100.2:443".parse().unwrap()
}

/// One end, with an application that reads everything and, if so told, sends it back.
pub(super) struct Side {
    pub(super) connection: Connection,
    pub(super) events: Vec<Event>,
    pub(super) received: BTreeMap<StreamId, Vec<u8>>,
    pub(super) finished: Vec<StreamId>,
    pub(super) released: BTreeMap<StreamId, u64>,
    pub(super) datagrams: Vec<Bytes>,
    /// Sends back what comes on bidirectional streams.
    pub(super) echo: bool,
    /// Reads streams as they become readable.
    pub(super) reads: bool,
    /// Where it believes to be.
    pub(super) net: NetPath,
}

impl Side {
    fn new(connection: Connection, net: NetPath) -> Self {
        Self {
            connection,
            events: Vec::new(),
            received: BTreeMap::new(),
            finished: Vec::new(),
            released: BTreeMap::new(),
            datagrams: Vec::new(),
            echo: false,
            reads: true,
            net,
        }
    }

    pub(super) fn has(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }

    pub(super) fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    /// Is a datagram for this connection, going by its first packet?
    fn takes(&self, datagram: &[u8]) -> bool {
        let cid_len = self.connection.local_cids().next().map_or(0, |cid| cid.len());
        let header = classify(datagram, cid_len);
        header.is_ok_and(|header| self.connection.local_cids().any(|cid| cid.as_slice() == header.dcid()))
    }

    fn poll_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.connection.poll_event() {
            any = true;
            match &event {
                Event::StreamReadable(id) if self.reads => self.read(*id),
                Event::SendReleased { id, bytes } => *self.released.entry(*id).or_default() += bytes,
                Event::DatagramReadable => {
                    while let Some(datagram) = self.connection.read_datagram() {
                        self.datagrams.push(datagram);
                    }
                }
                _ => {}
            }
            self.events.push(event);
        }
        any
    }

    pub(super) fn read(&mut self, id: StreamId) {
        loop {
            match self.connection.read(id) {
                Ok(ReadOutcome::Data(data)) => {
                    self.connection.release(id, data.len() as u64);
                    if self.echo && id.stream_type().is_bidirectional() {
                        self.connection.write(id, data.clone()).unwrap();
                    }
                    self.received.entry(id).or_default().extend_from_slice(&data);
                }
                Ok(ReadOutcome::Finished) => {
                    self.finished.push(id);
                    if self.echo && id.stream_type().is_bidirectional() {
                        self.connection.finish(id).unwrap();
                    }
                    return;
                }
                Ok(ReadOutcome::Blocked) | Err(_) => return,
            }
        }
    }
}

/// How a [`Pair`] is set up.
#[derive(Clone)]
pub(super) struct PairBuilder {
    pub(super) seed: u64,
    pub(super) faults: Faults,
    pub(super) client: TransportConfig,
    pub(super) server: TransportConfig,
    pub(super) client_tls: tls::ClientConfig,
    pub(super) server_tls: tls::ServerConfig,
    pub(super) server_name: &'static str,
    pub(super) version: u32,
    pub(super) retry: RetryPolicy,
    pub(super) token: Bytes,
    /// The CIBIR identifiers of client and server.
    pub(super) cibir: [Option<CibirId>; 2],
    /// When it begins.
    pub(super) start: Duration,
}

impl Default for PairBuilder {
    fn default() -> Self {
        Self {
            seed: 1,
            faults: Faults::default(),
            client: TransportConfig::default(),
            server: TransportConfig::default(),
            client_tls: client_tls(),
            server_tls: server_tls(),
            server_name: NAME,
            version: VERSION_1,
            retry: RetryPolicy::Never,
            token: Bytes::new(),
            cibir: [None; 2],
            start: Duration::from_secs(1),
        }
    }
}

impl PairBuilder {
    pub(super) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(super) fn faults(mut self, change: impl FnOnce(&mut Faults)) -> Self {
        change(&mut self.faults);
        self
    }

    pub(super) fn client(mut self, change: impl FnOnce(TransportConfig) -> TransportConfig) -> Self {
        self.client = change(self.client);
        self
    }

    pub(super) fn server(mut self, change: impl FnOnce(TransportConfig) -> TransportConfig) -> Self {
        self.server = change(self.server);
        self
    }

    pub(super) fn both(self, change: impl Fn(TransportConfig) -> TransportConfig) -> Self {
        self.client(&change).server(&change)
    }

    pub(super) fn build(self) -> Pair {
        let now = NoopClock.get_time() + self.start;
        let net = NetPath { local: client_addr(), remote: server_addr() };
        let connect = Connect {
            config: Arc::new(self.client.clone()),
            tls: &self.client_tls,
            server_name: self.server_name,
            cids: cids(self.seed * 2, self.cibir[0]),
            path: net,
            token: self.token.clone(),
            version: self.version,
            random: Random::from_seed([self.seed as u8; 32]),
        };
        let client = Connection::connect(connect, now).unwrap();
        let network = Network::new(self.seed, self.faults.clone());
        let token_key = Arc::new(TokenKey::new(b"token key of the tests"));
        let settings = EndpointSettings { retry: self.retry, token_key, ..Default::default() };
        let cids = cids(self.seed * 2 + 1, self.cibir[1]);
        let endpoint = Endpoint::new(Arc::new(self.server), self.server_tls, cids)
            .with_settings(settings)
            .with_random(Random::from_seed([self.seed as u8 ^ 0xff; 32]));
        Pair {
            now,
            client: Side::new(client, net),
            server: None,
            network,
            endpoint,
            log: Vec::new(),
            buffer: vec![0; 65536],
            idle_steps: 0,
        }
    }

    /// Builds the pair and runs it until both sides have confirmed the handshake.
    pub(super) fn connected(self) -> Pair {
        let mut pair = self.build();
        pair.run_until(|pair| {
            pair.client.connection.is_handshake_confirmed()
                && pair.server.as_ref().is_some_and(|server| server.connection.is_handshake_confirmed())
        });
        pair
    }
}

fn cids(seed: u64, cibir: Option<CibirId>) -> Arc<RandomCids> {
    let cids = RandomCids::seeded(seed);
    Arc::new(match cibir {
        Some(id) => cids.with_cibir(id),
        None => cids,
    })
}

/// What was sent: by whom, when, how long, and where to.
#[derive(Copy, Clone, Debug)]
pub(super) struct Logged {
    pub(super) role: Role,
    pub(super) at: Timestamp,
    pub(super) len: usize,
    pub(super) ecn: Ecn,
    pub(super) to: std::net::SocketAddr,
}

/// A client and a server with a network between them.
pub(super) struct Pair {
    pub(super) now: Timestamp,
    pub(super) client: Side,
    pub(super) server: Option<Side>,
    pub(super) network: Network,
    pub(super) endpoint: Endpoint,
    pub(super) log: Vec<Logged>,
    buffer: Vec<u8>,
    /// Steps since the time last changed.
    idle_steps: usize,
}

impl Pair {
    pub(super) fn server(&mut self) -> &mut Side {
        self.server.as_mut().expect("the server has a connection")
    }

    pub(super) fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Client => &mut self.client,
            Role::Server => self.server(),
        }
    }

    /// Starts the client anew, with connection IDs of another source.
    pub(super) fn replace_client_cids(&mut self, cids: Arc<dyn crate::cid::CidGenerator>) {
        let net = self.client.net;
        let connect = Connect {
            config: Arc::new(TransportConfig::default()),
            tls: &client_tls(),
            server_name: NAME,
            cids,
            path: net,
            token: Bytes::new(),
            version: VERSION_1,
            random: Random::from_seed([77; 32]),
        };
        self.client = Side::new(Connection::connect(connect, self.now).unwrap(), net);
    }

    /// Sends all that is ready to be sent, and takes all events.
    pub(super) fn flush(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for role in [Role::Client, Role::Server] {
            if role.is_server() && self.server.is_none() {
                continue;
            }
            loop {
                let now = self.now;
                let side = self.side(role);
                let events = side.poll_events();
                let wants = side.connection.wants_transmit(now);
                let Some(transmit) = side.connection.poll_transmit(now, &mut buffer, SEGMENTS) else {
                    if events {
                        continue;
                    }
                    break;
                };
                assert!(wants, "sent although it said there was nothing to send");
                let segment = transmit.segment_size.map_or(transmit.len, usize::from);
                for datagram in buffer[..transmit.len].chunks(segment) {
                    let (len, to) = (datagram.len(), transmit.path.remote);
                    self.log.push(Logged { role, at: now, len, ecn: transmit.ecn, to });
                    let mut path = transmit.path;
                    if role.is_client() {
                        // The address the network gives it, whatever it believes.
                        path.local = self.client.net.local;
                    }
                    self.network.send(now, role as usize, path, transmit.ecn, datagram);
                }
            }
        }
        self.buffer = buffer;
    }

    /// The next thing that happens. `false`: nothing ever will.
    pub(super) fn step(&mut self) -> bool {
        self.flush();
        let timeouts = [
            self.client.connection.poll_timeout(),
            self.server.as_ref().and_then(|server| server.connection.poll_timeout()),
            self.network.next_arrival(),
        ];
        let Some(next) = timeouts.into_iter().flatten().min() else { return false };
        if next > self.now {
            self.idle_steps = 0;
        }
        self.idle_steps += 1;
        assert!(
            self.idle_steps < MAX_IDLE_STEPS,
            "time stands still: {timeouts:?} at {:?}\n{:#?}\n{:#?}",
            self.now,
            self.client.connection,
            self.server.as_ref().map(|server| &server.connection)
        );
        self.now = self.now.max(next);
        while let Some(datagram) = self.network.deliver(self.now) {
            self.deliver(datagram.path, datagram.ecn, datagram.bytes);
        }
        let now = self.now;
        for side in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
            if side.connection.poll_timeout().is_some_and(|at| at <= now) {
                side.connection.on_timeout(now);
            }
        }
        self.flush();
        true
    }

    /// A datagram arrives; its path is seen from the sender.
    pub(super) fn deliver(&mut self, path: NetPath, ecn: Ecn, mut bytes: Vec<u8>) {
        let now = self.now;
        let seen = NetPath { local: path.remote, remote: path.local };
        // The network routes a whole range to the server.
        if path.remote.ip().to_string().starts_with("198.51.100.") {
            if !self.server.as_ref().is_some_and(|server| server.takes(&bytes)) {
                self.on_unmatched(seen, &bytes);
            }
            if let Some(server) = self.server.as_mut().filter(|server| server.takes(&bytes)) {
                server.connection.on_datagram(now, seen, ecn, &mut bytes);
            }
        } else if path.remote == self.client.net.local {
            // The client knows itself by the address it chose.
            let seen = NetPath { local: self.client.connection.path().local, ..seen };
            self.client.connection.on_datagram(now, seen, ecn, &mut bytes);
        }
    }

    /// A datagram for the server that no connection claims.
    fn on_unmatched(&mut self, path: NetPath, datagram: &[u8]) {
        let mut response = [0; 1500];
        match self.endpoint.on_unmatched(self.now, path, datagram, &mut response) {
            Unmatched::Accept(incoming) if self.server.is_none() => {
                let connection = self.endpoint.accept(self.now, incoming).unwrap();
                self.server = Some(Side::new(connection, path));
            }
            Unmatched::Accept(_) | Unmatched::Drop(_) => {}
            Unmatched::Respond { len } => {
                let to = path.remote;
                self.log.push(Logged { role: Role::Server, at: self.now, len, ecn: Ecn::NotEct, to });
                self.network.send(self.now, Role::Server as usize, path, Ecn::NotEct, &response[..len]);
            }
        }
    }

    /// Runs until the condition holds.
    #[track_caller]
    pub(super) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..MAX_STEPS {
            self.flush();
            if done(self) {
                return;
            }
            if !self.step() {
                break;
            }
        }
        panic!(
            "it never happened; client: {:?} {:?}; server: {:?}",
            self.client.closed(),
            self.client.connection.stats(),
            self.server.as_ref().map(|server| (server.closed().cloned(), server.connection.stats())),
        );
    }

    /// Runs until nothing happens any more.
    pub(super) fn run_to_end(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return;
            }
        }
        panic!("it never ends");
    }

    /// Runs for some time.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MAX_STEPS {
            self.flush();
            let timeouts = [
                self.client.connection.poll_timeout(),
                self.server.as_ref().and_then(|server| server.connection.poll_timeout()),
                self.network.next_arrival(),
            ];
            match timeouts.into_iter().flatten().min() {
                Some(next) if next <= end => {
                    self.step();
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }
}
