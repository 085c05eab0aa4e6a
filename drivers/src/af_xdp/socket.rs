//! The XSK itself: opened, bound, kicked, asked.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        sockopt::{
            set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
            set_xdp_umem_fill_ring_size, set_xdp_umem_reg, xdp_mmap_offsets, xdp_options, xdp_statistics,
        },
        xdp::{
            SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
            XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpDesc, XdpOptionsFlags,
            XdpStatistics, XdpUmemReg, XdpUmemRegFlags,
        },
    },
};

use super::{
    device::Device,
    options::{AfXdpOptions, CopyMode, RingSizes, unsupported},
    ring::{Consumer, Producer},
    ring_memory::RingMemory,
    sockopt,
};
use crate::{
    DriverError,
    umem::{FrameSize, UmemPool},
};

/// Closing an XSK frees its queue only after an RCU grace period and a work item: 1 to 90 ms where measured.
/// These waits sum to half a second before the queue counts as taken by somebody else.
const BIND_RETRIES: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(12),
    Duration::from_millis(30),
    Duration::from_millis(80),
    Duration::from_millis(150),
    Duration::from_millis(220),
];

/// Bytes of metadata in front of a packet that asks the device for its checksum (`struct xsk_tx_metadata`:
/// flags, then the request, in the place where the completion timestamp comes back).
pub(super) const TX_METADATA_LEN: usize = 24;
/// `XDP_UMEM_TX_METADATA_LEN`: the registration's metadata length is valid.
const UMEM_TX_METADATA: u32 = 1 << 2;

/// The four rings, our ends.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) fill: Producer<u64>,
    pub(super) rx: Consumer<XdpDesc>,
    pub(super) tx: Producer<XdpDesc>,
    pub(super) completion: Consumer<u64>,
}

/// A bound XSK.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    pub(super) zero_copy: bool,
}

/// What came of a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    /// The kernel has taken what it takes for now.
    Done,
    /// More is left, or resources were short: a soft failure.
    Again,
    /// Our own link is down.
    LinkDown,
    /// The interface no longer exists.
    Gone,
}

impl Kick {
    fn of(result: rustix::io::Result<usize>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(Errno::NETDOWN) => Self::LinkDown,
            Err(Errno::NXIO | Errno::NODEV | Errno::BADF) => Self::Gone,
            // EAGAIN (budget spent), EBUSY (peer down, driver full), ENOBUFS, ENOMEM, EINTR; and whatever else
            // a driver may say of one packet: none of them is final.
            Err(_) => Self::Again,
        }
    }
}

impl Socket {
    /// Opens, sizes, maps and binds. The UMEM stays registered for as long as the socket is open.
    pub(super) fn open(
        options: &AfXdpOptions,
        device: &Device,
        pool: &UmemPool,
        multi_buffer: bool,
        metadata: bool,
    ) -> Result<(Self, Rings), DriverError> {
        let fd = Self::sized(options, pool.memory(), pool.frame_size() as u32, metadata)?;
        let rings = map_rings(&fd, options.rings)?;
        if let Some(busy_poll) = options.busy_poll {
            sockopt::prefer_busy_poll(&fd, busy_poll).map_err(io_error("asking for busy polling"))?;
        }
        let socket = Self::bound(fd, options, device.index, multi_buffer)?;
        Ok((socket, rings))
    }

    /// Opens, sizes and binds, for another process to map the rings. `memory` (start and length) need stay mapped
    /// only until this returns: the kernel has its pages then.
    pub(super) fn open_for_another(
        options: &AfXdpOptions,
        index: u32,
        memory: (u64, u64),
        frame_size: FrameSize,
        multi_buffer: bool,
        metadata: bool,
    ) -> Result<Self, DriverError> {
        let fd = Self::sized(options, memory, frame_size.bytes() as u32, metadata)?;
        Self::bound(fd, options, index, multi_buffer)
    }

