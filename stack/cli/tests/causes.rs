//! Why a connection is slow, as its dashboard says, each cause made in turn.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::UdpSocket, time::Instant};
use wirepath::{ClientConfig, Connection, Listener, ServerConfig, Stack, TransportConfig};
use wirepath_cli::identity::{Identity, SERVER_NAME};
use wirepath_quic::config::Congestion;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server that writes, a client that reads, and the dashboards of both.
struct Scene {
    _server: Stack,
    _client: Stack,
    _listener: Listener,
    /// The server's end of the connection, and the client's.
    here: Connection,
    there: Connection,
    dashboards: [SocketAddr; 2],
}

impl Scene {
    /// With the ends' settings, over a network that takes `delay` either way and loses one in `loses` of what the server
    /// sends; `None`: the loopback device as it is.
    async fn set(server: TransportConfig, client: TransportConfig, network: Option<(Duration, u64)>) -> Self {
        let identity = Identity::generate().expect("randomness");
        let stack = || Stack::builder().os_udp().partitions(1).dashboard(LOOPBACK).build();
        let (here, there) = (stack().await.expect("a stack"), stack().await.expect("a stack"));
        let dashboards = [&here, &there].map(|stack| {
            let url = stack.dashboard_url().expect("a dashboard");
            url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
        });
        let config = ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes());
        let config = config.expect("a good identity").alpn(["test"]).transport(server);
        let listener = here.listen(LOOPBACK, config).await.expect("a free port");
        let to = match network {
            Some((delay, loses)) => relay(listener.local_addr(), delay, loses).await,
            None => listener.local_addr(),
        };
        let roots = ClientConfig::new(identity.certificate_pem.as_bytes()).expect("a good certificate");
        let connect = there.connect(to, SERVER_NAME, roots.alpn(["test"]).transport(client));
        let (connected, accepted) = tokio::join!(connect, listener.accept());
        let (there_connection, here_connection) =
            (connected.expect("it connects"), accepted.expect("it is accepted"));
        Self {
            _server: here,
            _client: there,
            _listener: listener,
            here: here_connection,
            there: there_connection,
            dashboards,
        }
    }

    /// The server writes all it can.
    fn write_without_end(&self) {
        let here = self.here.clone();
        tokio::spawn(async move {
            let mut stream = here.open_uni().await.expect("streams are allowed");
            while stream.write(&vec![b'w'; 64 << 10]).await.is_ok() {}
        });
    }

    /// The client reads all that comes.
    fn read_without_end(&self) {
        let there = self.there.clone();
        tokio::spawn(async move {
            let mut stream = there.accept_uni().await.expect("a stream comes");
            while let Ok(Some(_)) = stream.read_chunk().await {}
        });
    }

    /// Waits until an end's dashboard says this of its connection, in the list and on its page.
    async fn blames(&self, end: usize, cause: &str) -> Value {
        self.blames_within(1200, end, cause).await.unwrap_or_else(|last| panic!("never {cause}, but {last}"))
    }

    /// The same, looking so often. `Err` has what it said last.
    async fn blames_within(&self, looks: usize, end: usize, cause: &str) -> Result<Value, Value> {
        let mut last = Value::Null;
        for _ in 0..looks {
            let list = ask(self.dashboards[end], "connections").await;
            let row = list["rows"].as_array().and_then(|rows| rows.first()).cloned().unwrap_or_default();
            if row["blocked_by"] == cause {
                let id = row["id"].as_str().expect("an id");
                let detail = ask(self.dashboards[end], &format!("connections/{id}")).await;
                if detail["row"]["blocked_by"] == cause {
                    assert!(detail["explanation"].as_str().is_some_and(|it| it.len() > 20), "{detail}");
                    return Ok(detail);
                }
            }
            last = row;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(last)
    }

    /// Waits until the busiest stream of an end's connection satisfies.
    async fn has_stream(&self, end: usize, holds: impl Fn(&Value) -> bool) {
        let mut row = Value::Null;
        for _ in 0..1200 {
            let list = ask(self.dashboards[end], "connections").await;
            let id = list["rows"][0]["id"].as_str().unwrap_or_default().to_owned();
            let detail = ask(self.dashboards[end], &format!("connections/{id}")).await;
            row = detail["streams"]["rows"].get(0).cloned().unwrap_or_default();
            if holds(&row) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never as it should be: {row}");
    }
}

async fn ask(addr: SocketAddr, path: &str) -> Value {
    let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it takes the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    });
    let answer = answer.await.expect("nothing panics");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str::<Value>(body).unwrap_or_else(|_| panic!("{answer}"))["data"].take()
}

