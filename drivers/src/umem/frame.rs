//! One UMEM frame, owned.
#![allow(unsafe_code)] // reaches into the region by the right of owning the frame

use std::{fmt, mem, ptr::NonNull};

use super::{UmemPool, ledger::State};

/// One UMEM frame, owned: nobody else, the kernel included, reads or writes its bytes while this lives. It
/// returns to its pool when dropped, from any thread.
pub struct UmemFrame {
    /// Alive until this frame has returned: the pool holds a share of itself for all frames that are out.
    pool: NonNull<UmemPool>,
    pub(super) index: u32,
    /// Where the ledger must say this frame is, in which life.
    pub(super) state: State,
}

// SAFETY: a handle owns its frame alone, the pool is `Sync`, and returning a frame works from any thread.
unsafe impl Send for UmemFrame {}
// SAFETY: through a shared handle the frame's bytes can only be read.
unsafe impl Sync for UmemFrame {}

impl UmemFrame {
    /// The handle of a frame that the ledger has at `state`.
    ///
    /// # Safety
    /// The caller has just moved the frame there, so nobody else owns it; `pool` is the pool's share of itself,
    /// and the index is below its capacity.
    #[inline]
    pub(super) unsafe fn new(pool: NonNull<UmemPool>, index: u32, state: State) -> Self {
        Self { pool, index, state }
    }

    /// Bytes of the frame.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.pool().frame_size()
    }

    /// All bytes of the frame.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the index is below the pool's capacity (the pool made this handle), and this handle is the
        // frame's only owner: the ledger gave it out once and takes it back only from the handle itself.
        unsafe { self.pool().region().slice(self.offset(), self.capacity()) }
    }

    /// All bytes of the frame.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and the handle is borrowed mutably.
        unsafe { self.pool().region().slice_mut(self.offset(), self.capacity()) }
    }

    /// The pool it belongs to.
    #[inline]
    pub fn pool(&self) -> &UmemPool {
        // SAFETY: the pool outlives every frame that is out; see `pool` above.
        unsafe { self.pool.as_ref() }
    }

    /// Notes who holds it now, for those who look at all frames.
    #[inline]
    pub fn hold(&self, holder: u32) {
        self.pool().hold(self.index, self.state, holder);
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
        self.index as usize * self.capacity()
    }
}

impl Drop for UmemFrame {
    #[inline]
    fn drop(&mut self) {
        let state = mem::replace(&mut self.state, State::DETACHED);
        if state != State::DETACHED {
            // SAFETY: this handle owned the frame, and the pool is not touched hereafter.
            unsafe { UmemPool::take_back(self.pool, self.index, state) };
        }
    }
}

impl fmt::Debug for UmemFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UmemFrame").field("index", &self.index).field("place", &self.state.place()).finish()
    }
}
