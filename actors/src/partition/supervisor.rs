//! The supervisor of a partition's actors.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use wirepath_quic::{
    CidGenerator, Connect, ConnectError, Endpoint, EndpointSettings, NetPath, Random, Role, TransportConfig,
    VERSION_1, VarInt,
};
use wirepath_trace::BatchClock;

use crate::{
    clock::timestamp,
    connection::{Connection, ConnectionParts},
    demux::{Demux, DemuxMessage},
    egress::Egress,
    kit::{Actor, ChildExit, Context, Crew, ExitCause, Mailbox, MemberFailure, Slot, StopReason},
    link::{Command, ConnectionLink},
    listener::{AcceptRouter, Listener, ListenerMessage},
    nic_queue::{NicQueue, NicQueueMessage, QueueParts},
    partition::PartitionLoad,
    pool_shard::SocketLease,
    tables::{Socket, Tables},
    timers::Timers,
    tokens::TokenSink,
};

/// What a partition's supervisor understands.
#[derive(Debug)]
pub enum PartitionMessage {
    /// Open a connection.
    Connect(Box<ConnectRequest>),
    /// Listen on this partition.
    Listen(Box<ListenRequest>),
    /// Serve a socket's next clients with these protocols and certificates.
    Configure(Arc<Socket>, wirepath_quic::tls::ServerConfig, oneshot::Sender<()>),
    /// Stop listening on a socket.
    Unlisten(Arc<Socket>),
    /// Serve an RSS queue.
    Serve(Box<QueueParts>, oneshot::Sender<Mailbox<NicQueueMessage>>),
    /// A connection failed.
    Failed(MemberFailure),
}

/// A connection to open.
#[derive(Debug)]
pub struct ConnectRequest {
    /// Settings.
    pub transport: Arc<TransportConfig>,
    /// TLS.
    pub tls: wirepath_quic::tls::ClientConfig,
    /// Whom to expect.
    pub server_name: String,
    /// Address tokens of earlier connections, and for later ones.
    pub tokens: TokenSink,
    /// Makes the local CIDs.
    pub cids: Arc<dyn CidGenerator>,
    /// The addresses.
    pub path: NetPath,
    /// The local socket.
    pub socket: Arc<SocketLease>,
    /// The device to send through.
    pub via: Arc<Egress>,
    /// Gets the link as soon as the connection's actor runs.
    pub reply: oneshot::Sender<Result<Arc<ConnectionLink>, ConnectError>>,
}

/// A listener to start.
#[derive(Debug)]
pub struct ListenRequest {
    /// Makes the endpoint rules, anew for each life of the listener.
    pub endpoint: EndpointPlan,
    /// The local socket.
    pub socket: Arc<SocketLease>,
    /// Who gets the connections.
    pub accept: Arc<AcceptRouter>,
    /// Told when it listens.
    pub reply: oneshot::Sender<()>,
}

/// What endpoint rules are made from.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    /// Settings of the connections.
    pub transport: Arc<TransportConfig>,
    /// TLS.
    pub tls: wirepath_quic::tls::ServerConfig,
    /// Makes the local CIDs and reset tokens.
    pub cids: Arc<dyn CidGenerator>,
    /// Rules and limits. All partitions and lives of a listener share the token key: a token given by one is
    /// good at any.
    pub settings: EndpointSettings,
}

impl EndpointPlan {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.transport.clone(), self.tls.clone(), self.cids.clone())
            .with_settings(self.settings.clone())
    }
}

/// What a partition is made of.
#[derive(Debug, Clone)]
pub struct PartitionParts {
    /// Its number.
    pub index: usize,
    /// The stack's tables.
    pub tables: Arc<Tables>,
    /// Its timers.
    pub timers: Arc<Timers>,
    /// How far it is behind.
    pub load: Arc<PartitionLoad>,
    /// Where its devices find its demux.
    pub demux: Arc<Slot<DemuxMessage>>,
    /// How long its devices poll on without packets before they sleep.
    pub spin: Duration,
    /// Whether the demux verifies UDP checksums of packets that came through AF_XDP.
    pub verify_checksums: bool,
}

