//! Limits of data, both ways.

use super::*;

#[test]
fn a_stream_stops_at_its_limit_and_says_so_once() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 25_000)).unwrap();
    let mut blocked = 0;
    while let Some(p) = packet(&mut c, 1200, at(0)) {
        blocked += p.records.iter().filter(|r| matches!(r, SentFrame::StreamDataBlocked { .. })).count();
        deliver(&mut s, &p).unwrap();
        acked(&mut c, &p);
    }
    assert_eq!(blocked, 1);
    assert!(!c.wants_transmit());
    assert_eq!(drain(&mut s), [Event::StreamOpened(id), Event::StreamReadable(id)]);
    let (data, end) = read_all(&mut s, id).unwrap();
    assert_eq!((data.len(), end), (10_000, false));
    exchange(&mut c, &mut s);
    assert_eq!(read_all(&mut s, id).unwrap().0.len(), 0, "read is not released");
    s.release(id, 1_199);
    assert!(!s.wants_transmit(), "less than a packet");
    s.release(id, 8_801);
    exchange(&mut c, &mut s);
    assert_eq!(read_all(&mut s, id).unwrap().0.len(), 10_000);
    s.release(id, 10_000);
    exchange(&mut c, &mut s);
    assert_eq!(read_all(&mut s, id).unwrap().0, &content(id, 20_000, 5_000)[..]);
}

#[test]
fn the_connection_stops_at_its_limit_and_says_so_once() {
    let (mut c, mut s) = pair(&small(), &small());
    let ids: Vec<StreamId> = (0..5).map(|_| c.open(UNI).unwrap()).collect();
    for &id in &ids {
        c.write(id, content(id, 0, 8_000)).unwrap();
    }
    let mut blocked = 0;
    while let Some(p) = packet(&mut c, 1200, at(0)) {
        blocked += p.records.iter().filter(|r| matches!(r, SentFrame::DataBlocked { limit: 30_000 })).count();
        deliver(&mut s, &p).unwrap();
    }
    assert_eq!(blocked, 1);
    assert!(!c.wants_transmit());
    let (sent, received) = (c.stats(), s.stats());
    assert_eq!((sent.byte_sent, sent.connection_blocked, sent.stream_blocked), (30_000, 1, 0));
    assert_eq!((received.byte_received, received.byte_unreleased), (30_000, 30_000));
    assert_eq!(received.receive_window, 30_000);
    // Released bytes of any stream are credit for all, even of streams that are over.
    let mut read = 0;
    for &id in &ids {
        let n = read_all(&mut s, id).unwrap().0.len() as u64;
        s.release(id, n);
        read += n;
    }
    assert_eq!(read, 30_000);
    exchange(&mut c, &mut s);
    for &id in &ids {
        read += read_all(&mut s, id).unwrap().0.len() as u64;
    }
    assert_eq!(read, 40_000);
}

#[test]
fn unread_data_of_abandoned_streams_is_the_connections_credit() {
    let (mut c, mut s) = pair(&small(), &small());
    for round in 0..20 {
        let id = c.open(UNI).unwrap();
        c.write(id, content(id, 0, 10_000)).unwrap();
        if round % 3 == 0 {
            // Reset before most of it arrived.
            let p = packet(&mut c, 1200, at(0)).unwrap();
            let _unseen = packet(&mut c, 1200, at(0)).unwrap();
            deliver(&mut s, &p).unwrap();
            c.reset(id, code(7)).unwrap();
            exchange(&mut c, &mut s);
        } else {
            exchange(&mut c, &mut s);
            if round % 3 == 1 {
                s.read(id).unwrap();
            }
            let held = s.inbound.held;
            s.stop_sending(id, code(8)).unwrap();
            s.release(id, held);
            exchange(&mut c, &mut s);
        }
        drain(&mut c);
        drain(&mut s);
        assert_eq!(s.inbound.received, s.inbound.window.consumed(), "round {round}");
        assert_eq!(c.outbound.credit.used, s.inbound.received);
    }
    exchange(&mut c, &mut s);
    drain(&mut c);
    assert!(c.is_idle() && s.is_idle());
}

