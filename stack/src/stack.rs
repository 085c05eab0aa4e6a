//! The stack: partitions, NIC, socket pool, and the way from an address to a connection.

mod egress;
mod listening;
mod start;
mod steering;

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Mutex, oneshot};
use wirepath_actors::{
    egress::Egress,
    explain::{Explanation, Scene},
    kit::Mailbox,
    nic::{NicMessage, NicState},
    nic_queue::QueueState,
    partition::{ConnectRequest, PartitionLoad, PartitionMessage, PartitionThread},
    pool_shard::{BindRequest, PoolShardMessage, SocketLease},
    tables::{Carriers, Claim, Tables},
    tokens::{ServerId, TokenSink},
};
use wirepath_drivers::{DriverError, Rss, XdpControl};
#[cfg(feature = "dashboard")]
use wirepath_quic::tls;
use wirepath_quic::{
    CibirId, CidGenerator, Clock as _, NetPath, NoopClock, cid::RandomCids, reset::ResetKey,
};
use wirepath_trace::Registry;
use wirepath_wire::rules::Rules;

use crate::{
    ClientConfig, Connecting, Connection, Error, Listener, ServerConfig, StackBuilder, StackStatus,
    connection::Client,
    status::{DeviceStatus, RuleStatus},
};

pub(crate) use listening::Shared;

/// A network stack of its own, beside the kernel's. Clones are handles of the same stack; it ends when the last
/// handle, listener and connection are dropped, or with [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Stack(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    partitions: Vec<Mailbox<PartitionMessage>>,
    loads: Vec<Arc<PartitionLoad>>,
    shards: Vec<Mailbox<PoolShardMessage>>,
    nic: Option<Mailbox<NicMessage>>,
    /// The interface AF_XDP is on, and its queues' XSKs, by partition.
    interface: Option<Arc<NicState>>,
    /// The number of the first queue it serves.
    first_queue: u32,
    /// How the interface spreads flows over its queues, if by their ports.
    rss: Option<Rss>,
    tables: Arc<Tables>,
    registry: Arc<Registry>,
    #[cfg(feature = "dashboard")]
    dashboard: std::sync::OnceLock<crate::Dashboard>,
    /// Secrets of sessions, where the builder opted in.
    #[cfg(feature = "dashboard")]
    keys: Option<Arc<crate::dashboard::KeyRing>>,
    cids: Arc<dyn CidGenerator>,
    /// Where listeners are, so that others may join them.
    listening: Mutex<Vec<Weak<Shared>>>,
    /// The sockets connections are made from, by family and CIBIR identifier.
    client_sockets: Mutex<HashMap<ClientKind, Arc<SocketLease>>>,
    next_partition: AtomicUsize,
    fallback: Option<String>,
    verify_checksums: bool,
    // Last: the threads end after everything that sends to them has gone.
    threads: parking_lot::Mutex<Vec<PartitionThread>>,
    runtimes: Vec<tokio::runtime::Handle>,
}

/// Whether by IPv6, and the CIBIR identifier.
type ClientKind = (bool, Option<CibirId>);

