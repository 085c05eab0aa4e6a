//! Handshakes that succeed.

use s2n_codec::EncoderBuffer;
use s2n_quic_core::crypto::tls::{CipherSuite as Suite, TlsSession};
use s2n_quic_core::crypto::{HeaderKey, Key, OneRttKey as _, scatter};

use super::{CLIENT_PARAMS, Pair, SERVER_PARAMS, configs};
use crate::header::VERSION_2;
use crate::tls::CipherSuite;

/// Seals with one key and opens with another.
pub(super) fn carries(sealer: &mut impl Key, opener: &impl Key) -> bool {
    let header = [0x41, 1, 2, 3];
    let mut packet = [0; 64];
    let mut buffer = EncoderBuffer::new(&mut packet);
    s2n_codec::Encoder::write_slice(&mut buffer, b"some frames");
    sealer.encrypt(7, &header, &mut scatter::Buffer::new(buffer)).unwrap();
    let sealed = &mut packet[..11 + sealer.tag_len()];
    assert_ne!(&sealed[..11], b"some frames");
    opener.decrypt(7, &header, sealed).is_ok() && &sealed[..11] == b"some frames"
}

pub(super) fn same_masks(one: &impl HeaderKey, other: &impl HeaderKey) -> bool {
    let sample = [0x5a; 16];
    // Of the first byte five bits are used at most (RFC 9001 §5.4.1), and those of rustls have no more.
    let used = |mask: [u8; 5]| [mask[0] & 0x1f, mask[1], mask[2], mask[3], mask[4]];
    used(one.sealing_header_protection_mask(&sample)) == used(other.opening_header_protection_mask(&sample))
        && used(one.opening_header_protection_mask(&sample))
            == used(other.sealing_header_protection_mask(&sample))
}

#[test]
fn both_sides_learn_the_same() {
    let (client, server) = configs();
    let Pair { client, server } = Pair::connected(&client, &server);
    assert_eq!(client.context.peer_params.as_deref(), Some(SERVER_PARAMS));
    assert_eq!(server.context.peer_params.as_deref(), Some(CLIENT_PARAMS));
    for peer in [&client, &server] {
        assert_eq!(peer.context.protocol.as_deref(), Some(&b"test"[..]));
        assert_eq!(peer.context.name.as_deref(), Some("localhost"));
        assert_eq!(peer.context.group.as_ref().map(|group| group.group_name), Some("X25519"));
        assert_eq!(peer.session.early_data_accepted(), None);
        assert!(peer.context.early.is_none());
    }
    assert_eq!(client.session.peer_cert_chain_der().unwrap().len(), 1);

    let mut exported = [[0; 16]; 2];
    client.session.tls_exporter(b"label", b"context", &mut exported[0]).unwrap();
    server.session.tls_exporter(b"label", b"context", &mut exported[1]).unwrap();
    assert_eq!(exported[0], exported[1]);
}

#[test]
fn keys_of_all_levels_fit() {
    for (suite, name) in [
        (CipherSuite::Aes128Gcm, Suite::TLS_AES_128_GCM_SHA256),
        (CipherSuite::Aes256Gcm, Suite::TLS_AES_256_GCM_SHA384),
        (CipherSuite::ChaCha20Poly1305, Suite::TLS_CHACHA20_POLY1305_SHA256),
    ] {
        for version in [1, VERSION_2] {
            let (client, server) = configs();
            let client = client.cipher_suites(&[suite]).unwrap();
            let mut pair = Pair::with_version(&client, &server, version);
            pair.run().unwrap();
            let (mut client, mut server) = (pair.client.context, pair.server.context);

            let (mut key, header) = client.handshake.take().unwrap();
            let (mut other, other_header) = server.handshake.take().unwrap();
            assert!(carries(&mut key, &other) && carries(&mut other, &key));
            assert!(same_masks(&header, &other_header));
            assert_eq!(format!("{:?}", key.cipher_suite()), format!("{name:?}"));

            let (mut key, header) = client.one_rtt.take().unwrap();
            let (mut other, other_header) = server.one_rtt.take().unwrap();
            assert!(same_masks(&header, &other_header));
            for _generation in 0..3 {
                assert!(carries(&mut key, &other) && carries(&mut other, &key));
                let (next, other_next) = (key.derive_next_key(), other.derive_next_key());
                assert!(!carries(&mut key, &other_next));
                (key, other) = (next, other_next);
            }
        }
    }
}

#[test]
fn the_next_generation_does_not_depend_on_when_it_is_used() {
    let (client, server) = configs();
    let mut pair = Pair::connected(&client, &server);
    let (key, _) = pair.client.context.one_rtt.take().unwrap();
    let (other, _) = pair.server.context.one_rtt.take().unwrap();
    // One side seals in every generation, the other skips to the third.
    let (mut two, three_of_other) = (key.derive_next_key(), other.derive_next_key().derive_next_key());
    assert!(carries(&mut two, &other.derive_next_key()));
    let mut three = two.derive_next_key();
    let mut three_of_other = three_of_other;
    assert!(carries(&mut three, &three_of_other) && carries(&mut three_of_other, &three));
}

#[test]
fn limits_are_those_of_the_rfc() {
    // RFC 9001 §6.6.
    for (suite, integrity) in [
        (CipherSuite::Aes128Gcm, 1 << 52),
        (CipherSuite::Aes256Gcm, 1 << 52),
        (CipherSuite::ChaCha20Poly1305, 1 << 36),
    ] {
        let (client, server) = configs();
        let pair = Pair::connected(&client.cipher_suites(&[suite]).unwrap(), &server);
        let (key, _) = pair.client.context.one_rtt.as_ref().unwrap();
        assert_eq!(key.aead_integrity_limit(), integrity);
        match suite {
            CipherSuite::ChaCha20Poly1305 => assert!(key.aead_confidentiality_limit() >= 1 << 62),
            _ => assert_eq!(key.aead_confidentiality_limit(), 1 << 23),
        }
    }
}

#[test]
fn the_servers_preference_counts() {
    let (client, server) = configs();
    let client = client.cipher_suites(&[CipherSuite::ChaCha20Poly1305, CipherSuite::Aes256Gcm]).unwrap();
    let pair = Pair::connected(&client, &server);
    assert!(matches!(pair.server.session.cipher_suite(), Suite::TLS_AES_256_GCM_SHA384));
}

#[test]
fn a_payload_without_room_for_the_tag_is_an_error() {
    let (mut key, _) = crate::tls::initial_keys(1, crate::Role::Client, b"12345678");
    let mut full = [0; 20];
    let mut buffer = EncoderBuffer::new(&mut full);
    buffer.set_position(5);
    assert!(key.encrypt(0, &[], &mut scatter::Buffer::new(buffer)).is_err());
    assert!(key.decrypt(0, &[], &mut [0; 15]).is_err());
    assert!(key.decrypt(0, &[], &mut [0; 16]).is_err());
}
