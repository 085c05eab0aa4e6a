//! Dropping any future or any handle, at any moment, leaves nothing behind: no actor, no connection ID, no
//! port, no XDP program. What is counted here is what the stack's own registry and tables hold.

use std::{
    future::Future,
    net::{SocketAddr, UdpSocket},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use integration_tests::{
    cert::{ALPN, Identity, SERVER_NAME},
    needs,
    netns::Task,
    world::{Family, INTERFACE, World},
};
use wirepath::{
    ClientConfig, Connection, Listener, ServerConfig, Stack, StackBuilder, TransportConfig, VarInt,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A stack that listens and one that connects, each with nothing else in it.
struct Ends {
    server: Stack,
    listener: Option<Listener>,
    client: Stack,
    address: SocketAddr,
    config: ClientConfig,
}

/// Short of everything, so that waiting futures do wait.
fn tight() -> TransportConfig {
    TransportConfig::default()
        .stream_window(16 << 10)
        .max_stream_window(16 << 10)
        .send_buffer(16 << 10)
        .max_bidi_streams(4)
        .max_uni_streams(4)
}

impl Ends {
    async fn new(server: StackBuilder, client: StackBuilder, at: SocketAddr) -> Self {
        let identity = Identity::new();
        let served = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
        let server = server.build().await.unwrap();
        let listener = server.listen(at, served.alpn([ALPN]).transport(tight())).await.unwrap();
        let config =
            ClientConfig::new(identity.certificate.as_bytes()).unwrap().alpn([ALPN]).transport(tight());
        let address = listener.local_addr();
        Self { server, listener: Some(listener), client: client.build().await.unwrap(), address, config }
    }

    async fn on_loopback() -> Self {
        let os_udp = || Stack::builder().os_udp();
        Self::new(os_udp(), os_udp(), ([127, 0, 0, 1], 0).into()).await
    }

    /// A connection, as the client and the server hold it.
    async fn connect(&self) -> (Connection, Connection) {
        let listener = self.listener.as_ref().expect("it listens");
        let connect = self.client.connect(self.address, SERVER_NAME, self.config.clone());
        let (client, server) = tokio::join!(connect, listener.accept());
        (client.expect("a connection"), server.expect("a connection"))
    }

    /// Waits until no connection is left at either end, be it as an actor, an ID or a timer.
    async fn settle(&self) {
        for stack in [&self.client, &self.server] {
            until(
                || connections(stack) == 0 && stack.status().cids == 0,
                || format!("{} connections, {} CIDs", connections(stack), stack.status().cids),
            )
            .await;
        }
    }
}

fn connections(stack: &Stack) -> usize {
    stack.registry().actors().iter().filter(|actor| actor.kind() == "connection").count()
}

async fn until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "still {}", state());
        tokio::task::yield_now().await;
    }
}

