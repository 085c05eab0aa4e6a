//! TLS settings of a server.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::header::VERSION_2;
use crate::tls::initial::rustls_version;
use crate::tls::key_log::{KeySink, Tee};
use crate::tls::suite::{self, CipherSuite};
use crate::tls::version_keys::SecretLog;
use crate::tls::{ConfigError, pem, tickets};

/// Session tickets sent after each handshake. Clients use each once, so that two let a client come back with two
/// connections at a time.
const TICKETS: usize = 2;

/// Sessions remembered for 0-RTT, which needs a memory of used tickets against replays (RFC 9001 §9.2). About 1 KiB
/// each; a client whose session was pushed out makes a full handshake.
const REMEMBERED_SESSIONS: usize = 8192;

/// The value that means "0-RTT allowed" in QUIC; limits are those of flow control (RFC 9001 §4.6.1).
const EARLY_DATA_ALLOWED: u32 = u32::MAX;

/// A server's certificate, protocols and session policy. Cheap to clone.
///
/// Built by [`ServerConfig::new`], then changed by its methods; [`ServerConfig::validate`] tells what is missing.
#[derive(Clone)]
pub struct ServerConfig {
    tls: Arc<rustls::ServerConfig>,
    /// The same for version 2, made when it is first needed.
    version_2: OnceLock<Arc<rustls::ServerConfig>>,
    /// `None` if the application brought its own rustls configuration.
    certified: Option<Arc<CertifiedKey>>,
}

