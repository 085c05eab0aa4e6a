//! How fast the state machine is: a client and a server in one thread, their datagrams handed over in memory.
//!
//! `cargo run --release -p wirepath-quic --example in_memory` prints what one core does for both ends together: bulk
//! data, small requests, handshakes, and the allocations behind them. With arguments it does one thing, so much of it:
//! `in_memory bulk MIB`, `in_memory requests COUNT`, `in_memory handshakes COUNT`, `in_memory resumed COUNT`
//! (handshakes that go on with a session); `make instructions` counts what that takes. `in_memory logged-bulk MIB` is
//! the same with qlog on, on both ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use wirepath_quic::cid::RandomCids;
use wirepath_quic::stream::ReadOutcome;
use wirepath_quic::{
    Bytes, Clock, Connect, Connection, Endpoint, Event, NetPath, NoopClock, Random, StreamId, StreamType,
    Timestamp, TransportConfig, Unmatched, VERSION_1, tls,
};

const SEGMENTS: usize = 32;

/// Bytes moved before anything is measured.
const WARM_UP: u64 = 32 << 20;

struct World {
    tls: tls::ClientConfig,
    config: Arc<TransportConfig>,
    endpoint: Endpoint,
    now: Timestamp,
    seed: u64,
    /// Connections write logs, which go nowhere.
    logged: bool,
}

struct Pair {
    client: Connection,
    server: Connection,
    now: Timestamp,
    buffer: Vec<u8>,
    received: u64,
    answered: u64,
    /// Bytes each stream of the server is still to answer with.
    requests: VecDeque<StreamId>,
    echo: bool,
}

/// Processor time of this process so far: other programs on the machine don't count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number");
    Duration::from_nanos(nanos)
}

fn addresses() -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([10, 0, 0, 1], 5000)), SocketAddr::from(([10, 0, 0, 2], 443)))
}

impl World {
    fn new(config: TransportConfig) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let chain = made.cert.pem();
        let key = made.signing_key.serialize_pem();
        let server =
            tls::ServerConfig::new(chain.as_bytes(), key.as_bytes()).expect("its parts").alpn(["perf"]);
        let tls = tls::ClientConfig::new(chain.as_bytes()).expect("its parts").alpn(["perf"]);
        let config = Arc::new(config);
        let endpoint = Endpoint::new(config.clone(), server, Arc::new(RandomCids::seeded(1)));
        Self {
            tls,
            config,
            endpoint,
            now: NoopClock.get_time() + Duration::from_secs(1),
            seed: 2,
            logged: false,
        }
    }

    fn connect(&mut self) -> Pair {
        let (local, remote) = addresses();
        self.seed += 1;
        self.now += Duration::from_millis(1);
        let now = self.now;
        let connect = Connect {
            config: self.config.clone(),
            tls: &self.tls,
            server_name: "localhost",
            cids: Arc::new(RandomCids::seeded(self.seed)),
            path: NetPath { local, remote },
            token: Bytes::new(),
            version: VERSION_1,
            random: Random::from_os(),
        };
        let mut client = Connection::connect(connect, now).expect("a connection");
        if self.logged {
            client.start_qlog(now, Box::new(|_: &[u8]| {}));
        }
        let mut buffer = vec![0; 65536];
        let first = client.poll_transmit(now, &mut buffer, 1).expect("the first datagram");
        let path = NetPath { local: remote, remote: local };
        let incoming = match self.endpoint.on_unmatched(now, path, &buffer[..first.len], &mut [0; 1500]) {
            Unmatched::Accept(incoming) => incoming,
            other => panic!("{other:?}"),
        };
        let mut server = self.endpoint.accept(now, incoming).expect("a connection");
        if self.logged {
            server.start_qlog(now, Box::new(|_: &[u8]| {}));
        }
        server.on_datagram(now, path, first.ecn, &mut buffer[..first.len]);
        let mut pair = Pair {
            client,
            server,
            now,
            buffer,
            received: 0,
            answered: 0,
            requests: VecDeque::new(),
            echo: false,
        };
        while !(pair.client.is_handshake_confirmed() && pair.server.is_handshake_confirmed()) {
            pair.turn();
        }
        pair
    }
}

impl Pair {
    /// Moves what is ready to be sent both ways, and lets both applications react.
    fn turn(&mut self) {
        self.now += Duration::from_micros(20);
        let now = self.now;
        for from_client in [true, false] {
            let (from, to) = match from_client {
                true => (&mut self.client, &mut self.server),
                false => (&mut self.server, &mut self.client),
            };
            if from.poll_timeout().is_some_and(|at| at <= now) {
                from.on_timeout(now);
            }
            while let Some(transmit) = from.poll_transmit(now, &mut self.buffer, SEGMENTS) {
                let path = NetPath { local: transmit.path.remote, remote: transmit.path.local };
                let segment = transmit.segment_size.map_or(transmit.len, usize::from);
                for datagram in self.buffer[..transmit.len].chunks_mut(segment) {
                    to.on_datagram(now, path, transmit.ecn, datagram);
                }
            }
            self.applications();
        }
    }

    fn applications(&mut self) {
        while let Some(event) = self.server.poll_event() {
            if let Event::StreamReadable(id) = event {
                loop {
                    match self.server.read(id) {
                        Ok(ReadOutcome::Data(data)) => {
                            self.received += data.len() as u64;
                            self.server.release(id, data.len() as u64);
                        }
                        Ok(ReadOutcome::Finished) => {
                            if self.echo {
                                self.requests.push_back(id);
                            }
                            break;
                        }
                        _ => break,
                    }
                }
            }
        }
        while let Some(id) = self.requests.pop_front() {
            self.server.write(id, Bytes::from_static(&[7; 100])).expect("an open stream");
            self.server.finish(id).expect("an open stream");
        }
        while let Some(event) = self.client.poll_event() {
            if let Event::StreamReadable(id) = event {
                loop {
                    match self.client.read(id) {
                        Ok(ReadOutcome::Data(data)) => self.client.release(id, data.len() as u64),
                        Ok(ReadOutcome::Finished) => {
                            self.answered += 1;
                            break;
                        }
                        _ => break,
                    }
                }
            }
        }
    }
}

