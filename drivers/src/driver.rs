//! The one trait every network device implements.

use std::{collections::VecDeque, io, os::fd::BorrowedFd, sync::Arc, time::Duration};

use crate::{FrameSight, PacketBuf, RxPacket, TxDatagram, UmemAudit};

/// A network device as its actor sees it: polled, never blocking, owned by one thread.
///
/// Nothing here waits. When [`receive`](Driver::receive) brings nothing, the actor spins for a while and then
/// sleeps on [`readiness`](Driver::readiness).
pub trait Driver: Send + 'static {
    /// Appends up to `max` received packets to `into` and returns how many.
    ///
    /// # Errors
    /// [`DriverError::Gone`] when the device is lost for good (deleted, rights revoked); the actor then stops
    /// and its supervisor decides. Passing trouble (link down) is no error: nothing arrives and
    /// [`status`](Driver::status) tells.
    fn receive(&mut self, into: &mut Vec<RxPacket>, max: usize) -> Result<usize, DriverError>;

    /// Sends from the front of `queue` as many datagrams as the device takes now, and kicks it once.
    /// What it does not take stays in `queue`, in order; the caller calls again. A datagram the device can
    /// never send (too long, no route) is dropped and counted by cause in [`DriverStats`].
    ///
    /// Returns how many left the queue. A full ring is no error, and neither is a soft failure of the kick
    /// (`EAGAIN`, `EBUSY`, `ENOBUFS`): see [`TxProgress::Blocked`].
    ///
    /// # Errors
    /// [`DriverError::Gone`], as for [`receive`](Driver::receive).
    fn transmit(&mut self, queue: &mut VecDeque<TxDatagram>) -> Result<TxProgress, DriverError>;

    /// How many datagrams were given to the kernel, and how many of these it is done with; `None` where sending is
    /// all that is known of it. In order, but for those that waited for their next hop.
    fn tx_counts(&self) -> Option<TxCounts> {
        None
    }

    /// How soon [`transmit`](Driver::transmit) is to be called again though there is nothing to send and nothing
    /// arrives: a datagram waits for its next hop. `None` when nothing waits.
    fn poll_within(&self) -> Option<Duration> {
        None
    }

    /// Where transmit memory is leased from. Shared, so that connections lease without asking the device.
    fn tx_pool(&self) -> Arc<dyn TxPool>;

    /// The most datagrams one [`TxDatagram`] may carry (UDP GSO); 1 where the device takes single datagrams.
    fn max_segments(&self) -> usize {
        1
    }

    /// The largest UDP payload the device sends unfragmented over IPv6, in bytes.
    fn max_udp_payload(&self) -> u16;

    /// The same over IPv4, whose header is shorter.
    fn max_udp_payload_v4(&self) -> u16 {
        self.max_udp_payload()
    }

    /// Whether the device sends datagrams in TCP segments, too.
    fn sends_tcp(&self) -> bool {
        false
    }

    /// A descriptor that polls readable when packets wait; `None` for devices driven by the caller's clock.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// The data path in use, and why.
    fn status(&self) -> DriverStatus;

    /// Counters since the device was opened.
    fn stats(&self) -> DriverStats;
}

/// How far [`Driver::transmit`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxProgress {
    /// The queue is empty.
    Drained,
    /// The device is full for now; call again soon (completions free it).
    Blocked,
}

/// What became of datagrams given to the kernel, since the device was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxCounts {
    /// Given.
    pub submitted: u64,
    /// Done with.
    pub completed: u64,
}

/// Leases memory for datagrams to send. Any thread may lease; memory returns by itself when dropped.
pub trait TxPool: Send + Sync + 'static {
    /// A buffer whose window is [`datagram_capacity`](TxPool::datagram_capacity) bytes long (or, on devices
    /// with segmentation, `segments` times that), behind [`TX_HEADROOM`](crate::TX_HEADROOM). `None` when the
    /// pool is empty: the caller waits until the device completes what it sends.
    fn lease(&self, segments: usize) -> Option<PacketBuf>;

    /// Appends up to `count` buffers of one datagram each to `into`, as [`lease`](TxPool::lease) gives them but
    /// cheaper; returns how many.
    fn lease_many(&self, count: usize, into: &mut Vec<PacketBuf>) -> usize {
        let before = into.len();
        into.extend((0..count).map_while(|_| self.lease(1)));
        into.len() - before
    }

    /// Bytes of UDP payload one leased datagram holds.
    fn datagram_capacity(&self) -> usize;

    /// Buffers that could be leased now, as far as known.
    fn available(&self) -> usize;

    /// Where the UMEM frames are, if the memory is of a UMEM: a walk over all of them that stops nobody. The free
    /// list itself is not looked at.
    fn census(&self) -> Option<UmemAudit> {
        None
    }

    /// What is to be seen of each UMEM frame, by its number; empty if the memory is of none. Stops nobody.
    fn sights(&self) -> Vec<FrameSight> {
        Vec::new()
    }
}

