//! The dashboard of a real stack, over loopback: its books, its qlog, and captures that Wireshark decrypts.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use wirepath::{ClientConfig, Connection, Listener, ServerConfig, Stack, StackBuilder};
use wirepath_cli::identity::{Identity, SERVER_NAME};

const LEN: usize = 200_000;

/// A server with a dashboard, and a client.
struct Scene {
    identity: Identity,
    server: Stack,
    listener: Listener,
    client: Stack,
    dashboard: SocketAddr,
}

impl Scene {
    async fn set(lays_open: bool) -> Self {
        let builder = Stack::builder()
            .dashboard_payload(lays_open)
            .dashboard_key_log(lays_open)
            .dashboard_qlog(lays_open);
        Self::of(builder).await
    }

    async fn of(builder: StackBuilder) -> Self {
        let identity = Identity::generate().expect("randomness");
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = builder.os_udp().partitions(1).dashboard(loopback).build().await;
        let server = server.expect("a stack over OS UDP");
        let config = ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes());
        let config = config.expect("a good identity").alpn(["test"]);
        let listener = server.listen(loopback, config).await.expect("a free port");
        let url = server.dashboard_url().expect("a dashboard");
        let dashboard = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        let client = Stack::builder().os_udp().build().await.expect("a stack over OS UDP");
        Self { identity, server, listener, client, dashboard }
    }

    async fn connect(&self) -> (Connection, Connection) {
        let roots = self.identity.certificate_pem.as_bytes();
        let config = ClientConfig::new(roots).expect("a good certificate").alpn(["test"]);
        let (there, here) = tokio::join!(
            self.client.connect(self.listener.local_addr(), SERVER_NAME, config),
            self.listener.accept()
        );
        (there.expect("it connects"), here.expect("it is accepted"))
    }

    /// A connection on which the server has sent data.
    async fn transfer(&self) -> (Connection, Connection) {
        let (there, here) = self.connect().await;
        let mut send = here.open_uni().await.expect("streams are allowed");
        let served = tokio::spawn(async move {
            send.write_finish(vec![b'w'; LEN].into()).await.expect("it is sent");
            send
        });
        let mut receive = there.accept_uni().await.expect("a stream comes");
        let mut len = 0;
        while let Some(chunk) = receive.read_chunk().await.expect("data comes") {
            len += chunk.len();
        }
        assert_eq!(len, LEN);
        drop(served.await.expect("it was sent"));
        (there, here)
    }

    /// Asks the dashboard: the answer's status and body.
    async fn ask(&self, request: &str, body: Option<Value>) -> (u16, Vec<u8>) {
        let (addr, request) = (self.dashboard, request.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            let body = body.map(|it| it.to_string()).unwrap_or_default();
            let head =
                format!("Host: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
            write!(stream, "{request} HTTP/1.0\r\n{head}\r\n\r\n{body}").expect("asked");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            answer
        });
        let answer = asked.await.expect("asked");
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        (status, answer[end + 4..].to_vec())
    }

    async fn data(&self, path: &str) -> Value {
        let (status, body) = self.ask(&format!("GET /api/v1/{path}"), None).await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice::<Value>(&body).expect("JSON")["data"].take()
    }

    /// Asks until the answer satisfies: readings are taken four times a second.
    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1200 {
            let data = self.data(path).await;
            if holds(&data) {
                return data;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} never was as it should: {}", self.data(path).await);
    }
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("{name} of {value}"))
}

