//! How much arrives: over the same seeded paths, our congestion control beside quinn-proto's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamEvent, TransportConfig, VarInt,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use s2n_quic_core::stream::StreamType;
use s2n_quic_core::time::{Clock, NoopClock, Timestamp};

use super::PairBuilder;
use super::network::{Faults, Network};
use super::pair::{NAME, client_addr, server_addr};
use crate::config::Congestion;
use crate::net::{Ecn, NetPath};

/// A path: bits per second, round trip in milliseconds, loss in 1/1000, and the bytes to carry over it.
#[derive(Copy, Clone, Debug)]
struct Path {
    bandwidth: u64,
    rtt: u64,
    loss: u32,
    bytes: usize,
}

/// Largest UDP payload on both sides.
const PAYLOAD: u16 = 1452;

/// More than any window needs.
const WINDOW: u64 = 1 << 30;

impl Path {
    fn faults(&self, faults: &mut Faults) {
        faults.bandwidth = self.bandwidth;
        faults.latency = Duration::from_micros(self.rtt * 500);
        faults.loss = self.loss;
        // A buffer of one bandwidth-delay product.
        faults.queue = (self.bandwidth / 8 * self.rtt / 1000).max(64 * 1024) as usize;
    }

    /// Seconds our connection takes for the bytes.
    fn ours(&self, seed: u64, congestion: Congestion) -> f64 {
        let mut pair = PairBuilder::default()
            .seed(seed)
            .faults(|faults| self.faults(faults))
            .both(|config| {
                config
                    .max_udp_payload(PAYLOAD)
                    .congestion(congestion)
                    .stream_window(WINDOW)
                    .max_stream_window(WINDOW)
                    .connection_window(WINDOW)
                    .max_connection_window(WINDOW)
                    .idle_timeout(None)
            })
            .connected();
        let start = pair.now;
        let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
        pair.client.connection.write(id, vec![7; self.bytes].into()).unwrap();
        pair.client.connection.finish(id).unwrap();
        pair.run_until(|pair| pair.server().finished.contains(&id));
        (pair.now - start).as_secs_f64()
    }

    /// Seconds quinn-proto takes.
    fn quinns(&self, seed: u64) -> f64 {
        let mut faults = Faults::default();
        self.faults(&mut faults);
        Quinn::new(seed, faults).transfer(self.bytes)
    }

    /// Our goodput by quinn-proto's, over some seeds.
    fn ratio(&self, seeds: u64, congestion: Congestion) -> (f64, f64) {
        let ours: f64 = (1..=seeds).map(|seed| self.ours(seed, congestion)).sum();
        let theirs: f64 = (1..=seeds).map(|seed| self.quinns(seed)).sum();
        let goodput = self.bytes as f64 * 8.0 * seeds as f64 / ours / 1e6;
        (goodput, theirs / ours)
    }
}

struct Side {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
}

/// Two endpoints of quinn-proto over our network, in our time.
struct Quinn {
    now: Timestamp,
    start: Timestamp,
    zero: Instant,
    sides: [Side; 2],
    network: Network,
    connected: bool,
    received: usize,
    finished: bool,
    /// It gave the connection up: so many gaps are more than its receiver keeps.
    lost: bool,
    left: usize,
    stream: Option<quinn_proto::StreamId>,
}

