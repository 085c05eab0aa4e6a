//! The source of unpredictable values of a connection.

use aws_lc_rs::hmac;
use s2n_quic_core::random::Generator;

use crate::reset::fill_secret;

/// Bytes one call of the keyed function gives.
const BLOCK_LEN: usize = 32;

/// A source of unpredictable bytes: HMAC-SHA256 of a counter under a secret seed.
///
/// A connection asks for few bytes (connection IDs, path challenges, skipped packet numbers), so that it is small rather
/// than fast. With a seed of the caller everything a connection does can be repeated.
#[derive(Clone)]
pub struct Random {
    seed: [u8; BLOCK_LEN],
    counter: u64,
}

impl Random {
    /// A source whose bytes follow from `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// A source seeded by the operating system.
    pub fn from_os() -> Self {
        let mut seed = [0; BLOCK_LEN];
        fill_secret(&mut seed);
        Self::from_seed(seed)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        for chunk in bytes.chunks_mut(BLOCK_LEN) {
            let block = hmac::sign(&key, &self.counter.to_le_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
    }

    /// A number of 64 random bits.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A source of its own, independent of what this one gives later.
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; BLOCK_LEN];
        self.fill(&mut seed);
        Self::from_seed(seed)
    }
}

impl Generator for Random {
    fn public_random_fill(&mut self, dest: &mut [u8]) {
        self.fill(dest);
    }

    fn private_random_fill(&mut self, dest: &mut [u8]) {
        self.fill(dest);
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_repeat_and_forks_differ() {
        let (mut one, mut two) = (Random::from_seed([7; 32]), Random::from_seed([7; 32]));
        assert_eq!(one.u64(), two.u64());
        assert_ne!(one.u64(), one.u64());
        assert_ne!(two.fork().u64(), two.u64());
        let mut long = [0; 100];
        one.fill(&mut long);
        assert_ne!(long[..32], long[32..64]);
    }
}