impl Stack {
    /// Chooses how a stack is made.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    pub(crate) async fn start(builder: StackBuilder) -> Result<Self, Error> {
        let interval = builder.metrics;
        #[cfg(feature = "dashboard")]
        let dashboard =
            crate::dashboard::DashboardPlan { memory: builder.trace_memory, ..builder.dashboard.clone() };
        let stack = Self(Arc::new(start::start(builder).await?));
        #[cfg(feature = "dashboard")]
        if let Some(dashboard) = dashboard.serve(&stack.0)? {
            let _ = stack.0.dashboard.set(dashboard);
        }
        if let Some(interval) = interval {
            stack.publish_metrics_every(interval);
        }
        Ok(stack)
    }

    /// Publishes metrics until the stack ends; holds no handle of it.
    fn publish_metrics_every(&self, interval: std::time::Duration) {
        crate::metrics::describe();
        let stack = Arc::downgrade(&self.0);
        self.0.runtimes[0].spawn(async move {
            while let Some(inner) = stack.upgrade() {
                crate::metrics::publish(&inner.status(), &inner.registry);
                drop(inner);
                tokio::time::sleep(interval).await;
            }
        });
    }

    /// Listens on a local address; port 0 chooses a free one. The port is reserved with an OS socket, so that
    /// no packet is taken from another process.
    ///
    /// Several listeners may share an address if they serve different application protocols: of those a client offers,
    /// the listener that came first wins. They share the transport settings, and all TLS settings but protocols and
    /// certificates are the first one's.
    ///
    /// # Errors
    /// [`DriverError::PortInUse`], [`Error::ProtocolInUse`], [`Error::SettingsDiffer`], and what is wrong with the
    /// configuration.
    pub async fn listen(&self, addr: SocketAddr, config: ServerConfig) -> Result<Listener, Error> {
        config.tls.validate()?;
        config.transport.validate().map_err(wirepath_quic::ConnectError::Config)?;
        #[cfg(feature = "dashboard")]
        let config =
            ServerConfig { tls: self.0.share_secrets(config.tls, tls::ServerConfig::key_log_to), ..config };
        let (shared, sink) = self.0.listen(addr, config).await?;
        Ok(Listener::new(shared, sink, self.0.clone()))
    }

    /// Connects to a server, and waits for the handshake. Cancelling it gives the attempt up.
    ///
    /// # Errors
    /// [`Error::Connection`] says why the handshake failed; other variants, why it could not start.
    pub async fn connect(
        &self,
        remote: SocketAddr,
        server_name: &str,
        config: ClientConfig,
    ) -> Result<Connection, Error> {
        self.start_connecting(remote, server_name, config).await?.established().await
    }

    /// Begins to connect to a server. The returned handle waits for the handshake, and lets early data (0-RTT) go ahead
    /// of it.
    ///
    /// # Errors
    /// Why it could not start.
    pub async fn start_connecting(
        &self,
        remote: SocketAddr,
        server_name: &str,
        config: ClientConfig,
    ) -> Result<Connecting, Error> {
        config.tls.validate()?;
        config.transport.validate().map_err(wirepath_quic::ConnectError::Config)?;
        let cids = self.0.cids_of(config.cibir);
        let address = source_address(remote)?;
        let place = config.queue.map(|queue| self.0.queue_at(queue)).transpose()?;
        let socket = match config.queue {
            Some(queue) => {
                let carriers = if config.qtip { Carriers::TCP } else { Carriers::UDP };
                self.0.steered_socket((address, remote), queue, carriers, cids.len()).await?
            }
            None if config.qtip => self.0.qtip_socket(remote, cids.len()).await?,
            None => self.0.client_socket(remote, config.cibir, cids.len()).await?,
        };
        let local = SocketAddr::new(address, socket.claim.local.port());
        let place =
            place.unwrap_or_else(|| self.0.next_partition.fetch_add(1, Relaxed) % self.0.partitions.len());
        let via = self.0.egress(place, &socket, local.ip(), remote.ip())?;
        let mut transport = config.transport;
        if config.qtip {
            // Told to the server, too: neither end probes for packets that no segment holds.
            let settings = Arc::make_mut(&mut transport);
            settings.max_udp_payload = settings.max_udp_payload.min(via.max_udp_payload(remote.ip()));
            settings.initial_mtu = settings.initial_mtu.min(settings.max_udp_payload);
        }
        let client = Client {
            stack: Arc::downgrade(&self.0),
            place,
            carriers: socket.claim.carriers,
            cid_len: socket.cid_len,
        };
        // Queues are dealt out to partitions in turn.
        let partition = place % self.0.partitions.len();
        let client_tls = config.tls;
        #[cfg(feature = "dashboard")]
        let client_tls = self.0.share_secrets(client_tls, tls::ClientConfig::key_log_to);
        let (reply, link) = oneshot::channel();
        let request = ConnectRequest {
            transport,
            tls: client_tls,
            server_name: server_name.to_owned(),
            tokens: TokenSink {
                store: config.tokens,
                server: ServerId { name: server_name.to_owned(), address: remote },
            },
            cids,
            path: NetPath { local, remote },
            socket,
            via,
            reply,
        };
        self.0.partitions[partition]
            .send(PartitionMessage::Connect(Box::new(request)))
            .map_err(|_| Error::Closed)?;
        let link = link.await.map_err(|_| Error::Closed)??;
        Ok(Connecting::new(Connection::of_client(link, client)))
    }

    /// Runs a task on a partition's thread (the first for 0; numbers wrap), next to the connections made there:
    /// a client that works on its connections from such a task crosses no core to reach them, if the stack has
    /// one partition. [`Connection::spawn`] finds the right partition of a connection that is already there.
    pub fn spawn<F>(&self, partition: usize, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.runtimes[partition % self.0.runtimes.len()].spawn(task)
    }

    /// Which data path is in use, why, and what has passed and been dropped.
    pub fn status(&self) -> StackStatus {
        self.0.status()
    }

    /// Tells the stack's counters to the recorder the program has installed with the [`metrics`](::metrics)
    /// crate, now; [`StackBuilder::metrics`] does it at intervals.
    pub fn publish_metrics(&self) {
        crate::metrics::publish(&self.status(), &self.0.registry);
    }

    /// Puts rules in force on the interface in the place of those set before: first match wins, and they come
    /// before those by which bound ports get their packets. Each packet is judged by the old rules or by the new;
    /// when this returns, the old ones are out of use. Rules that stay keep their count of hits, which
    /// [`status`](Self::status) tells.
    ///
    /// What the rules say of VLANs and local addresses holds for the bound ports, too; unless they name local
    /// addresses, redirect takes what is sent to those of the interface.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] without AF_XDP, or when the rules don't fit the program's tables together
    /// with those of the bound ports. The old ones then stay in force.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), Error> {
        set_rules(self.0.nic()?, rules).await
    }

    /// What would become of an Ethernet frame that arrives on a queue of the interface now: which rule, socket and
    /// connection would take it, or what would drop it. It is neither counted nor delivered.
    pub fn explain(&self, frame: &[u8], queue: u32) -> Explanation {
        let tables = &self.0.tables;
        let rules = self.0.program().map(|program| program.rules()).unwrap_or_default();
        let mut scene = Scene {
            rules: &rules,
            sockets: &tables.sockets,
            has_cid: &|cid| tables.connections.contains_key(cid),
            has_handshake: &|key| tables.handshakes.contains_key(key),
            has_reset_token: &|token| tables.reset_tokens.contains_key(token),
            // A listener's own belongs to its actor.
            endpoint: None,
            flows: Some(&tables.qtip),
            verify_checksums: self.0.verify_checksums,
        };
        scene.explain(frame, queue, NoopClock.get_time())
    }

    /// What to open in a browser, if the stack serves a dashboard: its address, and the token if it has one.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_url(&self) -> Option<&str> {
        self.0.dashboard.get().map(crate::Dashboard::url)
    }

    /// What samples datagrams, and the journeys of those it sampled.
    pub fn tracer(&self) -> &Arc<wirepath_trace::Tracer> {
        &self.0.tables.tracer
    }

    /// The stack's actors, for inspection.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Ends the stack: connections end without a word (close them first), ports are freed, the XDP program
    /// leaves the interface. Returns when all of it is done.
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.0.threads.lock());
        // Joining blocks; it must not hold up the caller's runtime.
        let joined = std::thread::spawn(move || drop(threads));
        while !joined.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

