//! Thousands of streams share a connection: fairly, by priority, and at no cost to those that send.

use std::collections::HashMap;

use super::*;
use crate::stream::table::LOOKUPS;

const STREAMS: u64 = 4_000;
const BURST: u64 = 1_000;
const PACKET: usize = 1_200;
const EACH: u64 = 5_000;

fn roomy() -> TransportConfig {
    let all = 2 * STREAMS * EACH;
    TransportConfig::default()
        .max_uni_streams(STREAMS)
        .stream_window(2 * EACH)
        .max_stream_window(2 * EACH)
        .connection_window(all)
        .max_connection_window(all)
        .stream_burst(BURST as u32)
}

/// A client with so many open streams, each with data to send.
fn crowd() -> (Streams, Vec<StreamId>) {
    let (mut c, _) = pair(&roomy(), &roomy());
    let ids: Vec<_> = (0..STREAMS).map(|_| c.open(UNI).unwrap()).collect();
    for &id in &ids {
        c.write(id, content(id, 0, EACH)).unwrap();
    }
    (c, ids)
}

/// Counts what a packet carries of each stream.
fn count(packet: &Packet, sent: &mut HashMap<StreamId, u64>) -> u64 {
    let mut bytes = 0;
    for record in &packet.records {
        if let SentFrame::Stream { id, len, .. } = *record {
            *sent.entry(id).or_default() += u64::from(len);
            bytes += u64::from(len);
        }
    }
    bytes
}

#[test]
fn thousands_of_streams_of_one_priority_advance_together() {
    let (mut c, ids) = crowd();
    let mut sent: HashMap<_, _> = ids.iter().map(|&id| (id, 0)).collect();
    let (mut total, mut round) = (0, 0);
    while let Some(packet) = packet(&mut c, PACKET, at(0)) {
        total += count(&packet, &mut sent);
        // A round: enough that each could have had its burst once more.
        if total >= (round + 1) * STREAMS * BURST || total == STREAMS * EACH {
            round += 1;
            let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
            assert!(most - least <= BURST + PACKET as u64, "round {round}: {least} to {most}");
        }
    }
    assert!(round >= EACH / BURST && sent.values().all(|&bytes| bytes == EACH));
}

#[test]
fn among_thousands_the_higher_priority_goes_first_and_shares_fairly() {
    let (mut c, ids) = crowd();
    for (place, &id) in ids.iter().enumerate() {
        c.set_priority(id, (place % 3) as i8).unwrap();
    }
    let mut sent = HashMap::new();
    let mut last_of = [0, 0, 0];
    let mut first_of = [usize::MAX; 3];
    for number in 0.. {
        let Some(packet) = packet(&mut c, PACKET, at(0)) else { break };
        count(&packet, &mut sent);
        for record in &packet.records {
            if let SentFrame::Stream { id, .. } = *record {
                let priority = (u64::from(id) >> 2) as usize % 3;
                last_of[priority] = number;
                first_of[priority] = first_of[priority].min(number);
            }
        }
    }
    assert!(sent.values().all(|&bytes| bytes == EACH));
    // A packet on the border may carry both.
    assert!(last_of[2] <= first_of[1] && last_of[1] <= first_of[0], "{first_of:?} {last_of:?}");
}

/// Streams looked up while these many packets of five busy streams are written, sent and acknowledged.
fn work(mut c: Streams, ids: &[StreamId], packets: usize) -> u64 {
    let busy = &ids[..5];
    let before = LOOKUPS.get();
    for number in 0..packets {
        let id = busy[number % busy.len()];
        c.write(id, Bytes::from_static(&[7; 10])).unwrap();
        let packet = packet(&mut c, PACKET, at(0)).unwrap();
        acked(&mut c, &packet);
        while c.poll_event().is_some() {}
    }
    LOOKUPS.get() - before
}

#[test]
fn idle_and_blocked_streams_cost_those_that_send_nothing() {
    let few = || {
        let (mut c, _) = pair(&roomy(), &roomy());
        let ids: Vec<_> = (0..5).map(|_| c.open(UNI).unwrap()).collect();
        (c, ids)
    };
    let many = || {
        let (mut c, _) = pair(&roomy(), &roomy());
        let ids: Vec<_> = (0..STREAMS).map(|_| c.open(UNI).unwrap()).collect();
        for (place, &id) in ids.iter().enumerate().skip(5) {
            // Half are idle, half have more to send than their limit allows.
            let len = if place % 2 == 0 { 1 } else { 2 * EACH + 1 };
            c.write(id, content(id, 0, len)).unwrap();
        }
        while let Some(packet) = packet(&mut c, PACKET, at(0)) {
            acked(&mut c, &packet);
        }
        drain(&mut c);
        (c, ids)
    };
    let ((few, few_ids), (many, many_ids)) = (few(), many());
    let least = work(few, &few_ids, 1_000);
    assert!(least > 1_000, "they are counted");
    assert_eq!(work(many, &many_ids, 1_000), least);
}
