//! Protecting packets allocates nothing, but for the first one of a key, or after it rested.

use allocation_counter::measure;
use s2n_codec::EncoderBuffer;
use s2n_quic_core::crypto::{HeaderKey, Key, OneRttKey as _, scatter};

use super::{Pair, configs};
use crate::tls::CipherSuite;

const PAYLOAD_LEN: usize = 1200 - 16;

fn seal_and_open(
    sealer: &mut impl Key,
    opener: &impl Key,
    sealing: &impl HeaderKey,
    opening: &impl HeaderKey,
) {
    let mut packet = [0x33; PAYLOAD_LEN + 16];
    let header = [0x40; 12];
    // The first packet makes the ciphers.
    assert!(super::handshake::carries(sealer, opener));
    assert!(super::handshake::same_masks(sealing, opening));
    let counted = measure(|| {
        for packet_number in 0..100 {
            let mut buffer = EncoderBuffer::new(&mut packet);
            buffer.set_position(PAYLOAD_LEN);
            sealer.encrypt(packet_number, &header, &mut scatter::Buffer::new(buffer)).unwrap();
            let mask = sealing.sealing_header_protection_mask(&packet[..16]);
            assert_eq!(mask, opening.opening_header_protection_mask(&packet[..16]));
            opener.decrypt(packet_number, &header, &mut packet).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(packet[..PAYLOAD_LEN].iter().all(|&byte| byte == 0x33));
}

#[test]
fn none_per_packet() {
    for suite in CipherSuite::DEFAULT {
        let (client, server) = configs();
        let client = client.cipher_suites(&[*suite]).unwrap().early_data(true);
        let server = server.early_data(true).unwrap();
        Pair::connected(&client, &server);
        let pair = Pair::connected(&client, &server);
        let (client, server) = (pair.client.context, pair.server.context);

        let (mut initial, initial_header) = crate::tls::initial_keys(1, crate::Role::Client, b"12345678");
        let (opener, opener_header) = crate::tls::initial_keys(1, crate::Role::Server, b"12345678");
        seal_and_open(&mut initial, &opener, &initial_header, &opener_header);

        let ((mut key, header), (opener, opener_header)) =
            (client.handshake.unwrap(), server.handshake.unwrap());
        seal_and_open(&mut key, &opener, &header, &opener_header);

        let ((mut key, header), (opener, opener_header)) = (client.early.unwrap(), server.early.unwrap());
        seal_and_open(&mut key, &opener, &header, &opener_header);

        let ((mut key, header), (opener, opener_header)) = (client.one_rtt.unwrap(), server.one_rtt.unwrap());
        seal_and_open(&mut key, &opener, &header, &opener_header);

        let (mut next, opener) = (key.derive_next_key(), opener.derive_next_key());
        seal_and_open(&mut next, &opener, &header, &opener_header);
    }
}
