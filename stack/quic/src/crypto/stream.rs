//! The CRYPTO stream of one packet number space, both directions (RFC 9000 §7.5, §19.6).

use std::ops::Range;

use bytes::Bytes;
use s2n_codec::{Encoder, EncoderValue};
use s2n_quic_core::frame;

use super::assembly::Assembly;
use super::offsets::OffsetSet;
use crate::error::TransportError;
use crate::frame::{FrameWriter, SentFrame, varint};

/// Bytes of data below which no CRYPTO frame is begun while more are waiting: tiny pieces cost more than the room is
/// worth.
const MIN_PIECE: usize = 16;

/// The CRYPTO stream of one packet number space.
#[derive(Debug, Default)]
pub(crate) struct CryptoStream {
    received: Assembly,
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
        let consumed = self.received.consumed();
        if end.as_u64().saturating_sub(consumed) > cap as u64 {
            return Err(TransportError::CRYPTO_BUFFER_EXCEEDED.with_reason("too much CRYPTO data"));
        }
        self.received.write(frame.offset.as_u64(), frame.data);
        Ok(())
    }

    /// The next bytes in order, at most `max` of them.
    pub(crate) fn read(&mut self, max: Option<usize>) -> Option<Bytes> {
        self.received.read(max.unwrap_or(usize::MAX))
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

    /// Client, after a Retry or a rejected first flight: everything is to be sent again.
    pub(crate) fn resend_all(&mut self) {
        self.lost.clear();
        self.next = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 64 * 1024;

    fn give(stream: &mut CryptoStream, offset: usize) -> Result<(), TransportError> {
        let data: &[u8] = &[offset as u8];
        stream.on_frame(&frame::Crypto { offset: varint(offset as u64), data }, CAP)
    }

    #[test]
    fn data_far_ahead_is_refused_even_a_byte() {
        let mut stream = CryptoStream::default();
        assert!(give(&mut stream, CAP - 1).is_ok());
        assert_eq!(give(&mut stream, CAP).unwrap_err().code, TransportError::CRYPTO_BUFFER_EXCEEDED.code);
        assert!(give(&mut stream, 1 << 40).is_err());
    }

    #[test]
    fn one_byte_pieces_in_any_order_cost_a_bounded_memory_and_few_allocations() {
        let orders: [&dyn Fn(usize) -> usize; 4] = [
            &|at| at,
            &|at| CAP - 1 - at,
            // Every other byte first, then those between.
            &|at| if at < CAP / 2 { 2 * at } else { 2 * (at - CAP / 2) + 1 },
            &|at| at * 40_503 % CAP,
        ];
        for (index, order) in orders.into_iter().enumerate() {
            let mut stream = CryptoStream::default();
            let used = allocation_counter::measure(|| {
                for at in 0..CAP {
                    give(&mut stream, order(at)).unwrap();
                }
            });
            assert!(used.bytes_max < 8 * CAP as u64 + (1 << 16), "order {index}: {used:?}");
            assert!(used.count_total < CAP as u64, "order {index}: {used:?}");
            let mut read = 0;
            while let Some(bytes) = stream.read(None) {
                bytes.iter().for_each(|&byte| {
                    assert_eq!(byte, read as u8);
                    read += 1;
                });
            }
            assert_eq!(read, CAP);
        }
    }
}
