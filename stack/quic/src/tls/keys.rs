//! Packet and header protection keys (RFC 9001 §5). All of them work in place and allocate nothing per packet.

use std::fmt;

use rustls::quic;
use s2n_codec::Encoder;
use s2n_quic_core::crypto::{self, HeaderProtectionMask, Key, packet_protection, scatter, tls};

use crate::tls::version_keys;

/// Bytes of ciphertext that header protection samples, for all suites (RFC 9001 §5.4.3, §5.4.4).
const SAMPLE_LEN: usize = 16;

/// Bytes of the authentication tag, for all suites (RFC 9001 §5.3).
pub(super) const TAG_LEN: usize = 16;

pub(crate) type InitialKey = PacketKeys;
pub(crate) type InitialHeaderKey = HeaderKeys;
pub(crate) type HandshakeKey = PacketKeys;
pub(crate) type HandshakeHeaderKey = HeaderKeys;
pub(crate) type OneRttHeaderKey = HeaderKeys;

/// Keys of both directions at one encryption level.
pub(crate) struct PacketKeys {
    sealer: Box<dyn quic::PacketKey>,
    opener: Box<dyn quic::PacketKey>,
    suite: tls::CipherSuite,
}

/// The key of 0-RTT packets, which only clients send.
pub(crate) struct ZeroRttKey {
    key: Box<dyn quic::PacketKey>,
    suite: tls::CipherSuite,
}

/// One generation of 1-RTT keys.
pub(crate) struct OneRttKey {
    /// `None` until the first packet is sealed. Each connection holds the next generation in reserve: its opening key
    /// must be there, lest the time to make it shows the key phase bit to an observer (RFC 9001 §6.3), but the sealing
    /// key is not needed before the peer has been authenticated, and most connections never need it.
    sealer: Option<Box<dyn quic::PacketKey>>,
    opener: Box<dyn quic::PacketKey>,
    suite: tls::CipherSuite,
    /// State from which this generation's sealer is made; unused in the first one.
    own: Option<Box<Generation>>,
    /// State from which the next generation is made.
    next: Box<Generation>,
}

/// What a generation of 1-RTT keys is made from.
#[derive(Clone)]
pub(super) enum Generation {
    /// TLS began under the version in use.
    Native(quic::Secrets),
    /// The version was agreed on later.
    Negotiated(version_keys::Secrets),
}

impl Generation {
    fn next_packet_keys(&mut self) -> quic::PacketKeySet {
        match self {
            Self::Native(secrets) => secrets.next_packet_keys(),
            Self::Negotiated(secrets) => secrets.next_packet_keys(),
        }
    }
}

/// Header protection keys of both directions. They outlive key updates (RFC 9001 §5.4).
pub(crate) struct HeaderKeys {
    sealer: Box<dyn quic::HeaderProtectionKey>,
    opener: Box<dyn quic::HeaderProtectionKey>,
}

/// The header protection key of 0-RTT packets.
pub(crate) struct ZeroRttHeaderKey(Box<dyn quic::HeaderProtectionKey>);

impl PacketKeys {
    pub(super) fn new(keys: quic::Keys, suite: tls::CipherSuite) -> (Self, HeaderKeys) {
        let quic::Keys { local, remote } = keys;
        (
            Self { sealer: local.packet, opener: remote.packet, suite },
            HeaderKeys { sealer: local.header, opener: remote.header },
        )
    }
}

impl ZeroRttKey {
    pub(super) fn new(keys: quic::DirectionalKeys, suite: tls::CipherSuite) -> (Self, ZeroRttHeaderKey) {
        (Self { key: keys.packet, suite }, ZeroRttHeaderKey(keys.header))
    }
}

impl OneRttKey {
    pub(super) fn new(keys: quic::Keys, next: Generation, suite: tls::CipherSuite) -> (Self, HeaderKeys) {
        let (PacketKeys { sealer, opener, suite }, header) = PacketKeys::new(keys, suite);
        (Self { sealer: Some(sealer), opener, suite, own: None, next: Box::new(next) }, header)
    }

    #[cold]
    fn make_sealer(&mut self) -> Result<(), packet_protection::Error> {
        let mut own = self.own.take().ok_or(packet_protection::Error::INTERNAL_ERROR)?;
        self.sealer = Some(own.next_packet_keys().local);
        Ok(())
    }
}

impl crypto::OneRttKey for OneRttKey {
    fn derive_next_key(&self) -> Self {
        let own = self.next.clone();
        let mut next = self.next.clone();
        let opener = next.next_packet_keys().remote;
        Self { sealer: None, opener, suite: self.suite, own: Some(own), next }
    }
}

fn seal(
    key: &dyn quic::PacketKey,
    packet_number: u64,
    header: &[u8],
    payload: &mut scatter::Buffer<'_>,
) -> Result<(), packet_protection::Error> {
    let buffer = payload.flatten();
    if buffer.remaining_capacity() < TAG_LEN {
        return Err(packet_protection::Error::INTERNAL_ERROR);
    }
    let (plaintext, _) = buffer.split_mut();
    let tag = key
        .encrypt_in_place(packet_number, header, plaintext)
        .map_err(|_| packet_protection::Error::INTERNAL_ERROR)?;
    buffer.write_slice(tag.as_ref());
    Ok(())
}

