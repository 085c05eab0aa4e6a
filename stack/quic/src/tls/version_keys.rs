//! Keys from traffic secrets (RFC 9001 §5.1), for what rustls does not do.
//!
//! It derives keys under the labels of the version it was told at the start, and a client starts before it knows the
//! server's choice (RFC 9369 §4.1). And it gives 1-RTT keys out finished, never what they are made from, so that they
//! could not rest. So a session with suites of ours notes its traffic secrets, and what follows from them is derived here.

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
    len: u8,
}

impl Default for Secret {
    fn default() -> Self {
        Self { bytes: [0; MAX_SECRET_LEN], len: 0 }
    }
}

impl Secret {
    fn set(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(MAX_SECRET_LEN);
        self.bytes[..len].copy_from_slice(&bytes[..len]);
        self.len = len as u8;
    }

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// What labels are expanded with.
    fn key_maker(&self, hash: hkdf::Algorithm) -> KeyMaker {
        KeyMaker(hkdf::Prk::new_less_safe(hash, &self.bytes[..self.len()]))
    }
}

/// A secret, ready to be expanded. It holds the secret's hash, for as short as it can.
struct KeyMaker(hkdf::Prk);

impl KeyMaker {
    /// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
    fn expand(&self, label: &str, out: &mut [u8]) {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let (length, name) = ((out.len() as u16).to_be_bytes(), label.as_bytes());
        let name_len = [(6 + name.len()) as u8];
        let info: [&[u8]; 5] = [&length, &name_len, b"tls13 ", name, &[0]];
        // It fails only for outputs far longer than any key.
        self.0.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).expect("a key is short");
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

    /// Secrets of the Handshake level under the labels of a version.
    pub(super) fn handshake(&self, version: u32, role: Role, suite: tls::CipherSuite) -> Secrets {
        self.secrets(0, version, role, suite)
    }

    /// Secrets of the 1-RTT level under the labels of a version.
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
        let keys = |secret| quic::DirectionalKeys {
            header: self.header(secret),
            packet: Box::new(self.packet(secret)),
        };
        quic::Keys { local: keys(local), remote: keys(remote) }
    }

    /// The secrets are then those of the next generation (RFC 9001 §6.1).
    pub(super) fn update(&mut self) {
        let (hash, label) = (self.suite().hash, labels(self.version).update);
        for secret in [&mut self.level.client, &mut self.level.server] {
            let mut next = [0; MAX_SECRET_LEN];
            secret.key_maker(hash).expand(label, &mut next[..secret.len()]);
            secret.bytes = next;
        }
    }

    /// The cipher suite.
    #[inline]
    pub(super) fn suite(&self) -> &'static Protection {
        Protection::of(self.suite)
    }

    /// The key of packets to send.
    pub(super) fn local_packet_key(&self) -> PacketKey {
        self.packet(self.local_remote().0)
    }

    /// The key of packets received.
    pub(super) fn remote_packet_key(&self) -> PacketKey {
        self.packet(self.local_remote().1)
    }

    /// What keys of header protection are made from; of the first generation only (RFC 9001 §5.4).
    pub(super) fn header_secrets(&self) -> HeaderSecrets {
        let (local, remote) = self.local_remote();
        let mut secrets =
            HeaderSecrets { local: [0; MAX_KEY_LEN], remote: [0; MAX_KEY_LEN], suite: self.suite() };
        self.expand_header(local, &mut secrets.local);
        self.expand_header(remote, &mut secrets.remote);
        secrets
    }

    fn local_remote(&self) -> (&Secret, &Secret) {
        match self.role {
            Role::Client => (&self.level.client, &self.level.server),
            Role::Server => (&self.level.server, &self.level.client),
        }
    }

    fn packet(&self, secret: &Secret) -> PacketKey {
        let (suite, labels) = (self.suite(), labels(self.version));
        let mut key = [0; MAX_KEY_LEN];
        let key = &mut key[..suite.key_len()];
        let maker = secret.key_maker(suite.hash);
        maker.expand(labels.key, key);
        let mut iv = [0; NONCE_LEN];
        maker.expand(labels.iv, &mut iv);
        PacketKey::new(suite, key, Iv::from(iv))
    }

    fn header(&self, secret: &Secret) -> Box<dyn quic::HeaderProtectionKey> {
        let mut key = [0; MAX_KEY_LEN];
        self.expand_header(secret, &mut key);
        Box::new(HeaderKey::new(self.suite(), &key[..self.suite().key_len()]))
    }

    fn expand_header(&self, secret: &Secret, key: &mut [u8; MAX_KEY_LEN]) {
        let suite = self.suite();
        secret.key_maker(suite.hash).expand(labels(self.version).header, &mut key[..suite.key_len()]);
    }
}

/// Header protection keys of both directions, before their cipher is set up.
pub(super) struct HeaderSecrets {
    local: [u8; MAX_KEY_LEN],
    remote: [u8; MAX_KEY_LEN],
    suite: &'static Protection,
}

impl HeaderSecrets {
    /// The key for headers to send.
    pub(super) fn local_key(&self) -> HeaderKey {
        HeaderKey::new(self.suite, &self.local[..self.suite.key_len()])
    }

    /// The key for headers received.
    pub(super) fn remote_key(&self) -> HeaderKey {
        HeaderKey::new(self.suite, &self.remote[..self.suite.key_len()])
    }
}

impl Drop for HeaderSecrets {
    fn drop(&mut self) {
        for key in [&mut self.local, &mut self.remote] {
            key.fill(0);
            std::hint::black_box(key);
        }
    }
}
