//! Received CRYPTO data put in order.
//!
//! Our own rather than s2n-quic-core's reassembler: that one keeps a list of pieces, and the work of 64 KiB in pieces of
//! one byte grows with the square of their number. Here a piece costs as much as it has bytes, wherever it belongs.

use bytes::Bytes;

/// Bits of a word of the map.
const WORD: usize = u64::BITS as usize;

/// Bytes read that are kept before the rest is moved down.
const MIN_MOVE: usize = 4096;

/// The bytes of a CRYPTO stream that came and were not read yet, and a map of which of them came.
///
/// It holds all between the first unread byte and the last that came; the caller bounds how far that may be.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Stream offset of the first byte kept, a multiple of nothing in particular.
    origin: u64,
    bytes: Vec<u8>,
    came: Vec<u64>,
    /// Bytes kept that were read.
    read: usize,
}

impl Assembly {
    /// Stream offset of the first byte not read.
    pub(super) fn consumed(&self) -> u64 {
        self.origin + self.read as u64
    }

    /// Takes bytes in.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let known = self.consumed().saturating_sub(offset);
        if known >= data.len() as u64 {
            return;
        }
        let data = &data[known as usize..];
        let start = (offset + known - self.origin) as usize;
        let end = start + data.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.came.resize(end.div_ceil(WORD), 0);
        }
        self.bytes[start..end].copy_from_slice(data);
        for at in start..end {
            self.came[at / WORD] |= 1 << (at % WORD);
        }
    }

    /// The next bytes in order, at most `max`.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let end = self.read + self.in_order().min(max);
        if end == self.read {
            return None;
        }
        let bytes = Bytes::copy_from_slice(&self.bytes[self.read..end]);
        self.read = end;
        self.tidy();
        Some(bytes)
    }

    /// Bytes that can be read.
    fn in_order(&self) -> usize {
        let mut at = self.read;
        while let Some(word) = self.came.get(at / WORD) {
            let ones = (word >> (at % WORD)).trailing_ones() as usize;
            at += ones;
            if ones == 0 || !at.is_multiple_of(WORD) {
                break;
            }
        }
        at - self.read
    }

    /// Forgets what was read, once it is at least half of what is kept: each byte is moved once at most on average.
    fn tidy(&mut self) {
        if self.read == self.bytes.len() {
            *self = Self { origin: self.consumed(), ..Self::default() };
        } else if self.read >= MIN_MOVE && self.read * 2 >= self.bytes.len() {
            let words = self.read / WORD;
            self.came.drain(..words);
            self.bytes.drain(..words * WORD);
            self.origin += (words * WORD) as u64;
            self.read -= words * WORD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn pieces_in_any_order_make_the_whole() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let len = rng.random_range(1..30_000_usize);
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + at / 256) as u8).collect();
            let mut assembly = Assembly::default();
            let mut read = Vec::new();
            let mut next = 0;
            while read.len() < len {
                // Mostly onward, sometimes back or ahead.
                let start = match rng.random_range(0..4) {
                    0 => rng.random_range(0..len),
                    _ => next.min(len - 1),
                };
                let end = (start + rng.random_range(1..900)).min(len);
                if start <= next {
                    next = next.max(end);
                }
                assembly.write(start as u64, &data[start..end]);
                if rng.random_ratio(1, 3) {
                    while let Some(bytes) = assembly.read(rng.random_range(1..3000)) {
                        read.extend_from_slice(&bytes);
                        assert_eq!(assembly.consumed(), read.len() as u64);
                    }
                }
            }
            assert_eq!(read, data, "seed {seed}");
        }
    }
}
