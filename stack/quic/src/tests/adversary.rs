//! Peers that spend our memory, our keys or our time: each meets a bound.

use std::time::Duration;

use s2n_quic_core::stream::StreamType;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::error::CloseReason;
use crate::net::{Ecn, NetPath};
use crate::stream::ReadOutcome;

fn violation(pair: &mut Pair) -> u64 {
    pair.run_until(|pair| pair.server().closed().is_some());
    match pair.server().closed() {
        Some(CloseReason::Violation(error)) => error.code.as_u64(),
        other => panic!("{other:?}"),
    }
}

fn settled() -> Pair {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_secs(1));
    pair
}

/// A datagram of the client with this payload, not sent by the network.
fn sealed(pair: &mut Pair, payload: &[u8]) -> Vec<u8> {
    let now = pair.now;
    let mut buffer = [0; 1500];
    pair.client.connection.send_raw(now, payload);
    let sent = pair.client.connection.poll_transmit(now, &mut buffer, 1).unwrap();
    buffer[..sent.len].to_vec()
}

fn give(pair: &mut Pair, mut datagram: Vec<u8>) {
    let now = pair.now;
    let path = pair.server().connection.path();
    pair.server().connection.on_datagram(now, path, Ecn::NotEct, &mut datagram);
}

#[test]
fn forged_packets_are_counted_up_to_the_integrity_limit() {
    // RFC 9001 §6.6.
    let mut pair = settled();
    let limit = pair.server().connection.wear_keys(|limits| (0, limits.1 - 2));
    assert!(limit > 1 << 35);
    for last in [false, true] {
        let mut datagram = sealed(&mut pair, &[1; 30]);
        *datagram.last_mut().unwrap() ^= 1;
        give(&mut pair, datagram);
        assert_eq!(pair.server().connection.is_closed(), last);
    }
    assert_eq!(violation(&mut pair), 0x0f);
}

#[test]
fn keys_are_updated_before_they_are_worn_out() {
    // RFC 9001 §6.6.
    let mut pair = settled();
    pair.client.connection.wear_keys(|limits| (limits.0 - 100_000, 0));
    let pair = echo(pair, 2, 10_000);
    assert_eq!(pair.client.connection.stats().counters.key_updated, 1);
    assert_eq!(pair.client.closed(), None);
}

#[test]
fn worn_out_keys_end_the_connection_if_they_can_not_be_updated() {
    let mut pair = settled();
    assert!(pair.client.connection.update_keys());
    // The update is not acknowledged, so there can't be another.
    pair.client.connection.wear_keys(|limits| (limits.0, 0));
    pair.client.connection.ping();
    pair.flush();
    let Some(CloseReason::Violation(error)) = pair.client.closed() else { panic!() };
    assert_eq!(error.code.as_u64(), 0x0f);
}

#[test]
fn two_updates_in_a_row_are_an_error() {
    // RFC 9001 §6.2.
    let mut pair = settled();
    for _ in 0..2 {
        pair.client.connection.force_key_update();
        let datagram = sealed(&mut pair, &[1]);
        give(&mut pair, datagram);
    }
    assert_eq!(violation(&mut pair), 0x0e);
}

fn new_connection_id(sequence: u8, retire_prior_to: u8) -> Vec<u8> {
    let mut frame = vec![0x18, 0x40, sequence, 0x40, retire_prior_to, 8];
    frame.extend([sequence; 8]);
    frame.extend([sequence ^ 0x55; 16]);
    frame
}

#[test]
fn a_flood_of_connection_ids_is_bounded() {
    // More than the limit we announced (RFC 9000 §5.1.1).
    let mut pair = settled();
    let payload: Vec<u8> = (50..58).flat_map(|sequence| new_connection_id(sequence, 0)).collect();
    let now = pair.now;
    pair.client.connection.send_raw(now, &payload);
    assert_eq!(violation(&mut pair), 0x09);
    // Each one retires those before (RFC 9000 §5.1.2).
    let mut pair = settled();
    let payload: Vec<u8> = (50..90).flat_map(|sequence| new_connection_id(sequence, sequence)).collect();
    let now = pair.now;
    pair.client.connection.send_raw(now, &payload);
    assert_eq!(violation(&mut pair), 0x09);
}

#[test]
fn a_flood_of_retirements_is_answered_one_for_one() {
    let mut pair = settled();
    let held = pair.server().connection.local_cids().count();
    let (mut sent, mut buffer) = (0, [0; 1500]);
    // The first is in use and must not be retired.
    for sequence in 1..60 {
        let datagram = sealed(&mut pair, &[0x19, sequence]);
        give(&mut pair, datagram);
        let now = pair.now;
        while pair.server().connection.poll_transmit(now, &mut buffer, 1).is_some() {
            sent += 1;
        }
        assert_eq!(pair.server().closed(), None);
        assert!(pair.server().connection.local_cids().count() <= held);
    }
    assert!(sent <= 60, "{sent}");
    // What was never issued can't be retired (RFC 9000 §19.16).
    let datagram = sealed(&mut pair, &[0x19, 63, 0x19, 0x40, 200]);
    give(&mut pair, datagram);
    assert_eq!(violation(&mut pair), 0x0a);
}

