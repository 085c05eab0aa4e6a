//! The other stacks against each other: proof that the harness and its wires are right, apart from ours.

use std::time::Duration;

use integration_tests::{
    case::{Case, Place, Stack},
    impair::{Direction, Impairment},
    needs,
    peers::Tuning,
    work::Plan,
    world::{Family, Link, World},
};

const PAIRS: [(Stack, Stack); 4] = [
    (Stack::Quinn, Stack::Quinn),
    (Stack::Quinn, Stack::S2n),
    (Stack::S2n, Stack::Quinn),
    (Stack::S2n, Stack::S2n),
];

fn on_loopback(plan: &Plan) {
    for family in [Family::V4, Family::V6] {
        for (client, server) in PAIRS {
            Case::new(client, server, Place::Loopback(family), plan.clone()).run();
        }
    }
}

#[test]
fn handshakes_on_loopback() {
    on_loopback(&Plan::handshake().on_connections(3));
}

#[test]
fn one_byte_on_loopback() {
    on_loopback(&Plan::bytes(1));
}

#[test]
fn a_hundred_mixed_streams_on_loopback() {
    on_loopback(&Plan::mixed(100, 1 << 20));
}

#[test]
fn broken_off_streams_on_loopback() {
    on_loopback(&Plan::resets());
}

#[test]
fn tight_windows_on_loopback() {
    for (client, server) in PAIRS {
        let plan = Plan::mixed(30, 100_000);
        Case::new(client, server, Place::Loopback(Family::V4), plan).tuned(Tuning::tight()).run();
    }
}

#[test]
fn across_a_link() {
    needs!(Root);
    let world = World::pair(1500, 1).unwrap();
    for family in [Family::V4, Family::V6] {
        for (client, server) in PAIRS {
            Case::new(client, server, Place::Across(&world, family), Plan::mixed(20, 4 << 20)).run();
        }
    }
}

#[test]
fn across_a_link_that_loses_two_percent() {
    needs!(Root);
    let world = World::impaired(Link::default(), Impairment::losing(0.02, 11)).unwrap();
    for (client, server) in PAIRS {
        let place = Place::Across(&world, Family::V6);
        Case::new(client, server, place, Plan::bytes(2 << 20)).within(Duration::from_secs(60)).run();
    }
    let counts = [Direction::ToServer, Direction::ToClient].map(|to| world.middlebox().counts(to));
    assert!(counts.iter().all(|counts| counts.lost > 20 && counts.overflowed == 0), "{counts:?}");
}

#[test]
fn across_a_link_that_does_everything_wrong() {
    needs!(Root);
    let world = World::impaired(Link::default(), Impairment::everything(0.01, 12)).unwrap();
    for (client, server) in PAIRS {
        let place = Place::Across(&world, Family::V4);
        Case::new(client, server, place, Plan::mixed(16, 1 << 20)).within(Duration::from_secs(60)).run();
    }
}

#[test]
fn slow_64_mib_on_loopback() {
    for (client, server) in PAIRS {
        let case = Case::new(client, server, Place::Loopback(Family::V4), Plan::bytes(64 << 20));
        case.within(Duration::from_secs(120)).run();
    }
}
