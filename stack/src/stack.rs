//! The stack: partitions, NIC, socket pool, and the way from an address to a connection.

mod egress;
mod start;

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Mutex, oneshot};
use wirepath_actors::{
    egress::Egress,
    explain::{Explanation, Scene},
    kit::Mailbox,
    listener::AcceptSink,
    nic::{NicMessage, NicState},
    nic_queue::QueueState,
    partition::{ConnectRequest, EndpointPlan, ListenRequest, PartitionMessage, PartitionThread},
    pool_shard::{PoolShardMessage, SocketLease},
    tables::{Socket, Tables},
    tokens::{ServerId, TokenSink},
};
use wirepath_drivers::{DriverError, XdpProgram};
use wirepath_quic::{CidGenerator, Clock as _, NetPath, NoopClock, TransportConfig};
use wirepath_trace::Registry;
use wirepath_wire::rules::Rules;

use crate::{
    ClientConfig, Connecting, Connection, Error, Listener, ServerConfig, StackBuilder, StackStatus,
    connection::Client,
    status::{DeviceStatus, RuleStatus},
};

/// A network stack of its own, beside the kernel's. Clones are handles of the same stack; it ends when the last
/// handle, listener and connection are dropped, or with [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Stack(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    partitions: Vec<Mailbox<PartitionMessage>>,
    shards: Vec<Mailbox<PoolShardMessage>>,
    nic: Option<Mailbox<NicMessage>>,
    /// The interface AF_XDP is on, and its queues' XSKs, by partition.
    interface: Option<Arc<NicState>>,
    trusts_checksums: bool,
    tables: Arc<Tables>,
    registry: Arc<Registry>,
    #[cfg(feature = "dashboard")]
    dashboard: std::sync::OnceLock<crate::Dashboard>,
    cids: Arc<dyn CidGenerator>,
    /// The sockets connections are made from, by family.
    client_sockets: Mutex<[Option<Arc<SocketLease>>; 2]>,
    next_partition: AtomicUsize,
    fallback: Option<String>,
    verify_checksums: bool,
    // Last: the threads end after everything that sends to them has gone.
    threads: parking_lot::Mutex<Vec<PartitionThread>>,
    runtimes: Vec<tokio::runtime::Handle>,
}

impl Stack {
    /// Chooses how a stack is made.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    pub(crate) async fn start(builder: StackBuilder) -> Result<Self, Error> {
        let interval = builder.metrics;
        #[cfg(feature = "dashboard")]
        let dashboard = builder.dashboard.clone();
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
    /// # Errors
    /// [`DriverError::PortInUse`], and what is wrong with the configuration.
    pub async fn listen(&self, addr: SocketAddr, config: ServerConfig) -> Result<Listener, Error> {
        config.tls.validate()?;
        config.transport.validate().map_err(wirepath_quic::ConnectError::Config)?;
        let socket = self.0.bind(addr).await?;
        let accept = Arc::new(AcceptSink::default());
        let slots = self.0.partitions.iter().map(|_| Default::default()).collect();
        socket.listeners.set(slots).expect("a fresh socket has no listener");
        let plan = EndpointPlan {
            transport: config.transport,
            tls: config.tls,
            cids: self.0.cids.clone(),
            settings: config.endpoint,
        };
        socket.accompany(self.0.bind_preferred(&plan.transport, &socket).await?);
        for partition in &self.0.partitions {
            let (reply, listens) = oneshot::channel();
            let request = ListenRequest {
                endpoint: plan.clone(),
                socket: socket.clone(),
                accept: accept.clone(),
                reply,
            };
            partition.send(PartitionMessage::Listen(Box::new(request))).map_err(|_| Error::Closed)?;
            listens.await.map_err(|_| Error::Closed)?;
        }
        Ok(Listener::new(socket, accept, self.0.clone()))
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
        let socket = self.0.client_socket(remote).await?;
        let local = SocketAddr::new(source_address(remote)?, socket.local.port());
        let partition = self.0.next_partition.fetch_add(1, Relaxed) % self.0.partitions.len();
        let via = self.0.egress(partition, &socket, local.ip(), remote.ip())?;
        let (reply, link) = oneshot::channel();
        let request = ConnectRequest {
            transport: config.transport,
            tls: config.tls,
            server_name: server_name.to_owned(),
            tokens: TokenSink {
                store: config.tokens,
                server: ServerId { name: server_name.to_owned(), address: remote },
            },
            cids: self.0.cids.clone(),
            path: NetPath { local, remote },
            socket,
            via,
            reply,
        };
        self.0.partitions[partition]
            .send(PartitionMessage::Connect(Box::new(request)))
            .map_err(|_| Error::Closed)?;
        let link = link.await.map_err(|_| Error::Closed)??;
        Ok(Connecting::new(Connection::of_client(link, Client { stack: Arc::downgrade(&self.0), partition })))
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
            has_reset_token: &|token| tables.reset_tokens.contains_key(token),
            // A listener's own belongs to its actor.
            endpoint: None,
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
        self.trusts_checksums
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
        let sockets = sockets
            .iter()
            .filter_map(|socket| Some((format!("udp {}", socket.local), None, socket.report()?.read())));
        xsks.chain(sockets).collect()
    }

