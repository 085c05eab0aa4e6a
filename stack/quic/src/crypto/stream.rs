//! The CRYPTO stream of one packet number space, both directions (RFC 9000 §7.5, §19.6).

use std::ops::Range;

use bytes::Bytes;
use s2n_codec::{Encoder, EncoderValue};
use s2n_quic_core::buffer::Reassembler;
use s2n_quic_core::frame;

use super::offsets::OffsetSet;
use crate::error::TransportError;
use crate::frame::{FrameWriter, SentFrame, varint};

/// Bytes of data below which no CRYPTO frame is begun while more are waiting: tiny pieces cost more than the room is
/// worth.
const MIN_PIECE: usize = 16;

/// The CRYPTO stream of one packet number space.
#[derive(Debug, Default)]
pub(crate) struct CryptoStream {
    received: Reassembler,
    /// End of all that was received, gaps or not.
    highest: u64,
    /// All that was ever to be sent and is not acknowledged as a whole: a few kilobytes, once.
    data: Vec<u8>,
    /// Stream offset of `data`'s first byte.
    base: u64,
    /// Stream offset of the first byte never sent.
    next: u64,
    lost: OffsetSet,
    acked: OffsetSet,
}

impl CryptoStream {
    /// Takes a CRYPTO frame. Data further than `cap` bytes beyond what TLS has consumed is refused (RFC 9000 §7.5),
    /// also if it is one byte far ahead.
    pub(crate) fn on_frame(
        &mut self,
        frame: &frame::Crypto<&[u8]>,
        cap: usize,
    ) -> Result<(), TransportError> {
        let end = frame
            .offset
            .checked_add_usize(frame.data.len())
            .ok_or(TransportError::FRAME_ENCODING_ERROR.with_reason("CRYPTO data beyond 2^62"))?;
        let consumed = self.received.consumed_len();
        if end.as_u64().saturating_sub(consumed) > cap as u64 {
            return Err(TransportError::CRYPTO_BUFFER_EXCEEDED.with_reason("too much CRYPTO data"));
        }
        self.highest = self.highest.max(end.as_u64());
        self.received
            .write_at(frame.offset, frame.data)
            .map_err(|_| TransportError::FRAME_ENCODING_ERROR.with_reason("CRYPTO data out of range"))
    }

    /// The next bytes in order, at most `max` of them.
    pub(crate) fn read(&mut self, max: Option<usize>) -> Option<Bytes> {
        self.received.pop_watermarked(max.unwrap_or(usize::MAX)).map(|bytes| bytes.freeze())
    }

    /// Queues bytes for sending.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    fn end(&self) -> u64 {
        self.base + self.data.len() as u64
    }

    /// Is there anything to send?
    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        self.next < self.end() || !self.lost.is_empty()
    }

    /// Writes lost bytes, then new ones, as long as there is room.
    pub(crate) fn write_frames(&mut self, writer: &mut FrameWriter<'_, '_>) {
        while let Some(lost) = self.lost.first() {
            let sent = self.write_frame(writer, lost.clone());
            if sent.is_empty() {
                return;
            }
            self.lost.remove(sent);
        }
        while self.next < self.end() {
            let sent = self.write_frame(writer, self.next..self.end());
            if sent.is_empty() {
                return;
            }
            self.next = sent.end;
        }
    }

    /// Writes one frame with the first of these bytes, and says which.
    fn write_frame(&self, writer: &mut FrameWriter<'_, '_>, range: Range<u64>) -> Range<u64> {
        let start = (range.start - self.base) as usize;
        let end = (range.end - self.base) as usize;
        let data = &self.data[start..end];
        let mut crypto = frame::Crypto { offset: varint(range.start), data };
        let fits = crypto.try_fit(writer.remaining()).unwrap_or(0);
        if fits < data.len().min(MIN_PIECE) {
            return range.start..range.start;
        }
        crypto.data = &data[..fits];
        debug_assert!(crypto.encoding_size() <= writer.remaining());
        writer.encoder().encode(&crypto);
        writer.record(SentFrame::Crypto { offset: range.start, len: fits as u16 });
        range.start..range.start + fits as u64
    }

    /// A sent piece has arrived.
    pub(crate) fn on_acked(&mut self, offset: u64, len: u16) {
        let range = offset..offset + u64::from(len);
        self.lost.remove(range.clone());
        self.acked.insert(range);
        if self.acked.first().is_some_and(|first| first.start <= self.base && first.end >= self.end()) {
            self.base = self.end();
            self.data = Vec::new();
            self.acked.clear();
        }
    }

    /// A sent piece is lost, or is to be sent again for another reason.
    pub(crate) fn on_lost(&mut self, offset: u64, len: u16) {
        let range = offset.max(self.base)..(offset + u64::from(len)).min(self.end());
        if range.is_empty() {
            return;
        }
        self.lost.insert(range);
        for acked in self.acked.iter() {
            self.lost.remove(acked);
        }
    }

    /// Gives memory back, if nothing received waits for more.
    pub(crate) fn shrink(&mut self) {
        let consumed = self.received.consumed_len();
        if self.highest == consumed {
            self.received = Reassembler::new();
            // Offsets up to 2^62 - 1 can be consumed.
            let _ = self.received.skip(varint(consumed));
        }
    }

    /// Client, after a Retry or a rejected first flight: everything is to be sent again.
    pub(crate) fn resend_all(&mut self) {
        self.lost.clear();
        self.next = self.base;
    }
}
