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
        let mut last = Value::Null;
        for _ in 0..1200 {
            let list = ask(self.dashboards[end], "connections").await;
            let row = list["rows"].as_array().and_then(|rows| rows.first()).cloned().unwrap_or_default();
            if row["blocked_by"] == cause {
                let id = row["id"].as_str().expect("an id");
                let detail = ask(self.dashboards[end], &format!("connections/{id}")).await;
                if detail["row"]["blocked_by"] == cause {
                    assert!(detail["explanation"].as_str().is_some_and(|it| it.len() > 20), "{detail}");
                    return detail;
                }
            }
            last = row;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {cause}, but {last}");
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
    let detail = scene.blames(0, "flow_control").await;
    let row = &detail["streams"]["rows"][0];
    if row.is_object() {
        assert_eq!(
            (&row["waits_for"], &row["sent_bytes"]),
            (&"stream_flow_control".into(), &row["limit_bytes"])
        );
    }
    let detail = scene.blames(1, "reader").await;
    assert!(detail["explanation"].as_str().is_some_and(|it| it.contains("200000 bytes")), "{detail}");
    // The connection's page names the stream, read without any actor's help: nothing moves any more.
    let id = detail["row"]["id"].as_str().expect("an id");
    let unread = loop {
        let detail = ask(scene.dashboards[1], &format!("connections/{id}")).await;
        if let Some(row) = detail["streams"]["rows"].get(0) {
            break row.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&unread["waits_for"], &unread["unread_bytes"]),
        (&"reader".into(), &200_000.into()),
        "{unread}"
    );
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
    let client = plain().ack_eliciting_threshold(255).max_ack_delay(Duration::from_millis(200));
    // Ten packets do not make the client acknowledge; its delay does.
    let scene = Scene::set(plain().pacing(false), client, None).await;
    scene.read_without_end();
    scene.write_without_end();
    scene.blames(0, "ack_delay").await;
}

#[tokio::test]
async fn a_device_that_can_take_no_more_is_named() {
    let scene = Scene::set(plain().initial_window(Some(4 << 20)).pacing(false), plain(), None).await;
    scene.read_without_end();
    scene.write_without_end();
    scene.blames(0, "frames").await;
}
