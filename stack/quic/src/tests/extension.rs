//! Extensions: negotiated, and off unless both sides want them.

use std::time::Duration;

use s2n_quic_core::stream::StreamType;
use s2n_quic_core::varint::VarInt;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::config::{AckRequest, AddressDiscovery};
use crate::error::CloseReason;
use crate::event::Event;
use crate::stream::StreamError;

const REQUEST: AckRequest = AckRequest { threshold: 19, max_delay: Duration::from_millis(50), reordering: 3 };

/// Bytes from client to server; gives the datagrams the server sent meanwhile.
fn acks(builder: PairBuilder) -> usize {
    let mut pair = builder.both(|config| config.mtu_discovery(false)).connected();
    pair.run_for(Duration::from_secs(1));
    pair.log.clear();
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 2_000_000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.run_until(|pair| pair.server().finished.contains(&id));
    assert_eq!(pair.client.connection.stats().counters.packet_lost, 0);
    pair.log.iter().filter(|sent| sent.role.is_server()).count()
}

#[test]
fn fewer_acknowledgements_are_sent_if_the_sender_wants_fewer() {
    let paced = || PairBuilder::default().faults(|faults| faults.bandwidth = 100_000_000);
    let usual = acks(paced());
    let accepts =
        |builder: PairBuilder| builder.server(|config| config.min_ack_delay(Some(Duration::from_millis(1))));
    let asks = |builder: PairBuilder| builder.client(|config| config.ack_request(Some(REQUEST)));
    let fewer = acks(asks(accepts(paced())));
    assert!(fewer * 4 < usual, "{fewer} of {usual}");
    // One side alone changes nothing.
    assert!(acks(accepts(paced())).abs_diff(usual) <= usual / 10);
    assert!(acks(asks(paced())).abs_diff(usual) <= usual / 10);
}

#[test]
fn with_few_acknowledgements_losses_are_still_found() {
    for seed in 0..6 {
        let pair = PairBuilder::default()
            .seed(seed)
            .both(|config| config.min_ack_delay(Some(Duration::from_millis(1))).ack_request(Some(REQUEST)))
            .faults(|faults| {
                faults.loss = 20;
                faults.jitter = Duration::from_millis(2);
            })
            .connected();
        let pair = echo(pair, 3, 200_000);
        let counters = pair.client.connection.stats().counters;
        assert!(counters.packet_lost > 0);
    }
}

fn closes(pair: &mut Pair, payload: &[u8]) -> Option<u64> {
    let now = pair.now;
    pair.client.connection.send_raw(now, payload);
    pair.run_for(Duration::from_millis(200));
    match pair.server().closed() {
        Some(CloseReason::Violation(error)) => Some(error.code.as_u64()),
        _ => None,
    }
}

#[test]
fn frames_of_extensions_are_errors_unless_agreed_on() {
    let cases: &[(&[u8], Option<u64>)] = &[
        (&[0x1f], None),                                              // IMMEDIATE_ACK
        (&[0x40, 0xaf, 0, 1, 0x47, 0xd0, 1], None),                   // ACK_FREQUENCY, 2 ms
        (&[0x40, 0xaf, 0, 1, 0x43, 0xe7, 1], Some(0x0a)),             // less than the least
        (&[0x40, 0xaf, 0, 1, 0x80, 0xfa, 0, 0, 1], Some(0x0a)),       // 2^14 ms
        (&[0x40, 0xaf, 0, 1], Some(0x07)),                            // cut
        (&[0x40, 0x1f], Some(0x07)),                                  // longer than need be
        (&[0x80, 0x9f, 0x81, 0xa6, 0, 1, 2, 3, 4, 0, 5], None),       // OBSERVED_ADDRESS
        (&[0x80, 0x9f, 0x81, 0xa7, 0, 1, 2, 3, 4, 0, 5], Some(0x07)), // cut
        (&[0x24, 2, 7, 5, 5], None),                                  // RESET_STREAM_AT
        (&[0x24, 2, 7, 5, 6], Some(0x07)),                            // promises more than there is
        (&[0x24, 2, 7, 5], Some(0x07)),                               // cut
        (&[0x24, 3, 7, 5, 5], Some(0x05)),                            // a stream only the server sends on
    ];
    for (payload, expected) in cases {
        let mut pair = PairBuilder::default()
            .server(|config| {
                config
                    .min_ack_delay(Some(Duration::from_millis(1)))
                    .address_discovery(Some(AddressDiscovery::Request))
                    .reset_stream_at(true)
            })
            .connected();
        pair.run_for(Duration::from_secs(1));
        assert_eq!(closes(&mut pair, payload), *expected, "{payload:x?}");
        let mut pair = PairBuilder::default().connected();
        pair.run_for(Duration::from_secs(1));
        assert_eq!(closes(&mut pair, payload), Some(0x07), "{payload:x?} unasked");
    }
    let mut pair = PairBuilder::default()
        .server(|config| config.address_discovery(Some(AddressDiscovery::Provide)))
        .connected();
    let observed = &[0x80, 0x9f, 0x81, 0xa6, 0, 1, 2, 3, 4, 0, 5];
    assert_eq!(closes(&mut pair, observed), Some(0x0a));
}