#[tokio::test]
async fn every_datagram_of_a_transfer_is_in_the_books_of_both_ends() {
    let scene = Scene::set(false).await;
    let connections = scene.transfer().await;
    // At rest nothing is on its way, and both ends agree to the datagram.
    let settled = |overview: &Value| {
        let books = overview["books"].as_array().expect("books");
        books
            .iter()
            .all(|hop| number(hop, "sent") > 0 && number(hop, "moving") == 0 && number(hop, "queued") == 0)
    };
    let overview = scene.until("overview", settled).await;
    assert_eq!((&overview["conserved"], overview["books"].as_array().map(Vec::len)), (&json!(true), Some(7)));
    for hop in overview["books"].as_array().expect("books") {
        assert_eq!(number(hop, "unaccounted"), 0, "{hop}");
        assert_eq!(number(hop, "sent"), number(hop, "received") + number(hop, "dropped"), "{hop}");
    }
    // The connections end; what they counted stays in the books.
    drop(connections);
    let ended = |overview: &Value| number(overview, "connections") == 0 && settled(overview);
    let overview = scene.until("overview", ended).await;
    assert_eq!(overview["conserved"], true, "{overview}");
    for actor in scene.data("actors?limit=1000").await["rows"].as_array().expect("rows") {
        let accounted: i64 =
            ["handled", "dropped", "queued", "unaccounted"].map(|it| number(actor, it)).iter().sum();
        assert_eq!((number(actor, "sent"), number(actor, "unaccounted")), (accounted, 0), "{actor}");
    }
}

#[tokio::test]
async fn connections_there_is_no_memory_for_are_in_no_list_but_in_every_sum() {
    const CONNECTIONS: i64 = 40;
    let scene = Scene::of(Stack::builder().trace_memory(48 << 10)).await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(scene.connect().await);
    }
    let all = |overview: &Value| number(overview, "connections") == CONNECTIONS;
    let overview = scene.until("overview", all).await;
    let left_out = number(&overview, "connections_left_out");
    assert!(left_out > 0 && left_out < CONNECTIONS, "{overview}");
    let lints = overview["lints"].as_array().expect("lints");
    assert!(lints.iter().any(|it| it["kind"] == "figures_left_out"), "{overview}");
    let tracing = &overview["tracing"];
    assert_eq!(number(tracing, "memory_limit_bytes"), 48 << 10);
    let figures = tracing["memory"].as_array().expect("parts").iter().find(|it| it["name"] == "figures");
    let figures = figures.expect("it is one of them");
    // What is no connection's is told in any case: the first 16 KiB, and the other actors.
    assert!(number(figures, "bytes") < number(figures, "limit_bytes") + 3 * (16 << 10), "{figures}");
    assert_eq!(overview["conserved"], true, "{overview}");
    let listed = number(&scene.data("connections?limit=1").await, "total_unfiltered");
    assert!(listed > 0 && listed < CONNECTIONS, "{listed}");
}

#[tokio::test]
async fn a_thread_that_is_held_jams_its_mailboxes_and_the_page_says_where_it_begins() {
    let scene = Scene::set(false).await;
    let (_there, here) = scene.connect().await;
    let (held, release) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let [(began, has_begun), (let_go, wait)] = [held, release];
    // A program that blocks the thread it shares with its connection: mail for it waits from here on.
    let blocker = here.spawn(async move {
        began.send(()).expect("somebody waits for it");
        let _ = wait.recv();
    });
    tokio::task::spawn_blocking(move || has_begun.recv()).await.expect("no panic").expect("it runs");
    let mut send = here.open_uni().await.expect("streams are allowed");
    let sent = tokio::spawn(async move { send.write_finish(vec![b'w'; 10].into()).await });
    let is_jam = |lint: &&Value| lint["kind"] == "mailbox_jam";
    let jammed = |it: &Value| it["lints"].as_array().expect("lints").iter().any(|lint| is_jam(&lint));
    let overview = scene.until("overview", jammed).await;
    let lint = overview["lints"].as_array().expect("lints").iter().find(is_jam).expect("a jam").clone();
    // One of those that wait is the cause, the connection among them.
    let waits = |it: &Value| number(&it["rows"][0], "oldest_age_ns") > 20_000_000;
    let connections = scene.until("connections", waits).await;
    let states = |it: &Value, state: &str| {
        let nodes = it["nodes"].as_array().expect("nodes").iter();
        nodes.filter(|node| node["state"] == state).map(|node| node["actor"].clone()).collect::<Vec<_>>()
    };
    let topology = scene.until("topology", |it| states(it, "cause").len() == 1).await;
    assert_eq!(states(&topology, "cause"), [lint["actor"].clone()], "{topology}");
    let jammed_nodes = [states(&topology, "cause"), states(&topology, "victim")].concat();
    assert!(jammed_nodes.contains(&connections["rows"][0]["id"]), "{topology}");
    let_go.send(()).expect("it waits");
    blocker.await.expect("it ends");
    sent.await.expect("no panic").expect("it is sent");
    scene.until("overview", |it| !jammed(it)).await;
}

