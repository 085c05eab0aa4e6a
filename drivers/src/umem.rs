//! UMEM: the memory AF_XDP shares with the kernel, cut into frames with one owner each.

use std::sync::Arc;

/// One UMEM frame, owned. It returns to its pool when dropped, from any thread.
#[derive(Debug)]
pub struct UmemFrame {
    pool: Arc<UmemPool>,
}

/// The frames of one UMEM.
#[derive(Debug)]
pub struct UmemPool {}

impl UmemFrame {
    /// Bytes of the frame.
    pub fn capacity(&self) -> usize {
        unimplemented!("{:?}", self.pool)
    }
    /// All bytes of the frame.
    pub fn as_slice(&self) -> &[u8] {
        unimplemented!()
    }
    /// All bytes of the frame.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        unimplemented!()
    }
}
