//! Streams from opening to the end, and what the application is told.

use super::*;

#[test]
fn a_request_and_its_response() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, Bytes::from_static(b"ping")).unwrap();
    c.finish(id).unwrap();
    let p = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(p.records, [SentFrame::Stream { id, offset: 0, len: 4, fin: true }]);
    assert!(!c.wants_transmit());
    deliver(&mut s, &p).unwrap();
    assert_eq!(drain(&mut s), [Event::StreamOpened(id), Event::StreamReadable(id)]);
    assert_eq!(s.read(id), Ok(ReadOutcome::Data(Bytes::from_static(b"ping"))));
    assert_eq!(s.read(id), Ok(ReadOutcome::Finished));
    acked(&mut c, &p);
    assert_eq!(drain(&mut c), [Event::SendReleased { id, bytes: 4 }, Event::StreamFinished(id)]);

    s.write(id, Bytes::from_static(b"pong")).unwrap();
    s.finish(id).unwrap();
    let p = packet(&mut s, 1200, at(0)).unwrap();
    deliver(&mut c, &p).unwrap();
    assert_eq!(drain(&mut c), [Event::StreamReadable(id)]);
    assert_eq!(read_all(&mut c, id), Ok((b"pong".to_vec(), true)));
    assert_eq!(c.read(id), Err(StreamError::Unknown));
    assert!(c.is_idle());
    acked(&mut s, &p);
    assert_eq!(drain(&mut s), [Event::SendReleased { id, bytes: 4 }, Event::StreamFinished(id)]);
    assert!(s.registry.is_empty());
}

#[test]
fn lower_numbered_streams_are_opened_too() {
    let (mut c, mut s) = pair(&small(), &small());
    let ids: Vec<StreamId> = (0..4).map(|_| c.open(BIDI).unwrap()).collect();
    c.finish(ids[3]).unwrap();
    exchange(&mut c, &mut s);
    let mut expected: Vec<Event> = ids.iter().map(|&id| Event::StreamOpened(id)).collect();
    expected.push(Event::StreamReadable(ids[3]));
    assert_eq!(drain(&mut s), expected);
    // They can be written before the peer ever mentions them.
    s.write(ids[0], content(ids[0], 0, 10)).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(c.read(ids[0]), Ok(ReadOutcome::Data(content(ids[0], 0, 10))));
}

#[test]
fn new_streams_are_allowed_as_old_ones_end() {
    let (mut c, mut s) = pair(&small(), &small());
    let mut opened = 0;
    for round in 0..50 {
        let mut ids = Vec::new();
        while let Some(id) = c.open(UNI) {
            c.write(id, content(id, 0, 100)).unwrap();
            c.finish(id).unwrap();
            ids.push(id);
        }
        assert_eq!(ids.len(), 8);
        opened += 8;
        exchange(&mut c, &mut s);
        drain(&mut s);
        for id in ids {
            assert!(read_all(&mut s, id).unwrap().1);
            s.release(id, 100);
        }
        exchange(&mut c, &mut s);
        let limits: Vec<Event> =
            drain(&mut c).into_iter().filter(|e| matches!(e, Event::StreamsAvailable { .. })).collect();
        assert_eq!(limits, [Event::StreamsAvailable { ty: UNI, limit: opened + 8 }], "round {round}");
    }
    assert!(c.is_idle() && s.is_idle());
}

#[test]
fn a_peer_out_of_streams_says_so_once() {
    let (mut c, mut s) = pair(&small(), &small());
    while c.open(BIDI).is_some() {}
    assert_eq!(c.open(BIDI), None);
    let p = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(p.records, [SentFrame::StreamsBlocked { ty: BIDI, limit: 8 }]);
    assert!(packet(&mut c, 1200, at(0)).is_none());
    deliver(&mut s, &p).unwrap();
    assert!(!s.wants_transmit(), "none is over");
    lost(&mut c, &p);
    assert!(c.wants_transmit());
}

