//! An XDP program for one UDP port, and its loader.
//!
//! The object that s2n-quic-xdp brings is, in the crate as published, only a pointer to a file that is elsewhere.
//! This one is assembled here: IPv4 UDP to the port goes to the AF_XDP socket of its queue, everything else to the
//! kernel.

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use s2n_quic::provider::io::xdp::{socket, syscall};

use crate::sockets::while_busy;

/// Commands, types and flags of bpf(2), from linux/bpf.h.
mod abi {
    pub(super) const MAP_CREATE: u32 = 0;
    pub(super) const MAP_UPDATE_ELEM: u32 = 2;
    pub(super) const PROG_LOAD: u32 = 5;
    pub(super) const LINK_CREATE: u32 = 28;
    pub(super) const MAP_TYPE_XSKMAP: u32 = 17;
    pub(super) const PROG_TYPE_XDP: u32 = 6;
    pub(super) const ATTACH_TYPE_XDP: u32 = 37;
    pub(super) const XDP_PASS: i32 = 2;
    pub(super) const FLAGS_DRIVER_MODE: u32 = 1 << 2;
    pub(super) const HELPER_REDIRECT_MAP: i32 = 51;
    /// In a 64-bit load's source register: the constant is a map's descriptor.
    pub(super) const PSEUDO_MAP: u8 = 1;
}

/// One instruction, as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    opcode: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    constant: i32,
}

/// Opcodes of the few instructions used (linux/bpf_common.h: class | size or operation | mode or source).
mod opcode {
    pub(super) const LOAD_8: u8 = 0x71;
    pub(super) const LOAD_16: u8 = 0x69;
    pub(super) const LOAD_32: u8 = 0x61;
    pub(super) const LOAD_CONSTANT_64: u8 = 0x18;
    pub(super) const MOVE_CONSTANT: u8 = 0xb7;
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const ADD_CONSTANT: u8 = 0x07;
    pub(super) const JUMP_IF_GREATER: u8 = 0x2d;
    pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x55;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// Offsets in `struct xdp_md`.
mod context {
    pub(super) const DATA: i16 = 0;
    pub(super) const DATA_END: i16 = 4;
    pub(super) const RX_QUEUE_INDEX: i16 = 16;
}

/// Attaches a program for `port` in native mode; socket n is queue n's. It stays until the process ends: nobody
/// closes the link's descriptor before.
pub(crate) fn attach(interface: &CStr, port: u16, sockets: &[socket::Fd]) -> io::Result<()> {
    let index = syscall::if_nametoindex(interface)?;
    let map = create_map(sockets.len() as u32)?;
    for (queue, socket) in sockets.iter().enumerate() {
        set_socket(&map, queue as u32, socket.as_raw_fd())?;
    }
    let program = load(&instructions(port, map.as_raw_fd()))?;
    let link = while_busy(|| create_link(&program, index))?;
    std::mem::forget((map, program, link));
    Ok(())
}

/// The program. Register 6 keeps the context; 2 walks the packet, which is 42 bytes of headers at the least.
fn instructions(port: u16, map: RawFd) -> Vec<Instruction> {
    const HEADERS_LEN: i32 = 14 + 20 + 8;
    const ETHERTYPE: i16 = 12;
    const IP_VERSION_AND_LENGTH: i16 = 14;
    const IP_PROTOCOL: i16 = 14 + 9;
    const UDP_DESTINATION: i16 = 14 + 20 + 2;
    // A load keeps the byte order of memory, so the constants are as they lie on the wire.
    let on_wire = |value: u16| i32::from(value.to_be());

    let mut program = Assembler::default();
    program.push(opcode::MOVE, 6, 1, 0, 0);
    program.push(opcode::LOAD_32, 2, 6, context::DATA, 0);
    program.push(opcode::LOAD_32, 3, 6, context::DATA_END, 0);
    program.push(opcode::MOVE, 4, 2, 0, 0);
    program.push(opcode::ADD_CONSTANT, 4, 0, 0, HEADERS_LEN);
    program.pass_if(opcode::JUMP_IF_GREATER, 4, 3, 0);
    program.pass_unless(opcode::LOAD_16, ETHERTYPE, on_wire(0x0800));
    program.pass_unless(opcode::LOAD_8, IP_VERSION_AND_LENGTH, 0x45);
    program.pass_unless(opcode::LOAD_8, IP_PROTOCOL, 17);
    program.pass_unless(opcode::LOAD_16, UDP_DESTINATION, on_wire(port));
    program.push(opcode::LOAD_CONSTANT_64, 1, abi::PSEUDO_MAP, 0, map);
    program.push(0, 0, 0, 0, 0);
    program.push(opcode::LOAD_32, 2, 6, context::RX_QUEUE_INDEX, 0);
    program.push(opcode::MOVE_CONSTANT, 3, 0, 0, abi::XDP_PASS);
    program.push(opcode::CALL, 0, 0, 0, abi::HELPER_REDIRECT_MAP);
    program.push(opcode::EXIT, 0, 0, 0, 0);
    program.finish()
}

/// Collects instructions; jumps to the common end are filled in when it is known.
#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    jumps: Vec<usize>,
}

