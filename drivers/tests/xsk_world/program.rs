//! A minimal XDP program, as instructions: UDP goes to the XSK of its queue, the rest to the kernel.
#![allow(unsafe_code)] // the bpf system call

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const PROG_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_SKB: u32 = 1 << 1;
const XDP_FLAGS_DRV: u32 = 1 << 2;
const XDP_PASS: i32 = 2;
const SLOTS: u32 = 64;

/// An attached program; detached when dropped.
#[derive(Debug)]
pub struct Program {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Program {
    /// Attaches in the namespace of the calling thread.
    pub fn attach(interface: &str, driver_mode: bool, frags: bool) -> io::Result<Self> {
        let map = create_map()?;
        let program = load(&map, frags)?;
        let index = {
            let any =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
            rustix::net::netdevice::name_to_index(&any, interface)?
        };
        let mode = if driver_mode { XDP_FLAGS_DRV } else { XDP_FLAGS_SKB };
        let link = bpf(BPF_LINK_CREATE, &[program.as_raw_fd() as u32, index, ATTACH_TYPE_XDP, mode])?;
        // SAFETY: the call has just made this descriptor.
        Ok(Self { map, _link: unsafe { OwnedFd::from_raw_fd(link) } })
    }

    /// Redirects a queue's packets to this socket.
    pub fn register(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd() as u32;
        let (key, value) = (&raw const queue as u64, &raw const value as u64);
        let map = self.map.as_raw_fd() as u32;
        bpf(BPF_MAP_UPDATE_ELEM, &[map, 0, low(key), high(key), low(value), high(value), 0, 0]).map(drop)
    }
}

fn create_map() -> io::Result<OwnedFd> {
    let fd = bpf(BPF_MAP_CREATE, &[MAP_TYPE_XSKMAP, 4, 4, SLOTS, 0])?;
    // SAFETY: the call has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One instruction: opcode, destination and source register, jump offset, immediate.
fn op(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(dst) << 8
        | u64::from(src) << 12
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

fn load(map: &OwnedFd, frags: bool) -> io::Result<OwnedFd> {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_HALF: u8 = 0x69;
    const LOAD_BYTE: u8 = 0x71;
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const JUMP: u8 = 0x05;
    const JUMP_GREATER: u8 = 0x2d;
    const JUMP_EQUAL: u8 = 0x15;
    const JUMP_UNEQUAL: u8 = 0x55;
    const LOAD_MAP: u8 = 0x18;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const REDIRECT_MAP: i32 = 51;
    const UDP: i32 = 17;
    let ether_type = |value: u16| i32::from(value.to_be());
    // r6 context, r2 data, r3 end. 62 bytes: Ethernet, IPv6, UDP; shorter UDP packets go to the kernel.
    let program = [
        op(MOVE, 6, 1, 0, 0),
        op(LOAD_WORD, 2, 1, 0, 0),
        op(LOAD_WORD, 3, 1, 4, 0),
        op(MOVE, 4, 2, 0, 0),
        op(ADD, 4, 0, 0, 62),
        op(JUMP_GREATER, 4, 3, 13, 0),
        op(LOAD_HALF, 5, 2, 12, 0),
        op(JUMP_EQUAL, 5, 0, 2, ether_type(0x0800)),
        op(JUMP_EQUAL, 5, 0, 3, ether_type(0x86dd)),
        op(JUMP, 0, 0, 9, 0),
        op(LOAD_BYTE, 5, 2, 23, 0),
        op(JUMP, 0, 0, 1, 0),
        op(LOAD_BYTE, 5, 2, 20, 0),
        op(JUMP_UNEQUAL, 5, 0, 5, UDP),
        op(LOAD_WORD, 2, 6, 16, 0), // the RX queue
        op(LOAD_MAP, 1, 1, 0, map.as_raw_fd()),
        0,
        op(SET, 3, 0, 0, XDP_PASS),
        op(JUMP, 0, 0, 2, 0),
        op(SET, 0, 0, 0, XDP_PASS),
        op(EXIT, 0, 0, 0, 0),
        op(CALL, 0, 0, 0, REDIRECT_MAP),
        op(EXIT, 0, 0, 0, 0),
    ];
    let instructions = program.as_ptr() as u64;
    let license = c"Dual MIT/GPL".as_ptr() as u64;
    let flags = if frags { PROG_HAS_FRAGS } else { 0 };
    let mut attributes = [0; 18];
    attributes[..6].copy_from_slice(&[
        PROG_TYPE_XDP,
        program.len() as u32,
        low(instructions),
        high(instructions),
        low(license),
        high(license),
    ]);
    attributes[11] = flags;
    attributes[17] = ATTACH_TYPE_XDP;
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the call has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn bpf(command: libc::c_int, attributes: &[u32]) -> io::Result<libc::c_int> {
    // SAFETY: the attributes, and what addresses within them point to, outlive the call; their length is told.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), mem::size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
