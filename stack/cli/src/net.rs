//! The one place where the command meets the `wirepath` crate.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use perf_protocol::{
    Json, Result,
    transport::{Receiver, Sender},
};
use tokio::task::JoinHandle;
use wirepath::{
    ChecksumMode, ClientConfig, Connection, Listener, RecvStream, SendStream, ServerConfig, Stack,
    TransportConfig, VarInt, tls::CipherSuite,
};

use crate::identity::Identity;

/// The data path asked for.
#[derive(Clone, Debug, Default)]
pub struct PathChoice {
    /// AF_XDP on this interface; OS UDP without one.
    pub interface: Option<String>,
    /// The helper that does what takes rights; with this process's own without one.
    pub helper: Option<PathBuf>,
    /// Fail where AF_XDP is not to be had, instead of falling back to OS UDP.
    pub required: bool,
    /// Make no UDP checksums over IPv4 and verify none: as the kernel's own UDP does over a veth pair.
    pub trust_link: bool,
    /// Entries of each AF_XDP ring, if not the default.
    pub ring_size: Option<u32>,
    /// How long devices poll on after their last packet, if not the default.
    pub spin: Option<Duration>,
    /// Where the dashboard is served, if it is.
    pub dashboard: Option<Arc<TcpListener>>,
    /// One datagram in so many is followed, if not the default.
    pub trace_one_in: Option<u32>,
    /// Whether it may hand out what packets say: their bytes, the keys to them, and connections' logs.
    pub lays_open: bool,
}

impl PathChoice {
    /// AF_XDP on the interface, if there is one and it works.
    pub fn prefer(interface: Option<String>) -> Self {
        Self { interface, ..Self::default() }
    }

    /// The same, through a helper if there is one.
    pub fn through(self, helper: Option<PathBuf>) -> Self {
        Self { helper, ..self }
    }
}

/// A stack with one partition: the command is one program on one core.
#[derive(Debug)]
pub struct Network {
    stack: Stack,
}

impl Network {
    /// Opens the devices.
    ///
    /// # Errors
    /// The interface, the rights: the text says what to do.
    pub async fn open(choice: &PathChoice) -> Result<Self> {
        let builder = Stack::builder().partitions(1);
        let builder = match &choice.interface {
            Some(interface) => builder.interface(interface).require_xdp(choice.required),
            None => builder.os_udp(),
        };
        let builder = match &choice.helper {
            Some(socket) => builder.helper(socket),
            None => builder,
        };
        let builder = match choice.trust_link {
            true => builder.checksum(ChecksumMode::ZeroOnIpv4).verify_checksums(false),
            false => builder,
        };
        let builder = match choice.ring_size {
            Some(entries) => builder.ring_size(entries),
            None => builder,
        };
        let builder = match choice.spin {
            Some(spin) => builder.spin(spin),
            None => builder,
        };
        let builder = match choice.trace_one_in {
            Some(datagrams) => builder.trace_one_in(datagrams),
            None => builder,
        };
        let builder = match &choice.dashboard {
            Some(listener) => builder
                .dashboard_listener(listener.try_clone()?)
                .dashboard_payload(choice.lays_open)
                .dashboard_key_log(choice.lays_open)
                .dashboard_qlog(choice.lays_open),
            None => builder,
        };
        Ok(Self { stack: builder.build().await? })
    }

    /// The dashboard's address, if it is served.
    pub fn dashboard_url(&self) -> Option<&str> {
        self.stack.dashboard_url()
    }

    /// The data path in use and why it is not a better one, in one line.
    pub fn path(&self) -> String {
        self.stack.status().to_string()
    }

    /// Packets dropped since it was opened, by cause.
    pub fn drops(&self) -> Vec<(String, u64)> {
        self.stack.status().all_drops().into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// Listens, and runs the handler for each connection, on the connection's partition.
    ///
    /// # Errors
    /// The address or the certificate can't be used.
    pub async fn serve<H, F>(
        &self,
        local: SocketAddr,
        identity: &Identity,
        protocol: &[u8],
        transport: TransportConfig,
        handler: H,
    ) -> Result<Listener>
    where
        H: Fn(Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let certificate = identity.certificate_pem.as_bytes();
        let tls = wirepath::tls::ServerConfig::new(certificate, identity.key_pem.as_bytes())?
            .cipher_suites(&[CipherSuite::Aes128Gcm])?
            .session_tickets(false)
            .alpn([protocol]);
        let listener = self.stack.listen(local, ServerConfig::with_tls(tls).transport(transport)).await?;
        listener.serve(move |connection| handler(Peer(connection)));
        Ok(listener)
    }

    /// Connects, and trusts the given roots only.
    ///
    /// # Errors
    /// The server can't be reached, or is not who it should be.
    pub async fn connect(&self, target: &Target) -> Result<Peer> {
        let connection =
            self.stack.connect(target.address, &target.server_name, target.config.clone()).await?;
        Ok(Peer(connection))
    }

    /// Stops everything, after the last packets have left.
    pub async fn close(self) {
        self.stack.close().await;
    }
}

/// Whom to connect to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    server_name: String,
    config: ClientConfig,
}

