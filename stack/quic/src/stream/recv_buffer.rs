//! Received bytes of one stream, until the application reads them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{arena::Arena, gaps::Gaps};

/// Pieces shorter than this are not followed by a piece elsewhere, but gathered in memory of the stream's own: so the
/// handles of pieces cost at most 1/32 of their bytes. A full packet's data is no shorter.
const MIN_PIECE: usize = 1024;

/// Bytes of memory of its own that a stream gets first; it gets more at a time up to [`MAX_OWN`] as it needs more.
const FIRST_OWN: usize = 2 * 1024;

/// Largest piece of memory of its own.
const MAX_OWN: usize = 64 * 1024;

/// Handles of pieces for which room is kept when none is left.
const KEEP_PIECES: usize = 16;

/// What short streams never need; kept once made, for the stream is not short.
#[derive(Debug)]
struct More {
    /// In-order pieces behind the first.
    pieces: VecDeque<BytesMut>,
    /// Bytes behind a gap.
    gaps: Option<Gaps>,
}

/// Received bytes of one stream, in order up to the first gap, and what has come beyond: the application gets them as
/// one ordered sequence of bytes (RFC 9000 §2.2).
///
/// In-order data that is read soon lies in the connection's shared chunks, in one piece if nothing came between, and
/// costs no allocation. If it stays unread while other streams' data comes, the rest is gathered in memory of the
/// stream's own, so that many small frames never become many small pieces.
#[derive(Debug, Default)]
pub(super) struct RecvBuffer {
    first: BytesMut,
    more: Option<Box<More>>,
    /// End of the bytes received without a gap.
    end: u64,
}

impl RecvBuffer {
    /// End of the bytes received without a gap.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes in a frame's bytes. `unread` is what bounds the arena's memory. Says whether more can be read now.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8], arena: &mut Arena, unread: u64) -> bool {
        let known = self.end.saturating_sub(offset);
        if known >= data.len() as u64 {
            return false;
        }
        let (offset, data) = (offset + known, &data[known as usize..]);
        let has_gaps = self.more.as_ref().is_some_and(|more| more.gaps.is_some());
        if offset == self.end && !has_gaps {
            self.end += data.len() as u64;
            self.append(data, arena, unread);
            return true;
        }
        self.insert_behind_gap(offset, data)
    }

    /// The next piece in order.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.more.as_mut().and_then(|more| more.pieces.pop_front()).unwrap_or_default();
        let piece = std::mem::replace(&mut self.first, next);
        if let Some(more) = &mut self.more
            && more.pieces.is_empty()
            && more.pieces.capacity() > KEEP_PIECES
        {
            more.pieces = VecDeque::new();
        }
        Some(piece.freeze())
    }

    /// Says that the highest offset received is `highest`: if no gap is left, what managed gaps is freed.
    pub(super) fn on_highest(&mut self, highest: u64) {
        if self.end == highest
            && let Some(more) = &mut self.more
        {
            more.gaps = None;
        }
    }

    fn append(&mut self, data: &[u8], arena: &mut Arena, unread: u64) {
        let last = match self.more.as_mut().and_then(|more| more.pieces.back_mut()) {
            Some(last) => last,
            None if self.first.is_empty() => {
                self.first = arena.store(data, unread);
                return;
            }
            None => &mut self.first,
        };
        // Memory of the stream's own has spare capacity; pieces of the arena have none.
        if last.capacity() - last.len() >= data.len() {
            last.extend_from_slice(data);
            return;
        }
        let piece = arena.store(data, unread);
        let (last_len, Err(piece)) = (last.len(), last.try_unsplit(piece)) else { return };
        if last_len >= MIN_PIECE {
            self.more().pieces.push_back(piece);
            return;
        }
        let size = (2 * last_len).clamp(FIRST_OWN, MAX_OWN).max(piece.len());
        let mut own = BytesMut::with_capacity(size);
        own.extend_from_slice(&piece);
        self.more().pieces.push_back(own);
    }

    #[cold]
    fn insert_behind_gap(&mut self, offset: u64, data: &[u8]) -> bool {
        let end = self.end;
        let gaps = self.more().gaps.get_or_insert_with(|| Gaps::new(end));
        gaps.insert(offset, data);
        let mut readable = false;
        while let Some(piece) = self.more.as_mut().and_then(|more| more.gaps.as_mut()?.pop()) {
            self.end += piece.len() as u64;
            self.push(piece);
            readable = true;
        }
        readable
    }

    /// Appends a piece without copying, joined to the last one if it lies behind it.
    fn push(&mut self, piece: BytesMut) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        let pieces = &mut self.more().pieces;
        let piece = match pieces.back_mut() {
            Some(last) => match last.try_unsplit(piece) {
                Ok(()) => return,
                Err(piece) => piece,
            },
            None => match self.first.try_unsplit(piece) {
                Ok(()) => return,
                Err(piece) => piece,
            },
        };
        self.more().pieces.push_back(piece);
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_with(|| Box::new(More { pieces: VecDeque::new(), gaps: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_gap_leaves_the_cheap_path_behind() {
        let (mut buffer, mut arena) = (RecvBuffer::default(), Arena::default());
        assert!(buffer.insert(0, b"ab", &mut arena, 1000));
        assert!(!buffer.insert(4, b"ef", &mut arena, 1000));
        buffer.on_highest(6);
        assert!(buffer.more.as_ref().unwrap().gaps.is_some());
        assert!(buffer.insert(1, b"bcde", &mut arena, 1000), "overlaps on both sides");
        buffer.on_highest(6);
        assert!(buffer.more.as_ref().unwrap().gaps.is_none());
        assert!(buffer.insert(6, b"gh", &mut arena, 1000));
        let read: Vec<u8> = std::iter::from_fn(|| buffer.pop()).flatten().collect();
        assert_eq!(read, b"abcdefgh");
        assert_eq!(buffer.end(), 8);
    }
}
