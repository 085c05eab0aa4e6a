//! The steady state: trains of segments, and what an idle connection costs.

use std::time::Duration;

use s2n_quic_core::stream::StreamType;

use super::PairBuilder;
use super::transfer::echo;
use crate::connection::Connection;

#[test]
fn bulk_data_goes_out_in_full_trains() {
    let mut pair = echo(PairBuilder::default().both(|config| config.pacing(false)).connected(), 1, 4_000_000);
    pair.run_for(Duration::from_secs(1));
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 1_000_000].into()).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let now = pair.now;
    let transmit = pair.client.connection.poll_transmit(now, &mut buffer, 32).unwrap();
    assert_eq!(transmit.segment_size, Some(1472));
    assert_eq!(transmit.len, 32 * 1472);
    // A buffer that holds no whole number of segments.
    let transmit = pair.client.connection.poll_transmit(now, &mut buffer[..10_000], 32).unwrap();
    assert_eq!((transmit.segment_size, transmit.len), (Some(1472), 6 * 1472));
}

#[test]
fn an_idle_connection_is_small() {
    let mut pair = echo(PairBuilder::default().connected(), 100, 100_000);
    pair.run_for(Duration::from_secs(10));
    for (name, side) in [("client", pair.client), ("server", pair.server.unwrap())] {
        let parts = side.connection.memory();
        let heap: i64 = parts.iter().map(|(_, bytes)| bytes).sum();
        println!("{name}: {} and {heap} bytes on the heap: {parts:?}", size_of::<Connection>());
        // The goal is 8 KiB with actor and handles, whose share is tested with the actors.
        assert!(size_of::<Connection>() as i64 + heap < 4000);
    }
}

#[test]
fn nothing_is_sent_without_need() {
    let mut pair = echo(PairBuilder::default().connected(), 10, 1000);
    pair.run_for(Duration::from_secs(2));
    pair.log.clear();
    pair.run_for(Duration::from_secs(20));
    assert!(pair.log.is_empty(), "{:?}", pair.log);
}

#[test]
fn parts_of_a_connection() {
    use crate::connection::sizes;
    for (name, bytes) in sizes() {
        println!("{name}: {bytes}");
    }
}