/// A network before `server`: what enters leaves `delay` later, but one in `loses` of what the server sends.
async fn relay(server: SocketAddr, delay: Duration, loses: u64) -> SocketAddr {
    let front = std::sync::Arc::new(UdpSocket::bind(LOOPBACK).await.expect("a free port"));
    let addr = front.local_addr().expect("bound");
    let (sender, mut queue) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>, SocketAddr)>();
    let out = front.clone();
    tokio::spawn(async move {
        while let Some((at, datagram, to)) = queue.recv().await {
            tokio::time::sleep_until(at).await;
            let _ = out.send_to(&datagram, to).await;
        }
    });
    tokio::spawn(async move {
        let (mut buffer, mut client, mut n) = (vec![0; 65_536], None, 0u64);
        while let Ok((len, from)) = front.recv_from(&mut buffer).await {
            let to = match from == server {
                true => {
                    n += 1;
                    client.filter(|_| !n.is_multiple_of(loses))
                }
                false => {
                    client = Some(from);
                    Some(server)
                }
            };
            if let Some(to) = to {
                let _ = sender.send((Instant::now() + delay, buffer[..len].to_vec(), to));
            }
        }
    });
    addr
}

fn plain() -> TransportConfig {
    TransportConfig::default()
}

#[tokio::test]
async fn an_application_that_writes_little_is_named() {
    let scene = Scene::set(plain(), plain(), None).await;
    scene.read_without_end();
    let here = scene.here.clone();
    tokio::spawn(async move {
        let mut stream = here.open_uni().await.expect("streams are allowed");
        while stream.write(&[b'w'; 2000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    scene.blames(0, "application").await;
    // Of the other end: it only receives.
    scene.blames(1, "peer").await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_named_at_both_ends() {
    let scene = Scene::set(plain(), plain().stream_window(200_000).connection_window(300_000), None).await;
    scene.write_without_end();
    let stream = scene.there.accept_uni().await.expect("a stream comes");
    scene.blames(0, "flow_control").await;
    let detail = scene.blames(1, "reader").await;
    assert!(
        detail["explanation"].as_str().is_some_and(|it| it.contains("wait for the application here")),
        "{detail}"
    );
    // Both pages name the stream, read without any actor's help: nothing moves any more.
    scene
        .has_stream(0, |row| row["waits_for"] == "stream_flow_control" && row["sent_bytes"] == 200_000)
        .await;
    scene.has_stream(1, |row| row["waits_for"] == "reader" && row["unread_bytes"] == 200_000).await;
    drop(stream);
}

#[tokio::test]
async fn a_full_window_is_named_and_how_pacing_spreads_it() {
    let scene = Scene::set(plain(), plain(), Some((Duration::from_millis(40), 60))).await;
    scene.read_without_end();
    scene.write_without_end();
    let detail = scene.blames(0, "cwnd").await;
    assert!(
        detail["causes"].as_array().is_some_and(|it| it.iter().any(|it| it["cause"] == "cwnd")),
        "{detail}"
    );
    assert!(detail["paths"][0]["rtt_ns"].as_u64() >= Some(80_000_000), "{detail}");
}

#[tokio::test]
async fn pacing_alone_is_named() {
    // BBR sends at the rate it measures, and leaves the window room.
    let server = plain().congestion(Congestion::Bbr);
    let scene = Scene::set(server, plain(), Some((Duration::from_millis(40), 400))).await;
    scene.read_without_end();
    scene.write_without_end();
    scene.blames(0, "pacing").await;
}

#[tokio::test]
async fn acknowledgements_that_the_peer_holds_back_are_named() {
    let client = plain().ack_eliciting_threshold(255).max_ack_delay(Duration::from_millis(800));
    // Ten packets do not make the client acknowledge; its delay does, for the few rounds until the window has more than
    // its threshold. On a busy machine those may pass unseen: then a new connection shows them.
    let mut last = Value::Null;
    for _ in 0..20 {
        let scene = Scene::set(plain().pacing(false), client.clone(), None).await;
        scene.read_without_end();
        scene.write_without_end();
        match scene.blames_within(60, 0, "ack_delay").await {
            Ok(_) => return,
            Err(other) => last = other,
        }
    }
    panic!("never ack_delay, but {last}");
}

#[tokio::test]
async fn a_device_that_can_take_no_more_is_named() {
    let scene = Scene::set(plain().initial_window(Some(4 << 20)).pacing(false), plain(), None).await;
    scene.read_without_end();
    scene.write_without_end();
    scene.blames(0, "frames").await;
}
