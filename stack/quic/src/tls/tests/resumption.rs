//! Session tickets and 0-RTT.

use s2n_quic_core::crypto::tls::{CipherSuite as Suite, Session as _, TlsSession};

use super::handshake::carries;
use super::{CLIENT_PARAMS, Pair, Peer, SERVER_PARAMS, configs};
use crate::tls::CipherSuite;

fn resumed(peer: &Peer) -> bool {
    peer.session.is_resumed()
}

#[test]
fn tickets_arrive_and_the_next_handshake_is_short() {
    let (client, server) = configs();
    let first = Pair::connected(&client, &server);
    assert!(!resumed(&first.client) && !resumed(&first.server));
    // Both have nothing more to say to each other.
    assert!(first.server.session.should_discard_session());
    assert!(first.client.session.should_discard_session());

    for _ in 0..3 {
        let again = Pair::connected(&client, &server);
        assert!(resumed(&again.client) && resumed(&again.server));
        assert!(again.client.context.early.is_none());
        assert_eq!(again.server.context.peer_params.as_deref(), Some(CLIENT_PARAMS));
        assert_eq!(again.client.context.peer_params.as_deref(), Some(SERVER_PARAMS));
    }
}

#[test]
fn a_client_waits_for_tickets() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    loop {
        pair.client.poll().unwrap();
        pair.client.deliver(&mut pair.server);
        pair.server.poll().unwrap();
        if pair.server.context.completions == 1 {
            break;
        }
        pair.server.deliver(&mut pair.client);
    }
    // The tickets go out with the poll that completes the handshake, in 1-RTT packets.
    assert!(!pair.server.context.sent[2].is_empty());
    assert!(pair.server.context.sent[0].is_empty() && pair.server.context.sent[1].is_empty());
    assert_eq!(pair.client.context.completions, 1);
    assert!(!pair.client.session.should_discard_session());
    pair.server.deliver(&mut pair.client);
    let Peer { session, context } = &mut pair.client;
    session.process_post_handshake_message(context).unwrap();
    assert!(session.should_discard_session());
}

#[test]
fn tickets_may_be_off() {
    let (client, server) = configs();
    let silent = server.session_tickets(false);
    let first = Pair::connected(&client, &silent);
    assert!(first.server.session.should_discard_session());
    assert!(!first.client.session.should_discard_session());
    assert!(!resumed(&Pair::connected(&client, &silent).client));

    let (client, server) = configs();
    let forgetful = client.resumption(false);
    let first = Pair::connected(&forgetful, &server);
    assert!(first.client.session.should_discard_session());
    assert!(!resumed(&Pair::connected(&forgetful, &server).client));
}

#[test]
fn early_data_is_accepted() {
    let (client, server) = configs();
    let (client, server) = (client.early_data(true), server.early_data(true).unwrap());
    let first = Pair::connected(&client, &server);
    assert_eq!(first.client.session.early_data_accepted(), None);

    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    // Keys and the server's parameters of the last time are there before anything comes back.
    assert!(pair.client.context.early.is_some());
    assert_eq!(pair.client.context.early_params.as_deref(), Some(SERVER_PARAMS));
    assert_eq!(pair.client.session.early_data_accepted(), None);

    pair.client.deliver(&mut pair.server);
    pair.server.poll().unwrap();
    assert_eq!(pair.server.context.early_params.as_deref(), Some(CLIENT_PARAMS));
    assert_eq!(pair.server.session.early_data_accepted(), Some(true));
    let (key, header) = pair.client.context.early.as_mut().unwrap();
    let (other, other_header) = pair.server.context.early.as_ref().unwrap();
    assert!(carries(key, other));
    use s2n_quic_core::crypto::HeaderKey;
    assert_eq!(
        header.sealing_header_protection_mask(&[1; 16]),
        other_header.opening_header_protection_mask(&[1; 16])
    );

    pair.server.deliver(&mut pair.client);
    pair.run().unwrap();
    assert_eq!(pair.client.session.early_data_accepted(), Some(true));
    assert_eq!(pair.client.context.completions, 1);
}

#[test]
fn early_data_is_rejected_by_a_server_that_forgot() {
    let (client, server) = configs();
    let client = client.early_data(true);
    let willing = server.clone().early_data(true).unwrap();
    Pair::connected(&client, &willing);
    // The same certificate, another memory.
    let restarted = server.early_data(true).unwrap();
    let pair = Pair::connected(&client, &restarted);
    assert!(pair.client.context.early.is_some());
    assert_eq!(pair.client.session.early_data_accepted(), Some(false));
    assert!(pair.server.context.early.is_none());
    assert_eq!(pair.server.session.early_data_accepted(), None);
    // What the server says now replaces what was remembered.
    assert_eq!(pair.client.context.peer_params.as_deref(), Some(SERVER_PARAMS));
}

#[test]
fn early_data_is_not_offered_unless_wished() {
    let (client, server) = configs();
    let server = server.early_data(true).unwrap();
    Pair::connected(&client, &server);
    let pair = Pair::connected(&client, &server);
    assert!(resumed(&pair.client) && pair.client.context.early.is_none());

    let (client, server) = configs();
    let client = client.early_data(true);
    Pair::connected(&client, &server);
    let pair = Pair::connected(&client, &server);
    assert!(resumed(&pair.client) && pair.client.context.early.is_none());
}

#[test]
fn a_replayed_hello_gets_no_early_keys() {
    let (client, server) = configs();
    let (client, server) = (client.early_data(true), server.early_data(true).unwrap());
    Pair::connected(&client, &server);
    let mut pair = Pair::new(&client, &server);
    pair.client.poll().unwrap();
    let hello = pair.client.context.sent[0].clone();
    pair.client.deliver(&mut pair.server);
    pair.server.poll().unwrap();
    assert!(pair.server.context.early.is_some());

    // An attacker sends the same bytes to the same server: the session was for one use (RFC 8446 §8.1).
    let mut replayed = Pair::new(&client, &server);
    replayed.server.context.received[0].extend(hello);
    replayed.server.poll().unwrap();
    assert!(replayed.server.context.early.is_none());
    assert!(!resumed(&replayed.server));
}

#[test]
fn early_keys_have_the_suite_of_the_session() {
    let (client, server) = configs();
    let client = client.cipher_suites(&[CipherSuite::ChaCha20Poly1305]).unwrap().early_data(true);
    let server = server.early_data(true).unwrap();
    Pair::connected(&client, &server);
    let pair = Pair::connected(&client, &server);
    use s2n_quic_core::crypto::Key;
    for peer in [&pair.client, &pair.server] {
        let (key, _) = peer.context.early.as_ref().unwrap();
        assert!(matches!(key.cipher_suite(), Suite::TLS_CHACHA20_POLY1305_SHA256));
        assert!(matches!(peer.session.cipher_suite(), Suite::TLS_CHACHA20_POLY1305_SHA256));
    }
}

#[test]
fn changing_the_suites_keeps_the_rest() {
    let (client, server) = configs();
    let suites = [CipherSuite::Aes256Gcm];
    let client = client.early_data(true).cipher_suites(&suites).unwrap();
    let server = server.early_data(true).unwrap().cipher_suites(&suites).unwrap();
    Pair::connected(&client, &server);
    assert_eq!(Pair::connected(&client, &server).client.session.early_data_accepted(), Some(true));
}
