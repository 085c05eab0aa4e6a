//! Packet and header protection of each cipher suite (RFC 9001 §5.3, §5.4), on ring.
//!
//! All else of TLS is aws-lc's. Ring seals and opens a packet with less work around the cipher, and has AES-GCM for
//! processors with wide AES instructions but without AVX-512, where aws-lc falls back to half the speed.

use ring::aead::quic::{self as header, HeaderProtectionKey};
use ring::aead::{self, Aad, LessSafeKey, UnboundKey};
use ring::hkdf;
use rustls::crypto::cipher::{AeadKey, Iv, Nonce};
use rustls::quic;
use s2n_quic_core::crypto::tls;

/// Bytes of the longest AEAD key.
pub(super) const MAX_KEY_LEN: usize = 32;

/// The primitives of a cipher suite, and how often they may be used with one key (RFC 9001 §6.6).
pub(super) struct Protection {
    aead: &'static aead::Algorithm,
    header: &'static header::Algorithm,
    /// From which keys are derived.
    pub(super) hash: hkdf::Algorithm,
    pub(super) confidentiality: u64,
    pub(super) integrity: u64,
}

pub(super) static AES_128_GCM: Protection = Protection {
    aead: &aead::AES_128_GCM,
    header: &header::AES_128,
    hash: hkdf::HKDF_SHA256,
    confidentiality: 1 << 23,
    integrity: 1 << 52,
};
pub(super) static AES_256_GCM: Protection = Protection {
    aead: &aead::AES_256_GCM,
    header: &header::AES_256,
    hash: hkdf::HKDF_SHA384,
    confidentiality: 1 << 23,
    integrity: 1 << 52,
};
pub(super) static CHACHA20_POLY1305: Protection = Protection {
    aead: &aead::CHACHA20_POLY1305,
    header: &header::CHACHA20,
    hash: hkdf::HKDF_SHA256,
    confidentiality: u64::MAX,
    integrity: 1 << 36,
};

impl Protection {
    /// That of a suite by s2n-quic-core's name.
    #[inline]
    pub(super) fn of(suite: tls::CipherSuite) -> &'static Self {
        match suite {
            tls::CipherSuite::TLS_AES_256_GCM_SHA384 => &AES_256_GCM,
            tls::CipherSuite::TLS_CHACHA20_POLY1305_SHA256 => &CHACHA20_POLY1305,
            _ => &AES_128_GCM,
        }
    }

    /// Bytes of a key, of packets and of headers alike.
    pub(super) fn key_len(&self) -> usize {
        self.aead.key_len()
    }
}

impl quic::Algorithm for Protection {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn quic::PacketKey> {
        Box::new(PacketKey::new(self, key.as_ref(), iv))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn quic::HeaderProtectionKey> {
        Box::new(HeaderKey::new(self, key.as_ref()))
    }

    fn aead_key_len(&self) -> usize {
        self.key_len()
    }
}

/// Protects packets of one direction in one generation of keys.
pub(super) struct PacketKey {
    key: LessSafeKey,
    iv: Iv,
    confidentiality: u64,
    integrity: u64,
}

impl PacketKey {
    /// `key` is as long as the suite's keys are.
    pub(super) fn new(suite: &Protection, key: &[u8], iv: Iv) -> Self {
        let key = UnboundKey::new(suite.aead, key).expect("the key has the suite's length");
        let Protection { confidentiality, integrity, .. } = *suite;
        Self { key: LessSafeKey::new(key), iv, confidentiality, integrity }
    }

    /// RFC 9001 §5.3.
    fn nonce(&self, packet_number: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, packet_number).0)
    }
}

impl quic::PacketKey for PacketKey {
    fn encrypt_in_place(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<quic::Tag, rustls::Error> {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet_number), Aad::from(header), payload)
            .map_err(|_| rustls::Error::EncryptError)?;
        Ok(quic::Tag::from(tag.as_ref()))
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], rustls::Error> {
        let opened = self
            .key
            .open_in_place(self.nonce(packet_number), Aad::from(header), payload)
            .map_err(|_| rustls::Error::DecryptError)?;
        Ok(opened)
    }

    fn tag_len(&self) -> usize {
        self.key.algorithm().tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.confidentiality
    }

    fn integrity_limit(&self) -> u64 {
        self.integrity
    }
}

/// Protects headers of one direction.
pub(super) struct HeaderKey(HeaderProtectionKey);

impl HeaderKey {
    /// Bits of the first byte that are protected, with a long header and a short one (RFC 9001 §5.4.1).
    const LONG_BITS: u8 = 0x0f;
    const SHORT_BITS: u8 = 0x1f;
    const LONG_FORM: u8 = 0x80;

    /// `key` is as long as the suite's keys are.
    pub(super) fn new(suite: &Protection, key: &[u8]) -> Self {
        Self(HeaderProtectionKey::new(suite.header, key).expect("the key has the suite's length"))
    }

    /// What the header of the packet with this sample is masked with (RFC 9001 §5.4.1).
    #[inline]
    pub(super) fn mask_of(&self, sample: &[u8]) -> [u8; 5] {
        let mask = self.0.new_mask(sample);
        // It refuses only samples of another length than all suites ask for.
        debug_assert!(mask.is_ok());
        mask.unwrap_or_default()
    }

    fn mask(&self, sample: &[u8]) -> Result<[u8; 5], rustls::Error> {
        self.0.new_mask(sample).map_err(|_| rustls::Error::General("a sample of another length".into()))
    }

    fn bits(first: u8) -> u8 {
        if first & Self::LONG_FORM != 0 { Self::LONG_BITS } else { Self::SHORT_BITS }
    }
}

impl quic::HeaderProtectionKey for HeaderKey {
    fn encrypt_in_place(
        &self,
        sample: &[u8],
        first: &mut u8,
        packet_number: &mut [u8],
    ) -> Result<(), rustls::Error> {
        let mask = self.mask(sample)?;
        let len = usize::from(*first & 0b11) + 1;
        *first ^= mask[0] & Self::bits(*first);
        packet_number.iter_mut().zip(&mask[1..]).take(len).for_each(|(byte, mask)| *byte ^= mask);
        Ok(())
    }

    fn decrypt_in_place(
        &self,
        sample: &[u8],
        first: &mut u8,
        packet_number: &mut [u8],
    ) -> Result<(), rustls::Error> {
        let mask = self.mask(sample)?;
        *first ^= mask[0] & Self::bits(*first);
        let len = usize::from(*first & 0b11) + 1;
        packet_number.iter_mut().zip(&mask[1..]).take(len).for_each(|(byte, mask)| *byte ^= mask);
        Ok(())
    }

    fn sample_len(&self) -> usize {
        self.0.algorithm().sample_len()
    }
}