/// The supervisor of a partition, as an actor.
#[derive(Debug)]
pub struct PartitionSupervisor {
    parts: PartitionParts,
    demux: Option<Mailbox<DemuxMessage>>,
    listeners: Vec<Listening>,
    /// The connections, once it has started.
    crew: Option<Crew<Connection>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug)]
struct Listening {
    plan: EndpointPlan,
    socket: Arc<SocketLease>,
    accept: Arc<AcceptRouter>,
    actor: Mailbox<ListenerMessage>,
}

impl PartitionSupervisor {
    /// The supervisor for a partition. It starts the demux with its first message or child's end.
    pub fn new(parts: PartitionParts) -> Self {
        Self { parts, demux: None, listeners: Vec::new(), crew: None, tasks: Vec::new() }
    }

    fn crew(&self) -> &Crew<Connection> {
        self.crew.as_ref().expect("a partition handles messages once it has started")
    }

    async fn start_demux(&mut self, cx: &Context<PartitionMessage>) -> Result<(), StopReason> {
        let parts = self.parts.clone();
        let demux = Demux::new(parts.index, parts.tables, parts.load, parts.verify_checksums);
        let mailbox = spawn(cx, self.parts.index.to_string(), demux).await?;
        self.parts.demux.fill(mailbox.clone());
        self.demux = Some(mailbox);
        Ok(())
    }

    fn connect(&mut self, request: ConnectRequest) {
        let ConnectRequest { transport, tls, server_name, tokens, cids, path, socket, via, reply } = request;
        let connect = Connect {
            config: transport.clone(),
            tls: &tls,
            server_name: &server_name,
            cids,
            path,
            version: transport.versions.first().copied().unwrap_or(VERSION_1),
            token: tokens.store.take(&tokens.server).unwrap_or_default(),
            random: Random::from_os(),
        };
        let quic = match wirepath_quic::Connection::connect(connect, timestamp(BatchClock::last())) {
            Ok(quic) => quic,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let link = Arc::new(ConnectionLink::new(Role::Client, path, &transport));
        if quic.sends_early_data() {
            link.on_early(Default::default());
        }
        let parts = ConnectionParts {
            quic,
            link: link.clone(),
            socket,
            via,
            tables: self.parts.tables.clone(),
            timers: self.parts.timers.clone(),
            accept: None,
            handshake: None,
            first: None,
            tokens: Some(tokens),
            home: (self.parts.index, self.parts.load.clone()),
        };
        if let Err(error) = self.crew().spawn(String::new(), Connection::new(parts)) {
            // The link is closed by the actor's `Drop`; whoever waits on it learns so.
            tracing::warn!(%error, "a connection could not be started");
        }
        if let Err(Ok(link)) = reply.send(Ok(link)) {
            // Whoever asked has gone.
            link.command(Command::Close(VarInt::from_u8(0), Default::default()));
        }
    }

    async fn listen(
        &mut self,
        cx: &Context<PartitionMessage>,
        request: ListenRequest,
    ) -> Result<(), StopReason> {
        let ListenRequest { endpoint: plan, socket, accept, reply } = request;
        let actor = self.raise_listener(cx, &plan, &socket, &accept).await?;
        self.listeners.push(Listening { plan, socket, accept, actor });
        // Whoever asked has gone: it unbinds the socket, which stops the listener.
        let _ = reply.send(());
        Ok(())
    }

    async fn raise_listener(
        &self,
        cx: &Context<PartitionMessage>,
        plan: &EndpointPlan,
        socket: &Arc<SocketLease>,
        accept: &Arc<AcceptRouter>,
    ) -> Result<Mailbox<ListenerMessage>, StopReason> {
        let listener = Listener {
            endpoint: plan.endpoint(),
            transport: plan.transport.clone(),
            socket: socket.clone(),
            tables: self.parts.tables.clone(),
            timers: self.parts.timers.clone(),
            index: self.parts.index,
            load: self.parts.load.clone(),
            accept: accept.clone(),
            crew: self.crew().clone(),
        };
        let actor = spawn(cx, socket.claim.local.to_string(), listener).await?;
        if let Some(slots) = socket.listeners.get() {
            slots[self.parts.index % slots.len()].fill(actor.clone());
        }
        Ok(actor)
    }

    fn configure(
        &mut self,
        socket: &Arc<Socket>,
        tls: wirepath_quic::tls::ServerConfig,
        reply: oneshot::Sender<()>,
    ) {
        let found = self.listeners.iter_mut().find(|it| Arc::ptr_eq(&**it.socket, socket));
        let Some(listening) = found else { return };
        listening.plan.tls = tls.clone();
        // One that failed comes back with the new plan.
        let _ = listening.actor.send(ListenerMessage::Configure(tls, reply));
    }

    fn unlisten(&mut self, socket: &Arc<Socket>) {
        if let Some(slots) = socket.listeners.get() {
            slots[self.parts.index % slots.len()].clear();
        }
        self.listeners.retain(|listening| {
            let keep = !Arc::ptr_eq(&**listening.socket, socket);
            if !keep {
                listening.actor.stop();
            }
            keep
        });
    }

    /// A listener that failed starts again on the same port.
    async fn restart_listener(&mut self, cx: &Context<PartitionMessage>, n: usize) -> Result<(), StopReason> {
        let Listening { plan, socket, accept, .. } = self.listeners.swap_remove(n);
        tracing::warn!(local = %socket.claim.local, "the listener failed and is started again");
        let actor = self.raise_listener(cx, &plan, &socket, &accept).await?;
        self.listeners.push(Listening { plan, socket, accept, actor });
        Ok(())
    }
}

/// Starts a child; a runtime that starts none is shutting down.
async fn spawn<M: Send + 'static, A: Actor>(
    cx: &Context<M>,
    name: String,
    actor: A,
) -> Result<Mailbox<A::Message>, StopReason> {
    cx.spawn(name, actor).await.map_err(|error| StopReason::Failed(error.to_string()))
}

