//! Socket options that `rustix` has no function for.
#![allow(unsafe_code)] // hands integers to setsockopt

use std::{
    ffi::c_int,
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

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