#[cfg(feature = "dashboard")]
impl Inner {
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn tracer(&self) -> Arc<wirepath_trace::Tracer> {
        self.tables.tracer.clone()
    }

    pub(crate) fn trusts_checksums(&self) -> bool {
        !self.verify_checksums
    }

    /// Devices by the names of their actors, with what they published last: XSKs, then OS UDP sockets.
    pub(crate) fn devices(
        &self,
    ) -> Vec<(String, Option<String>, (wirepath_drivers::DriverStatus, wirepath_drivers::DriverStats))> {
        let queues = self.queues();
        let xsks = queues.iter().filter_map(|queue| {
            let read = queue.report()?.read();
            let name = format!(
                "{}/{}",
                read.0.interface.as_deref().unwrap_or_default(),
                read.0.queue.unwrap_or_default()
            );
            Some((name, queue.trouble(), read))
        });
        let sockets = self.tables.sockets.all();
        let sockets = sockets.iter().filter_map(|socket| {
            Some((format!("udp {}", socket.claim.local), None, socket.report()?.read()))
        });
        xsks.chain(sockets).collect()
    }

    /// The ways out through XSKs, by whose pools their UMEM frames are known.
    pub(crate) fn egresses(&self) -> Vec<Arc<wirepath_actors::egress::Egress>> {
        self.queues().iter().filter_map(|queue| queue.egress()).collect()
    }

    pub(crate) fn keys(&self) -> Option<&Arc<crate::dashboard::KeyRing>> {
        self.keys.as_ref()
    }

    /// TLS settings that tell the ring of keys their secrets, if there is one.
    fn share_secrets<T>(&self, tls: T, key_log_to: impl FnOnce(T, tls::KeySink) -> T) -> T {
        match &self.keys {
            Some(keys) => key_log_to(tls, keys.sink()),
            None => tls,
        }
    }
}

impl Inner {
    async fn bind(&self, claim: Claim, cid_len: usize) -> Result<Arc<SocketLease>, Error> {
        let shard = &self.shards[usize::from(claim.local.port()) % self.shards.len()];
        let (reply, socket) = oneshot::channel();
        let request = BindRequest { claim, cid_len };
        shard.send(PoolShardMessage::Bind(request, reply)).map_err(|_| Error::Closed)?;
        Ok(socket.await.map_err(|_| Error::Closed)??)
    }

