//! Endpoints and whole connections: what the answers do to a client.

use bytes::Bytes;

use super::*;
use crate::connection::Connect;
use crate::error::CloseReason;
use crate::event::Event;
use crate::net::Ecn;

/// Datagrams a run may take before it is said to hang.
const MAX_DATAGRAMS: usize = 200;

/// A client, and a server's endpoint with the connections it accepted.
struct Net {
    world: World,
    client: Connection,
    server: Option<Connection>,
    events: Vec<Event>,
}

fn roots() -> (tls::ClientConfig, tls::ServerConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = tls::ServerConfig::new(pem.as_bytes(), key.as_bytes()).unwrap().alpn(["test"]);
    (tls::ClientConfig::new(pem.as_bytes()).unwrap().alpn(["test"]), server)
}

fn client(world: &World, tls: &tls::ClientConfig, version: u32, token: Bytes) -> Connection {
    let connect = Connect {
        config: Arc::default(),
        tls,
        server_name: "localhost",
        cids: Arc::new(RandomCids::seeded(77)),
        path: NetPath { local: world.path.remote, remote: world.path.local },
        token,
        version,
        random: Random::from_seed([5; 32]),
    };
    Connection::connect(connect, world.now).unwrap()
}

fn net(settings: EndpointSettings, version: u32, token: Bytes) -> (Net, tls::ClientConfig) {
    let (client_tls, server_tls) = roots();
    let mut world = with(settings);
    world.endpoint.tls = Some(server_tls);
    let client = client(&world, &client_tls, version, token);
    (Net { world, client, server: None, events: Vec::new() }, client_tls)
}

fn datagram_of(connection: &mut Connection, now: Timestamp) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1500];
    let transmit = connection.poll_transmit(now, &mut buffer, 1)?;
    buffer.truncate(transmit.len);
    Some(buffer)
}

impl Net {
    /// Runs until both sides are silent.
    fn run(&mut self) {
        for _ in 0..MAX_DATAGRAMS {
            self.world.now += Duration::from_millis(1);
            let to_server = datagram_of(&mut self.client, self.world.now);
            let to_client = self.server.as_mut().and_then(|server| datagram_of(server, self.world.now));
            if to_server.is_none() && to_client.is_none() {
                return;
            }
            if let Some(datagram) = to_server {
                self.on_server_datagram(datagram);
            }
            if let Some(datagram) = to_client {
                self.on_client_datagram(datagram);
            }
            while self.server.as_mut().and_then(Connection::poll_event).is_some() {}
        }
        panic!("they never stop talking");
    }

    fn on_server_datagram(&mut self, mut datagram: Vec<u8>) {
        let World { now, path, .. } = self.world;
        if let Some(server) = &mut self.server {
            return server.on_datagram(now, path, Ecn::NotEct, &mut datagram);
        }
        match self.world.meet(&datagram) {
            Unmatched::Respond { len } => {
                let answer = self.world.response[..len].to_vec();
                self.on_client_datagram(answer);
            }
            Unmatched::Accept(incoming) => {
                let mut server = self.world.endpoint.accept(now, incoming).unwrap();
                server.on_datagram(now, path, Ecn::NotEct, &mut datagram);
                self.server = Some(server);
            }
            Unmatched::Drop(cause) => panic!("{cause:?}"),
        }
    }

    fn on_client_datagram(&mut self, mut datagram: Vec<u8>) {
        let path = NetPath { local: self.world.path.remote, remote: self.world.path.local };
        self.client.on_datagram(self.world.now, path, Ecn::NotEct, &mut datagram);
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn connected(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::HandshakeConfirmed))
    }

    fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    fn token(&self) -> Option<Bytes> {
        self.events.iter().find_map(|event| match event {
            Event::NewToken(token) => Some(token.clone()),
            _ => None,
        })
    }
}

