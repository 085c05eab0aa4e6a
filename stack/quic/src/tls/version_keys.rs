//! Keys of a QUIC version that was agreed on after TLS began (RFC 9369 §4.1).
//!
//! rustls derives keys under the labels of the version it was told at the start, and a client starts before it knows the
//! server's choice. So its session notes the traffic secrets, and what follows from them under other labels is derived
//! here.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::quic::{self as header, HeaderProtectionKey};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::{KeyLog, quic};
use s2n_quic_core::crypto::tls;

use crate::header::VERSION_2;
use crate::role::Role;

/// Bytes of the longest traffic secret: SHA-384's.
const MAX_SECRET_LEN: usize = 48;

/// Bytes of the longest AEAD key.
const MAX_KEY_LEN: usize = 32;

/// Labels of key derivation (RFC 9001 §5.1, RFC 9369 §3.3.2).
struct Labels {
    key: &'static str,
    iv: &'static str,
    header: &'static str,
    update: &'static str,
}

const LABELS_V1: Labels = Labels { key: "quic key", iv: "quic iv", header: "quic hp", update: "quic ku" };
const LABELS_V2: Labels =
    Labels { key: "quicv2 key", iv: "quicv2 iv", header: "quicv2 hp", update: "quicv2 ku" };

fn labels(version: u32) -> &'static Labels {
    if version == VERSION_2 { &LABELS_V2 } else { &LABELS_V1 }
}

/// The primitives of a cipher suite, and how often they may be used with one key (RFC 9001 §6.6).
struct Suite {
    aead: &'static aead::Algorithm,
    header: &'static header::Algorithm,
    hash: hkdf::Algorithm,
    confidentiality: u64,
    integrity: u64,
}

static AES_128: Suite = Suite {
    aead: &aead::AES_128_GCM,
    header: &header::AES_128,
    hash: hkdf::HKDF_SHA256,
    confidentiality: 1 << 23,
    integrity: 1 << 52,
};
static AES_256: Suite = Suite {
    aead: &aead::AES_256_GCM,
    header: &header::AES_256,
    hash: hkdf::HKDF_SHA384,
    confidentiality: 1 << 23,
    integrity: 1 << 52,
};
static CHACHA20: Suite = Suite {
    aead: &aead::CHACHA20_POLY1305,
    header: &header::CHACHA20,
    hash: hkdf::HKDF_SHA256,
    confidentiality: u64::MAX,
    integrity: 1 << 36,
};

fn suite(name: tls::CipherSuite) -> &'static Suite {
    match name {
        tls::CipherSuite::TLS_AES_256_GCM_SHA384 => &AES_256,
        tls::CipherSuite::TLS_CHACHA20_POLY1305_SHA256 => &CHACHA20,
        _ => &AES_128,
    }
}

/// One side's traffic secret.
#[derive(Clone)]
struct Secret {
    bytes: [u8; MAX_SECRET_LEN],
    len: usize,
}

impl Default for Secret {
    fn default() -> Self {
        Self { bytes: [0; MAX_SECRET_LEN], len: 0 }
    }
}

impl Secret {
    fn set(&mut self, bytes: &[u8]) {
        self.len = bytes.len().min(MAX_SECRET_LEN);
        self.bytes[..self.len].copy_from_slice(&bytes[..self.len]);
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
    fn expand(&self, hash: hkdf::Algorithm, label: &str, out: &mut [u8]) {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let prk = hkdf::Prk::new_less_safe(hash, &self.bytes[..self.len]);
        let (length, name) = ((out.len() as u16).to_be_bytes(), label.as_bytes());
        let name_len = [(6 + name.len()) as u8];
        let info: [&[u8]; 5] = [&length, &name_len, b"tls13 ", name, &[0]];
        // It fails only for outputs far longer than any key.
        prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).expect("a key is short");
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

/// The secrets of both sides at one encryption level.
#[derive(Clone, Default)]
struct Level {
    client: Secret,
    server: Secret,
}

/// Notes the traffic secrets of one session, and passes them on to the application's own log.
pub(super) struct SecretLog {
    next: Arc<dyn KeyLog>,
    levels: Mutex<Box<[Level; 2]>>,
}

impl SecretLog {
    pub(super) fn new(next: Arc<dyn KeyLog>) -> Self {
        Self { next, levels: Mutex::default() }
    }

    /// Secrets of the Handshake level under the labels of another version.
    pub(super) fn handshake(&self, version: u32, role: Role, suite: tls::CipherSuite) -> Secrets {
        self.secrets(0, version, role, suite)
    }

    /// Secrets of the 1-RTT level under the labels of another version.
    pub(super) fn one_rtt(&self, version: u32, role: Role, suite: tls::CipherSuite) -> Secrets {
        self.secrets(1, version, role, suite)
    }

    fn secrets(&self, level: usize, version: u32, role: Role, suite: tls::CipherSuite) -> Secrets {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        Secrets { level: levels[level].clone(), version, role, suite }
    }
}

impl KeyLog for SecretLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        {
            let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
            match label {
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET" => levels[0].client.set(secret),
                "SERVER_HANDSHAKE_TRAFFIC_SECRET" => levels[0].server.set(secret),
                "CLIENT_TRAFFIC_SECRET_0" => levels[1].client.set(secret),
                "SERVER_TRAFFIC_SECRET_0" => levels[1].server.set(secret),
                _ => {}
            }
        }
        if self.next.will_log(label) {
            self.next.log(label, client_random, secret);
        }
    }
}

