//! Recycled memory: large blocks, cut into pieces with one owner each, that return to their pool when the
//! last piece is dropped. In the steady state nothing is allocated, and one block costs one lock, not each
//! datagram in it.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fmt,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering, fence},
    },
};

use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Blocks start at a cache line, as the kernel's copy routines like it.
const BLOCK_ALIGN: usize = 64;

/// Blocks of so many bytes are mapped, and smaller ones come from the allocator. A page of a mapped block costs nothing
/// before something is written to it, and a block given back leaves no hole: most blocks for trains hold one datagram.
const MAPPED_FROM: usize = 32 * 1024;

/// Blocks of one size. Blocks in use never count against `keep`; of those that come back, at most `keep` wait
/// for reuse and the others are freed.
pub struct HeapPool {
    block_len: usize,
    limit: usize,
    keep: usize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    idle: Vec<NonNull<Block>>,
    in_use: usize,
    allocated: u64,
}

// SAFETY: an idle block is owned by the list alone; whoever pops it owns it.
unsafe impl Send for Blocks {}

/// The head of one block. Alive from allocation until it is freed by the pool, with its memory.
struct Block {
    /// Owned pieces of the block. 0 while idle.
    pieces: AtomicU32,
    memory: NonNull<u8>,
    /// The pool to return to; `None` while idle, so that a pool and its idle blocks do not keep each other alive.
    pool: Option<Arc<HeapPool>>,
}

/// A piece of a block: a byte range nobody else reads or writes. Dropping the last piece of a block returns the
/// block to its pool, from any thread.
pub struct PooledBuf {
    block: NonNull<Block>,
    start: u32,
    len: u32,
}

// SAFETY: a piece is the only way to its range; the shared head is changed by atomics only while pieces exist.
unsafe impl Send for PooledBuf {}
// SAFETY: `&PooledBuf` gives out `&[u8]` only.
unsafe impl Sync for PooledBuf {}

impl HeapPool {
    /// A pool of blocks of `block_len` bytes: at most `limit` in use at a time, at most `keep` idle.
    ///
    /// # Panics
    /// If `block_len` is 0 or above 1 GiB: a bug of the caller.
    pub fn new(block_len: usize, limit: usize, keep: usize) -> Arc<Self> {
        assert!(block_len > 0 && block_len <= 1 << 30, "{block_len}");
        Arc::new(Self { block_len, limit, keep, blocks: Mutex::default() })
    }

    /// One whole block, or `None` when `limit` are in use. Its content is what the last user left.
    pub fn take(self: &Arc<Self>) -> Option<PooledBuf> {
        let reused = {
            let mut blocks = self.blocks.lock();
            if blocks.in_use >= self.limit {
                return None;
            }
            blocks.in_use += 1;
            let reused = blocks.idle.pop();
            blocks.allocated += u64::from(reused.is_none());
            reused
        };
        let block = reused.unwrap_or_else(|| Block::allocate(self.block_len));
        // SAFETY: the block came off the idle list or the allocator, so nobody else refers to its head.
        let head = unsafe { &mut *block.as_ptr() };
        head.pool = Some(self.clone());
        *head.pieces.get_mut() = 1;
        Some(PooledBuf { block, start: 0, len: self.block_len as u32 })
    }

    /// Bytes of each block.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Blocks that have a piece in use.
    pub fn in_use(&self) -> usize {
        self.blocks.lock().in_use
    }

    /// Blocks that may be taken before the limit.
    pub fn available(&self) -> usize {
        self.limit - self.in_use()
    }

    /// How often the allocator was asked for a block since the pool was made.
    pub fn allocated(&self) -> u64 {
        self.blocks.lock().allocated
    }

    fn put_back(&self, block: NonNull<Block>) {
        let spare = {
            let mut blocks = self.blocks.lock();
            blocks.in_use -= 1;
            if blocks.idle.len() < self.keep {
                blocks.idle.push(block);
                None
            } else {
                Some(block)
            }
        };
        if let Some(block) = spare {
            // SAFETY: its last piece is gone and it is not on the idle list.
            unsafe { Block::free(block, self.block_len) };
        }
    }
}

impl Drop for HeapPool {
    fn drop(&mut self) {
        for block in self.blocks.get_mut().idle.drain(..) {
            // SAFETY: an idle block has no pieces, and the list is gone after this.
            unsafe { Block::free(block, self.block_len) };
        }
    }
}

