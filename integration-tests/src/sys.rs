//! The few system calls that no safe interface covers: new network namespaces and packet sockets.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with, sockopt},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Bytes of kernel receive buffer of a packet socket. A burst at link speed has to wait here while the
/// forwarder is scheduled out: 20 ms at 6 Gbit/s, with the kernel's bookkeeping of about twice the bytes.
const PACKET_RECEIVE_BUFFER: usize = 32 << 20;

/// Gives the calling thread a network namespace of its own and returns a handle of it. The namespace lives
/// as long as a handle, a thread in it, or a socket made in it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn unshare_network() -> io::Result<File> {
    // SAFETY: NEWNET does not unshare the file descriptor table, the one thing that makes unshare unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
    File::open("/proc/thread-self/ns/net")
}

/// Counters the kernel keeps of a packet socket since they were last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketStatistics {
    /// Frames lost because the receive buffer was full.
    pub(crate) dropped: u32,
}

/// A non-blocking socket that receives every frame arriving at `interface` of the calling thread's namespace
/// and sends frames out of it, as they are. It does not see what it or others send.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; `ENODEV` without such an interface, `ENETDOWN` while that is down.
pub(crate) fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    let index = netdevice::name_to_index(socket.as_fd(), interface)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, PACKET_RECEIVE_BUFFER)?;
    let yes: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `yes`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    })?;
    // SAFETY: sockaddr_ll is plain integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    })?;
    Ok(socket)
}

/// What the kernel counted of a packet socket since the last call.
///
/// # Errors
/// As the kernel says; none is known for a packet socket.
pub(crate) fn packet_statistics(socket: &OwnedFd) -> io::Result<PacketStatistics> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the pointers describe `statistics` and its length, both alive and writable during the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    })?;
    Ok(PacketStatistics { dropped: statistics.tp_drops })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
