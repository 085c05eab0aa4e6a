//! Received data behind a gap, until the gap is filled.
//!
//! s2n-quic-core's reassembler keeps 48 bytes for each run of bytes between gaps and searches them one by one: a peer
//! that sends every other byte of a window makes it keep 24 windows, and search them for each frame. Here a bit for
//! each byte says whether it has come, so that memory and work depend on the bytes alone, however they are cut.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Block size at the start of a stream, where short streams end.
const SMALL_BLOCK: u64 = 4 * 1024;

/// Up to this offset blocks are small.
const SMALL_UNTIL: u64 = 64 * 1024;

/// Block size from there on.
const LARGE_BLOCK: u64 = 16 * 1024;

/// Bytes of a stretch of the stream, some of them received.
#[derive(Debug)]
struct Block {
    /// The bytes not yet taken out.
    data: BytesMut,
    /// One bit for each byte of the block, also of those taken out.
    received: Box<[u64]>,
}

impl Block {
    fn new(size: u64) -> Self {
        Self {
            data: BytesMut::zeroed(size as usize),
            received: vec![0; size.div_ceil(64) as usize].into_boxed_slice(),
        }
    }

    /// Marks bytes `from..to` of the block as received.
    fn mark(&mut self, from: usize, to: usize) {
        let (first, last) = (from / 64, (to - 1) / 64);
        let head = u64::MAX << (from % 64);
        let tail = u64::MAX >> (63 - (to - 1) % 64);
        if first == last {
            self.received[first] |= head & tail;
            return;
        }
        self.received[first] |= head;
        self.received[first + 1..last].fill(u64::MAX);
        self.received[last] |= tail;
    }

    /// The end of the run of received bytes that starts at `from`.
    fn run_end(&self, from: usize, size: usize) -> usize {
        let mut at = from;
        while at < size {
            let ones = (self.received[at / 64] >> (at % 64)).trailing_ones() as usize;
            at += ones;
            // The run goes on only if it fills the word to its end.
            if ones == 0 || !at.is_multiple_of(64) {
                break;
            }
        }
        at.min(size)
    }
}

/// Data received ahead of what can be delivered.
///
/// Memory: 9/8 of the blocks touched, so at most 9/8 of the stream's window and a block.
#[derive(Debug)]
pub(super) struct Gaps {
    /// Everything below was taken out.
    start: u64,
    /// Number of the first block in `blocks`, the one that holds `start`.
    first: u64,
    blocks: VecDeque<Option<Block>>,
}

impl Gaps {
    /// Nothing received at or beyond `start`.
    pub(super) fn new(start: u64) -> Self {
        Self { start, first: block_of(start), blocks: VecDeque::new() }
    }

    /// Copies in what lies at or beyond `start`. The caller has checked the stream's window.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8]) {
        let known = self.start.saturating_sub(offset).min(data.len() as u64);
        let (mut offset, mut data) = (offset + known, &data[known as usize..]);
        while !data.is_empty() {
            let number = block_of(offset);
            let (block_start, size) = block_range(number);
            let from = (offset - block_start) as usize;
            let take = data.len().min(size as usize - from);
            let (part, rest) = data.split_at(take);
            let index = (number - self.first) as usize;
            if self.blocks.len() <= index {
                self.blocks.resize_with(index + 1, || None);
            }
            let block = self.blocks[index].get_or_insert_with(|| Block::new(size));
            let taken = size as usize - block.data.len();
            block.data[from - taken..from - taken + take].copy_from_slice(part);
            block.mark(from, from + take);
            offset += take as u64;
            data = rest;
        }
    }

    /// Takes out the next bytes in order, if they have come.
    pub(super) fn pop(&mut self) -> Option<BytesMut> {
        let (block_start, size) = block_range(self.first);
        let block = self.blocks.front_mut()?.as_mut()?;
        let from = (self.start - block_start) as usize;
        let taken = size as usize - block.data.len();
        // Bytes below `start` that were delivered past us never come: they are not kept.
        let end = block.run_end(from, size as usize);
        if end == from {
            return None;
        }
        let mut run = block.data.split_to(end - taken);
        let run = run.split_off(from - taken);
        self.start = block_start + end as u64;
        if end == size as usize {
            self.blocks.pop_front();
            self.first += 1;
        }
        Some(run)
    }
}

/// Number of the block that holds `offset`.
fn block_of(offset: u64) -> u64 {
    match offset.checked_sub(SMALL_UNTIL) {
        None => offset / SMALL_BLOCK,
        Some(beyond) => SMALL_UNTIL / SMALL_BLOCK + beyond / LARGE_BLOCK,
    }
}

/// First offset and size of a block.
fn block_range(number: u64) -> (u64, u64) {
    match number.checked_sub(SMALL_UNTIL / SMALL_BLOCK) {
        None => (number * SMALL_BLOCK, SMALL_BLOCK),
        Some(beyond) => (SMALL_UNTIL + beyond * LARGE_BLOCK, LARGE_BLOCK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tile_the_stream() {
        let mut expected = 0;
        for number in 0..40 {
            let (start, size) = block_range(number);
            assert_eq!(start, expected);
            assert_eq!(block_of(start), number);
            assert_eq!(block_of(start + size - 1), number);
            expected += size;
        }
    }

    #[test]
    fn any_order_and_cut_gives_the_bytes() {
        let data: Vec<u8> = (0..150_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        for seed in 1..30u64 {
            let mut state = seed * 0x9e37_79b9;
            let mut next = |n: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % n
            };
            let start = next(20_000);
            let mut cuts = Vec::new();
            let mut at = start.saturating_sub(next(100));
            while at < data.len() as u64 {
                let end = (at + 1 + next(3000)).min(data.len() as u64);
                cuts.push((at.saturating_sub(next(50)), end));
                at = end;
            }
            for i in (1..cuts.len()).rev() {
                cuts.swap(i, next(i as u64 + 1) as usize);
            }
            let mut gaps = Gaps::new(start);
            let mut out = Vec::new();
            for (from, to) in cuts {
                gaps.insert(from, &data[from as usize..to as usize]);
                while let Some(piece) = gaps.pop() {
                    assert!(!piece.is_empty());
                    out.extend_from_slice(&piece);
                }
            }
            assert_eq!(out, data[start as usize..], "seed {seed}");
        }
    }

    #[test]
    fn every_other_byte_costs_no_more_than_the_bytes() {
        let window = 1 << 20;
        let mut gaps = Gaps::new(0);
        for offset in (1..window).step_by(2) {
            gaps.insert(offset, &[1]);
        }
        let held: usize = gaps.blocks.iter().flatten().map(|b| b.data.len() + b.received.len() * 8).sum();
        assert!(held as u64 <= window * 9 / 8 + LARGE_BLOCK, "{held}");
        assert!(gaps.pop().is_none());
    }
}
