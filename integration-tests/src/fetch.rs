//! A server that sends what it is asked for, and a client that asks: for tests of what happens in between.

use std::{
    net::SocketAddr,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use wirepath::{ClientConfig, Connection, ServerConfig, Stack, StackBuilder, StackStatus, TransportConfig};
use wirepath_trace::Passed;

use crate::{
    cert::{ALPN, Identity, SERVER_NAME},
    netns::{Namespace, Task},
    ours::{Server, server_config},
    work::{Checker, pattern},
};

/// How long a server may take to listen, on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// How long a status may take to become what is waited for.
const STATUS_WITHIN: Duration = Duration::from_secs(60);

/// A server at one address, for whoever trusts this identity.
///
/// # Panics
/// If it can't listen.
pub fn server(
    namespace: &Namespace,
    builder: StackBuilder,
    at: SocketAddr,
    identity: &Identity,
    transport: TransportConfig,
) -> Server {
    Server::start(namespace, builder, [(at, server_config(identity).transport(transport))])
}

/// A server for one connection, which is handed out, too: for tests that look at both ends. Ends with the connection.
///
/// # Panics
/// If it can't listen.
pub fn answer_one(
    namespace: &Namespace,
    builder: StackBuilder,
    at: SocketAddr,
    config: ServerConfig,
) -> (Task<()>, Receiver<Connection>) {
    let (started, listening) = mpsc::channel();
    let (accepted, connection) = mpsc::channel();
    let task = namespace.runtime(async move || {
        let stack = builder.build().await.unwrap();
        let listener = stack.listen(at, config).await.unwrap();
        started.send(()).unwrap();
        let connection = listener.accept().await.unwrap();
        accepted.send(connection.clone()).unwrap();
        answer(connection).await;
        stack.close().await;
    });
    listening.recv_timeout(STARTED_WITHIN).expect("it listens");
    (task, connection)
}

/// Serves one connection of such a server.
pub async fn answer(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let serving = async move {
            let request = receive.read_to_end(8).await?;
            let count = u64::from_be_bytes(request[..].try_into().expect("eight bytes"));
            let mut sent = 0;
            while sent < count {
                let bytes = pattern(0, sent, (count - sent).min(100_000) as usize);
                sent += bytes.len() as u64;
                if send.write_chunk(bytes).await.is_err() {
                    break;
                }
            }
            let _ = send.finish();
            Ok::<_, wirepath::ReadError>(())
        };
        tokio::spawn(serving);
    }
}

/// Asks for bytes on a stream of their own, calls `half` when half of them have come, and checks all.
///
/// # Panics
/// If they don't come as they should.
pub async fn fetch(connection: &Connection, count: u64, half: impl FnOnce()) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_finish(count.to_be_bytes().to_vec().into()).await.unwrap();
    let (mut checker, mut half) = (Checker::new(0), Some(half));
    while let Some(bytes) = receive.read_chunk().await.unwrap() {
        checker.take(bytes).unwrap();
        if checker.seen() * 2 >= count
            && let Some(half) = half.take()
        {
            half();
        }
    }
    assert_eq!(checker.seen(), count);
}

/// Connects to such a server.
///
/// # Panics
/// If that fails.
pub async fn connect(
    stack: &Stack,
    to: SocketAddr,
    identity: &Identity,
    transport: TransportConfig,
) -> Connection {
    let config =
        ClientConfig::new(identity.certificate.as_bytes()).unwrap().alpn([ALPN]).transport(transport);
    stack.connect(to, SERVER_NAME, config).await.unwrap()
}

/// Datagrams that the XSKs of a stack have sent.
pub fn sent_by_xdp(status: &StackStatus) -> u64 {
    let xsks = status.devices.iter().filter(|device| device.status.queue.is_some());
    xsks.map(|device| device.stats.tx_datagram_sent).sum()
}

/// Packets that those devices of a stack have handed on whose name begins so, all of them as of now: a status tells of
/// them a little later.
pub fn received_now(stack: &Stack, devices: &str) -> u64 {
    let actors = stack.registry().actors();
    let devices = actors.iter().filter(|it| it.kind() == "device" && it.name.starts_with(devices));
    devices.map(|device| device.meter.snapshot().item_passed[Passed::Up as usize]).sum()
}

/// Waits until the status of a stack is as wanted.
///
/// # Panics
/// If it is not within a minute.
pub async fn until(stack: &Stack, wanted: impl Fn(&StackStatus) -> bool) -> StackStatus {
    let start = Instant::now();
    loop {
        let status = stack.status();
        if wanted(&status) {
            return status;
        }
        assert!(start.elapsed() < STATUS_WITHIN, "still {status}: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