#[tokio::test]
async fn a_frozen_viewer_holds_nothing_up_and_rates_fall_to_nothing_once_all_is_done() {
    let scene = Scene::set(false).await;
    // Sixteen may look at a time; these ask, and never read a byte of what comes.
    let frozen: Vec<_> = (0..8)
        .map(|_| {
            let mut viewer = TcpStream::connect(scene.dashboard).expect("it listens");
            let head = format!("GET /api/v1/stream HTTP/1.1\r\nHost: {}\r\n\r\n", scene.dashboard);
            viewer.write_all(head.as_bytes()).expect("it takes the request");
            viewer
        })
        .collect();
    scene.until("overview", |it| number(&it["tracing"], "viewers") == 8).await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(scene.transfer().await);
    }
    // Others are answered, with figures of now.
    let moved = |it: &Value| number(&it["totals"], "tx_bytes") >= 10 * LEN as i64;
    let overview = scene.until("overview", moved).await;
    assert_eq!(overview["conserved"], true, "{overview}");
    let idle = |it: &Value| {
        ["rx_packets_per_s", "rx_bytes_per_s", "tx_datagrams_per_s", "tx_bytes_per_s", "drops_per_s"]
            .iter()
            .all(|rate| it["rates"][rate].as_f64() == Some(0.0))
    };
    let overview = scene.until("overview", idle).await;
    assert_eq!(number(&overview["tracing"], "viewers"), 8);
    drop((frozen, connections));
}