#[test]
fn a_partial_reset_delivers_what_it_promises_on_a_bad_network() {
    for seed in 0..12 {
        let mut pair = PairBuilder::default()
            .seed(seed)
            .server(|config| config.reset_stream_at(true).stream_window(20_000))
            .faults(|faults| {
                faults.loss = 100;
                faults.duplicate = 50;
                faults.jitter = Duration::from_millis(20);
            })
            .connected();
        let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
        let data: Vec<u8> = (0..100_000_u32).map(|at| (at ^ (at >> 8)) as u8).collect();
        pair.client.connection.write(id, data.clone().into()).unwrap();
        pair.run_for(Duration::from_millis(10 * seed));
        pair.client.connection.reset_at(id, VarInt::from_u8(7), 50_000).unwrap();
        pair.run_for(Duration::from_millis(20));
        if seed % 2 == 0 {
            pair.client.connection.reset_at(id, VarInt::from_u8(7), 30_000).unwrap();
        }
        let told = |event: &Event| matches!(event, Event::StreamReset { code, partial: true, .. } if *code == VarInt::from_u8(7));
        pair.run_until(|pair| pair.server().events.iter().any(told));
        let received = &pair.server().received[&id];
        assert!(received.len() >= if seed % 2 == 0 { 30_000 } else { 50_000 }, "{}", received.len());
        assert!(received.len() < data.len() && received[..] == data[..received.len()]);
        pair.run_until(|pair| pair.client.released.get(&id) == Some(&100_000));
        let pair = echo(pair, 3, 20_000);
        assert_eq!(pair.client.closed(), None);
    }
}

#[test]
fn a_partial_reset_needs_the_peers_permission() {
    let mut pair = PairBuilder::default().client(|config| config.reset_stream_at(true)).connected();
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 100].into()).unwrap();
    let refused = pair.client.connection.reset_at(id, VarInt::from_u8(7), 50);
    assert_eq!(refused, Err(StreamError::Unsupported));
    assert!(!pair.client.connection.handshake_outcome().partial_resets);
    assert!(pair.server().connection.handshake_outcome().partial_resets);
}

#[test]
fn each_side_learns_how_the_other_sees_it() {
    for loss in [0, 200] {
        let mut pair = PairBuilder::default()
            .both(|config| config.address_discovery(Some(AddressDiscovery::Both)).idle_timeout(None))
            .faults(|faults| faults.loss = loss)
            .connected();
        pair.run_until(|pair| {
            pair.client.connection.observed_address().is_some()
                && pair.server().connection.observed_address().is_some()
        });
        let believed = pair.client.net.local;
        assert_eq!(pair.client.connection.observed_address(), Some(believed));
        // A NAT takes another port.
        pair.client.net.local.set_port(9999);
        pair.client.connection.ping();
        pair.run_until(|pair| {
            pair.client.connection.observed_address().is_some_and(|address| address.port() == 9999)
        });
    }
}

#[test]
fn nobody_is_told_who_did_not_ask() {
    for (client, server) in [
        (Some(AddressDiscovery::Provide), Some(AddressDiscovery::Both)),
        (None, Some(AddressDiscovery::Both)),
        (Some(AddressDiscovery::Request), Some(AddressDiscovery::Request)),
    ] {
        let mut pair = PairBuilder::default()
            .client(|config| config.address_discovery(client))
            .server(|config| config.address_discovery(server))
            .connected();
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.client.connection.observed_address(), None);
        assert_eq!(pair.client.closed(), None);
    }
}
