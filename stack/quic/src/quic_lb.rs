//! Connection IDs that carry a server ID, by which load balancers keep a connection with its server when the
//! client's address changes: QUIC-LB, draft-ietf-quic-load-balancers-21.
//!
//! ```text
//! ┌─────────────┬───────────┬───────┐
//! │ first octet │ server ID │ nonce │   the last two in the clear, or encrypted together
//! └─────────────┴───────────┴───────┘
//! ```

mod cipher;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cid::{Cid, CidGenerator, RandomCids};
use crate::reset::{RESET_TOKEN_LEN, ResetKey, fill_secret};
use cipher::{BLOCK_LEN, Cipher};

/// The configuration that stands for "no configuration" (§3.2).
const UNROUTABLE: u8 = 0b111;

/// Shortest nonce (§5.2).
const MIN_NONCE_LEN: usize = 4;

/// A configuration that QUIC-LB does not allow.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuicLbError {
    /// Three bits, of which all ones are reserved (§3.1).
    #[error("a QUIC-LB configuration is numbered 0 to 6")]
    Config,
    /// Server ID and nonce, together with the first octet, must fit a connection ID of QUIC v1 (§5.2).
    #[error("a QUIC-LB server ID has at least 1 byte, a nonce 4, and both together at most 19")]
    Length,
    /// Too few bytes that others can't guess (RFC 9000 §21.11).
    #[error("a QUIC-LB connection ID needs 7 bytes that nobody can guess: a longer nonce")]
    Guessable,
}

/// One server's QUIC-LB configuration: which bytes its connection IDs are made of. Cloning is cheap.
#[derive(Clone)]
pub struct QuicLb {
    first_octet: u8,
    server_id: Cid,
    nonce_len: usize,
    cipher: Option<Cipher>,
}

impl QuicLb {
    /// Server IDs in the clear, which XDP rules and anybody else can read: [`prefix`](Self::prefix). `config` is the
    /// number of the configuration in use, 0 to 6.
    ///
    /// # Errors
    /// [`QuicLbError`]; the nonce needs 7 bytes, since all else of the ID is known.
    pub fn plain(config: u8, server_id: &[u8], nonce_len: usize) -> Result<Self, QuicLbError> {
        let this = Self::layout(config, server_id, nonce_len)?;
        if nonce_len < RandomCids::MIN_RANDOM_LEN {
            return Err(QuicLbError::Guessable);
        }
        Ok(this)
    }

    /// Server IDs that only those with the key can read: AES-128 in one pass where server ID and nonce are 16 bytes
    /// together, in four of a Feistel network else (§5.4).
    ///
    /// # Errors
    /// [`QuicLbError`]; server ID and nonce need 7 bytes together.
    pub fn encrypted(
        config: u8,
        server_id: &[u8],
        nonce_len: usize,
        key: &[u8; BLOCK_LEN],
    ) -> Result<Self, QuicLbError> {
        let this = Self::layout(config, server_id, nonce_len)?;
        if server_id.len() + nonce_len < RandomCids::MIN_RANDOM_LEN {
            return Err(QuicLbError::Guessable);
        }
        Ok(Self { cipher: Some(Cipher::new(key)), ..this })
    }

    fn layout(config: u8, server_id: &[u8], nonce_len: usize) -> Result<Self, QuicLbError> {
        if config >= UNROUTABLE {
            return Err(QuicLbError::Config);
        }
        let len = server_id.len().saturating_add(nonce_len);
        let server_id = Cid::new(server_id).filter(|id| !id.is_empty()).ok_or(QuicLbError::Length)?;
        if nonce_len < MIN_NONCE_LEN || len >= Cid::MAX_LEN {
            return Err(QuicLbError::Length);
        }
        // The length of the rest, for hardware that wants to know (§3.3).
        let first_octet = config << 5 | len as u8;
        Ok(Self { first_octet, server_id, nonce_len, cipher: None })
    }

    /// Bytes of its connection IDs.
    pub fn cid_len(&self) -> usize {
        1 + self.server_id.len() + self.nonce_len
    }

    /// The server's ID.
    pub fn server_id(&self) -> &[u8] {
        self.server_id.as_slice()
    }

