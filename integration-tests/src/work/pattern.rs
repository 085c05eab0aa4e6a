//! Bytes that both ends know, so that any that come wrong, twice, late or from another stream are told.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// Bytes of the block that is repeated: a prime, so that nothing shifted by a packet, a frame or a power of
/// two looks right.
const BLOCK: usize = 1_048_573;

static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut block = vec![0; BLOCK];
    SmallRng::seed_from_u64(0x7769_7265).fill_bytes(&mut block);
    block.into()
});

/// Up to `max` bytes of the pattern named `seed`, from `offset` on; at least one if `max` is not zero. They
/// are shared, not copied.
pub fn pattern(seed: u64, offset: u64, max: usize) -> Bytes {
    let start = ((seed.wrapping_mul(7919) % BLOCK as u64 + offset) % BLOCK as u64) as usize;
    BYTES.slice(start..BLOCK.min(start + max))
}

/// Compares bytes that arrive with the pattern.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    seed: u64,
    offset: u64,
}

impl Checker {
    /// Expects the pattern named `seed` from its start.
    pub fn new(seed: u64) -> Self {
        Self { seed, offset: 0 }
    }

    /// Bytes seen so far.
    pub fn seen(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Where they differ from the pattern, in words.
    pub fn take(&mut self, mut bytes: Bytes) -> Result<(), String> {
        while !bytes.is_empty() {
            let expected = pattern(self.seed, self.offset, bytes.len());
            let got = &bytes[..expected.len()];
            if got != expected {
                let at = got.iter().zip(&expected[..]).position(|(got, expected)| got != expected);
                return Err(format!("byte {} is wrong", self.offset + at.unwrap_or_default() as u64));
            }
            self.offset += expected.len() as u64;
            bytes.advance(expected.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_its_own_continuation_and_others_differ() {
        let mut checker = Checker::new(3);
        let mut offset = 0;
        for max in [1, 100, BLOCK, BLOCK, 3 * BLOCK, 17] {
            let bytes = pattern(3, offset, max);
            assert!(!bytes.is_empty() && bytes.len() <= max);
            offset += bytes.len() as u64;
            checker.take(bytes).unwrap();
        }
        assert_eq!(checker.seen(), offset);
        let wrong = Bytes::from([&pattern(3, offset, 5)[..], &[pattern(3, offset + 5, 1)[0] ^ 1]].concat());
        assert_eq!(checker.take(wrong), Err(format!("byte {} is wrong", offset + 5)));
        assert!(Checker::new(4).take(pattern(3, 0, 64)).is_err());
    }
}
