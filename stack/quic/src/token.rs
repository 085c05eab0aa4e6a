//! Address tokens: a server's memory of an address, kept by the client.
//!
//! A token of a Retry packet shows that the client receives what is sent to its address; it holds the first packet's
//! Destination Connection ID and is good for seconds (RFC 9000 §8.1.2). A token of a NEW_TOKEN frame saves a later
//! connection from the same address the round trip, and is good for a day (RFC 9000 §8.1.3).
//!
//! Tokens can't be guessed or altered, and one that is stolen is good at the same address only, and not for long (RFC
//! 9000 §8.1.4).
//!
//! On the wire: kind, key epoch, nonce, then sealed: time of issue and original DCID. The address is not inside: it is
//! authenticated along with the rest, so that a token from elsewhere doesn't open.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use s2n_quic_core::time::{Clock, NoopClock, Timestamp};

use crate::cid::Cid;
use crate::random::Random;
use crate::reset::fill_secret;

/// How long a client may take to answer a Retry: three times the handshake's first timeouts, so that a lost packet or
/// two on a slow path don't matter.
pub const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// How long an address is believed to belong to the same client. Addresses change hands; a day is what others use.
pub const NEW_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long tokens are sealed with one key: the nonces are random, and an hour at full speed stays far below the 2^32
/// messages that AES-GCM allows then.
pub const KEY_ROTATION: Duration = Duration::from_secs(60 * 60);

/// Longest token made here: buffers for them need not be larger.
pub const MAX_TOKEN_LEN: usize = PREFIX_LEN + SEALED_TIME_LEN + Cid::MAX_LEN + MAX_TAG_LEN;

const PREFIX_LEN: usize = 2 + NONCE_LEN;
const SEALED_TIME_LEN: usize = 8;

/// First bytes of tokens. RFC 9000 §8.1.1 wants the two told apart at once.
const RETRY_KIND: u8 = 0x52;
const NEW_TOKEN_KIND: u8 = 0x4e;

/// Derived keys kept at hand: those of the present hour, the last, and two older ones.
const KEYS_CACHED: usize = 4;

/// The secret behind all tokens of a server. The keys that seal tokens follow from it and the hour.
///
/// Endpoints that share it accept each other's tokens, provided that their clocks agree.
pub struct TokenKey(hkdf::Prk);

impl TokenKey {
    /// A secret that lives as long as this process.
    pub fn random() -> Self {
        let mut secret = [0; 32];
        fill_secret(&mut secret);
        Self::new(&secret)
    }

    /// From a secret of the caller, 32 random bytes at best.
    pub fn new(secret: &[u8]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"wirepath address tokens").extract(secret))
    }

    fn derive(&self, epoch: u64) -> LessSafeKey {
        let epoch = epoch.to_be_bytes();
        let info = [&epoch[..]];
        let okm = self.0.expand(&info, &AES_128_GCM).expect("the key is shorter than HKDF's longest output");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

/// What a token is worth.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The client answers our Retry.
    Retried {
        /// Destination of the Initial packet that the Retry answered.
        original_dcid: Cid,
    },
    /// The client was at this address before.
    Known,
    /// It says to be of a Retry and is not good: the client can't be helped (RFC 9000 §8.1.2).
    RetryInvalid,
    /// As good as none: of a server long gone, too old, from elsewhere, or garbage (RFC 9000 §8.1.3).
    Worthless,
}

/// Makes tokens and opens them.
pub(crate) struct Tokens {
    secret: Arc<TokenKey>,
    keys: [Option<(u64, LessSafeKey)>; KEYS_CACHED],
}

impl Tokens {
    pub(crate) fn new(secret: Arc<TokenKey>) -> Self {
        Self { secret, keys: [const { None }; KEYS_CACHED] }
    }

    /// A token for a Retry packet whose source is `retry_scid`.
    pub(crate) fn retry(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        version: u32,
        original_dcid: &Cid,
        retry_scid: &[u8],
        random: &mut Random,
    ) -> Token {
        self.seal(
            now,
            RETRY_KIND,
            &Binding::retry(remote, version, retry_scid),
            original_dcid.as_slice(),
            random,
        )
    }

