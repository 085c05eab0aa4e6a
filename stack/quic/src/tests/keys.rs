//! Key updates (RFC 9001 §6).

use std::time::Duration;

use super::pair::IDENTITY;
use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::net::Ecn;
use crate::role::Role;
use crate::tls::tests::rest::{FOREIGN, foreign_client, foreign_server};

#[test]
fn keys_are_updated_by_either_side() {
    for role in [Role::Client, Role::Server] {
        let mut pair = echo(PairBuilder::default().connected(), 1, 100_000);
        for round in 1..=4 {
            pair.run_until(|pair| pair.side(role).connection.update_keys());
            assert!(!pair.side(role).connection.update_keys(), "not twice in a row");
            pair = echo(pair, 3, 50_000);
            assert_eq!(pair.client.connection.stats().counters.key_updated, round);
            assert_eq!(pair.server().connection.stats().counters.key_updated, round);
            pair.run_for(Duration::from_secs(2));
        }
    }
}

#[test]
fn both_sides_may_update_at_once() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 10_000);
    pair.run_for(Duration::from_secs(1));
    assert!(pair.client.connection.update_keys());
    assert!(pair.server().connection.update_keys());
    let mut pair = echo(pair, 3, 50_000);
    assert_eq!(pair.client.connection.stats().counters.key_updated, 1);
    assert_eq!(pair.server().connection.stats().counters.key_updated, 1);
}

#[test]
fn keys_are_updated_on_schedule_through_a_bad_network() {
    for seed in 0..10 {
        let pair = PairBuilder::default()
            .seed(seed)
            .both(|config| config.key_update_after(Some(100)).idle_timeout(None))
            .faults(|faults| {
                faults.loss = 30;
                faults.jitter = Duration::from_millis(8);
                faults.duplicate = 10;
            })
            .connected();
        let pair = echo(pair, 10, 300_000);
        let updated = pair.client.connection.stats().counters.key_updated;
        assert!(updated >= 5, "{updated}");
        assert_eq!(pair.client.connection.stats().counters.packet_forged_dropped, 0);
    }
}

#[test]
fn an_update_needs_a_confirmed_handshake() {
    let mut pair: Pair = PairBuilder::default().build();
    assert!(!pair.client.connection.update_keys());
    pair.run_until(|pair| pair.client.connection.is_handshake_complete());
    assert!(!pair.client.connection.update_keys());
}

/// Long enough for keys to rest, and for an update to be forgotten.
const SILENCE: Duration = Duration::from_secs(5);

/// Connections of our own suites, and of another provider's.
fn own_and_foreign() -> [Pair; 2] {
    let foreign = PairBuilder {
        client_tls: foreign_client(&IDENTITY.chain, &FOREIGN),
        server_tls: foreign_server(&IDENTITY.chain, &IDENTITY.key, &FOREIGN),
        ..PairBuilder::default()
    };
    [PairBuilder::default().connected(), foreign.connected()]
}

#[test]
fn keys_rest_in_silence_and_any_packet_wakes_them() {
    for pair in own_and_foreign() {
        let mut pair = echo(pair, 1, 10_000);
        // Rested keys are updated like others, by either side.
        for (updates, updater) in [(0, None), (1, Some(Role::Client)), (2, Some(Role::Server)), (2, None)] {
            pair.run_for(SILENCE);
            assert!(pair.client.connection.is_at_rest() && pair.server().connection.is_at_rest());
            if let Some(role) = updater {
                assert!(pair.side(role).connection.update_keys());
            }
            pair = echo(pair, 1, 10_000);
            assert!(!pair.client.connection.is_at_rest() && !pair.server().connection.is_at_rest());
            let counters = pair.server().connection.stats().counters;
            assert_eq!((counters.key_updated, counters.packet_forged_dropped), (updates, 0));
        }
    }
}

#[test]
fn a_forged_packet_wakes_keys_and_they_rest_again() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 10_000);
    pair.run_for(SILENCE);
    let (now, net) = (pair.now, pair.server().connection.path());
    let server = &mut pair.server().connection;
    let cid = server.local_cids().next().unwrap();
    let mut forged = [&[0x40], cid.as_slice(), &[7; 40]].concat();
    server.on_datagram(now, net, Ecn::NotEct, &mut forged);
    assert_eq!(server.stats().counters.packet_forged_dropped, 1);
    assert!(!server.is_at_rest());
    pair.run_for(SILENCE);
    assert!(pair.server().connection.is_at_rest());
}