fn bulk(world: &mut World, mib: u64) {
    let mut pair = world.connect();
    let id = pair.client.open(StreamType::Unidirectional).expect("a stream");
    let chunk = Bytes::from(vec![5; 1 << 20]);
    let mut written = 0;
    let mut run = |pair: &mut Pair, until: u64| {
        while pair.received < until {
            while written < pair.received + (8 << 20) {
                pair.client.write(id, chunk.clone()).expect("an open stream");
                written += chunk.len() as u64;
            }
            pair.turn();
        }
    };
    // The window opens, and the memory of the steady state is there.
    run(&mut pair, WARM_UP);
    let before = pair.client.stats().counters;
    let start = cpu_time();
    let first = pair.received;
    let allocations: AllocationInfo = measure(|| run(&mut pair, first + (mib << 20)));
    let took = (cpu_time() - start).as_secs_f64();
    let bytes = (pair.received - first) as f64;
    let after = pair.client.stats().counters;
    let packets = (after.packet_sent - before.packet_sent) as f64;
    let stats = pair.client.stats();
    println!(
        "bulk: {:.2} Gbit/s, {:.0} ns a packet of {} bytes, {:.3} allocations a packet, {:.2} ACKs a packet; lost {}, window {}, rtt {:?}",
        bytes * 8.0 / took / 1e9,
        took * 1e9 / packets,
        stats.mtu,
        allocations.count_total as f64 / packets,
        (after.packet_received - before.packet_received) as f64 / packets,
        after.packet_lost,
        stats.congestion_window,
        stats.rtt,
    );
}

fn requests(world: &mut World, outstanding: usize, count: u64) {
    let mut pair = world.connect();
    pair.echo = true;
    let mut asked = 0_u64;
    let mut run = |pair: &mut Pair, until: u64| {
        while pair.answered < until {
            while asked < pair.answered + outstanding as u64 {
                let Some(id) = pair.client.open(StreamType::Bidirectional) else { break };
                pair.client.write(id, Bytes::from_static(&[1; 100])).expect("an open stream");
                pair.client.finish(id).expect("an open stream");
                asked += 1;
            }
            pair.turn();
        }
    };
    run(&mut pair, count / 10);
    let start = cpu_time();
    let first = pair.answered;
    let allocations = measure(|| run(&mut pair, first + count));
    let took = (cpu_time() - start).as_secs_f64();
    println!(
        "requests, {outstanding} outstanding: {:.0} a second, {:.0} ns each, {:.2} allocations each",
        count as f64 / took,
        took * 1e9 / count as f64,
        allocations.count_total as f64 / count as f64,
    );
}

/// Full handshakes, or with `resumed` such as go on with the session of the first.
fn handshakes(world: &mut World, resumed: bool, count: u32) {
    world.tls = world.tls.clone().resumption(resumed);
    world.connect();
    let start = cpu_time();
    let mut keep = Vec::new();
    let allocations = measure(|| {
        for _ in 0..count {
            keep.push(world.connect());
        }
    });
    let took = (cpu_time() - start).as_secs_f64();
    println!(
        "{} handshakes: {:.0} a second, {:.0} allocations each",
        if resumed { "resumed" } else { "full" },
        f64::from(count) / took,
        allocations.count_total as f64 / f64::from(count)
    );
}

fn idle(world: &mut World) {
    let mut pair = None;
    let connected = measure(|| pair = Some(world.connect()));
    let mut pair = pair.expect("a pair");
    pair.buffer = Vec::new();
    let mut buffer = vec![0; 2000];
    let quiet = measure(|| {
        for _ in 0..100 {
            pair.now += Duration::from_millis(100);
            pair.buffer = std::mem::take(&mut buffer);
            pair.turn();
            buffer = std::mem::take(&mut pair.buffer);
        }
    });
    println!(
        "idle: Connection {} bytes, heap of client and server together {} bytes",
        size_of::<Connection>(),
        connected.bytes_current + quiet.bytes_current - 65536
    );
}

fn config() -> TransportConfig {
    TransportConfig::default().pacing(false).idle_timeout(None)
}

fn everything() {
    const MIB: u64 = 2048;
    const REQUESTS: u64 = 400_000;
    let mut world = World::new(config());
    idle(&mut world);
    bulk(&mut world, MIB);
    bulk(&mut World::new(config().max_udp_payload(8972)), MIB);
    for outstanding in [1, 32, 256] {
        requests(&mut world, outstanding, REQUESTS);
    }
    handshakes(&mut world, true, 500);
    handshakes(&mut world, false, 500);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, amount] = &arguments[..] else { return everything() };
    let amount: u64 = amount.parse().expect("a number");
    let mut world = World::new(config());
    world.logged = what.starts_with("logged-");
    match what.trim_start_matches("logged-") {
        "bulk" => bulk(&mut world, amount),
        "requests" => requests(&mut world, 32, amount),
        "handshakes" => handshakes(&mut world, false, amount as u32),
        "resumed" => handshakes(&mut world, true, amount as u32),
        other => panic!("bulk, requests, handshakes or resumed, not {other}"),
    }
}
