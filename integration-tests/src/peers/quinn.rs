//! quinn.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use quinn::{
    ClientConfig, ConnectionError, IdleTimeout, MtuDiscoveryConfig, ReadError, ServerConfig, TransportConfig,
    VarInt, WriteError,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{Connection, Datagrams, Early, Endpoint, Fault, LocalFuture, Receiver, Sender, Setting, Tuning};

/// The most bytes of one read; quinn hands out what one packet brought, or less.
const READ: usize = 64 << 10;

/// quinn's endpoint.
#[derive(Debug)]
pub struct Quinn {
    endpoint: quinn::Endpoint,
}

impl Endpoint for Quinn {
    type Connection = quinn::Connection;

    async fn server(at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let mut config = server(setting).map_err(|error| error.to_string())?;
        config.transport_config(Arc::new(transport(&setting.tuning)));
        let endpoint = quinn::Endpoint::server(config, at).map_err(|error| error.to_string())?;
        Ok(Self { endpoint })
    }

    async fn client(at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let mut config = client(setting).map_err(|error| error.to_string())?;
        config.transport_config(Arc::new(transport(&setting.tuning)));
        let mut endpoint = quinn::Endpoint::client(at).map_err(|error| error.to_string())?;
        endpoint.set_default_client_config(config);
        Ok(Self { endpoint })
    }

    fn local_addr(&self) -> Result<SocketAddr, String> {
        self.endpoint.local_addr().map_err(|error| error.to_string())
    }

    async fn accept(&mut self) -> Option<LocalFuture<Result<quinn::Connection, Fault>>> {
        let incoming = self.endpoint.accept().await?;
        Some(Box::pin(async move { Ok(incoming.await?) }))
    }

    async fn connect(&mut self, to: SocketAddr, server_name: &str) -> Result<quinn::Connection, Fault> {
        let connecting =
            self.endpoint.connect(to, server_name).map_err(|error| Fault::Broken(error.to_string()))?;
        Ok(connecting.await?)
    }

    async fn shutdown(self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}

impl Early for Quinn {
    async fn connect_early(
        &mut self,
        to: SocketAddr,
        server_name: &str,
    ) -> Result<(quinn::Connection, Option<LocalFuture<bool>>), Fault> {
        let connecting =
            self.endpoint.connect(to, server_name).map_err(|error| Fault::Broken(error.to_string()))?;
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => Ok((connection, Some(Box::pin(accepted)))),
            Err(connecting) => Ok((connecting.await?, None)),
        }
    }
}

impl Connection for quinn::Connection {
    type Sender = quinn::SendStream;
    type Receiver = quinn::RecvStream;

    async fn open_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault> {
        Ok(self.open_bi().await?)
    }

    async fn open_uni(&self) -> Result<Self::Sender, Fault> {
        Ok(self.open_uni().await?)
    }

    async fn accept_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault> {
        Ok(self.accept_bi().await?)
    }

    async fn accept_uni(&self) -> Result<Self::Receiver, Fault> {
        Ok(self.accept_uni().await?)
    }

    fn alpn(&self) -> Option<Bytes> {
        let data = self.handshake_data()?.downcast::<HandshakeData>().ok()?;
        data.protocol.map(Bytes::from)
    }

    fn close(&self, code: u64) {
        self.close(varint(code), b"");
    }
}

impl Datagrams for quinn::Connection {
    fn send_datagram(&self, bytes: Bytes) -> Result<(), Fault> {
        self.send_datagram(bytes).map_err(|error| Fault::Broken(error.to_string()))
    }

    async fn receive_datagram(&self) -> Result<Bytes, Fault> {
        Ok(self.read_datagram().await?)
    }
}

impl Sender for quinn::SendStream {
    async fn send(&mut self, bytes: Bytes) -> Result<(), Fault> {
        Ok(self.write_chunk(bytes).await?)
    }

    async fn finish(mut self) -> Result<(), Fault> {
        quinn::SendStream::finish(&mut self).map_err(|error| Fault::Broken(error.to_string()))
    }

    fn reset(mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = quinn::SendStream::reset(&mut self, varint(code));
    }
}

impl Receiver for quinn::RecvStream {
    async fn receive(&mut self) -> Result<Option<Bytes>, Fault> {
        Ok(self.read_chunk(READ, true).await?.map(|chunk| chunk.bytes))
    }

    fn stop(mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = quinn::RecvStream::stop(&mut self, varint(code));
    }
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed(close.error_code.into_inner()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(code.into_inner()),
            WriteError::ConnectionLost(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).expect("codes of tests fit 62 bits")
}

fn transport(tuning: &Tuning) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(tuning.udp_payload);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(tuning.stream_window.into())
        .receive_window(tuning.connection_window.into())
        .max_concurrent_bidi_streams(tuning.streams.into())
        .max_concurrent_uni_streams(tuning.streams.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(tuning.idle).expect("an idle time of tests fits")))
        .mtu_discovery_config(Some(discovery));
    config
}

fn server(setting: &Setting) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let certificate = CertificateDer::from_pem_slice(setting.identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(setting.identity.key.as_bytes())?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![setting.alpn.to_vec()];
    // All or nothing (RFC 9001 §4.6.1).
    tls.max_early_data_size = u32::MAX;
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

fn client(setting: &Setting) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(setting.identity.certificate.as_bytes())?)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![setting.alpn.to_vec()];
    tls.enable_early_data = true;
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
