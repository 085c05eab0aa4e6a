//! What a connection can do beyond streams, over OS UDP on loopback: needs no rights.

mod support;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use support::{Pair, client_config, listening, server_config};
use wirepath::{
    ClientConfig, Connection, EarlyData, Listener, ReadError, RetryPolicy, ServerConfig, Stack,
    TransportConfig, VERSION_2, VarInt, WriteError, tls::CipherSuite,
};

/// A server that echoes every stream of every connection, and a client's stack.
struct World {
    client: Stack,
    listener: Listener,
    _server: Stack,
}

impl World {
    async fn new(config: ServerConfig) -> Self {
        let (server, listener) = listening(config).await;
        listener.serve(support::echo);
        Self { client: Stack::builder().build().await.expect("build"), listener, _server: server }
    }

    async fn connect(&self, config: &ClientConfig) -> Connection {
        self.client.connect(self.listener.local_addr(), "localhost", config.clone()).await.expect("connect")
    }
}

async fn exchange(connection: &Connection, data: Bytes) {
    let (mut send, mut receive) = connection.open_bi().await.expect("open");
    send.write_finish(data.clone()).await.expect("write");
    assert!(receive.read_to_end(data.len()).await.expect("read") == data, "it came back changed");
}

/// A connection after which the client has the server's tickets: they come with, or right behind, its confirmation.
async fn introduce(world: &World, config: &ClientConfig) -> Connection {
    let connection = world.connect(config).await;
    connection.confirmed().await.expect("confirmed");
    // Answered after the server sent its tickets, on a path that keeps the order.
    exchange(&connection, Bytes::from_static(b"nice to meet you")).await;
    exchange(&connection, Bytes::from_static(b"see you")).await;
    connection
}

#[tokio::test]
async fn the_second_connection_continues_the_session_of_the_first() {
    let world = World::new(server_config()).await;
    let config = client_config();
    let first = introduce(&world, &config).await;
    assert!(!first.established().await.expect("established").outcome.resumed);
    let second = world.connect(&config).await;
    assert!(second.established().await.expect("established").outcome.resumed);
    assert_eq!(second.early_data(), EarlyData::None);
    exchange(&second, Bytes::from_static(b"again")).await;
    let stranger = world.connect(&client_config()).await;
    assert!(!stranger.established().await.expect("established").outcome.resumed);
}

#[tokio::test]
async fn early_data_is_accepted_and_marked_on_both_sides() {
    let (_server, listener) = listening(server_config().early_data(true).expect("valid")).await;
    let client = Stack::builder().partitions(1).build().await.expect("build");
    let config = client_config().early_data(true);
    let world = World { client, listener, _server };
    let (connection, accepted) = tokio::join!(world.connect(&config), world.listener.accept());
    connection.confirmed().await.expect("confirmed");
    let (mut send, mut receive) = connection.open_bi().await.expect("open");
    send.write_finish(Bytes::from_static(b"x")).await.expect("write");
    let server = accepted.expect("accepted");
    let (mut answer, mut request) = server.accept_bi().await.expect("accept");
    assert!(!request.is_early() && server.early_data() == EarlyData::None);
    request.read_to_end(1).await.expect("read");
    answer.write_finish(Bytes::from_static(b"y")).await.expect("write");
    receive.read_to_end(1).await.expect("read");

    // On the connection's own thread, ahead of whatever the server answers: another one may come too late to be early.
    let (stack, to) = (world.client.clone(), world.listener.local_addr());
    let sent = world.client.spawn(0, async move {
        let connecting = stack.start_connecting(to, "localhost", config).await.expect("it starts");
        let early = connecting.early().expect("the session allows it");
        assert_eq!(early.early_data(), EarlyData::Offered);
        let (mut send, receive) = early.open_bi().await.expect("the limits are remembered");
        assert!(send.is_early());
        send.write_finish(Bytes::from_static(b"early")).await.expect("write");
        (connecting, receive)
    });
    let (connecting, mut receive) = sent.await.expect("it sends");
    let server = world.listener.accept().await.expect("handed out");
    assert_eq!(&server.alpn()[..], b"test");
    let (mut answer, mut request) = server.accept_bi().await.expect("accept");
    assert_eq!(server.early_data(), EarlyData::Accepted);
    assert!(request.is_early());
    assert_eq!(&request.read_to_end(100).await.expect("read")[..], b"early");
    answer.write_finish(Bytes::from_static(b"soon")).await.expect("write");
    let connection = connecting.established().await.expect("established");
    assert_eq!(connection.early_data(), EarlyData::Accepted);
    assert_eq!(&receive.read_to_end(100).await.expect("read")[..], b"soon");
    assert!(server.established().await.expect("established").outcome.resumed);
    let (send, _receive) = connection.open_bi().await.expect("open");
    assert!(!send.is_early());
}

