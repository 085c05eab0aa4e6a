//! Resets that leave the start of a stream standing (draft-ietf-quic-reliable-stream-reset).

use super::*;
use crate::frame::ResetStreamAt;
use s2n_quic_core::transport::error::Code;

fn frame(id: StreamId, code: u32, final_size: u32, reliable: u32) -> ResetStreamAt {
    ResetStreamAt {
        stream_id: id.as_varint(),
        application_error_code: VarInt::from_u32(code),
        final_size: VarInt::from_u32(final_size),
        reliable_size: VarInt::from_u32(reliable),
    }
}

fn stream_frame(id: StreamId, offset: u32, data: &[u8], is_fin: bool) -> s2n_quic_core::frame::Stream<&[u8]> {
    s2n_quic_core::frame::Stream {
        stream_id: id.as_varint(),
        offset: VarInt::from_u32(offset),
        is_last_frame: false,
        is_fin,
        data,
    }
}

fn reset_of(id: StreamId, partial: bool) -> Event {
    Event::StreamReset { id, code: code(7), partial }
}

#[test]
fn what_is_promised_comes_before_the_reset_and_nothing_behind_it() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 5_000)).unwrap();
    // The first packet is lost; of what was sent the reset keeps the first 700 bytes.
    let first = packet(&mut c, 1200, at(0)).unwrap();
    let second = packet(&mut c, 1200, at(0)).unwrap();
    c.reset_at(id, code(7), 700).unwrap();
    assert_eq!(c.write(id, Bytes::from_static(b"x")), Err(StreamError::Abandoned(code(7))));
    assert_eq!(c.finish(id), Err(StreamError::Abandoned(code(7))));
    assert_eq!(drain(&mut c), [Event::SendReleased { id, bytes: 4_300 }]);
    let reset = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(reset.records, [SentFrame::ResetStreamAt { id, reliable: 700 }]);
    deliver(&mut s, &reset).unwrap();
    deliver(&mut s, &second).unwrap();
    assert_eq!(drain(&mut s), [Event::StreamOpened(id)], "neither the reset nor data is told yet");
    acked(&mut c, &reset);
    acked(&mut c, &second);
    lost(&mut c, &first);
    let again = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(again.records, [SentFrame::Stream { id, offset: 0, len: 700, fin: false }]);
    deliver(&mut s, &again).unwrap();
    assert_eq!(drain(&mut s), [Event::StreamReadable(id)]);
    assert_eq!(read_all(&mut s, id), Ok((content(id, 0, 700).to_vec(), false)));
    assert_eq!(drain(&mut s), [reset_of(id, true)]);
    s.release(id, 700);
    acked(&mut c, &again);
    assert_eq!(drain(&mut c), [Event::SendReleased { id, bytes: 700 }]);
    exchange(&mut c, &mut s);
    drain(&mut c);
    drain(&mut s);
    assert!(c.is_idle() && s.is_idle());
    // What was sent and cut off counts as consumed.
    assert_eq!(s.inbound.window.consumed(), s.inbound.received);
    assert_eq!(c.outbound.credit.used, s.inbound.received);
}

#[test]
fn the_reset_waits_for_the_credit_of_what_it_promises() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 15_000)).unwrap();
    c.reset_at(id, code(7), 12_000).unwrap();
    exchange(&mut c, &mut s);
    assert_eq!(c.outbound.credit.used, 10_000, "the stream's window");
    assert!(drain(&mut s).contains(&Event::StreamReadable(id)));
    assert_eq!(read_all(&mut s, id).unwrap().0.len(), 10_000);
    s.release(id, 10_000);
    exchange(&mut c, &mut s);
    let (rest, _) = read_all(&mut s, id).unwrap();
    assert_eq!(rest, content(id, 10_000, 2_000));
    assert!(drain(&mut s).contains(&reset_of(id, true)));
    assert_eq!(c.outbound.credit.used, 12_000);
    exchange(&mut c, &mut s);
    drain(&mut c);
    assert!(c.is_idle());
}

