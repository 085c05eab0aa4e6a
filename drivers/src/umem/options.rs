//! The shape of a UMEM.

use std::io;

/// Bytes of one UMEM frame. AF_XDP takes powers of two from 2048 to the page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameSize {
    /// 2048 bytes, of which the kernel receives into 1792: enough for an MTU of 1500.
    #[default]
    TwoKib,
    /// 4096 bytes, of which the kernel receives into 3840: enough for an MTU of 3498.
    FourKib,
}

impl FrameSize {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::TwoKib => 2048,
            Self::FourKib => 4096,
        }
    }
}

/// The shape of a UMEM.
#[derive(Clone, Copy, Debug)]
pub struct UmemOptions {
    /// Bytes a frame.
    pub frame_size: FrameSize,
    /// Frames in all.
    pub frame_count: u32,
    /// Frames kept for receiving: sending never holds more than the others.
    pub rx_reserve: u32,
    /// Frames kept for sending: receiving (what the program has not dropped yet included) never holds more
    /// than the others.
    pub tx_reserve: u32,
    /// Whether to try huge pages first.
    pub huge_pages: bool,
}

impl UmemOptions {
    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> usize {
        self.frame_size.bytes() * self.frame_count as usize
    }

    /// That there are as many frames as are reserved.
    pub(super) fn check(&self) -> io::Result<()> {
        let Self { frame_count, rx_reserve, tx_reserve, .. } = self;
        let reserved = rx_reserve.checked_add(*tx_reserve);
        if *frame_count == 0 || reserved.is_none_or(|reserved| reserved > *frame_count) {
            let why =
                format!("{rx_reserve} + {tx_reserve} UMEM frames can't be reserved out of {frame_count}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(())
    }
}