#[test]
fn rapid_resets_leave_nothing_behind() {
    let mut pair = settled();
    let before = pair.server().connection.stats().streams.byte_unreleased;
    for _ in 0..3000 {
        let client = &mut pair.client.connection;
        let Some(id) = client.open(StreamType::Bidirectional) else {
            pair.run_for(Duration::from_millis(30));
            continue;
        };
        client.write(id, vec![1; 100].into()).unwrap();
        client.reset(id, 1_u8.into()).unwrap();
        client.stop_sending(id, 1_u8.into()).unwrap();
        pair.flush();
        pair.step();
        // The application drops them as they come.
        for event in std::mem::take(&mut pair.server().events) {
            if let crate::event::Event::StreamOpened(id) = event {
                let server = &mut pair.server().connection;
                let _ = server.reset(id, 1_u8.into());
                while let Ok(ReadOutcome::Data(data)) = server.read(id) {
                    server.release(id, data.len() as u64);
                }
            }
        }
    }
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.server().closed(), None);
    assert_eq!(pair.server().connection.stats().streams.byte_unreleased, before);
    let heap: i64 = pair.server.unwrap().connection.memory().iter().map(|(_, bytes)| bytes).sum();
    assert!(heap < 16 * 1024, "{heap}");
}

#[test]
fn a_peer_that_never_acknowledges_makes_us_keep_few_acks() {
    let mut pair = settled();
    let id = pair.server().connection.open(StreamType::Unidirectional).unwrap();
    pair.server().connection.write(id, vec![5; 100].into()).unwrap();
    let before = pair.server().connection.stats().counters.packet_sent;
    let mut buffer = [0; 1500];
    for _ in 0..10_000 {
        pair.now += Duration::from_millis(1);
        let now = pair.now;
        let ping = sealed(&mut pair, &[1]);
        give(&mut pair, ping);
        pair.server().connection.on_timeout(now);
        while let Some(sent) = pair.server().connection.poll_transmit(now, &mut buffer, 1) {
            // It takes all of that in, and never says so.
            let path = pair.client.connection.path();
            pair.client.connection.on_datagram(now, path, Ecn::NotEct, &mut buffer[..sent.len]);
        }
    }
    let server = &mut pair.server().connection;
    assert!(!server.is_closed() && server.stats().counters.packet_sent >= before + 5000);
    let (kept, held) = server.sent_packets();
    assert!(kept <= 1024 + 64 && (1..32).contains(&held), "{kept} packets, {held} of them held");

    // At last it acknowledges, and all is as with any other.
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.server().connection.sent_packets().1, 0);
    let pair = echo(pair, 1, 100_000);
    assert_eq!(pair.server.unwrap().closed(), None);
}

#[test]
fn frames_that_show_nothing_cost_nothing_for_long() {
    let mut pair = settled();
    pair.log.clear();
    let mut payload = Vec::new();
    while payload.len() < 1000 {
        // PING, DATA_BLOCKED, STREAMS_BLOCKED, PADDING.
        payload.extend([0x01, 0x14, 0x05, 0x16, 0x05, 0x00]);
    }
    for _ in 0..200 {
        let now = pair.now;
        pair.client.connection.send_raw(now, &payload);
        pair.run_for(Duration::from_millis(5));
    }
    pair.run_for(Duration::from_secs(3));
    assert_eq!(pair.server().closed(), None);
    let answers = pair.log.iter().filter(|sent| sent.role.is_server()).count();
    assert!(answers <= 210, "{answers}");
}

#[test]
fn a_challenge_from_a_strange_place_makes_us_send_little() {
    let mut pair = settled();
    let strange = "203.0.113.9:7".parse().unwrap();
    let mut out = 0;
    let mut given = 0;
    for _ in 0..50 {
        let mut datagram = sealed(&mut pair, &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8]);
        given += datagram.len();
        let now = pair.now;
        let local = pair.server().connection.path().local;
        let path = NetPath { local, remote: strange };
        pair.server().connection.on_datagram(now, path, Ecn::NotEct, &mut datagram);
        let mut buffer = [0; 1500];
        while let Some(sent) = pair.server().connection.poll_transmit(now, &mut buffer, 1) {
            out += if sent.path.remote == strange { sent.len } else { 0 };
        }
    }
    assert!(out <= 3 * given, "{out} bytes for {given}");
}
