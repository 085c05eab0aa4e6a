//! The API as a client meets it: over TCP on loopback.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use wirepath_dashboard::{
    ActorReading, ConnectionReading, Dashboard, DeviceReading, Limit, LimitsReading, Options, Reading,
    Source, Token, Wants,
    api::{ConnectionRole, ConnectionState, DataPathInfo, FrameHolder, PlaceCount, TombstoneRow, UmemLedger},
};
use wirepath_trace::{BatchClock, Direction, Stage, Tracer};

/// A stack of figures: a demux, a device, and connections one of which jams.
struct Figures {
    tracer: Arc<Tracer>,
    reads: AtomicU64,
    actors: u64,
}

const JAMMED: u64 = 77;

impl Source for Figures {
    fn tracer(&self) -> Arc<Tracer> {
        self.tracer.clone()
    }

    fn read(&self, _wants: &Wants, _last: &Reading) -> Option<Reading> {
        let n = self.reads.fetch_add(1, Relaxed) + 1;
        let now = BatchClock::read() + 60_000_000_000;
        let actors = (1..=self.actors).map(|id| ActorReading {
            id,
            kind: ["demux", "device", "connection"][id.min(3) as usize - 1].into(),
            name: ["0", "eth0/0", ""][id.min(3) as usize - 1].into(),
            parent: (id > 1).then_some(1),
            sent: id + 3 + u64::from(id == JAMMED) * 9,
            depth: u64::from(id == JAMMED) * 9,
            handled: id,
            dropped: 3,
            items_queued: if id == JAMMED { 500 } else { 0 },
            oldest_at_ns: now - 500_000_000,
            ..ActorReading::default()
        });
        Some(Reading {
            t_ns: now,
            data_path: DataPathInfo { kind: "xdp".into(), zero_copy: Some(false), ..DataPathInfo::default() },
            actors: actors.collect(),
            history: vec![TombstoneRow {
                id: "0".into(),
                kind: "listener".into(),
                name: "[::]:443".into(),
                parent: None,
                ended_ns: now - 1,
                failed: true,
                reason: "it was killed".into(),
                successor: Some("1".into()),
            }],
            devices: vec![DeviceReading {
                name: "eth0/0".into(),
                kind: "xdp".into(),
                link_up: true,
                rx_packets: n * 1000,
                counters: [("rx_ring_full_dropped".to_owned(), n)].into(),
                ..DeviceReading::default()
            }],
            umems: vec![UmemLedger {
                device: "eth0/0".into(),
                capacity: 1000,
                places: vec![
                    PlaceCount { place: "free".into(), frames: 400, oldest_age_ns: None },
                    PlaceCount { place: "rx_app".into(), frames: 600, oldest_age_ns: None },
                ],
                sum: 1000,
                balanced: true,
                holders: vec![FrameHolder {
                    holder: format!("connection {JAMMED}"),
                    actor: Some(JAMMED.to_string()),
                    frames: 500,
                    oldest_age_ns: Some(1),
                }],
                ..UmemLedger::default()
            }],
            connections: [ConnectionReading {
                id: JAMMED,
                role: ConnectionRole::Server,
                state: ConnectionState::Open,
                local: ([10, 0, 0, 1], 443).into(),
                remote: ([10, 0, 0, 2], 5000).into(),
                alpn: None,
                cids: ["0011223344556677".into()].into(),
                has_qlog: false,
                rtt_ns: 1_000_000,
                min_rtt_ns: 1,
                cwnd_bytes: 12_000,
                in_flight_bytes: 12_000,
                mtu_bytes: 1200,
                counters: [("byte_sent", n * 100)].into(),
                limits: LimitsReading { current: Limit::Cwnd, ..LimitsReading::default() },
                ..ConnectionReading::default()
            }]
            .into_iter()
            .collect(),
            drops: [("socket_unmatched_dropped".to_owned(), 5)].into(),
            ..Reading::default()
        })
    }
}

fn serve(options: Options) -> (Dashboard, Arc<Tracer>) {
    serve_actors(100, options)
}

fn serve_actors(actors: u64, options: Options) -> (Dashboard, Arc<Tracer>) {
    let tracer = Tracer::new(1, 1 << 20);
    let source = Figures { tracer: tracer.clone(), reads: AtomicU64::new(0), actors };
    let any = "127.0.0.1:0".parse().expect("an address");
    (Dashboard::bind(any, options, Arc::new(source)).expect("loopback is there"), tracer)
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn data(&self) -> Value {
        let mut json = self.json();
        assert_eq!((self.status, &json["v"]), (200, &json!(1)), "{json}");
        json["data"].take()
    }
}

