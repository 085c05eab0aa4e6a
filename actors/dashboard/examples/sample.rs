//! Serves figures that look like those of a busy stack, without one: to work on the page.
//!
//! `cargo run -p wirepath-dashboard --example sample -- [ADDRESS] [CONNECTIONS]`, by default `127.0.0.1:9000 200`.
//! `--second 22` makes it that second of the minute for good, `--token` asks viewers for one, `--lose 3` has three
//! datagrams get lost between two actors.
//! One connection is slow at times (a jam), one listener dies once a minute, frames are held now and then.

use std::{borrow::Cow, sync::Arc, time::Duration};

use wirepath_dashboard::{
    ActorReading, ConnectionReading, Counters, Dashboard, DeviceReading, HopReading, KindReading, Limit,
    LimitsReading, Options, Reading, Source, StreamReading, StreamsReading, Token, TracerReading, Wants,
    api::{
        ConnectionRole, ConnectionState, DataPathInfo, Distribution, Ecn, FrameHolder, FrameSuspect,
        MessageKind, PathRow, PlaceCount, Ring, Rings, TombstoneRow, UmemLedger,
    },
};
use wirepath_trace::{BatchClock, Direction, HistogramSnapshot, MemoryPlan, Stage, Tracer};

/// The connection that is slow, by its place among them.
const SLOW: u64 = 3;
const FIRST_CONNECTION: u64 = 100;
const SECOND: u64 = 1_000_000_000;

struct Sample {
    tracer: Arc<Tracer>,
    connections: u64,
    /// The second of the minute it is, if it is always the same.
    second: Option<u64>,
    /// Datagrams that get lost between two actors.
    lost: u64,
}

