//! What listeners and clients are configured with: TLS and transport.

use std::sync::Arc;

use wirepath_quic::{TransportConfig, tls};

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub(crate) tls: tls::ServerConfig,
    pub(crate) transport: Arc<TransportConfig>,
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
        Self { tls, transport: Arc::default() }
    }

    /// The application protocols offered, most wanted first. At least one is needed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.tls = self.tls.alpn(protocols);
        self
    }

    /// The transport settings.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(crate) tls: tls::ClientConfig,
    pub(crate) transport: Arc<TransportConfig>,
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
        Self { tls, transport: Arc::default() }
    }

    /// The application protocols spoken, most wanted first. At least one is needed.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.tls = self.tls.alpn(protocols);
        self
    }

    /// The transport settings.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }
}