#[test]
fn the_promise_only_shrinks_and_the_smallest_must_arrive() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 2_000)).unwrap();
    let mut data = Vec::new();
    while let Some(p) = packet(&mut c, 1200, at(0)) {
        data.push(p);
    }
    c.reset_at(id, code(7), 1_500).unwrap();
    let large = packet(&mut c, 1200, at(0)).unwrap();
    c.reset_at(id, code(9), 1_800).unwrap();
    assert!(!c.wants_transmit(), "more can't be promised");
    c.reset_at(id, code(9), 100).unwrap();
    let small = packet(&mut c, 1200, at(0)).unwrap();
    assert_eq!(small.records, [SentFrame::ResetStreamAt { id, reliable: 100 }]);
    data.iter().for_each(|p| acked(&mut c, p));
    acked(&mut c, &large);
    lost(&mut c, &large);
    drain(&mut c);
    assert!(!c.wants_transmit() && !c.is_idle(), "the larger promise arrived, the smaller did not");
    lost(&mut c, &small);
    let small = packet(&mut c, 1200, at(0)).unwrap();
    // The receiver: in the other order, and with the first code and final size.
    deliver(&mut s, &small).unwrap();
    deliver(&mut s, &large).unwrap();
    data.iter().for_each(|p| deliver(&mut s, p).unwrap());
    assert_eq!(read_all(&mut s, id), Ok((content(id, 0, 100).to_vec(), false)));
    assert!(drain(&mut s).contains(&reset_of(id, true)));
    acked(&mut c, &small);
    drain(&mut c);
    assert!(c.is_idle());
}

#[test]
fn a_whole_reset_or_a_stop_ends_the_promise() {
    for stopped in [false, true] {
        for sent in [false, true] {
            let (mut c, mut s) = pair(&small(), &small());
            let id = c.open(UNI).unwrap();
            c.write(id, content(id, 0, 3_000)).unwrap();
            let first = packet(&mut c, 1200, at(0)).unwrap();
            deliver(&mut s, &first).unwrap();
            c.reset_at(id, code(7), if sent { 500 } else { 2_000 }).unwrap();
            let mut more = Vec::new();
            while sent && let Some(p) = packet(&mut c, 1200, at(0)) {
                more.push(p);
            }
            if stopped {
                s.stop_sending(id, code(3)).unwrap();
                let stop = packet(&mut s, 1200, at(0)).unwrap();
                deliver(&mut c, &stop).unwrap();
                acked(&mut s, &stop);
            } else {
                c.reset(id, code(8)).unwrap();
            }
            let reset = packet(&mut c, 1200, at(0)).unwrap();
            assert_eq!(reset.records, [SentFrame::ResetStream { id }]);
            more.iter().for_each(|p| acked(&mut c, p));
            drain(&mut c);
            assert!(!c.is_idle(), "the reset itself must arrive");
            deliver(&mut s, &reset).unwrap();
            more.iter().for_each(|p| deliver(&mut s, p).unwrap());
            let told = drain(&mut s).into_iter().any(|event| event == reset_of(id, false));
            assert_eq!(told, !stopped);
            acked(&mut c, &reset);
            acked(&mut c, &first);
            exchange(&mut c, &mut s);
            assert!(drain(&mut c).iter().all(|event| !matches!(event, Event::StreamStopped { .. })));
            assert!(c.is_idle());
            assert_eq!(c.outbound.credit.used, s.inbound.received);
            assert_eq!(s.inbound.window.consumed(), s.inbound.received);
        }
    }
}

