//! Two sessions that talk to each other without packets.

mod allocation;
mod config;
mod failure;
mod handshake;
pub(crate) mod rest;
mod resumption;
mod vectors;

use std::any::Any;
use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bytes::Bytes;
use s2n_quic_core::application::ServerName;
use s2n_quic_core::crypto::tls::{ApplicationParameters, Context, NamedGroup, Session as _, TlsSession};
use s2n_quic_core::transport;

use super::{
    ClientConfig, HandshakeHeaderKey, HandshakeKey, OneRttHeaderKey, OneRttKey, ServerConfig, Session,
    ZeroRttHeaderKey, ZeroRttKey,
};
use crate::header::VERSION_1;

type Error = transport::Error;

/// What a session told and wants, by encryption level: 0 Initial, 1 Handshake, 2 Application.
#[derive(Default)]
struct Recorder {
    received: [VecDeque<Bytes>; 3],
    sent: [VecDeque<Bytes>; 3],
    handshake: Option<(HandshakeKey, HandshakeHeaderKey)>,
    early: Option<(ZeroRttKey, ZeroRttHeaderKey)>,
    early_params: Option<Vec<u8>>,
    one_rtt: Option<(OneRttKey, OneRttHeaderKey)>,
    peer_params: Option<Vec<u8>>,
    protocol: Option<Bytes>,
    name: Option<ServerName>,
    group: Option<NamedGroup>,
    completions: u32,
    failures: u32,
}

impl Context<Session> for Recorder {
    fn on_client_application_params(
        &mut self,
        _: ApplicationParameters<'_>,
        _: &mut Vec<u8>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn on_handshake_keys(&mut self, key: HandshakeKey, header: HandshakeHeaderKey) -> Result<(), Error> {
        assert!(self.handshake.replace((key, header)).is_none(), "handshake keys twice");
        Ok(())
    }

    fn on_zero_rtt_keys(
        &mut self,
        key: ZeroRttKey,
        header: ZeroRttHeaderKey,
        params: ApplicationParameters<'_>,
    ) -> Result<(), Error> {
        assert!(self.early.replace((key, header)).is_none(), "0-RTT keys twice");
        assert!(self.one_rtt.is_none(), "0-RTT keys after 1-RTT keys");
        self.early_params = Some(params.transport_parameters.to_vec());
        Ok(())
    }

    fn on_one_rtt_keys(
        &mut self,
        key: OneRttKey,
        header: OneRttHeaderKey,
        params: ApplicationParameters<'_>,
    ) -> Result<(), Error> {
        assert!(self.one_rtt.replace((key, header)).is_none(), "1-RTT keys twice");
        assert!(self.protocol.is_some(), "the protocol must be known by now");
        self.peer_params = Some(params.transport_parameters.to_vec());
        Ok(())
    }

    fn on_server_name(&mut self, name: ServerName) -> Result<(), Error> {
        self.name = Some(name);
        Ok(())
    }

    fn on_application_protocol(&mut self, protocol: Bytes) -> Result<(), Error> {
        self.protocol = Some(protocol);
        Ok(())
    }

    fn on_key_exchange_group(&mut self, group: NamedGroup) -> Result<(), Error> {
        self.group = Some(group);
        Ok(())
    }

    fn on_handshake_complete(&mut self) -> Result<(), Error> {
        assert!(self.one_rtt.is_some(), "complete without 1-RTT keys");
        self.completions += 1;
        Ok(())
    }

    fn on_tls_context(&mut self, _: Box<dyn Any + Send>) {}

    fn on_tls_exporter_ready(&mut self, _: &impl TlsSession) -> Result<(), Error> {
        Ok(())
    }

    fn on_tls_handshake_failed(
        &mut self,
        _: &impl TlsSession,
        _: Box<dyn std::error::Error + Send + Sync + 'static>,
    ) -> Result<(), Error> {
        self.failures += 1;
        Ok(())
    }

    fn receive_initial(&mut self, _: Option<usize>) -> Option<Bytes> {
        self.received[0].pop_front()
    }

    fn receive_handshake(&mut self, _: Option<usize>) -> Option<Bytes> {
        self.received[1].pop_front()
    }

    fn receive_application(&mut self, _: Option<usize>) -> Option<Bytes> {
        self.received[2].pop_front()
    }

    fn can_send_initial(&self) -> bool {
        true
    }

    fn send_initial(&mut self, data: Bytes) {
        self.sent[0].push_back(data);
    }

    fn can_send_handshake(&self) -> bool {
        true
    }

    fn send_handshake(&mut self, data: Bytes) {
        assert!(self.handshake.is_some(), "handshake data before its keys");
        self.sent[1].push_back(data);
    }

    fn can_send_application(&self) -> bool {
        true
    }

    fn send_application(&mut self, data: Bytes) {
        assert!(self.one_rtt.is_some(), "application data before its keys");
        self.sent[2].push_back(data);
    }

    fn waker(&self) -> &Waker {
        Waker::noop()
    }
}

/// A session with its context.
struct Peer {
    session: Session,
    context: Recorder,
}

impl Peer {
    fn new(session: Session) -> Self {
        Self { session, context: Recorder::default() }
    }

    fn poll(&mut self) -> Result<(), Error> {
        match self.session.poll(&mut self.context) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Moves what this peer sent to the other. Was there anything?
    fn deliver(&mut self, other: &mut Self) -> bool {
        let mut any = false;
        for (sent, received) in self.context.sent.iter_mut().zip(&mut other.context.received) {
            any |= !sent.is_empty();
            received.append(sent);
        }
        any
    }
}

/// A client and a server.
struct Pair {
    client: Peer,
    server: Peer,
}

const CLIENT_PARAMS: &[u8] = b"parameters of the client";
const SERVER_PARAMS: &[u8] = b"parameters of the server";

impl Pair {
    fn new(client: &ClientConfig, server: &ServerConfig) -> Self {
        Self::with_version(client, server, VERSION_1)
    }

    fn with_version(client: &ClientConfig, server: &ServerConfig, version: u32) -> Self {
        let client = Session::client(client, "localhost", version, false, CLIENT_PARAMS.to_vec()).unwrap();
        let server = Session::server(server, version, SERVER_PARAMS.to_vec()).unwrap();
        Self { client: Peer::new(client), server: Peer::new(server) }
    }

    /// Runs until both are silent; an error is whose it was.
    fn run(&mut self) -> Result<(), (&'static str, Error)> {
        loop {
            self.client.poll().map_err(|error| ("client", error))?;
            let to_server = self.client.deliver(&mut self.server);
            self.server.poll().map_err(|error| ("server", error))?;
            let to_client = self.server.deliver(&mut self.client);
            if !to_server && !to_client {
                return Ok(());
            }
        }
    }

    fn connected(client: &ClientConfig, server: &ServerConfig) -> Self {
        let mut pair = Self::new(client, server);
        pair.run().unwrap();
        for peer in [&pair.client, &pair.server] {
            assert_eq!((peer.context.completions, peer.context.failures), (1, 0));
        }
        pair
    }
}

/// A certificate for these names and its key, both in PEM.
fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Settings of a client and a server that trust each other and speak "test".
fn configs() -> (ClientConfig, ServerConfig) {
    let (certificate, key) = certificate(&["localhost"]);
    let client = ClientConfig::new(certificate.as_bytes()).unwrap().alpn(["test"]);
    let server = ServerConfig::new(certificate.as_bytes(), key.as_bytes()).unwrap().alpn(["test"]);
    (client, server)
}
