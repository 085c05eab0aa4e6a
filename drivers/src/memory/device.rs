//! One end of the network in memory.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{timer::Timer, world::World};
use crate::{
    DataPath, Driver, DriverError, DriverStats, DriverStatus, HeapTxPool, PacketBuf, PacketMemory, RxMeta,
    RxPacket, TxDatagram, TxPool, TxProgress,
};

/// What an Ethernet frame holds over IPv6: 1500 less 40 and 8 bytes.
const ETHERNET_UDP_PAYLOAD: u16 = 1452;

/// A device on a [`MemoryNet`](super::MemoryNet).
#[derive(Debug)]
pub struct MemoryDevice {
    world: Arc<Mutex<World>>,
    inbox: usize,
    addresses: Vec<IpAddr>,
    timer: Option<Arc<Timer>>,
    tx_pool: Arc<HeapTxPool>,
    max_udp_payload: u16,
    max_segments: usize,
    burst: usize,
    stats: DriverStats,
    no_route_dropped: u64,
}

impl MemoryDevice {
    pub(super) fn new(world: Arc<Mutex<World>>, ip: IpAddr) -> Self {
        let timer = world.lock().is_real_time().then(|| Arc::new(Timer::new().expect("a descriptor")));
        let inbox = world.lock().attach(timer.clone());
        let mut device = Self {
            world,
            inbox,
            addresses: Vec::new(),
            timer,
            tx_pool: Arc::new(HeapTxPool::new(ETHERNET_UDP_PAYLOAD.into(), 1)),
            max_udp_payload: ETHERNET_UDP_PAYLOAD,
            max_segments: 1,
            burst: usize::MAX,
            stats: DriverStats::default(),
            no_route_dropped: 0,
        };
        device.add_address(ip);
        device
    }

    /// Gives the device a further address (of the other family, or to migrate to).
    ///
    /// # Panics
    /// If another device has it.
    pub fn add_address(&mut self, ip: IpAddr) {
        assert!(self.world.lock().add_address(self.inbox, ip), "another device is attached at {ip}");
        self.addresses.push(ip);
    }

    /// Sets the most datagrams in a train (1 at first), and the longest payload (1452 bytes at first).
    #[must_use]
    pub fn with_limits(mut self, max_segments: usize, max_udp_payload: u16) -> Self {
        self.tx_pool = Arc::new(HeapTxPool::new(max_udp_payload.into(), max_segments));
        self.max_segments = self.tx_pool.max_segments();
        self.max_udp_payload = max_udp_payload;
        self
    }

    /// Takes at most `burst` datagrams or trains in one [`transmit`](Driver::transmit), and says that it is
    /// blocked when there are more: to test what callers do then.
    #[must_use]
    pub fn with_burst(mut self, burst: usize) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// The source address of what is sent from an unspecified one.
    fn source(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        if !local.ip().is_unspecified() {
            return Some(local);
        }
        let own = self.addresses.iter().find(|ip| ip.is_ipv4() == remote.is_ipv4())?;
        Some(SocketAddr::new(*own, local.port()))
    }
}

impl Driver for MemoryDevice {
    fn receive(&mut self, into: &mut Vec<RxPacket>, max: usize) -> Result<usize, DriverError> {
        let mut world = self.world.lock();
        let mut count = 0;
        while count < max {
            let Some(arrival) = world.receive(self.inbox) else { break };
            let len = arrival.payload.len();
            self.stats.rx_packet_received += 1;
            self.stats.rx_byte_received += len as u64;
            into.push(RxPacket {
                buf: PacketBuf::new(PacketMemory::Heap(arrival.payload), 0..len),
                meta: RxMeta::Udp { local: arrival.local, remote: arrival.remote, ecn: arrival.ecn },
            });
            count += 1;
        }
        world.set_timer(self.inbox);
        Ok(count)
    }

    fn transmit(&mut self, queue: &mut VecDeque<TxDatagram>) -> Result<TxProgress, DriverError> {
        self.stats.tx_kick_made += 1;
        for _ in 0..self.burst {
            let Some(datagram) = queue.pop_front() else { break };
            let Some(local) = self.source(datagram.local, datagram.remote) else {
                self.no_route_dropped += 1;
                continue;
            };
            let payload = datagram.buf.as_slice();
            let segment = datagram.segment_size.map_or(payload.len(), usize::from).max(1);
            for payload in payload.chunks(segment) {
                self.stats.tx_datagram_sent += 1;
                self.stats.tx_byte_sent += payload.len() as u64;
                self.world.lock().send(local, datagram.remote, datagram.ecn, payload);
            }
        }
        Ok(if queue.is_empty() { TxProgress::Drained } else { TxProgress::Blocked })
    }

    fn tx_pool(&self) -> Arc<dyn TxPool> {
        self.tx_pool.clone()
    }

    fn max_segments(&self) -> usize {
        self.max_segments
    }

    fn max_udp_payload(&self) -> u16 {
        self.max_udp_payload
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.timer.as_ref()?.as_fd())
    }

    fn status(&self) -> DriverStatus {
        DriverStatus {
            path: DataPath::Memory,
            reason: String::new(),
            interface: None,
            queue: None,
            link_up: true,
        }
    }

    fn stats(&self) -> DriverStats {
        let mut stats = self.stats.clone();
        stats.named.push(("tx_no_route_dropped", self.no_route_dropped));
        stats
    }
}

impl Drop for MemoryDevice {
    fn drop(&mut self) {
        self.world.lock().detach(self.inbox);
    }
}
