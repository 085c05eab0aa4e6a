//! What an XSK is opened with.

use std::time::Duration;

use crate::{
    DriverError, XdpAccess,
    umem::{FrameSize, UmemOptions},
};

/// The smallest ring there may be. Below it the kernel's own batches (16 on receive, 32 on transmit) stall.
pub const MIN_RING_SIZE: u32 = 64;
/// The largest ring there may be: 16 bytes an entry, 128 KiB, are still an ordinary kernel allocation.
pub const MAX_RING_SIZE: u32 = 8192;

/// How an XSK is to be opened. Start with [`AfXdpOptions::new`], and change what should differ.
#[derive(Clone, Debug)]
pub struct AfXdpOptions {
    /// The interface, by name.
    pub interface: String,
    /// The RSS queue.
    pub queue: u32,
    /// Entries of each ring.
    pub rings: RingSizes,
    /// Bytes of a UMEM frame; `None` chooses by the interface's MTU.
    pub frame_size: Option<FrameSize>,
    /// Frames of the UMEM; `None` gives each ring its fill and the program half as much again.
    pub frame_count: Option<u32>,
    /// Whether to try huge pages for the UMEM.
    pub huge_pages: bool,
    /// Zero-copy or copy.
    pub copy_mode: CopyMode,
    /// How UDP checksums are made.
    pub checksum: ChecksumMode,
    /// Whether received packets may span several UMEM frames (`XDP_USE_SG`), as an MTU above 3498 needs; the
    /// XDP program must then be a frags-capable one. `None`: if the MTU needs it.
    pub multi_buffer: Option<bool>,
    /// Preferred busy polling, where the device supports it (without effect on veth). Not through a helper.
    pub busy_poll: Option<BusyPoll>,
    /// By whose rights it is opened.
    pub access: XdpAccess,
}

impl AfXdpOptions {
    /// The defaults for a queue of an interface.
    pub fn new(interface: impl Into<String>, queue: u32) -> Self {
        Self {
            interface: interface.into(),
            queue,
            rings: RingSizes::default(),
            frame_size: None,
            frame_count: None,
            huge_pages: false,
            copy_mode: CopyMode::default(),
            checksum: ChecksumMode::default(),
            multi_buffer: None,
            busy_poll: None,
            access: XdpAccess::Own,
        }
    }

    pub(super) fn validate(&self) -> Result<(), DriverError> {
        let RingSizes { fill, rx, tx, completion } = self.rings;
        for (name, size) in [("fill", fill), ("RX", rx), ("TX", tx), ("completion", completion)] {
            if !size.is_power_of_two() || !(MIN_RING_SIZE..=MAX_RING_SIZE).contains(&size) {
                let why = format!(
                    "choose a power of two from {MIN_RING_SIZE} to {MAX_RING_SIZE} (the {name} ring)"
                );
                return Err(unsupported("a ring of this size", why));
            }
        }
        if self.busy_poll.is_some() && matches!(self.access, XdpAccess::Helper(_)) {
            let why = "it needs CAP_NET_ADMIN in this process".to_owned();
            return Err(unsupported("preferred busy polling through a helper", why));
        }
        let least = fill + tx;
        if self.frame_count.is_some_and(|count| count < least) {
            let why = format!("fill and TX ring alone take {least} UMEM frames");
            return Err(unsupported("a UMEM this small", why));
        }
        Ok(())
    }

    /// Frames of the UMEM, whether told or chosen.
    pub(crate) fn frames(&self) -> u32 {
        let ringed = self.rings.fill + self.rings.tx;
        self.frame_count.unwrap_or(ringed + ringed / 2)
    }

    /// The UMEM, with frames of this size.
    pub(super) fn umem(&self, frame_size: FrameSize) -> UmemOptions {
        UmemOptions {
            frame_size,
            frame_count: self.frames(),
            rx_reserve: self.rings.fill,
            tx_reserve: self.rings.tx,
            huge_pages: self.huge_pages,
        }
    }
}

pub(super) fn unsupported(what: &'static str, why: String) -> DriverError {
    DriverError::Unsupported { what, why }
}

/// Entries of the four rings: powers of two from [`MIN_RING_SIZE`] to [`MAX_RING_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Frames that wait for packets.
    pub fill: u32,
    /// Packets that wait for the program.
    pub rx: u32,
    /// Packets that wait for the device.
    pub tx: u32,
    /// Sent frames that wait for the program.
    pub completion: u32,
}

impl RingSizes {
    /// All four of one size.
    pub fn all(size: u32) -> Self {
        Self { fill: size, rx: size, tx: size, completion: size }
    }
}

impl Default for RingSizes {
    /// 2048 each: two milliseconds of full-sized packets at 12 Gbit/s, a scheduler's time slice.
    fn default() -> Self {
        Self::all(2048)
    }
}

/// Whether the device reads and writes the UMEM itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// Zero-copy where the device can, else copy.
    #[default]
    PreferZeroCopy,
    /// Zero-copy, or an error.
    RequireZeroCopy,
    /// Copy, though the device could do without.
    Copy,
}

/// How the UDP checksum of sent datagrams is made. The IPv4 header checksum always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumMode {
    /// In software.
    #[default]
    Software,
    /// By the device where it offers to (transmit metadata), else in software.
    Offload,
    /// Left zero over IPv4, "none computed" (RFC 768): for links that verify their frames, with QUIC's own
    /// AEAD above. In software over IPv6, which forbids zero (RFC 8200 §8.1).
    ZeroOnIpv4,
}

/// Preferred busy polling (`SO_PREFER_BUSY_POLL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long a system call may poll, in whole microseconds.
    pub timeout: Duration,
    /// Packets a poll handles at most.
    pub budget: u16,
}