/// The path packets take, for the status, the demo and the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverStatus {
    /// What kind of device, and in what mode.
    pub path: DataPath,
    /// Why this path and not a better one: one sentence. Empty when it is the best there is.
    pub reason: String,
    /// The interface, where one is bound to.
    pub interface: Option<String>,
    /// The RSS queue, where one is bound to.
    pub queue: Option<u32>,
    /// Whether the link is up, as last told.
    pub link_up: bool,
}

/// The kinds of data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataPath {
    /// AF_XDP.
    Xdp {
        /// Driver (native) mode, or else SKB (generic) mode.
        driver_mode: bool,
        /// Zero-copy, or else copy.
        zero_copy: bool,
    },
    /// The operating system's UDP sockets.
    OsUdp,
    /// The in-memory network of tests.
    Memory,
}

impl std::fmt::Display for DataPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Xdp { driver_mode, zero_copy } => write!(
                f,
                "AF_XDP ({} mode, {})",
                if *driver_mode { "driver" } else { "SKB" },
                if *zero_copy { "zero-copy" } else { "copy" }
            ),
            Self::OsUdp => f.write_str("OS UDP"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Counters of one device. Drops name their cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Packets handed up.
    pub rx_packet_received: u64,
    /// Bytes handed up.
    pub rx_byte_received: u64,
    /// Datagrams given to the kernel or the ring.
    pub tx_datagram_sent: u64,
    /// Payload bytes given to the kernel or the ring.
    pub tx_byte_sent: u64,
    /// System calls made to send.
    pub tx_kick_made: u64,
    /// Gauges of the rings, where the device has some.
    pub rings: Option<RingGauges>,
    /// Every other counter and drop, by name (`rx_ring_full_dropped`, `tx_too_long_dropped`, …).
    pub named: Vec<(&'static str, u64)>,
}

/// Entries in use of each ring of an XSK, and entries there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingGauges {
    /// Frames for the kernel to receive into.
    pub fill: (u32, u32),
    /// Packets received and not taken.
    pub rx: (u32, u32),
    /// Packets to send that the kernel has not taken.
    pub tx: (u32, u32),
    /// Frames sent and not taken back.
    pub completion: (u32, u32),
    /// Whether the kernel asks to be woken, for the fill or the TX ring.
    pub need_wakeup: bool,
}

/// Why a device can't be opened or has ended.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// There is no such interface.
    #[error("no network interface is named {name:?}; `ip link` lists them")]
    NoInterface {
        /// As asked for.
        name: String,
    },
    /// The process lacks rights.
    #[error("{what} needs {rights}; run as root, or grant them with setcap or AmbientCapabilities=")]
    MissingRights {
        /// What was tried.
        what: &'static str,
        /// The capabilities.
        rights: &'static str,
    },
    /// The port is taken.
    #[error(
        "UDP port {0} is in use by another socket; choose another, or stop its owner (`ss -lunp` names it)"
    )]
    PortInUse(std::net::SocketAddr),
    /// The port is taken, for TCP (as QTIP needs it).
    #[error(
        "TCP port {0} is in use by another socket; choose another, or stop its owner (`ss -ltnp` names it)"
    )]
    TcpPortInUse(std::net::SocketAddr),
    /// Another XDP program sits on the interface.
    #[error(
        "another XDP program is attached to {interface}{}; it is left alone (`ip link show {interface}`; within a process \
         the clones of one stack share an interface, processes through `wirepath helper`)",
        by(.holder)
    )]
    ProgramPresent {
        /// Where.
        interface: String,
        /// Whose it is, where that can be seen.
        holder: Option<String>,
    },
    /// The kernel, the NIC driver or a limit does not allow it.
    #[error("{what} is not possible here: {why}")]
    Unsupported {
        /// What was tried.
        what: &'static str,
        /// What the kernel said, and what to do about it.
        why: String,
    },
    /// A privileged helper does not help.
    #[error("the helper at {}: {why}", path.display())]
    Helper {
        /// Its socket.
        path: std::path::PathBuf,
        /// What it says, and what to do about it.
        why: String,
    },
    /// The device was lost while in use.
    #[error("the device is gone: {0}")]
    Gone(String),
    /// Any other failure of the operating system.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map_or_else(String::new, |holder| format!(" by {holder}"))
}