fn main() {
    let (mut second, mut lost, mut options, mut rest) = (None, 0, Options::default(), Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--second" => {
                second = Some(args.next().and_then(|it| it.parse().ok()).expect("a second, 0 to 59"))
            }
            "--lose" => lost = args.next().and_then(|it| it.parse().ok()).expect("a number of datagrams"),
            "--token" => options.token = Some(Token::random().expect("randomness")),
            _ => rest.push(arg),
        }
    }
    let addr = rest.first().map_or("127.0.0.1:9000", String::as_str).parse().expect("an address and port");
    let connections = rest.get(1).map_or(200, |text| text.parse().expect("a number of connections"));
    let tracer = Tracer::new(1024, MemoryPlan::default().ring);
    let sample = Arc::new(Sample { tracer: tracer.clone(), connections, second, lost });
    let dashboard = Dashboard::bind(addr, options, sample).expect("the address is free");
    println!("{}", dashboard.url());
    loop {
        (0..5).for_each(|n| journeys(&tracer, BatchClock::read() + n));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A received and a sent datagram.
fn journeys(tracer: &Arc<Tracer>, seed: u64) {
    let noise = |salt: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(salt as u32) % 1000;
    let connection = FIRST_CONNECTION + noise(3) % 20;
    let now = BatchClock::read();
    let mut journey = tracer.begin(Direction::Rx, now);
    journey.set_path(
        "10.77.0.1:4433".parse().expect("an address"),
        format!("10.77.0.2:{}", 50_000 + connection).parse().expect("an address"),
        1200,
    );
    journey.hop(Stage::Device, 5, now, now + 700 + noise(1), 64);
    if noise(7) < 20 {
        journey.hop(Stage::Demux, 4, journey.end() + 300, journey.end() + 900, 64);
        return journey.finish("socket_unmatched_dropped");
    }
    let at = journey.end();
    journey.hop(Stage::Demux, 4, at + 400 + noise(5), at + 3000 + noise(9), 64);
    let (at, slow) = (journey.end(), if connection == FIRST_CONNECTION + SLOW { 3_000_000 } else { 0 });
    journey.set_cid(&connection.to_be_bytes());
    journey.set_connection(connection);
    journey.hop(Stage::Connection, connection, at + 900 + noise(11) * 9 + slow, at + 9900 + slow, 22);
    let at = journey.end();
    journey.hop(Stage::Quic, connection, at, at + 800 + noise(13), 1);
    let at = journey.end();
    journey.hop(Stage::Stream, connection, at + 7000 + noise(17), at + 9000 + noise(19), 1);
    journey.finish("delivered");

    let mut journey = tracer.begin(Direction::Tx, now);
    journey.set_path(
        "10.77.0.1:4433".parse().expect("an address"),
        format!("10.77.0.2:{}", 50_000 + connection).parse().expect("an address"),
        1452,
    );
    journey.set_connection(connection);
    journey.hop(Stage::Application, 0, now + 1500 + noise(21), now + 2500, 1);
    let at = journey.end();
    journey.hop(Stage::Connection, connection, at, at + 40_000 + noise(23) * 10, 64);
    let at = journey.end();
    journey.hop(Stage::Device, 5, at + 900 + noise(27), at + 2000, 64);
    let at = journey.end();
    journey.hop(Stage::Ring, 5, at, at + 22_000 + noise(29) * 8, 64);
    let at = journey.end();
    journey.hop(Stage::Kernel, 0, at + 5000 + noise(31) * 4, at + 9000, 64);
    journey.finish("sent");
}

impl Source for Sample {
    fn tracer(&self) -> Arc<Tracer> {
        self.tracer.clone()
    }

    fn read(&self, wants: &Wants, _last: &Reading) -> Option<Reading> {
        let now = BatchClock::read();
        let at = |per_s: u64| (now as u128 * per_s as u128 / SECOND as u128) as u64;
        // Traffic rests ten seconds of each minute, and jams for five.
        let second = self.second.unwrap_or(now / SECOND % 60);
        let jam = (20..25).contains(&second);
        let held = (40..50).contains(&second);
        Some(Reading {
            t_ns: now,
            uptime_ns: now,
            data_path: DataPathInfo {
                summary: "AF_XDP (driver mode, copy) on eth0".into(),
                kind: "xdp".into(),
                driver_mode: Some(true),
                zero_copy: Some(false),
                interface: Some("eth0".into()),
                reason: "the driver has no zero-copy (veth: EOPNOTSUPP)".into(),
                fallback: None,
            },
            checksum_trusted: false,
            actors: self.actors(now, jam).into(),
            kinds: kinds(at(1)),
            history: history(now),
            devices: vec![device(at(1)), socket(at(1))],
            rules: vec![("drop udp dport 42".into(), at(3)), ("redirect udp dport 4433".into(), at(90_000))],
            umems: vec![umem(held)],
            passed: [
                ("xdp_unparsed_passed".to_owned(), at(40)),
                ("xdp_unclaimed_queue_passed".to_owned(), 0),
            ]
            .into(),
            connections: (0..self.connections)
                .map(|n| ConnectionReading {
                    streams: wants
                        .streams_of(FIRST_CONNECTION + n, self.connections as usize)
                        .then(|| streams(n, at(1)).into()),
                    ..connection(n, at(1), jam)
                })
                .collect(),
            drops: [
                ("socket_unmatched_dropped", at(2)),
                ("udp_checksum_wrong_dropped", 17),
                ("binding_backlog_dropped", if jam { at(40) } else { 900 }),
            ]
            .map(|(cause, count)| (cause.to_owned(), count))
            .into(),
            tracer: TracerReading::from(self.tracer.stats()),
            hops: hops(at(1), self.lost),
            ..Reading::default()
        })
    }
}

impl Sample {
    fn actors(&self, now: u64, jam: bool) -> Vec<ActorReading> {
        let at = |per_s: u64| (now as u128 * per_s as u128 / SECOND as u128) as u64;
        let actor = |id, kind: &'static str, name: &str, parent, per_s: u64, busy: u64| ActorReading {
            id,
            kind: Cow::Borrowed(kind),
            name: name.to_owned(),
            parent,
            sent: at(per_s),
            handled: at(per_s),
            items_handled: at(per_s * 20),
            depth_peak: 12,
            busy_ns: at(busy * SECOND / 1000),
            wait_ns: at(per_s * 2500),
            ..ActorReading::default()
        };
        let mut actors = vec![
            actor(1, "partition", "0", None, 1, 0),
            actor(2, "nic", "eth0", None, 0, 0),
            actor(3, "nic_queue", "eth0/0", Some(1), 0, 0),
            actor(4, "demux", "0", Some(1), 4500, 90),
            actor(5, "device", "eth0/0", Some(3), 60_000, 310),
            actor(6, "pool_shard", "1", None, 0, 0),
            actor(7, "device", "udp 0.0.0.0:4433", Some(6), 2, 0),
            ActorReading { restarts: 1, ..actor(9, "listener", "0.0.0.0:4433", Some(1), 3, 0) },
        ];
        actors.extend((0..self.connections).map(|n| {
            let mut it =
                actor(FIRST_CONNECTION + n, "connection", "", Some(1), 9000 / (n + 1), 400 / (n + 1));
            if n == SLOW && jam {
                it.sent += 37;
                it.depth = 37;
                it.items_queued = 800;
                it.wait_ns += at(9000 / (n + 1) * 40_000_000);
                it.oldest_at_ns = now - now % (20 * SECOND);
            }
            it
        }));
        actors
    }
}

