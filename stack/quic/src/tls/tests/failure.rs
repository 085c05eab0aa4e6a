//! Handshakes that must fail, and with which code (RFC 9001 §4.8: 0x100 and the alert).

use std::time::{Duration, Instant};

use bytes::Bytes;
use s2n_quic_core::crypto::tls::Session as _;

use super::{CLIENT_PARAMS, Pair, Peer, certificate, configs};
use crate::header::VERSION_1;
use crate::tls::{CipherSuite, ClientConfig, Session};

fn failure(pair: &mut Pair) -> (&'static str, u64) {
    let (who, error) = pair.run().expect_err("the handshake must fail");
    let peer = if who == "client" { &pair.client } else { &pair.server };
    assert_eq!((peer.context.failures, peer.context.completions), (1, 0));
    (who, error.code.as_u64())
}

#[test]
fn no_common_protocol() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client.alpn(["other"]), &server);
    assert_eq!(failure(&mut pair), ("server", 0x178));
}

#[test]
fn wrong_name() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    let other =
        Session::client(&client, "elsewhere.example", VERSION_1, false, CLIENT_PARAMS.to_vec()).unwrap();
    pair.client = Peer::new(other);
    // bad_certificate.
    assert_eq!(failure(&mut pair), ("client", 0x12a));
}

#[test]
fn unknown_issuer() {
    let (_, server) = configs();
    let (stranger, _) = certificate(&["localhost"]);
    let client = ClientConfig::new(stranger.as_bytes()).unwrap().alpn(["test"]);
    let mut pair = Pair::new(&client, &server);
    let (who, code) = failure(&mut pair);
    // unknown_ca, or bad_certificate's family where names collide.
    assert!(who == "client" && (code == 0x130 || code == 0x12a || code == 0x133), "{code:#x}");
}

#[test]
fn expired_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    let server = crate::tls::ServerConfig::new(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let client = ClientConfig::new(pem.as_bytes()).unwrap().alpn(["test"]);
    let mut pair = Pair::new(&client, &server.alpn(["test"]));
    // certificate_expired.
    assert_eq!(failure(&mut pair), ("client", 0x12d));
}

#[test]
fn no_common_suite() {
    let (client, server) = configs();
    let client = client.cipher_suites(&[CipherSuite::ChaCha20Poly1305]).unwrap();
    let server = server.cipher_suites(&[CipherSuite::Aes128Gcm]).unwrap();
    // handshake_failure.
    assert_eq!(failure(&mut Pair::new(&client, &server)), ("server", 0x128));
}

/// Cuts an extension out of a ClientHello.
fn without_extension(hello: &[u8], unwanted: u16) -> Vec<u8> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let session_id = 4 + 2 + 32;
    let suites = session_id + 1 + usize::from(hello[session_id]);
    let compression = suites + 2 + u16_at(suites);
    let extensions = compression + 1 + usize::from(hello[compression]);
    let mut kept = Vec::new();
    let mut at = extensions + 2;
    while at < hello.len() {
        let end = at + 4 + u16_at(at + 2);
        if u16_at(at) != usize::from(unwanted) {
            kept.extend_from_slice(&hello[at..end]);
        }
        at = end;
    }
    let mut cut = hello[..extensions].to_vec();
    cut.extend((kept.len() as u16).to_be_bytes());
    cut.extend(kept);
    let body = (cut.len() - 4) as u32;
    cut[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
    cut
}

#[test]
fn missing_transport_parameters() {
    const QUIC_TRANSPORT_PARAMETERS: u16 = 0x39;
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    let hello = pair.client.context.sent[0].pop_front().unwrap();
    pair.server.context.received[0].push_back(without_extension(&hello, QUIC_TRANSPORT_PARAMETERS).into());
    assert_eq!(pair.server.poll().unwrap_err().code.as_u64(), 0x16d);
}

#[test]
fn missing_protocol_list() {
    const ALPN: u16 = 16;
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    let hello = pair.client.context.sent[0].pop_front().unwrap();
    pair.server.context.received[0].push_back(without_extension(&hello, ALPN).into());
    assert_eq!(pair.server.poll().unwrap_err().code.as_u64(), 0x178);
}

#[test]
fn data_at_a_level_that_is_done() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    pair.client.deliver(&mut pair.server);
    pair.server.poll().unwrap();
    pair.server.context.received[0].push_back(Bytes::from_static(b"more"));
    // PROTOCOL_VIOLATION.
    assert_eq!(pair.server.poll().unwrap_err().code.as_u64(), 0x0a);
}

#[test]
fn key_update_message() {
    let (client, server) = configs();
    let mut pair = Pair::connected(&client, &server);
    // KeyUpdate, update_requested. RFC 9001 §6: unexpected_message.
    pair.client.context.received[2].push_back(Bytes::from_static(&[24, 0, 0, 1, 1]));
    let Peer { session, context } = &mut pair.client;
    assert_eq!(session.process_post_handshake_message(context).unwrap_err().code.as_u64(), 0x10a);
}

