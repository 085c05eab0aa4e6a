//! Keys of a QUIC version that was agreed on after TLS began (RFC 9369 §4.1).
//!
//! rustls derives keys under the labels of the version it was told at the start, and a client starts before it knows the
//! server's choice. So its session notes the traffic secrets, and what follows from them under other labels is derived
//! here.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::NONCE_LEN;
use ring::hkdf;
use rustls::crypto::cipher::Iv;
use rustls::{KeyLog, quic};
use s2n_quic_core::crypto::tls;

use crate::header::VERSION_2;
use crate::role::Role;
use crate::tls::protection::{HeaderKey, MAX_KEY_LEN, PacketKey, Protection};

/// Bytes of the longest traffic secret: SHA-384's.
const MAX_SECRET_LEN: usize = 48;

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
        let (hash, label) = (Protection::of(self.suite).hash, labels(self.version).update);
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
        let (suite, labels) = (Protection::of(self.suite), labels(self.version));
        let mut key = [0; MAX_KEY_LEN];
        let key = &mut key[..suite.key_len()];
        secret.expand(suite.hash, labels.key, key);
        let mut iv = [0; NONCE_LEN];
        secret.expand(suite.hash, labels.iv, &mut iv);
        Box::new(PacketKey::new(suite, key, Iv::from(iv)))
    }

    fn header(&self, secret: &Secret) -> Box<dyn quic::HeaderProtectionKey> {
        let (suite, labels) = (Protection::of(self.suite), labels(self.version));
        let mut key = [0; MAX_KEY_LEN];
        let key = &mut key[..suite.key_len()];
        secret.expand(suite.hash, labels.header, key);
        Box::new(HeaderKey::new(suite, key))
    }
}
