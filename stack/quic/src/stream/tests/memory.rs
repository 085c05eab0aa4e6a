//! What streams cost, in the steady state and under peers who want them to cost much.

use std::collections::VecDeque;

use allocation_counter::measure;

use super::*;
use crate::stream::Stream;

/// A wire that allocates nothing once warm: trains of packets in one buffer, records in one queue.
struct Wire {
    buffer: Vec<u8>,
    packets: Vec<(usize, usize)>,
    records: VecDeque<SentFrame>,
    now: u64,
}

impl Wire {
    const PACKET: usize = 1180;

    fn new() -> Self {
        Self {
            buffer: vec![0; 100 * Self::PACKET],
            packets: Vec::with_capacity(100),
            records: VecDeque::with_capacity(20_000),
            now: 0,
        }
    }

    /// Takes up to 64 packets from one end to the other; says how many.
    fn carry(&mut self, from: &mut Streams, to: &mut Streams) -> usize {
        self.now += 1;
        self.packets.clear();
        let cx = WriteContext { now: at(self.now), rtt: RTT };
        let mut start = 0;
        while self.packets.len() < 64 && from.wants_transmit() {
            let mut encoder = EncoderBuffer::new(&mut self.buffer[start..start + Self::PACKET]);
            from.write_frames(&mut FrameWriter::new(&mut encoder, Self::PACKET, &mut self.records, cx));
            if encoder.is_empty() {
                break;
            }
            self.packets.push((start, encoder.len()));
            start += encoder.len();
        }
        for &(start, len) in &self.packets {
            deliver_frames(to, &mut self.buffer[start..start + len]).unwrap();
        }
        self.packets.len()
    }

    fn acknowledge(&mut self, streams: &mut Streams) {
        while let Some(record) = self.records.pop_front() {
            streams.on_frame_acked(&record);
        }
    }
}

/// Reads and releases what the events tell of; `answer` is sent on each stream that ends.
fn serve(streams: &mut Streams, answer: Option<&Bytes>) -> u64 {
    let mut total = 0;
    while let Some(event) = streams.poll_event() {
        let Event::StreamReadable(id) = event else { continue };
        loop {
            match streams.read(id).unwrap() {
                ReadOutcome::Data(data) => {
                    let len = data.len() as u64;
                    drop(data);
                    streams.release(id, len);
                    total += len;
                }
                ReadOutcome::Blocked => break,
                ReadOutcome::Finished => {
                    if let Some(answer) = answer {
                        streams.write(id, answer.clone()).unwrap();
                        streams.finish(id).unwrap();
                    }
                    break;
                }
            }
        }
    }
    total
}

#[test]
fn nothing_without_streams() {
    // All of an idle connection may take 8 KiB; its streams' part is this.
    assert!(size_of::<Streams>() <= 1024, "{}", size_of::<Streams>());
    assert!(size_of::<Stream>() <= 384, "{}", size_of::<Stream>());
    let config = TransportConfig::default();
    let made = measure(|| drop(Streams::new(Role::Server, &config)));
    assert_eq!(made.count_total, 0);
}

#[test]
fn bulk_data_costs_no_allocation() {
    let config = TransportConfig::default();
    for streams in [1, 10] {
        let (mut c, mut s) = pair(&config, &config);
        let (mut there, mut back) = (Wire::new(), Wire::new());
        let ids: Vec<StreamId> = (0..streams).map(|_| c.open(UNI).unwrap()).collect();
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        let mut packets = 0;
        let mut round = |packets: &mut usize| {
            for &id in &ids {
                let send = c.registry.get_or_use(id).unwrap().send.as_ref().unwrap();
                if send.buffer.unsent() < 100_000 {
                    c.write(id, chunk.clone()).unwrap();
                    c.write(id, chunk.clone()).unwrap();
                }
            }
            *packets += there.carry(&mut c, &mut s);
            serve(&mut s, None);
            there.acknowledge(&mut c);
            drain_all(&mut c);
            back.carry(&mut s, &mut c);
            back.acknowledge(&mut s);
        };
        for _ in 0..500 {
            round(&mut packets);
        }
        packets = 0;
        let cost = measure(|| {
            for _ in 0..500 {
                round(&mut packets);
            }
        });
        assert!(packets > 20_000, "{packets}");
        // Now and then a short piece is gathered in a stream's own memory.
        assert!(cost.count_total * 100 <= packets as u64, "{streams}: {} in {packets}", cost.count_total);
    }
}

fn drain_all(streams: &mut Streams) {
    while streams.poll_event().is_some() {}
}