    /// The bytes that all its connection IDs start with, and no other server's of the configuration: first octet and
    /// server ID. `None` where they are encrypted: what steers by those must have the key, as an XDP rule has not.
    pub fn prefix(&self) -> Option<Cid> {
        match self.cipher {
            Some(_) => None,
            None => Cid::new(&[&[self.first_octet], self.server_id()].concat()),
        }
    }

    /// The connection ID with this nonce; `None` if that is not as long as configured.
    pub fn encode(&self, nonce: &[u8]) -> Option<Cid> {
        if nonce.len() != self.nonce_len {
            return None;
        }
        let mut bytes = [0; Cid::MAX_LEN];
        let (first, rest) = bytes[..self.cid_len()].split_first_mut()?;
        let (server_id, place) = rest.split_at_mut(self.server_id.len());
        *first = self.first_octet;
        server_id.copy_from_slice(self.server_id());
        place.copy_from_slice(nonce);
        if let Some(cipher) = &self.cipher {
            cipher.encrypt(rest);
        }
        Cid::new(&bytes[..self.cid_len()])
    }

    /// The server ID in a connection ID of the same configuration, as a load balancer reads it; `None` for one of
    /// another configuration or length.
    pub fn decode(&self, cid: &[u8]) -> Option<Cid> {
        let cid = Cid::new(cid).filter(|cid| cid.len() == self.cid_len())?;
        let (first, rest) = cid.as_slice().split_first()?;
        if *first != self.first_octet {
            return None;
        }
        let mut plain = [0; Cid::MAX_LEN];
        let plain = &mut plain[..rest.len()];
        plain.copy_from_slice(rest);
        if let Some(cipher) = &self.cipher {
            cipher.decrypt(plain);
        }
        Cid::new(&plain[..self.server_id.len()])
    }
}

/// Alike are those that make the same connection ID of a nonce.
impl PartialEq for QuicLb {
    fn eq(&self, other: &Self) -> bool {
        let nonce = [0; Cid::MAX_LEN];
        self.nonce_len == other.nonce_len
            && self.encode(&nonce[..self.nonce_len]) == other.encode(&nonce[..self.nonce_len])
    }
}

impl Eq for QuicLb {}

impl fmt::Debug for QuicLb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicLb")
            .field("config", &(self.first_octet >> 5))
            .field("server_id", &self.server_id)
            .field("nonce_len", &self.nonce_len)
            .field("encrypted", &self.cipher.is_some())
            .finish()
    }
}

/// Makes connection IDs of one QUIC-LB configuration.
#[derive(Debug)]
pub struct QuicLbCids {
    lb: QuicLb,
    /// The next nonce of encrypted IDs: the cipher hides that they follow each other. From a random start, so that
    /// servers that share an ID, and one that starts again, come upon the same nonce by rare chance only.
    next: AtomicU64,
    reset_key: ResetKey,
}

impl QuicLbCids {
    /// IDs of this configuration; stateless reset tokens by `reset_key`.
    pub fn new(lb: QuicLb, reset_key: ResetKey) -> Self {
        let mut start = [0; 8];
        fill_secret(&mut start);
        Self { lb, next: AtomicU64::new(u64::from_ne_bytes(start)), reset_key }
    }

    fn nonce(&self, nonce: &mut [u8]) {
        match self.lb.cipher {
            // No observable relationship between any two (§5.3).
            None => fill_secret(nonce),
            Some(_) => {
                let count = self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes();
                nonce.iter_mut().zip(count).for_each(|(byte, count)| *byte = count);
            }
        }
    }
}

impl CidGenerator for QuicLbCids {
    fn len(&self) -> usize {
        self.lb.cid_len()
    }

    fn generate(&self) -> Cid {
        let mut nonce = [0; Cid::MAX_LEN];
        let nonce = &mut nonce[..self.lb.nonce_len];
        self.nonce(nonce);
        self.lb.encode(nonce).expect("a nonce of the configured length")
    }

    fn reset_token(&self, cid: &Cid) -> [u8; RESET_TOKEN_LEN] {
        self.reset_key.token(cid.as_slice())
    }

    fn validate(&self, cid: &[u8]) -> bool {
        self.lb.decode(cid) == Some(self.lb.server_id)
    }
}