    /// What a connection needs to go on from another local address: a socket there, and the device to send through.
    pub(crate) async fn new_place(
        &self,
        client: &Client,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(NetPath, Arc<SocketLease>, Arc<Egress>), Error> {
        let claim = match client.carriers {
            Carriers::UDP => Claim::udp(local),
            carriers => Claim { remote: Some(remote), carriers, ..Claim::udp(local) },
        };
        let socket = self.bind(claim, client.cid_len).await?;
        let ip = if local.ip().is_unspecified() { source_address(remote)? } else { local.ip() };
        let local = SocketAddr::new(ip, socket.claim.local.port());
        let via = self.egress(client.place, &socket, ip, remote.ip())?;
        Ok((NetPath { local, remote }, socket, via))
    }

    /// The source of connection IDs, with or without an identifier in them.
    fn cids_of(&self, cibir: Option<CibirId>) -> Arc<dyn CidGenerator> {
        match cibir {
            Some(id) => Arc::new(RandomCids::new(ResetKey::random()).with_cibir(id)),
            None => self.cids.clone(),
        }
    }

    /// The socket to connect from, bound when the first connection of its kind needs it.
    async fn client_socket(
        &self,
        remote: SocketAddr,
        cibir: Option<CibirId>,
        cid_len: usize,
    ) -> Result<Arc<SocketLease>, Error> {
        let mut sockets = self.client_sockets.lock().await;
        let key = (remote.is_ipv6(), cibir);
        if let Some(socket) = sockets.get(&key) {
            return Ok(socket.clone());
        }
        // A port of its own needs no identifier to be found by; only the connection IDs carry it.
        let socket = self.bind(Claim::udp(SocketAddr::new(any(remote), 0)), cid_len).await?;
        sockets.insert(key, socket.clone());
        Ok(socket)
    }

    /// The socket of one connection by QTIP: its port is the flow's, and ends with it.
    async fn qtip_socket(&self, remote: SocketAddr, cid_len: usize) -> Result<Arc<SocketLease>, Error> {
        let claim = Claim::udp(SocketAddr::new(any(remote), 0));
        self.bind(Claim { remote: Some(remote), carriers: Carriers::TCP, ..claim }, cid_len).await
    }

    fn nic(&self) -> Result<&Mailbox<NicMessage>, Error> {
        let why =
            || self.fallback.clone().unwrap_or_else(|| "the stack was built without an interface".into());
        self.nic.as_ref().ok_or_else(|| no_rules(why()))
    }

    /// The queues of the interface, by partition; none without AF_XDP.
    fn queues(&self) -> Vec<Arc<QueueState>> {
        self.interface.as_ref().map(|interface| interface.queues()).unwrap_or_default()
    }

    fn program(&self) -> Option<Arc<dyn XdpControl>> {
        self.interface.as_ref().and_then(|interface| interface.program())
    }

    pub(crate) fn status(&self) -> StackStatus {
        let queues = self.queues();
        let xsks = queues.iter().filter(|queue| queue.egress().is_some()).filter_map(|queue| queue.report());
        let sockets = self.tables.sockets.all();
        let sockets = sockets.iter().filter_map(|socket| socket.report().cloned());
        let devices = xsks.chain(sockets).map(|report| {
            let (mut status, stats) = report.read();
            if let (Some(_), Some(interface)) = (status.queue, &self.interface) {
                // It may have been renamed since, or have gone down while the device slept.
                status.interface = Some(interface.name());
                status.link_up = interface.is_link_up();
            }
            DeviceStatus { status, stats }
        });
        // While no program is attached nothing counts, and there is nothing to tell.
        let program = self.program();
        let rules = program.as_ref().and_then(|program| program.rule_hits().ok()).unwrap_or_default();
        let passed = program.as_ref().and_then(|program| program.events().ok()).unwrap_or_default();
        let trouble = self.interface.as_ref().and_then(|interface| interface.trouble());
        StackStatus {
            devices: devices.collect(),
            fallback: self.fallback.clone().or(trouble),
            drops: self.tables.drops.snapshot(),
            rules: rules.into_iter().map(|(rule, hits)| RuleStatus { rule, hits }).collect(),
            passed: passed.into_iter().collect(),
            cids: self.tables.connections.len(),
            received: self.loads.iter().map(|load| load.received()).collect(),
        }
    }
}

async fn set_rules(nic: &Mailbox<NicMessage>, rules: Rules) -> Result<(), Error> {
    let (reply, outcome) = oneshot::channel();
    nic.send(NicMessage::SetRules(rules, reply)).map_err(|_| Error::Closed)?;
    Ok(outcome.await.map_err(|_| Error::Closed)??)
}

fn no_rules(why: String) -> Error {
    DriverError::Unsupported { what: "an XDP rule", why }.into()
}

/// Any address of the same family.
fn any(remote: SocketAddr) -> IpAddr {
    if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// The address the kernel would send from to reach `remote`.
fn source_address(remote: SocketAddr) -> Result<IpAddr, Error> {
    let probe = UdpSocket::bind((any(remote), 0))?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}
