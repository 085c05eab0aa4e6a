//! Loss, probes, congestion, ECN and the size of packets.

use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::stream::StreamType;
use s2n_quic_core::varint::VarInt;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::net::Ecn;
use crate::role::Role;

#[test]
fn a_lost_tail_is_probed_for() {
    let mut pair = PairBuilder::default().connected();
    pair.run_for(Duration::from_secs(1));
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, Bytes::from_static(b"tail")).unwrap();
    pair.network.faults.loss = 1000;
    pair.flush();
    pair.network.faults.loss = 0;
    let start = pair.now;
    pair.run_until(|pair| pair.server().received.contains_key(&id));
    let waited = pair.now - start;
    assert!(waited > Duration::from_millis(40) && waited < Duration::from_millis(120), "{waited:?}");
    assert!(pair.client.connection.stats().counters.probe_timeout >= 1);
}

#[test]
fn probes_back_off() {
    let mut pair = PairBuilder::default().both(|config| config.idle_timeout(None)).connected();
    pair.run_for(Duration::from_secs(1));
    pair.network.faults.loss = 1000;
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, Bytes::from_static(b"tail")).unwrap();
    pair.log.clear();
    pair.run_for(Duration::from_secs(20));
    let times: Vec<_> =
        pair.log.iter().filter(|sent| sent.role == Role::Client).map(|sent| sent.at).collect();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| !gap.is_zero()).collect();
    assert!(gaps.len() >= 6 && gaps.len() <= 12, "{gaps:?}");
    assert!(gaps.windows(2).all(|gaps| gaps[1] >= gaps[0] * 3 / 2), "{gaps:?}");
}

#[test]
fn a_long_outage_is_survived_and_resets_the_window() {
    let mut pair = PairBuilder::default()
        .both(|config| config.idle_timeout(None))
        .faults(|faults| faults.bandwidth = 50_000_000)
        .connected();
    pair.server().echo = true;
    let id = pair.client.connection.open(StreamType::Bidirectional).unwrap();
    pair.client.connection.write(id, vec![5; 8_000_000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.run_for(Duration::from_millis(300));
    pair.network.faults.loss = 1000;
    pair.run_for(Duration::from_secs(3));
    pair.network.faults.loss = 0;
    pair.run_until(|pair| pair.client.finished.contains(&id));
    assert_eq!(pair.client.received[&id].len(), 8_000_000);
    let counters = pair.client.connection.stats().counters;
    let server = pair.server().connection.stats().counters;
    assert!(counters.persistent_congestion + server.persistent_congestion >= 1, "{counters:?} {server:?}");
}

#[test]
fn ecn_marks_are_validated_and_heard() {
    let mut pair = echo(
        PairBuilder::default()
            .both(|config| config.pacing(false))
            .faults(|faults| faults.mark_ce = 5)
            .connected(),
        2,
        2_000_000,
    );
    let stats = pair.client.connection.stats();
    assert!(stats.ecn_capable);
    assert!(stats.counters.congestion_marked > 0);
    assert_eq!(stats.counters.packet_lost, 0);
    let marked = pair.log.iter().filter(|sent| sent.role == Role::Client && sent.ecn == Ecn::Ect0).count();
    assert!(marked > pair.log.len() / 4);
    assert!(pair.server().connection.stats().ecn_capable);
}

#[test]
fn bleached_ecn_is_switched_off() {
    let pair =
        echo(PairBuilder::default().faults(|faults| faults.bleach_ecn = true).connected(), 2, 1_000_000);
    assert!(!pair.client.connection.stats().ecn_capable);
    let marked = pair.log.iter().filter(|sent| sent.role == Role::Client && sent.ecn == Ecn::Ect0).count();
    assert!(marked <= 12, "{marked}");
}

#[test]
fn ecn_can_be_off() {
    let pair = echo(PairBuilder::default().both(|config| config.ecn(false)).connected(), 1, 10_000);
    assert!(pair.log.iter().all(|sent| sent.ecn == Ecn::NotEct));
}

#[test]
fn packets_grow_to_what_the_path_carries() {
    for (device, path, least) in
        [(1472, 1500, 1472), (8972, 65535, 8972), (8972, 1472, 1472), (8972, 1400, 1380)]
    {
        let pair = PairBuilder::default()
            .both(|config| config.max_udp_payload(device))
            .faults(|faults| faults.mtu = path)
            .connected();
        let mut pair = echo(pair, 1, 3_000_000);
        pair.run_for(Duration::from_secs(5));
        let stats = pair.client.connection.stats();
        assert!(usize::from(stats.mtu) <= path && stats.mtu >= least, "{device} {path}: {stats:?}");
        assert_eq!(pair.client.connection.stats().counters.congestion_marked, 0);
    }
}

#[test]
fn a_black_hole_is_left() {
    let mut pair =
        echo(PairBuilder::default().both(|config| config.idle_timeout(None)).connected(), 1, 1_000_000);
    assert_eq!(pair.client.connection.stats().mtu, 1472);
    pair.network.faults.mtu = 1300;
    let mut pair = echo(pair, 1, 200_000);
    assert_eq!(pair.client.connection.stats().mtu, 1200);
    pair.network.faults.mtu = 1500;
    pair.client.connection.ping();
    pair.run_for(Duration::from_secs(130));
    assert_eq!(pair.client.connection.stats().mtu, 1472);
}

/// The device's MTU is lowered under a connection: told so, it sends nothing that could not pass, and loses nothing.
#[test]
fn a_device_that_takes_less_is_no_black_hole() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 1_000_000);
    assert_eq!(pair.client.connection.stats().mtu, 1472);
    let before = [pair.client.connection.stats().counters, pair.server().connection.stats().counters];
    pair.network.faults.mtu = 1300;
    let now = pair.now;
    pair.client.connection.on_device_limit(now, 1300);
    pair.server().connection.on_device_limit(now, 1300);
    let mut pair = echo(pair, 1, 200_000);
    let after = [pair.client.connection.stats(), pair.server().connection.stats()];
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(after.mtu, 1300);
        assert_eq!(after.counters.packet_lost, before.packet_lost);
        assert_eq!(after.counters.probe_timeout, before.probe_timeout);
    }
    // And more again.
    pair.network.faults.mtu = 1500;
    let now = pair.now;
    pair.client.connection.on_device_limit(now, 1472);
    let pair = echo(pair, 1, 200_000);
    assert_eq!(pair.client.connection.stats().mtu, 1472);
}