#[test]
fn a_peer_with_all_streams_open_may_replace_each_at_once() {
    let config = small().max_uni_streams(1000);
    let (mut c, mut s) = pair(&config, &config);
    let ids: Vec<StreamId> = (0..1000).map(|_| c.open(UNI).unwrap()).collect();
    c.finish(ids[999]).unwrap();
    exchange(&mut c, &mut s);
    drain(&mut s);
    assert_eq!(s.read(ids[999]), Ok(ReadOutcome::Finished));
    exchange(&mut c, &mut s);
    assert!(drain(&mut c).contains(&Event::StreamsAvailable { ty: UNI, limit: 1001 }));
    c.finish(ids[3]).unwrap();
    exchange(&mut c, &mut s);
    drain(&mut s);
    assert_eq!(s.read(ids[3]), Ok(ReadOutcome::Finished));
    assert!(!s.wants_transmit(), "it has one to open: others may gather");
}

#[test]
fn the_peers_stop_resets_the_stream() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 3_000)).unwrap();
    let first = packet(&mut c, 1200, at(0)).unwrap();
    deliver(&mut s, &first).unwrap();
    s.stop_sending(id, code(9)).unwrap();
    assert_eq!(s.read(id), Err(StreamError::Abandoned(code(9))));
    assert_eq!(s.stop_sending(id, code(9)), Err(StreamError::Abandoned(code(9))));
    let stop = packet(&mut s, 1200, at(0)).unwrap();
    deliver(&mut c, &stop).unwrap();
    deliver(&mut c, &stop).unwrap();
    assert_eq!(
        drain(&mut c),
        [Event::StreamStopped { id, code: code(9) }, Event::SendReleased { id, bytes: 3_000 }]
    );
    assert_eq!(c.write(id, Bytes::from_static(b"x")), Err(StreamError::Stopped(code(9))));
    assert_eq!(c.finish(id), Err(StreamError::Stopped(code(9))));
    acked(&mut c, &first);
    assert_eq!(drain(&mut c), []);
    let reset = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(reset.records, [SentFrame::ResetStream { id }]);
    lost(&mut c, &reset);
    let reset = packet(&mut c, 1200, at(0)).unwrap();
    deliver(&mut s, &reset).unwrap();
    acked(&mut c, &reset);
    lost(&mut s, &stop);
    assert!(!s.wants_transmit(), "the reset has come: nothing is left to stop");
    // The other direction lives on.
    s.write(id, Bytes::from_static(b"sorry")).unwrap();
    s.finish(id).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(read_all(&mut c, id), Ok((b"sorry".to_vec(), true)));
    drain(&mut c);
    drain(&mut s);
    assert!(c.is_idle());
    assert!(s.registry.is_empty());
}

#[test]
fn a_reset_is_told_once_and_gives_credit_back() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 3_000)).unwrap();
    exchange(&mut c, &mut s);
    drain(&mut c);
    drain(&mut s);
    c.write(id, content(id, 3_000, 500)).unwrap();
    c.reset(id, code(4)).unwrap();
    c.reset(id, code(5)).unwrap();
    assert_eq!(c.write(id, Bytes::from_static(b"x")), Err(StreamError::Abandoned(code(4))));
    assert_eq!(drain(&mut c), [Event::SendReleased { id, bytes: 500 }]);
    exchange(&mut c, &mut s);
    assert_eq!(drain(&mut s), [Event::StreamReset { id, code: code(4), partial: false }]);
    assert_eq!(s.read(id), Err(StreamError::Unknown));
    assert_eq!(c.reset(id, code(4)), Err(StreamError::Unknown));
    exchange(&mut c, &mut s);
    drain(&mut c);
    assert!(c.is_idle() && s.is_idle());
}

#[test]
fn a_reset_after_all_data_came_is_ignored() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 100)).unwrap();
    c.finish(id).unwrap();
    let p = packet(&mut c, 1200, at(0)).unwrap();
    deliver(&mut s, &p).unwrap();
    c.reset(id, code(4)).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(drain(&mut s), [Event::StreamOpened(id), Event::StreamReadable(id)]);
    assert_eq!(read_all(&mut s, id).unwrap().0.len(), 100);
    exchange(&mut c, &mut s);
    drain(&mut c);
    assert!(c.is_idle() && s.is_idle());
}