#[tokio::test]
async fn early_data_refused_is_sent_once_more_and_not_marked() {
    let world = World::new(server_config().early_data(true).expect("valid")).await;
    let config = client_config().early_data(true);
    introduce(&world, &config).await;
    // Another server, who does not know the session.
    let world = World::new(server_config().early_data(true).expect("valid")).await;
    let to = world.listener.local_addr();
    let connecting = world.client.start_connecting(to, "localhost", config).await.expect("it starts");
    let early = connecting.early().expect("the client can't know").clone();
    let data = support::pattern(100_000, 3);
    let sending = data.clone();
    let (mut send, mut receive) = early.open_bi().await.expect("open");
    send.write_finish(sending).await.expect("write");
    let connection = connecting.established().await.expect("established");
    assert_eq!(connection.early_data(), EarlyData::Rejected);
    assert!(receive.read_to_end(data.len()).await.expect("read") == data);
    assert!(!connection.established().await.expect("established").outcome.resumed);
}

#[tokio::test]
async fn a_retry_is_followed_and_the_next_connection_brings_a_token() {
    let world = World::new(server_config().retry(RetryPolicy::Always)).await;
    let config = client_config();
    let first = introduce(&world, &config).await;
    assert!(first.established().await.expect("established").outcome.retried);
    let second = world.connect(&config).await;
    assert!(!second.established().await.expect("established").outcome.retried);
    let stranger = world.connect(&client_config()).await;
    assert!(stranger.established().await.expect("established").outcome.retried);
}

#[tokio::test]
async fn keys_are_updated_as_often_as_asked() {
    let pair = Pair::echo().await;
    for round in 1..=3 {
        pair.client.update_keys().await.expect("open");
        exchange(&pair.client, support::pattern(10_000, round)).await;
        pair.server.update_keys().await.expect("open");
        exchange(&pair.client, support::pattern(10_000, round)).await;
    }
    // Some of one side's updates may have met the other's: then one update is both.
    assert!(pair.client.stats().counters.key_updated >= 3 && pair.server.stats().counters.key_updated >= 3);
}

#[tokio::test]
async fn the_cipher_suite_and_the_version_are_the_clients_choice() {
    let world = World::new(server_config()).await;
    for suite in [CipherSuite::Aes128Gcm, CipherSuite::Aes256Gcm, CipherSuite::ChaCha20Poly1305] {
        let connection = world.connect(&client_config().cipher_suites(&[suite]).expect("valid")).await;
        let agreed = connection.established().await.expect("established");
        assert_eq!((agreed.outcome.cipher_suite, &agreed.alpn[..]), (Some(suite), &b"test"[..]));
        exchange(&connection, support::pattern(100_000, 1)).await;
    }
    let config = client_config().transport(TransportConfig::default().versions(vec![VERSION_2]));
    let connection = world.connect(&config).await;
    assert_eq!(connection.established().await.expect("established").version, VERSION_2);
    exchange(&connection, support::pattern(100_000, 2)).await;
}

#[tokio::test]
async fn a_client_goes_on_from_another_port() {
    let pair = Pair::echo().await;
    for round in 0..4 {
        let before = (pair.client.local_addr(), pair.client.remote_addr());
        pair.client.migrate("0.0.0.0:0".parse().expect("an address")).await.expect("it may");
        let (local, remote) = pair.client.path_changed(before).await.expect("open");
        assert!(local.port() != before.0.port() && remote == before.1);
        exchange(&pair.client, support::pattern(200_000, round)).await;
        assert_eq!(pair.server.remote_addr(), local);
    }
    let server = &pair.server;
    assert!(server.migrate("0.0.0.0:0".parse().expect("an address")).await.is_err(), "servers stay");
}

/// Sockets of the operating system are all on the first partition, connections of a client on each in turn.
#[tokio::test]
async fn a_connection_stays_on_its_partition_wherever_its_ends_move() {
    let serving = Stack::builder().partitions(4).build().await.expect("build");
    let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let SocketAddr::V4(preferred) = free else { panic!("bound to IPv4") };
    let transport = TransportConfig::default().preferred_address_v4(Some(preferred));
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = serving.listen(any, server_config().transport(transport)).await.expect("listen");
    listener.serve(support::echo);
    let stack = Stack::builder().partitions(4).build().await.expect("build");
    for number in 0..3 {
        let before = stack.status().received[number];
        let config = client_config();
        let connection = stack.connect(listener.local_addr(), "localhost", config).await.expect("connect");
        exchange(&connection, support::pattern(100_000, number)).await;
        // To the server's preferred address, and then to other ports of the client's.
        if connection.remote_addr() == listener.local_addr() {
            let path = (connection.local_addr(), connection.remote_addr());
            connection.path_changed(path).await.expect("open");
        }
        for round in 0..4 {
            exchange(&connection, support::pattern(100_000, round)).await;
            let received = connection.stats().counters.datagram_received;
            let now = stack.status().received[number];
            let (home, away) = (now.0 - before.0, now.1 - before.1);
            assert_eq!((home > 0, away > 0), (number == 0, number != 0));
            assert!(
                received > 60 && home + away >= received,
                "some went elsewhere: {home} {away} {received}"
            );
            let path = (connection.local_addr(), connection.remote_addr());
            connection.migrate(any).await.expect("it may");
            connection.path_changed(path).await.expect("open");
        }
    }
    let received = serving.status().received;
    assert!(received[0].0 > 1000 && received[0].1 == 0 && received[1..] == [(0, 0); 3], "{received:?}");
}

