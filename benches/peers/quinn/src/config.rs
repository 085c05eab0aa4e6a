//! The benches' common settings, as quinn has them: AES-128-GCM and X25519, every handshake a full one, large
//! windows, CUBIC, path MTU discovery up to the link's MTU.

use std::{fs, sync::Arc, time::Duration};

use perf_protocol::{ALPN, Options, Result};
use quinn::{
    ClientConfig, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

const DATAGRAM_RECEIVE_BUFFER: usize = 8 << 20;
const DATAGRAM_SEND_BUFFER: usize = 1 << 20;

pub(crate) fn endpoint(options: &Options) -> Result<EndpointConfig> {
    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(options.max_udp_payload())?;
    Ok(endpoint)
}

pub(crate) fn server(options: &Options) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(&fs::read(&options.cert)?).collect::<Result<Vec<_>, _>>()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(Arc::new(transport(options)?));
    Ok(server)
}

pub(crate) fn client(options: &Options) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&options.ca)?)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(Arc::new(transport(options)?));
    Ok(client)
}

fn crypto() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    // Faster than aws-lc's on processors without AVX-512.
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

fn transport(options: &Options) -> Result<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(options.max_udp_payload());
    let datagrams = options.wants_datagrams();
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u64(options.stream_window)?)
        .receive_window(VarInt::from_u64(options.conn_window)?)
        .send_window(options.send_buffer)
        .max_concurrent_bidi_streams(VarInt::from_u64(options.max_streams)?)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(Duration::from_secs(120).try_into()?))
        .mtu_discovery_config(Some(discovery))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(datagrams.then_some(DATAGRAM_RECEIVE_BUFFER));
    Ok(transport)
}
