//! Key updates (RFC 9001 §6).

use std::time::Duration;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::role::Role;

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
