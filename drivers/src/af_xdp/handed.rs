//! An XSK made by one process and used by another: see [`helper`](crate::helper).

use std::os::fd::{AsFd, OwnedFd};

use super::{
    options::{AfXdpOptions, unsupported},
    socket::{Rings, Socket},
};
use crate::{
    DriverError,
    umem::{FrameSize, Mapping, Pages, Umem, UmemOptions, UmemPool, memory_file},
};

/// The most bytes of UMEM for one XSK: four times what the largest rings take by default, with frames of 4 KiB.
const MAX_UMEM: usize = 384 << 20;

/// What an XSK needs to be beyond what its options say, as its user has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) frame_size: FrameSize,
    /// Whether packets may span several UMEM frames.
    pub(crate) multi_buffer: bool,
    /// Whether packets carry metadata for the device in front of them.
    pub(crate) tx_metadata: bool,
}

/// An XSK, bound, and its memory, on their way to another process.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) socket: OwnedFd,
    pub(crate) memory: OwnedFd,
    pub(crate) zero_copy: bool,
    pub(crate) pages: Pages,
}

impl Handed {
    /// Opens an XSK on a queue of the interface with this index.
    ///
    /// # Errors
    /// As for [`AfXdp::open`](super::AfXdp::open).
    pub(crate) fn make(options: &AfXdpOptions, index: u32, shape: Shape) -> Result<Self, DriverError> {
        options.validate()?;
        let Shape { frame_size, multi_buffer, tx_metadata } = shape;
        let bytes = options.umem(frame_size).bytes();
        if bytes > MAX_UMEM {
            return Err(unsupported("a UMEM this large", format!("{} MiB at most", MAX_UMEM >> 20)));
        }
        let failed = |source| DriverError::Io { what: "making the UMEM", source };
        let (memory, pages) = memory_file(bytes, options.huge_pages).map_err(failed)?;
        let mapping = Mapping::of(memory.as_fd(), bytes, &pages).map_err(failed)?;
        let whole = (mapping.address(), bytes as u64);
        let socket = Socket::open_for_another(options, index, whole, frame_size, multi_buffer, tx_metadata)?;
        let zero_copy = socket.zero_copy;
        Ok(Self { socket: socket.into_fd(), memory, zero_copy, pages })
    }

    /// Takes over what another process has made by the same options.
    pub(super) fn adopt(
        self,
        options: &AfXdpOptions,
        umem: UmemOptions,
    ) -> Result<(Umem, Socket, Rings), DriverError> {
        let umem = UmemPool::of_file(umem, self.memory.as_fd(), self.pages)
            .map_err(|source| DriverError::Io { what: "mapping the UMEM", source })?;
        let (socket, rings) =
            Socket::adopt(self.socket, options.rings, self.zero_copy).map_err(|error| match error {
                DriverError::Io { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => unsupported(
                    "using an XSK of another process",
                    "this kernel maps the rings of a bound XSK only since Linux 6.4".to_owned(),
                ),
                error => error,
            })?;
        Ok((umem, socket, rings))
    }
}
