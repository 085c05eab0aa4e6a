//! The pool shard actor: owns a slice of the socket pool.
//!
//! Binding reserves the port with an OS UDP socket, starts that socket's device, has the NICs redirect the
//! port to their XSKs, and enters the socket in the pool. Unbinding takes all of it back.

use std::{
    net::SocketAddr,
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
    tables::Socket,
};

/// Slices of the socket pool. Binding is rare; a few are enough that a slow bind (a busy port, a NIC changing
/// its rules) holds up few others.
pub const POOL_SHARDS: usize = 4;

/// What a pool shard understands.
#[derive(Debug)]
pub enum PoolShardMessage {
    /// Bind a local address; port 0 chooses a free one.
    Bind(SocketAddr, oneshot::Sender<Result<Arc<SocketLease>, DriverError>>),
    /// Give it back. [`SocketLease`] sends this.
    Unbind(Arc<Socket>),
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
    _reservation: PortReservation,
    device: Mailbox<DeviceMessage>,
}

impl PoolShard {
    async fn bind(
        &mut self,
        cx: &Context<PoolShardMessage>,
        addr: SocketAddr,
    ) -> Result<Arc<SocketLease>, DriverError> {
        let reservation = PortReservation::udp(addr)?;
        let local = reservation.local_addr();
        let driver = OsUdp::new(reservation.socket()?, OsUdpOptions::default())?;
        let options = DeviceOptions {
            demux: self.partition.demux.clone(),
            timers: self.partition.timers.clone(),
            spin: self.os_udp_spin,
            tracer: self.partition.tables.tracer.clone(),
        };
        let (device, egress, report) = Device::new(driver, options);
        let device = cx
            .spawn(format!("udp {local}"), device)
            .await
            .map_err(|error| DriverError::Gone(error.to_string()))?;
        let socket = Arc::new(Socket::new(local));
        if let Some(egress) = egress.get() {
            egress.bind(local.port());
            let _ = socket.os.set(egress.clone());
        }
        for nic in &self.nics {
            if let Err(error) = redirect(nic, local.port()).await {
                device.stop();
                return Err(error);
            }
        }
        socket.set_report(report);
        self.partition.tables.sockets.insert(socket.clone());
        self.bound.push(Bound { socket: socket.clone(), _reservation: reservation, device });
        let shard = Some(cx.myself().clone());
        Ok(Arc::new(SocketLease { socket, shard, companions: OnceLock::new() }))
    }

    fn unbind(&mut self, socket: &Arc<Socket>) {
        self.partition.tables.sockets.remove(socket);
        for nic in &self.nics {
            // A NIC that has gone redirects nothing.
            let _ = nic.send(NicMessage::Release(socket.local.port()));
        }
        self.bound.retain(|bound| {
            let keep = !Arc::ptr_eq(&bound.socket, socket);
            if !keep {
                bound.device.stop();
            }
            keep
        });
    }
}

async fn redirect(nic: &Mailbox<NicMessage>, port: u16) -> Result<(), DriverError> {
    let (reply, answer) = oneshot::channel();
    let _ = nic.send(NicMessage::Redirect(port, reply));
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
            PoolShardMessage::Bind(addr, reply) => {
                // If nobody waits for it any more, the lease goes, and with it the port.
                drop(reply.send(self.bind(cx, addr).await));
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
        if let Some(bound) = self.bound.iter().find(|bound| bound.device.is(exit.child)) {
            tracing::error!(local = %bound.socket.local, cause = ?exit.cause, "an OS UDP socket failed");
        }
        Ok(())
    }
}