/// The books of the hops. `lost`: so many datagrams never arrive.
fn hops(seconds: u64, lost: u64) -> Vec<HopReading> {
    let hop = |hop: &'static str, per_s: u64, loss: u64| HopReading {
        hop: Cow::Borrowed(hop),
        sent: (seconds + 1) * per_s + 7,
        received: (seconds + 1) * per_s - seconds.min(900) - loss,
        queued: 7,
        dropped: seconds.min(900),
        loss: Some(loss),
        unaccounted: 0,
    };
    vec![
        hop("XDP program → device", 90_000, 0),
        hop("device → demux", 90_000, 0),
        hop("in demux, listener", 90_000, 0),
        hop("demux, listener → listener, connection", 89_000, lost),
        hop("connection → QUIC", 89_000, 0),
        hop("packets in QUIC", 89_000, 0),
        hop("QUIC → connection", 1500, 0),
        hop("connection, listener → device", 1500, 0),
        hop("device → kernel", 1500, 0),
    ]
}

fn distribution(scale: u64, count: u64) -> Distribution {
    let values = (1..200u64).map(|n| scale * (n + n * n * n / 4000));
    let mut distribution = Distribution::from(&HistogramSnapshot::of(values));
    distribution.buckets.iter_mut().for_each(|(_, n)| *n *= count.max(1));
    distribution.count *= count.max(1);
    distribution
}

fn kinds(seconds: u64) -> Vec<KindReading> {
    let kinds: [(&str, &[&str]); 4] = [
        ("device", &["poll", "transmit"]),
        ("demux", &["packets"]),
        ("connection", &["datagrams", "commands", "timeout", "resume"]),
        ("listener", &["datagrams"]),
    ];
    let kind = |(name, messages): (&str, &[&str])| KindReading {
        name: name.to_owned(),
        messages: messages
            .iter()
            .map(|name| MessageKind {
                name: (*name).to_owned(),
                handled: seconds * 300,
                wait: distribution(40, seconds),
                run: distribution(90, seconds),
            })
            .collect(),
        wait: distribution(40, seconds),
        run: distribution(90, seconds),
        spawned: seconds,
        failed: 0,
    };
    kinds.into_iter().map(kind).collect()
}

fn history(now: u64) -> Vec<TombstoneRow> {
    vec![TombstoneRow {
        id: "8".into(),
        kind: "listener".into(),
        name: "0.0.0.0:4433".into(),
        parent: Some("1".into()),
        ended_ns: now - now % (60 * SECOND),
        failed: true,
        reason: "it panicked or was killed while it handled `datagrams`".into(),
        successor: Some("9".into()),
    }]
}

