//! Changes of address (RFC 9000 §9).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::stream::StreamType;

use super::PairBuilder;
use super::pair::{client_addr, server_addr};
use super::transfer::echo;
use crate::connection::MigrateError;
use crate::event::Event;
use crate::net::{Ecn, NetPath};
use crate::role::Role;

#[test]
fn a_nat_that_changes_the_port_is_followed() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 100_000);
    for port in 6000..6010 {
        let window = pair.server().connection.stats().congestion_window;
        pair.client.net.local.set_port(port);
        pair = echo(pair, 2, 30_000);
        let local = pair.client.net.local;
        assert_eq!(pair.server().connection.path().remote, local);
        assert!(pair.server().connection.stats().congestion_window >= window / 2);
        pair.run_for(Duration::from_secs(3));
        assert!(
            pair.server().has(|event| matches!(event, Event::PathChanged { path } if path.remote == local))
        );
    }
    assert_eq!(pair.client.closed(), None);
    assert_eq!(pair.server().connection.stats().counters.path_changed, 10);
}

#[test]
fn the_first_packet_to_a_new_place_challenges_it() {
    // RFC 9000 §9.3; the interop runner looks for this very packet.
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_secs(1));
    let records = Arc::new(Mutex::new(Vec::new()));
    let to = records.clone();
    let sink = move |several: &[u8]| to.lock().unwrap().extend_from_slice(several);
    let now = pair.now;
    pair.server().connection.start_qlog(now, Box::new(sink));
    pair.log.clear();
    pair.server().echo = true;
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, vec![3; 1_000_000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    let places = ["192.0.2.1:6000", "203.0.113.9:7000", "203.0.113.9:7001"].map(|at| at.parse().unwrap());
    for (round, place) in (1..).zip(places) {
        pair.run_until(|pair| pair.client.received.get(&id).is_some_and(|data| data.len() > round * 200_000));
        pair.client.net.local = place;
    }
    pair.run_until(|pair| pair.client.finished.contains(&id));
    drop(pair.server.take());
    let records = String::from_utf8(records.lock().unwrap().clone()).unwrap();
    let sent = records.split('\u{1e}').filter(|record| record.contains("transport:packet_sent"));
    let mut datagrams = pair.log.iter().filter(|logged| logged.role.is_server());
    let (mut met, mut challenged) = (vec![client_addr()], Vec::new());
    for record in sent {
        let to = datagrams.next().expect("a datagram for each packet").to;
        if !met.contains(&to) {
            met.push(to);
            assert!(record.contains(r#""frame_type":"path_challenge""#), "to {to}: {record}");
            challenged.push(to);
        }
    }
    assert!(datagrams.next().is_none());
    assert_eq!(challenged, places);
}

#[test]
fn a_new_address_starts_with_a_new_window() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 2_000_000);
    let before = pair.server().connection.stats();
    pair.client.net.local = "203.0.113.9:7000".parse().unwrap();
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, Bytes::from_static(b"hello")).unwrap();
    let local = pair.client.net.local;
    pair.run_until(|pair| pair.server().connection.path().remote == local);
    let after = pair.server().connection.stats();
    assert!(before.congestion_window > 100_000 && after.congestion_window < 20_000, "{before:?} {after:?}");
    assert_eq!(after.mtu, 1200);
    pair.run_until(|pair| pair.client.received.get(&id).is_some_and(|data| data == b"hello"));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server().connection.stats().mtu, 1472);
}

#[test]
fn the_old_path_is_taken_back_if_the_new_one_does_not_answer() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 100_000);
    // Somebody on the path sends one of the client's packets from elsewhere, ahead of the original.
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, vec![3; 1000].into()).unwrap();
    let mut buffer = [0; 2000];
    let now = pair.now;
    let transmit = pair.client.connection.poll_transmit(now, &mut buffer, 1).unwrap();
    let ghost = NetPath { local: "203.0.113.66:666".parse().unwrap(), remote: server_addr() };
    pair.log.clear();
    pair.deliver(ghost, Ecn::NotEct, buffer[..transmit.len].to_vec());
    assert_eq!(pair.server().connection.path().remote, ghost.local);
    pair.run_until(|pair| pair.server().connection.path().remote == client_addr());
    pair = echo(pair, 1, 10_000);
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.server().closed(), None);
    assert_eq!(pair.server().connection.path().remote, client_addr());
}

