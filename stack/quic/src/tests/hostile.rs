//! Input nobody should send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use s2n_quic_core::stream::StreamType;

use super::PairBuilder;
use super::pair::{client_addr, client_tls, server_addr};
use super::transfer::echo;
use crate::cid::RandomCids;
use crate::config::TransportConfig;
use crate::connection::{Connect, Connection};
use crate::endpoint::RetryPolicy;
use crate::error::CloseReason;
use crate::event::Event;
use crate::header::{VERSION_1, VERSION_2};
use crate::net::{Ecn, NetPath};
use crate::random::Random;

#[test]
fn noise_harms_no_live_connection() {
    for seed in 0..8 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair = PairBuilder::default().seed(seed).build();
        for round in 0..3000 {
            let mut bytes = vec![0; rng.random_range(0..1500)];
            rng.fill(&mut bytes[..]);
            // Half of it looks like packets of the connection.
            if rng.random() && bytes.len() > 30 {
                let cid = match pair.server.as_ref().and_then(|server| server.connection.local_cids().next())
                {
                    Some(cid) => cid,
                    None => pair.client.connection.local_cids().next().unwrap(),
                };
                if rng.random() {
                    bytes[0] = rng.random_range(0x40..0x80);
                    bytes[1..1 + cid.len()].copy_from_slice(cid.as_slice());
                } else {
                    bytes[0] = rng.random_range(0xc0..=0xff);
                    bytes[1..5].copy_from_slice(&VERSION_1.to_be_bytes());
                    bytes[5] = cid.len() as u8;
                    bytes[6..6 + cid.len()].copy_from_slice(cid.as_slice());
                }
            }
            let now = pair.now;
            let to_server = NetPath { local: server_addr(), remote: client_addr() };
            if let Some(server) = &mut pair.server {
                server.connection.on_datagram(now, to_server, Ecn::Ce, &mut bytes.clone());
            }
            let path = pair.client.connection.path();
            pair.client.connection.on_datagram(now, path, Ecn::Ce, &mut bytes);
            if round % 100 == 0 {
                pair.run_for(Duration::from_millis(1));
            }
        }
        pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
        echo(pair, 3, 20_000);
    }
}

#[test]
fn replayed_datagrams_harm_no_live_connection() {
    let mut pair = PairBuilder::default().faults(|faults| faults.duplicate = 1000).connected();
    pair = echo(pair, 10, 100_000);
    let dropped = pair.client.connection.stats().counters.packet_duplicate_dropped;
    assert!(dropped > 100);
}

#[test]
fn what_a_wrong_client_sends_never_panics_the_server() {
    // The payloads are random, but rightly encrypted: the frames themselves are tried.
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair =
            PairBuilder::default().seed(seed).both(|config| config.reset_stream_at(true)).connected();
        pair.run_for(Duration::from_millis(100));
        for _ in 0..20 {
            let len = rng.random_range(1..60);
            let mut payload = vec![0; len];
            rng.fill(&mut payload[..]);
            if rng.random_ratio(3, 4) {
                payload[0] = rng.random_range(0..0x32);
            }
            for byte in &mut payload[1..] {
                if rng.random_ratio(1, 2) {
                    *byte = rng.random_range(0..8);
                }
            }
            let now = pair.now;
            pair.client.connection.send_raw(now, &payload);
            pair.flush();
            pair.step();
            if pair.server().closed().is_some() {
                break;
            }
        }
        pair.run_for(Duration::from_secs(2));
        let closed = pair.server().closed().cloned();
        if let Some(CloseReason::Violation(error)) = closed {
            let code = error.code.as_u64();
            assert!((0x01..=0x0d).contains(&code), "{error:?}");
        }
    }
}

