//! The choice of a version, in peace and under attack (RFC 9368, RFC 9369).

use std::time::Duration;

use s2n_quic_core::stream::StreamType;

use super::pair::{client_addr, client_tls, server_addr, server_tls};
use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::endpoint::RetryPolicy;
use crate::error::CloseReason;
use crate::event::Event;
use crate::header::{Header, LongKind, VERSION_1, VERSION_2, classify};
use crate::net::{Ecn, NetPath};

const BOTH: [u32; 2] = [VERSION_1, VERSION_2];

/// A client that starts with `version`, and a server with these versions, the preferred first.
fn builder(version: u32, server: &[u32]) -> PairBuilder {
    let builder = PairBuilder { version, ..Default::default() };
    builder.server(|config| config.versions(server.to_vec()))
}

fn versions(pair: &Pair) -> (u32, u32) {
    (pair.client.connection.version(), pair.server.as_ref().unwrap().connection.version())
}

#[test]
fn a_server_goes_on_in_the_version_it_prefers() {
    for (start, server, negotiated) in [
        (VERSION_1, &[VERSION_2, VERSION_1][..], VERSION_2),
        (VERSION_2, &[VERSION_1, VERSION_2], VERSION_1),
        (VERSION_1, &[VERSION_1, VERSION_2], VERSION_1),
        (VERSION_2, &[VERSION_2, VERSION_1], VERSION_2),
        (VERSION_1, &[VERSION_1], VERSION_1),
    ] {
        let pair = builder(start, server).connected();
        assert_eq!(versions(&pair), (negotiated, negotiated));
        // No round trip more than without.
        assert_eq!(pair.now - pair.log[0].at, Duration::from_millis(40));
        let mut pair = echo(pair, 3, 100_000);
        // The keys that follow are of the version too.
        assert!(pair.client.connection.update_keys());
        pair = echo(pair, 3, 100_000);
        pair.run_for(Duration::from_secs(1));
        assert!(pair.server().connection.update_keys());
        pair = echo(pair, 3, 100_000);
        assert_eq!(pair.server().connection.stats().counters.key_updated, 2);
    }
}

#[test]
fn every_cipher_suite_can_change_its_version() {
    use crate::tls::CipherSuite;
    for suite in CipherSuite::DEFAULT {
        let mut builder = builder(VERSION_1, &[VERSION_2, VERSION_1]);
        builder.client_tls = client_tls().cipher_suites(&[*suite]).unwrap();
        let mut pair = echo(builder.connected(), 2, 50_000);
        assert_eq!(versions(&pair), (VERSION_2, VERSION_2));
        assert!(pair.client.connection.update_keys());
        echo(pair, 2, 50_000);
    }
}

#[test]
fn a_client_that_offers_one_version_keeps_it() {
    let pair = builder(VERSION_1, &[VERSION_2, VERSION_1])
        .client(|config| config.versions(vec![VERSION_1]))
        .connected();
    assert_eq!(versions(&pair), (VERSION_1, VERSION_1));
}

#[test]
fn the_change_survives_loss_reordering_and_a_retry() {
    for seed in 0..80 {
        let mut builder =
            builder(BOTH[seed as usize % 2], &[BOTH[(seed as usize + 1) % 2], BOTH[seed as usize % 2]])
                .seed(seed)
                .faults(|faults| {
                    faults.loss = 200;
                    faults.jitter = Duration::from_millis(8);
                    faults.duplicate = 50;
                })
                .both(|config| config.handshake_timeout(Duration::from_secs(300)).idle_timeout(None));
        if seed % 3 == 0 {
            builder.retry = RetryPolicy::Always;
        }
        let pair = builder.connected();
        let negotiated = BOTH[(seed as usize + 1) % 2];
        assert_eq!(versions(&pair), (negotiated, negotiated), "seed {seed}");
        echo(pair, 2, 10_000);
    }
}

#[test]
fn a_large_client_hello_is_answered_in_the_first_version_until_it_is_whole() {
    // Only the second datagram tells what the client offers.
    let names: Vec<String> = (0..80).map(|at| format!("a-protocol-with-a-long-name-{at}")).collect();
    let mut builder = builder(VERSION_1, &[VERSION_2, VERSION_1]);
    builder.client_tls = client_tls().alpn(names.iter().map(String::as_str).chain(["test"]));
    let pair = builder.connected();
    assert_eq!(versions(&pair), (VERSION_2, VERSION_2));
    echo(pair, 2, 10_000);
}

