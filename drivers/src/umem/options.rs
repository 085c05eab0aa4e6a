//! The shape of a UMEM.

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