impl Debug for SecretLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLog")
    }
}

/// Traffic secrets of one level and generation, from which keys are made.
#[derive(Clone)]
pub(super) struct Secrets {
    level: Level,
    version: u32,
    role: Role,
    suite: tls::CipherSuite,
}

impl Secrets {
    /// The keys of this generation.
    pub(super) fn keys(&self) -> quic::Keys {
        let (local, remote) = self.local_remote();
        let keys =
            |secret| quic::DirectionalKeys { header: self.header(secret), packet: self.packet(secret) };
        quic::Keys { local: keys(local), remote: keys(remote) }
    }

    /// The packet keys of this generation; the secrets are then those of the next (RFC 9001 §6.1).
    pub(super) fn next_packet_keys(&mut self) -> quic::PacketKeySet {
        let (local, remote) = self.local_remote();
        let keys = quic::PacketKeySet { local: self.packet(local), remote: self.packet(remote) };
        self.update();
        keys
    }

    pub(super) fn update(&mut self) {
        let (hash, label) = (suite(self.suite).hash, labels(self.version).update);
        for secret in [&mut self.level.client, &mut self.level.server] {
            let mut next = [0; MAX_SECRET_LEN];
            secret.expand(hash, label, &mut next[..secret.len]);
            secret.bytes = next;
        }
    }

    fn local_remote(&self) -> (&Secret, &Secret) {
        match self.role {
            Role::Client => (&self.level.client, &self.level.server),
            Role::Server => (&self.level.server, &self.level.client),
        }
    }

    fn packet(&self, secret: &Secret) -> Box<dyn quic::PacketKey> {
        let (suite, labels) = (suite(self.suite), labels(self.version));
        let mut bytes = [0; MAX_KEY_LEN];
        let bytes = &mut bytes[..suite.aead.key_len()];
        secret.expand(suite.hash, labels.key, bytes);
        let mut iv = [0; NONCE_LEN];
        secret.expand(suite.hash, labels.iv, &mut iv);
        let key = UnboundKey::new(suite.aead, bytes).expect("the key has the suite's length");
        Box::new(PacketKey { key: LessSafeKey::new(key), iv, suite })
    }

    fn header(&self, secret: &Secret) -> Box<dyn quic::HeaderProtectionKey> {
        let (suite, labels) = (suite(self.suite), labels(self.version));
        let mut bytes = [0; MAX_KEY_LEN];
        let bytes = &mut bytes[..suite.aead.key_len()];
        secret.expand(suite.hash, labels.header, bytes);
        let key = HeaderProtectionKey::new(suite.header, bytes).expect("the key has the suite's length");
        Box::new(HeaderKey(key))
    }
}

struct PacketKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    suite: &'static Suite,
}

impl PacketKey {
    /// RFC 9001 §5.3.
    fn nonce(&self, packet_number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
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
        self.suite.aead.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality
    }

    fn integrity_limit(&self) -> u64 {
        self.suite.integrity
    }
}

struct HeaderKey(HeaderProtectionKey);

impl HeaderKey {
    /// Bits of the first byte that are protected, with a long header and a short one (RFC 9001 §5.4.1).
    const LONG_BITS: u8 = 0x0f;
    const SHORT_BITS: u8 = 0x1f;
    const LONG_FORM: u8 = 0x80;

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
