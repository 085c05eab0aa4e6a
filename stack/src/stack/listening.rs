//! Listening: the listeners that share a socket, told apart by their application protocols.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use wirepath_actors::{
    listener::{AcceptRouter, AcceptSink},
    partition::{EndpointPlan, ListenRequest, PartitionMessage},
    pool_shard::SocketLease,
    tables::{Carriers, Claim},
};
use wirepath_drivers::DriverError;
use wirepath_quic::{CidGenerator, QuicLb, TransportConfig, quic_lb::QuicLbCids, reset::ResetKey, tls};

use super::Inner;
use crate::{Error, ServerConfig};

/// The TLS settings of one listener, and who gets its connections.
type Member = (tls::ServerConfig, Arc<AcceptSink>);

/// Listeners that share a socket.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) socket: Arc<SocketLease>,
    transport: Arc<TransportConfig>,
    quic_lb: Option<QuicLb>,
    router: Arc<AcceptRouter>,
    /// In the order they came: the first whose protocol a client offers gets it.
    members: Mutex<Vec<Member>>,
}

impl Inner {
    /// Adds a listener to those of its address, or makes the first.
    pub(super) async fn listen(
        &self,
        addr: SocketAddr,
        config: ServerConfig,
    ) -> Result<(Arc<Shared>, Arc<AcceptSink>), Error> {
        let claim = config.claim(addr)?;
        // Held throughout, so that of two first listeners one is.
        let mut listening = self.listening.lock().await;
        listening.retain(|shared| shared.strong_count() > 0);
        let same = |shared: &Arc<Shared>| shared.socket.claim == claim;
        let sink = Arc::new(AcceptSink::default());
        if let Some(shared) = listening.iter().filter_map(Weak::upgrade).find(same)
            && let Some(configured) = self.join(&shared, &config, &sink)?
        {
            for partition in configured {
                // One whose actor has ended serves nobody.
                let _ = partition.await;
            }
            return Ok((shared, sink));
        }
        let shared = Arc::new(self.listen_first(claim, config, &sink).await?);
        listening.push(Arc::downgrade(&shared));
        Ok((shared, sink))
    }

    /// Adds a listener to others; tells when each partition knows. `None` if the last of the others has just left.
    fn join(
        &self,
        shared: &Arc<Shared>,
        config: &ServerConfig,
        sink: &Arc<AcceptSink>,
    ) -> Result<Option<Vec<oneshot::Receiver<()>>>, Error> {
        let mut members = shared.members.lock();
        if members.is_empty() {
            return Ok(None);
        }
        let local = shared.socket.claim.local;
        if *shared.transport != *config.transport || shared.quic_lb != config.quic_lb {
            return Err(Error::SettingsDiffer(local));
        }
        if !shared.router.add(config.tls.protocols().to_vec(), sink.clone()) {
            return Err(Error::ProtocolInUse(local));
        }
        members.push((config.tls.clone(), sink.clone()));
        Ok(Some(self.configure(shared, &members)))
    }

    async fn listen_first(
        &self,
        claim: Claim,
        config: ServerConfig,
        sink: &Arc<AcceptSink>,
    ) -> Result<Shared, Error> {
        let cids: Arc<dyn CidGenerator> = match &config.quic_lb {
            Some(server) => Arc::new(QuicLbCids::new(server.clone(), ResetKey::random())),
            None => self.cids_of(config.cibir),
        };
        let socket = self.bind(claim, cids.len()).await?;
        let slots = self.partitions.iter().map(|_| Default::default()).collect();
        socket.listeners.set(slots).expect("a fresh socket has no listener");
        let router = Arc::new(AcceptRouter::default());
        router.add(config.tls.protocols().to_vec(), sink.clone());
        let plan = EndpointPlan {
            transport: config.transport.clone(),
            tls: config.tls.clone(),
            cids,
            settings: config.endpoint.clone(),
        };
        socket.accompany(self.bind_preferred(&config.transport, &socket).await?);
        for partition in &self.partitions {
            let (reply, listens) = oneshot::channel();
            let request = ListenRequest {
                endpoint: plan.clone(),
                socket: socket.clone(),
                accept: router.clone(),
                reply,
            };
            partition.send(PartitionMessage::Listen(Box::new(request))).map_err(|_| Error::Closed)?;
            listens.await.map_err(|_| Error::Closed)?;
        }
        let members = Mutex::new(vec![(config.tls, sink.clone())]);
        Ok(Shared { socket, transport: config.transport, quic_lb: config.quic_lb, router, members })
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
        for address in [v4, v6].into_iter().flatten().filter(|address| !own.claim.covers(*address)) {
            let claim = Claim { local: address, ..own.claim };
            leases.push(self.bind(claim, own.cid_len).await?);
        }
        Ok(leases)
    }

    /// Takes a listener out; with the last, the address is no longer listened on.
    pub(crate) fn unlisten(&self, shared: &Arc<Shared>, sink: &Arc<AcceptSink>) {
        shared.router.remove(sink);
        let mut members = shared.members.lock();
        members.retain(|(_, other)| !Arc::ptr_eq(other, sink));
        self.configure(shared, &members);
    }

    /// Tells the partitions what to serve from now on. Actors that have ended have nothing to serve. The members stay
    /// locked meanwhile, so that what was told last is what holds.
    fn configure(&self, shared: &Arc<Shared>, members: &[Member]) -> Vec<oneshot::Receiver<()>> {
        let parts: Vec<_> = members.iter().map(|(tls, _)| tls.clone()).collect();
        let tls = tls::ServerConfig::joined(&parts);
        let mut configured = Vec::new();
        for partition in &self.partitions {
            let socket = (**shared.socket).clone();
            let (reply, known) = oneshot::channel();
            let _ = partition.send(match &tls {
                Some(tls) => PartitionMessage::Configure(socket, tls.clone(), reply),
                None => PartitionMessage::Unlisten(socket),
            });
            configured.push(known);
        }
        configured
    }
}

impl ServerConfig {
    fn claim(&self, addr: SocketAddr) -> Result<Claim, Error> {
        let refused = |what, why: &str| Err(DriverError::Unsupported { what, why: why.into() }.into());
        if self.quic_lb.is_some() && self.cibir.is_some() {
            return refused("QUIC-LB with CIBIR", "both say what connection IDs are made of; choose one");
        }
        let server = match (&self.quic_lb, self.shares_port) {
            (_, false) => None,
            (Some(server), true) => match server.prefix() {
                None => {
                    let why = "XDP rules can't read encrypted server IDs; use QuicLb::plain";
                    return refused("a port shared by encrypted QUIC-LB", why);
                }
                prefix => prefix,
            },
            // That is what CIBIR is for.
            (None, true) if self.cibir.is_some() => None,
            (None, true) => {
                let why = "nothing in its connection IDs tells whose they are; set quic_lb or cibir";
                return refused("a shared port", why);
            }
        };
        let carriers = if self.qtip { Carriers::BOTH } else { Carriers::UDP };
        Ok(Claim { carriers, cibir: self.cibir, server, ..Claim::udp(addr) })
    }
}