#[test]
fn a_finished_stream_may_still_be_cut() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    c.write(id, content(id, 0, 2_000)).unwrap();
    c.finish(id).unwrap();
    let data: Vec<_> = std::iter::from_fn(|| packet(&mut c, 1200, at(0))).collect();
    c.reset_at(id, code(7), 10).unwrap();
    let reset = packet(&mut c, 1200, at(0)).unwrap();
    deliver(&mut s, &data[1]).unwrap();
    deliver(&mut s, &reset).unwrap();
    deliver(&mut s, &data[0]).unwrap();
    assert_eq!(read_all(&mut s, id), Ok((content(id, 0, 10).to_vec(), false)));
    assert!(drain(&mut s).contains(&reset_of(id, true)));
    data.iter().chain([&reset]).for_each(|p| acked(&mut c, p));
    drain(&mut c);
    assert!(c.is_idle());
    // With all data there the reset comes too late to be told.
    let (mut c, mut s) = pair(&small(), &small());
    c.open(UNI).unwrap();
    c.write(id, content(id, 0, 100)).unwrap();
    c.finish(id).unwrap();
    deliver(&mut s, &packet(&mut c, 1200, at(0)).unwrap()).unwrap();
    s.on_reset_stream_at(&frame(id, 7, 100, 10)).unwrap();
    assert_eq!(read_all(&mut s, id), Ok((content(id, 0, 100).to_vec(), true)));
}

#[test]
fn a_promise_of_what_was_read_already_ends_at_once() {
    let (mut c, mut s) = pair(&small(), &small());
    let id = c.open(UNI).unwrap();
    for reliable in [0, 40] {
        let mut s2 = Streams::new(Role::Server, &small());
        s2.on_stream(&stream_frame(id, 0, &[1; 100], false)).unwrap();
        drain(&mut s2);
        assert_eq!(read_all(&mut s2, id).unwrap().0.len(), 100);
        s2.on_reset_stream_at(&frame(id, 7, 5_000, reliable)).unwrap();
        assert_eq!(drain(&mut s2), [reset_of(id, reliable > 0)]);
        assert_eq!(s2.inbound.window.consumed(), 4_900, "all but what is held");
        s2.release(id, 100);
        assert_eq!(s2.inbound.window.consumed(), 5_000);
    }
    // A stop by the reader meanwhile gives all credit back, once.
    c.write(id, content(id, 0, 1_000)).unwrap();
    c.reset_at(id, code(7), 900).unwrap();
    exchange(&mut c, &mut s);
    s.stop_sending(id, code(1)).unwrap();
    assert_eq!(s.inbound.window.consumed(), s.inbound.received);
}

#[test]
fn contradictions_are_errors() {
    let id = StreamId::initial(Role::Client.endpoint_type(), UNI);
    let refused = |first: &[(u32, u32, u32)], then: ResetStreamAt, expected: Code| {
        let mut s = Streams::new(Role::Server, &small());
        for &(code, size, reliable) in first {
            s.on_reset_stream_at(&frame(id, code, size, reliable)).unwrap();
        }
        let error = s.on_reset_stream_at(&then).unwrap_err();
        assert_eq!(error.code, expected, "{then:?}");
    };
    refused(&[], frame(id, 7, 10, 11), Code::FRAME_ENCODING_ERROR);
    refused(&[], frame(id, 7, 10_001, 0), Code::FLOW_CONTROL_ERROR);
    refused(&[(7, 10, 5)], frame(id, 7, 11, 5), Code::FINAL_SIZE_ERROR);
    refused(&[(7, 10, 5)], frame(id, 8, 10, 5), Code::STREAM_STATE_ERROR);
    refused(&[(7, 10, 0)], frame(id, 8, 10, 0), Code::STREAM_STATE_ERROR);
    let ours = StreamId::initial(Role::Server.endpoint_type(), UNI);
    refused(&[], frame(ours, 7, 10, 5), Code::STREAM_STATE_ERROR);
    let mut s = Streams::new(Role::Server, &small());
    s.on_reset_stream_at(&frame(id, 7, 10, 5)).unwrap();
    let fin = s.on_stream(&stream_frame(id, 0, &[0; 9], true)).unwrap_err();
    assert_eq!(fin.code, Code::FINAL_SIZE_ERROR);
    let reset = s2n_quic_core::frame::ResetStream {
        stream_id: id.as_varint(),
        application_error_code: code(8),
        final_size: VarInt::from_u8(10),
    };
    assert_eq!(s.on_reset_stream(&reset).unwrap_err().code, Code::STREAM_STATE_ERROR);
}
