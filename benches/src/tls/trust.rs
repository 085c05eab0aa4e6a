//! TLS settings: the benches' common ones.

use std::{fs, sync::Arc};

use perf_protocol::{ALPN, Options, Result, SERVER_NAME};
use rustls::{
    RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    quic::{ClientConnection, ServerConnection, Version},
    version::TLS13,
};
use wirepath::tls::RememberingVerifier;

/// As many bytes as transport parameters take.
const PARAMETERS_LEN: usize = 80;

fn crypto() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

/// Makes a server's sessions.
pub(crate) struct Server(Arc<rustls::ServerConfig>);

impl Server {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let chain =
            CertificateDer::pem_slice_iter(&fs::read(&options.cert)?).collect::<Result<Vec<_>, _>>()?;
        let mut tls = rustls::ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        Ok(Self(Arc::new(tls)))
    }

    pub(crate) fn session(&self) -> Result<ServerConnection> {
        Ok(ServerConnection::new(self.0.clone(), Version::V1, vec![0; PARAMETERS_LEN])?)
    }
}

/// Makes a client's sessions.
pub(crate) struct Client(Arc<rustls::ClientConfig>);

impl Client {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&options.ca)?)?;
        let crypto = crypto();
        let chains = WebPkiServerVerifier::builder_with_provider(roots.into(), crypto.clone()).build()?;
        let mut tls = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(RememberingVerifier::new(chains)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Self(Arc::new(tls)))
    }

    pub(crate) fn session(&self) -> Result<ClientConnection> {
        let name = ServerName::try_from(SERVER_NAME)?;
        Ok(ClientConnection::new(self.0.clone(), Version::V1, name, vec![0; PARAMETERS_LEN])?)
    }
}
