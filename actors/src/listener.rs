//! The listener actor: owns what has no connection yet.
//!
//! Datagrams no connection claims come here: first packets of new connections, versions we don't speak,
//! leftovers of connections long gone. The endpoint rules decide; new connections get an actor of their own.

mod accept;

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::oneshot;
use wirepath_drivers::TxDatagram;
use wirepath_quic::{Cid, Endpoint, Header, Role, TransportConfig, Unmatched, tls};
use wirepath_trace::{BatchClock, Passed, Stage};

pub use accept::{AcceptQueue, AcceptRouter, AcceptSink, Handler};

use crate::{
    clock::timestamp,
    connection::{Connection, ConnectionMessage, ConnectionParts},
    demux::{Datagram, DatagramBatch},
    egress::Egress,
    kit::{Actor, Context, Crew, Mailbox, StopReason},
    link::ConnectionLink,
    partition::PartitionLoad,
    pool_shard::SocketLease,
    tables::Tables,
    timers::Timers,
    traced::Traced,
};

/// Unclaimed datagrams a listener holds at most. Under a flood the rest is dropped by the demux, by name,
/// while packets of connections pass.
const LISTENER_CREDIT: u32 = 2048;

/// Connections made from one batch before the partition's other actors get their turn. One takes as long as fifty packets of
/// data; were all of a batch made first, the device would send the answer to the first when the last is computed, and
/// the clients would have nothing to do meanwhile.
const ACCEPTED_AT_ONCE: usize = 4;

/// What a listener actor understands.
#[derive(Debug)]
pub enum ListenerMessage {
    /// Datagrams no connection claims.
    Datagrams(DatagramBatch),
    /// Serve the next clients with these protocols and certificates: a listener has joined the socket or left it.
    Configure(tls::ServerConfig, oneshot::Sender<()>),
}

/// What a listener actor is made of.
#[derive(Debug)]
pub struct Listener {
    /// The rules for packets of no connection.
    pub endpoint: Endpoint,
    /// Settings of its connections.
    pub transport: Arc<TransportConfig>,
    /// The local socket.
    pub socket: Arc<SocketLease>,
    /// The stack's tables.
    pub tables: Arc<Tables>,
    /// The partition's timers.
    pub timers: Arc<Timers>,
    /// The partition's number.
    pub index: usize,
    /// How far the partition is behind.
    pub load: Arc<PartitionLoad>,
    /// Who gets its connections.
    pub accept: Arc<AcceptRouter>,
    /// Runs its connections, which outlive it.
    pub crew: Crew<Connection>,
}

