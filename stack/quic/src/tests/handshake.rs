//! How connections begin.

use std::time::Duration;

use s2n_quic_core::stream::StreamType;

use super::PairBuilder;
use crate::cid::CibirId;
use crate::error::CloseReason;
use crate::event::Event;
use crate::role::Role;

#[test]
fn a_handshake_takes_two_round_trips_to_be_confirmed() {
    let pair = PairBuilder::default().connected();
    for side in [&pair.client, pair.server.as_ref().unwrap()] {
        assert!(side.has(|event| matches!(event, Event::HandshakeCompleted { alpn } if alpn == "test")));
        assert!(side.has(|event| matches!(event, Event::HandshakeConfirmed)));
        assert_eq!(side.closed(), None);
    }
    let start = pair.log[0].at;
    assert_eq!(pair.now - start, Duration::from_millis(40));
    let stats = pair.client.connection.stats();
    assert_eq!(stats.counters.packet_lost, 0);
    assert_eq!(stats.rtt, Duration::from_millis(20));
}

#[test]
fn client_initials_are_padded_and_the_server_stays_within_its_allowance() {
    let mut pair = PairBuilder::default().build();
    pair.flush();
    assert!(pair.log.iter().all(|sent| sent.len >= 1200));
    let from_client: usize = pair.log.iter().map(|sent| sent.len).sum();
    // The answer is never acknowledged.
    pair.step();
    pair.network.faults.loss = 1000;
    pair.network.clear();
    pair.run_for(Duration::from_secs(8));
    let from_client = from_client.max(1200);
    let from_server: usize =
        pair.log.iter().filter(|sent| sent.role == Role::Server).map(|sent| sent.len).sum();
    assert!(from_server > 0 && from_server <= 3 * from_client, "{from_server} for {from_client}");
}

#[test]
fn handshakes_survive_loss() {
    for seed in 0..60 {
        let pair = PairBuilder::default()
            .seed(seed)
            .faults(|faults| {
                faults.loss = 250;
                faults.jitter = Duration::from_millis(5);
                faults.duplicate = 50;
            })
            .both(|config| config.handshake_timeout(Duration::from_secs(300)).idle_timeout(None))
            .connected();
        assert_eq!(pair.client.closed(), None, "seed {seed}");
    }
}

#[test]
fn a_wrong_name_ends_in_the_alerts_code() {
    let mut pair = PairBuilder { server_name: "elsewhere.example", ..Default::default() }.build();
    pair.run_until(|pair| pair.server.as_ref().is_some_and(|server| server.closed().is_some()));
    let Some(CloseReason::Violation(error)) = pair.client.closed() else {
        panic!("{:?}", pair.client.closed())
    };
    assert_eq!(error.code.as_u64() & !0xff, 0x100);
    let code = error.code.as_varint();
    let seen = pair.server().closed().cloned();
    assert!(matches!(seen, Some(CloseReason::Transport { code: told, .. }) if told == code), "{seen:?}");
    pair.run_to_end();
    assert!(pair.client.connection.is_drained() && pair.server().connection.is_drained());
}

#[test]
fn no_common_protocol_is_0x178() {
    let server_tls = super::pair::server_tls().alpn(["other"]);
    let mut pair = PairBuilder { server_tls, ..Default::default() }.build();
    pair.run_until(|pair| pair.client.closed().is_some());
    let reason = pair.client.closed().unwrap();
    assert!(matches!(reason, CloseReason::Transport { code, .. } if code.as_u64() == 0x178), "{reason:?}");
}