#[tokio::test]
async fn without_leave_no_bytes_keys_or_logs_get_out() {
    let scene = Scene::set(false).await;
    let recordings = scene.data("recordings").await;
    assert_eq!(
        (&recordings["payload_allowed"], &recordings["secrets_allowed"]),
        (&json!(false), &json!(false))
    );
    let body = json!({ "seconds": 600, "filter": { "address": "127.0.0.1", "one_in": 1 } });
    assert_eq!(scene.ask("POST /api/v1/recordings", Some(body)).await.0, 200);
    let _connections = scene.transfer().await;
    let recordings = scene.until("recordings", |it| number(&it["rows"][0], "journeys") >= 10).await;
    assert_eq!(
        (&recordings["rows"][0]["packets"], &recordings["rows"][0]["has_secrets"]),
        (&json!(0), &json!(false))
    );
    let (_, capture) = scene.ask("GET /api/v1/recordings/r1/download?format=pcapng", None).await;
    // "wwww…" is on the wire encrypted anyway; a captured packet is its headers and no more.
    assert!(capture.len() < number(&recordings["rows"][0], "journeys") as usize * 700, "{}", capture.len());
    assert!(!capture.windows(22).any(|it| it == b"SERVER_TRAFFIC_SECRET_"));
    let connection = scene.data("connections").await["rows"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(scene.data(&format!("connections/{connection}")).await["qlog_url"], Value::Null);
    assert_eq!(scene.ask(&format!("GET /api/v1/connections/{connection}/qlog"), None).await.0, 404);
}

#[tokio::test]
async fn a_connections_qlog_is_handed_out_and_fits_its_schema() {
    let scene = Scene::set(true).await;
    let _connections = scene.transfer().await;
    let connections = scene.until("connections", |it| number(it, "total") == 1).await;
    let id = connections["rows"][0]["id"].as_str().expect("an id");
    let url = scene.data(&format!("connections/{id}")).await["qlog_url"].clone();
    let (status, log) = scene.ask(&format!("GET {}", url.as_str().expect("it logs")), None).await;
    assert_eq!(status, 200);
    let text = String::from_utf8(log).expect("text");
    let records: Vec<Value> = text
        .split_terminator('\n')
        .map(|line| serde_json::from_str(line.strip_prefix('\u{1e}').expect("RFC 7464")).expect("JSON"))
        .collect();
    let (head, events) = records.split_first().expect("records");
    // draft-ietf-quic-qlog-main-schema, version 0.3: what a JSON-SEQ file and each of its events must have.
    assert_eq!((&head["qlog_version"], &head["qlog_format"]), (&json!("0.3"), &json!("JSON-SEQ")));
    assert_eq!(head["trace"]["vantage_point"]["type"], "server");
    let common = &head["trace"]["common_fields"];
    assert!(common["ODCID"].is_string() && common["protocol_type"].is_array());
    assert_eq!(common["time_format"], "relative");
    for event in events {
        assert!(event["time"].is_number() && event["data"].is_object(), "{event}");
        let (category, _) = event["name"].as_str().and_then(|it| it.split_once(':')).expect("category:type");
        assert!(["transport", "recovery", "connectivity", "security"].contains(&category), "{event}");
        if ["transport:packet_sent", "transport:packet_received"]
            .contains(&event["name"].as_str().expect("text"))
        {
            let kinds = ["initial", "handshake", "0RTT", "1RTT", "retry", "version_negotiation"];
            let header = &event["data"]["header"];
            assert!(kinds.contains(&header["packet_type"].as_str().expect("a type")), "{event}");
            assert!(header["packet_number"].is_u64() && event["data"]["raw"]["length"].is_u64(), "{event}");
            for frame in event["data"]["frames"].as_array().expect("frames") {
                assert!(frame["frame_type"].is_string(), "{frame}");
            }
        }
    }
    assert!(events.iter().any(|it| it["name"] == "recovery:metrics_updated"));
    assert!(events.iter().any(|it| it["name"] == "transport:packet_sent"));
}

/// A folder, gone with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn a_capture_is_decrypted_by_tshark_with_the_secrets_in_it() {
    integration_tests::needs!(Tshark);
    let scene = Scene::set(true).await;
    let body = json!({ "seconds": 600, "filter": { "address": "127.0.0.1", "one_in": 1 } });
    assert_eq!(scene.ask("POST /api/v1/recordings", Some(body)).await.0, 200);
    let _connections = scene.transfer().await;
    let least = (LEN / 1500) as i64;
    let recordings = scene.until("recordings", |it| number(&it["rows"][0], "packets") > least).await;
    assert_eq!(recordings["rows"][0]["has_secrets"], true);
    assert_eq!(scene.ask("POST /api/v1/recordings/r1/stop", Some(json!({}))).await.0, 200);
    let (status, capture) = scene.ask("GET /api/v1/recordings/r1/download?format=pcapng", None).await;
    assert_eq!(status, 200);
    let folder = Folder(std::env::temp_dir().join(format!("wirepath-capture-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let file = folder.0.join("capture.pcapng");
    std::fs::write(&file, capture).expect("room");
    let fields = |filter: &str, field: &str| {
        let port = scene.listener.local_addr().port();
        let output = Command::new("tshark")
            .args(["-d", &format!("udp.port=={port},quic"), "-Y", filter, "-T", "fields", "-e", field, "-r"])
            .arg(&file)
            .env("HOME", &folder.0)
            .output()
            .expect("tshark is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let handshake = fields("tls.handshake", "tls.handshake.type").join(",");
    // ClientHello in clear, and what only the handshake keys open: EncryptedExtensions, Finished.
    for message in ["1", "2", "8", "20"] {
        assert!(handshake.split(',').any(|it| it == message), "{message} in {handshake}");
    }
    // STREAM frames, which only the 1-RTT keys open, and their contents.
    let streams = fields("quic.stream_data", "quic.stream_data");
    assert!(streams.len() as i64 > least / 2, "{} packets were opened", streams.len());
    assert!(streams.iter().all(|hex| hex.replace([',', ':'], "").as_bytes().chunks(2).all(|it| it == b"77")));
    let _ = scene.server;
}
