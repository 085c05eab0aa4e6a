//! Sending through the XDP program: packets become XDP frames, not socket buffers.
//!
//! In copy mode the TX ring of an XSK costs a socket buffer, two copies and a run of the receive softirq for each packet
//! (1.7 to 2.1 us on a veth pair). This lays up to 256 packets into memory shared with the program and has the kernel
//! run it once for each in live frame mode (`Documentation/bpf/bpf_prog_run.rst`, Linux 5.18): the program fills an
//! empty frame and redirects it to the interface, as a forwarding program would. A call costs about 22 us and a packet
//! 0.35 us, so it is for trains.
//!
//! The frames leave by `ndo_xdp_xmit`, which the interface must announce
//! ([`XdpSupport::transmit`](crate::XdpSupport)); frames handed to one that does not are lost without a word.
#![allow(unsafe_code, reason = "memory shared with the XDP program")]

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{NonNull, addr_of, addr_of_mut},
    sync::atomic::{AtomicU32, Ordering},
};

use super::sys;

/// Packets of a batch at most.
pub(crate) const TRANSMIT_SLOTS: usize = 256;
/// Bytes of a packet at most, Ethernet header included.
pub(crate) const TRANSMIT_SLOT_SIZE: usize = 3392;

/// Tells a run that sends from a packet that was received.
const MAGIC: u32 = 0x7469_7877;
/// `struct transmit_order`, in front of each empty frame.
const ORDER_LEN: usize = 8;
/// Frames in hand at once: those sent come back before more are made.
const FRAMES_AT_ONCE: u32 = 32;
/// Calls a batch is tried with: each but the last was interrupted by a signal.
const MAX_CALLS: usize = 8;

/// `struct transmit_batch` of `drivers/bpf/transmit.h`.
#[repr(C)]
struct Batch {
    next: u32,
    count: u32,
    len: [u32; TRANSMIT_SLOTS],
    packet: [[u8; TRANSMIT_SLOT_SIZE]; TRANSMIT_SLOTS],
}

/// One queue's place to send packets from.
pub struct XdpTransmitter {
    program: OwnedFd,
    batch: NonNull<Batch>,
    filled: usize,
    longest: usize,
    /// What each frame begins as: the order, then nothing of interest.
    frame: Box<[u8; ORDER_LEN + TRANSMIT_SLOT_SIZE]>,
}

// SAFETY: the mapping is this value's own and belongs to no thread; the program touches it only while `send` runs it.
unsafe impl Send for XdpTransmitter {}

impl XdpTransmitter {
    /// A map for one batch, to register for a queue.
    pub(super) fn make_map() -> io::Result<OwnedFd> {
        sys::create_mappable_value(size_of::<Batch>())
    }

    /// Sends what lies in `map`, registered for `queue`, through `program`; both may be another process's.
    ///
    /// # Errors
    /// As `mmap`; the kernel refuses a map of fewer bytes than a batch.
    pub(crate) fn over(program: OwnedFd, map: BorrowedFd<'_>, queue: u32) -> io::Result<Self> {
        // SAFETY: a map of `make_map`'s size, by us or by the helper, which is trusted in that; of a smaller map the kernel
        // maps nothing that long (EINVAL). So every access inside `Batch` is one of this mapping.
        let batch = unsafe { sys::map_value::<Batch>(map) }?;
        let mut frame = Box::new([0; ORDER_LEN + TRANSMIT_SLOT_SIZE]);
        frame[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        frame[4..ORDER_LEN].copy_from_slice(&queue.to_ne_bytes());
        Ok(Self { program, batch, filled: 0, longest: 0, frame })
    }

    /// Adds a packet, Ethernet header included, to the batch. `false`: the batch is full, or the packet is longer than
    /// its place.
    #[inline]
    pub(crate) fn push(&mut self, packet: &[u8]) -> bool {
        if self.filled == TRANSMIT_SLOTS || packet.len() > TRANSMIT_SLOT_SIZE {
            return false;
        }
        let batch = self.batch.as_ptr();
        // SAFETY: the place is inside the mapping, `filled` being below the number of places and the packet no longer
        // than one. No program reads it now: only `send` runs one, and that borrows this value exclusively, too.
        unsafe {
            let place = addr_of_mut!((*batch).packet[self.filled]).cast::<u8>();
            place.copy_from_nonoverlapping(packet.as_ptr(), packet.len());
            addr_of_mut!((*batch).len[self.filled]).write(packet.len() as u32);
        }
        self.filled += 1;
        self.longest = self.longest.max(packet.len());
        true
    }

    /// Sends the batch, which is empty afterwards. Tells how many of its packets, from the front, the program took.
    ///
    /// # Errors
    /// Why it took none.
    pub(crate) fn send(&mut self) -> io::Result<usize> {
        let (count, longest) = (std::mem::take(&mut self.filled), std::mem::take(&mut self.longest));
        self.store_counts(count);
        let frame = &self.frame[..ORDER_LEN + longest];
        for _ in 0..MAX_CALLS {
            let before = self.taken();
            let left = (count - before) as u32;
            if left == 0 {
                break;
            }
            let program = self.program.as_fd();
            let run = sys::run_live(program, frame, ORDER_LEN, left, FRAMES_AT_ONCE.min(left));
            match run {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if before == 0 => return Err(error),
                Ok(()) if self.taken() > before => {}
                Ok(()) if before == 0 => return Err(io::Error::other("the program takes none")),
                Ok(()) | Err(_) => break,
            }
        }
        Ok(self.taken())
    }

    fn store_counts(&mut self, count: usize) {
        let batch = self.batch.as_ptr();
        // SAFETY: inside the mapping, and no program runs, as in `push`.
        unsafe {
            addr_of_mut!((*batch).next).write(0);
            addr_of_mut!((*batch).count).write(count as u32);
        }
    }

    /// Packets of the batch that the program took so far.
    fn taken(&self) -> usize {
        let batch = self.batch.as_ptr();
        // SAFETY: inside the mapping and aligned; the program has written it, hence no plain read.
        let (next, count) = unsafe {
            (AtomicU32::from_ptr(addr_of!((*batch).next).cast_mut()), addr_of!((*batch).count).read())
        };
        next.load(Ordering::Acquire).min(count) as usize
    }
}

impl Drop for XdpTransmitter {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference into it outlives a method.
        unsafe { sys::unmap_value(self.batch) };
    }
}

impl fmt::Debug for XdpTransmitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpTransmitter").field("filled", &self.filled).finish_non_exhaustive()
    }
}