/// One request on a connection of its own. `head` holds further header lines.
fn ask(addr: SocketAddr, request: &str, head: &[&str], body: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let host = if head.iter().any(|line| line.starts_with("Host:")) {
        String::new()
    } else {
        format!("Host: {addr}\r\n")
    };
    let lines: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let len = body.len();
    write!(stream, "{request} HTTP/1.1\r\n{host}{lines}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}").expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    Answer { status, head, body: bytes.split_off(end) }
}

fn get(dashboard: &Dashboard, path: &str) -> Answer {
    ask(dashboard.local_addr(), &format!("GET {path}"), &[], "")
}

#[test]
fn whoever_has_no_token_or_a_wrong_one_gets_401() {
    let token = Token::random().expect("randomness");
    let (dashboard, _tracer) = serve(Options { token: Some(token.clone()), ..Options::default() });
    let addr = dashboard.local_addr();
    let overview = "GET /api/v1/overview";
    assert_eq!(ask(addr, overview, &[], "").status, 401);
    assert_eq!(ask(addr, "GET /metrics", &[], "").status, 401);
    assert_eq!(ask(addr, "GET /api/v1/stream", &[], "").status, 401);
    let wrong = Token::random().expect("randomness").reveal();
    for wrong in [wrong.as_str(), "", "zz", &token.reveal()[1..]] {
        assert_eq!(ask(addr, overview, &[&format!("Authorization: Bearer {wrong}")], "").status, 401);
        assert_eq!(ask(addr, &format!("GET /api/v1/overview?token={wrong}"), &[], "").status, 401);
    }
    let right = token.reveal();
    assert_eq!(ask(addr, overview, &[&format!("Authorization: Bearer {right}")], "").status, 200);
    let first = ask(addr, &format!("GET /api/v1/overview?token={right}"), &[], "");
    assert_eq!(first.status, 200);
    assert!(first.head.contains(&format!("set-cookie: wirepath-token={right}; httponly; samesite=strict")));
    assert_eq!(ask(addr, overview, &[&format!("Cookie: other=1; wirepath-token={right}")], "").status, 200);
    assert!(dashboard.url().ends_with(&format!("?token={right}")));
}

#[test]
fn a_foreign_host_or_origin_gets_403() {
    let (dashboard, _tracer) =
        serve(Options { hosts: vec!["wirepath.example".into()], ..Options::default() });
    let addr = dashboard.local_addr();
    let port = addr.port();
    for (host, status) in [
        (format!("localhost:{port}"), 200),
        ("wirepath.example".to_owned(), 200),
        ("evil.example".to_owned(), 403),
        (format!("evil.example:{port}"), 403),
        (String::new(), 403),
    ] {
        assert_eq!(ask(addr, "GET /api/v1/queues", &[&format!("Host: {host}")], "").status, status, "{host}");
    }
    for (line, status) in [
        (format!("Origin: http://{addr}"), 200),
        ("Origin: http://evil.example".to_owned(), 403),
        ("Origin: null".to_owned(), 403),
        ("Sec-Fetch-Site: cross-site".to_owned(), 403),
        ("X-Anything: a command-line tool sends no origin".to_owned(), 200),
    ] {
        assert_eq!(ask(addr, "POST /api/v1/traces", &[&line], "{}").status, status, "{line}");
        assert_eq!(ask(addr, "DELETE /api/v1/traces", &[&line], "").status, status, "{line}");
    }
}

