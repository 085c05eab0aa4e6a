//! The operating system's UDP sockets as a device: batches, GSO, GRO, ECN and true destination addresses, through
//! `quinn-udp`.

mod options;
mod receive;
mod sys;
mod transmit;
mod tx_pool;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use quinn_udp::UdpSocketState;

pub use options::OsUdpOptions;
use receive::Receiver;
use transmit::{Merged, TxDrops};
pub use tx_pool::HeapTxPool;

use crate::{
    DataPath, Driver, DriverError, DriverStats, DriverStatus, RxPacket, TxDatagram, TxPool, TxProgress,
};

/// One UDP socket of the operating system.
///
/// A socket bound to an IPv6 wildcard address serves both families, and addresses handed up are IPv4 where the
/// packet was. The device sends synchronously: what it takes is in the kernel's hands when
/// [`transmit`](Driver::transmit) returns. After [`TxProgress::Blocked`] its descriptor polls writable once the
/// kernel takes more.
pub struct OsUdp {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// The socket is IPv6 and may carry IPv4 as mapped addresses.
    dual_stack: bool,
    /// The source address the kernel uses unasked; `None` where the socket is bound to a wildcard.
    bound_ip: Option<IpAddr>,
    segmentation: bool,
    max_udp_payload: u16,
    reason: String,
    receiver: Receiver,
    tx_pool: Arc<HeapTxPool>,
    /// Where single datagrams are put together to a train.
    merged: Vec<u8>,
    stats: DriverStats,
    drops: TxDrops,
}

impl OsUdp {
    /// Takes over a bound socket (or a clone of one that a [`crate::PortReservation`] holds).
    ///
    /// # Errors
    /// [`DriverError::Io`] when the socket is unbound or refuses a needed option.
    pub fn new(socket: UdpSocket, options: OsUdpOptions) -> Result<Self, DriverError> {
        let local =
            socket.local_addr().map_err(|source| DriverError::Io { what: "UDP socket address", source })?;
        let state = sys::configure(&socket)?;
        sys::grow_buffers(&socket, options.receive_buffer, options.send_buffer);
        let max_segments = state.max_gso_segments();
        let dual_stack = local.is_ipv6() && !sys::only_v6(&socket);
        Ok(Self {
            local,
            dual_stack,
            bound_ip: (!local.ip().is_unspecified()).then(|| local.ip().to_canonical()),
            segmentation: options.segmentation && max_segments > 1,
            max_udp_payload: options.max_udp_payload,
            reason: options.reason,
            receiver: Receiver::new(local),
            tx_pool: Arc::new(HeapTxPool::new(options.max_udp_payload.into(), max_segments)),
            merged: Vec::new(),
            stats: DriverStats::default(),
            drops: TxDrops::default(),
            socket,
            state,
        })
    }

    /// The address the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Driver for OsUdp {
    fn receive(&mut self, into: &mut Vec<RxPacket>, max: usize) -> Result<usize, DriverError> {
        let (packets, bytes) = self.receiver.receive(&self.state, &self.socket, into, max)?;
        self.stats.rx_packet_received += packets as u64;
        self.stats.rx_byte_received += bytes as u64;
        Ok(packets)
    }

    fn transmit(&mut self, queue: &mut VecDeque<TxDatagram>) -> Result<TxProgress, DriverError> {
        let mut singly = 0;
        while let Some(datagram) = queue.front_mut() {
            if singly == 0 {
                match self.send_merged(queue)? {
                    Merged::Sent => continue,
                    Merged::Blocked => return Ok(TxProgress::Blocked),
                    Merged::Unfit(count) => singly = count,
                }
                continue;
            }
            match self.send(datagram)? {
                TxProgress::Drained => drop(queue.pop_front()),
                TxProgress::Blocked => return Ok(TxProgress::Blocked),
            }
            singly -= 1;
        }
        Ok(TxProgress::Drained)
    }

    fn tx_pool(&self) -> Arc<dyn TxPool> {
        self.tx_pool.clone()
    }

    fn max_segments(&self) -> usize {
        if self.segmentation { self.tx_pool.max_segments() } else { 1 }
    }

    fn max_udp_payload(&self) -> u16 {
        self.max_udp_payload
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn status(&self) -> DriverStatus {
        DriverStatus {
            path: DataPath::OsUdp,
            reason: self.reason.clone(),
            interface: None,
            queue: None,
            link_up: true,
        }
    }

    fn stats(&self) -> DriverStats {
        let mut stats = self.stats.clone();
        stats.named.push(("rx_socket_full_dropped", sys::kernel_drops(&self.socket)));
        self.receiver.name_counters(&mut stats.named);
        self.drops.name_counters(&mut stats.named);
        stats
    }
}
