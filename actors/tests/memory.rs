//! The actors over the in-memory network: no rights, no ports, any weather.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;
use wirepath_actors::{
    device::{Device, DeviceOptions},
    egress::Egress,
    kit::{Mailbox, Spawner},
    link::{Command, ConnectionLink, Phase, ReadEnd, StreamLink},
    listener::{AcceptRouter, AcceptSink},
    partition::{
        ConnectRequest, EndpointPlan, ListenRequest, PartitionMessage, PartitionParts, PartitionSupervisor,
    },
    pool_shard::SocketLease,
    tables::{Claim, Socket, Tables},
    tokens::{ServerId, TokenSink},
};
use wirepath_drivers::{Faults, MemoryNet};
use wirepath_quic::{NetPath, StreamType, TransportConfig, VarInt, cid::RandomCids, reset::ResetKey, tls};
use wirepath_trace::{Direction, Filter, JourneyRecord, Stage, Tracer};

/// A partition with one device on the network.
struct Host {
    supervisor: Mailbox<PartitionMessage>,
    parts: PartitionParts,
    egress: Arc<Egress>,
    socket: Arc<SocketLease>,
}

impl Host {
    async fn new(spawner: &Spawner, net: &MemoryNet, addr: &str) -> Self {
        let local: SocketAddr = addr.parse().expect("an address");
        let parts = PartitionParts {
            index: 0,
            tables: Arc::new(Tables::new(Tracer::new(1, 1 << 20))),
            timers: Arc::default(),
            load: Arc::default(),
            demux: Arc::default(),
            spin: Duration::ZERO,
            verify_checksums: true,
        };
        let supervisor = spawner
            .spawn(addr.into(), PartitionSupervisor::new(parts.clone()))
            .await
            .expect("the runtime is up");
        let options = DeviceOptions {
            demux: parts.demux.clone(),
            timers: parts.timers.clone(),
            tables: parts.tables.clone(),
            spin: Duration::ZERO,
            tracer: parts.tables.tracer.clone(),
        };
        let (device, egress, _) = Device::new(net.device(local.ip()), options);
        spawner.spawn(addr.into(), device).await.expect("the runtime is up");
        let socket = Arc::new(SocketLease::without_port(Arc::new(Socket::new(Claim::udp(local)))));
        assert!(parts.tables.sockets.insert((**socket).clone()));
        let egress = egress.get().expect("the device has started").clone();
        Self { supervisor, parts, egress, socket }
    }
}

/// A server and a client, connected.
struct World {
    spawner: Spawner,
    server: Host,
    client: Host,
    accept: Arc<AcceptSink>,
    roots: String,
    transport: Arc<TransportConfig>,
}

impl World {
    async fn new(faults: Faults) -> Self {
        let net = MemoryNet::real_time(7, faults);
        let spawner = Spawner::default();
        let server = Host::new(&spawner, &net, "10.0.0.1:443").await;
        let client = Host::new(&spawner, &net, "10.0.0.2:50000").await;
        let identity = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
        let transport = Arc::new(TransportConfig::default());
        let (accept, router) = (Arc::new(AcceptSink::default()), AcceptRouter::default());
        assert!(router.add(vec![b"test".to_vec()], accept.clone()));
        server.socket.listeners.set(Box::new([Default::default()])).expect("nobody listens yet");
        let (reply, listens) = oneshot::channel();
        let request = ListenRequest {
            endpoint: EndpointPlan {
                transport: transport.clone(),
                tls: tls::ServerConfig::new(chain.as_bytes(), key.as_bytes()).expect("valid").alpn(["test"]),
                cids: Arc::new(RandomCids::new(ResetKey::random())),
                settings: Default::default(),
            },
            socket: server.socket.clone(),
            accept: Arc::new(router),
            reply,
        };
        server.supervisor.send(PartitionMessage::Listen(Box::new(request))).expect("it lives");
        listens.await.expect("it listens");
        Self { spawner, server, client, accept, roots: chain, transport }
    }

    /// Connects, and waits until both sides are.
    async fn connect(&self) -> (Arc<ConnectionLink>, Arc<ConnectionLink>) {
        let (reply, link) = oneshot::channel();
        let request = ConnectRequest {
            transport: self.transport.clone(),
            tls: tls::ClientConfig::new(self.roots.as_bytes()).expect("valid").alpn(["test"]),
            server_name: "localhost".into(),
            tokens: TokenSink {
                store: Arc::default(),
                server: ServerId { name: "localhost".into(), address: self.server.socket.claim.local },
            },
            cids: Arc::new(RandomCids::new(ResetKey::random())),
            path: NetPath { local: self.client.socket.claim.local, remote: self.server.socket.claim.local },
            socket: self.client.socket.clone(),
            via: self.client.egress.clone(),
            reply,
        };
        self.client.supervisor.send(PartitionMessage::Connect(Box::new(request))).expect("it lives");
        let client = link.await.expect("answered").expect("started");
        client.established().await.expect("established");
        let server = self.accept.queue().pop().await.expect("accepted");
        (client, server)
    }
}

