//! Who is at the other end, as the kernel tells it.
#![allow(unsafe_code)] // getsockopt

use std::{
    fmt, io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::net::sockopt::socket_peercred;

/// `SO_PEERGROUPS` (Linux 4.13).
const SO_PEERGROUPS: libc::c_int = 59;

/// The most supplementary groups looked at; whoever has more is known by the first.
const MAX_GROUPS: usize = 256;

/// The process that connected, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: i32,
    pub(super) uid: u32,
    /// Its group, then its supplementary ones.
    pub(super) gids: Vec<u32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}

impl Peer {
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let told = socket_peercred(socket)?;
        let mut gids = vec![told.gid.as_raw()];
        // Older kernels don't tell; the group itself is known all the same.
        gids.extend(supplementary(socket).unwrap_or_default());
        Ok(Self { pid: told.pid.as_raw_nonzero().get(), uid: told.uid.as_raw(), gids })
    }
}

fn supplementary(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0 as libc::gid_t; MAX_GROUPS];
    let mut len = mem::size_of_val(&groups[..]) as libc::socklen_t;
    // SAFETY: `groups` is writable for `len` bytes, both outlive the call, and any bits make an integer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(len as usize / mem::size_of::<libc::gid_t>());
    Ok(groups)
}
