//! Starting a stack: threads, partitions, NIC, queues, socket pool.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use wirepath_actors::{
    kit::{Actor, Mailbox, SpawnError, Spawner},
    nic::{Care, Nic, NicMessage, NicState, QueuePlan},
    partition::{PartitionMessage, PartitionParts, PartitionSupervisor, PartitionThread},
    pool_shard::{POOL_SHARDS, PoolShard},
    tables::Tables,
};
use wirepath_drivers::{
    AfXdpOptions, DriverError, HelperClient, NextHops, Nic as Interface, RingSizes, RouteTable, XdpAccess,
    XdpModeWish, XdpOptions,
};
use wirepath_quic::{cid::RandomCids, reset::ResetKey};

use super::{Inner, set_rules};
use crate::{Error, StackBuilder};

/// What AF_XDP brings, once it is there.
struct Xdp {
    nic: Mailbox<NicMessage>,
    state: Arc<NicState>,
}

/// The partitions, started.
struct Partitions {
    threads: Vec<PartitionThread>,
    parts: Vec<PartitionParts>,
    supervisors: Vec<Mailbox<PartitionMessage>>,
    spawner: Spawner,
}

pub(super) async fn start(builder: StackBuilder) -> Result<Inner, Error> {
    let interface = builder.interface.as_deref().map(Interface::by_name).transpose()?;
    let there_are = interface.as_ref().map_or(1, |interface| interface.queues.rx.max(1));
    let queues = (builder.queues.start..builder.queues.end.min(there_are)).len().max(1);
    let mut tables = Tables::new(builder.tracer());
    tables.logs_connections = builder.logs_connections();
    let tables = Arc::new(tables);
    let partitions = Partitions::start(&builder, builder.partitions.unwrap_or(queues), &tables).await?;
    let (xdp, fallback) = match &interface {
        None if builder.require_xdp => return Err(Error::XdpRequired("no interface was named".into())),
        None if builder.rules.is_some() => return Err(super::no_rules("no interface was named".into())),
        None => (None, None),
        Some(interface) => match partitions.start_xdp(&builder, interface).await {
            Ok(xdp) => (Some(xdp), None),
            Err(error) if builder.require_xdp => return Err(Error::XdpRequired(error.to_string())),
            // Going on without them would let in what they keep out.
            Err(error) if builder.rules.is_some() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "AF_XDP is not available; OS UDP is used instead");
                (None, Some(error.to_string()))
            }
        },
    };
    // Without AF_XDP the OS sockets are the data path, and spin in its stead.
    let has_program = xdp.as_ref().is_some_and(|xdp| xdp.state.program().is_some());
    let os_udp_spin = if has_program { Duration::ZERO } else { builder.spin };
    let nics: Vec<_> = xdp.iter().map(|xdp| xdp.nic.clone()).collect();
    let mut shards = Vec::new();
    for n in 0..POOL_SHARDS {
        let partition = partitions.parts[0].clone();
        let shard = PoolShard { partition, nics: nics.clone(), os_udp_spin, bound: Vec::new() };
        shards.push(partitions.spawn(0, n.to_string(), shard).await?);
    }
    Ok(Inner {
        partitions: partitions.supervisors,
        loads: partitions.parts.iter().map(|parts| parts.load.clone()).collect(),
        shards,
        nic: nics.into_iter().next(),
        interface: xdp.map(|xdp| xdp.state),
        first_queue: builder.queues.start,
        rss: interface.as_ref().and_then(Interface::rss),
        #[cfg(feature = "dashboard")]
        dashboard: Default::default(),
        #[cfg(feature = "dashboard")]
        keys: builder.dashboard.keeps_keys().then(Default::default),
        tables,
        registry: partitions.spawner.registry().clone(),
        cids: Arc::new(RandomCids::new(ResetKey::random())),
        listening: Default::default(),
        client_sockets: Default::default(),
        next_partition: Default::default(),
        fallback,
        verify_checksums: builder.verify_checksums,
        runtimes: partitions.threads.iter().map(|thread| thread.runtime().clone()).collect(),
        threads: parking_lot::Mutex::new(partitions.threads),
    })
}

impl Partitions {
    async fn start(builder: &StackBuilder, count: usize, tables: &Arc<Tables>) -> Result<Self, Error> {
        let mut partitions = Self {
            threads: Vec::new(),
            parts: Vec::new(),
            supervisors: Vec::new(),
            spawner: Spawner::default(),
        };
        for index in 0..count {
            partitions.threads.push(PartitionThread::start(index, builder.cpus.get(index).copied())?);
            let parts = PartitionParts {
                index,
                tables: tables.clone(),
                timers: Arc::default(),
                load: Arc::default(),
                demux: Arc::default(),
                spin: builder.spin,
                verify_checksums: builder.verify_checksums,
            };
            partitions.parts.push(parts.clone());
            let supervisor =
                partitions.spawn(index, index.to_string(), PartitionSupervisor::new(parts)).await?;
            partitions.supervisors.push(supervisor);
        }
        Ok(partitions)
    }