#[test]
fn a_peer_that_takes_little_gets_little() {
    let pair = PairBuilder::default()
        .client(|config| config.max_udp_payload(8972))
        .server(|config| config.max_udp_payload(1300))
        .connected();
    let pair = echo(pair, 1, 1_000_000);
    assert_eq!(pair.client.connection.stats().mtu, 1300);
    let largest = pair.log.iter().filter(|sent| sent.role == Role::Client).map(|sent| sent.len).max();
    assert_eq!(largest, Some(1300));
}

#[test]
fn one_of_two_packets_is_acknowledged_at_once_and_the_last_in_time() {
    let mut pair = PairBuilder::default().both(|config| config.mtu_discovery(false)).connected();
    pair.run_for(Duration::from_secs(1));
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    let start = pair.now;
    pair.log.clear();
    pair.client.connection.write(id, vec![1; 500].into()).unwrap();
    pair.run_for(Duration::from_millis(500));
    let acks: Vec<_> =
        pair.log.iter().filter(|sent| sent.role == Role::Server).map(|sent| sent.at - start).collect();
    // One packet alone waits for max_ack_delay.
    assert_eq!(acks, [Duration::from_millis(10 + 25)]);
}

#[test]
fn pacing_spreads_a_window_over_the_round_trip() {
    let burst = |pacing: bool| {
        let mut pair = PairBuilder::default()
            .both(|config| config.pacing(pacing).initial_window(Some(200_000)))
            .connected();
        pair.run_for(Duration::from_secs(1));
        let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
        pair.client.connection.write(id, vec![1; 190_000].into()).unwrap();
        let now = pair.now;
        pair.flush();
        let sent = pair.log.iter().filter(|sent| sent.at == now && sent.role == Role::Client).count();
        pair.run_until(|pair| pair.server().received.get(&id).is_some_and(|data| data.len() == 190_000));
        sent
    };
    assert!(burst(true) <= 25, "{}", burst(true));
    assert!(burst(false) >= 120, "{}", burst(false));
}

