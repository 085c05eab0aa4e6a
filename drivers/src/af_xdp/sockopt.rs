//! Socket options and requests that `rustix` has no function for.
#![allow(unsafe_code)] // hands integers to setsockopt, and one struct to ioctl

use std::{
    ffi::c_int,
    io, mem,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::options::BusyPoll;

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): packets that one kick sends in copy mode.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

pub(super) fn set_max_tx_budget(fd: &OwnedFd, packets: u32) -> io::Result<()> {
    set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, packets as c_int)
}

pub(super) fn prefer_busy_poll(fd: &OwnedFd, busy_poll: BusyPoll) -> io::Result<()> {
    let timeout = c_int::try_from(busy_poll.timeout.as_micros()).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, timeout)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, busy_poll.budget.into())
}

fn set(fd: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the value outlives the call, and its length is told.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Index and MTU of an interface; `None` if there is none of that name.
pub(super) fn interface(name: &str) -> io::Result<Option<(u32, u32)>> {
    let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match rustix::net::netdevice::name_to_index(fd.as_fd(), name) {
        Ok(index) => Ok(Some((index, mtu(&fd, name)?))),
        Err(rustix::io::Errno::NODEV | rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn mtu(fd: &OwnedFd, name: &str) -> io::Result<u32> {
    // SAFETY: a struct of integers and unions of such: all zeroes are a value of it.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name, zero-terminated, and writes `ifru_mtu` of the same struct.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFMTU, ptr::from_mut(&mut request)) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just written this field.
    Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
}
