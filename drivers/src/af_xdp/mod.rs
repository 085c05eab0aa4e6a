//! AF_XDP: packets from and to one RSS queue of a NIC, past the kernel's network stack.
//!
//! One XSK has a UMEM of its own and four rings. A frame's way in: free → fill ring → (kernel) → RX ring →
//! [`RxPacket`] → dropped → free. Its way out: free → leased → headers written in front of the payload → TX
//! ring → (kernel) → completion ring → free. [`AfXdp::audit`] tells where each is.
//!
//! Which packets reach the queue's socket is up to an XDP program: whoever attaches it registers the
//! descriptor ([`AsFd`]) in its XSKMAP and tells [`AfXdp::attached`] how it was attached.

mod counters;
mod device;
mod handed;
mod headers;
mod options;
mod ring;
mod ring_memory;
mod routing;
mod rx;
mod socket;
mod sockopt;
mod trains;
mod tx;

use std::{
    collections::VecDeque,
    fmt,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

pub(crate) use device::{MAX_SINGLE_BUFFER_MTU, umem_bytes};
pub(crate) use handed::{Handed, Shape};
pub use options::{AfXdpOptions, BusyPoll, ChecksumMode, CopyMode, MAX_RING_SIZE, MIN_RING_SIZE, RingSizes};

use self::{
    counters::{Counters, of_kernel},
    device::{Device, IPV4_UDP_LEN, IPV6_UDP_LEN, LINK_LEN, mtu_of},
    headers::Checksums,
    ring::RingFault,
    routing::{PARKED_RETRY, Router},
    rx::RxHalf,
    socket::{Kick, Socket},
    trains::Trains,
    tx::TxHalf,
};
use crate::{
    DataPath, Driver, DriverError, DriverStats, DriverStatus, HeapTxPool, RingGauges, RxPacket, TxCounts,
    TxDatagram, TxPool, TxProgress, XdpAccess, XdpTransmitter,
    next_hop::NextHops,
    umem::{FrameSize, Pages, Umem, UmemAudit, UmemPool, UmemTxPool},
    xdp::TRANSMIT_SLOT_SIZE,
};

/// Empty receives between two looks at whether the interface still exists: a deleted one is silent for ever,
/// and asking costs a system call (0.15 us), which this makes vanish among the polls.
const EMPTY_POLLS_PER_PROBE: u32 = 4096;

/// An AF_XDP socket, as a device.
pub struct AfXdp {
    // Dropped in this order: the socket closes before its frames count as free.
    socket: Socket,
    rx: RxHalf,
    tx: TxHalf,
    umem: Umem,
    tx_pool: Arc<dyn TxPool>,
    counters: Counters,
    device: Device,
    queue: u32,
    frame_size: FrameSize,
    attachment: Attachment,
    /// What is short of the best, apart from the attachment.
    shortfalls: Vec<String>,
    empty_polls: u32,
    gone: bool,
}

/// How the XDP program sits on the interface.
#[derive(Debug)]
struct Attachment {
    driver_mode: bool,
    reason: String,
}

/// Where all UMEM frames of an XSK are, by the ledger and by the rings. Exact while nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XskAudit {
    /// By the ledger.
    pub umem: UmemAudit,
    /// In the fill ring, not taken by the kernel.
    pub fill_pending: usize,
    /// In the RX ring.
    pub rx_pending: usize,
    /// In the TX ring, not taken by the kernel.
    pub tx_pending: usize,
    /// In the completion ring.
    pub completion_pending: usize,
}

impl XskAudit {
    /// Whether every frame is at one known place and the rings hold no more than the ledger says.
    pub fn is_sound(&self) -> bool {
        self.umem.is_sound()
            && self.fill_pending + self.rx_pending <= self.umem.fill
            && self.tx_pending + self.completion_pending <= self.umem.tx_ring
    }
}