fn send(link: &ConnectionLink, stream: &StreamLink, data: Bytes) {
    link.command(Command::WriteLast(stream.id(), data));
}

async fn receive(link: &ConnectionLink, stream: &StreamLink) -> Result<Vec<u8>, ReadEnd> {
    let mut all = Vec::new();
    loop {
        match std::future::poll_fn(|cx| stream.poll_read(cx)).await {
            Ok((chunk, _)) => {
                all.extend_from_slice(&chunk);
                link.command(Command::Release(stream.id(), stream.take_untold()));
            }
            Err(ReadEnd::Finished) => return Ok(all),
            Err(end) => return Err(end),
        }
    }
}

/// Sends `len` bytes from client to server on a stream of its own, and compares.
async fn transfer(client: &ConnectionLink, server: &ConnectionLink, len: usize) {
    let data: Bytes = (0..len).map(|n| ((n * 7) ^ (n >> 9)) as u8).collect();
    let outgoing = client.open(StreamType::Unidirectional).await.expect("open");
    send(client, &outgoing, data.clone());
    let incoming = server.accept(StreamType::Unidirectional).await.expect("accept");
    assert!(receive(server, &incoming).await.expect("whole") == data);
}

#[tokio::test]
async fn data_survives_loss_reordering_duplication_and_corruption() {
    let faults = Faults {
        loss: 0.02,
        duplicate: 0.02,
        corrupt: 0.01,
        reorder: 0.02,
        reorder_by: Duration::from_millis(2),
        delay: Duration::from_micros(500),
        ..Faults::default()
    };
    let world = World::new(faults).await;
    let (client, server) = world.connect().await;
    transfer(&client, &server, 1 << 20).await;
    transfer(&server, &client, 1 << 20).await;
}

#[tokio::test]
async fn every_mailbox_balances_and_every_cid_goes_when_a_connection_closes() {
    let world = World::new(Faults::default()).await;
    let (client, server) = world.connect().await;
    transfer(&client, &server, 1 << 16).await;
    client.command(Command::Close(VarInt::from_u8(3), Bytes::from_static(b"done")));
    server.closed().await;
    while world.server.parts.tables.connections.len() + world.client.parts.tables.connections.len() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(
        world.server.parts.tables.reset_tokens.is_empty()
            && world.client.parts.tables.reset_tokens.is_empty()
    );
    assert!(world.server.parts.timers.is_empty() && world.client.parts.timers.is_empty());
    for actor in world.spawner.registry().actors() {
        let meter = actor.meter.snapshot();
        assert_eq!(
            meter.message_sent,
            meter.message_handled + meter.message_dropped + meter.depth,
            "{}",
            actor.kind()
        );
        assert!(actor.kind() != "connection", "connections have ended");
    }
}

#[tokio::test]
async fn a_killed_connection_is_unbound_and_its_peer_gets_a_stateless_reset() {
    let world = World::new(Faults::default()).await;
    let (client, server) = world.connect().await;
    transfer(&client, &server, 1000).await;
    server.actor().expect("it runs").kill();
    assert!(matches!(server.closed().await, wirepath_quic::CloseReason::Ended));
    // The peer's next packet meets nobody.
    let stream = client.open(StreamType::Unidirectional).await.expect("open");
    send(&client, &stream, Bytes::from_static(b"anybody there?"));
    assert_eq!(client.closed().await, wirepath_quic::CloseReason::StatelessReset);
}

#[tokio::test]
async fn a_killed_demux_is_started_again_and_connections_go_on() {
    let world = World::new(Faults::default()).await;
    let (client, server) = world.connect().await;
    world.server.parts.demux.mailbox().expect("it runs").kill();
    transfer(&client, &server, 1 << 16).await;
    assert!(matches!(client.phase(), Phase::Open(_)));
}

#[tokio::test]
async fn a_killed_listener_is_started_again_on_its_port_and_its_connections_go_on() {
    let world = World::new(Faults::default()).await;
    let (client, server) = world.connect().await;
    let slot = &world.server.socket.listeners.get().expect("it listens")[0];
    let former = slot.mailbox().expect("it runs");
    former.kill();
    transfer(&client, &server, 1 << 16).await;
    let (second, _) = world.connect().await;
    assert!(matches!(second.phase(), Phase::Open(_)));
    let successor = slot.mailbox().expect("it runs").id();
    assert_ne!(successor, former.id());
    // What the dashboard's tree tells of.
    let history = world.spawner.registry().history();
    let end = history.iter().find(|it| it.id == former.id()).expect("its end is remembered");
    assert_eq!((end.kind, end.failure.is_some(), end.successor), ("listener", true, Some(successor)));
}

/// Journeys of a host's datagrams, all of them whole: each hop begins where the one before ended.
fn journeys(host: &Host) -> Vec<JourneyRecord> {
    let (records, _) = host.parts.tables.tracer.read(0, usize::MAX);
    for record in &records {
        let sum: u64 = record.hops().iter().map(|hop| hop.wait + hop.run).sum();
        assert_eq!(sum, record.total(), "{record:?}");
    }
    records
}