    /// The UMEM of each queue: name, bytes of a frame, where the frames are.
    pub(crate) fn umems(&self) -> Vec<(String, usize, wirepath_drivers::UmemAudit)> {
        self.queues()
            .iter()
            .filter_map(|queue| {
                let egress = queue.egress()?;
                Some((egress.device().name().to_owned(), egress.frame_size(), egress.census()?))
            })
            .collect()
    }
}

impl Inner {
    async fn bind(&self, addr: SocketAddr) -> Result<Arc<SocketLease>, Error> {
        let shard = &self.shards[usize::from(addr.port()) % self.shards.len()];
        let (reply, socket) = oneshot::channel();
        shard.send(PoolShardMessage::Bind(addr, reply)).map_err(|_| Error::Closed)?;
        Ok(socket.await.map_err(|_| Error::Closed)??)
    }

    /// Binds the addresses at which the listener's clients are to go on, unless its own socket serves them.
    async fn bind_preferred(
        &self,
        transport: &TransportConfig,
        own: &SocketLease,
    ) -> Result<Vec<Arc<SocketLease>>, Error> {
        let v4 = transport.preferred_address_v4.map(SocketAddr::from);
        let v6 = transport.preferred_address_v6.map(SocketAddr::from);
        let mut leases = Vec::new();
        for address in [v4, v6].into_iter().flatten().filter(|address| !own.matches(*address)) {
            leases.push(self.bind(address).await?);
        }
        Ok(leases)
    }

    /// What a connection needs to go on from another local address: a socket there, and the device to send through.
    pub(crate) async fn new_place(
        &self,
        partition: usize,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(NetPath, Arc<SocketLease>, Arc<Egress>), Error> {
        let socket = self.bind(local).await?;
        let ip = if local.ip().is_unspecified() { source_address(remote)? } else { local.ip() };
        let local = SocketAddr::new(ip, socket.local.port());
        let via = self.egress(partition, &socket, ip, remote.ip())?;
        Ok((NetPath { local, remote }, socket, via))
    }

    pub(crate) fn unlisten(&self, socket: &Arc<Socket>) {
        // Actors that have ended have nothing to take back.
        for partition in &self.partitions {
            let _ = partition.send(PartitionMessage::Unlisten(socket.clone()));
        }
    }

    /// The socket to connect from, bound when the first connection of its family needs it.
    async fn client_socket(&self, remote: SocketAddr) -> Result<Arc<SocketLease>, Error> {
        let mut sockets = self.client_sockets.lock().await;
        let slot = &mut sockets[usize::from(remote.is_ipv6())];
        if let Some(socket) = slot {
            return Ok(socket.clone());
        }
        let any: IpAddr =
            if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = self.bind(SocketAddr::new(any, 0)).await?;
        *slot = Some(socket.clone());
        Ok(socket)
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

    fn program(&self) -> Option<Arc<XdpProgram>> {
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

/// The address the kernel would send from to reach `remote`.
fn source_address(remote: SocketAddr) -> Result<IpAddr, Error> {
    let any: IpAddr =
        if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}