impl fmt::Debug for HeapPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.blocks.lock();
        f.debug_struct("HeapPool")
            .field("block_len", &self.block_len)
            .field("in_use", &blocks.in_use)
            .field("idle", &blocks.idle.len())
            .finish_non_exhaustive()
    }
}

impl Block {
    fn allocate(len: usize) -> NonNull<Self> {
        let memory = if len < MAPPED_FROM {
            // SAFETY: the layout has a size above 0, as `HeapPool::new` asserts.
            unsafe { alloc_zeroed(Self::layout(len)) }
        } else {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
            let mapped = unsafe { mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE) };
            mapped.map_or(ptr::null_mut(), |base| base.cast())
        };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(Self::layout(len)) };
        let head = Box::new(Self { pieces: AtomicU32::new(0), memory, pool: None });
        NonNull::from(Box::leak(head))
    }

    /// # Safety
    /// No piece of `block` may exist, and nobody may use it afterwards. `len` is what it was allocated with.
    unsafe fn free(block: NonNull<Self>, len: usize) {
        // SAFETY: `allocate` leaked the head out of a box, and the caller gives it up.
        let head = unsafe { Box::from_raw(block.as_ptr()) };
        if len < MAPPED_FROM {
            // SAFETY: allocated with the same layout; no piece points into it.
            unsafe { dealloc(head.memory.as_ptr(), Self::layout(len)) };
        } else {
            // SAFETY: exactly the range that was mapped; no piece points into it.
            let unmapped = unsafe { munmap(head.memory.as_ptr().cast(), len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_ALIGN).expect("block_len is at most 1 GiB")
    }
}

impl PooledBuf {
    /// Bytes of the piece.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the piece is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of the piece.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the range lies within the block's memory, which is initialised (zeroed when it was allocated or
        // mapped), lives as long as this piece, and is reachable through this piece only.
        unsafe { std::slice::from_raw_parts(self.base(), self.len()) }
    }

    /// The bytes of the piece, to change.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base(), self.len()) }
    }

    /// Cuts the first `len` bytes into consecutive pieces of `stride` bytes, the last one shorter when `stride`
    /// does not divide `len`. No byte is copied. Bytes behind `len` are given up.
    ///
    /// # Panics
    /// If `len` exceeds the piece or `stride` is 0: callers take both from the kernel, within the buffer they gave.
    pub fn split(self, len: usize, stride: usize) -> Pieces {
        assert!(len <= self.len() && stride > 0, "{len} of {} bytes by {stride}", self.len());
        let count = len.div_ceil(stride) as u32;
        let (block, start) = (self.block, self.start);
        if count > 0 {
            // This piece's own share of the block becomes the first of the new ones.
            std::mem::forget(self);
            // SAFETY: the share just forgotten keeps the head alive.
            let head = unsafe { block.as_ref() };
            head.pieces.fetch_add(count - 1, Ordering::Relaxed);
        }
        Pieces { block, next: start, end: start + len as u32, stride: stride as u32, remaining: count }
    }

    fn base(&self) -> *mut u8 {
        // SAFETY: a piece keeps its head alive, and the range was within the memory when it was made.
        unsafe { self.block.as_ref().memory.as_ptr().add(self.start as usize) }
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        // SAFETY: this piece holds one share.
        unsafe { release(self.block, 1) };
    }
}

impl fmt::Debug for PooledBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBuf")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What [`PooledBuf::split`] makes: the pieces, in order. Those not taken return with it.
#[derive(Debug)]
pub struct Pieces {
    block: NonNull<Block>,
    next: u32,
    end: u32,
    stride: u32,
    /// Pieces, and shares of the block, still held here. At 0 `block` may dangle.
    remaining: u32,
}

// SAFETY: as for `PooledBuf`: the ranges still held here are reachable through this value only.
unsafe impl Send for Pieces {}

impl Iterator for Pieces {
    type Item = PooledBuf;

    fn next(&mut self) -> Option<PooledBuf> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        let len = self.stride.min(self.end - self.next);
        let piece = PooledBuf { block: self.block, start: self.next, len };
        self.next += len;
        Some(piece)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Pieces {}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.remaining > 0 {
            // SAFETY: as many shares are held here.
            unsafe { release(self.block, self.remaining) };
        }
    }
}

