//! Packet and header protection keys (RFC 9001 §5). All of them work in place and allocate nothing per packet.

use rustls::quic;
use s2n_codec::Encoder;
use s2n_quic_core::crypto::{self, HeaderProtectionMask, Key, packet_protection, scatter, tls};

/// Bytes of ciphertext that header protection samples, for all suites (RFC 9001 §5.4.3, §5.4.4).
pub(super) const SAMPLE_LEN: usize = 16;

/// Bytes of the authentication tag, for all suites (RFC 9001 §5.3).
pub(super) const TAG_LEN: usize = 16;

pub(crate) type InitialKey = PacketKeys;
pub(crate) type InitialHeaderKey = HeaderKeys;
pub(crate) type HandshakeKey = PacketKeys;
pub(crate) type HandshakeHeaderKey = HeaderKeys;

/// Keys of both directions at one encryption level.
pub(crate) struct PacketKeys {
    pub(super) sealer: Box<dyn quic::PacketKey>,
    pub(super) opener: Box<dyn quic::PacketKey>,
    pub(super) suite: tls::CipherSuite,
}

/// The key of 0-RTT packets, which only clients send.
pub(crate) struct ZeroRttKey {
    key: Box<dyn quic::PacketKey>,
    suite: tls::CipherSuite,
}

/// Header protection keys of both directions.
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

/// Encrypts in place, and appends the tag.
#[inline]
pub(super) fn seal<K: quic::PacketKey + ?Sized>(
    key: &K,
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

/// Verifies and decrypts in place; the tag stays behind.
#[inline]
pub(super) fn open<K: quic::PacketKey + ?Sized>(
    key: &K,
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
impl crypto::ZeroRttHeaderKey for ZeroRttHeaderKey {}

/// Keys show their suite and never themselves.
macro_rules! redacted {
    ($($name:ident),+) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}

redacted!(PacketKeys, ZeroRttKey, HeaderKeys, ZeroRttHeaderKey);
pub(super) use redacted;
