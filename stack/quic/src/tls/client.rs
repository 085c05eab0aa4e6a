//! TLS settings of a client.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{KeyLog, RootCertStore};

use crate::tls::initial::rustls_version;
use crate::tls::key_log::{KeySink, Tee};
use crate::tls::suite::{self, CipherSuite};
use crate::tls::tickets::{ConnectionSessions, Sessions};
use crate::tls::verified::RememberingVerifier;
use crate::tls::version_keys::SecretLog;
use crate::tls::{ConfigError, pem};

/// Tickets remembered, at most 8 for each server: 32 servers. Beyond, the one first met is forgotten.
const REMEMBERED_TICKETS: usize = 256;

/// A client's roots of trust, protocols and session memory. Cheap to clone; clones share the memory.
///
/// A certificate chain found good counts as good for a minute, for the same name: it is not judged again for each of many
/// connections to one server. The server proves in each that it holds the certificate's key.
///
/// Built by [`ClientConfig::new`], then changed by its methods; [`ClientConfig::validate`] tells what is missing.
#[derive(Clone)]
pub struct ClientConfig {
    tls: Arc<rustls::ClientConfig>,
    /// `None` if the application brought its own rustls configuration.
    roots: Option<Arc<RootCertStore>>,
    /// `None` if sessions are not resumed, or the application keeps them.
    sessions: Option<Sessions>,
    resumption: bool,
    /// Judges servers' certificates in place of the roots.
    verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl ClientConfig {
    /// A client that trusts servers whose certificates were signed by one of these authorities (PEM).
    ///
    /// Sessions are resumed, 0-RTT is off, and the application protocols are still to be set.
    pub fn new(roots_pem: &[u8]) -> Result<Self, ConfigError> {
        let roots = Arc::new(pem::roots(roots_pem)?);
        let mut tls = base(suite::default_provider(), roots.clone())?;
        tls.resumption = Resumption::disabled();
        let sessions = Some(Sessions::new(REMEMBERED_TICKETS));
        Ok(Self { tls: Arc::new(tls), roots: Some(roots), sessions, resumption: true, verifier: None })
    }

    /// A client with a rustls configuration of the application's own making, for what has no setting here: another
    /// verifier, a client certificate, a session store of its own. Connections then keep the QUIC version they start
    /// with, since tickets are good for one version only (RFC 9369 §5), and the store does not know versions.
    pub fn from_rustls(tls: Arc<rustls::ClientConfig>) -> Result<Self, ConfigError> {
        let this = Self { tls, roots: None, sessions: None, resumption: true, verifier: None };
        this.validate()?;
        Ok(this)
    }

    /// Application protocols (ALPN) offered, the preferred first.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.change(|tls| tls.alpn_protocols = pem::alpn(protocols));
        self
    }

    /// Cipher suites offered, the preferred first. Default [`CipherSuite::DEFAULT`].
    pub fn cipher_suites(mut self, suites: &[CipherSuite]) -> Result<Self, ConfigError> {
        let roots = self.roots.clone().ok_or_else(|| ConfigError::Refused {
            cause: "set the cipher suites in the rustls configuration it was made from".into(),
        })?;
        let mut tls = base(suite::provider(suites)?, roots)?;
        tls.alpn_protocols = self.tls.alpn_protocols.clone();
        tls.key_log = self.tls.key_log.clone();
        tls.enable_early_data = self.tls.enable_early_data;
        if let Some(verifier) = &self.verifier {
            tls.dangerous().set_certificate_verifier(verifier.clone());
        }
        tls.resumption = Resumption::disabled();
        self.tls = Arc::new(tls);
        Ok(self)
    }