/// What a connected client says to a message from the server.
fn answer_to(message: &[u8]) -> Option<u64> {
    let (client, server) = configs();
    let mut pair = Pair::connected(&client, &server);
    pair.client.context.received[2].push_back(Bytes::copy_from_slice(message));
    let Peer { session, context } = &mut pair.client;
    session.process_post_handshake_message(context).err().map(|error| error.code.as_u64())
}

#[test]
fn certificate_request_after_the_handshake() {
    // An empty context, and signature algorithms. RFC 9001 §4.4: PROTOCOL_VIOLATION.
    let request = [13, 0, 0, 11, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    assert_eq!(answer_to(&request), Some(0x0a));
}

#[test]
fn tickets_that_limit_early_data_by_themselves() {
    let ticket = |early_data: u32| {
        // Lifetime, age, nonce, ticket, and the extension early_data.
        let mut message = vec![4, 0, 0, 24, 0, 0, 0, 60, 0, 0, 0, 1, 1, 7, 0, 2, 9, 9, 0, 8, 0, 42, 0, 4];
        message.extend(early_data.to_be_bytes());
        message
    };
    assert_eq!(answer_to(&ticket(u32::MAX)), None);
    // RFC 9001 §4.6.1: PROTOCOL_VIOLATION.
    assert_eq!(answer_to(&ticket(16_384)), Some(0x0a));
}

#[test]
fn hellos_ask_for_no_compatibility_mode() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    let hello = pair.client.context.sent[0].pop_front().unwrap();
    // RFC 9001 §8.4: legacy_session_id is empty.
    let legacy_session_id_len = 4 + 2 + 32;
    assert_eq!(hello[legacy_session_id_len], 0);
}

#[test]
fn garbage_is_an_error_or_waits_for_more() {
    let mut random = crate::random::Random::from_seed([9; 32]);
    let (client, server) = configs();
    let mut errors = 0;
    for round in 0..500 {
        let mut garbage = [0; 200];
        random.fill(&mut garbage);
        if round % 2 == 0 {
            // The start of a ClientHello of just this length.
            garbage[..4].copy_from_slice(&[1, 0, 0, 196]);
        }
        let mut pair = Pair::new(&client, &server);
        pair.server.context.received[0].push_back(Bytes::copy_from_slice(&garbage));
        if let Err(error) = pair.server.poll() {
            let code = error.code.as_u64();
            assert!((0x100..0x200).contains(&code), "{code:#x}");
            errors += 1;
        }
    }
    assert!(errors >= 250, "{errors}");
}

#[test]
fn flipped_bytes_never_panic() {
    let mut random = crate::random::Random::from_seed([4; 32]);
    let (client, server) = configs();
    let mut failed = 0;
    for _ in 0..150 {
        let mut pair = Pair::new(&client, &server);
        pair.client.poll().unwrap();
        pair.client.deliver(&mut pair.server);
        pair.server.poll().unwrap();
        let level = random.u64() as usize % 2;
        let Some(message) = pair.server.context.sent[level].pop_front() else { continue };
        let mut message = message.to_vec();
        let at = random.u64() as usize % message.len();
        message[at] ^= 1 << (random.u64() % 8);
        pair.server.context.sent[level].push_front(message.into());
        if let Err((_, error)) = pair.run() {
            let code = error.code.as_u64();
            assert!((0x100..0x200).contains(&code) || code == 0x0a, "{code:#x}");
            failed += 1;
        }
    }
    // What is left are lengths that grew: the client waits for more.
    assert!(failed > 100, "{failed}");
}

#[test]
fn a_hello_byte_by_byte_costs_no_quadratic_work() {
    let (client, server) = configs();
    // Some 16 KiB of protocol names.
    let many = (0..80).map(|i| format!("{i:0>200}")).chain(["test".to_owned()]);
    let mut pair = Pair::new(&client.alpn(many), &server);
    pair.client.poll().unwrap();
    let hello: Vec<u8> = pair.client.context.sent[0].drain(..).flatten().collect();
    assert!(hello.len() > 16_000);
    let start = Instant::now();
    for at in 0..hello.len() {
        pair.server.context.received[0].push_back(Bytes::copy_from_slice(&hello[at..=at]));
        pair.server.poll().unwrap();
    }
    assert!(!pair.server.context.sent[1].is_empty(), "the server answers");
    // It takes some milliseconds; quadratic work would take many seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_endless_message_is_refused() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    // A handshake message of 16 MiB is announced, and comes.
    pair.server.context.received[0].push_back(Bytes::from_static(&[1, 0xff, 0xff, 0xff]));
    let mut taken = 0;
    let refused = loop {
        pair.server.context.received[0].push_back(Bytes::from_static(&[0; 1024]));
        taken += 1024;
        match pair.server.poll() {
            Err(error) => break error.code.as_u64(),
            Ok(()) => assert!(taken < 128 * 1024, "{taken} bytes were buffered"),
        }
    };
    assert!((0x100..0x200).contains(&refused));
}
