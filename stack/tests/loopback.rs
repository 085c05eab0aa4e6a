//! The API over OS UDP on loopback: needs no rights.

mod support;

use bytes::Bytes;
use support::{Pair, pattern};
use wirepath::{CloseReason, ReadError, VarInt, WriteError};

#[tokio::test]
async fn a_stream_is_echoed() {
    let pair = Pair::echo().await;
    let (mut send, mut receive) = pair.client.open_bi().await.expect("open");
    send.write_all(b"hello").await.expect("write");
    send.finish().expect("finish");
    assert_eq!(&receive.read_to_end(100).await.expect("read")[..], b"hello");
    send.finished().await.expect("acknowledged");
}

#[tokio::test]
async fn a_megabyte_goes_both_ways_on_each_of_ten_streams() {
    let pair = Pair::echo().await;
    let mut tasks = Vec::new();
    for n in 0..10 {
        let client = pair.client.clone();
        tasks.push(tokio::spawn(async move {
            let (mut send, mut receive) = client.open_bi().await.expect("open");
            let data = pattern(1 << 20, n);
            let sent = data.clone();
            let writer = tokio::spawn(async move { send.write_finish(sent).await.map(|()| send) });
            assert!(
                receive.read_to_end(2 << 20).await.expect("read") == data,
                "stream {n} came back changed"
            );
            writer.await.expect("not cancelled").expect("write").finished().await.expect("acknowledged");
        }));
    }
    for task in tasks {
        task.await.expect("stream");
    }
}

#[tokio::test]
async fn unidirectional_streams_arrive() {
    let pair = Pair::silent().await;
    let mut send = pair.client.open_uni().await.expect("open");
    send.write_finish(Bytes::from_static(b"one way")).await.expect("write");
    let mut receive = pair.server.accept_uni().await.expect("accept");
    assert_eq!(&receive.read_to_end(100).await.expect("read")[..], b"one way");
}

#[tokio::test]
async fn a_close_reaches_the_peer_with_its_code_and_reason() {
    let pair = Pair::silent().await;
    pair.client.close(VarInt::from_u8(42), b"done");
    let expected =
        CloseReason::Application { code: VarInt::from_u8(42), reason: Bytes::from_static(b"done") };
    assert_eq!(pair.server.closed().await, expected);
    assert!(pair.client.open_bi().await.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_with_code_zero() {
    let Pair { client, server, stacks } = Pair::silent().await;
    drop(client);
    assert!(
        matches!(server.closed().await, CloseReason::Application { code, .. } if code == VarInt::from_u8(0))
    );
    drop(stacks);
}

#[tokio::test]
async fn a_reset_and_a_stop_reach_the_other_side() {
    let pair = Pair::silent().await;
    let (mut send, mut receive) = pair.client.open_bi().await.expect("open");
    send.write_all(b"x").await.expect("write");
    let (mut answer, mut request) = pair.server.accept_bi().await.expect("accept");
    assert_eq!(&request.read_chunk().await.expect("read").expect("data")[..], b"x");
    request.stop(VarInt::from_u8(7));
    assert_eq!(send.stopped().await.expect("told"), Some(VarInt::from_u8(7)));
    assert_eq!(send.write(b"y").await, Err(WriteError::Stopped(VarInt::from_u8(7))));
    answer.reset(VarInt::from_u8(9)).expect("open");
    assert_eq!(receive.read_chunk().await, Err(ReadError::Reset(VarInt::from_u8(9))));
}

#[tokio::test]
async fn a_dropped_unfinished_stream_is_reset_not_ended() {
    let pair = Pair::silent().await;
    let (mut send, _receive) = pair.client.open_bi().await.expect("open");
    send.write_all(b"part").await.expect("write");
    let (_answer, mut request) = pair.server.accept_bi().await.expect("accept");
    assert!(request.read_chunk().await.expect("read").is_some());
    drop(send);
    assert_eq!(request.read_chunk().await, Err(ReadError::Reset(VarInt::from_u8(0))));
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound");
    let stack = wirepath::Stack::builder().build().await.expect("build");
    let error = stack.listen(addr, support::server_config()).await.expect_err("taken").to_string();
    assert!(error.contains("in use"), "{error}");
}

#[tokio::test]
async fn an_unknown_interface_is_a_clear_error() {
    let error =
        wirepath::Stack::builder().interface("nosuch0").build().await.expect_err("unknown").to_string();
    assert!(error.contains("nosuch0"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused() {
    let (server, listener) = support::listening(support::server_config()).await;
    let other = wirepath::ClientConfig::new(support::other_root().as_bytes()).expect("roots").alpn(["test"]);
    let error =
        server.connect(listener.local_addr(), "localhost", other).await.expect_err("refused").to_string();
    assert!(error.contains("certificate") || error.contains("crypto"), "{error}");
}
