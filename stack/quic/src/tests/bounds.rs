//! What a peer makes us keep, beyond each bound of docs/limits.md that no other test is about.

use std::time::Duration;

use super::PairBuilder;
use super::pair::{client_addr, server_addr, server_tls};
use crate::error::CloseReason;
use crate::net::{Ecn, NetPath};
use crate::tls;

#[test]
fn packets_ahead_of_their_keys_are_kept_up_to_a_bound() {
    // At most eight of them, and 16 KiB.
    for (len, most) in [(60, 8), (1200, 8), (5000, 3)] {
        let mut pair = PairBuilder::default().build();
        let now = pair.now;
        let path = pair.client.connection.path();
        let cid = pair.client.connection.local_cids().next().unwrap();
        for number in 0..100 {
            let mut datagram = vec![number; len];
            datagram[0] = 0x40;
            datagram[1..1 + cid.len()].copy_from_slice(cid.as_slice());
            pair.client.connection.on_datagram(now, path, Ecn::NotEct, &mut datagram);
        }
        let dropped = pair.client.connection.stats().counters.packet_keyless_dropped;
        assert_eq!(dropped, 100 - most, "{len}");
        pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    }
}

#[test]
fn a_peer_gets_no_more_ids_than_we_choose() {
    // RFC 9000 §5.1.1: the limit is the peer's, but fewer may be issued.
    let mut pair = PairBuilder::default().both(|config| config.active_connection_id_limit(8)).connected();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server().connection.local_cids().count(), 4);
    assert_eq!(pair.client.connection.local_cids().count(), 4);
}

#[test]
fn a_long_retry_token_is_not_taken() {
    for (len, taken) in [(1000, true), (1001, false)] {
        let mut pair = PairBuilder::default().build();
        let now = pair.now;
        let mut first = [0; 1500];
        pair.client.connection.poll_transmit(now, &mut first, 1).unwrap();
        let (dcid, scid) = (&first[6..14], &first[15..23]);
        let mut retry = vec![0xf0, 0, 0, 0, 1, 8];
        retry.extend(scid);
        retry.extend([8; 9]);
        retry.extend(vec![7; len]);
        let tag = tls::retry_tag(1, dcid, &retry);
        retry.extend(tag);
        let path = NetPath { local: client_addr(), remote: server_addr() };
        pair.client.connection.on_datagram(now, path, Ecn::NotEct, &mut retry);
        let mut second = [0; 1500];
        let again = pair.client.connection.poll_transmit(now, &mut second, 1);
        assert_eq!(again.is_some(), taken, "{len}");
    }
}

/// A CRYPTO frame with a kilobyte of a message of 16 MB (RFC 8446 §4).
fn endless(offset: u32) -> Vec<u8> {
    let mut payload = vec![0x06];
    payload.extend((offset | 0x8000_0000).to_be_bytes());
    payload.extend([0x44, 0]);
    payload.extend(vec![0xff; 1024]);
    if offset == 0 {
        // NewSessionTicket.
        payload[7] = 0x04;
    }
    payload
}

#[test]
fn a_tls_message_without_end_is_not_kept() {
    // A client that still waits for tickets.
    let server_tls = server_tls().session_tickets(false);
    let mut pair = PairBuilder { server_tls, ..Default::default() }.connected();
    pair.run_for(Duration::from_secs(1));
    let mut offset = 0;
    while pair.client.closed().is_none() {
        assert!(offset < 100_000, "all of it was kept");
        let now = pair.now;
        pair.server().connection.send_raw(now, &endless(offset));
        pair.run_for(Duration::from_millis(100));
        offset += 1024;
    }
    let Some(CloseReason::Violation(error)) = pair.client.closed() else { panic!() };
    // RFC 9001 §4.8: an alert of TLS.
    assert!((0x100..0x200).contains(&error.code.as_u64()), "{error:?}");
}

#[test]
fn tls_messages_that_nobody_waits_for_are_not_kept() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_secs(1));
    for number in 0..2000 {
        let now = pair.now;
        pair.client.connection.send_raw(now, &endless(number * 1024));
        pair.run_for(Duration::from_millis(10));
    }
    assert_eq!(pair.server().closed(), None);
    let parts = pair.server.unwrap().connection.memory();
    assert!(parts.iter().map(|(_, bytes)| bytes).sum::<i64>() < 16 * 1024, "{parts:?}");
}

#[test]
fn acknowledgements_that_nobody_acknowledges_are_forgotten() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_secs(1));
    let before = pair.server().connection.stats().counters.packet_sent;
    for _ in 0..3000 {
        let now = pair.now;
        pair.client.connection.send_raw(now, &[0x01]);
        pair.run_for(Duration::from_millis(30));
    }
    assert!(pair.server().connection.stats().counters.packet_sent >= before + 1000);
    let parts = pair.server.unwrap().connection.memory();
    assert!(parts.iter().map(|(_, bytes)| bytes).sum::<i64>() < 16 * 1024, "{parts:?}");
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let mut pair = PairBuilder::default().both(|config| config.idle_timeout(None)).build();
    pair.run_until(|pair| pair.server.is_some());
    pair.network.faults.loss = 1000;
    // The client says nothing more that arrives, but forged packets keep coming.
    for _ in 0..9 {
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.server().closed(), None);
        let now = pair.now;
        let path = pair.server().connection.path();
        pair.server().connection.on_datagram(now, path, Ecn::NotEct, &mut [0x40; 100]);
    }
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.server().closed(), Some(&CloseReason::HandshakeTimeout));
}