#[test]
fn readable_is_told_once_until_the_reader_has_read_all() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(BIDI).unwrap();
    c.write(id, content(id, 0, 10)).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(drain(&mut s), [Event::StreamOpened(id), Event::StreamReadable(id)]);
    c.write(id, content(id, 10, 10)).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(drain(&mut s), []);
    assert_eq!(s.read(id), Ok(ReadOutcome::Data(content(id, 0, 20))), "joined");
    assert_eq!(s.read(id), Ok(ReadOutcome::Blocked));
    c.finish(id).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(drain(&mut s), [Event::StreamReadable(id)], "the end is news");
    assert_eq!(s.read(id), Ok(ReadOutcome::Finished));
}

#[test]
fn commands_against_the_direction_or_the_end_are_refused() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    assert_eq!(c.read(id), Err(StreamError::Direction));
    assert_eq!(c.stop_sending(id, code(1)), Err(StreamError::Direction));
    c.finish(id).unwrap();
    assert_eq!(c.finish(id), Err(StreamError::Finished));
    assert_eq!(c.write(id, Bytes::new()), Err(StreamError::Finished));
    exchange(&mut c, &mut s);
    assert_eq!(s.write(id, Bytes::new()), Err(StreamError::Direction));
    assert_eq!(s.finish(id), Err(StreamError::Direction));
    assert_eq!(s.reset(id, code(1)), Err(StreamError::Direction));
    let never = StreamId::from_varint(VarInt::from_u32(400));
    assert_eq!(s.write(never, Bytes::new()), Err(StreamError::Unknown));
    s.on_closed();
    assert_eq!(s.read(id), Err(StreamError::Closed));
    assert_eq!(s.open(UNI), None);
    assert_eq!(s.poll_event(), None);
    assert!(!s.wants_transmit());
}

#[test]
fn refused_zero_rtt_is_sent_again_under_the_new_limits() {
    let config = small();
    let mut c = Streams::new(Role::Client, &config);
    c.on_peer_parameters(&limits(&config));
    let ids: Vec<StreamId> = (0..8).map(|_| c.open(BIDI).unwrap()).collect();
    for (i, &id) in ids.iter().enumerate() {
        c.write(id, content(id, 0, 4_000)).unwrap();
        if i % 2 == 0 {
            c.finish(id).unwrap();
        }
    }
    let early: Vec<Packet> = std::iter::from_fn(|| packet(&mut c, 1200, at(0))).collect();
    assert_eq!(c.outbound.credit.used, 30_000);
    c.reset(ids[1], code(6)).unwrap();
    while packet(&mut c, 1200, at(0)).is_some() {}
    c.on_zero_rtt_rejected();
    assert!(!c.wants_transmit());
    assert!(packet(&mut c, 1200, at(0)).is_none(), "nothing is allowed before the new limits");
    assert!(!c.wants_transmit());
    // Late verdicts on the refused packets change nothing.
    early.iter().for_each(|p| lost(&mut c, p));

    let server = small().max_bidi_streams(5).stream_window(3_000).max_stream_window(3_000);
    c.on_peer_parameters(&limits(&server));
    let mut s = Streams::new(Role::Server, &server);
    s.on_peer_parameters(&limits(&config));
    let mut got = vec![Vec::new(); 8];
    for _ in 0..20 {
        exchange(&mut c, &mut s);
        for event in drain(&mut s) {
            if let Event::StreamReset { id, .. } = event {
                assert_eq!(id, ids[1]);
                s.finish(id).unwrap();
            }
        }
        for (i, &id) in ids.iter().enumerate() {
            if let Ok((data, end)) = read_all(&mut s, id) {
                s.release(id, data.len() as u64);
                got[i].extend(data);
                if end {
                    s.finish(id).unwrap();
                }
            }
            let _ = c.read(id);
        }
        drain(&mut c);
    }
    // Streams that were finished ended, and let the later ones in.
    for (i, &id) in ids.iter().enumerate() {
        let expected = if i == 1 { Bytes::new() } else { content(id, 0, 4_000) };
        assert_eq!(got[i], expected, "stream {i}");
    }
}