#[test]
fn a_ghost_gets_at_most_three_times_what_it_sent() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 1_000_000);
    let server_id = pair.server().connection.open(StreamType::Unidirectional).unwrap();
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, vec![3; 100].into()).unwrap();
    let mut buffer = [0; 2000];
    let now = pair.now;
    let transmit = pair.client.connection.poll_transmit(now, &mut buffer, 1).unwrap();
    let ghost = NetPath { local: "203.0.113.66:666".parse().unwrap(), remote: server_addr() };
    pair.network.faults.loss = 1000;
    pair.deliver(ghost, Ecn::NotEct, buffer[..transmit.len].to_vec());
    pair.server().connection.write(server_id, vec![1; 1_000_000].into()).unwrap();
    pair.log.clear();
    let mut sent = 0;
    let end = now + Duration::from_millis(300);
    let mut big = vec![0; 65536];
    let mut at = now;
    while at < end {
        pair.server().connection.on_timeout(at);
        while let Some(transmit) = pair.server().connection.poll_transmit(at, &mut big, 8) {
            if transmit.path.remote == ghost.local {
                sent += transmit.len;
            }
        }
        at = pair.server().connection.poll_timeout().unwrap_or(end);
    }
    assert!(sent > 0 && sent <= 3 * transmit.len, "{sent} for {}", transmit.len);
}

#[test]
fn a_client_moves_by_its_own_will() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 100_000);
    for round in 0..8 {
        let local = format!("203.0.113.{}:7000", 10 + round).parse().unwrap();
        let now = pair.now;
        pair.client.net.local = local;
        pair.client.connection.migrate(now, NetPath { local, remote: server_addr() }).unwrap();
        pair = echo(pair, 2, 50_000);
        assert_eq!(pair.server().connection.path().remote, local);
        pair.run_for(Duration::from_secs(3));
    }
    assert_eq!((pair.client.closed().cloned(), pair.server().closed().cloned()), (None, None));
}

#[test]
fn a_server_may_forbid_moving() {
    let mut pair = PairBuilder::default().server(|config| config.migration(false)).connected();
    let now = pair.now;
    let net = NetPath { local: "203.0.113.10:7000".parse().unwrap(), remote: server_addr() };
    assert_eq!(pair.client.connection.migrate(now, net), Err(MigrateError::Forbidden));
    // And it does not follow either.
    pair.client.net.local = net.local;
    pair.client.connection.ping();
    pair.run_for(Duration::from_secs(1));
    assert!(pair.server().connection.stats().counters.datagram_path_dropped > 0);
    assert_eq!(pair.server().connection.path().remote, client_addr());
}

#[test]
fn a_storm_of_addresses_is_bounded() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 100_000);
    for round in 0..200_u32 {
        pair.client.net.local = format!("203.0.113.{}:{}", round % 250, 1000 + round).parse().unwrap();
        pair.client.connection.ping();
        pair.run_for(Duration::from_millis(7));
    }
    pair.client.net.local = client_addr();
    pair.log.clear();
    pair = echo(pair, 1, 10_000);
    assert_eq!((pair.client.closed().cloned(), pair.server().closed().cloned()), (None, None));
    let answers = pair.log.iter().filter(|sent| sent.role == Role::Server).count();
    assert!(answers < 1000);
}

#[test]
fn rebinding_in_the_middle_of_a_lossy_transfer() {
    for seed in 0..10 {
        let mut pair = PairBuilder::default()
            .seed(seed)
            .both(|config| config.idle_timeout(None))
            .faults(|faults| {
                faults.loss = 20;
                faults.jitter = Duration::from_millis(3);
            })
            .connected();
        pair.server().echo = true;
        let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
        pair.client.connection.write(id, vec![5; 2_000_000].into()).unwrap();
        pair.client.connection.finish(id).unwrap();
        let mut port = 6000;
        let mut next = 200_000;
        pair.run_until(|pair| {
            let len = pair.client.received.get(&id).map_or(0, |data| data.len());
            if len >= next {
                next += 300_000;
                port += 1;
                pair.client.net.local.set_port(port);
            }
            pair.client.finished.contains(&id)
        });
        assert_eq!(pair.client.received[&id].len(), 2_000_000);
    }
}

#[test]
fn the_servers_preferred_address_is_tested_and_used() {
    let preferred = "198.51.100.77:4433".parse().unwrap();
    let mut pair =
        PairBuilder::default().server(|config| config.preferred_address_v4(Some(preferred))).connected();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.connection.path().remote, preferred.into());
    pair = echo(pair, 3, 50_000);
    assert_eq!(pair.server().connection.path().local, preferred.into());
    assert_eq!((pair.client.closed().cloned(), pair.server().closed().cloned()), (None, None));
}