#[test]
fn cibir_works_where_both_ends_agree_and_is_refused_where_not() {
    let id = |offset, bytes: &[u8]| CibirId::new(offset, bytes);
    let agreed = id(2, &[0xc1, 0xb1, 0x12]);
    let pair = PairBuilder { cibir: [agreed; 2], ..Default::default() }.connected();
    for side in [&pair.client, pair.server.as_ref().unwrap()] {
        let cids: Vec<_> = side.connection.local_cids().collect();
        assert!(cids.len() >= 2 && cids.iter().all(|cid| agreed.unwrap().is_in(cid.as_slice())), "{cids:?}");
    }
    super::transfer::echo(pair, 2, 10_000);

    for cibir in
        [[agreed, None], [None, agreed], [agreed, id(1, &[0xc1, 0xb1, 0x12])], [agreed, id(2, &[0xc1, 0xb1])]]
    {
        let mut pair = PairBuilder { cibir, ..Default::default() }.build();
        pair.run_until(|pair| pair.client.closed().is_some());
        let code = match pair.client.closed().unwrap() {
            CloseReason::Violation(error) => error.code.as_u64(),
            CloseReason::Transport { code, .. } => code.as_u64(),
            other => panic!("{other:?}"),
        };
        assert_eq!(code, 0x08, "TRANSPORT_PARAMETER_ERROR for {cibir:?}");
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let mut pair = PairBuilder::default().faults(|faults| faults.loss = 1000).build();
    let start = pair.now;
    pair.run_to_end();
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    assert_eq!(pair.now - start, Duration::from_secs(10));
    assert!(pair.log.len() >= 4, "the client keeps trying: {:?}", pair.log);
    let gaps: Vec<_> =
        pair.log.windows(2).map(|pair| pair[1].at - pair[0].at).filter(|gap| !gap.is_zero()).collect();
    assert!(gaps.windows(2).all(|gaps| gaps[1] > gaps[0]), "with growing pauses: {gaps:?}");
}

/// Runs a first connection for its ticket, then a second one that sends early data.
fn resumed(accepts: bool) -> super::Pair {
    let builder = PairBuilder {
        client_tls: super::pair::client_tls().early_data(true),
        server_tls: super::pair::server_tls().early_data(true).unwrap(),
        ..Default::default()
    };
    let mut first = builder.clone().connected();
    first.run_for(Duration::from_secs(1));
    let mut builder = builder.seed(2);
    if !accepts {
        // Another server: it can't read the ticket.
        builder.server_tls = super::pair::server_tls().early_data(true).unwrap();
    }
    let mut pair = builder.build();
    let id = pair.client.connection.open(StreamType::Bidirectional).expect("limits are remembered");
    pair.client.connection.write(id, vec![9; 5000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair
}

#[test]
fn early_data_is_there_half_a_round_trip_later() {
    let mut pair = resumed(true);
    let start = pair.now;
    pair.run_until(|pair| pair.server.as_ref().is_some_and(|server| !server.finished.is_empty()));
    assert_eq!(pair.now - start, Duration::from_millis(10));
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    assert!(pair.client.has(|event| *event == Event::EarlyData { accepted: true }));
    assert!(pair.client.connection.handshake_outcome().resumed && !pair.client.connection.sends_early_data());
    let early = *pair.server().received.keys().next().unwrap();
    assert!(pair.server().connection.is_early(early));
    let late = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    assert!(!pair.server().connection.is_early(late));
    super::transfer::echo(pair, 2, 10_000);
}

#[test]
fn early_data_refused_is_sent_once_more() {
    let mut pair = resumed(false);
    pair.run_until(|pair| pair.server.as_ref().is_some_and(|server| !server.finished.is_empty()));
    assert!(pair.client.has(|event| *event == Event::EarlyData { accepted: false }));
    let id = *pair.server().received.keys().next().unwrap();
    assert!(!pair.server().connection.is_early(id), "it came with the handshake done");
    let received = pair.server().received.values().next().unwrap().clone();
    assert_eq!(received, vec![9; 5000]);
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    super::transfer::echo(pair, 2, 10_000);
}

#[test]
fn early_data_survives_a_retry_and_loss() {
    for seed in 0..20 {
        let mut pair = resumed(true);
        pair.network.faults.loss = 100;
        pair.network.reseed(seed);
        pair.run_until(|pair| {
            pair.client.connection.is_handshake_confirmed()
                && pair.server.as_ref().is_some_and(|server| !server.finished.is_empty())
        });
        let received = pair.server().received.values().next().unwrap().clone();
        assert_eq!(received, vec![9; 5000]);
    }
}

#[test]
fn reordered_handshake_packets_are_kept_for_their_keys() {
    // With much jitter packets of later levels come first; without keeping them the handshake would wait for probes.
    let mut slow = 0;
    for seed in 0..40 {
        let pair = PairBuilder::default()
            .seed(seed)
            .faults(|faults| faults.jitter = Duration::from_millis(9))
            .connected();
        let took = pair.now - pair.log[0].at;
        slow += usize::from(took > Duration::from_millis(90));
    }
    assert!(slow <= 4, "{slow} of 40");
}