#[test]
fn every_answer_forbids_other_origins_and_only_loopback_is_served_without_a_token() {
    let (dashboard, _tracer) = serve(Options::default());
    for path in ["/", "/app.js", "/api/v1/overview", "/api/v1/nothing", "/nothing.js", "/metrics"] {
        let answer = get(&dashboard, path);
        assert!(answer.head.contains("content-security-policy: default-src 'self'\r\n"), "{path}");
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{path}");
    }
    assert_eq!(get(&dashboard, "/api/v1/nothing").status, 404);
    assert_eq!(ask(dashboard.local_addr(), "POST /api/v1/actors", &[], "").status, 405);
    let source = Figures { tracer: Tracer::off(), reads: AtomicU64::new(0), actors: 1 };
    let open =
        Dashboard::bind("0.0.0.0:0".parse().expect("an address"), Options::default(), Arc::new(source));
    assert_eq!(open.expect_err("refused").kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn twenty_thousand_actors_are_filtered_sorted_and_paged_here() {
    let (dashboard, _tracer) = serve_actors(20_000, Options::default());
    let page = get(&dashboard, "/api/v1/actors?sort=id&desc=true&limit=3&offset=2").data();
    assert_eq!(
        (&page["total"], &page["total_unfiltered"], &page["limit"]),
        (&json!(20_000), &json!(20_000), &json!(3))
    );
    let ids: Vec<_> = page["rows"].as_array().expect("rows").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["19998", "19997", "19996"]);
    for row in get(&dashboard, "/api/v1/actors?sort=queued&desc=true&limit=1000").data()["rows"]
        .as_array()
        .expect("rows")
    {
        let count = |name: &str| row[name].as_u64().expect("a count");
        assert_eq!(count("sent"), count("handled") + count("dropped") + count("queued"));
    }
    let jammed = get(&dashboard, "/api/v1/actors?sort=queued&desc=true&limit=1").data();
    assert_eq!(jammed["rows"][0]["id"], JAMMED.to_string());
    assert_eq!(get(&dashboard, "/api/v1/actors?kind=demux").data()["total"], 1);
    assert_eq!(get(&dashboard, "/api/v1/actors?filter=DEMUX").data()["total"], 1);
    assert_eq!(get(&dashboard, "/api/v1/actors?limit=100000").data()["limit"], 1000);
    assert_eq!(get(&dashboard, "/api/v1/actors?sort=shoe_size").status, 400);
    assert_eq!(get(&dashboard, "/api/v1/actors/20001").status, 404);
    assert_eq!(get(&dashboard, "/api/v1/actors/1").data()["restarts"], json!([]));
}

#[test]
fn the_cause_of_a_jam_is_named_and_held_frames_name_their_holder() {
    let (dashboard, _tracer) = serve(Options::default());
    let overview = get(&dashboard, "/api/v1/overview").data();
    let lints = overview["lints"].as_array().expect("lints");
    let lint = |kind: &str| {
        lints.iter().find(|lint| lint["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {lints:?}"))
    };
    assert_eq!(lint("mailbox_jam")["actor"], JAMMED.to_string());
    assert_eq!(lint("actor_failed")["actor"], "1");
    lint("copy_mode");
    lint("frames_held");
    let topology = get(&dashboard, "/api/v1/topology").data();
    let causes: Vec<_> =
        topology["nodes"].as_array().expect("nodes").iter().filter(|node| node["state"] == "cause").collect();
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0]["actor"], JAMMED.to_string());
    let umem = &get(&dashboard, "/api/v1/frames").data()["umems"][0];
    assert_eq!((&umem["balanced"], &umem["sum"]), (&json!(true), &umem["capacity"]));
    assert_eq!(
        (&umem["holders"][0]["actor"], &umem["holders"][0]["frames"]),
        (&json!(JAMMED.to_string()), &json!(500))
    );
    assert_eq!(lint("frames_held")["actor"], JAMMED.to_string());
    let drops = get(&dashboard, "/api/v1/drops").data();
    assert_eq!(drops["rows"][0]["layer"], "kernel");
    let connection = get(&dashboard, &format!("/api/v1/connections/{JAMMED}")).data();
    assert_eq!(connection["row"]["blocked_by"], "cwnd");
    assert_eq!(get(&dashboard, "/api/v1/connections?filter=00112233").data()["total"], 1);
    assert_eq!(get(&dashboard, "/api/v1/connections?filter=ff").data()["total"], 0);
}

/// Waits for readings: four a second.
fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to hold");
}