#[test]
fn early_data_keeps_the_version() {
    let mut builder = builder(VERSION_1, &[VERSION_1, VERSION_2]);
    builder.client_tls = client_tls().early_data(true);
    builder.server_tls = server_tls().early_data(true).unwrap();
    let mut first = builder.clone().connected();
    first.run_for(Duration::from_secs(1));
    // The server has come to prefer the other one.
    let mut pair = builder.seed(2).server(|config| config.versions(vec![VERSION_2, VERSION_1])).build();
    let id = pair.client.connection.open(StreamType::Unidirectional).expect("limits are remembered");
    pair.client.connection.write(id, vec![9; 5000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.run_until(|pair| pair.server.as_ref().is_some_and(|server| server.finished.contains(&id)));
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    assert!(pair.client.has(|event| *event == Event::EarlyData { accepted: true }));
    assert_eq!(versions(&pair), (VERSION_1, VERSION_1));
}

#[test]
fn tickets_are_of_the_version_agreed_on() {
    for early in [true, false] {
        let mut builder = builder(VERSION_1, &[VERSION_2, VERSION_1]);
        builder.client_tls = client_tls().early_data(early);
        builder.server_tls = server_tls().early_data(early).unwrap();
        let mut first = builder.clone().connected();
        first.run_for(Duration::from_secs(1));
        assert_eq!(versions(&first), (VERSION_2, VERSION_2));
        // Version 1 has no ticket; version 2 has.
        for (seed, version, resumes) in [(2, VERSION_1, false), (3, VERSION_2, true)] {
            let mut pair = PairBuilder { version, ..builder.clone() }.seed(seed).build();
            pair.run_until(|pair| pair.client.connection.is_handshake_complete());
            assert_eq!(pair.client.connection.is_resumed(), resumes, "early {early}, version {version:#x}");
            pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
        }
    }
}

#[test]
fn a_client_starts_anew_in_a_version_the_server_speaks() {
    for (start, server) in [(VERSION_1, VERSION_2), (VERSION_2, VERSION_1)] {
        for seed in 0..20 {
            let mut builder = builder(start, &[server]).seed(seed).faults(|faults| {
                faults.loss = if seed > 0 { 150 } else { 0 };
            });
            if seed % 2 == 1 {
                builder.retry = RetryPolicy::Always;
            }
            let pair = builder.connected();
            assert_eq!(versions(&pair), (server, server), "seed {seed}");
            assert!(pair.endpoint.stats().negotiation_sent >= 1);
            if seed == 0 {
                assert_eq!(pair.now - pair.log[0].at, Duration::from_millis(60), "one round trip more");
            }
            echo(pair, 2, 50_000);
        }
    }
}

#[test]
fn without_a_common_version_it_ends() {
    let mut pair = builder(VERSION_1, &[VERSION_2]).client(|config| config.versions(vec![VERSION_1])).build();
    pair.run_to_end();
    assert_eq!(pair.client.closed(), Some(&CloseReason::VersionMismatch));
}

#[test]
fn early_data_is_told_lost_when_starting_anew() {
    let mut builder = builder(VERSION_1, &[VERSION_1]);
    builder.client_tls = client_tls().early_data(true);
    builder.server_tls = server_tls().early_data(true).unwrap();
    let mut first = builder.clone().connected();
    first.run_for(Duration::from_secs(1));
    let mut pair = builder.seed(2).server(|config| config.versions(vec![VERSION_2])).build();
    let id = pair.client.connection.open(StreamType::Unidirectional).expect("limits are remembered");
    pair.client.connection.write(id, vec![9; 5000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    assert!(pair.client.has(|event| *event == Event::EarlyData { accepted: false }));
    pair.run_until(|pair| pair.server().finished.contains(&id));
    assert_eq!(pair.server().received[&id], vec![9; 5000]);
    assert_eq!(versions(&pair), (VERSION_2, VERSION_2));
}

/// Gives the client a Version Negotiation packet that looks like the server's.
fn forge(pair: &mut Pair, versions: &[u32]) {
    pair.flush();
    let sent = pair.network.peek_last().expect("the first datagram is on its way").to_vec();
    let Ok(Header::Long(long)) = classify(&sent, 8) else { panic!() };
    assert_eq!(long.kind, LongKind::Initial);
    let mut packet = vec![0xc0, 0, 0, 0, 0];
    for cid in [long.scid, long.dcid] {
        packet.push(cid.len() as u8);
        packet.extend(cid);
    }
    versions.iter().for_each(|version| packet.extend(version.to_be_bytes()));
    // What it answers gets lost.
    pair.network.clear();
    let path = NetPath { local: client_addr(), remote: server_addr() };
    let now = pair.now;
    pair.client.connection.on_datagram(now, path, Ecn::NotEct, &mut packet);
}

#[test]
fn a_forged_list_that_leads_to_a_lesser_version_fails() {
    // The server stays in the version it is asked for.
    let mut pair = builder(VERSION_2, &[VERSION_1, VERSION_2])
        .client(|config| config.versions(vec![VERSION_2, VERSION_1]))
        .build();
    forge(&mut pair, &[VERSION_1]);
    assert_eq!(pair.client.connection.version(), VERSION_1, "it tries");
    // A second one is not followed.
    forge(&mut pair, &[VERSION_2]);
    assert_eq!(pair.client.connection.version(), VERSION_1);
    pair.run_until(|pair| pair.client.closed().is_some());
    let Some(CloseReason::Violation(error)) = pair.client.closed() else { panic!() };
    assert_eq!(error.code.as_u64(), 0x11, "{error:?}");
    pair.run_until(|pair| pair.server().closed().is_some());
    let told = pair.server().closed().cloned();
    assert!(matches!(told, Some(CloseReason::Transport { code, .. }) if code.as_u64() == 0x11), "{told:?}");
    assert!(!pair.client.has(|event| matches!(event, Event::HandshakeCompleted { .. })));
}

#[test]
fn a_list_with_the_chosen_version_or_nothing_known_is_no_answer() {
    for (versions, closed) in [(&[VERSION_1, VERSION_2][..], false), (&[0x0a0a_0a0a], true), (&[], false)] {
        let mut pair = builder(VERSION_1, &[VERSION_1, VERSION_2]).build();
        forge(&mut pair, versions);
        assert_eq!(pair.client.connection.is_closed(), closed, "{versions:x?}");
        assert_eq!(pair.client.connection.version(), VERSION_1);
    }
}