fn open(
    key: &dyn quic::PacketKey,
    packet_number: u64,
    header: &[u8],
    payload: &mut [u8],
) -> Result<(), packet_protection::Error> {
    // The caller cuts the tag off by its length, so a payload without one must not pass.
    if payload.len() < TAG_LEN {
        return Err(packet_protection::Error::DECRYPT_ERROR);
    }
    key.decrypt_in_place(packet_number, header, payload)
        .map(|_| ())
        .map_err(|_| packet_protection::Error::DECRYPT_ERROR)
}

impl Key for PacketKeys {
    #[inline]
    fn decrypt(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<(), packet_protection::Error> {
        open(&*self.opener, packet_number, header, payload)
    }

    #[inline]
    fn encrypt(
        &mut self,
        packet_number: u64,
        header: &[u8],
        payload: &mut scatter::Buffer<'_>,
    ) -> Result<(), packet_protection::Error> {
        seal(&*self.sealer, packet_number, header, payload)
    }

    #[inline]
    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn aead_confidentiality_limit(&self) -> u64 {
        self.sealer.confidentiality_limit()
    }

    fn aead_integrity_limit(&self) -> u64 {
        self.opener.integrity_limit()
    }

    fn cipher_suite(&self) -> tls::CipherSuite {
        self.suite
    }
}

impl Key for ZeroRttKey {
    #[inline]
    fn decrypt(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<(), packet_protection::Error> {
        open(&*self.key, packet_number, header, payload)
    }

    #[inline]
    fn encrypt(
        &mut self,
        packet_number: u64,
        header: &[u8],
        payload: &mut scatter::Buffer<'_>,
    ) -> Result<(), packet_protection::Error> {
        seal(&*self.key, packet_number, header, payload)
    }

    #[inline]
    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn aead_confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn aead_integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }

    fn cipher_suite(&self) -> tls::CipherSuite {
        self.suite
    }
}

impl Key for OneRttKey {
    #[inline]
    fn decrypt(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<(), packet_protection::Error> {
        open(&*self.opener, packet_number, header, payload)
    }

    #[inline]
    fn encrypt(
        &mut self,
        packet_number: u64,
        header: &[u8],
        payload: &mut scatter::Buffer<'_>,
    ) -> Result<(), packet_protection::Error> {
        if self.sealer.is_none() {
            self.make_sealer()?;
        }
        let sealer = self.sealer.as_deref().ok_or(packet_protection::Error::INTERNAL_ERROR)?;
        seal(sealer, packet_number, header, payload)
    }

    #[inline]
    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn aead_confidentiality_limit(&self) -> u64 {
        // Both directions use the same AEAD.
        self.opener.confidentiality_limit()
    }

    fn aead_integrity_limit(&self) -> u64 {
        self.opener.integrity_limit()
    }

    fn cipher_suite(&self) -> tls::CipherSuite {
        self.suite
    }
}

/// Header protection mask of a sample (RFC 9001 §5.4.1).
///
/// rustls applies masks and doesn't show them, so this protects a header that is zero but for a packet number length
/// of four: what comes out, less that length, is the mask. Of its first byte only the five bits that are ever used.
#[inline]
fn mask(key: &dyn quic::HeaderProtectionKey, sample: &[u8]) -> HeaderProtectionMask {
    const FOUR_BYTE_NUMBER: u8 = 0b11;
    let mut first = FOUR_BYTE_NUMBER;
    let mut number = [0; 4];
    let masked = key.encrypt_in_place(sample, &mut first, &mut number);
    // It refuses only samples of another length, and the length is asked for below.
    debug_assert!(masked.is_ok());
    [first ^ FOUR_BYTE_NUMBER, number[0], number[1], number[2], number[3]]
}

impl crypto::HeaderKey for HeaderKeys {
    #[inline]
    fn opening_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        mask(&*self.opener, sample)
    }

    #[inline]
    fn opening_sample_len(&self) -> usize {
        SAMPLE_LEN
    }

    #[inline]
    fn sealing_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        mask(&*self.sealer, sample)
    }

    #[inline]
    fn sealing_sample_len(&self) -> usize {
        SAMPLE_LEN
    }
}

impl crypto::HeaderKey for ZeroRttHeaderKey {
    #[inline]
    fn opening_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        mask(&*self.0, sample)
    }

    #[inline]
    fn opening_sample_len(&self) -> usize {
        SAMPLE_LEN
    }

    #[inline]
    fn sealing_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        mask(&*self.0, sample)
    }

    #[inline]
    fn sealing_sample_len(&self) -> usize {
        SAMPLE_LEN
    }
}

impl crypto::HandshakeKey for PacketKeys {}
impl crypto::ZeroRttKey for ZeroRttKey {}
impl crypto::InitialHeaderKey for HeaderKeys {}
impl crypto::HandshakeHeaderKey for HeaderKeys {}
impl crypto::OneRttHeaderKey for HeaderKeys {}
impl crypto::ZeroRttHeaderKey for ZeroRttHeaderKey {}

/// Keys show their suite and never themselves.
macro_rules! redacted {
    ($($name:ident),+) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}

redacted!(PacketKeys, ZeroRttKey, OneRttKey, HeaderKeys, ZeroRttHeaderKey);
