//! Whom the client trusts, and what it remembers of servers.

use std::{fmt, path::Path, sync::Arc};

use perf_protocol::Result;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::sync::Notify;

use super::{Case, HQ};
use crate::identity::read_pem;

/// Servers whose sessions are remembered.
const SERVERS: usize = 8;

/// A client's TLS settings: the certificates of a file are trusted, whether authorities or servers' own. `any_name`: a
/// server that proves to be trusted may have any name. No application protocol is set.
pub(super) fn client_tls(
    ca: &Path,
    any_name: bool,
    case: Case,
    tickets: Arc<Tickets>,
) -> Result<wirepath::tls::ClientConfig> {
    let pem = read_pem(ca)?;
    let trusted: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| format!("{}: {error}", ca.display()))?;
    let mut provider = aws_lc_rs::default_provider();
    if case == Case::ChaCha20 {
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    }
    // The only group a key share is sent for: small, and known to everybody.
    provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519);
    let provider = Arc::new(provider);
    let verifier = Arc::new(Verifier { inner: authorities(&trusted, &provider)?, trusted, any_name });
    if case == Case::V2 {
        // Only settings of the stack's own can change their version.
        return Ok(wirepath::tls::ClientConfig::new(pem.as_bytes())?.verifier(verifier));
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::store(tickets);
    // Replaced by the caller; without one the settings are refused.
    config.alpn_protocols = vec![HQ.into()];
    Ok(wirepath::tls::ClientConfig::from_rustls(Arc::new(config))?)
}

fn authorities(
    trusted: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
    if added == 0 {
        return Err("there is no certificate to trust".into());
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?)
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        // Certificates that sign themselves are often marked as authorities', which no server's may be.
        if self.any_name && self.trusted.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Remembers session tickets, and tells when one comes.
pub(super) struct Tickets {
    cache: ClientSessionMemoryCache,
    came: Notify,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { cache: ClientSessionMemoryCache::new(SERVERS), came: Notify::new() }
    }
}

impl Tickets {
    /// Waits until a ticket has come that nobody waited for yet.
    pub(super) async fn next(&self) {
        self.came.notified().await;
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(server_name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.cache.insert_tls13_ticket(server_name, value);
        // Kept for who asks later.
        self.came.notify_one();
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(server_name)
    }
}
