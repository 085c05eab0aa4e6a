//! One TLS handshake, driven by the CRYPTO data that comes and the keys it yields.
//!
//! rustls knows that it serves QUIC: it sends no EndOfEarlyData (RFC 9001 §8.3), no compatibility mode (RFC 9001 §8.4)
//! and no change cipher spec.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use rustls::quic::{Connection, KeyChange};
use s2n_quic_core::application::ServerName;
use s2n_quic_core::crypto::tls::{self, ApplicationParameters, Context, NamedGroup};
use s2n_quic_core::{crypto, transport};

use crate::role::Role;
use crate::tls::client::ClientParts;
use crate::tls::error::transport_error;
use crate::tls::initial::RetryKey;
use crate::tls::keys::{
    HandshakeHeaderKey, HandshakeKey, InitialHeaderKey, InitialKey, PacketKeys, ZeroRttHeaderKey, ZeroRttKey,
};
use crate::tls::one_rtt::{OneRttHeaderKey, OneRttKey};
use crate::tls::tickets::ConnectionSessions;
use crate::tls::version_keys::SecretLog;
use crate::tls::{CipherSuite, ClientConfig, ConfigError, ServerConfig, suite};

/// Tickets after which a client has no more use for its session. Servers send one or two after the handshake; keeping
/// some kilobytes for the life of a connection in the hope of more is not worth it.
const TICKETS_WANTED: u32 = 2;

/// The encryption level at which CRYPTO data is read or written (RFC 9001 §4.1.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Level {
    Initial,
    Handshake,
    Application,
}

/// What the context has been told.
#[derive(Default)]
struct Told {
    early_keys: bool,
    server_name: bool,
    protocol: bool,
    group: bool,
    complete: bool,
}

/// The TLS side of one connection.
pub(crate) struct Session {
    connection: Box<Connection>,
    /// The name a client asked for.
    server_name: Option<ServerName>,
    wants_tickets: bool,
    /// A client's: where its tickets go.
    sessions: Option<Arc<ConnectionSessions>>,
    role: Role,
    /// What keys are made of, if it has suites of ours.
    secrets: Option<Arc<SecretLog>>,
    /// The version in use.
    version: u32,
    /// It is another than TLS began with.
    has_changed: bool,
    receiving: Level,
    sending: Level,
    told: Told,
}

impl Session {
    /// A client's session with the server `server_name`. `params` are our encoded transport parameters. `changes`: the
    /// server may choose another version.
    pub(crate) fn client(
        config: &ClientConfig,
        server_name: &str,
        version: u32,
        changes: bool,
        params: Vec<u8>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let ClientParts { connection, sessions, secrets } =
            config.connection(version, changes, server_name, params)?;
        let mut this = Self::new(Connection::Client(connection), Role::Client, version, secrets);
        this.server_name = Some(ServerName::from(server_name));
        this.wants_tickets = config.wants_tickets();
        this.sessions = sessions;
        Ok(this)
    }

    /// A server's session. `params` are our encoded transport parameters.
    pub(crate) fn server(config: &ServerConfig, version: u32, params: Vec<u8>) -> Result<Self, ConfigError> {
        config.validate()?;
        let (connection, secrets) = config.connection(version, params)?;
        Ok(Self::new(Connection::Server(connection), Role::Server, version, secrets))
    }

    fn new(connection: Connection, role: Role, version: u32, secrets: Option<Arc<SecretLog>>) -> Self {
        Self {
            connection: Box::new(connection),
            server_name: None,
            wants_tickets: false,
            sessions: None,
            role,
            secrets,
            version,
            has_changed: false,
            receiving: Level::Initial,
            sending: Level::Initial,
            told: Told::default(),
        }
    }

    /// Was 0-RTT accepted? `None` if none was offered, and on a client until it has the server's word, which it does
    /// once it has 1-RTT keys.
    pub(crate) fn early_data_accepted(&self) -> Option<bool> {
        if !self.told.early_keys {
            return None;
        }
        match &*self.connection {
            // rustls gives a server the keys only if it accepts.
            Connection::Server(_) => Some(true),
            Connection::Client(client) => {
                (self.sending == Level::Application).then(|| client.is_early_data_accepted())
            }
        }
    }

    /// Client: goes on in the version the server chose, before any keys but those of Initial packets are there.
    pub(crate) fn set_version(&mut self, version: u32) {
        self.has_changed |= version != self.version;
        self.version = version;
        if let Some(sessions) = &self.sessions {
            sessions.set_version(version);
        }
    }

    /// The cipher suite agreed on, once it is.
    pub(crate) fn agreed_suite(&self) -> Option<CipherSuite> {
        self.connection.negotiated_cipher_suite().and_then(suite::known)
    }

