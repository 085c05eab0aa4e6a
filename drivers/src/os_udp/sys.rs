//! Socket options that neither `std` nor `quinn-udp` set.
#![allow(unsafe_code)]

use std::{io, net::UdpSocket, os::fd::AsRawFd};

use quinn_udp::{UdpSockRef, UdpSocketState};

use crate::DriverError;

/// Sets what a QUIC socket needs: non-blocking, ECN and destination addresses reported, GRO, no fragmentation.
pub(super) fn configure(socket: &UdpSocket) -> Result<UdpSocketState, DriverError> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))
        .map_err(|source| DriverError::Io { what: "UDP socket options", source })?;
    // Receive timestamps, which quinn-udp asks for, make the kernel read the clock for every packet. Unused here.
    let _ = set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0);
    Ok(state)
}

/// Grows the socket's buffers, past the system's limits where rights allow. What is not granted is told in the
/// log only: the device works with less.
pub(super) fn grow_buffers(socket: &UdpSocket, receive: usize, send: usize) {
    for (name, force, plain, wanted) in [
        ("receive", libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive),
        ("send", libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, send),
    ] {
        let bytes = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX / 2);
        let granted = get(socket, libc::SOL_SOCKET, plain).unwrap_or(0);
        // The kernel reports twice what was set, to account for its overhead. Never shrink.
        if granted / 2 >= bytes || set(socket, libc::SOL_SOCKET, force, bytes).is_ok() {
            continue;
        }
        let _ = set(socket, libc::SOL_SOCKET, plain, bytes);
        let granted = get(socket, libc::SOL_SOCKET, plain).unwrap_or(0) / 2;
        if granted < bytes {
            tracing::info!(
                wanted,
                granted,
                "small UDP {name} buffer; raise net.core.rmem_max and net.core.wmem_max with sysctl"
            );
        }
    }
}

/// Whether an IPv6 socket refuses IPv4.
pub(super) fn only_v6(socket: &UdpSocket) -> bool {
    get(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|value| value != 0)
}

/// Datagrams the kernel dropped because the socket's receive buffer was full (or its checksum wrong), since the
/// socket was made.
pub(super) fn kernel_drops(socket: &UdpSocket) -> u64 {
    /// `SK_MEMINFO_VARS` of `linux/sock_diag.h`: the number of counters, of which drops are the last.
    const COUNTERS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
    let mut counters = [0u32; COUNTERS];
    let mut len = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: `counters` is writable for `len` bytes and outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counters.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if result == 0 { counters[libc::SK_MEMINFO_DROPS as usize].into() } else { 0 }
}

fn set(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes and outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get(socket: &UdpSocket, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes and outlives the call.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