fn device(seconds: u64) -> DeviceReading {
    let ring = |used| Ring { size: 4096, used };
    DeviceReading {
        name: "eth0/0".into(),
        interface: Some("eth0".into()),
        queue: Some(0),
        kind: "xdp".into(),
        path: "AF_XDP (driver mode, copy)".into(),
        reason: "the driver has no zero-copy (veth: EOPNOTSUPP)".into(),
        link_up: true,
        trouble: None,
        rings: Some(Rings {
            fill: ring(3900),
            rx: ring(20),
            tx: ring(64),
            completion: ring(3),
            need_wakeup: true,
        }),
        rx_packets: seconds * 90_000,
        rx_bytes: seconds * 108_000_000,
        tx_datagrams: seconds * 70_000,
        tx_bytes: seconds * 98_000_000,
        kicks: seconds * 2500,
        counters: [
            ("rx_ring_full_dropped", 120),
            ("rx_fill_ring_empty_dropped", 0),
            ("tx_kick_deferred", 4),
            ("rx_kernel_dropped", 0),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into(),
    }
}

fn socket(seconds: u64) -> DeviceReading {
    DeviceReading {
        name: "udp 0.0.0.0:4433".into(),
        kind: "os_udp".into(),
        path: "OS UDP".into(),
        link_up: true,
        rx_packets: seconds * 2,
        ..DeviceReading::default()
    }
}

fn umem(held: bool) -> UmemLedger {
    let kept = if held { 5000 } else { 300 };
    let places = [
        ("free", 9000 - kept),
        ("fill", 4096),
        ("rx_app", kept),
        ("tx_app", 256),
        ("tx_ring", 3032),
        ("quarantined", 0),
    ];
    let place =
        |(place, frames): (&str, u64)| PlaceCount { place: place.into(), frames, oldest_age_ns: None };
    let holder = |name: &str, actor: &str, frames| FrameHolder {
        holder: name.into(),
        actor: Some(actor.into()),
        frames,
        oldest_age_ns: Some(frames * 1_000_000),
    };
    UmemLedger {
        device: "eth0/0".into(),
        capacity: 16_384,
        frame_size_bytes: 2048,
        places: places.map(place).into(),
        sum: 16_384,
        balanced: true,
        holders: vec![holder("connection 103", "103", kept - 100), holder("demux 0", "4", 100)],
        suspects: if held {
            vec![FrameSuspect {
                frame: 77,
                place: "rx_app".into(),
                holder: "connection 103".into(),
                actor: Some("103".into()),
                age_ns: 31 * SECOND,
            }]
        } else {
            Vec::new()
        },
        rejected: 0,
    }
}

fn connection(n: u64, seconds: u64, jam: bool) -> ConnectionReading {
    let wave = seconds % 20;
    let full = n.is_multiple_of(3);
    let limit =
        [Limit::Cwnd, Limit::FlowControl, Limit::Application, Limit::Cwnd, Limit::Pacing, Limit::Application]
            [n as usize % 6];
    let mut micros = [0; 6];
    micros[limit as usize] = seconds * 900_000;
    micros[Limit::Application as usize] += seconds * 100_000;
    let local = ([10, 77, 0, 1], 4433).into();
    let remote = ([10, 77, (n / 250) as u8, 2 + (n % 250) as u8], 50_000 + (n % 10_000) as u16).into();
    let path = |port: u16, active| PathRow {
        local,
        remote: ([10, 77, 9, 9], port).into(),
        active,
        validated: active,
        rtt_ns: 420_000,
        min_rtt_ns: 390_000,
        cwnd_bytes: 14_520,
        in_flight_bytes: 0,
        mtu_bytes: 1200,
        ecn: Ecn::Testing,
        packets_sent: 12,
        packets_lost: 1,
    };
    let counters = Counters::from([
        ("byte_sent", seconds * 40_000_000 / (n + 1)),
        ("byte_received", seconds * 1_000_000 / (n + 1)),
        ("packet_sent", seconds * 30_000 / (n + 1)),
        ("packet_lost", seconds / (n + 2)),
        ("stream_blocked", if n % 5 == 1 { seconds * 4 } else { 0 }),
    ]);
    ConnectionReading {
        id: FIRST_CONNECTION + n,
        role: if n.is_multiple_of(2) { ConnectionRole::Server } else { ConnectionRole::Client },
        state: if n % 50 == 49 { ConnectionState::Handshaking } else { ConnectionState::Open },
        local,
        remote,
        alpn: Some("h3".into()),
        cids: [format!("{:016x}", FIRST_CONNECTION + n)].into(),
        has_qlog: false,
        rtt_ns: 420_000 + wave * 30_000 + if jam && n == SLOW { 90_000_000 } else { n * 100 },
        min_rtt_ns: 390_000,
        cwnd_bytes: 200_000 + wave * 20_000,
        in_flight_bytes: if full { 200_000 + wave * 20_000 } else { 50_000 },
        mtu_bytes: 1452,
        validated: true,
        ecn: Ecn::Capable,
        limits: LimitsReading { current: limit, micros },
        receive_window_bytes: 1 << 20,
        paths: match n {
            // One is about to move.
            4 => [PathRow { remote, ecn: Ecn::Capable, ..path(0, true) }, path(50_999, false)].into(),
            _ => Box::default(),
        },
        counters,
        ..ConnectionReading::default()
    }
}

/// A few streams: one waits for the peer's flow control, one for its reader.
fn streams(n: u64, seconds: u64) -> StreamsReading {
    let stream = |id, written: u64, received| StreamReading {
        id,
        receiving: true,
        sending: true,
        written,
        sent: written,
        acked: written.saturating_sub(40_000),
        limit: Some(written + 500_000),
        received,
        ..StreamReading::default()
    };
    let busy = seconds * 20_000_000 / (n + 1);
    let stuck =
        StreamReading { sent: 1 << 20, acked: 1 << 20, limit: Some(1 << 20), ..stream(4, 1_200_000, 90) };
    let unread =
        StreamReading { unread: 60_000, sending: false, acked: 0, written: 0, ..stream(3, 0, 900_000) };
    StreamsReading {
        open: 4,
        rows: vec![stream(0, busy, seconds * 800), stuck, unread, stream(8, 40_000, 0)],
    }
}