#[test]
fn a_request_costs_each_end_one_allocation() {
    let config = TransportConfig::default();
    let (mut c, mut s) = pair(&config, &config);
    let (mut there, mut back) = (Wire::new(), Wire::new());
    let message = Bytes::from_static(&[1; 100]);
    let mut round = || {
        for _ in 0..100 {
            let id = c.open(BIDI).unwrap();
            c.write(id, message.clone()).unwrap();
            c.finish(id).unwrap();
        }
        there.carry(&mut c, &mut s);
        serve(&mut s, Some(&message));
        there.acknowledge(&mut c);
        back.carry(&mut s, &mut c);
        assert_eq!(serve(&mut c, None), 10_000);
        back.acknowledge(&mut s);
        drain_all(&mut s);
    };
    for _ in 0..50 {
        round();
    }
    let cost = measure(|| (0..100).for_each(|_| round()));
    assert!(cost.count_total <= 2 * 100 * 100 + 200, "{}", cost.count_total);
    assert!(cost.bytes_max <= 2 * 100 * 600 + 64 * 1024, "{}", cost.bytes_max);
}

#[test]
fn everything_returns_when_streams_end() {
    let all = measure(|| {
        let (mut c, mut s) = pair(&small(), &small());
        for round in 0..100 {
            let id = c.open(BIDI).unwrap();
            c.write(id, content(id, 0, 5_000)).unwrap();
            c.finish(id).unwrap();
            exchange(&mut c, &mut s);
            drain(&mut s);
            read_all(&mut s, id).unwrap();
            s.release(id, 5_000);
            s.finish(id).unwrap();
            exchange(&mut c, &mut s);
            read_all(&mut c, id).unwrap();
            drain(&mut c);
            drain(&mut s);
            assert!(c.registry.is_empty() && s.registry.is_empty(), "round {round}");
        }
        exchange(&mut c, &mut s);
        drain(&mut c);
        drain(&mut s);
        assert!(c.is_idle() && s.is_idle());
        let idle = measure(|| {
            c.shrink();
            s.shrink();
        });
        assert!(idle.bytes_current < 0, "memory of the traffic goes back");
        std::mem::forget((c, s));
    });
    // What is left after `shrink` belongs to two whole idle ends.
    assert!(all.bytes_current <= 512, "{}", all.bytes_current);
}

/// One STREAM frame for the server.
fn frame(s: &mut Streams, id: StreamId, offset: u64, data: &[u8]) {
    s.on_stream(&s2n_quic_core::frame::Stream {
        stream_id: id.into(),
        offset: VarInt::new(offset).unwrap(),
        is_last_frame: false,
        is_fin: false,
        data,
    })
    .unwrap();
}

#[test]
fn gaps_cost_little_more_than_the_bytes() {
    let window = 1 << 20;
    let config = TransportConfig::default().stream_window(window);
    let (mut c, mut s) = pair(&config, &config);
    let id = c.open(UNI).unwrap();
    let cost = measure(|| {
        for offset in (1..window).step_by(2) {
            frame(&mut s, id, offset, b"x");
        }
    });
    assert!(cost.bytes_max <= window * 5 / 4, "{}", cost.bytes_max);
}

#[test]
fn small_unread_frames_cost_little_more_than_a_window() {
    let window = 256 * 1024;
    let config = TransportConfig::default().stream_window(window).connection_window(4 * window);
    let (mut c, mut s) = pair(&config, &config);
    let ids = [c.open(UNI).unwrap(), c.open(UNI).unwrap()];
    // Two streams in turn, so that no two bytes of one lie side by side; nobody reads.
    let cost = measure(|| {
        for offset in 0..window {
            ids.iter().for_each(|&id| frame(&mut s, id, offset, b"x"));
        }
    });
    assert!(cost.bytes_max <= 2 * window * 5 / 4 + 128 * 1024, "{}", cost.bytes_max);
}

#[test]
fn bytes_kept_by_slow_readers_pin_a_few_windows_at_most() {
    let window = 1 << 20;
    let config = TransportConfig::default()
        .stream_window(window)
        .max_stream_window(window)
        .connection_window(window)
        .max_connection_window(window)
        .max_uni_streams(2000);
    let (mut c, mut s) = pair(&config, &config);
    let busy = c.open(UNI).unwrap();
    let slow: Vec<StreamId> = (0..1500).map(|_| c.open(UNI).unwrap()).collect();
    let filler = [0; 1200];
    let mut kept = Vec::with_capacity(slow.len());
    let mut offset = 0;
    let cost = measure(|| {
        // A byte that stays, behind each some data that is read at once.
        for &id in &slow {
            frame(&mut s, id, 0, b"x");
            // The application may keep them as well as the stream.
            if let Ok(ReadOutcome::Data(data)) = s.read(id) {
                kept.push(data);
            }
            for _ in 0..60 {
                frame(&mut s, busy, offset, &filler);
                offset += filler.len() as u64;
                while let Ok(ReadOutcome::Data(data)) = s.read(busy) {
                    s.release(busy, data.len() as u64);
                }
                if s.wants_transmit() {
                    packet(&mut s, 1200, at(0));
                }
            }
        }
    });
    assert_eq!(kept.len(), 1500);
    assert!(cost.bytes_max <= 2 * window + 1_000_000, "{}", cost.bytes_max);
}
