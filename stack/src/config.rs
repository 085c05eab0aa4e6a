//! What listeners and clients are configured with: TLS and transport.

use std::sync::Arc;

use wirepath_actors::tokens::TokenStore;
use wirepath_quic::{CibirId, EndpointSettings, Limits, QuicLb, RetryPolicy, TokenKey, TransportConfig, tls};

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub(crate) tls: tls::ServerConfig,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) endpoint: EndpointSettings,
    pub(crate) cibir: Option<CibirId>,
    pub(crate) qtip: bool,
    pub(crate) quic_lb: Option<QuicLb>,
    pub(crate) shares_port: bool,
}

impl ServerConfig {
    /// Serves with a certificate chain and its key, both in PEM.
    ///
    /// # Errors
    /// [`tls::ConfigError`] says what is wrong with them.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, tls::ConfigError> {
        Ok(Self::with_tls(tls::ServerConfig::new(chain_pem, key_pem)?))
    }

    /// Serves with TLS settings of your own.
    pub fn with_tls(tls: tls::ServerConfig) -> Self {
        Self {
            tls,
            transport: Arc::default(),
            endpoint: EndpointSettings::default(),
            cibir: None,
            qtip: false,
            quic_lb: None,
            shares_port: false,
        }
    }

    /// The application protocols offered, most wanted first. At least one is needed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.tls = self.tls.alpn(protocols);
        self
    }

    /// Cipher suites allowed, the preferred first. Default [`tls::CipherSuite::DEFAULT`].
    ///
    /// # Errors
    /// [`tls::ConfigError`] for none, or with a rustls configuration of the application's own.
    pub fn cipher_suites(mut self, suites: &[tls::CipherSuite]) -> Result<Self, tls::ConfigError> {
        self.tls = self.tls.cipher_suites(suites)?;
        Ok(self)
    }

    /// Accepts early data (0-RTT) of clients that come back. Connections are then handed out as soon as some is there,
    /// ahead of the handshake's end, and streams it came on say so
    /// ([`RecvStream::is_early`](crate::RecvStream::is_early)): an attacker may replay them. Default off.
    ///
    /// # Errors
    /// [`tls::ConfigError`] when the system gives no randomness.
    pub fn early_data(mut self, on: bool) -> Result<Self, tls::ConfigError> {
        self.tls = self.tls.early_data(on)?;
        Ok(self)
    }

    /// Appends the secrets of all connections to the file that the environment variable SSLKEYLOGFILE names.
    #[must_use]
    pub fn key_log_from_env(mut self) -> Self {
        self.tls = self.tls.key_log_from_env();
        self
    }

    /// When clients are asked to show that they receive what is sent to their address, by a Retry (RFC 9000 §8.1.2).
    /// Default [`RetryPolicy::UnderLoad`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.endpoint.retry = policy;
        self
    }

    /// Gives clients address tokens for their next connection (NEW_TOKEN, RFC 9000 §8.1.3). Default on.
    #[must_use]
    pub fn new_tokens(mut self, on: bool) -> Self {
        self.endpoint.new_tokens = on;
        self
    }

    /// The secret behind address tokens: servers that share it accept each other's. By default each has its own.
    #[must_use]
    pub fn token_key(mut self, key: Arc<TokenKey>) -> Self {
        self.endpoint.token_key = key;
        self
    }

    /// Limits on what strangers can make the listener do.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.endpoint.limits = limits;
        self
    }

    /// The transport settings. Preferred addresses among them (RFC 9000 §9.6) are bound with the listener's.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// Serves QUIC in TCP segments (QTIP) as well as in UDP datagrams, on the same port number. Needs AF_XDP.
    #[must_use]
    pub fn qtip(mut self, on: bool) -> Self {
        self.qtip = on;
        self
    }

    /// Shares the port with other processes, and other listeners of this stack, by this identifier (CIBIR): only clients
    /// that know it reach this listener. The port must be named, and is not reserved with the operating system. Needs
    /// AF_XDP.
    ///
    /// | who shares the port | |
    /// |---|---|
    /// | listeners of one stack | yes, by different identifiers |
    /// | processes, each on an interface of its own | yes |
    /// | a process over AF_XDP and others over the kernel's sockets, on one interface | yes: what carries no identifier of the first goes to the kernel |
    /// | processes over AF_XDP on one interface | no: it has one XDP program, and a queue one AF_XDP socket; the second gets [`DriverError`](crate::DriverError) saying so. One process can listen for all, or each take an interface (a virtual function) |
    #[must_use]
    pub fn cibir(mut self, id: CibirId) -> Self {
        self.cibir = Some(id);
        self
    }

    /// Gives out connection IDs that carry a server's ID (QUIC-LB), in the clear or encrypted, by which load balancers
    /// and XDP rules find the server wherever its clients go. Not with CIBIR, which has a layout of its own.
    #[must_use]
    pub fn quic_lb(mut self, server: QuicLb) -> Self {
        self.quic_lb = Some(server);
        self
    }

    /// Shares the port with other processes of the host: it is not reserved with the operating system, and only packets
    /// of the listener's own connections come here, by the server's ID in the clear in their connection IDs
    /// ([`quic_lb`](Self::quic_lb)). Which new clients come here is for XDP rules to say
    /// ([`Stack::set_rules`](crate::Stack::set_rules)); the others go to whoever has the port. So one process takes a
    /// port over from another, and neither loses a connection. The port must be named. Needs AF_XDP.
    #[must_use]
    pub fn share_port(mut self, on: bool) -> Self {
        self.shares_port = on;
        self
    }
}