    /// A token for a NEW_TOKEN frame.
    pub(crate) fn new_token(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        version: u32,
        random: &mut Random,
    ) -> Token {
        self.seal(now, NEW_TOKEN_KIND, &Binding::new_token(remote, version), &[], random)
    }

    /// Judges the token of an Initial packet of `version` that came from `remote` to `dcid`.
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        remote: SocketAddr,
        version: u32,
        dcid: &[u8],
        token: &[u8],
    ) -> Verdict {
        match token.first() {
            Some(&RETRY_KIND) => self
                .unseal(now, &Binding::retry(remote, version, dcid), RETRY_TOKEN_LIFETIME, token)
                .map_or(Verdict::RetryInvalid, |original_dcid| Verdict::Retried { original_dcid }),
            Some(&NEW_TOKEN_KIND) => self
                .unseal(now, &Binding::new_token(remote, version), NEW_TOKEN_LIFETIME, token)
                .map_or(Verdict::Worthless, |_| Verdict::Known),
            _ => Verdict::Worthless,
        }
    }

    fn seal(
        &mut self,
        now: Timestamp,
        kind: u8,
        binding: &Binding,
        original_dcid: &[u8],
        random: &mut Random,
    ) -> Token {
        let now = micros(now);
        let epoch = epoch(now);
        let mut token = Token { len: 0, bytes: [0; MAX_TOKEN_LEN] };
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        token.push(&[kind, epoch as u8]);
        token.push(&nonce);
        token.push(&now.to_be_bytes());
        token.push(original_dcid);
        let sealed = &mut token.bytes[PREFIX_LEN..token.len];
        let tag = self
            .key(epoch)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(binding.as_slice()),
                sealed,
            )
            .expect("tokens are far shorter than the cipher's longest message");
        token.push(tag.as_ref());
        token
    }

    fn unseal(&mut self, now: Timestamp, binding: &Binding, lifetime: Duration, token: &[u8]) -> Option<Cid> {
        let (prefix, sealed) = token.split_first_chunk::<PREFIX_LEN>()?;
        let now = micros(now);
        let epoch = epoch_of(prefix[1], epoch(now))?;
        let nonce = Nonce::try_assume_unique_for_key(&prefix[2..]).ok()?;
        let mut copy = [0; MAX_TOKEN_LEN - PREFIX_LEN];
        let sealed = {
            let copy = copy.get_mut(..sealed.len())?;
            copy.copy_from_slice(sealed);
            copy
        };
        let opened = self.key(epoch).open_in_place(nonce, Aad::from(binding.as_slice()), sealed).ok()?;
        let (issued, original_dcid) = opened.split_first_chunk::<SEALED_TIME_LEN>()?;
        let age = now.checked_sub(u64::from_be_bytes(*issued))?;
        if u128::from(age) > lifetime.as_micros() {
            return None;
        }
        Cid::new(original_dcid)
    }

    fn key(&mut self, epoch: u64) -> &LessSafeKey {
        let slot = &mut self.keys[epoch as usize % KEYS_CACHED];
        if slot.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            *slot = None;
        }
        let (_, key) = slot.get_or_insert_with(|| (epoch, self.secret.derive(epoch)));
        key
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// A token as bytes.
pub(crate) struct Token {
    len: usize,
    bytes: [u8; MAX_TOKEN_LEN],
}

impl Token {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// What a token is bound to: the additional data of its seal.
struct Binding {
    len: usize,
    bytes: [u8; Self::MAX_LEN],
}

impl Binding {
    const MAX_LEN: usize = 1 + 4 + 16 + 2 + Cid::MAX_LEN;

    /// To address and port, since the answer to a Retry comes at once, and to the connection ID it was sent from, since
    /// that one is authenticated later (RFC 9000 §7.3).
    fn retry(remote: SocketAddr, version: u32, retry_scid: &[u8]) -> Self {
        let mut this = Self::address(RETRY_KIND, version, remote.ip());
        this.push(&remote.port().to_be_bytes());
        this.push(retry_scid.get(..Cid::MAX_LEN).unwrap_or(retry_scid));
        this
    }