impl AfXdp {
    /// Opens an XSK on a queue and fills its fill ring. Packets come once an XDP program redirects them here.
    ///
    /// Blocks for up to half a second while a socket that was just closed lets go of the queue.
    ///
    /// # Errors
    /// Any [`DriverError`] but [`DriverError::Gone`]; each says what to do about it.
    pub fn open(options: &AfXdpOptions, next_hops: Box<dyn NextHops>) -> Result<Self, DriverError> {
        options.validate()?;
        let device = Device::find(&options.interface)?;
        let (multi_buffer, frame_size) = device.framing(options)?;
        let offload = device.offloads_checksum(options);
        let (umem, socket, rings) = match &options.access {
            XdpAccess::Own => {
                let umem = UmemPool::new(options.umem(frame_size))
                    .map_err(|source| DriverError::Io { what: "mapping the UMEM", source })?;
                let (socket, rings) = Socket::open(options, &device, umem.pool(), multi_buffer, offload)?;
                (umem, socket, rings)
            }
            XdpAccess::Helper(helper) => {
                let shape = Shape { frame_size, multi_buffer, tx_metadata: offload };
                helper.open_xsk(options, shape)?.adopt(options, options.umem(frame_size))?
            }
        };

        let mut shortfalls = Vec::new();
        if !socket.zero_copy {
            shortfalls.push(match options.copy_mode {
                CopyMode::Copy => "copy mode was asked for".to_owned(),
                _ => device.why_copy(),
            });
        }
        if let Pages::Fallback(why) = umem.pool().pages() {
            shortfalls.push(why.clone());
        }
        if options.checksum == ChecksumMode::Offload && !offload {
            shortfalls.push(device.why_no_checksum());
        }

        let mut tx = TxHalf::new(rings.tx, rings.completion, Router::new(next_hops));
        tx.checksums = Checksums::new(options.checksum, offload);
        tx.multi_buffer = multi_buffer;
        let tx_pool: Arc<dyn TxPool> = if multi_buffer {
            Arc::new(HeapTxPool::new(device.mtu.saturating_sub(IPV4_UDP_LEN) as usize, 1))
        } else {
            Arc::new(UmemTxPool(Arc::clone(umem.pool())))
        };
        let mtu = device.mtu;
        let mut this = Self {
            socket,
            rx: RxHalf::new(rings.fill, rings.rx),
            tx,
            umem,
            tx_pool,
            counters: Counters::default(),
            device,
            queue: options.queue,
            frame_size,
            attachment: Attachment {
                driver_mode: false,
                reason: "no XDP program redirects packets here yet".to_owned(),
            },
            shortfalls,
            empty_polls: 0,
            gone: false,
        };
        this.set_mtu(mtu);
        this.refill()?;
        Ok(this)
    }

    /// Takes note of how the XDP program was attached, for the status. `reason` says why not in driver mode.
    pub fn attached(&mut self, driver_mode: bool, reason: &str) {
        self.attachment = Attachment { driver_mode, reason: reason.to_owned() };
    }

    /// Whether an [`XdpTransmitter`] would be of use: in zero-copy mode, with checksums left to the device, or with
    /// packets of several frames, the TX ring does better.
    pub fn takes_transmitter(&self) -> bool {
        let copies =
            !self.socket.zero_copy && !self.tx.multi_buffer && self.tx.checksums != Checksums::Device;
        copies && self.device.keeps_queue
    }

    /// Sends trains through the XDP program of this queue from now on, while the interface can. Datagrams are then no longer
    /// than trains carry: of an MTU of 3,498 bytes that takes 3 in 100, and a packet costs a fifth of the ring's.
    pub fn transmit_through(&mut self, transmitter: XdpTransmitter) {
        self.tx.trains = Some(Trains::new(transmitter, self.device.index));
    }

    /// Takes note of a changed MTU. Longer packets than the UMEM frames of this socket hold are not sent: to
    /// use a larger MTU than it was opened with, open it anew.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.device.mtu = mtu;
        let limit = if self.tx.multi_buffer {
            self.tx_pool.datagram_capacity() as u32 + IPV4_UDP_LEN
        } else {
            mtu_of(self.frame_size)
        };
        self.tx.mtu = mtu.min(limit) as usize;
    }

    /// Asks the kernel about the link: to be called when netlink tells of a change, since a poll stays silent.
    ///
    /// # Errors
    /// [`DriverError::Gone`] if the interface was deleted.
    pub fn check(&mut self) -> Result<(), DriverError> {
        if self.gone || self.tx.probe(&self.socket) == Kick::Gone { Err(self.lost()) } else { Ok(()) }
    }

    /// The UMEM.
    pub fn pool(&self) -> &Arc<UmemPool> {
        self.umem.pool()
    }

    /// Where all UMEM frames are. Walks all of them.
    pub fn audit(&self) -> XskAudit {
        let (fill_pending, rx_pending) = self.rx.pending();
        let (tx_pending, completion_pending) = self.tx.pending();
        XskAudit { umem: self.pool().audit(), fill_pending, rx_pending, tx_pending, completion_pending }
    }

    fn payload_behind(&self, headers: u32) -> u16 {
        let mtu = match self.tx.trains {
            Some(_) => self.tx.mtu.min(TRANSMIT_SLOT_SIZE - LINK_LEN as usize),
            None => self.tx.mtu,
        };
        let payload = mtu.saturating_sub(headers as usize).min(self.tx_pool.datagram_capacity());
        u16::try_from(payload).unwrap_or(u16::MAX)
    }

    fn gauges(&self) -> RingGauges {
        let ((fill, rx), (tx, completion)) = (self.rx.pending(), self.tx.pending());
        let ((fill_size, rx_size), (tx_size, completion_size)) = (self.rx.sizes(), self.tx.sizes());
        RingGauges {
            fill: (fill as u32, fill_size),
            rx: (rx as u32, rx_size),
            tx: (tx as u32, tx_size),
            completion: (completion as u32, completion_size),
            need_wakeup: self.rx.needs_wakeup() || self.tx.needs_wakeup(),
        }
    }

    fn refill(&mut self) -> Result<(), DriverError> {
        match self.rx.refill(self.umem.pool(), &mut self.counters) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.counters.rx_kick_made += 1;
                match self.socket.kick_rx() {
                    Kick::Gone => Err(self.lost()),
                    _ => Ok(()),
                }
            }
            Err(fault) => Err(self.broken(fault)),
        }
    }

    #[cold]
    fn receive_nothing(&mut self) -> Result<usize, DriverError> {
        self.empty_polls = self.empty_polls.wrapping_add(1);
        if self.empty_polls.is_multiple_of(EMPTY_POLLS_PER_PROBE) {
            self.check()?;
        }
        Ok(0)
    }

    #[cold]
    fn lost(&mut self) -> DriverError {
        self.gone = true;
        DriverError::Gone(format!("{} was deleted or its queue {} taken away", self.device.name, self.queue))
    }

    #[cold]
    fn broken(&mut self, _: RingFault) -> DriverError {
        self.gone = true;
        DriverError::Gone(format!(
            "a ring of queue {} of {} has counters that can't be",
            self.queue, self.device.name
        ))
    }
}