impl Quinn {
    fn new(seed: u64, faults: Faults) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
        let mut transport = TransportConfig::default();
        let window = VarInt::from_u64(WINDOW).unwrap();
        transport.stream_receive_window(window).receive_window(window).send_window(WINDOW);
        transport.max_idle_timeout(None);
        let transport = Arc::new(transport);
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut server = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
        server.transport_config(transport.clone());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        client.transport_config(transport);
        let seeded = |salt: u8| Some([seed as u8 ^ salt; 32]);
        let mut config = EndpointConfig::default();
        config.max_udp_payload_size(PAYLOAD).unwrap();
        let config = Arc::new(config);
        let mut client_endpoint = Endpoint::new(config.clone(), None, true, seeded(1));
        let server_endpoint = Endpoint::new(config, Some(Arc::new(server)), true, seeded(2));
        let zero = Instant::now();
        let connection = client_endpoint.connect(zero, client, server_addr(), NAME).unwrap();
        let start = NoopClock.get_time() + Duration::from_secs(1);
        Self {
            now: start,
            start,
            zero,
            sides: [
                Side { endpoint: client_endpoint, connection: Some(connection), address: client_addr() },
                Side { endpoint: server_endpoint, connection: None, address: server_addr() },
            ],
            network: Network::new(seed, faults),
            connected: false,
            received: 0,
            finished: false,
            lost: false,
            left: 0,
            stream: None,
        }
    }

    fn instant(&self) -> Instant {
        self.zero + self.now.saturating_duration_since(self.start)
    }

    /// Seconds it takes; without end if it gives up.
    fn transfer(mut self, bytes: usize) -> f64 {
        while !self.connected {
            self.step();
        }
        let begin = self.now;
        let (_, client) = self.sides[0].connection.as_mut().unwrap();
        self.stream = client.streams().open(Dir::Uni);
        self.left = bytes;
        while !self.finished {
            self.step();
            if self.lost {
                return f64::INFINITY;
            }
        }
        assert_eq!(self.received, bytes);
        (self.now - begin).as_secs_f64()
    }

    fn step(&mut self) {
        self.flush();
        let timeouts = [0, 1].map(|at| {
            let connection = self.sides[at].connection.as_mut();
            connection.and_then(|(_, connection)| connection.poll_timeout())
        });
        let timeouts = timeouts
            .into_iter()
            .flatten()
            // Our time counts microseconds, theirs nanoseconds.
            .map(|at| self.start + at.saturating_duration_since(self.zero) + Duration::from_micros(1))
            .chain(self.network.next_arrival());
        self.now = self.now.max(timeouts.min().expect("something happens"));
        let instant = self.instant();
        while let Some(datagram) = self.network.deliver(self.now) {
            let at = usize::from(datagram.path.remote == server_addr());
            let ecn = match datagram.ecn {
                Ecn::NotEct => None,
                Ecn::Ect0 => Some(EcnCodepoint::Ect0),
                Ecn::Ect1 => Some(EcnCodepoint::Ect1),
                Ecn::Ce => Some(EcnCodepoint::Ce),
            };
            let side = &mut self.sides[at];
            let data = bytes::BytesMut::from(&datagram.bytes[..]);
            let mut buffer = Vec::new();
            match side.endpoint.handle(instant, datagram.path.local, None, ecn, data, &mut buffer) {
                Some(DatagramEvent::NewConnection(incoming)) => {
                    side.connection = side.endpoint.accept(incoming, instant, &mut buffer, None).ok();
                }
                Some(DatagramEvent::ConnectionEvent(_, event)) => {
                    if let Some((_, connection)) = &mut side.connection {
                        connection.handle_event(event);
                    }
                }
                _ => {}
            }
        }
        for side in &mut self.sides {
            if let Some((_, connection)) = &mut side.connection
                && connection.poll_timeout().is_some_and(|at| at <= instant)
            {
                connection.handle_timeout(instant);
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let instant = self.instant();
        let mut buffer = Vec::with_capacity(64 * 1024);
        for at in [0, 1] {
            self.application(at);
            let peer = self.sides[1 - at].address;
            let side = &mut self.sides[at];
            let Some((handle, connection)) = &mut side.connection else { continue };
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = side.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            loop {
                buffer.clear();
                let Some(transmit) = connection.poll_transmit(instant, 8, &mut buffer) else { break };
                let ecn = if transmit.ecn.is_some() { Ecn::Ect0 } else { Ecn::NotEct };
                let path = NetPath { local: side.address, remote: peer };
                for datagram in buffer[..transmit.size].chunks(transmit.segment_size.unwrap_or(transmit.size))
                {
                    self.network.send(self.now, at, path, ecn, datagram);
                }
            }
        }
    }

    fn application(&mut self, at: usize) {
        let Some((_, connection)) = &mut self.sides[at].connection else { return };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected if at == 0 => self.connected = true,
                Event::Stream(StreamEvent::Opened { dir }) => {
                    while let Some(id) = connection.streams().accept(dir) {
                        self.stream = Some(id);
                    }
                }
                Event::ConnectionLost { .. } => self.lost = true,
                _ => {}
            }
        }
        let Some(id) = self.stream else { return };
        if at == 0 {
            let piece = [7; 16 * 1024];
            while self.left > 0 {
                let take = self.left.min(piece.len());
                match connection.send_stream(id).write(&piece[..take]) {
                    Ok(written) => self.left -= written,
                    Err(_) => break,
                }
                if self.left == 0 {
                    connection.send_stream(id).finish().unwrap();
                }
            }
        } else if !self.finished {
            let mut stream = connection.recv_stream(id);
            let Ok(mut chunks) = stream.read(true) else { return };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => self.received += chunk.bytes.len(),
                    Ok(None) => {
                        self.finished = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            let _ = chunks.finalize();
        }
    }
}