impl Listener {
    async fn on_datagrams(&mut self, cx: &Context<ListenerMessage>, batch: DatagramBatch) {
        let DatagramBatch { datagrams, via, received_at, partition, mut traced } = batch;
        let (begun, count) = (BatchClock::last(), datagrams.len());
        let mut accepted = 0;
        for (place, datagram) in datagrams.into_iter().enumerate() {
            let mut journey = Traced::default();
            if let Some(mut it) = traced.take(place) {
                it.hop(Stage::Listener, cx.myself().id(), begun, BatchClock::read(), count);
                journey.push(0, it);
            }
            // A batch may hold several packets of a connection that its first one made.
            if let Some(connection) = self.claimed(&datagram) {
                let batch = DatagramBatch {
                    datagrams: vec![datagram],
                    via: via.clone(),
                    received_at,
                    partition,
                    traced: journey,
                };
                cx.myself().meter().on_passed(Passed::Up, 1);
                if connection.send_data(ConnectionMessage::Datagrams(batch), 1).is_err() {
                    self.tables.drops.count("binding_backlog_dropped");
                }
                continue;
            }
            if self.on_unmatched(cx, datagram, &via, received_at, journey) {
                accepted += 1;
                if accepted % ACCEPTED_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// The connection that claims a datagram by now.
    fn claimed(&self, datagram: &Datagram) -> Option<Mailbox<ConnectionMessage>> {
        let header = wirepath_quic::classify(datagram.payload.as_slice(), self.socket.cid_len).ok()?;
        let cid = Cid::new(header.dcid())?;
        if let Some(owner) = self.tables.connections.get(&cid) {
            return Some(owner.clone());
        }
        let key = handshake_key(&header, datagram)?;
        self.tables.handshakes.get(&key).map(|owner| owner.clone())
    }

    /// Answers a datagram, makes a connection of it, or drops it. Returns whether it made one.
    fn on_unmatched(
        &mut self,
        cx: &Context<ListenerMessage>,
        mut datagram: Datagram,
        via: &Arc<Egress>,
        received_at: u64,
        mut traced: Traced,
    ) -> bool {
        let now = timestamp(received_at);
        // Without memory for an answer there is none; the peer will ask again.
        let Some(mut response) = via.lease(1) else {
            self.tables.drops.count("response_unleased_dropped");
            traced.finish("response_unleased_dropped");
            return false;
        };
        let payload = datagram.payload.as_mut_slice();
        match self.endpoint.on_unmatched(now, datagram.path, payload, response.as_mut_slice()) {
            Unmatched::Respond { len } => {
                response.truncate(len);
                response.hold(cx.myself().id() as u32);
                let answer = TxDatagram {
                    local: datagram.path.local,
                    remote: datagram.path.remote,
                    ecn: wirepath_drivers::Ecn::NotEct,
                    segment_size: None,
                    tcp: None,
                    buf: response,
                };
                cx.myself().meter().on_passed(Passed::Down, 1);
                let _ = via.send(vec![answer], Traced::default());
                traced.finish("answered");
                false
            }
            Unmatched::Accept(_) if self.load.is_overloaded() => {
                self.tables.drops.count("partition_overloaded_dropped");
                traced.finish("partition_overloaded_dropped");
                false
            }
            Unmatched::Accept(incoming) => {
                drop(response);
                match self.endpoint.accept(now, incoming) {
                    Ok(quic) => {
                        let batch = DatagramBatch {
                            datagrams: vec![datagram],
                            via: via.clone(),
                            received_at,
                            partition: self.index,
                            traced,
                        };
                        self.raise(cx, quic, batch)
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection could not be made");
                        self.tables.drops.count("connection_refused_dropped");
                        traced.finish("connection_refused_dropped");
                        false
                    }
                }
            }
            Unmatched::Drop(cause) => {
                self.tables.drops.count(cause.name());
                traced.finish(cause.name());
                false
            }
        }
    }

    /// Starts the actor of a new connection with the datagram that made it. Returns whether it could.
    fn raise(
        &mut self,
        cx: &Context<ListenerMessage>,
        quic: wirepath_quic::Connection,
        first: DatagramBatch,
    ) -> bool {
        let Some(datagram) = first.datagrams.first() else { return false };
        let link = Arc::new(ConnectionLink::new(Role::Server, datagram.path, &self.transport));
        let header = wirepath_quic::classify(datagram.payload.as_slice(), self.socket.cid_len);
        let handshake = header.ok().and_then(|header| handshake_key(&header, datagram));
        let parts = ConnectionParts {
            quic,
            link,
            socket: self.socket.clone(),
            via: first.via.clone(),
            tables: self.tables.clone(),
            timers: self.timers.clone(),
            accept: Some(self.accept.clone()),
            handshake,
            first: Some(first),
            tokens: None,
            home: (self.index, self.load.clone()),
        };
        match self.crew.spawn(String::new(), Connection::new(parts)) {
            Ok(_) => {
                cx.myself().meter().on_passed(Passed::Up, 1);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be started");
                self.tables.drops.count("connection_unstarted_dropped");
                false
            }
        }
    }
}

/// What a client's long headers have in common, whatever destination CID they carry.
fn handshake_key(header: &Header<'_>, datagram: &Datagram) -> Option<(SocketAddr, Cid)> {
    let Header::Long(long) = header else { return None };
    Some((datagram.path.remote, Cid::new(long.scid)?))
}

impl Actor for Listener {
    type Message = ListenerMessage;
    const KIND: &'static str = "listener";
    const CREDIT: u32 = LISTENER_CREDIT;
    const MESSAGES: &'static [&'static str] = &["datagrams", "configure"];

    fn message_kind(message: &ListenerMessage) -> usize {
        match message {
            ListenerMessage::Datagrams(_) => 0,
            ListenerMessage::Configure(..) => 1,
        }
    }

    fn items(message: &ListenerMessage) -> Option<u32> {
        Some(match message {
            ListenerMessage::Datagrams(batch) => batch.datagrams.len() as u32,
            ListenerMessage::Configure(..) => 0,
        })
    }

    async fn handle(
        &mut self,
        cx: &Context<ListenerMessage>,
        message: ListenerMessage,
    ) -> Result<(), StopReason> {
        match message {
            ListenerMessage::Datagrams(batch) => self.on_datagrams(cx, batch).await,
            ListenerMessage::Configure(tls, reply) => {
                self.endpoint.set_tls(tls);
                // Whoever leaves a socket does not wait.
                let _ = reply.send(());
            }
        }
        Ok(())
    }
}
