//! Two `Streams` and a network between them that loses, repeats and reorders what they send.

mod conserve;
mod fair;
mod flow_control;
mod hostile;
mod lifecycle;
mod memory;
mod partial;
mod sending;

use std::time::Duration;

use bytes::Bytes;
use s2n_codec::{DecoderBuffer, DecoderBufferMut, Encoder, EncoderBuffer};
use s2n_quic_core::{
    frame::{Frame, FrameMut},
    stream::{StreamId, StreamType},
    time::{Clock, NoopClock, Timestamp},
    varint::VarInt,
};

use super::{PeerLimits, ReadOutcome, StreamError, Streams};
use crate::{
    config::TransportConfig,
    error::TransportError,
    event::Event,
    frame::{FrameWriter, ResetStreamAt, SentFrame, WriteContext},
    role::Role,
};

const BIDI: StreamType = StreamType::Bidirectional;
const UNI: StreamType = StreamType::Unidirectional;
const RTT: Duration = Duration::from_millis(10);

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

fn at(millis: u64) -> Timestamp {
    NoopClock.get_time() + Duration::from_millis(millis)
}

fn code(n: u32) -> VarInt {
    VarInt::from_u32(n)
}

/// The byte of a stream at an offset, by which content is checked.
fn byte_of(id: StreamId, offset: u64) -> u8 {
    let id = u64::from(id);
    (id.wrapping_mul(31) ^ offset ^ (offset >> 8).wrapping_mul(7)) as u8
}

fn content(id: StreamId, offset: u64, len: u64) -> Bytes {
    (offset..offset + len).map(|at| byte_of(id, at)).collect::<Vec<u8>>().into()
}

/// The limits a configuration announces.
fn limits(config: &TransportConfig) -> PeerLimits {
    PeerLimits {
        max_data: config.connection_window,
        max_stream_data_bidi_local: config.stream_window,
        max_stream_data_bidi_remote: config.stream_window,
        max_stream_data_uni: config.stream_window,
        max_streams_bidi: config.max_bidi_streams,
        max_streams_uni: config.max_uni_streams,
    }
}

/// A client and a server that know each other's limits.
fn pair(client: &TransportConfig, server: &TransportConfig) -> (Streams, Streams) {
    let (mut c, mut s) = (Streams::new(Role::Client, client), Streams::new(Role::Server, server));
    c.on_peer_parameters(&limits(server));
    s.on_peer_parameters(&limits(client));
    // The news of the first limits.
    drain(&mut c);
    drain(&mut s);
    (c, s)
}

fn small() -> TransportConfig {
    TransportConfig::default()
        .stream_window(10_000)
        .max_stream_window(40_000)
        .connection_window(30_000)
        .max_connection_window(60_000)
        .max_bidi_streams(8)
        .max_uni_streams(8)
        .stream_burst(3000)
}

fn drain(streams: &mut Streams) -> Vec<Event> {
    std::iter::from_fn(|| streams.poll_event()).collect()
}

/// A packet's frames, and the sender's records of them.
#[derive(Clone, Debug)]
struct Packet {
    bytes: Vec<u8>,
    records: Vec<SentFrame>,
}

/// The next packet, if there is anything to send.
fn packet(streams: &mut Streams, size: usize, now: Timestamp) -> Option<Packet> {
    let mut bytes = vec![0; size];
    let mut records = Vec::new();
    let mut encoder = EncoderBuffer::new(&mut bytes);
    let cx = WriteContext { now, rtt: RTT };
    streams.write_frames(&mut FrameWriter::new(&mut encoder, size, &mut records, cx));
    let len = encoder.len();
    bytes.truncate(len);
    assert_eq!(bytes.is_empty(), records.is_empty());
    (!bytes.is_empty()).then_some(Packet { bytes, records })
}

/// Hands a packet's frames over.
fn deliver(to: &mut Streams, packet: &Packet) -> Result<(), TransportError> {
    let count = deliver_frames(to, &mut packet.bytes.clone())?;
    assert_eq!(count, packet.records.len(), "a record a frame");
    Ok(())
}

/// Hands frames over; says how many.
fn deliver_frames(to: &mut Streams, bytes: &mut [u8]) -> Result<usize, TransportError> {
    let mut rest = DecoderBufferMut::new(bytes);
    let mut count = 0;
    while !rest.is_empty() {
        if rest.peek_byte(0).is_ok_and(|tag| tag == ResetStreamAt::TAG) {
            let bytes = rest.as_less_safe_slice();
            let (frame, tail) =
                ResetStreamAt::decode(DecoderBuffer::new(&bytes[1..])).expect("a frame of ours");
            let taken = bytes.len() - tail.len();
            to.on_reset_stream_at(&frame)?;
            rest = rest.skip(taken).expect("just read");
            count += 1;
            continue;
        }
        let (frame, tail) = rest.decode::<FrameMut<'_>>().expect("we write frames that can be read");
        rest = tail;
        count += 1;
        match frame {
            Frame::Stream(frame) => to.on_stream(&frame.into())?,
            Frame::ResetStream(frame) => to.on_reset_stream(&frame)?,
            Frame::StopSending(frame) => to.on_stop_sending(&frame)?,
            Frame::MaxData(frame) => to.on_max_data(&frame)?,
            Frame::MaxStreamData(frame) => to.on_max_stream_data(&frame)?,
            Frame::MaxStreams(frame) => to.on_max_streams(&frame)?,
            Frame::DataBlocked(frame) => to.on_data_blocked(&frame)?,
            Frame::StreamDataBlocked(frame) => to.on_stream_data_blocked(&frame)?,
            Frame::StreamsBlocked(frame) => to.on_streams_blocked(&frame)?,
            other => panic!("not a frame of ours: {other:?}"),
        }
    }
    Ok(count)
}

fn acked(streams: &mut Streams, packet: &Packet) {
    packet.records.iter().for_each(|record| streams.on_frame_acked(record));
}

fn lost(streams: &mut Streams, packet: &Packet) {
    packet.records.iter().for_each(|record| streams.on_frame_lost(record));
}

/// Delivers and acknowledges all that both have to send, without reading.
fn exchange(a: &mut Streams, b: &mut Streams) {
    loop {
        let mut quiet = true;
        while let Some(p) = packet(a, 1200, at(0)) {
            deliver(b, &p).unwrap();
            acked(a, &p);
            quiet = false;
        }
        while let Some(p) = packet(b, 1200, at(0)) {
            deliver(a, &p).unwrap();
            acked(b, &p);
            quiet = false;
        }
        if quiet {
            assert!(!a.wants_transmit() && !b.wants_transmit());
            return;
        }
    }
}

/// Reads all there is, in one buffer; `true` if the end was reached.
fn read_all(streams: &mut Streams, id: StreamId) -> Result<(Vec<u8>, bool), StreamError> {
    let mut all = Vec::new();
    loop {
        match streams.read(id)? {
            ReadOutcome::Data(data) => all.extend_from_slice(&data),
            ReadOutcome::Blocked => return Ok((all, false)),
            ReadOutcome::Finished => return Ok((all, true)),
        }
    }
}