    /// Has servers' certificates judged by this, and not by the roots alone.
    #[must_use]
    pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        self.verifier = Some(verifier.clone());
        self.change(|tls| tls.dangerous().set_certificate_verifier(verifier));
        self
    }

    /// Remember sessions and come back with a shorter handshake. Default on.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> Self {
        self.resumption = on;
        self.sessions = on.then(|| Sessions::new(REMEMBERED_TICKETS));
        if !on {
            self.change(|tls| tls.resumption = Resumption::disabled());
        }
        self
    }

    /// Send 0-RTT data when coming back to a server that allows it. It may be replayed by an attacker and be rejected
    /// by the server: only for what may be asked twice (RFC 9001 §9.2). Default off.
    #[must_use]
    pub fn early_data(mut self, on: bool) -> Self {
        self.change(|tls| tls.enable_early_data = on);
        self
    }

    /// Append the secrets of all connections to the file that the environment variable SSLKEYLOGFILE names, for
    /// packet analysers. Does nothing if it is not set. Whoever has the file can read everything.
    #[must_use]
    pub fn key_log_from_env(mut self) -> Self {
        self.change(|tls| tls.key_log = Arc::new(rustls::KeyLogFile::new()) as Arc<dyn KeyLog>);
        self
    }

    /// Tells the secrets of all connections to `sink`, too. Whoever has them can read everything.
    #[must_use]
    pub fn key_log_to(mut self, sink: KeySink) -> Self {
        self.change(|tls| tls.key_log = Arc::new(Tee { first: tls.key_log.clone(), sink }));
        self
    }

    /// Can connections be made with these settings?
    pub fn validate(&self) -> Result<(), ConfigError> {
        pem::check_alpn(&self.tls.alpn_protocols)
    }

    /// May a connection go on in another version than it starts with?
    pub(crate) fn may_change_version(&self) -> bool {
        self.roots.is_some()
    }

    /// A connection that starts with `version`. `changes`: it may go on in another one.
    pub(super) fn connection(
        &self,
        version: u32,
        changes: bool,
        server_name: &str,
        params: Vec<u8>,
    ) -> Result<ClientParts, ConfigError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| ConfigError::BadServerName { name: server_name.to_owned() })?;
        let mut tls = self.tls.clone();
        let sessions = self.sessions.as_ref().map(|sessions| sessions.connection(version));
        if let Some(sessions) = &sessions {
            Arc::make_mut(&mut tls).resumption = Resumption::store(sessions.clone());
        }
        let notes = changes || suite::has_own(tls.crypto_provider());
        let secrets = notes.then(|| Arc::new(SecretLog::new(tls.key_log.clone())));
        if let Some(secrets) = &secrets {
            Arc::make_mut(&mut tls).key_log = secrets.clone();
        }
        let connection = rustls::quic::ClientConnection::new(tls, rustls_version(version), name, params)
            .map_err(ConfigError::refused)?;
        Ok(ClientParts { connection, sessions, secrets })
    }

    /// Does it matter whether tickets are read?
    pub(super) fn wants_tickets(&self) -> bool {
        self.resumption
    }

    fn change(&mut self, change: impl FnOnce(&mut rustls::ClientConfig)) {
        change(Arc::make_mut(&mut self.tls));
    }
}

/// A client's TLS connection, and what its keys are made from.
pub(super) struct ClientParts {
    pub(super) connection: rustls::quic::ClientConnection,
    pub(super) sessions: Option<Arc<ConnectionSessions>>,
    pub(super) secrets: Option<Arc<SecretLog>>,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tls::ClientConfig")
            .field(
                "alpn",
                &self.tls.alpn_protocols.iter().map(|p| p.escape_ascii().to_string()).collect::<Vec<_>>(),
            )
            .field("resumption", &self.resumption)
            .field("early_data", &self.tls.enable_early_data)
            .finish_non_exhaustive()
    }
}

/// A client always authenticates its server (RFC 9001 §4.4).
fn base(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<rustls::ClientConfig, ConfigError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| ConfigError::Refused { cause: error.to_string() })?;
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(suite::VERSIONS)
        .map_err(ConfigError::refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RememberingVerifier::new(verifier)))
        .with_no_client_auth())
}
