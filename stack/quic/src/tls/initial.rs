//! Keys known to everyone: of Initial packets and of the Retry integrity tag.

use std::sync::LazyLock;

use aws_lc_rs::constant_time;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::Side;
use rustls::quic::{self, Version};
use s2n_quic_core::crypto::retry::{INTEGRITY_TAG_LEN, IntegrityTag};
use s2n_quic_core::crypto::{self, packet_protection, tls};

use crate::header::VERSION_2;
use crate::role::Role;
use crate::tls::CipherSuite;
use crate::tls::keys::{HeaderKeys, PacketKeys};

/// rustls' name of a QUIC version on the wire.
pub(super) fn rustls_version(version: u32) -> Version {
    match version {
        VERSION_2 => Version::V2,
        _ => Version::V1,
    }
}

/// Initial packets are always protected by AES-128-GCM (RFC 9001 §5.2).
static INITIAL_SUITE: LazyLock<quic::Suite> =
    LazyLock::new(|| CipherSuite::Aes128Gcm.tls13().quic_suite().expect("our suites are for QUIC"));

/// Keys of Initial packets, from the Destination Connection ID of the client's first one (RFC 9001 §5.2).
pub(crate) fn initial_keys(version: u32, role: Role, client_dcid: &[u8]) -> (PacketKeys, HeaderKeys) {
    let side = if role.is_client() { Side::Client } else { Side::Server };
    let keys = INITIAL_SUITE.keys(client_dcid, side, rustls_version(version));
    PacketKeys::new(keys, tls::CipherSuite::TLS_AES_128_GCM_SHA256)
}

impl crypto::InitialKey for PacketKeys {
    type HeaderKey = HeaderKeys;

    fn new_server(connection_id: &[u8]) -> (Self, Self::HeaderKey) {
        initial_keys(crate::header::VERSION_1, Role::Server, connection_id)
    }

    fn new_client(connection_id: &[u8]) -> (Self, Self::HeaderKey) {
        initial_keys(crate::header::VERSION_1, Role::Client, connection_id)
    }
}

struct RetrySecret {
    key: [u8; 16],
    nonce: [u8; 12],
}

/// RFC 9001 §5.8.
const RETRY_V1: RetrySecret =
    RetrySecret { key: crypto::retry::SECRET_KEY_BYTES, nonce: crypto::retry::NONCE_BYTES };

/// RFC 9369 §3.3.3.
const RETRY_V2: RetrySecret = RetrySecret {
    key: [0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad, 0x7c, 0xcc, 0x92],
    nonce: [0xd8, 0x69, 0x69, 0xbc, 0x2d, 0x7c, 0x6d, 0x99, 0x90, 0xef, 0xb0, 0x4a],
};

static RETRY_KEYS: LazyLock<[LessSafeKey; 2]> = LazyLock::new(|| {
    [RETRY_V1, RETRY_V2].map(|secret| {
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &secret.key).expect("the key has the suite's length"))
    })
});

/// The tag that ends a Retry packet: `retry_without_tag` is the packet from its first byte to the token's last
/// (RFC 9001 §5.8).
pub(crate) fn retry_tag(version: u32, original_dcid: &[u8], retry_without_tag: &[u8]) -> IntegrityTag {
    let mut pseudo_packet = Vec::with_capacity(1 + original_dcid.len() + retry_without_tag.len());
    pseudo_packet.push(original_dcid.len() as u8);
    pseudo_packet.extend_from_slice(original_dcid);
    pseudo_packet.extend_from_slice(retry_without_tag);
    pseudo_packet_tag(version, &pseudo_packet)
}

fn pseudo_packet_tag(version: u32, pseudo_packet: &[u8]) -> IntegrityTag {
    let (key, nonce) = match version {
        VERSION_2 => (&RETRY_KEYS[1], RETRY_V2.nonce),
        _ => (&RETRY_KEYS[0], RETRY_V1.nonce),
    };
    let mut tag = [0; INTEGRITY_TAG_LEN];
    let sealed = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(pseudo_packet), &mut [])
        .expect("an empty plaintext is never too long");
    tag.copy_from_slice(sealed.as_ref());
    tag
}

/// Retry integrity of version 1, as s2n-quic-core's packet codecs want it.
#[derive(Debug)]
pub(crate) struct RetryKey;

impl crypto::RetryKey for RetryKey {
    fn generate_tag(payload: &[u8]) -> IntegrityTag {
        pseudo_packet_tag(crate::header::VERSION_1, payload)
    }

    fn validate(payload: &[u8], tag: IntegrityTag) -> Result<(), packet_protection::Error> {
        constant_time::verify_slices_are_equal(&Self::generate_tag(payload), &tag)
            .map_err(|_| packet_protection::Error::DECRYPT_ERROR)
    }
}