    /// Did this handshake continue an earlier session?
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Moves the handshake on as far as the data at hand allows.
    fn drive<C: Context<Self>>(&mut self, context: &mut C) -> Result<(), transport::Error> {
        loop {
            let received = self.receive(context)?;
            self.tell_early_keys(context)?;
            let sent = self.transmit(context)?;
            self.tell_completion(context)?;
            if !received && !sent {
                return Ok(());
            }
        }
    }

    /// Takes what has come at the level we read from. Was there anything?
    fn receive<C: Context<Self>>(&mut self, context: &mut C) -> Result<bool, transport::Error> {
        let data = match self.receiving {
            Level::Initial => context.receive_initial(None),
            Level::Handshake => {
                refuse_stale(context.receive_initial(None))?;
                context.receive_handshake(None)
            }
            Level::Application => {
                refuse_stale(context.receive_handshake(None))?;
                context.receive_application(None)
            }
        };
        match data {
            Some(data) => self.read(&data).map(|()| true),
            None => Ok(false),
        }
    }

    fn read(&mut self, data: &[u8]) -> Result<(), transport::Error> {
        // All alerts are fatal in QUIC (RFC 9001 §4.8).
        self.connection.read_hs(data).map_err(|error| transport_error(self.connection.alert(), &error))
    }

    /// Hands over what TLS wants sent, and the keys that become ready on the way. Was there anything?
    fn transmit<C: Context<Self>>(&mut self, context: &mut C) -> Result<bool, transport::Error> {
        let mut any = false;
        while self.can_send(context) {
            let mut data = Vec::new();
            let keys = self.connection.write_hs(&mut data);
            if data.is_empty() && keys.is_none() {
                break;
            }
            any = true;
            if !data.is_empty() {
                self.send(context, data.into());
            }
            // The data belongs to the level before the new keys.
            if let Some(keys) = keys {
                self.install(context, keys)?;
            }
        }
        Ok(any)
    }

    fn can_send<C: Context<Self>>(&self, context: &C) -> bool {
        match self.sending {
            Level::Initial => context.can_send_initial(),
            Level::Handshake => context.can_send_handshake(),
            Level::Application => context.can_send_application(),
        }
    }

    fn send<C: Context<Self>>(&self, context: &mut C, data: Bytes) {
        match self.sending {
            Level::Initial => context.send_initial(data),
            Level::Handshake => context.send_handshake(data),
            Level::Application => context.send_application(data),
        }
    }

    fn install<C: Context<Self>>(
        &mut self,
        context: &mut C,
        change: KeyChange,
    ) -> Result<(), transport::Error> {
        let agreed = self.connection.negotiated_cipher_suite();
        let (suite, is_own) = (suite::name(agreed), suite::is_own(agreed));
        match change {
            KeyChange::Handshake { keys } => {
                let keys = match &self.secrets {
                    Some(log) if self.has_changed => log.handshake(self.version, self.role, suite).keys(),
                    _ => keys,
                };
                let (key, header_key) = PacketKeys::new(keys, suite);
                context.on_handshake_keys(key, header_key)?;
                self.sending = Level::Handshake;
                self.receiving = Level::Handshake;
            }
            KeyChange::OneRtt { keys, next } => {
                let (key, header_key) = match self.secrets.take().filter(|_| is_own) {
                    Some(log) => OneRttKey::own(log.one_rtt(self.version, self.role, suite), suite),
                    None => OneRttKey::foreign(keys, next, suite),
                };
                self.tell_negotiated(context)?;
                context.on_one_rtt_keys(key, header_key, self.peer_parameters()?)?;
                self.sending = Level::Application;
                // Reading follows when the handshake is complete.
            }
        }
        Ok(())
    }

