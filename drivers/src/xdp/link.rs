//! Attaching by bpf_link: the program leaves the interface when the last descriptor of the link closes, which
//! the kernel does for us however the process ends.
//!
//! The loader crate would fall back to netlink, whose programs stay behind; hence these two calls of our own.
#![allow(unsafe_code, reason = "the bpf system call")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_XDP: u32 = 37;
pub(super) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A program's hold on an interface.
#[derive(Debug)]
pub(super) struct XdpLink {
    fd: OwnedFd,
}

/// The part of `union bpf_attr` for `BPF_LINK_CREATE`; the kernel takes the rest as zero.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info` of an XDP link.
#[derive(Default)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    pad2: u32,
}

impl XdpLink {
    /// Attaches a loaded program to an interface in the mode that `flags` name.
    pub(super) fn create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<Self> {
        let mut attr = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags,
        };
        let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
        // SAFETY: the call made this descriptor and nobody else knows it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Whether the program is still on an interface: not once that was deleted, or an administrator forced
    /// the link off.
    pub(super) fn is_attached(&self) -> bool {
        let mut info = LinkInfo::default();
        let mut attr = GetInfo {
            bpf_fd: self.fd.as_raw_fd() as u32,
            info_len: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).is_ok() && info.ifindex != 0
    }
}

impl AsFd for XdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a live, exclusive value in the layout `command` reads, and its size is told. What its
    // fields point to lives in the callers' frames for as long as the call lasts.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw mut *attr).cast::<libc::c_void>(), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