impl Actor for PartitionSupervisor {
    type Message = PartitionMessage;
    const KIND: &'static str = "partition";
    const CREDIT: u32 = u32::MAX;

    fn started(&mut self, cx: &Context<PartitionMessage>) {
        let (timers, supervisor) = (self.parts.timers.clone(), cx.myself().clone());
        let crew = Crew::new(cx.registry().clone(), supervisor.id(), move |failure| {
            // A partition that has ended takes its connections with it.
            let _ = supervisor.send(PartitionMessage::Failed(failure));
        });
        self.tasks = vec![tokio::spawn(async move { timers.run().await }), tokio::spawn(crew.run())];
        self.crew = Some(crew);
    }

    async fn handle(
        &mut self,
        cx: &Context<PartitionMessage>,
        message: PartitionMessage,
    ) -> Result<(), StopReason> {
        if self.demux.is_none() {
            self.start_demux(cx).await?;
        }
        match message {
            PartitionMessage::Connect(request) => self.connect(*request),
            PartitionMessage::Listen(request) => self.listen(cx, *request).await?,
            PartitionMessage::Configure(socket, tls, reply) => self.configure(&socket, tls, reply),
            PartitionMessage::Unlisten(socket) => self.unlisten(&socket),
            PartitionMessage::Serve(parts, reply) => {
                let name = parts.name();
                let queue = spawn(cx, name, NicQueue::new(*parts, self.parts.clone())).await?;
                // Whoever asked has gone: the queue ends with the partition.
                let _ = reply.send(queue);
            }
            PartitionMessage::Failed(MemberFailure { actor, why }) => {
                // It never restarts: its `Drop` has unbound it, and the peer's next packet meets a stateless reset.
                tracing::error!(actor, why, partition = self.parts.index, "a connection failed");
            }
        }
        Ok(())
    }

    async fn child_exited(
        &mut self,
        cx: &Context<PartitionMessage>,
        exit: ChildExit,
    ) -> Result<(), StopReason> {
        if self.demux.as_ref().is_some_and(|demux| demux.is(exit.child)) {
            self.parts.demux.clear();
            tracing::warn!(?exit, partition = self.parts.index, "the demux ended and is started again");
            return self.start_demux(cx).await;
        }
        if let Some(n) = self.listeners.iter().position(|listening| listening.actor.is(exit.child)) {
            return self.restart_listener(cx, n).await;
        }
        if let ExitCause::Failed(why) = exit.cause {
            tracing::error!(why, partition = self.parts.index, "an actor failed");
        }
        Ok(())
    }
}

impl Drop for PartitionSupervisor {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
    }
}
