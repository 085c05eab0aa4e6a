//! One UMEM frame, owned.
#![allow(unsafe_code)] // reaches into the region by the right of owning the frame

use std::{fmt, mem, sync::Arc};

use super::{UmemPool, ledger::State};

/// One UMEM frame, owned: nobody else, the kernel included, reads or writes its bytes while this lives. It
/// returns to its pool when dropped, from any thread.
pub struct UmemFrame {
    pub(super) pool: Arc<UmemPool>,
    pub(super) index: u32,
    /// Where the ledger must say this frame is, in which life.
    pub(super) state: State,
}

impl UmemFrame {
    /// Bytes of the frame.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.pool.frame_size()
    }

    /// All bytes of the frame.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the index is below the pool's capacity (the pool made this handle), and this handle is the
        // frame's only owner: the ledger gave it out once and takes it back only from the handle itself.
        unsafe { self.pool.region().slice(self.offset(), self.capacity()) }
    }

    /// All bytes of the frame.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and the handle is borrowed mutably.
        unsafe { self.pool.region().slice_mut(self.offset(), self.capacity()) }
    }

    /// The pool it belongs to.
    pub fn pool(&self) -> &Arc<UmemPool> {
        &self.pool
    }

    /// Which frame of the pool it is.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Lets go of the frame without returning it: the kernel owns it now.
    #[inline]
    pub(super) fn detach(mut self) -> u32 {
        self.state = State::DETACHED;
        self.index
    }

    fn offset(&self) -> usize {
        self.index as usize * self.pool.frame_size()
    }
}

impl Drop for UmemFrame {
    #[inline]
    fn drop(&mut self) {
        let state = mem::replace(&mut self.state, State::DETACHED);
        if state != State::DETACHED {
            self.pool.take_back(self.index, state);
        }
    }
}

impl fmt::Debug for UmemFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UmemFrame").field("index", &self.index).field("place", &self.state.place()).finish()
    }
}
