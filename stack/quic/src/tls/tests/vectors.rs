//! RFC 9001 appendix A and RFC 9369 appendix A.

use s2n_codec::{Encoder, EncoderBuffer};
use s2n_quic_core::crypto::initial::{
    EXAMPLE_CLIENT_INITIAL_HEADER, EXAMPLE_CLIENT_INITIAL_PAYLOAD, EXAMPLE_CLIENT_INITIAL_PROTECTED_PACKET,
    EXAMPLE_DCID, EXAMPLE_SERVER_INITIAL_HEADER, EXAMPLE_SERVER_INITIAL_PAYLOAD,
    EXAMPLE_SERVER_INITIAL_PROTECTED_PACKET,
};
use s2n_quic_core::crypto::{HeaderKey, Key, RetryKey as _, retry, scatter};

use crate::Role;
use crate::header::{VERSION_1, VERSION_2};
use crate::tls::initial::RetryKey;
use crate::tls::{CipherSuite, initial_keys, retry_tag};

/// Protects a packet: header with its packet number at the end, payload padded to `payload_len`.
fn protect(
    (mut key, header_key): (impl Key, impl HeaderKey),
    header: &[u8],
    packet_number: u64,
    payload: &[u8],
    payload_len: usize,
) -> Vec<u8> {
    let mut body = vec![0; payload_len + key.tag_len()];
    let mut buffer = EncoderBuffer::new(&mut body);
    buffer.write_slice(payload);
    buffer.write_repeated(payload_len - payload.len(), 0);
    key.encrypt(packet_number, header, &mut scatter::Buffer::new(buffer)).unwrap();

    let mut packet = header.to_vec();
    packet.extend(body);
    let number_len = usize::from(header[0] & 0b11) + 1;
    let number_at = header.len() - number_len;
    let sample = &packet[number_at + 4..][..header_key.sealing_sample_len()];
    let mask = header_key.sealing_header_protection_mask(sample);
    packet[0] ^= mask[0] & if header[0] & 0x80 != 0 { 0x0f } else { 0x1f };
    for (byte, mask) in packet[number_at..][..number_len].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
    packet
}

#[test]
fn client_initial() {
    let packet = protect(
        initial_keys(VERSION_1, Role::Client, &EXAMPLE_DCID),
        &EXAMPLE_CLIENT_INITIAL_HEADER,
        2,
        &EXAMPLE_CLIENT_INITIAL_PAYLOAD,
        1162,
    );
    assert_eq!(packet, EXAMPLE_CLIENT_INITIAL_PROTECTED_PACKET);
}

#[test]
fn server_initial() {
    let packet = protect(
        initial_keys(VERSION_1, Role::Server, &EXAMPLE_DCID),
        &EXAMPLE_SERVER_INITIAL_HEADER,
        1,
        &EXAMPLE_SERVER_INITIAL_PAYLOAD,
        EXAMPLE_SERVER_INITIAL_PAYLOAD.len(),
    );
    assert_eq!(packet, EXAMPLE_SERVER_INITIAL_PROTECTED_PACKET);
}

#[test]
fn opening_an_initial() {
    let (key, header_key) = initial_keys(VERSION_1, Role::Server, &EXAMPLE_DCID);
    let mut packet = EXAMPLE_CLIENT_INITIAL_PROTECTED_PACKET;
    let mask = header_key.opening_header_protection_mask(&packet[18 + 4..][..16]);
    packet[0] ^= mask[0] & 0x0f;
    packet[18..22].iter_mut().zip(&mask[1..]).for_each(|(byte, mask)| *byte ^= mask);
    let (header, payload) = packet.split_at_mut(22);
    assert_eq!(header, EXAMPLE_CLIENT_INITIAL_HEADER);
    key.decrypt(2, header, payload).unwrap();
    let frames = EXAMPLE_CLIENT_INITIAL_PAYLOAD.len();
    assert_eq!(payload[..frames], EXAMPLE_CLIENT_INITIAL_PAYLOAD);
    assert!(payload[frames..1162].iter().all(|&byte| byte == 0));
}

#[test]
fn retry_integrity() {
    let without_tag = &retry::example::PACKET[..retry::example::PACKET_LEN - 16];
    assert_eq!(retry_tag(VERSION_1, &retry::example::ODCID, without_tag), retry::example::EXPECTED_TAG);
    assert_eq!(RetryKey::generate_tag(&retry::example::PSEUDO_PACKET), retry::example::EXPECTED_TAG);
    assert!(RetryKey::validate(&retry::example::PSEUDO_PACKET, retry::example::EXPECTED_TAG).is_ok());
    assert!(RetryKey::validate(&retry::example::PSEUDO_PACKET, [0; 16]).is_err());
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 9369 appendix A.3: the same server payload as in version 1.
#[test]
fn server_initial_of_version_2() {
    let packet = protect(
        initial_keys(VERSION_2, Role::Server, &EXAMPLE_DCID),
        &hex("d16b3343cf0008f067a5502a4262b50040750001"),
        1,
        &EXAMPLE_SERVER_INITIAL_PAYLOAD,
        EXAMPLE_SERVER_INITIAL_PAYLOAD.len(),
    );
    let expected = hex("dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698
         baeea26b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17
         f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2
         c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca8
         4bed8521e2e140");
    assert_eq!(packet, expected);
}

/// RFC 9369 appendix A.4.
#[test]
fn retry_integrity_of_version_2() {
    let packet = hex("cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6");
    let (without_tag, tag) = packet.split_at(packet.len() - 16);
    assert_eq!(retry_tag(VERSION_2, &EXAMPLE_DCID, without_tag), tag);
}

/// RFC 9001 appendix A.5 and RFC 9369 appendix A.5: a short header packet under ChaCha20-Poly1305. The keys are
/// given, since the secret they come from can't be put into a session.
#[test]
fn chacha20_short_header() {
    use rustls::crypto::cipher::{AeadKey, Iv};
    let quic = CipherSuite::ChaCha20Poly1305.tls13().quic.unwrap();
    let aead = |text| {
        let bytes: [u8; 32] = hex(text).try_into().unwrap();
        AeadKey::from(bytes)
    };
    for (key, iv, hp, expected) in [
        (
            "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
            "e0459b3474bdd0e44a41c144",
            "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
            "4cfe4189655e5cd55c41f69080575d7999c25a5bfb",
        ),
        (
            "3bfcddd72bcf02541d7fa0dd1f5f9eeea817e09a6963a0e6c7df0f9a1bab90f2",
            "a6b5bc6ab7dafce30ffff5dd",
            "d659760d2ba434a226fd37b35c69e2da8211d10c4f12538787d65645d5d1b8e2",
            "5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba",
        ),
    ] {
        let iv: [u8; 12] = hex(iv).try_into().unwrap();
        let keys = rustls::quic::DirectionalKeys {
            header: quic.header_protection_key(aead(hp)),
            packet: quic.packet_key(aead(key), Iv::from(iv)),
        };
        let suite = s2n_quic_core::crypto::tls::CipherSuite::TLS_CHACHA20_POLY1305_SHA256;
        let keys = crate::tls::keys::ZeroRttKey::new(keys, suite);
        assert_eq!(protect(keys, &hex("4200bff4"), 654_360_564, &[1], 1), hex(expected));
    }
}
