//! Stateless reset: the tokens a server can compute again after it has forgotten everything, and the packet itself.

use std::fmt;

use aws_lc_rs::hmac;

use crate::random::Random;

/// Bytes of a stateless reset token (RFC 9000 §10.3).
pub const RESET_TOKEN_LEN: usize = 16;

/// Shortest stateless reset we send: 5 bytes that look like a short header, and the token (RFC 9000 §10.3 gives 21
/// as the least a QUIC packet of a live connection can have, so shorter ones would be told apart).
pub const MIN_RESET_LEN: usize = 5 + RESET_TOKEN_LEN;

/// Longest stateless reset we send. RFC 9000 §10.3 wants a reset not to be told from a small short-header packet;
/// longer ones give nothing but bytes to amplify.
pub const MAX_RESET_LEN: usize = 43;

/// The static secret from which every stateless reset token is computed (RFC 9000 §10.3.2).
///
/// Instances that share a key and a source of connection IDs can reset each other's connections, for example a
/// server and the one started after its crash.
pub struct ResetKey(hmac::Key);

impl ResetKey {
    /// A key that lives as long as this process.
    pub fn random() -> Self {
        let mut secret = [0; 32];
        fill_secret(&mut secret);
        Self::new(&secret)
    }

    /// A key from a secret of the caller, 32 random bytes at best.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token that belongs to a connection ID.
    pub fn token(&self, cid: &[u8]) -> [u8; RESET_TOKEN_LEN] {
        let tag = hmac::sign(&self.0, cid);
        let mut token = [0; RESET_TOKEN_LEN];
        token.copy_from_slice(&tag.as_ref()[..RESET_TOKEN_LEN]);
        token
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

/// Writes a stateless reset that answers a datagram of `cause_len` bytes and ends in `token`, and returns its length;
/// `None` if the cause or the buffer is too small.
///
/// The reset is always smaller than its cause, so that two endpoints that reset each other stop (RFC 9000 §10.3.3).
pub fn write_reset(
    token: &[u8; RESET_TOKEN_LEN],
    cause_len: usize,
    random: &mut Random,
    response: &mut [u8],
) -> Option<usize> {
    let largest = cause_len.checked_sub(1)?.min(MAX_RESET_LEN).min(response.len());
    if largest < MIN_RESET_LEN {
        return None;
    }
    // A length that varies, like those of real packets (RFC 9000 §10.3).
    let len = MIN_RESET_LEN + (random.u64() as usize) % (largest - MIN_RESET_LEN + 1);
    let (unpredictable, end) = response[..len].split_at_mut(len - RESET_TOKEN_LEN);
    random.fill(unpredictable);
    // Header form 0, fixed bit 1; the rest stays unpredictable (RFC 9000 §10.3).
    unpredictable[0] = unpredictable[0] & 0x3f | 0x40;
    end.copy_from_slice(token);
    Some(len)
}

/// Fills `secret` from the operating system's source.
pub(crate) fn fill_secret(secret: &mut [u8]) {
    // The call fails only where the system has no entropy at all; keys made then would be worthless.
    aws_lc_rs::rand::fill(secret).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_smaller_than_its_cause_and_ends_in_the_token() {
        let token = ResetKey::new(b"static key").token(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut random = Random::from_seed([1; 32]);
        let mut lengths = std::collections::BTreeSet::new();
        for cause in 0..1500 {
            let mut response = [0; 1500];
            match write_reset(&token, cause, &mut random, &mut response) {
                Some(len) => {
                    assert!(len < cause && (MIN_RESET_LEN..=MAX_RESET_LEN).contains(&len));
                    assert_eq!(response[0] & 0xc0, 0x40);
                    assert_eq!(response[len - RESET_TOKEN_LEN..len], token);
                    lengths.insert(len);
                }
                None => assert!(cause <= MIN_RESET_LEN),
            }
        }
        assert_eq!(lengths.len(), MAX_RESET_LEN - MIN_RESET_LEN + 1);
    }

    #[test]
    fn a_short_response_buffer_is_respected() {
        let token = ResetKey::random().token(&[]);
        let mut random = Random::from_seed([1; 32]);
        assert_eq!(write_reset(&token, 1200, &mut random, &mut [0; 20]), None);
        assert_eq!(write_reset(&token, 1200, &mut random, &mut [0; 21]), Some(21));
    }

    #[test]
    fn tokens_depend_on_key_and_cid() {
        let key = ResetKey::new(b"a");
        assert_eq!(key.token(b"x"), key.token(b"x"));
        assert_ne!(key.token(b"x"), key.token(b"y"));
        assert_ne!(key.token(b"x"), ResetKey::new(b"b").token(b"x"));
    }
}