impl Target {
    /// A server at an address, with the certificates (PEM) to verify it with.
    ///
    /// # Errors
    /// The certificates can't be read.
    pub fn new(
        address: SocketAddr,
        server_name: &str,
        roots_pem: &[u8],
        protocol: &[u8],
        transport: TransportConfig,
    ) -> Result<Self> {
        let tls = wirepath::tls::ClientConfig::new(roots_pem)?
            .cipher_suites(&[CipherSuite::Aes128Gcm])?
            .resumption(false)
            .alpn([protocol]);
        let config = ClientConfig::with_tls(tls).transport(transport);
        Ok(Self { address, server_name: server_name.to_owned(), config })
    }
}

/// Addresses of this host by which others reach it, those of links up and of global scope.
///
/// # Errors
/// The system does not tell.
pub fn local_addresses() -> Result<Vec<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(addresses
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .collect())
}

/// Transport settings for moving much data over a fast link.
pub fn bulk_transport() -> TransportConfig {
    TransportConfig::default()
        .stream_window(8 << 20)
        .max_stream_window(8 << 20)
        .connection_window(32 << 20)
        .max_connection_window(32 << 20)
        .send_buffer(8 << 20)
        .idle_timeout(Some(Duration::from_secs(120)))
}

/// An established connection.
#[derive(Clone, Debug)]
pub struct Peer(Connection);

impl Peer {
    /// Runs a task on the connection's partition, beside the connection itself.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(task)
    }

    /// The least and the smoothed round-trip time.
    pub fn round_trip(&self) -> (Duration, Duration) {
        let stats = self.0.stats();
        (stats.min_rtt, stats.rtt)
    }

    /// Packets declared lost.
    pub fn packets_lost(&self) -> u64 {
        self.0.stats().counters.packet_lost
    }
}

/// A stream's sending half.
#[derive(Debug)]
pub struct Sending(SendStream);

/// A stream's receiving half, and where it puts chunks that are only counted.
#[derive(Debug)]
pub struct Receiving {
    stream: RecvStream,
    chunks: Vec<Bytes>,
}

impl Sender for Sending {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.write_chunk(data).await?)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        Ok(self.0.write_finish(last).await?)
    }
}

impl Receiver for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.stream.read_chunk().await?)
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        let read = self.stream.read_chunks(&mut self.chunks).await?;
        self.chunks.clear();
        Ok(read)
    }
}

fn halves((sender, receiver): (SendStream, RecvStream)) -> (Sending, Receiving) {
    (Sending(sender), Receiving { stream: receiver, chunks: Vec::new() })
}

impl perf_protocol::transport::Connection for Peer {
    type Sender = Sending;
    type Receiver = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        Ok(halves(self.0.open_bi().await?))
    }

    async fn accept(&self) -> Option<(Sending, Receiving)> {
        self.0.accept_bi().await.ok().map(halves)
    }

    fn max_datagram(&self) -> Option<usize> {
        self.0.max_datagram_size()
    }

    async fn send_datagram(&self, data: Bytes) -> Result<()> {
        Ok(self.0.send_datagram(data).await?)
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        self.0.receive_datagram().await?;
        Ok(1 + std::iter::from_fn(|| self.0.try_receive_datagram()).count() as u64)
    }

    fn close(&self) {
        self.0.close(VarInt::from_u8(0), b"");
    }

    fn report(&self, json: Json) -> Json {
        let stats = self.0.stats();
        json.number("lost_packets", stats.counters.packet_lost as f64)
            .number("sent_packets", stats.counters.packet_sent as f64)
            .number("mtu", f64::from(stats.mtu))
            .number("rtt_us", stats.rtt.as_secs_f64() * 1e6)
    }
}