    /// Starts an actor on a partition.
    async fn spawn<A: Actor>(
        &self,
        index: usize,
        name: String,
        actor: A,
    ) -> Result<Mailbox<A::Message>, Error> {
        let spawner = self.spawner.clone();
        let started = self.run_on(index, async move { spawner.spawn(name, actor).await }).await?;
        started.map_err(|error: SpawnError| DriverError::Gone(error.to_string()).into())
    }

    async fn run_on<F>(&self, index: usize, task: F) -> Result<F::Output, Error>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.threads[index].runtime().spawn(task).await.map_err(|_| Error::Closed)
    }

    /// Attaches the XDP program and opens an XSK on each queue. Where that only has to wait (there is no helper yet,
    /// another program is there still), it is left to the NIC's actor.
    async fn start_xdp(&self, builder: &StackBuilder, interface: &Interface) -> Result<Xdp, Error> {
        let wish = if builder.skb_mode { XdpModeWish::Skb } else { XdpModeWish::default() };
        let wish = XdpOptions::from(wish);
        let access = match &builder.helper {
            Some(socket) => XdpAccess::Helper(HelperClient::new(socket)),
            None => XdpAccess::Own,
        };
        let program = match access.attach(&interface.name, wish, builder.queues.clone()) {
            Err(error) if !may_come(builder, &error) => return Err(error.into()),
            attached => attached,
        };
        let routes = self.start_routes(interface, access.clone()).await?;
        let _ = self.parts[0].tables.routes.set(routes.clone());
        let mut options = AfXdpOptions::new(&interface.name, 0);
        options.access = access;
        options.checksum = builder.checksum;
        options.huge_pages = builder.huge_pages;
        if let Some(entries) = builder.ring_size {
            options.rings = RingSizes::all(entries);
        }
        let hops = routes.clone();
        let next_hops = Arc::new(move || -> Box<dyn NextHops> { Box::new(hops.next_hops()) });
        let plan = QueuePlan { options, next_hops, queues: builder.queues.clone() };
        let care = Care::new(interface.clone(), wish, routes, plan.clone(), self.supervisors.clone());
        let state = care.state.clone();
        let program = match program {
            Ok(program) => program,
            Err(error) => {
                tracing::warn!(%error, "AF_XDP is not available yet; OS UDP is used until it is");
                let nic = Nic::awaiting(care, &error);
                let nic = self.spawn(0, interface.name.clone(), nic).await?;
                return Ok(Xdp { nic, state });
            }
        };
        let wanted = plan.queues_of(interface, &program.queues());
        if wanted.is_empty() {
            return Err(no_such_queues(builder, interface).into());
        }
        let attachment =
            program.attachment().cloned().ok_or_else(|| DriverError::Gone("its XDP program".into()))?;
        let nic = self.spawn(0, interface.name.clone(), Nic::new(program, care)).await?;
        if let Some(rules) = builder.rules.clone() {
            set_rules(&nic, rules).await.inspect_err(|_| nic.stop())?;
        }
        // No XSK can be bound while the link is down: the queues' actors then try by themselves once it is up.
        let waits = interface.link.admin_up || builder.require_xdp;
        let mut queues = Vec::new();
        for (queue, partition) in wanted.zip(0..) {
            let (opened, outcome) = oneshot::channel();
            let parts = plan.parts(queue, &attachment, &nic, waits.then_some(opened));
            state.add_queue(parts.state.clone());
            let supervisor = &self.supervisors[partition % self.supervisors.len()];
            let (reply, actor) = oneshot::channel();
            supervisor.send(PartitionMessage::Serve(Box::new(parts), reply)).map_err(|_| Error::Closed)?;
            if waits && let Err(error) = outcome.await.map_err(|_| Error::Closed)? {
                nic.stop();
                return Err(error.into());
            }
            queues.push(actor.await.map_err(|_| Error::Closed)?);
        }
        nic.send(NicMessage::Serve(queues)).map_err(|_| Error::Closed)?;
        Ok(Xdp { nic, state })
    }

    async fn start_routes(&self, interface: &Interface, access: XdpAccess) -> Result<RouteTable, Error> {
        let index = interface.index;
        Ok(self.run_on(0, async move { RouteTable::start_by(index, access).await }).await??)
    }
}

fn no_such_queues(builder: &StackBuilder, interface: &Interface) -> DriverError {
    let (first, there_are) = (builder.queues.start, interface.queues.rx);
    let why = format!("{} has {there_are} queues, and queue {first} is the first wanted", interface.name);
    DriverError::Unsupported { what: "AF_XDP on these queues", why }
}

/// Whether AF_XDP may be had later: a helper that starts after us or whose interface somebody else leases, or a program
/// that another process will take off. Missing rights stay missing.
fn may_come(builder: &StackBuilder, error: &DriverError) -> bool {
    let waits = matches!(error, DriverError::Helper { .. } | DriverError::ProgramPresent { .. });
    // Rules keep packets out: without a program they would come in.
    waits && !builder.require_xdp && builder.rules.is_none()
}
