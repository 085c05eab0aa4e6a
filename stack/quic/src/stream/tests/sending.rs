//! What is sent when: turns, priorities, repairs, packet layout.

use super::*;

fn wide() -> TransportConfig {
    small()
        .stream_window(1 << 20)
        .max_stream_window(1 << 20)
        .connection_window(1 << 22)
        .max_connection_window(1 << 22)
}

/// Stream and length of each STREAM frame of the next `n` packets.
fn sent(streams: &mut Streams, n: usize) -> Vec<(StreamId, u16)> {
    let packets: Vec<Packet> = (0..n).map_while(|_| packet(streams, 1200, at(0))).collect();
    let records = packets.iter().flat_map(|p| p.records.clone());
    records
        .filter_map(|r| match r {
            SentFrame::Stream { id, len, .. } => Some((id, len)),
            _ => None,
        })
        .collect()
}

#[test]
fn streams_take_turns_of_a_burst() {
    let (mut c, _) = pair(&wide(), &wide());
    let ids: Vec<StreamId> = (0..3).map(|_| c.open(UNI).unwrap()).collect();
    for &id in &ids {
        c.write(id, content(id, 0, 100_000)).unwrap();
    }
    let order: Vec<StreamId> = sent(&mut c, 9).into_iter().map(|(id, _)| id).collect();
    let [a, b, d] = ids[..] else { panic!() };
    assert_eq!(order, [a, a, a, b, b, b, d, d, d], "3000 bytes are three packets of 1200");
}

#[test]
fn higher_priorities_go_first() {
    let (mut c, _) = pair(&wide(), &wide());
    let ids: Vec<StreamId> = (0..3).map(|_| c.open(UNI).unwrap()).collect();
    c.set_priority(ids[1], 3).unwrap();
    c.set_priority(ids[2], -3).unwrap();
    for &id in &ids {
        c.write(id, content(id, 0, 2_000)).unwrap();
    }
    let mut order: Vec<StreamId> = sent(&mut c, 100).into_iter().map(|(id, _)| id).collect();
    order.dedup();
    assert_eq!(order, [ids[1], ids[0], ids[2]]);
}

#[test]
fn a_priority_holds_from_the_next_packet_on() {
    let (mut c, mut s) = pair(&wide(), &wide());
    let [a, b, d] = [(); 3].map(|()| c.open(UNI).unwrap());
    for id in [a, b, d] {
        c.write(id, content(id, 0, 30_000)).unwrap();
    }
    let first = packet(&mut c, 1200, at(0)).unwrap();
    lost(&mut c, &first);
    c.set_priority(d, 1).unwrap();
    c.set_priority(a, -1).unwrap();
    c.set_priority(b, 1).unwrap();
    c.set_priority(b, 0).unwrap();
    let mut order: Vec<StreamId> = sent(&mut c, 1000).into_iter().map(|(id, _)| id).collect();
    order.dedup();
    assert_eq!(order, [d, b, a]);
    assert!(!c.wants_transmit());
    c.finish(a).unwrap();
    exchange(&mut c, &mut s);
}

#[test]
fn small_writes_share_frames_and_packets() {
    let (mut c, mut s) = pair(&wide(), &wide());
    let id = c.open(UNI).unwrap();
    for i in 0..11 {
        c.write(id, content(id, i * 100, 100)).unwrap();
    }
    c.finish(id).unwrap();
    let other = c.open(UNI).unwrap();
    c.write(other, content(other, 0, 10)).unwrap();
    let p = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(
        p.records,
        [
            SentFrame::Stream { id, offset: 0, len: 1100, fin: true },
            SentFrame::Stream { id: other, offset: 0, len: 10, fin: false }
        ]
    );
    deliver(&mut s, &p).unwrap();
    assert_eq!(read_all(&mut s, id).unwrap(), (content(id, 0, 1100).to_vec(), true));
}

#[test]
fn a_packet_of_one_stream_is_filled_to_the_last_byte() {
    let (mut c, _) = pair(&wide(), &wide());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 5_000)).unwrap();
    for _ in 0..4 {
        assert_eq!(packet(&mut c, 1200, at(0)).unwrap().bytes.len(), 1200);
    }
}

#[test]
fn repairs_go_before_fresh_data_and_skip_what_arrived() {
    let (mut c, _) = pair(&wide(), &wide());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 50_000)).unwrap();
    let packets: Vec<Packet> = (0..10).map(|_| packet(&mut c, 1200, at(0)).unwrap()).collect();
    acked(&mut c, &packets[4]);
    for p in &packets[3..6] {
        lost(&mut c, p);
    }
    let again: Vec<SentFrame> = (0..2).flat_map(|_| packet(&mut c, 1200, at(0)).unwrap().records).collect();
    assert_eq!(again[..2], [packets[3].records[0], packets[5].records[0]]);
    // Late acknowledgements of the lost ones stop their repair.
    for p in &packets[6..9] {
        lost(&mut c, p);
        acked(&mut c, p);
    }
    let SentFrame::Stream { offset, .. } = packet(&mut c, 1200, at(0)).unwrap().records[0] else { panic!() };
    assert!(offset >= c.registry.get_mut(id).unwrap().send.as_ref().unwrap().buffer.sent() - 1200);
}

#[test]
fn repairs_need_no_credit() {
    let (mut c, mut s) = pair(&small(), &small());
    let ids: Vec<StreamId> = (0..4).map(|_| c.open(UNI).unwrap()).collect();
    for &id in &ids {
        c.write(id, content(id, 0, 10_000)).unwrap();
        c.finish(id).unwrap();
    }
    let packets: Vec<Packet> = std::iter::from_fn(|| packet(&mut c, 1200, at(0))).collect();
    assert_eq!(c.outbound.credit.available(), 0);
    packets.iter().for_each(|p| lost(&mut c, p));
    let again: Vec<Packet> = std::iter::from_fn(|| packet(&mut c, 1200, at(0))).collect();
    again.iter().for_each(|p| deliver(&mut s, p).unwrap());
    assert_eq!(s.inbound.received, 30_000);
    assert_eq!(c.outbound.credit.used, 30_000);
}

#[test]
fn the_end_alone_needs_no_credit() {
    let (mut c, mut s) = pair(&small(), &small());
    let ids: Vec<StreamId> = (0..4).map(|_| c.open(UNI).unwrap()).collect();
    for &id in &ids[..3] {
        c.write(id, content(id, 0, 10_000)).unwrap();
    }
    exchange(&mut c, &mut s);
    c.write(ids[3], content(ids[3], 0, 1)).unwrap();
    c.finish(ids[0]).unwrap();
    c.finish(ids[3]).unwrap();
    exchange(&mut c, &mut s);
    assert!(read_all(&mut s, ids[0]).unwrap().1);
    assert_eq!(read_all(&mut s, ids[3]), Err(StreamError::Unknown), "its byte still waits for credit");
}

#[test]
fn what_became_useless_while_queued_is_not_sent() {
    let (mut c, mut s) = pair(&wide(), &wide());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 5_000)).unwrap();
    let p = packet(&mut c, 1200, at(0)).unwrap();
    deliver(&mut s, &p).unwrap();
    c.reset(id, code(5)).unwrap();
    let p = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(p.records, [SentFrame::ResetStream { id }]);
    assert!(packet(&mut c, 1200, at(0)).is_none());
    assert!(!c.wants_transmit());
    deliver(&mut s, &p).unwrap();
    assert_eq!(s.read(id), Err(StreamError::Reset(code(5))));
}