fn stages(record: &JourneyRecord) -> Vec<Stage> {
    record.hops().iter().map(|hop| hop.stage).collect()
}

#[tokio::test]
async fn sampled_datagrams_are_followed_hop_by_hop_both_ways() {
    let world = World::new(Faults::default()).await;
    let (client, server) = world.connect().await;
    transfer(&client, &server, 1 << 18).await;
    let received = journeys(&world.server);
    let way = [Stage::Device, Stage::Demux, Stage::Connection, Stage::Quic, Stage::Stream];
    let delivered: Vec<_> = received.iter().filter(|record| stages(record) == way).collect();
    assert!(!delivered.is_empty(), "{received:?}");
    let actor = server.actor().expect("it runs").id();
    for record in &delivered {
        assert_eq!((record.outcome, record.connection), ("delivered", actor));
        assert_eq!(record.path, Some((world.server.socket.claim.local, world.client.socket.claim.local)));
        assert!(record.len > 0 && record.cid().len() == 8, "{record:?}");
    }
    assert!(
        received.iter().any(|record| {
            let stages = stages(record);
            stages.starts_with(&[Stage::Device, Stage::Demux, Stage::Listener])
                && record.outcome == "delivered"
        }),
        "the first datagram went by the listener"
    );
    let sent = journeys(&world.client);
    let way = [Stage::Application, Stage::Connection, Stage::Device, Stage::Ring];
    assert!(sent.iter().any(|record| stages(record) == way && record.outcome == "sent"), "{sent:?}");
}

#[tokio::test]
async fn an_armed_filter_follows_one_connection_and_keeps_drops_by_cause() {
    let world = World::new(Faults::default()).await;
    let tracer = &world.server.parts.tables.tracer;
    tracer.set_one_in(0);
    let (client, server) = world.connect().await;
    assert!(tracer.read(0, usize::MAX).0.is_empty(), "nothing is sampled");
    let peer = world.client.socket.claim.local;
    tracer.arm(Some(Filter { ip: Some(peer.ip()), port: Some(peer.port()), one_in: 1, ..Filter::default() }));
    transfer(&client, &server, 1 << 16).await;
    tracer.arm(None);
    let (records, next) = tracer.read(0, usize::MAX);
    for direction in [Direction::Rx, Direction::Tx] {
        assert!(records.iter().any(|record| record.direction == direction), "{direction:?}");
    }
    assert!(records.iter().all(|record| record.path.is_some_and(|(_, remote)| remote == peer)));

    // The demux drops what is for no socket of ours, and the filter keeps just that.
    let cause = "socket_unmatched_dropped";
    tracer.arm(Some(Filter { drop_cause: Some(cause.into()), ..Filter::default() }));
    world.server.parts.tables.sockets.remove(&world.server.socket);
    let stream = client.open(StreamType::Unidirectional).await.expect("open");
    send(&client, &stream, Bytes::from_static(b"anybody there?"));
    let kept = loop {
        let (records, _) = tracer.read(next, usize::MAX);
        // What was begun before may still end.
        if let Some(record) = records.into_iter().find(|record| record.outcome == cause) {
            break record;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!((kept.outcome, stages(&kept)), (cause, vec![Stage::Device, Stage::Demux]));
    assert!(world.server.parts.tables.drops.snapshot()[cause] > 0);
}

/// How far away the earliest deadline is when nothing but the idle timeout is ahead.
const QUIET: u64 = 5_000_000_000;

/// Bytes of an idle connection on the heap: state machine, actor, timer, entries in tables, link; and here the settings
/// and the token store that each client has for itself, and its share of the network's buffers.
const IDLE_BUDGET: i64 = 8192;

#[test]
fn an_idle_connection_is_small_with_its_actor_and_link() {
    const PAIRS: i64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let hold = async |world: &World, pairs| {
        let mut held = Vec::new();
        for _ in 0..pairs {
            let (client, server) = world.connect().await;
            transfer(&client, &server, 100).await;
            held.push((client, server));
        }
        let now = wirepath_trace::BatchClock::read;
        for host in [&world.client, &world.server] {
            while host.parts.timers.earliest().is_none_or(|earliest| earliest < now() + QUIET) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        held
    };
    let world = runtime.block_on(World::new(Faults::default()));
    for host in [&world.client, &world.server] {
        host.parts.tables.tracer.set_one_in(0);
    }
    // What a first connection sets up once is no connection's cost.
    let first = runtime.block_on(hold(&world, 1));
    let mut held = Vec::new();
    // Everything runs on this thread.
    let counted = allocation_counter::measure(|| held = runtime.block_on(hold(&world, PAIRS)));
    let each = counted.bytes_current / PAIRS / 2;
    println!("{each} bytes on the heap in {} blocks", counted.count_current / PAIRS / 2);
    assert!(each < IDLE_BUDGET, "{each} bytes each");
    // Having rested, they go on.
    let (client, server) = held.first().expect("they are held");
    runtime.block_on(transfer(client, server, 100_000));
    drop((held, first));
}