impl ServerConfig {
    /// A server that shows this certificate chain (PEM, its own certificate first) and holds its key (PEM).
    ///
    /// Session tickets are on, 0-RTT is off, and the application protocols are still to be set.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, ConfigError> {
        let provider = suite::default_provider();
        let certified = Arc::new(pem::certified_key(chain_pem, key_pem, &provider)?);
        let mut tls = base(provider, certified.clone())?;
        tls.send_tls13_tickets = TICKETS;
        tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(ConfigError::refused)?;
        Ok(Self { tls: Arc::new(tls), version_2: OnceLock::new(), certified: Some(certified) })
    }

    /// A server with a rustls configuration of the application's own making, for what has no setting here: several
    /// certificates, client certificates, a shared session store.
    pub fn from_rustls(tls: Arc<rustls::ServerConfig>) -> Result<Self, ConfigError> {
        let this = Self { tls, version_2: OnceLock::new(), certified: None };
        this.validate()?;
        Ok(this)
    }

    /// Application protocols (ALPN), the preferred first.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.change(|tls| tls.alpn_protocols = pem::alpn(protocols));
        self
    }

    /// Cipher suites allowed, the preferred first; the server's order counts. Default [`CipherSuite::DEFAULT`].
    pub fn cipher_suites(mut self, suites: &[CipherSuite]) -> Result<Self, ConfigError> {
        let certified = self.certified.clone().ok_or_else(|| ConfigError::Refused {
            cause: "set the cipher suites in the rustls configuration it was made from".into(),
        })?;
        let mut tls = base(suite::provider(suites)?, certified)?;
        tls.alpn_protocols = self.tls.alpn_protocols.clone();
        tls.key_log = self.tls.key_log.clone();
        tls.send_tls13_tickets = self.tls.send_tls13_tickets;
        tls.ticketer = self.tls.ticketer.clone();
        tls.session_storage = self.tls.session_storage.clone();
        tls.max_early_data_size = self.tls.max_early_data_size;
        self.tls = Arc::new(tls);
        self.version_2 = OnceLock::new();
        Ok(self)
    }

    /// Send session tickets, so that clients come back with a shorter handshake. Default on.
    #[must_use]
    pub fn session_tickets(mut self, on: bool) -> Self {
        self.change(|tls| tls.send_tls13_tickets = if on { TICKETS } else { 0 });
        self
    }

    /// Accept 0-RTT from clients that come back. Such data may be replayed by an attacker: serve only what may be
    /// asked twice (RFC 9001 §9.2). Default off.
    ///
    /// Sessions are then remembered here and not in the tickets, each for one use. Change neither the transport
    /// settings nor the protocols of a listener that shares this memory: clients hold on to them.
    pub fn early_data(mut self, on: bool) -> Result<Self, ConfigError> {
        let ticketer = match on {
            // Without this one rustls keeps sessions in its memory, as 0-RTT must.
            true => Arc::new(NoTicketer) as Arc<dyn rustls::server::ProducesTickets>,
            false => rustls::crypto::aws_lc_rs::Ticketer::new().map_err(ConfigError::refused)?,
        };
        self.change(|tls| {
            tls.max_early_data_size = if on { EARLY_DATA_ALLOWED } else { 0 };
            tls.ticketer = ticketer;
            tls.session_storage = match on {
                true => ServerSessionMemoryCache::new(REMEMBERED_SESSIONS),
                false => Arc::new(NoServerSessionStorage {}),
            };
        });
        Ok(self)
    }

    /// Append the secrets of all connections to the file that the environment variable SSLKEYLOGFILE names, for
    /// packet analysers. Does nothing if it is not set. Whoever has the file can read everything.
    #[must_use]
    pub fn key_log_from_env(mut self) -> Self {
        self.change(|tls| tls.key_log = Arc::new(rustls::KeyLogFile::new()));
        self
    }

    /// One set of settings for several listeners on one address: the protocols of all, the first listener's first, and
    /// the certificate of the listener whose protocol is chosen. All else (cipher suites, tickets, 0-RTT, client
    /// certificates) is as the first has it. `None` for none.
    pub fn joined(parts: &[Self]) -> Option<Self> {
        let [first, others @ ..] = parts else { return None };
        if others.is_empty() {
            return Some(first.clone());
        }
        let mut joined = Self { certified: None, ..first.clone() };
        let by_protocol =
            parts.iter().map(|part| (part.protocols().to_vec(), part.tls.cert_resolver.clone()));
        let by_protocol: Vec<_> = by_protocol.collect();
        joined.change(|tls| {
            tls.alpn_protocols = by_protocol.iter().flat_map(|(protocols, _)| protocols.clone()).collect();
            tls.cert_resolver = Arc::new(ByProtocol(by_protocol));
        });
        Some(joined)
    }

    /// The application protocols, the preferred first.
    pub fn protocols(&self) -> &[Vec<u8>] {
        &self.tls.alpn_protocols
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

    /// A connection, and what its keys are made from if its suites may be ours.
    pub(super) fn connection(
        &self,
        version: u32,
        params: Vec<u8>,
    ) -> Result<(rustls::quic::ServerConnection, Option<Arc<SecretLog>>), ConfigError> {
        let tls = match version {
            VERSION_2 => self.version_2.get_or_init(|| Arc::new(tickets::for_version_2(&self.tls))),
            _ => &self.tls,
        };
        let mut tls = tls.clone();
        let secrets =
            suite::has_own(tls.crypto_provider()).then(|| Arc::new(SecretLog::new(tls.key_log.clone())));
        if let Some(secrets) = &secrets {
            Arc::make_mut(&mut tls).key_log = secrets.clone();
        }
        let connection = rustls::quic::ServerConnection::new(tls, rustls_version(version), params)
            .map_err(ConfigError::refused)?;
        Ok((connection, secrets))
    }

    fn change(&mut self, change: impl FnOnce(&mut rustls::ServerConfig)) {
        change(Arc::make_mut(&mut self.tls));
        self.version_2 = OnceLock::new();
    }
}

/// Shows the certificate that goes with the protocol TLS will choose: the first of ours that the client offers.
#[derive(Debug)]
struct ByProtocol(Vec<Certificates>);

/// The protocols of a listener, and where its certificates come from.
type Certificates = (Vec<Vec<u8>>, Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for ByProtocol {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = {
            let offered: Vec<&[u8]> = hello.alpn()?.collect();
            let is_offered = |protocol: &Vec<u8>| offered.contains(&&**protocol);
            self.0.iter().find(|(protocols, _)| protocols.iter().any(is_offered))
        };
        chosen.and_then(|(_, resolver)| resolver.resolve(hello))
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tls::ServerConfig")
            .field(
                "alpn",
                &self.tls.alpn_protocols.iter().map(|p| p.escape_ascii().to_string()).collect::<Vec<_>>(),
            )
            .field("tickets", &self.tls.send_tls13_tickets)
            .field("early_data", &(self.tls.max_early_data_size > 0))
            .finish_non_exhaustive()
    }
}

fn base(
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
) -> Result<rustls::ServerConfig, ConfigError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(suite::VERSIONS)
        .map_err(ConfigError::refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    tls.ignore_client_order = true;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(tls)
}

/// Makes no stateless tickets.
#[derive(Debug)]
struct NoTicketer;

impl rustls::server::ProducesTickets for NoTicketer {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
