//! The pool shard actor: owns a slice of the socket pool.
//!
//! Binding reserves the port with the operating system's own sockets (UDP, for QTIP also TCP), starts the UDP
//! socket's device, has the NICs redirect the socket's packets to their XSKs, and enters the socket in the pool.
//! Unbinding takes all of it back. A port that processes share by what connection IDs carry (CIBIR, QUIC-LB) has no socket of the
//! operating system: the first of them would keep the others out.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use tokio::sync::oneshot;
use wirepath_drivers::{DriverError, OsUdp, OsUdpOptions, PortReservation};

use crate::{
    device::{Device, DeviceMessage, DeviceOptions},
    kit::{Actor, ChildExit, Context, Mailbox, StopReason},
    nic::NicMessage,
    partition::PartitionParts,
    tables::{Carriers, Claim, Socket},
};

/// Slices of the socket pool. Binding is rare; a few are enough that a slow bind (a busy port, a NIC changing
/// its rules) holds up few others.
pub const POOL_SHARDS: usize = 4;

/// What a pool shard understands.
#[derive(Debug)]
pub enum PoolShardMessage {
    /// Bind a socket.
    Bind(BindRequest, oneshot::Sender<Result<Arc<SocketLease>, DriverError>>),
    /// Give it back. [`SocketLease`] sends this.
    Unbind(Arc<Socket>),
}

/// A socket to bind.
#[derive(Clone, Copy, Debug)]
pub struct BindRequest {
    /// What to; port 0 chooses a free one. A shared port must be named.
    pub claim: Claim,
    /// Bytes of the connection IDs that will lead to it.
    pub cid_len: usize,
}

/// Holds a socket bound. When the last listener and connection that share it are gone, the port is free again.
#[derive(Debug)]
pub struct SocketLease {
    socket: Arc<Socket>,
    shard: Option<Mailbox<PoolShardMessage>>,
    companions: OnceLock<Box<[Arc<SocketLease>]>>,
}

impl SocketLease {
    /// Holds a socket that no port of the operating system belongs to: one of an in-memory network.
    pub fn without_port(socket: Arc<Socket>) -> Self {
        Self { socket, shard: None, companions: OnceLock::new() }
    }

    /// Holds other sockets bound as long as this one: those of a server's preferred addresses (RFC 9000 §9.6), where
    /// its connections go on.
    pub fn accompany(&self, companions: Vec<Arc<SocketLease>>) {
        // Once, when the listener starts.
        let _ = self.companions.set(companions.into());
    }
}

impl Deref for SocketLease {
    type Target = Arc<Socket>;

    fn deref(&self) -> &Arc<Socket> {
        &self.socket
    }
}

impl Drop for SocketLease {
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            // A shard that has ended holds no port.
            let _ = shard.send(PoolShardMessage::Unbind(self.socket.clone()));
        }
    }
}

/// One slice of the socket pool, as an actor.
#[derive(Debug)]
pub struct PoolShard {
    /// The partition its OS UDP devices run on.
    pub partition: PartitionParts,
    /// The NICs that redirect to us.
    pub nics: Vec<Mailbox<NicMessage>>,
    /// How long an OS UDP device polls on before it sleeps.
    pub os_udp_spin: std::time::Duration,
    /// What it has bound.
    pub bound: Vec<Bound>,
}

/// A bound socket, as its shard keeps it.
#[derive(Debug)]
pub struct Bound {
    socket: Arc<Socket>,
    /// None on a shared port.
    _reservation: Option<PortReservation>,
    /// The OS UDP socket's, where there is one.
    device: Option<Mailbox<DeviceMessage>>,
}

impl PoolShard {
    async fn bind(
        &mut self,
        cx: &Context<PoolShardMessage>,
        request: BindRequest,
    ) -> Result<Arc<SocketLease>, DriverError> {
        let BindRequest { mut claim, cid_len } = request;
        self.check(&claim)?;
        let reservation = if claim.is_shared() { None } else { Some(reserve(&claim)?) };
        if let Some(reservation) = &reservation {
            claim.local = reservation.local_addr();
        }
        let socket = Arc::new(Socket::new(claim).with_cid_len(cid_len));
        let device = match &reservation {
            Some(reservation) if claim.carriers.udp => Some(self.start_udp(cx, &socket, reservation).await?),
            _ => None,
        };
        if let Err(error) = self.publish(&socket).await {
            if let Some(device) = device {
                device.stop();
            }
            return Err(error);
        }
        self.bound.push(Bound { socket: socket.clone(), _reservation: reservation, device });
        let shard = Some(cx.myself().clone());
        Ok(Arc::new(SocketLease { socket, shard, companions: OnceLock::new() }))
    }