#[tokio::test]
async fn a_server_that_forbids_moving_is_obeyed() {
    let world = World::new(server_config().transport(TransportConfig::default().migration(false))).await;
    let connection = world.connect(&client_config()).await;
    let error = connection.migrate("0.0.0.0:0".parse().expect("an address")).await.expect_err("forbidden");
    assert!(
        matches!(error, wirepath::MigrateError::Refused(wirepath_quic::MigrateError::Forbidden)),
        "{error}"
    );
    exchange(&connection, Bytes::from_static(b"still here")).await;
}

#[tokio::test]
async fn a_client_goes_on_at_the_servers_preferred_address() {
    // A port that was free a moment ago.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let SocketAddr::V4(preferred) = free else { panic!("bound to IPv4") };
    let transport = TransportConfig::default().preferred_address_v4(Some(preferred));
    let world = World::new(server_config().transport(transport)).await;
    let connection = world.connect(&client_config()).await;
    let before = (connection.local_addr(), world.listener.local_addr());
    let (_, remote) = connection.path_changed(before).await.expect("open");
    assert_eq!(remote, free);
    exchange(&connection, support::pattern(1 << 20, 1)).await;
    assert_eq!(connection.remote_addr(), free);
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let transport = || TransportConfig::default().datagram_receive_buffer(Some(1 << 20));
    let (_server, listener) = listening(server_config().transport(transport())).await;
    let client = Stack::builder().build().await.expect("build");
    let (connection, server) = tokio::join!(
        client.connect(listener.local_addr(), "localhost", client_config().transport(transport())),
        listener.accept()
    );
    let (connection, server) = (connection.expect("connect"), server.expect("accept"));
    let longest = connection.max_datagram_size().expect("the server takes them");
    connection.send_datagram(support::pattern(longest, 1)).await.expect("open");
    let there = server.receive_datagram().await.expect("open");
    server.send_datagram(there).await.expect("open");
    assert!(connection.receive_datagram().await.expect("open") == support::pattern(longest, 1));
}

#[tokio::test]
async fn streams_of_a_higher_priority_go_first() {
    // The window holds the client back until the server has read something.
    let transport = TransportConfig::default().connection_window(20_000).max_connection_window(20_000);
    let (_server, listener) = listening(server_config().transport(transport)).await;
    let client = Stack::builder().build().await.expect("build");
    let (connection, server) =
        tokio::join!(client.connect(listener.local_addr(), "localhost", client_config()), listener.accept());
    let (connection, server) = (connection.expect("connect"), server.expect("accept"));
    let mut low = connection.open_uni().await.expect("open");
    let mut high = connection.open_uni().await.expect("open");
    low.set_priority(-1);
    high.set_priority(1);
    low.write_finish(support::pattern(1_000_000, 1)).await.expect("write");
    high.write_finish(support::pattern(200_000, 2)).await.expect("write");
    let mut first = server.accept_uni().await.expect("accept");
    let slow = tokio::spawn(async move { first.read_to_end(1_000_000).await.map(|data| data.len()) });
    // Its first byte waits for the window, too.
    let mut second = server.accept_uni().await.expect("accept");
    assert_eq!(second.read_to_end(200_000).await.expect("read").len(), 200_000);
    assert!(!slow.is_finished(), "the low one had to wait");
    let whole = tokio::time::timeout(Duration::from_secs(30), slow).await.expect("in time");
    assert_eq!(whole.expect("not cancelled").expect("read"), 1_000_000);
}

#[tokio::test]
async fn a_partial_reset_delivers_the_start_of_a_stream() {
    let allows = TransportConfig::default().reset_stream_at(true);
    let (_server, listener) = listening(server_config().transport(allows)).await;
    let client = Stack::builder().build().await.expect("build");
    let (client, server) =
        tokio::join!(client.connect(listener.local_addr(), "localhost", client_config()), listener.accept());
    let (client, server) = (client.expect("connect"), server.expect("accept"));
    let mut send = client.open_uni().await.expect("open");
    send.write_all(&[7; 5000]).await.expect("write");
    send.reset_at(VarInt::from_u8(3), 3000).expect("allowed");
    assert_eq!(send.write(b"x").await, Err(WriteError::Finished));
    let mut receive = server.accept_uni().await.expect("accept");
    let mut read = 0;
    let end = loop {
        match receive.read_chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            other => break other,
        }
    };
    assert_eq!(end, Err(ReadError::Reset(VarInt::from_u8(3))));
    assert!((3000..=5000).contains(&read), "{read}");
    // The other way it was not allowed.
    let mut send = server.open_uni().await.expect("open");
    assert_eq!(send.reset_at(VarInt::from_u8(3), 0), Err(WriteError::Unsupported));
}
