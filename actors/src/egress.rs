//! The way out: a device as those who send through it see it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use wirepath_drivers::{PacketBuf, TxDatagram, TxPool, UmemAudit};

use crate::{connection::ConnectionMessage, device::DeviceMessage, kit::Mailbox, traced::Traced};

/// One device's transmit side, shared by all bindings that send through it.
pub struct Egress {
    device: Mailbox<DeviceMessage>,
    pool: Arc<dyn TxPool>,
    max_segments: usize,
    /// Over IPv4 and over IPv6.
    max_udp_payload: [u16; 2],
    /// The only local port it can send from, if it is a socket of the operating system.
    port: OnceLock<u16>,
    waiting: Mutex<Vec<Mailbox<ConnectionMessage>>>,
    ended: AtomicBool,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "egress through {:?}", self.device)
    }
}

impl Egress {
    /// The transmit side of `device`.
    pub fn new(
        device: Mailbox<DeviceMessage>,
        pool: Arc<dyn TxPool>,
        max_segments: usize,
        max_udp_payload: [u16; 2],
    ) -> Self {
        let (port, waiting, ended) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Self { device, pool, max_segments, max_udp_payload, port, waiting, ended }
    }

    /// The device is a socket bound to this local port, and sends from no other.
    pub(crate) fn bind(&self, port: u16) {
        // Once, when the socket is bound.
        let _ = self.port.set(port);
    }

    /// Whether it can send from a local port.
    pub fn sends_from(&self, port: u16) -> bool {
        self.port.get().is_none_or(|own| *own == port)
    }

    /// Leases memory for up to `segments` datagrams of one train; `None` when the pool is empty.
    pub fn lease(&self, segments: usize) -> Option<PacketBuf> {
        self.pool.lease(segments)
    }

    /// Bytes of a leased buffer, headroom included.
    pub fn frame_size(&self) -> usize {
        self.pool.datagram_capacity() + wirepath_drivers::TX_HEADROOM
    }

    /// Where the UMEM frames are, if the device has some.
    pub fn census(&self) -> Option<UmemAudit> {
        self.pool.census()
    }

    /// The most datagrams one train may carry.
    pub fn max_segments(&self) -> usize {
        self.max_segments
    }

    /// The largest UDP payload to `remote`, in bytes.
    pub fn max_udp_payload(&self, remote: IpAddr) -> u16 {
        self.max_udp_payload[usize::from(remote.is_ipv6())]
    }

    /// Whether the device would take `items` more datagrams now.
    pub fn has_room(&self, items: u32) -> bool {
        self.device.has_credit(items)
    }

    /// Hands datagrams to the device, with the journeys of those that are sampled.
    ///
    /// # Errors
    /// Returns them when the device has ended: send them another way. A device over its credit drops them, by
    /// count; callers ask [`has_room`](Self::has_room) first.
    pub fn send(&self, datagrams: Vec<TxDatagram>, traced: Traced) -> Result<(), Vec<TxDatagram>> {
        use crate::kit::SendError::{Ended, Full};
        let items = datagrams.len() as u32;
        match self.device.send_data(DeviceMessage::Transmit(datagrams, traced), items) {
            Err(Ended(DeviceMessage::Transmit(datagrams, _))) => Err(datagrams),
            Ok(()) | Err(Full(_) | Ended(_)) => Ok(()),
        }
    }

    /// Asks for a [`ConnectionMessage::Resume`] once the device has room and memory again.
    pub fn wait_for_room(&self, mailbox: &Mailbox<ConnectionMessage>) {
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waiter| waiter.id() == mailbox.id()) {
            waiting.push(mailbox.clone());
        }
        drop(waiting);
        if self.is_ended() {
            // Meanwhile: nobody else wakes those that came late.
            self.on_room();
        }
    }

    /// Whether the device has ended, so that this leads nowhere.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The device has ended: those who wait for it are to look for another way.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.on_room();
    }

    /// Tells those who wait that there is room. The device calls this after each flush.
    pub fn on_room(&self) {
        if self.waiting.lock().is_empty() {
            return;
        }
        for mailbox in std::mem::take(&mut *self.waiting.lock()) {
            // A connection that has ended needs no room.
            let _ = mailbox.send(ConnectionMessage::Resume);
        }
    }

    /// The device's address.
    pub fn device(&self) -> &Mailbox<DeviceMessage> {
        &self.device
    }
}