#[test]
fn windows_grow_to_their_ceilings_while_the_reader_is_fast() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    let mut written = 0;
    for round in 0..100 {
        c.write(id, content(id, written, 40_000)).unwrap();
        written += 40_000;
        // A round trip: all that the limits allow goes, is read and released.
        while let Some(p) = packet(&mut c, 1200, at(round * 10)) {
            deliver(&mut s, &p).unwrap();
            acked(&mut c, &p);
        }
        let n = read_all(&mut s, id).unwrap().0.len() as u64;
        s.release(id, n);
        while let Some(p) = packet(&mut s, 1200, at(round * 10)) {
            deliver(&mut c, &p).unwrap();
            acked(&mut s, &p);
        }
        assert!(s.inbound.window.size() <= 60_000);
    }
    assert_eq!(s.inbound.window.size(), 60_000);
    let stream = s.registry.get_mut(id).unwrap();
    assert_eq!(stream.recv.as_ref().unwrap().window.size(), 40_000);
}

#[test]
fn windows_stay_small_for_a_slow_reader() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 500_000)).unwrap();
    for round in 0..100 {
        while let Some(p) = packet(&mut c, 1200, at(round * 100)) {
            deliver(&mut s, &p).unwrap();
        }
        let n = read_all(&mut s, id).unwrap().0.len() as u64;
        s.release(id, n);
        while let Some(p) = packet(&mut s, 1200, at(round * 100)) {
            deliver(&mut c, &p).unwrap();
        }
    }
    assert_eq!(s.inbound.window.size(), 30_000);
    assert_eq!(s.registry.get_mut(id).unwrap().recv.as_ref().unwrap().window.size(), 10_000);
}

#[test]
fn a_blocked_peer_is_told_of_small_credit() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 11_000)).unwrap();
    let mut packets = Vec::new();
    while let Some(p) = packet(&mut c, 1200, at(0)) {
        packets.push(p);
    }
    // All but the frame that says "blocked"...
    let is_blocked = |p: &Packet| p.records.iter().any(|r| matches!(r, SentFrame::StreamDataBlocked { .. }));
    packets.iter().filter(|p| !is_blocked(p)).for_each(|p| deliver(&mut s, p).unwrap());
    s.read(id).unwrap();
    s.release(id, 1_000);
    assert!(!s.wants_transmit());
    // ...which comes late.
    packets.iter().filter(|p| is_blocked(p)).for_each(|p| deliver(&mut s, p).unwrap());
    exchange(&mut c, &mut s);
    read_all(&mut s, id).unwrap();
    assert_eq!(s.inbound.received, 11_000);
}

#[test]
fn more_than_was_read_cannot_be_released() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 8_000)).unwrap();
    exchange(&mut c, &mut s);
    read_all(&mut s, id).unwrap();
    s.release(id, u64::MAX);
    s.release(id, 100);
    assert_eq!(s.inbound.window.consumed(), 8_000);
    exchange(&mut c, &mut s);
    assert_eq!(c.outbound.credit.limit, 38_000);
}

#[test]
fn lost_limits_are_sent_again_with_their_present_value() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 40_000)).unwrap();
    while let Some(p) = packet(&mut c, 1200, at(0)) {
        deliver(&mut s, &p).unwrap();
    }
    read_all(&mut s, id).unwrap();
    s.release(id, 6_000);
    let first = packet(&mut s, 1200, at(0)).unwrap();
    s.release(id, 4_000);
    let second = packet(&mut s, 1200, at(1)).unwrap();
    lost(&mut s, &first);
    assert!(!s.wants_transmit(), "an old limit is of no use");
    lost(&mut s, &second);
    let third = packet(&mut s, 1200, at(2)).unwrap();
    assert_eq!(
        third.records,
        [SentFrame::MaxData { limit: 40_000 }, SentFrame::MaxStreamData { id, limit: 20_000 }]
    );
    deliver(&mut c, &third).unwrap();
    deliver(&mut c, &first).unwrap();
    assert!(c.wants_transmit());
    assert_eq!(c.registry.get_mut(id).unwrap().send.as_ref().unwrap().max_data, 20_000);
}