/// One cheap comparison for every day.
#[test]
fn goodput_is_that_of_quinn_on_a_plain_path() {
    let path = Path { bandwidth: 20_000_000, rtt: 20, loss: 0, bytes: 2_000_000 };
    let (goodput, ratio) = path.ratio(1, Congestion::Cubic);
    assert!(ratio >= 0.95, "{goodput:.1} Mbit/s, {ratio:.3} of quinn-proto's");
}

#[test]
fn bbr_fills_a_path_that_loses_packets() {
    let path = Path { bandwidth: 20_000_000, rtt: 40, loss: 10, bytes: 4_000_000 };
    let cubic = path.ours(1, Congestion::Cubic);
    let bbr = path.ours(1, Congestion::Bbr);
    assert!(bbr < cubic / 2.0, "BBR {bbr:.2} s, CUBIC {cubic:.2} s");
    assert!(path.bytes as f64 * 8.0 / bbr > 0.7 * path.bandwidth as f64, "{bbr:.2} s");
}

/// The paths that are promised: 10 Mbit/s to 10 Gbit/s, 1 to 200 ms, up to 2 % loss. Prints a table.
#[test]
#[ignore = "slow"]
fn slow_goodput_is_within_a_twentieth_of_quinns() {
    const MBIT: u64 = 1_000_000;
    let paths = [
        (10 * MBIT, 1, 2_000_000),
        (10 * MBIT, 50, 4_000_000),
        (10 * MBIT, 200, 8_000_000),
        (100 * MBIT, 10, 20_000_000),
        (100 * MBIT, 100, 40_000_000),
        (1000 * MBIT, 1, 40_000_000),
        (1000 * MBIT, 50, 120_000_000),
        (10_000 * MBIT, 1, 120_000_000),
        (10_000 * MBIT, 10, 200_000_000),
        (10_000 * MBIT, 200, 200_000_000),
    ];
    let mut short = Vec::new();
    println!("Mbit/s | rtt ms | loss ‰ | CUBIC Mbit/s | by quinn's | BBR Mbit/s | by quinn's");
    for (bandwidth, rtt, bytes) in paths {
        for loss in [0, 1, 10, 20] {
            // With loss the window is small, and little shows as much.
            let bytes = if loss == 0 { bytes } else { bytes.min(4_000_000) };
            let path = Path { bandwidth, rtt, loss, bytes };
            let seeds = if loss == 0 { 1 } else { 8 };
            let (goodput, ratio) = path.ratio(seeds, Congestion::Cubic);
            let (bbr, bbr_ratio) = path.ratio(seeds, Congestion::Bbr);
            println!(
                "{:6} | {rtt:6} | {loss:6} | {goodput:12.1} | {ratio:10.3} | {bbr:10.1} | {bbr_ratio:10.3}",
                bandwidth / MBIT
            );
            if ratio < 0.95 {
                short.push((path, ratio));
            }
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}