#[test]
fn handshakes_are_counted_until_they_are_done() {
    for version in VERSIONS {
        let (mut net, _) = net(EndpointSettings::default(), version, Bytes::new());
        let hello = datagram_of(&mut net.client, net.world.now).unwrap();
        net.on_server_datagram(hello);
        assert_eq!(net.world.endpoint.stats().half_open, 1);
        net.run();
        assert!(net.connected(), "{:?}", net.closed());
        assert_eq!(net.world.endpoint.stats().half_open, 0);
        assert_eq!(net.world.endpoint.stats().connection_accepted, 1);
    }
}

#[test]
fn a_handshake_that_is_given_up_is_no_longer_counted() {
    let (mut net, _) = net(EndpointSettings::default(), VERSION_1, Bytes::new());
    let hello = datagram_of(&mut net.client, net.world.now).unwrap();
    net.on_server_datagram(hello);
    net.server = None;
    assert_eq!(net.world.endpoint.stats().half_open, 0);
}

#[test]
fn clients_follow_a_retry() {
    for version in VERSIONS {
        let settings = EndpointSettings { retry: RetryPolicy::Always, ..EndpointSettings::default() };
        let (mut net, _) = net(settings, version, Bytes::new());
        net.run();
        assert!(net.connected(), "{:?}", net.closed());
        assert_eq!(net.world.endpoint.stats().retry_sent, 1);
    }
}

#[test]
fn the_token_of_one_connection_saves_the_next_one_the_retry() {
    let settings = EndpointSettings { retry: RetryPolicy::Always, ..EndpointSettings::default() };
    let (mut net, tls) = net(settings, VERSION_1, Bytes::new());
    net.run();
    let token = net.token().expect("a token comes with NEW_TOKEN");
    net.world.path.remote.set_port(2222);
    net.client = client(&net.world, &tls, VERSION_1, token);
    net.server = None;
    net.events.clear();
    net.run();
    assert!(net.connected());
    assert_eq!(net.world.endpoint.stats().retry_sent, 1, "only the first time");
}

#[test]
fn tokens_may_be_off() {
    let settings = EndpointSettings { new_tokens: false, ..EndpointSettings::default() };
    let (mut net, _) = net(settings, VERSION_1, Bytes::new());
    net.run();
    assert!(net.connected() && net.token().is_none());
}

#[test]
fn a_client_whose_retry_token_is_no_good_is_told() {
    let settings = EndpointSettings { retry: RetryPolicy::Always, ..EndpointSettings::default() };
    let (mut net, _) = net(settings, VERSION_1, Bytes::new());
    let hello = datagram_of(&mut net.client, net.world.now).unwrap();
    net.on_server_datagram(hello);
    net.world.now += Duration::from_secs(60);
    // The server has lost its key meanwhile.
    net.world.endpoint.tokens = Tokens::new(Arc::new(TokenKey::random()));
    net.run();
    match net.closed() {
        Some(CloseReason::Transport { code, .. }) => assert_eq!(code.as_u64(), 0x0b),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_of_a_forgetful_server_is_reset() {
    let (mut net, _) = net(EndpointSettings::default(), VERSION_1, Bytes::new());
    net.run();
    assert!(net.connected());
    net.server = None;
    net.client.ping();
    // Shorter packets get no answer that could be told from a reset of another length: send a long one.
    let mut datagram = datagram_of(&mut net.client, net.world.now).unwrap();
    datagram.resize(60, 0);
    net.on_server_datagram(datagram);
    assert_eq!(net.closed(), Some(&CloseReason::StatelessReset));
}

#[test]
fn a_client_is_told_that_its_version_is_unknown() {
    let (mut net, _) = net(EndpointSettings::default(), VERSION_1, Bytes::new());
    let mut hello = datagram_of(&mut net.client, net.world.now).unwrap();
    // What a client of another version would send; ours drops the answer, since it lists the version it speaks
    // (RFC 9000 §6.2).
    hello[1..5].copy_from_slice(&0x5a5a_5a5a_u32.to_be_bytes());
    net.on_server_datagram(hello);
    assert_eq!(net.closed(), None);
    assert_eq!(net.world.endpoint.stats().negotiation_sent, 1);
}