/// Gives up `shares` of `block`; the last one returns the block to its pool.
///
/// # Safety
/// The caller holds as many shares, and does not use the block afterwards.
unsafe fn release(block: NonNull<Block>, shares: u32) {
    // SAFETY: the caller's shares keep the head alive until they are subtracted.
    let head = unsafe { block.as_ref() };
    // With all shares in hand nobody else can add or subtract one, so the costlier atomic can be left out.
    let last = head.pieces.load(Ordering::Acquire) == shares
        || head.pieces.fetch_sub(shares, Ordering::Release) == shares;
    if !last {
        return;
    }
    // Pairs with the Release above: whatever other owners did to their pieces happened before the reuse.
    fence(Ordering::Acquire);
    // SAFETY: the last share is gone, so this is the only reference to the head.
    let pool = unsafe { (*block.as_ptr()).pool.take() };
    let pool = pool.expect("a block in use knows its pool");
    pool.put_back(block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_reused_after_its_last_piece() {
        let pool = HeapPool::new(1000, 1, 1);
        let mut pieces = pool.take().expect("first").split(250, 100);
        let (a, b, c) = (pieces.next(), pieces.next(), pieces.next());
        assert!(pieces.next().is_none());
        drop(pieces);
        let lens = [&a, &b, &c].map(|piece| piece.as_ref().map(PooledBuf::len));
        assert_eq!(lens, [Some(100), Some(100), Some(50)]);
        drop(b);
        drop(a);
        assert!(pool.take().is_none(), "one piece is still held");
        drop(c);
        assert_eq!(pool.take().expect("returned").len(), 1000);
        assert_eq!(pool.allocated(), 1);
    }

    #[test]
    fn blocks_of_all_sizes_are_zeroed_aligned_and_given_back() {
        for len in [1, 2048, MAPPED_FROM - 1, MAPPED_FROM, 65_536, 100_001] {
            let pool = HeapPool::new(len, 3, 1);
            let mut blocks: Vec<_> = (0..3).map(|_| pool.take().expect("within the limit")).collect();
            for block in &mut blocks {
                assert!(block.len() == len && block.as_slice().iter().all(|&byte| byte == 0));
                assert_eq!(block.as_slice().as_ptr() as usize % BLOCK_ALIGN, 0);
                block.as_mut_slice().fill(0xa5);
            }
            let held = blocks.pop().expect("the third").split(len, len).next().expect("one piece");
            // One of them is kept for reuse, the other one goes.
            drop(blocks);
            assert!(held.as_slice().iter().all(|&byte| byte == 0xa5));
            drop((pool, held));
        }
    }

    #[test]
    fn pieces_left_in_the_iterator_return_with_it() {
        let pool = HeapPool::new(1000, 1, 1);
        let mut pieces = pool.take().expect("first").split(1000, 10);
        let held = pieces.next().expect("100 pieces");
        drop(pieces);
        assert_eq!(pool.in_use(), 1);
        drop(held);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn an_empty_split_returns_the_block() {
        let pool = HeapPool::new(10, 1, 1);
        assert_eq!(pool.take().expect("first").split(0, 1).count(), 0);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn pieces_do_not_overlap_and_outlive_their_pool() {
        let pool = HeapPool::new(64, 4, 0);
        let mut pieces: Vec<_> = pool.take().expect("first").split(64, 7).collect();
        drop(pool);
        for (n, piece) in pieces.iter_mut().enumerate() {
            piece.as_mut_slice().fill(n as u8);
        }
        for (n, piece) in pieces.iter().enumerate() {
            assert!(piece.as_slice().iter().all(|byte| *byte == n as u8));
        }
    }

    #[test]
    fn pieces_dropped_on_many_threads_return_the_block_once() {
        let pool = HeapPool::new(4096, 8, 8);
        for _ in 0..200 {
            let mut pieces: Vec<_> = pool.take().expect("returned").split(4096, 64).collect();
            let other = pieces.split_off(32);
            std::thread::scope(|scope| {
                scope.spawn(move || drop(other));
                scope.spawn(move || drop(pieces));
            });
            assert_eq!(pool.in_use(), 0);
        }
        assert_eq!(pool.allocated(), 1);
    }
}
