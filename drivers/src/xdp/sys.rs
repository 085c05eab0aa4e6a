//! The uses of the bpf system call that the loader crate has no door to.
#![allow(unsafe_code, reason = "the bpf system call")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_XDP: u32 = 37;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

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

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    /// The kernel refuses what is not zero behind the last field it knows, padding too.
    pad: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
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

/// Maps the value of a map of one mappable value of type `T`, for reading and writing. To be unmapped by
/// [`unmap_value`].
///
/// # Safety
/// The map must be one of [`create_mappable_value`], made for the size of `T`.
pub(super) unsafe fn map_value<T>(map: impl AsFd) -> io::Result<NonNull<T>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    // SAFETY: a new shared mapping of the map's value; nothing is replaced by it.
    let memory = unsafe {
        mmap(
            std::ptr::null_mut(),
            size_of::<T>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            map.as_fd(),
            0,
        )
    }?;
    NonNull::new(memory.cast::<T>()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Ends a mapping of [`map_value`].
///
/// # Safety
/// `memory` must come from [`map_value`], with nothing left that refers to it.
pub(super) unsafe fn unmap_value<T>(memory: NonNull<T>) {
    // SAFETY: as the caller promises. What could fail is an address that is not one of a mapping.
    let _ = unsafe { rustix::mm::munmap(memory.as_ptr().cast(), size_of::<T>()) };
}

/// Runs an XDP program `repeat` times in live frame mode, `batch` frames at once, each of which begins as `frame`
/// with its first `metadata` bytes in front of it.
pub(super) fn run_live(
    program: BorrowedFd<'_>,
    frame: &[u8],
    metadata: usize,
    repeat: u32,
    batch: u32,
) -> io::Result<()> {
    let context = XdpContext { data: metadata as u32, data_end: frame.len() as u32, ..Default::default() };
    bpf(
        BPF_PROG_TEST_RUN,
        &mut TestRun {
            prog_fd: program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ctx_size_in: size_of::<XdpContext>() as u32,
            ctx_in: (&raw const context) as u64,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: batch,
            ..Default::default()
        },
    )?;
    Ok(())
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
