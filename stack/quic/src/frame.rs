//! Frames on their way out: the writer of a packet's payload, and the records by which their fate is told.

mod reset_stream_at;

use std::time::Duration;

use s2n_codec::{Encoder, EncoderBuffer, EncoderValue};
use s2n_quic_core::frame::ack_elicitation::AckElicitable;
use s2n_quic_core::stream::{StreamId, StreamType};
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;

pub(crate) use reset_stream_at::ResetStreamAt;

/// What was sent in a packet and matters when the packet is acknowledged or lost.
///
/// Kept by the thousand, hence small.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentFrame {
    /// Bytes of a stream.
    Stream { id: StreamId, offset: u64, len: u16, fin: bool },
    /// RESET_STREAM.
    ResetStream { id: StreamId },
    /// RESET_STREAM_AT, with the size it promises.
    ResetStreamAt { id: StreamId, reliable: u64 },
    /// STOP_SENDING.
    StopSending { id: StreamId },
    /// MAX_DATA.
    MaxData { limit: u64 },
    /// MAX_STREAM_DATA.
    MaxStreamData { id: StreamId, limit: u64 },
    /// MAX_STREAMS.
    MaxStreams { ty: StreamType, limit: u64 },
    /// DATA_BLOCKED.
    DataBlocked { limit: u64 },
    /// STREAM_DATA_BLOCKED.
    StreamDataBlocked { id: StreamId, limit: u64 },
    /// STREAMS_BLOCKED.
    StreamsBlocked { ty: StreamType, limit: u64 },
    /// DATAGRAM; never sent again.
    Datagram { len: u16 },
    /// ACK, up to this packet number of the peer.
    Ack { largest: u64 },
    /// Bytes of the packet number space's CRYPTO stream.
    Crypto { offset: u64, len: u16 },
    /// HANDSHAKE_DONE.
    HandshakeDone,
    /// NEW_CONNECTION_ID.
    NewConnectionId { sequence: u64 },
    /// RETIRE_CONNECTION_ID.
    RetireConnectionId { sequence: u64 },
    /// NEW_TOKEN.
    NewToken,
    /// PING: nothing to send again, but the packet asks for an acknowledgement.
    Ping,
    /// ACK_FREQUENCY of draft-ietf-quic-ack-frequency.
    AckFrequency,
    /// OBSERVED_ADDRESS of draft-ietf-quic-address-discovery, for the path the packet goes on.
    ObservedAddress,
    /// PATH_CHALLENGE or PATH_RESPONSE: sent again, if at all, with other data by the path.
    Path,
}

const _: () = assert!(size_of::<SentFrame>() <= 24);

/// What frame writers may want to know about the connection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct WriteContext {
    /// The time.
    pub now: Timestamp,
    /// Smoothed round-trip time of the active path.
    pub rtt: Duration,
}

/// Where the records of a packet under construction go.
pub(crate) trait Records {
    /// Takes one more record.
    fn push(&mut self, record: SentFrame);
}

impl Records for Vec<SentFrame> {
    fn push(&mut self, record: SentFrame) {
        Vec::push(self, record);
    }
}

impl Records for std::collections::VecDeque<SentFrame> {
    fn push(&mut self, record: SentFrame) {
        self.push_back(record);
    }
}

/// Writes frames into the payload of the packet under construction.
pub(crate) struct FrameWriter<'w, 'b> {
    encoder: &'w mut EncoderBuffer<'b>,
    /// Where the payload ends: the packet's tag has room behind.
    limit: usize,
    records: &'w mut dyn Records,
    cx: WriteContext,
    ack_eliciting: bool,
}

impl<'w, 'b> FrameWriter<'w, 'b> {
    /// A writer from the encoder's position up to `limit` (a position in the encoder).
    pub(crate) fn new(
        encoder: &'w mut EncoderBuffer<'b>,
        limit: usize,
        records: &'w mut dyn Records,
        cx: WriteContext,
    ) -> Self {
        debug_assert!(limit <= encoder.capacity());
        Self { encoder, limit, records, cx, ack_eliciting: false }
    }