impl Assembler {
    fn push(&mut self, opcode: u8, destination: u8, source: u8, offset: i16, constant: i32) {
        self.instructions.push(Instruction {
            opcode,
            registers: source << 4 | destination,
            offset,
            constant,
        });
    }

    /// A jump to XDP_PASS.
    fn pass_if(&mut self, opcode: u8, left: u8, right: u8, constant: i32) {
        self.jumps.push(self.instructions.len());
        self.push(opcode, left, right, 0, constant);
    }

    /// A packet whose field is not `wanted` goes to the kernel.
    fn pass_unless(&mut self, load: u8, field: i16, wanted: i32) {
        self.push(load, 5, 2, field, 0);
        self.pass_if(opcode::JUMP_UNLESS_EQUAL, 5, 0, wanted);
    }

    fn finish(mut self) -> Vec<Instruction> {
        let end = self.instructions.len();
        for &jump in &self.jumps {
            self.instructions[jump].offset = (end - jump - 1) as i16;
        }
        self.push(opcode::MOVE_CONSTANT, 0, 0, 0, abi::XDP_PASS);
        self.push(opcode::EXIT, 0, 0, 0, 0);
        self.instructions
    }
}

fn create_map(entries: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    bpf_descriptor(
        abi::MAP_CREATE,
        &Attributes { map_type: abi::MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: entries },
    )
}

fn set_socket(map: &OwnedFd, queue: u32, socket: RawFd) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    let attributes = Attributes {
        map: map.as_raw_fd() as u64,
        key: &raw const queue as u64,
        value: &raw const socket as u64,
        flags: 0,
    };
    bpf(abi::MAP_UPDATE_ELEM, &attributes).map(|_| ())
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
    }
    bpf_descriptor(
        abi::PROG_LOAD,
        &Attributes {
            program_type: abi::PROG_TYPE_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
        },
    )
}

fn create_link(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    bpf_descriptor(
        abi::LINK_CREATE,
        &Attributes {
            program: program.as_raw_fd() as u32,
            interface,
            attach_type: abi::ATTACH_TYPE_XDP,
            flags: abi::FLAGS_DRIVER_MODE,
        },
    )
}

fn bpf_descriptor<A>(command: u32, attributes: &A) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    // SAFETY: these commands return a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

fn bpf<A>(command: u32, attributes: &A) -> io::Result<c_long> {
    // SAFETY: `A` is one of the structures above, laid out as the leading members of `union bpf_attr` for its
    // command; the kernel takes members that are missing at the end as zero. The pointers in it are to memory
    // that outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), std::mem::size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
