//! How connections end.

use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::stream::StreamType;
use s2n_quic_core::varint::VarInt;

use super::PairBuilder;
use crate::error::CloseReason;
use crate::event::Event;
use crate::net::Ecn;
use crate::role::Role;

#[test]
fn the_application_closes_and_the_peer_is_told() {
    let mut pair = PairBuilder::default().connected();
    let now = pair.now;
    pair.client.connection.close(now, VarInt::from_u8(7), b"enough");
    assert!(pair.client.connection.is_closed());
    pair.run_until(|pair| pair.server().closed().is_some());
    let reason = CloseReason::Application { code: VarInt::from_u8(7), reason: Bytes::from_static(b"enough") };
    assert_eq!(pair.server().closed(), Some(&reason));
    let local = CloseReason::Local { code: VarInt::from_u8(7), reason: Bytes::from_static(b"enough") };
    assert_eq!(pair.client.closed(), Some(&local));
    let start = pair.now;
    pair.run_to_end();
    assert!(pair.client.connection.is_drained() && pair.server().connection.is_drained());
    assert!(pair.now - start < Duration::from_secs(1));
    assert!(pair.client.has(|event| *event == Event::Drained));
}

#[test]
fn an_application_code_is_hidden_before_the_handshake_is_done() {
    let mut pair = PairBuilder::default().build();
    pair.run_until(|pair| pair.server.is_some());
    let now = pair.now;
    pair.server().connection.close(now, VarInt::from_u8(77), b"secret");
    pair.run_until(|pair| pair.client.closed().is_some());
    let Some(CloseReason::Transport { code, reason, .. }) = pair.client.closed() else { panic!() };
    assert_eq!((code.as_u64(), &reason[..]), (0x0c, &b""[..]));
}

#[test]
fn a_lost_close_is_repeated_less_and_less_often() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_millis(500));
    let now = pair.now;
    pair.network.faults.loss = 1000;
    pair.client.connection.close(now, VarInt::ZERO, b"");
    pair.flush();
    pair.log.clear();
    let datagram = vec![0x40; 100];
    let path = pair.client.connection.path();
    for _ in 0..100 {
        pair.client.connection.on_datagram(now, path, Ecn::NotEct, &mut datagram.clone());
        pair.flush();
    }
    let answers = pair.log.iter().filter(|sent| sent.role == Role::Client).count();
    assert!((3..=8).contains(&answers), "{answers}");
}

#[test]
fn silence_ends_in_the_idle_timeout() {
    let mut pair = PairBuilder::default()
        .client(|config| config.idle_timeout(Some(Duration::from_secs(20))))
        .server(|config| config.idle_timeout(Some(Duration::from_secs(5))))
        .connected();
    let start = pair.now;
    pair.run_to_end();
    assert_eq!(pair.client.closed(), Some(&CloseReason::IdleTimeout));
    assert_eq!(pair.server().closed(), Some(&CloseReason::IdleTimeout));
    let waited = pair.now - start;
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6), "{waited:?}");
}

#[test]
fn keep_alive_keeps_alive() {
    let mut pair = PairBuilder::default()
        .both(|config| config.idle_timeout(Some(Duration::from_secs(5))))
        .client(|config| config.keep_alive(Some(Duration::from_secs(2))))
        .connected();
    pair.log.clear();
    pair.run_for(Duration::from_secs(60));
    assert_eq!((pair.client.closed().cloned(), pair.server().closed().cloned()), (None, None));
    assert!(pair.log.len() < 200, "{}", pair.log.len());
}

#[test]
fn a_server_that_forgot_everything_resets() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_millis(100));
    pair.server = None;
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, Bytes::from_static(&[1; 100])).unwrap();
    let start = pair.now;
    pair.run_until(|pair| pair.client.closed().is_some());
    assert_eq!(pair.client.closed(), Some(&CloseReason::StatelessReset));
    assert!(pair.now - start <= Duration::from_millis(100));
}

#[test]
fn closing_gives_up_data() {
    let mut pair = PairBuilder::default().connected();
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 1 << 20].into()).unwrap();
    pair.flush();
    let now = pair.now;
    pair.client.connection.close(now, VarInt::ZERO, b"");
    assert!(pair.client.connection.write(id, Bytes::from_static(b"x")).is_err());
    assert_eq!(pair.client.connection.open(StreamType::Bidirectional), None);
    pair.run_to_end();
}
