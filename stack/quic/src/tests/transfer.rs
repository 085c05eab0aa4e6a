//! Data on streams, through bad networks.

use std::time::Duration;

use bytes::Bytes;
use s2n_quic_core::stream::StreamType;

use super::{Pair, PairBuilder};
use crate::event::Event;

/// Bytes that tell when they are out of place.
fn pattern(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Sends `len` bytes on each of `streams` streams, has them echoed, and checks that all comes back.
pub(super) fn echo(mut pair: Pair, streams: usize, len: usize) -> Pair {
    pair.server().echo = true;
    pair.client.finished.clear();
    pair.client.events.clear();
    let mut open = Vec::new();
    let mut waiting: Vec<usize> = (0..streams).rev().collect();
    let mut try_open = |pair: &mut Pair, open: &mut Vec<_>| {
        while let Some(&index) = waiting.last() {
            let Some(id) = pair.client.connection.open(StreamType::Bidirectional) else { break };
            let data = pattern(index as u64, len);
            pair.client.connection.write(id, data.clone()).unwrap();
            pair.client.connection.finish(id).unwrap();
            open.push((id, data));
            waiting.pop();
        }
        waiting.is_empty()
    };
    pair.run_until(|pair| {
        let all_open = try_open(pair, &mut open);
        all_open && pair.client.finished.len() == streams
    });
    assert_eq!(pair.client.closed(), None);
    for (id, data) in &open {
        let received = pair.client.received.get(id).map_or(&[][..], |received| &received[..]);
        assert!(received == &data[..], "stream {id:?} is damaged");
    }
    // All is acknowledged in the end, and nobody waits for anything.
    pair.run_until(|pair| {
        let finished =
            pair.client.events.iter().filter(|event| matches!(event, Event::StreamFinished(_))).count();
        finished == streams
    });
    for (id, data) in &open {
        assert_eq!(pair.client.released.get(id).copied().unwrap_or(0), data.len() as u64);
    }
    pair
}

#[test]
fn one_small_stream() {
    echo(PairBuilder::default().connected(), 1, 10);
}

#[test]
fn an_empty_stream() {
    echo(PairBuilder::default().connected(), 1, 0);
}

#[test]
fn a_large_stream() {
    let mut pair = echo(PairBuilder::default().connected(), 1, 4 << 20);
    pair.run_for(Duration::from_secs(1));
    let stats = pair.client.connection.stats();
    assert_eq!(stats.counters.packet_lost, 0, "{stats:#?}");
    assert_eq!(stats.mtu, 1472);
    assert!(stats.ecn_capable);
    assert_eq!(stats.bytes_in_flight, 0);
}

#[test]
fn many_streams() {
    echo(PairBuilder::default().connected(), 1000, 3000);
}

#[test]
fn through_loss_reordering_and_duplication() {
    for seed in 0..20 {
        let pair = PairBuilder::default()
            .seed(seed)
            .both(|config| config.idle_timeout(None))
            .faults(|faults| {
                faults.loss = 30;
                faults.jitter = Duration::from_millis(4);
                faults.duplicate = 20;
            })
            .connected();
        echo(pair, 20, 50_000);
    }
}

#[test]
fn through_corruption_and_truncation() {
    for seed in 0..20 {
        let pair = PairBuilder::default()
            .seed(seed)
            .both(|config| config.idle_timeout(None).handshake_timeout(Duration::from_secs(1000)))
            .faults(|faults| {
                faults.corrupt = 50;
                faults.truncate = 50;
            })
            .connected();
        echo(pair, 10, 50_000);
    }
}

#[test]
fn through_a_bottleneck() {
    let pair = PairBuilder::default()
        .faults(|faults| {
            faults.bandwidth = 20_000_000;
            faults.queue = 50_000;
        })
        .connected();
    let start = pair.now;
    let pair = echo(pair, 1, 4 << 20);
    let seconds = (pair.now - start).as_secs_f64();
    let rate = (4 << 20) as f64 * 8.0 / seconds;
    assert!(rate > 15e6, "{rate} bit/s of 20 Mbit/s");
}

#[test]
fn datagrams_arrive_once_or_not_at_all() {
    let mut pair = PairBuilder::default()
        .both(|config| config.datagram_receive_buffer(Some(1 << 20)))
        .faults(|faults| faults.loss = 100)
        .connected();
    pair.run_until(|pair| pair.client.connection.max_datagram_size().is_some_and(|max| max > 1400));
    let max = pair.client.connection.max_datagram_size().unwrap();
    for index in 0..1000_usize {
        let mut datagram = vec![index as u8; if index % 10 == 0 { max } else { 100 }];
        datagram[..2].copy_from_slice(&(index as u16).to_be_bytes());
        pair.client.connection.send_datagram(datagram.into()).unwrap();
        pair.run_for(Duration::from_millis(1));
    }
    pair.run_for(Duration::from_secs(1));
    let mut seen: Vec<u16> = pair
        .server()
        .datagrams
        .iter()
        .map(|datagram| u16::from_be_bytes([datagram[0], datagram[1]]))
        .collect();
    seen.sort_unstable();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "one came twice");
    assert!(seen.len() > 800 && seen.len() < 1000, "{}", seen.len());
    echo(pair, 1, 1000);
}