    /// The peer's transport parameters; on a client with 0-RTT keys, those remembered from the last time.
    fn peer_parameters(&self) -> Result<ApplicationParameters<'_>, transport::Error> {
        // RFC 9001 §8.2: without the extension the connection ends in 0x16d.
        let transport_parameters = self
            .connection
            .quic_transport_parameters()
            .ok_or_else(|| tls::Error::MISSING_EXTENSION.with_reason("transport parameters are missing"))?;
        Ok(ApplicationParameters { transport_parameters })
    }

    fn tell_early_keys<C: Context<Self>>(&mut self, context: &mut C) -> Result<(), transport::Error> {
        if self.told.early_keys || self.sending == Level::Application {
            return Ok(());
        }
        if let Some(keys) = self.connection.zero_rtt_keys() {
            self.told.early_keys = true;
            let (key, header_key) =
                ZeroRttKey::new(keys, suite::name(self.connection.negotiated_cipher_suite()));
            context.on_zero_rtt_keys(key, header_key, self.peer_parameters()?)?;
        }
        Ok(())
    }

    /// Tells name, protocol and group once each, as soon as they are known.
    fn tell_negotiated<C: Context<Self>>(&mut self, context: &mut C) -> Result<(), transport::Error> {
        if !self.told.server_name
            && let Some(name) = self.name()
        {
            self.told.server_name = true;
            context.on_server_name(name)?;
        }
        if !self.told.protocol
            && let Some(protocol) = self.connection.alpn_protocol()
        {
            let protocol = Bytes::copy_from_slice(protocol);
            self.told.protocol = true;
            context.on_application_protocol(protocol)?;
        }
        if !self.told.group
            && let Some(group) = self.group()
        {
            self.told.group = true;
            context.on_key_exchange_group(group)?;
        }
        Ok(())
    }

    /// RFC 9001 §4.1.1: complete is a handshake that has sent its Finished and verified the peer's.
    fn tell_completion<C: Context<Self>>(&mut self, context: &mut C) -> Result<(), transport::Error> {
        if self.told.complete || self.sending != Level::Application || self.connection.is_handshaking() {
            return Ok(());
        }
        self.tell_negotiated(context)?;
        self.receiving = Level::Application;
        self.told.complete = true;
        context.on_handshake_complete()?;
        context.on_tls_exporter_ready(self)
    }

    fn name(&self) -> Option<ServerName> {
        match &*self.connection {
            Connection::Client(_) => self.server_name.clone(),
            Connection::Server(server) => server.server_name().map(ServerName::from),
        }
    }

    fn group(&self) -> Option<NamedGroup> {
        let group_name = self.connection.negotiated_key_exchange_group()?.name().as_str()?;
        Some(NamedGroup { group_name, contains_kem: group_name.contains("MLKEM") })
    }
}

/// RFC 9001 §4.1.3: new CRYPTO data at a level that is done is a protocol violation.
fn refuse_stale(data: Option<Bytes>) -> Result<(), transport::Error> {
    match data {
        Some(data) if !data.is_empty() => {
            Err(transport::Error::PROTOCOL_VIOLATION.with_reason("CRYPTO data at an old encryption level"))
        }
        _ => Ok(()),
    }
}

impl tls::Session for Session {
    fn poll<C: Context<Self>>(&mut self, context: &mut C) -> Poll<Result<(), transport::Error>> {
        match self.drive(context) {
            Ok(()) if self.told.complete => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => {
                context.on_tls_handshake_failed(self, Box::new(error))?;
                Poll::Ready(Err(error))
            }
        }
    }

    /// Session tickets on a client. TLS key updates end the connection (RFC 9001 §6).
    fn process_post_handshake_message<C: Context<Self>>(
        &mut self,
        context: &mut C,
    ) -> Result<(), transport::Error> {
        self.drive(context)
    }

    fn should_discard_session(&self) -> bool {
        self.told.complete
            && match &*self.connection {
                // Its tickets were written when the handshake completed.
                Connection::Server(_) => true,
                Connection::Client(client) => {
                    !self.wants_tickets || client.tls13_tickets_received() >= TICKETS_WANTED
                }
            }
    }
}

impl crypto::CryptoSuite for Session {
    type HandshakeKey = HandshakeKey;
    type HandshakeHeaderKey = HandshakeHeaderKey;
    type InitialKey = InitialKey;
    type InitialHeaderKey = InitialHeaderKey;
    type OneRttKey = OneRttKey;
    type OneRttHeaderKey = OneRttHeaderKey;
    type ZeroRttKey = ZeroRttKey;
    type ZeroRttHeaderKey = ZeroRttHeaderKey;
    type RetryKey = RetryKey;
}

impl tls::TlsSession for Session {
    fn tls_exporter(
        &self,
        label: &[u8],
        context: &[u8],
        output: &mut [u8],
    ) -> Result<(), tls::TlsExportError> {
        self.connection
            .export_keying_material(output, label, Some(context))
            .map(|_| ())
            .map_err(|_| tls::TlsExportError::failure())
    }

    fn cipher_suite(&self) -> tls::CipherSuite {
        suite::name(self.connection.negotiated_cipher_suite())
    }

    fn peer_cert_chain_der(&self) -> Result<Vec<Vec<u8>>, tls::ChainError> {
        let chain = self.connection.peer_certificates().ok_or_else(tls::ChainError::failure)?;
        Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
    }

    // rustls shows neither unverified chains nor our own choice.
    fn client_cert_chain_der(&self) -> Result<Option<Vec<u8>>, tls::ChainError> {
        Err(tls::ChainError::failure())
    }

    fn selected_cert_der(&self) -> Result<Option<Vec<Vec<u8>>>, tls::ChainError> {
        Err(tls::ChainError::failure())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tls::Session")
            .field("receiving", &self.receiving)
            .field("sending", &self.sending)
            .field("complete", &self.told.complete)
            .finish_non_exhaustive()
    }
}