/// How a client connects, and what it remembers of its servers: session tickets and address tokens. Clones share this
/// memory.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(crate) tls: tls::ClientConfig,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) cibir: Option<CibirId>,
    pub(crate) qtip: bool,
    pub(crate) queue: Option<u32>,
}

impl ClientConfig {
    /// Trusts the given root certificates, in PEM, and none else.
    ///
    /// # Errors
    /// [`tls::ConfigError`] says what is wrong with them.
    pub fn new(roots_pem: &[u8]) -> Result<Self, tls::ConfigError> {
        Ok(Self::with_tls(tls::ClientConfig::new(roots_pem)?))
    }

    /// Connects with TLS settings of your own.
    pub fn with_tls(tls: tls::ClientConfig) -> Self {
        Self { tls, transport: Arc::default(), tokens: Arc::default(), cibir: None, qtip: false, queue: None }
    }

    /// The application protocols spoken, most wanted first. At least one is needed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.tls = self.tls.alpn(protocols);
        self
    }

    /// Cipher suites offered, the preferred first. Default [`tls::CipherSuite::DEFAULT`].
    ///
    /// # Errors
    /// [`tls::ConfigError`] for none, or with a rustls configuration of the application's own.
    pub fn cipher_suites(mut self, suites: &[tls::CipherSuite]) -> Result<Self, tls::ConfigError> {
        self.tls = self.tls.cipher_suites(suites)?;
        Ok(self)
    }

    /// Remembers sessions, and comes back with a shorter handshake. Default on.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> Self {
        self.tls = self.tls.resumption(on);
        self
    }

    /// Sends early data (0-RTT) when it comes back to a server that allows it:
    /// [`Stack::start_connecting`](crate::Stack::start_connecting) shows when. Default off.
    #[must_use]
    pub fn early_data(mut self, on: bool) -> Self {
        self.tls = self.tls.early_data(on);
        self
    }

    /// Appends the secrets of all connections to the file that the environment variable SSLKEYLOGFILE names.
    #[must_use]
    pub fn key_log_from_env(mut self) -> Self {
        self.tls = self.tls.key_log_from_env();
        self
    }

    /// The transport settings.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// Connects by QUIC in TCP segments (QTIP), for paths on which UDP does not pass; from a port of its own. Needs
    /// AF_XDP, and a server on another machine.
    #[must_use]
    pub fn qtip(mut self, on: bool) -> Self {
        self.qtip = on;
        self
    }

    /// Has the connection's packets arrive at this queue of the interface, and runs it on the queue's partition. Where
    /// the interface spreads flows by their ports (RSS with a Toeplitz hash), a source port is chosen that leads there;
    /// elsewhere the packets leave by that queue, and on a veth pair the answers return by it. Needs AF_XDP.
    #[must_use]
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Reaches a listener that shares its port by this identifier (CIBIR).
    #[must_use]
    pub fn cibir(mut self, id: CibirId) -> Self {
        self.cibir = Some(id);
        self
    }
}
