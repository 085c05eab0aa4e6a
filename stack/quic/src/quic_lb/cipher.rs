//! The two ways in which QUIC-LB encrypts server ID and nonce (§5.4): AES-128 on one block, where they fill it, and
//! a Feistel network of four rounds of AES-128 for every other length.

use std::sync::Arc;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};

/// Bytes of an AES block, and of the key.
pub(super) const BLOCK_LEN: usize = 16;

/// Most bytes of one half: of 19, rounded up.
const MAX_HALF_LEN: usize = 10;

/// Encrypts and decrypts server ID and nonce under one key.
#[derive(Clone)]
pub(super) struct Cipher(Arc<Keys>);

struct Keys {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl Cipher {
    pub(super) fn new(key: &[u8; BLOCK_LEN]) -> Self {
        // These fail only for a key that is not 16 bytes long.
        let unbound = || UnboundCipherKey::new(&AES_128, key).expect("a key of 16 bytes");
        let encrypting = EncryptingKey::ecb(unbound()).expect("a key of AES-128");
        let decrypting = DecryptingKey::ecb(unbound()).expect("a key of AES-128");
        Self(Arc::new(Keys { encrypting, decrypting }))
    }

    /// Encrypts 5 to 19 bytes in place.
    pub(super) fn encrypt(&self, text: &mut [u8]) {
        match text.as_mut_array::<BLOCK_LEN>() {
            Some(block) => self.encrypt_block(block),
            None => self.rounds(text, [1, 2, 3, 4]),
        }
    }

    /// Takes back what [`encrypt`](Self::encrypt) did.
    pub(super) fn decrypt(&self, text: &mut [u8]) {
        match text.as_mut_array::<BLOCK_LEN>() {
            Some(block) => self.decrypt_block(block),
            None => self.rounds(text, [4, 3, 2, 1]),
        }
    }

    /// §5.4.2. Odd rounds change the right half by the left one, even ones the other way round; each takes itself back.
    fn rounds(&self, text: &mut [u8], order: [u8; 4]) {
        let mut halves = Halves::of(text);
        for pass in order {
            let half_len = halves.len;
            let by = if pass % 2 == 1 { halves.left } else { halves.right };
            let mut block = [0; BLOCK_LEN];
            block[..half_len].copy_from_slice(&by[..half_len]);
            block[14] = text.len() as u8;
            block[15] = pass;
            self.encrypt_block(&mut block);
            let changed = if pass % 2 == 1 { &mut halves.right } else { &mut halves.left };
            changed[..half_len].iter_mut().zip(block).for_each(|(byte, with)| *byte ^= with);
            halves.clear_shared(text.len());
        }
        halves.join(text);
    }

    fn encrypt_block(&self, block: &mut [u8; BLOCK_LEN]) {
        self.0.encrypting.encrypt(block).expect("ECB takes any whole block");
    }

    fn decrypt_block(&self, block: &mut [u8; BLOCK_LEN]) {
        self.0.decrypting.decrypt(block, DecryptionContext::None).expect("ECB takes any whole block");
    }
}

/// The text in two halves of the same number of bytes. Of an odd number of bytes the middle one is in both: its first
/// four bits in the left half's last byte, its last four in the right half's first.
struct Halves {
    len: usize,
    left: [u8; MAX_HALF_LEN],
    right: [u8; MAX_HALF_LEN],
}

impl Halves {
    fn of(text: &[u8]) -> Self {
        let len = text.len().div_ceil(2);
        let mut halves = Self { len, left: [0; MAX_HALF_LEN], right: [0; MAX_HALF_LEN] };
        halves.left[..len].copy_from_slice(&text[..len]);
        halves.right[..len].copy_from_slice(&text[text.len() - len..]);
        halves.clear_shared(text.len());
        halves
    }

    /// Clears each half's share of the middle byte that is the other's.
    fn clear_shared(&mut self, text_len: usize) {
        if text_len % 2 == 1 {
            self.left[self.len - 1] &= 0xf0;
            self.right[0] &= 0x0f;
        }
    }

    fn join(&self, text: &mut [u8]) {
        let start = text.len() - self.len;
        let odd = text.len() % 2 == 1;
        text[..self.len].copy_from_slice(&self.left[..self.len]);
        text[start + 1..].copy_from_slice(&self.right[1..self.len]);
        text[start] = if odd { self.left[self.len - 1] | self.right[0] } else { self.right[0] };
    }
}
