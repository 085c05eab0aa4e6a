//! Attaching by bpf_link: the program leaves the interface when the last descriptor of the link closes, which
//! the kernel does for us however the process ends. (The loader crate would fall back to netlink, whose
//! programs stay behind.)

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{attach::XdpMode, sys};

/// A program's hold on an interface.
#[derive(Debug)]
pub(super) struct XdpLink {
    fd: OwnedFd,
}

impl XdpLink {
    /// Attaches a loaded program to an interface.
    pub(super) fn create(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<Self> {
        let flags = match mode {
            XdpMode::Driver => sys::XDP_FLAGS_DRV_MODE,
            XdpMode::Skb => sys::XDP_FLAGS_SKB_MODE,
        };
        Ok(Self { fd: sys::create_link(program, ifindex, flags)? })
    }

    /// Whether the program is still on an interface: not once that was deleted, or an administrator forced
    /// the link off.
    pub(super) fn is_attached(&self) -> bool {
        sys::link_ifindex(self.fd.as_fd()).is_ok_and(|ifindex| ifindex != 0)
    }
}