impl Driver for AfXdp {
    fn receive(&mut self, into: &mut Vec<RxPacket>, max: usize) -> Result<usize, DriverError> {
        if self.gone {
            return Err(self.lost());
        }
        if let Err(fault) = self.tx.reap(self.umem.pool(), &mut self.counters) {
            return Err(self.broken(fault));
        }
        let received = match self.rx.receive(self.umem.pool(), &mut self.counters, into, max) {
            Ok(received) => received,
            Err(fault) => return Err(self.broken(fault)),
        };
        self.refill()?;
        if received == 0 {
            return self.receive_nothing();
        }
        Ok(received)
    }

    fn transmit(&mut self, queue: &mut VecDeque<TxDatagram>) -> Result<TxProgress, DriverError> {
        if self.gone {
            return Err(self.lost());
        }
        if !self.tx.link_up || self.tx.expects_train(queue) {
            self.check()?;
        }
        let pool = self.umem.pool();
        let kicked = self
            .tx
            .reap(pool, &mut self.counters)
            .and_then(|_| self.tx.enqueue(pool, &mut self.counters, queue))
            .and_then(|()| self.tx.kick(&self.socket, pool, &mut self.counters));
        match kicked {
            Ok(Kick::Gone) => Err(self.lost()),
            Ok(Kick::Again) => Ok(TxProgress::Blocked),
            Ok(Kick::Done | Kick::LinkDown) if queue.is_empty() => Ok(TxProgress::Drained),
            Ok(Kick::Done | Kick::LinkDown) => Ok(TxProgress::Blocked),
            Err(fault) => Err(self.broken(fault)),
        }
    }

    fn tx_counts(&self) -> Option<TxCounts> {
        Some(TxCounts { submitted: self.tx.datagrams, completed: self.counters.tx_frame_completed })
    }

    fn poll_within(&self) -> Option<Duration> {
        (!self.tx.parked.is_empty()).then_some(PARKED_RETRY)
    }

    fn tx_pool(&self) -> Arc<dyn TxPool> {
        Arc::clone(&self.tx_pool)
    }

    fn max_udp_payload(&self) -> u16 {
        self.payload_behind(IPV6_UDP_LEN)
    }

    fn max_udp_payload_v4(&self) -> u16 {
        self.payload_behind(IPV4_UDP_LEN)
    }

    fn sends_tcp(&self) -> bool {
        true
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn status(&self) -> DriverStatus {
        // Asked anew: a link that went down is silent.
        let link = if self.gone { Kick::Gone } else { self.socket.kick_tx() };
        let reasons: Vec<&str> = [self.attachment.reason.as_str()]
            .into_iter()
            .chain(self.shortfalls.iter().map(String::as_str))
            .chain(self.tx.trains.as_ref().and_then(|trains| trains.broken.as_deref()))
            .chain((link == Kick::Gone).then_some("the interface is gone"))
            .filter(|reason| !reason.is_empty())
            .collect();
        DriverStatus {
            path: DataPath::Xdp {
                driver_mode: self.attachment.driver_mode,
                zero_copy: self.socket.zero_copy,
            },
            reason: reasons.join("; "),
            interface: Some(self.device.name.clone()),
            queue: Some(self.queue),
            link_up: !matches!(link, Kick::LinkDown | Kick::Gone),
        }
    }

    fn stats(&self) -> DriverStats {
        let mut named = self.counters.named();
        if let Some(statistics) = self.socket.statistics() {
            named.extend(of_kernel(&statistics, self.socket.zero_copy));
        }
        DriverStats {
            rx_packet_received: self.rx.packets,
            rx_byte_received: self.rx.bytes,
            tx_datagram_sent: self.tx.datagrams,
            tx_byte_sent: self.tx.bytes,
            tx_kick_made: self.tx.kicks,
            rings: Some(self.gauges()),
            named,
        }
    }
}

impl AsFd for AfXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for AfXdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfXdp")
            .field("interface", &self.device.name)
            .field("queue", &self.queue)
            .field("zero_copy", &self.socket.zero_copy)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}