#[test]
fn frames_that_must_not_be_are_named() {
    let cases: &[(&[u8], u64)] = &[
        (&[0x1e], 0x0a),                      // HANDSHAKE_DONE from a client
        (&[0x07, 1, 1], 0x0a),                // NEW_TOKEN from a client
        (&[0x02, 0x40, 0xff, 0, 0, 0], 0x0a), // ACK of what was never sent
        (&[0x02, 1, 0, 1, 5, 0, 0], 0x07),    // ACK ranges below 0
        (&[0x1f], 0x07),                      // unknown
        (&[0x40, 0x01], 0x07),                // a type not in its shortest form
        (&[0x32], 0x07),                      // unknown
        (&[0x06, 0, 0x40], 0x07),             // cut
        (&[0x08, 3], 0x05),                   // a stream only the server sends on
        (&[0x11, 3, 0], 0x05),                // MAX_STREAM_DATA for it
        (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0x07),
        (&[0x0c, 0x7f, 0xf0, 0, 1], 0x04), // a stream beyond the limit
        (&[0x0c, 0, 0xbf, 0xff, 0xff, 0xff, 1], 0x03), // data beyond the window
        (&[0x19, 99], 0x0a),               // retires what was never issued
        (&[0x18, 5, 6, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0x07),
        (&[0x18, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0x07),
        (&[0x30, 1], 0x0a),                      // a datagram nobody agreed to
        (&[0x06, 0x80, 0x01, 0, 0, 1, 1], 0x0d), // CRYPTO far ahead
    ];
    for (payload, code) in cases {
        let mut pair = PairBuilder::default().connected();
        pair.run_for(Duration::from_millis(100));
        let now = pair.now;
        pair.client.connection.send_raw(now, payload);
        pair.run_until(|pair| pair.server().closed().is_some());
        let Some(CloseReason::Violation(error)) = pair.server().closed().cloned() else {
            panic!("{payload:x?}: {:?}", pair.server().closed())
        };
        assert_eq!(error.code.as_u64(), *code, "{payload:x?}: {error:?}");
        pair.run_until(|pair| pair.client.closed().is_some());
        let told = pair.client.closed().cloned();
        assert!(matches!(told, Some(CloseReason::Transport { code: told, .. }) if told.as_u64() == *code));
    }
}

#[test]
fn a_left_out_packet_number_must_not_be_acknowledged() {
    let builder = PairBuilder::default().both(|config| config.initial_window(Some(200_000)).pacing(false));
    let mut pair = builder.connected();
    pair.run_for(Duration::from_millis(100));
    pair.network.faults.loss = 1000;
    let id = pair.server().connection.open(StreamType::Unidirectional).unwrap();
    pair.server().connection.write(id, vec![1; 180_000].into()).unwrap();
    pair.flush();
    pair.network.faults.loss = 0;
    // The client acknowledges everything, though nothing came.
    let largest = pair.server().connection.next_number() - 1;
    let (high, low) = ((largest >> 8) as u8, largest as u8);
    let payload = [0x02, 0x80, 0, high, low, 0, 0, 0x80, 0, high, low];
    let now = pair.now;
    pair.client.connection.send_raw(now, &payload);
    pair.run_until(|pair| pair.server().closed().is_some());
    let Some(CloseReason::Violation(error)) = pair.server().closed() else { panic!() };
    assert_eq!(error.code.as_u64(), 0x0a);
}

#[test]
fn a_flood_of_challenges_is_answered_within_bounds() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_millis(100));
    let payload: Vec<u8> = (0..100).flat_map(|index| [0x1a, index, 0, 0, 0, 0, 0, 0, 0]).collect();
    let now = pair.now;
    pair.client.connection.send_raw(now, &payload);
    pair.log.clear();
    pair.run_for(Duration::from_millis(300));
    let answers = pair.log.iter().filter(|sent| sent.role.is_server()).count();
    assert!((1..=4).contains(&answers), "{answers}");
    assert_eq!(pair.server().closed(), None);
}

#[test]
fn retry_is_followed_once_and_its_token_counts() {
    let pair = PairBuilder { retry: RetryPolicy::Always, ..Default::default() }.connected();
    assert_eq!(pair.endpoint.stats().retry_sent, 1);
    echo(pair, 2, 10_000);
}

#[test]
fn a_token_of_the_last_connection_saves_the_retry() {
    let mut builder = PairBuilder { retry: RetryPolicy::Always, ..Default::default() };
    let mut pair = builder.clone().connected();
    pair.run_for(Duration::from_millis(100));
    let token = pair.client.events.iter().find_map(|event| match event {
        Event::NewToken(token) => Some(token.clone()),
        _ => None,
    });
    builder.token = token.expect("the server gave a token");
    builder.seed = 2;
    builder.start = Duration::from_secs(60);
    let pair = builder.connected();
    assert_eq!(pair.endpoint.stats().retry_sent, 0);
}

#[test]
fn version_negotiation_without_our_version_ends_it_and_with_it_does_not() {
    let connect = || {
        Connection::connect(
            Connect {
                config: Arc::new(TransportConfig::default()),
                tls: &client_tls(),
                server_name: "localhost",
                cids: Arc::new(RandomCids::seeded(1)),
                path: NetPath { local: client_addr(), remote: server_addr() },
                token: Bytes::new(),
                version: VERSION_1,
                random: Random::from_seed([1; 32]),
            },
            now(),
        )
        .unwrap()
    };
    for (versions, mismatch) in [(&[0xff00_001d][..], true), (&[VERSION_1, VERSION_2], false), (&[], false)] {
        let mut client = connect();
        let mut first = [0; 1500];
        client.poll_transmit(now(), &mut first, 1).unwrap();
        let dcid = &first[6..14];
        let scid = &first[15..23];
        let mut packet = vec![0x80, 0, 0, 0, 0, 8];
        packet.extend(scid);
        packet.push(8);
        packet.extend(dcid);
        versions.iter().for_each(|version| packet.extend(version.to_be_bytes()));
        let path = client.path();
        client.on_datagram(now(), path, Ecn::NotEct, &mut packet);
        assert_eq!(client.is_closed(), mismatch, "{versions:?}");
    }
}

#[test]
fn other_versions_work() {
    echo(PairBuilder { version: VERSION_2, ..Default::default() }.connected(), 3, 100_000);
}

#[test]
fn zero_length_connection_ids_of_the_client_work() {
    let mut pair = PairBuilder::default().build();
    pair.replace_client_cids(Arc::new(RandomCids::seeded(3).with_layout(0, &[]).unwrap()));
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    let mut pair = echo(pair, 3, 100_000);
    pair.client.net.local.set_port(9999);
    echo(pair, 3, 100_000);
}

#[test]
fn readers_that_never_read_stop_the_sender() {
    let mut pair = PairBuilder::default()
        .both(|config| config.idle_timeout(Some(Duration::from_secs(3600))))
        .connected();
    pair.server().reads = false;
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 40 << 20].into()).unwrap();
    pair.run_for(Duration::from_secs(30));
    let sent = pair.client.connection.stats().counters.byte_sent;
    assert!(sent < 2 << 20, "{sent}");
    pair.log.clear();
    pair.run_for(Duration::from_secs(60));
    assert!(pair.log.len() < 100, "{}", pair.log.len());
}

fn now() -> s2n_quic_core::time::Timestamp {
    use s2n_quic_core::time::Clock;
    s2n_quic_core::time::NoopClock.get_time() + Duration::from_secs(1)
}