#[test]
fn a_recording_is_answered_from_as_the_live_stack_is() {
    let (dashboard, tracer) = serve(Options::default());
    let addr = dashboard.local_addr();
    let begun =
        ask(addr, "POST /api/v1/recordings", &[], r#"{"name":"mine","filter":{"address":"10.0.0.2"}}"#)
            .data();
    let id = begun["id"].as_str().expect("an id").to_owned();
    assert!(tracer.is_armed());
    let mut journey = tracer.begin(Direction::Rx, 1000);
    journey.set_path(
        "10.0.0.1:443".parse().expect("an address"),
        "10.0.0.2:5000".parse().expect("an address"),
        1200,
    );
    journey.hop(Stage::Device, 1, 1000, 1500, 2);
    journey.hop(Stage::Demux, 1, 1700, 1900, 2);
    journey.finish("delivered");
    let row = |name: &str| get(&dashboard, "/api/v1/recordings").data()["rows"][0][name].clone();
    until(|| row("journeys") == 1 && row("readings").as_u64() > Some(1));
    assert_eq!(ask(addr, &format!("POST /api/v1/recordings/{id}/stop"), &[], "").data()["state"], "done");
    for path in
        ["overview", "topology", "actors", "tree", "queues", "frames", "traces", "connections", "drops"]
    {
        let answer = get(&dashboard, &format!("/api/v1/{path}?source={id}"));
        assert_eq!(answer.status, 200, "{path}");
    }
    assert_eq!(get(&dashboard, &format!("/api/v1/overview?source={id}")).data()["source"], id);
    let traces = get(&dashboard, &format!("/api/v1/traces?source={id}")).data();
    let journey = &traces["journeys"][0];
    let hops: u64 = journey["hops"]
        .as_array()
        .expect("hops")
        .iter()
        .map(|hop| hop["wait_ns"].as_u64().unwrap_or(0) + hop["run_ns"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(
        (journey["total_ns"].as_u64(), hops, &journey["path"]),
        (Some(900), 900, &json!("device > demux"))
    );
    assert_eq!(get(&dashboard, "/api/v1/overview?source=r99").status, 404);
    let log = get(&dashboard, &format!("/api/v1/recordings/{id}/download?format=qlog"));
    let log = String::from_utf8(log.body).expect("text");
    assert!(log.starts_with('\u{1e}') && log.contains("recovery:metrics_updated"), "{log}");
    let capture = get(&dashboard, &format!("/api/v1/recordings/{id}/download?format=pcapng"));
    assert_eq!(capture.status, 200);
    assert_eq!(&capture.body[..4], &[0x0a, 0x0d, 0x0d, 0x0a]);
    let trace = get(&dashboard, &format!("/api/v1/recordings/{id}/download"));
    assert!(trace.head.contains("attachment"));
    assert_eq!(trace.json()["journeys"][0]["total_ns"], 900);
    // The file, opened elsewhere, answers as the recording does.
    let (other, _tracer) = serve(Options::default());
    let file = String::from_utf8(trace.body).expect("text");
    let opened = ask(other.local_addr(), "POST /api/v1/recordings/open", &[], &file).data();
    assert_eq!((&opened["name"], &opened["state"]), (&json!("mine"), &json!("done")));
    let of = |dashboard: &Dashboard, id: &Value, path: &str| {
        let id = id.as_str().expect("an id");
        let mut data = get(dashboard, &format!("/api/v1/{path}?source={id}")).data();
        if path == "overview" {
            data["source"].take();
        }
        data
    };
    for path in
        ["overview", "topology", "actors", "tree", "queues", "frames", "traces", "connections", "drops"]
    {
        assert_eq!(of(&other, &opened["id"], path), of(&dashboard, &begun["id"], path), "{path}");
    }
    assert_eq!(ask(other.local_addr(), "POST /api/v1/recordings/open", &[], "[]").status, 400);
}

#[test]
fn filters_are_armed_and_disarmed_and_mistakes_told() {
    let (dashboard, tracer) = serve(Options::default());
    let addr = dashboard.local_addr();
    let armed = ask(addr, "POST /api/v1/traces", &[], r#"{"cid":"0aff","address":"[fd00::1]:443"}"#).data();
    assert_eq!(armed["filter"]["cid"], "0aff");
    assert_eq!(tracer.filter().expect("armed").cid, Some(vec![0x0a, 0xff]));
    for wrong in [r#"{"address":"nowhere"}"#, r#"{"cid":"0"}"#, r#"{"cid":"zz"}"#] {
        assert_eq!(ask(addr, "POST /api/v1/traces", &[], wrong).status, 400, "{wrong}");
    }
    assert_eq!(ask(addr, "DELETE /api/v1/traces", &[], "").data()["filter"], Value::Null);
    assert!(!tracer.is_armed());
}

#[test]
fn the_stream_begins_with_a_snapshot_and_goes_on_with_what_changed() {
    let (dashboard, _tracer) = serve(Options::default());
    let addr = dashboard.local_addr();
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {addr}\r\n\r\n").expect("sent");
    let (mut text, mut buffer) = (String::new(), [0; 65_536]);
    while text.matches("event: delta").count() < 2 {
        let len = stream.read(&mut buffer).expect("more to come");
        assert!(len > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    let snapshot = text.find("event: snapshot").expect("a snapshot");
    assert!(snapshot < text.find("event: delta").expect("a delta"));
    assert!(text.contains("text/event-stream") && text.contains("\"lost\":"));
}

#[test]
fn metrics_have_no_label_for_each_connection() {
    let (dashboard, _tracer) = serve(Options::default());
    let text = String::from_utf8(get(&dashboard, "/metrics").body).expect("text");
    assert!(text.contains("wirepath_actors{kind=\"connection\"} 98"), "{text}");
    assert!(
        text.contains("wirepath_packets_dropped_total{layer=\"demux\",cause=\"socket_unmatched_dropped\"} 5")
    );
    assert!(text.lines().count() < 100, "it does not grow with the connections");
}
