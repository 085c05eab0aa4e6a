//! The three uses of the bpf system call that the loader crate has no door to.
#![allow(unsafe_code, reason = "the bpf system call")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_XDP: u32 = 37;

/// Attach in the kernel's generic receive path.
pub(super) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// Attach in the NIC's driver.
pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

// Each of these is the leading part of `union bpf_attr`; the kernel takes the rest as zero.

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

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

/// Makes an array map of one value that can be mapped into memory.
pub(super) fn create_mappable_value(value_size: usize) -> io::Result<OwnedFd> {
    bpf_fd(
        BPF_MAP_CREATE,
        &mut MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: value_size as u32,
            max_entries: 1,
            map_flags: BPF_F_MMAPABLE,
        },
    )
}

/// Attaches a loaded XDP program to an interface. It stays until the descriptor closes.
pub(super) fn create_link(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let prog_fd = program.as_raw_fd() as u32;
    bpf_fd(BPF_LINK_CREATE, &mut LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: BPF_XDP, flags })
}

/// The interface an XDP link holds; 0 once it holds none.
pub(super) fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    bpf(
        BPF_OBJ_GET_INFO_BY_FD,
        &mut GetInfo {
            bpf_fd: link.as_raw_fd() as u32,
            info_len: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        },
    )?;
    Ok(info.ifindex)
}

fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the commands that come through here make a descriptor, which nobody else knows yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a live, exclusive value in the layout `command` reads, and its size is told. What its
    // fields point to lives in the callers' frames for as long as the call lasts.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw mut *attr).cast::<libc::c_void>(), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
