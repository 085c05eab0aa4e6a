//! The memory that received, in-order data is copied to: large chunks shared by all streams of a connection.

use std::collections::VecDeque;

use bytes::BytesMut;

/// The first chunk of a connection. Most connections that transfer little never need another.
const FIRST_CHUNK: usize = 4 * 1024;

/// Chunks double up to this size: then the application gets up to 64 KiB at a time, and 10 Gbit/s take some 20,000 of
/// them a second, nearly all used again.
const MAX_CHUNK: usize = 64 * 1024;

/// Chunks that may be in use besides those a full window fills: the one being filled, and one the reader holds.
const SPARE_CHUNKS: u64 = 2;

/// Full chunks looked at for each new one, to find those that nobody uses any more.
const LOOK_AT: usize = 2;

/// Copies received data into chunks and hands out pieces of them.
///
/// A piece pins its whole chunk. Were pieces kept for long while others pass through, little data could pin much
/// memory; so the chunks in use are counted, and beyond a bound data gets memory of exactly its own size.
///
/// Consecutive pieces lie side by side, and can be joined at no cost.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// Free rest of the chunk being filled; empty and without capacity before the first byte.
    current: BytesMut,
    /// Size of the chunk being filled.
    chunk_size: usize,
    /// Handles of full chunks, by which we learn that their pieces are gone.
    full: VecDeque<BytesMut>,
}

impl Arena {
    /// Copies `data` in. `unread` is how many bytes the peer may make us keep, which bounds the chunks in use.
    #[inline]
    pub(crate) fn store(&mut self, data: &[u8], unread: u64) -> BytesMut {
        if self.current.capacity() < data.len() && !self.next_chunk(data.len(), unread) {
            return BytesMut::from(data);
        }
        self.current.extend_from_slice(data);
        self.current.split()
    }

    /// Drops all memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        *self = Self::default();
    }

    /// Provides an empty chunk with room for `len` bytes, if the bound allows.
    #[cold]
    fn next_chunk(&mut self, len: usize, unread: u64) -> bool {
        if len > MAX_CHUNK {
            return false;
        }
        let may_grow = self.chunk_size < MAX_CHUNK;
        // One free chunk is enough: more are given back.
        let mut next = None;
        for _ in 0..LOOK_AT.min(self.full.len()) {
            let Some(mut chunk) = self.full.pop_front() else { break };
            if chunk.try_reclaim(MAX_CHUNK) {
                next.get_or_insert(chunk);
            } else {
                self.full.push_back(chunk);
            }
        }
        if !may_grow && self.current.try_reclaim(MAX_CHUNK) {
            return true;
        }
        if next.is_none() && self.full.len() as u64 >= unread / MAX_CHUNK as u64 + SPARE_CHUNKS {
            return false;
        }
        let next = next.unwrap_or_else(|| {
            self.chunk_size = (self.chunk_size * 2).max(len).clamp(FIRST_CHUNK, MAX_CHUNK);
            BytesMut::with_capacity(self.chunk_size)
        });
        let used = std::mem::replace(&mut self.current, next);
        // Smaller chunks are never used again, and need no watching: they are few.
        if !may_grow {
            self.full.push_back(used);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_pieces_join() {
        let mut arena = Arena::default();
        let mut first = arena.store(b"abc", 1000);
        let second = arena.store(b"def", 1000);
        assert!(first.try_unsplit(second).is_ok());
        assert_eq!(&first[..], b"abcdef");
    }

    #[test]
    fn chunks_whose_pieces_are_gone_are_used_again() {
        let mut arena = Arena::default();
        let data = vec![1; 1200];
        for _ in 0..1000 {
            drop(arena.store(&data, 1 << 20));
        }
        let chunk = arena.current.as_ptr() as usize;
        for _ in 0..1000 {
            let piece = arena.store(&data, 1 << 20);
            let at = piece.as_ptr() as usize;
            assert!(at.abs_diff(chunk) <= MAX_CHUNK, "another chunk was made");
        }
        assert!(arena.full.is_empty());
    }

    #[test]
    fn held_pieces_pin_a_bounded_number_of_chunks() {
        let unread = 1 << 20;
        let mut arena = Arena::default();
        let filler = vec![1; 1200];
        let mut held = Vec::new();
        for _ in 0..1000 {
            held.push(arena.store(b"x", unread));
            for _ in 0..60 {
                drop(arena.store(&filler, unread));
            }
        }
        assert!(arena.full.len() as u64 <= unread / MAX_CHUNK as u64 + SPARE_CHUNKS);
        held.clear();
        for _ in 0..1000 {
            drop(arena.store(&filler, unread));
        }
        assert!(arena.full.len() <= 1, "{}", arena.full.len());
    }
}