    /// Takes over what another process has opened so, with rings of these sizes.
    pub(super) fn adopt(
        fd: OwnedFd,
        sizes: RingSizes,
        zero_copy: bool,
    ) -> Result<(Self, Rings), DriverError> {
        let rings = map_rings(&fd, sizes)?;
        Ok((Self { fd, zero_copy }, rings))
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn sized(
        options: &AfXdpOptions,
        memory: (u64, u64),
        frame_size: u32,
        metadata: bool,
    ) -> Result<OwnedFd, DriverError> {
        let fd = net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(explain_socket)?;
        register(&fd, memory, frame_size, metadata)?;
        size_rings(&fd, options.rings)?;
        Ok(fd)
    }

    fn bound(
        fd: OwnedFd,
        options: &AfXdpOptions,
        index: u32,
        multi_buffer: bool,
    ) -> Result<Self, DriverError> {
        bind(&fd, options, index, multi_buffer)?;
        // One kick then empties the ring instead of 32 packets of it. Kernels before 6.17 lack the option.
        let _ = sockopt::set_max_tx_budget(&fd, options.rings.tx);
        let zero_copy = xdp_options(&fd)
            .map_err(io_error("asking for the mode of an XSK"))?
            .contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
        Ok(Self { fd, zero_copy })
    }

    /// Has the kernel look at the TX ring. Without anything to send it tells the state of the link.
    #[inline]
    pub(super) fn kick_tx(&self) -> Kick {
        Kick::of(net::send(&self.fd, &[], SendFlags::DONTWAIT))
    }

    /// Has the kernel look at the fill ring.
    pub(super) fn kick_rx(&self) -> Kick {
        let nothing: &mut [u8] = &mut [];
        Kick::of(net::recv(&self.fd, nothing, RecvFlags::DONTWAIT).map(|(len, _)| len))
    }

    /// The kernel's own counters of this socket.
    pub(super) fn statistics(&self) -> Option<XdpStatistics> {
        xdp_statistics(&self.fd).ok()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn register(
    fd: &OwnedFd,
    (addr, len): (u64, u64),
    chunk_size: u32,
    metadata: bool,
) -> Result<(), DriverError> {
    let registration = XdpUmemReg {
        addr,
        len,
        chunk_size,
        headroom: 0,
        flags: XdpUmemRegFlags::from_bits_retain(if metadata { UMEM_TX_METADATA } else { 0 }),
        tx_metadata_len: if metadata { TX_METADATA_LEN as u32 } else { 0 },
    };
    set_xdp_umem_reg(fd, registration).map_err(|error| match error {
        Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN => unsupported(
            "locking the UMEM in memory",
            format!(
                "{} KiB are more than the limit allows ({error}): raise it (ulimit -l, LimitMEMLOCK=), grant \
                 CAP_IPC_LOCK, or take fewer UMEM frames",
                len >> 10
            ),
        ),
        Errno::PERM => DriverError::MissingRights { what: "registering a UMEM", rights: "CAP_IPC_LOCK" },
        error => DriverError::Io { what: "registering the UMEM", source: error.into() },
    })
}

fn size_rings(fd: &OwnedFd, sizes: RingSizes) -> Result<(), DriverError> {
    set_xdp_umem_fill_ring_size(fd, sizes.fill).map_err(io_error("sizing the fill ring"))?;
    set_xdp_umem_completion_ring_size(fd, sizes.completion)
        .map_err(io_error("sizing the completion ring"))?;
    set_xdp_rx_ring_size(fd, sizes.rx).map_err(io_error("sizing the RX ring"))?;
    set_xdp_tx_ring_size(fd, sizes.tx).map_err(io_error("sizing the TX ring"))
}

fn map_rings(fd: &OwnedFd, sizes: RingSizes) -> Result<Rings, DriverError> {
    let offsets = xdp_mmap_offsets(fd).map_err(io_error("asking for the layout of the rings"))?;
    let unmapped = |source| DriverError::Io { what: "mapping a ring", source };
    let of = fd.as_fd();
    let fill = RingMemory::map(of, XDP_UMEM_PGOFF_FILL_RING, sizes.fill, &offsets.fr).map_err(unmapped)?;
    let rx = RingMemory::map(of, XDP_PGOFF_RX_RING, sizes.rx, &offsets.rx).map_err(unmapped)?;
    let tx = RingMemory::map(of, XDP_PGOFF_TX_RING, sizes.tx, &offsets.tx).map_err(unmapped)?;
    let completion = RingMemory::map(of, XDP_UMEM_PGOFF_COMPLETION_RING, sizes.completion, &offsets.cr)
        .map_err(unmapped)?;
    Ok(Rings {
        fill: Producer::new(fill),
        rx: Consumer::new(rx),
        tx: Producer::new(tx),
        completion: Consumer::new(completion),
    })
}

/// Binds to the queue. A failed bind leaves the socket as it was, so it is simply tried again.
fn bind(fd: &OwnedFd, options: &AfXdpOptions, index: u32, multi_buffer: bool) -> Result<(), DriverError> {
    // Neither flag lets the kernel try zero-copy first and copy second.
    let mut flags = match options.copy_mode {
        CopyMode::PreferZeroCopy => SocketAddrXdpFlags::empty(),
        CopyMode::RequireZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
        CopyMode::Copy => SocketAddrXdpFlags::XDP_COPY,
    };
    flags |= SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    if multi_buffer {
        flags |= SocketAddrXdpFlags::XDP_USE_SG;
    }
    let address = SocketAddrXdp::new(flags, index, options.queue);
    let mut waits = BIND_RETRIES.iter();
    loop {
        match (net::bind(fd, &address), waits.next()) {
            (Ok(()), _) => return Ok(()),
            (Err(Errno::BUSY), Some(wait)) => thread::sleep(*wait),
            (Err(error), _) => return Err(explain_bind(error, options)),
        }
    }
}

fn explain_socket(error: Errno) -> DriverError {
    match error {
        Errno::PERM | Errno::ACCESS => {
            DriverError::MissingRights { what: "opening an XSK", rights: "CAP_NET_RAW" }
        }
        Errno::AFNOSUPPORT => {
            unsupported("AF_XDP", "this kernel is built without it (CONFIG_XDP_SOCKETS)".to_owned())
        }
        error => DriverError::Io { what: "opening an XSK", source: error.into() },
    }
}

fn explain_bind(error: Errno, options: &AfXdpOptions) -> DriverError {
    let AfXdpOptions { interface, queue, .. } = options;
    match error {
        Errno::PERM | Errno::ACCESS => DriverError::MissingRights {
            what: "binding an XSK to a queue",
            rights: "CAP_NET_RAW and CAP_NET_ADMIN",
        },
        Errno::BUSY => unsupported(
            "binding an XSK",
            format!("another program has one on queue {queue} of {interface}; choose another queue"),
        ),
        Errno::INVAL => unsupported(
            "binding an XSK",
            format!("{interface} has no queue {queue}, or its driver refuses (`ethtool -l {interface}`)"),
        ),
        Errno::OPNOTSUPP => unsupported(
            if options.copy_mode == CopyMode::RequireZeroCopy { "zero-copy" } else { "binding an XSK" },
            format!("the driver of {interface} does not support it"),
        ),
        Errno::NETDOWN => {
            unsupported("binding an XSK", format!("{interface} is down: `ip link set {interface} up`"))
        }
        Errno::NODEV | Errno::NXIO => DriverError::NoInterface { name: interface.clone() },
        error => DriverError::Io { what: "binding an XSK", source: error.into() },
    }
}

fn io_error<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> DriverError {
    move |error| DriverError::Io { what, source: error.into() }
}