    /// What can't work is refused before anything is touched.
    fn check(&self, claim: &Claim) -> Result<(), DriverError> {
        let refused = |what, why: &str| Err(DriverError::Unsupported { what, why: why.into() });
        if claim.is_shared() && claim.local.port() == 0 {
            return refused("a shared port 0", "name the port that the identifiers share");
        }
        if claim.is_shared() && claim.carriers.tcp {
            return refused(
                "a shared port with QTIP",
                "TCP's handshake carries no identifier to share a port by",
            );
        }
        if self.nics.is_empty() && claim.is_shared() {
            return refused(
                "a shared port",
                "only XDP rules can share a port; build the stack on an interface",
            );
        }
        if self.nics.is_empty() && claim.carriers.tcp {
            return refused(
                "QTIP",
                "it takes AF_XDP to speak past the kernel's TCP; build the stack on an interface",
            );
        }
        if claim.local.port() != 0 && self.partition.tables.sockets.is_taken(claim) {
            return Err(DriverError::PortInUse(claim.local));
        }
        Ok(())
    }

    async fn start_udp(
        &self,
        cx: &Context<PoolShardMessage>,
        socket: &Arc<Socket>,
        reservation: &PortReservation,
    ) -> Result<Mailbox<DeviceMessage>, DriverError> {
        let driver = OsUdp::new(reservation.socket()?, OsUdpOptions::default())?;
        let options = DeviceOptions {
            demux: self.partition.demux.clone(),
            timers: self.partition.timers.clone(),
            tables: self.partition.tables.clone(),
            spin: self.os_udp_spin,
            tracer: self.partition.tables.tracer.clone(),
        };
        let (device, egress, report) = Device::new(driver, options);
        let device = cx
            .spawn(format!("udp {}", socket.claim.local), device)
            .await
            .map_err(|error| DriverError::Gone(error.to_string()))?;
        if let Some(egress) = egress.get() {
            egress.bind(socket.claim.local.port());
            let _ = socket.os.set(egress.clone());
        }
        socket.set_report(report);
        Ok(device)
    }

    /// Has the socket's packets come, and be found. All or nothing.
    async fn publish(&self, socket: &Arc<Socket>) -> Result<(), DriverError> {
        for (at, nic) in self.nics.iter().enumerate() {
            if let Err(error) = redirect(nic, socket.claim).await {
                self.release(&self.nics[..at], &socket.claim);
                return Err(error);
            }
        }
        if !self.partition.tables.sockets.insert(socket.clone()) {
            self.release(&self.nics, &socket.claim);
            return Err(DriverError::PortInUse(socket.claim.local));
        }
        Ok(())
    }

    fn release(&self, nics: &[Mailbox<NicMessage>], claim: &Claim) {
        for nic in nics {
            // A NIC that has gone redirects nothing.
            let _ = nic.send(NicMessage::Release(*claim));
        }
    }

    fn unbind(&mut self, socket: &Arc<Socket>) {
        self.partition.tables.sockets.remove(socket);
        self.release(&self.nics, &socket.claim);
        self.bound.retain(|bound| {
            let keep = !Arc::ptr_eq(&bound.socket, socket);
            if let Some(device) = bound.device.as_ref().filter(|_| !keep) {
                device.stop();
            }
            keep
        });
    }
}

fn reserve(claim: &Claim) -> Result<PortReservation, DriverError> {
    match claim.carriers {
        Carriers { udp: true, tcp: true } => PortReservation::udp_and_tcp(claim.local),
        Carriers { tcp: true, .. } => PortReservation::tcp(claim.local),
        _ => PortReservation::udp(claim.local),
    }
}

async fn redirect(nic: &Mailbox<NicMessage>, claim: Claim) -> Result<(), DriverError> {
    let (reply, answer) = oneshot::channel();
    let _ = nic.send(NicMessage::Redirect(claim, reply));
    answer.await.unwrap_or_else(|_| Err(DriverError::Gone("the NIC's actor has ended".into())))
}

impl Actor for PoolShard {
    type Message = PoolShardMessage;
    const KIND: &'static str = "pool_shard";
    const CREDIT: u32 = u32::MAX;

    async fn handle(
        &mut self,
        cx: &Context<PoolShardMessage>,
        message: PoolShardMessage,
    ) -> Result<(), StopReason> {
        match message {
            PoolShardMessage::Bind(request, reply) => {
                // If nobody waits for it any more, the lease goes, and with it the port.
                drop(reply.send(self.bind(cx, request).await));
            }
            PoolShardMessage::Unbind(socket) => self.unbind(&socket),
        }
        Ok(())
    }

    async fn child_exited(
        &mut self,
        _cx: &Context<PoolShardMessage>,
        exit: ChildExit,
    ) -> Result<(), StopReason> {
        if let Some(bound) =
            self.bound.iter().find(|bound| bound.device.as_ref().is_some_and(|it| it.is(exit.child)))
        {
            tracing::error!(local = %bound.socket.claim.local, cause = ?exit.cause, "an OS UDP socket failed");
        }
        Ok(())
    }
}