#[test]
fn a_caller_told_that_there_is_nothing_to_send_is_told_when_pacing_lets_go() {
    let mut pair = PairBuilder::default().both(|config| config.initial_window(Some(200_000))).connected();
    pair.run_for(Duration::from_secs(1));
    let (now, client) = (pair.now, &mut pair.client.connection);
    let id = client.open(StreamType::Unidirectional).unwrap();
    client.write(id, vec![1; 190_000].into()).unwrap();
    let mut buffer = [0; 1500];
    // As the connection actor does: it asks before it leases memory to send from.
    while client.wants_transmit(now) && client.poll_transmit(now, &mut buffer, 1).is_some() {}
    assert!(client.stats().bytes_in_flight < 100_000, "pacing held nothing back");
    let pause = client.poll_timeout().unwrap().saturating_duration_since(now);
    assert!(pause < Duration::from_millis(5), "{pause:?}");
}

#[test]
fn acknowledgements_of_acknowledgements_bound_the_ranges() {
    // A receiver that sends nothing of its own still learns which of its ACKs arrived.
    let mut pair = PairBuilder::default()
        .both(|config| config.idle_timeout(None))
        .faults(|faults| faults.loss = 50)
        .connected();
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 6_000_000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.run_until(|pair| pair.server().finished.contains(&id));
    let stats = pair.client.connection.stats();
    let needless = stats.counters.packet_spuriously_lost;
    assert!(needless < stats.counters.packet_lost / 10 + 5, "{stats:?}");
}

#[test]
fn what_limits_sending_is_told() {
    use crate::connection::Limit;
    let mut pair = PairBuilder::default()
        .both(|config| config.stream_window(1 << 24).connection_window(1 << 24))
        .faults(|faults| faults.bandwidth = 20_000_000)
        .connected();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.connection.stats().limits.current, Limit::Application);
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 6_000_000].into()).unwrap();
    pair.client.connection.finish(id).unwrap();
    pair.flush();
    let limit = pair.client.connection.stats().limits.current;
    assert!(matches!(limit, Limit::Pacing | Limit::Congestion), "{limit:?}");
    let start = pair.now;
    pair.run_until(|pair| pair.server().finished.contains(&id));
    pair.run_for(Duration::from_secs(1));
    let stats = pair.client.connection.stats();
    let took = (pair.now - start).as_micros() as u64;
    let limits = stats.limits;
    assert_eq!(limits.current, Limit::Application);
    let held = limits.congestion.micros + limits.pacing.micros;
    assert!(held > took / 3 && held < took, "{limits:?} in {took}");
    let paths: Vec<_> = pair.client.connection.path_stats().collect();
    assert!(paths.len() == 1 && paths[0].active && paths[0].validated);
    assert_eq!(paths[0].packet_sent, stats.counters.packet_sent);
    assert_eq!(paths[0].packet_lost, stats.counters.packet_lost);
}

#[test]
fn flow_control_is_told_from_an_application_that_has_no_more() {
    use crate::connection::Limit;
    let window = 20_000;
    let mut pair = PairBuilder::default()
        .both(|config| config.stream_window(window).connection_window(1 << 24))
        .connected();
    let limit = |pair: &Pair| pair.client.connection.stats().limits.current;
    pair.server.as_mut().unwrap().reads = false;
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; window as usize].into()).unwrap();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(limit(&pair), Limit::Application, "all it wrote has arrived");
    pair.client.connection.write(id, vec![1; 100].into()).unwrap();
    pair.run_for(Duration::from_secs(1));
    let progress = pair.client.connection.send_progress(id).unwrap();
    assert_eq!((limit(&pair), progress.sent, progress.limit), (Limit::FlowControl, window, window));
    // Given up, the stream holds nothing up.
    pair.client.connection.reset(id, VarInt::from_u8(1)).unwrap();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(limit(&pair), Limit::Application);
    let limits = pair.client.connection.stats().limits;
    assert!((900_000..1_200_000).contains(&limits.flow_control.micros), "{limits:?}");
}

#[test]
fn what_the_peer_holds_back_of_acknowledgements_is_told() {
    let delay = Duration::from_millis(80);
    let mut pair = PairBuilder::default()
        .both(|config| config.max_ack_delay(delay).ack_eliciting_threshold(255))
        .connected();
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    for _ in 0..40 {
        pair.client.connection.write(id, vec![1; 100].into()).unwrap();
        pair.run_for(Duration::from_millis(200));
    }
    let micros = pair.client.connection.stats().ack_delay_micros;
    assert!((60_000..=81_000).contains(&micros), "{micros}");
}