    /// To the address alone: a later connection has another port.
    fn new_token(remote: SocketAddr, version: u32) -> Self {
        Self::address(NEW_TOKEN_KIND, version, remote.ip())
    }

    /// To the QUIC version in all cases (RFC 9369 §5).
    fn address(kind: u8, version: u32, ip: IpAddr) -> Self {
        let mut this = Self { len: 0, bytes: [0; Self::MAX_LEN] };
        this.push(&[kind]);
        this.push(&version.to_be_bytes());
        match ip.to_canonical() {
            IpAddr::V4(ip) => this.push(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => this.push(&ip.octets()),
        }
        this
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Microseconds since the clock's origin.
fn micros(now: Timestamp) -> u64 {
    now.saturating_duration_since(NoopClock.get_time()).as_micros() as u64
}

fn epoch(micros: u64) -> u64 {
    micros / KEY_ROTATION.as_micros() as u64
}

/// The latest epoch, not after `now`, that ends in this byte; `None` if no token of it can still be good.
fn epoch_of(low: u8, now: u64) -> Option<u64> {
    const OLDEST: u64 = (NEW_TOKEN_LIFETIME.as_secs() / KEY_ROTATION.as_secs()) + 1;
    let age = u64::from((now as u8).wrapping_sub(low));
    if age > OLDEST { None } else { now.checked_sub(age) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{VERSION_1, VERSION_2};

    struct World {
        tokens: Tokens,
        random: Random,
        start: Timestamp,
    }

    const RETRY_SCID: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];

    fn world() -> World {
        let start = NoopClock.get_time() + Duration::from_secs(5000);
        World {
            tokens: Tokens::new(Arc::new(TokenKey::new(b"secret"))),
            random: Random::from_seed([1; 32]),
            start,
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    impl World {
        fn retry(&mut self, remote: &str, original_dcid: &Cid) -> Vec<u8> {
            let remote = address(remote);
            self.tokens
                .retry(self.start, remote, VERSION_1, original_dcid, RETRY_SCID, &mut self.random)
                .as_slice()
                .to_vec()
        }

        fn new_token(&mut self, remote: &str) -> Vec<u8> {
            self.tokens
                .new_token(self.start, address(remote), VERSION_1, &mut self.random)
                .as_slice()
                .to_vec()
        }

        fn open(&mut self, after: Duration, remote: &str, dcid: &[u8], token: &[u8]) -> Verdict {
            self.tokens.open(self.start + after, address(remote), VERSION_1, dcid, token)
        }
    }

    const SOON: Duration = Duration::from_millis(100);
    const CLIENT: &str = "192.0.2.1:1000";

    #[test]
    fn a_retry_token_gives_the_original_dcid_back() {
        let mut world = world();
        for len in [0, 8, 20] {
            let original_dcid = Cid::new(&vec![9; len]).unwrap();
            let token = world.retry(CLIENT, &original_dcid);
            assert!(token.len() <= MAX_TOKEN_LEN);
            assert_eq!(world.open(SOON, CLIENT, RETRY_SCID, &token), Verdict::Retried { original_dcid });
        }
    }

    #[test]
    fn a_retry_token_is_bound_to_address_port_and_connection_id() {
        let mut world = world();
        let token = world.retry(CLIENT, &Cid::EMPTY);
        for remote in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            assert_eq!(world.open(SOON, remote, RETRY_SCID, &token), Verdict::RetryInvalid);
        }
        assert_eq!(world.open(SOON, CLIENT, &[1, 2, 3], &token), Verdict::RetryInvalid);
        assert_eq!(world.open(SOON, CLIENT, &[0; 255], &token), Verdict::RetryInvalid);
        // The same address written as IPv6 is the same address.
        assert!(matches!(
            world.open(SOON, "[::ffff:192.0.2.1]:1000", RETRY_SCID, &token),
            Verdict::Retried { .. }
        ));
    }

    #[test]
    fn a_new_token_is_bound_to_the_address_only() {
        let mut world = world();
        let token = world.new_token("[2001:db8::1]:1000");
        let of_version_2 =
            world.tokens.open(world.start, address("[2001:db8::1]:1000"), VERSION_2, &[], &token);
        assert_eq!(of_version_2, Verdict::Worthless);
        assert_eq!(world.open(SOON, "[2001:db8::1]:9", &[], &token), Verdict::Known);
        assert_eq!(world.open(SOON, "[2001:db8::2]:1000", &[], &token), Verdict::Worthless);
    }

    #[test]
    fn tokens_expire() {
        let mut world = world();
        let second = Duration::from_secs(1);
        let retry = world.retry(CLIENT, &Cid::EMPTY);
        assert!(matches!(
            world.open(RETRY_TOKEN_LIFETIME, CLIENT, RETRY_SCID, &retry),
            Verdict::Retried { .. }
        ));
        assert_eq!(
            world.open(RETRY_TOKEN_LIFETIME + second, CLIENT, RETRY_SCID, &retry),
            Verdict::RetryInvalid
        );
        let new = world.new_token(CLIENT);
        assert_eq!(world.open(NEW_TOKEN_LIFETIME, CLIENT, &[], &new), Verdict::Known);
        for later in [NEW_TOKEN_LIFETIME + second, 256 * KEY_ROTATION, 300 * KEY_ROTATION] {
            assert_eq!(world.open(later, CLIENT, &[], &new), Verdict::Worthless);
        }
        // Nor are they good before they were made.
        let then = world.start - SOON;
        assert_eq!(world.tokens.open(then, address(CLIENT), VERSION_1, &[], &new), Verdict::Worthless);
    }

    #[test]
    fn keys_rotate_and_are_shared() {
        let mut one = world();
        let tokens: Vec<_> = (0..30)
            .map(|_| {
                one.start += KEY_ROTATION;
                one.new_token(CLIENT)
            })
            .collect();
        let mut other = world();
        other.start = one.start;
        let known = |token: &Vec<u8>| other.open(Duration::ZERO, CLIENT, &[], token) == Verdict::Known;
        assert_eq!(
            tokens.iter().map(known).collect::<Vec<_>>(),
            [[false; 5].to_vec(), [true; 25].to_vec()].concat()
        );
        let mut stranger = Tokens::new(Arc::new(TokenKey::random()));
        assert_eq!(
            stranger.open(one.start, address(CLIENT), VERSION_1, &[], &tokens[29]),
            Verdict::Worthless
        );
    }

    #[test]
    fn two_tokens_never_look_alike() {
        let mut world = world();
        assert_ne!(world.new_token(CLIENT), world.new_token(CLIENT));
    }

    #[test]
    fn altered_and_foreign_tokens_are_worthless() {
        let mut world = world();
        let retry = world.retry(CLIENT, &Cid::new(&[5; 8]).unwrap());
        let new = world.new_token(CLIENT);
        for token in [&retry, &new] {
            for at in 0..token.len() {
                let mut altered = token.clone();
                altered[at] ^= 0x10;
                let verdict = world.open(SOON, CLIENT, RETRY_SCID, &altered);
                assert!(matches!(verdict, Verdict::RetryInvalid | Verdict::Worthless), "byte {at}");
                let verdict = world.open(SOON, CLIENT, RETRY_SCID, &token[..at]);
                assert!(matches!(verdict, Verdict::RetryInvalid | Verdict::Worthless), "length {at}");
            }
        }
        for foreign in [vec![], vec![0; 500], vec![RETRY_KIND; 300], vec![NEW_TOKEN_KIND; 1000]] {
            let verdict = world.open(SOON, CLIENT, RETRY_SCID, &foreign);
            assert!(matches!(verdict, Verdict::RetryInvalid | Verdict::Worthless));
        }
    }
}