/// Polls a future `times` times, letting everything else run in between, and drops it.
async fn poll_and_drop<F: Future>(future: F, times: usize) {
    let mut future = pin!(future);
    for _ in 0..times {
        if std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn on_loopback(work: impl AsyncFnOnce(&Ends) + Send + 'static) {
    let task = Task::runtime("handles".into(), async || {
        let ends = Ends::on_loopback().await;
        work(&ends).await;
        ends.settle().await;
    });
    task.join(2 * DEADLINE);
}

#[test]
fn connections_dropped_at_either_end() {
    on_loopback(async |ends| {
        for server_first in [true, false] {
            let (client, server) = ends.connect().await;
            let (first, second) = if server_first { (server, client) } else { (client, server) };
            drop(first);
            let reason = second.closed().await;
            assert!(format!("{reason:?}").contains("Application"), "{reason:?}");
        }
    });
}

#[test]
fn connections_that_nobody_accepted() {
    on_loopback(async |ends| {
        for _ in 0..3 {
            ends.client.connect(ends.address, SERVER_NAME, ends.config.clone()).await.unwrap();
        }
        // They wait in the listener's queue as connections that ended; taking them shows just that.
        for _ in 0..3 {
            let connection = ends.listener.as_ref().unwrap().accept().await.unwrap();
            connection.closed().await;
        }
    });
}

#[test]
fn a_connect_given_up_at_every_step() {
    on_loopback(async |ends| {
        for times in 0..60 {
            poll_and_drop(ends.client.connect(ends.address, SERVER_NAME, ends.config.clone()), times).await;
        }
        // Those that came through at the server all the same end there too.
        let listener = ends.listener.as_ref().unwrap();
        let accepting = async { while listener.accept().await.is_some() {} };
        tokio::select! {
            () = accepting => panic!("the listener ended"),
            () = ends.settle() => {}
        }
    });
}

#[test]
fn a_connect_to_nobody_given_up() {
    on_loopback(async |ends| {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        for times in [1, 10, 100] {
            let target = silent.local_addr().unwrap();
            poll_and_drop(ends.client.connect(target, SERVER_NAME, ends.config.clone()), times).await;
        }
    });
}

#[test]
fn an_accept_given_up_loses_no_connection() {
    on_loopback(async |ends| {
        let listener = ends.listener.as_ref().unwrap();
        for times in 1..20 {
            poll_and_drop(listener.accept(), times).await;
        }
        let (client, server) = ends.connect().await;
        for times in 1..20 {
            poll_and_drop(server.accept_bi(), times).await;
            poll_and_drop(server.accept_uni(), times).await;
        }
        let (mut send, _receive) = client.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        let (_send, mut receive) = server.accept_bi().await.unwrap();
        assert_eq!(receive.read_chunk().await.unwrap().as_deref(), Some(&b"x"[..]));
    });
}

#[test]
fn streams_dropped_at_every_stage() {
    on_loopback(async |ends| {
        let (client, server) = ends.connect().await;
        let serving = {
            let server = server.clone();
            tokio::task::spawn_local(async move {
                // Accepts and drops at once: STOP_SENDING and RESET_STREAM for the client.
                while server.accept_bi().await.is_ok() {}
            })
        };
        // Far more than may be open at once: each must make room for the next.
        for round in 0..50_usize {
            let (mut send, mut receive) = client.open_bi().await.unwrap();
            match round % 5 {
                0 => {}
                1 => send.write_all(&[7; 100]).await.unwrap_or_default(),
                2 => poll_and_drop(send.write_all(&[7; 100_000]), round).await,
                3 => poll_and_drop(send.write_chunk(Bytes::from(vec![7; 100_000])), round).await,
                _ => {
                    let _ = send.finish();
                    poll_and_drop(receive.read_chunk(), round).await;
                }
            }
        }
        client.close(VarInt::from_u8(1), b"done");
        serving.await.unwrap();
    });
}

#[test]
fn an_open_given_up_leaves_its_stream_to_others() {
    on_loopback(async |ends| {
        let (client, server) = ends.connect().await;
        let mut open = Vec::new();
        for _ in 0..4 {
            let (mut send, receive) = client.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            open.push((send, receive));
        }
        // The limit is reached: these wait, and are given up.
        for times in 1..10 {
            poll_and_drop(client.open_bi(), times).await;
        }
        drop(open);
        for _ in 0..4 {
            drop(server.accept_bi().await.unwrap());
        }
        let (mut send, _receive) = client.open_bi().await.unwrap();
        send.write_all(b"y").await.unwrap();
        let (_send, mut receive) = server.accept_bi().await.unwrap();
        assert_eq!(receive.read_chunk().await.unwrap().as_deref(), Some(&b"y"[..]));
    });
}

#[test]
fn streams_outlive_the_handle_of_their_connection() {
    on_loopback(async |ends| {
        let (client, server) = ends.connect().await;
        let (mut send, mut receive) = client.open_bi().await.unwrap();
        drop(client);
        send.write_all(b"question").await.unwrap();
        let (mut answer, mut question) = server.accept_bi().await.unwrap();
        assert_eq!(question.read_chunk().await.unwrap().as_deref(), Some(&b"question"[..]));
        answer.write_finish(Bytes::from_static(b"answer")).await.unwrap();
        assert_eq!(receive.read_to_end(100).await.unwrap(), "answer");
        drop((send, receive));
        server.closed().await;
    });
}

#[test]
fn readers_and_writers_are_told_when_the_connection_ends() {
    on_loopback(async |ends| {
        let (client, server) = ends.connect().await;
        let (mut send, mut receive) = client.open_bi().await.unwrap();
        let (mut full, _unread) = client.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        let waiting = tokio::task::spawn_local(async move {
            let all = tokio::join!(receive.read_chunk(), full.write_all(&[7; 1 << 20]), send.finished());
            (all.0.is_err(), all.1.is_err(), all.2.is_err())
        });
        let accepting = tokio::task::spawn_local({
            let client = client.clone();
            async move { (client.accept_bi().await.is_err(), client.accept_uni().await.is_err()) }
        });
        drop(server.accept_bi().await.unwrap());
        server.close(VarInt::from_u8(9), b"enough");
        assert!(waiting.await.unwrap().1, "a writer beyond the window is told");
        assert_eq!(accepting.await.unwrap(), (true, true));
        assert!(format!("{:?}", client.closed().await).contains('9'));
    });
}

#[test]
fn a_dropped_listener_frees_its_port_and_keeps_its_connections() {
    let task = Task::runtime("handles".into(), async || {
        let mut ends = Ends::on_loopback().await;
        let (client, server) = ends.connect().await;
        drop(ends.listener.take());
        let (mut send, _receive) = client.open_bi().await.unwrap();
        send.write_all(b"still here").await.unwrap();
        let (_send, mut receive) = server.accept_bi().await.unwrap();
        assert_eq!(receive.read_chunk().await.unwrap().as_deref(), Some(&b"still here"[..]));
        drop((client, send, _receive, receive, _send, server));
        ends.settle().await;
        until(|| UdpSocket::bind(ends.address).is_ok(), || format!("bound: {}", ends.address)).await;
    });
    task.join(2 * DEADLINE);
}

#[test]
fn a_stack_ends_with_its_last_handle() {
    let task = Task::runtime("handles".into(), async || {
        let ends = Ends::on_loopback().await;
        let address = ends.address;
        let (client, server) = ends.connect().await;
        let silent = tokio::task::spawn_local(async move { client.closed().await });
        drop((ends, server));
        silent.await.unwrap();
        until(|| UdpSocket::bind(address).is_ok(), || format!("bound: {address}")).await;
    });
    task.join(2 * DEADLINE);
}

#[test]
fn an_xdp_stack_leaves_no_program_and_no_socket() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let xdp = || Stack::builder().interface(INTERFACE).require_xdp(true);
    for round in 0..3 {
        let at = world.server.socket(Family::V4, 4433);
        let identity = Identity::new();
        let served = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
        let task = world.server.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let listener = stack.listen(at, served.alpn([ALPN])).await.unwrap();
            let link = std::process::Command::new("ip").args(["link", "show", INTERFACE]).output().unwrap();
            assert!(String::from_utf8_lossy(&link.stdout).contains("xdp"), "no program is attached");
            match round {
                0 => stack.close().await,
                1 => drop((stack, listener)),
                _ => drop((listener, stack)),
            }
        });
        task.join(DEADLINE);
        let start = Instant::now();
        loop {
            let link = world.server.namespace.ip(&[&format!("link show {INTERFACE}")]).unwrap();
            if !link.contains("xdp") && world.server.namespace.run(|| UdpSocket::bind(at).is_ok()) {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "round {round}: {link}");
        }
    }
}