    /// Bytes left in the packet.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.encoder.len())
    }

    /// The time and the like.
    #[inline]
    pub(crate) fn cx(&self) -> &WriteContext {
        &self.cx
    }

    /// Has a frame been written that asks for an acknowledgement?
    #[inline]
    pub(crate) fn is_ack_eliciting(&self) -> bool {
        self.ack_eliciting
    }

    /// Appends a whole ack-eliciting frame and its record if it fits; else writes nothing and says `false`.
    #[inline]
    pub(crate) fn push<F: EncoderValue>(&mut self, frame: &F, record: SentFrame) -> bool {
        if frame.encoding_size() > self.remaining() {
            return false;
        }
        self.encoder.encode(frame);
        self.record(record);
        true
    }

    /// Appends a frame that asks for no acknowledgement (ACK, PADDING, CONNECTION_CLOSE).
    #[inline]
    pub(crate) fn push_silent<F: EncoderValue + AckElicitable>(
        &mut self,
        frame: &F,
        record: Option<SentFrame>,
    ) -> bool {
        debug_assert!(!frame.ack_elicitation().is_ack_eliciting());
        if frame.encoding_size() > self.remaining() {
            return false;
        }
        self.encoder.encode(frame);
        if let Some(record) = record {
            self.records.push(record);
        }
        true
    }

    /// How many of `want` bytes of stream data fit into a STREAM frame now; `None` if not even one does (or, if `want`
    /// is 0, an empty frame).
    #[inline]
    pub(crate) fn stream_capacity(&self, id: StreamId, offset: u64, want: usize) -> Option<usize> {
        let room = self.remaining().checked_sub(stream_header_len(id, offset))?;
        if want >= room {
            // Without a length field the data takes all the room (RFC 9000 §19.8).
            return (room > 0 || want == 0).then_some(room.min(want));
        }
        let len = want.min(room.checked_sub(length_len(want))?);
        (len > 0 || want == 0).then_some(len)
    }

    /// Appends a STREAM frame of `len` bytes, taken from `chunks` in order, and its record. `len` must fit, as
    /// [`stream_capacity`](Self::stream_capacity) says; else writes nothing and says `false`.
    #[inline]
    pub(crate) fn stream<'d>(
        &mut self,
        id: StreamId,
        offset: u64,
        len: usize,
        fin: bool,
        chunks: impl Iterator<Item = &'d [u8]>,
    ) -> bool {
        let Some(room) = self.remaining().checked_sub(stream_header_len(id, offset)) else { return false };
        let fills_packet = len == room;
        if !fills_packet && room.checked_sub(length_len(len)).is_none_or(|room| room < len) {
            return false;
        }
        let mut tag = STREAM_TYPE;
        tag |= if offset > 0 { STREAM_OFF } else { 0 };
        tag |= if fills_packet { 0 } else { STREAM_LEN };
        tag |= if fin { STREAM_FIN } else { 0 };
        self.encoder.encode(&tag);
        self.encoder.encode(&id.as_varint());
        if offset > 0 {
            self.encoder.encode(&varint(offset));
        }
        if !fills_packet {
            self.encoder.encode(&varint(len as u64));
        }
        let mut missing = len;
        for chunk in chunks {
            let take = missing.min(chunk.len());
            self.encoder.write_slice(&chunk[..take]);
            missing -= take;
            if missing == 0 {
                break;
            }
        }
        debug_assert_eq!(missing, 0, "the chunks hold less than was announced");
        // The frame must keep its announced length, whatever the caller's mistake.
        self.encoder.write_repeated(missing, 0);
        self.record(SentFrame::Stream { id, offset, len: len as u16, fin });
        true
    }

    /// The encoder, for writers of frames of their own; each is followed by a [`record`](Self::record).
    #[inline]
    pub(crate) fn encoder(&mut self) -> &mut EncoderBuffer<'b> {
        self.encoder
    }

    /// Notes an ack-eliciting frame written with [`encoder`](Self::encoder).
    #[inline]
    pub(crate) fn record(&mut self, record: SentFrame) {
        self.records.push(record);
        self.ack_eliciting = true;
    }
}

// Bits of a STREAM frame's type (RFC 9000 §19.8).
const STREAM_TYPE: u8 = 0x08;
const STREAM_OFF: u8 = 0x04;
const STREAM_LEN: u8 = 0x02;
const STREAM_FIN: u8 = 0x01;

/// Bytes of a STREAM frame before its length field.
fn stream_header_len(id: StreamId, offset: u64) -> usize {
    let offset_len = if offset > 0 { varint(offset).encoding_size() } else { 0 };
    1 + id.as_varint().encoding_size() + offset_len
}

fn length_len(len: usize) -> usize {
    varint(len as u64).encoding_size()
}

/// A number that our own bookkeeping keeps in the range of a variable-length integer.
#[inline]
pub(crate) fn varint(value: u64) -> VarInt {
    debug_assert!(value <= VarInt::MAX.as_u64());
    VarInt::new(value).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    fn cx() -> WriteContext {
        WriteContext { now: NoopClock.get_time(), rtt: Duration::from_millis(10) }
    }

    #[test]
    fn stream_frames_fill_the_packet_or_carry_a_length() {
        let id = StreamId::from_varint(VarInt::from_u8(4));
        let data = [7; 2000];
        for capacity in 0..300 {
            for want in [0, 1, 10, 63, 64, 200, 250, 299, 2000] {
                for offset in [0, 5000] {
                    let mut buffer = [0; 320];
                    let mut encoder = EncoderBuffer::new(&mut buffer);
                    let mut records = Vec::new();
                    let mut writer = FrameWriter::new(&mut encoder, capacity, &mut records, cx());
                    let Some(len) = writer.stream_capacity(id, offset, want) else { continue };
                    assert!(len <= want);
                    assert!(writer.stream(id, offset, len, true, [&data[..len]].into_iter()));
                    assert!(encoder.len() <= capacity);
                    let written = encoder.len();
                    let (frame, rest) = s2n_codec::DecoderBufferMut::new(&mut buffer[..written])
                        .decode::<s2n_quic_core::frame::FrameMut<'_>>()
                        .unwrap();
                    assert!(rest.is_empty());
                    let s2n_quic_core::frame::Frame::Stream(frame) = frame else { panic!() };
                    assert_eq!(frame.data.len(), len);
                    assert_eq!(frame.offset.as_u64(), offset);
                    assert!(frame.is_fin);
                    assert_eq!(records, [SentFrame::Stream { id, offset, len: len as u16, fin: true }]);
                }
            }
        }
    }
}
