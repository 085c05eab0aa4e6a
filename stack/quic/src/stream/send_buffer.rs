//! Bytes on their way out: the application's chunks, kept without copying until they are acknowledged.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::ranges::RangeSet;

/// A chunk of the application's, and the stream offset of its first byte.
#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Bytes,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

/// What one stream has to send, has sent and knows to have arrived.
///
/// Offsets rise: `acked <= sent <= written`. A chunk's memory is held until its last byte is acknowledged. The first
/// chunk lies in the struct itself, so that a stream of one write needs no allocation here.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// The oldest chunk that is not wholly acknowledged.
    first: Option<Chunk>,
    rest: VecDeque<Chunk>,
    /// All below is acknowledged.
    acked: u64,
    /// All below was sent at least once.
    sent: u64,
    /// All below was written by the application.
    written: u64,
    /// Acknowledged, beyond `acked`.
    acked_beyond: RangeSet,
    /// Lost, to be sent again. Never overlaps what is acknowledged.
    lost: RangeSet,
}

impl SendBuffer {
    /// Room for chunks kept when all is acknowledged; a long queue gives its memory back.
    const KEEP_CHUNKS: usize = 16;

    /// Appends a chunk. The caller has checked that offsets stay in range.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let chunk = Chunk { start: self.written, data };
        self.written = chunk.end();
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.rest.push_back(chunk),
        }
    }

    /// Bytes written so far: the final size once no more are written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Highest offset sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.written - self.sent
    }

    /// Is every written byte acknowledged?
    pub(super) fn is_acked(&self) -> bool {
        self.acked == self.written
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The lowest range that must be sent again.
    pub(super) fn first_lost(&self) -> Option<Range<u64>> {
        self.lost.first()
    }

    /// The bytes from `offset` on, as slices of the chunks.
    pub(super) fn slices(&self, offset: u64) -> impl Iterator<Item = &[u8]> {
        let in_first = self.first.iter().filter(move |chunk| chunk.end() > offset);
        // Searched only when the first chunk does not hold the start.
        let index = match &self.first {
            Some(first) if first.end() > offset => 0,
            _ => self.rest.partition_point(|chunk| chunk.end() <= offset),
        };
        in_first.chain(self.rest.range(index..)).map(move |chunk| {
            let skip = offset.saturating_sub(chunk.start) as usize;
            chunk.data.get(skip..).unwrap_or_default()
        })
    }

    /// Notes that `range` is on its way; it starts at `sent()` or lies in what was lost.
    pub(super) fn on_sent(&mut self, range: Range<u64>) {
        if range.start == self.sent {
            self.sent = range.end;
        } else {
            self.lost.remove(range);
        }
    }

    /// Notes an acknowledgement; returns how many more bytes are now acknowledged without a gap. Ranges never sent or
    /// acknowledged before are harmless.
    pub(super) fn on_acked(&mut self, range: Range<u64>) -> u64 {
        let range = range.start.max(self.acked)..range.end.min(self.sent);
        if range.is_empty() {
            return 0;
        }
        if self.has_lost() {
            self.lost.remove(range.clone());
        }
        if range.start > self.acked {
            self.acked_beyond.insert(range);
            return 0;
        }
        let before = self.acked;
        self.acked = range.end;
        while let Some(end) = self.acked_beyond.take_reaching(self.acked) {
            self.acked = self.acked.max(end);
        }
        self.drop_acked();
        self.acked - before
    }

    /// Notes a loss: what of `range` is not acknowledged will be sent again.
    pub(super) fn on_lost(&mut self, range: Range<u64>) {
        let range = range.start.max(self.acked)..range.end.min(self.sent);
        if range.is_empty() {
            return;
        }
        let lost = &mut self.lost;
        self.acked_beyond.gaps(range, |gap| lost.insert(gap));
    }

    /// Forgets all that was not acknowledged, because the stream is reset; returns how many bytes that is.
    pub(super) fn discard(&mut self) -> u64 {
        let bytes = self.written - self.acked;
        self.acked = self.written;
        self.first = None;
        self.rest = VecDeque::new();
        self.lost.clear();
        self.acked_beyond.clear();
        bytes
    }

    /// Forgets all from `end` on, because the stream is reset from there; returns how many bytes that are not acknowledged.
    pub(super) fn truncate(&mut self, end: u64) -> u64 {
        let end = end.min(self.written);
        let dropped = self.written - end.max(self.acked);
        self.written = end;
        self.sent = self.sent.min(end);
        self.acked = self.acked.min(end);
        self.lost.remove(end..u64::MAX);
        self.acked_beyond.remove(end..u64::MAX);
        while self.rest.back().is_some_and(|chunk| chunk.start >= end) {
            self.rest.pop_back();
        }
        if let Some(last) = self.rest.back_mut().or(self.first.as_mut()) {
            last.data.truncate(end.saturating_sub(last.start) as usize);
        }
        self.drop_acked();
        dropped
    }

    /// Counts bytes as sent, and no more to be acknowledged, that were cut off after they had been sent.
    pub(super) fn count_sent(&mut self, bytes: u64) {
        self.sent += bytes;
        self.written = self.sent;
        self.acked = self.sent;
    }

    /// Makes everything unsent again. Only for data of which nothing was acknowledged (rejected 0-RTT).
    pub(super) fn rewind(&mut self) {
        debug_assert_eq!(self.acked, 0, "rejected packets are never acknowledged");
        self.sent = self.acked;
        self.lost.clear();
    }

    fn drop_acked(&mut self) {
        while self.first.as_ref().is_some_and(|chunk| chunk.end() <= self.acked) {
            self.first = self.rest.pop_front();
        }
        if self.rest.is_empty() && self.rest.capacity() > Self::KEEP_CHUNKS {
            self.rest = VecDeque::new();
        }
    }
}
