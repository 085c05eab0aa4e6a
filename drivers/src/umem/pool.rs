//! The frames of one UMEM: who may have how many, and the list of those nobody has.
#![allow(unsafe_code)] // makes handles, and frees the pool after the last of them

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{
    Pages, UmemFrame, UmemOptions,
    ledger::{FrameSight, Ledger, Place, State, UmemAudit},
    region::Region,
    return_stack::ReturnStack,
};

/// Frames moved under one lock of the free list: long enough to make the lock's 10 ns vanish, short enough
/// that a connection that leases meanwhile waits well under a microsecond.
pub(crate) const FILL_BATCH: usize = 64;

/// Returned frames that make sorting them into the free list worth it: as many leases and returns share its cost,
/// and fewer frames are in use than if all others were leased first.
const SORT_AT: usize = 16;

/// Why an address that the kernel gave is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It lies outside the UMEM.
    Address,
    /// Its frame is not with the kernel.
    Place,
}

/// What is not touched by leasing and returning, on cache lines of its own.
#[repr(align(128))]
struct Shape {
    region: Region,
    frame_shift: u32,
    rx_limit: u32,
    tx_limit: u32,
    ledger: Ledger,
    pages: Pages,
}

struct FreeList {
    /// A stack: what was used last is likely still in the cache.
    frames: Vec<u32>,
    rx_held: u32,
    tx_held: u32,
    retired: bool,
}

/// The owner of a UMEM: what the kernel holds belongs to it. When it is dropped (after the XSK is closed) the
/// kernel's frames count as free and nothing is leased any more; frames that are out stay valid.
#[derive(Debug)]
pub struct Umem(Arc<UmemPool>);

impl Umem {
    /// The frames.
    #[inline]
    pub fn pool(&self) -> &Arc<UmemPool> {
        &self.0
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// The frames of one UMEM.
///
/// Shared by the XSK that fills and drains the rings, and by everybody who holds a frame or leases one.
//
// The pool holds a share of itself for all handles together, so that none has to count itself. It is let go by
// whoever brings the last frame home after `Umem` was dropped: see `ReturnStack`.
pub struct UmemPool {
    shape: Shape,
    share: AtomicPtr<UmemPool>,
    list: Mutex<FreeList>,
    leasable: AtomicUsize,
    rx_low: AtomicBool,
    rejected: AtomicU64,
    returned: Padded<ReturnStack>,
}

/// On cache lines of its own: every thread that drops a frame writes here.
#[repr(align(128))]
struct Padded<T>(T);

impl UmemPool {
    /// Maps the memory; all frames are free.
    ///
    /// # Errors
    /// What `mmap` says, and `InvalidInput` if there are fewer frames than reserved.
    #[expect(clippy::new_ret_no_self, reason = "a pool without an owner would never end")]
    pub fn new(options: UmemOptions) -> io::Result<Umem> {
        options.check()?;
        let (region, pages) = Region::map(options.bytes(), options.huge_pages)?;
        Ok(Self::on(region, pages, options))
    }

    /// As [`new`](Self::new), on memory shared with whoever registers it as a UMEM: a [memory file](super::memory_file)
    /// on such `pages`.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and `InvalidInput` if the file is not of the kind.
    pub(crate) fn of_file(options: UmemOptions, file: BorrowedFd<'_>, pages: Pages) -> io::Result<Umem> {
        options.check()?;
        let region = super::file::map(file, options.bytes(), &pages)?;
        Ok(Self::on(region, pages, options))
    }

    fn on(region: Region, pages: Pages, options: UmemOptions) -> Umem {
        let UmemOptions { frame_size, frame_count, rx_reserve, tx_reserve, .. } = options;
        let pool = Arc::new(Self {
            shape: Shape {
                region,
                frame_shift: frame_size.bytes().trailing_zeros(),
                rx_limit: frame_count - tx_reserve,
                tx_limit: frame_count - rx_reserve,
                ledger: Ledger::new(frame_count),
                pages,
            },
            list: Mutex::new(FreeList {
                frames: (0..frame_count).rev().collect(),
                rx_held: 0,
                tx_held: 0,
                retired: false,
            }),
            leasable: AtomicUsize::new((frame_count - rx_reserve) as usize),
            rx_low: AtomicBool::new(false),
            rejected: AtomicU64::new(0),
            share: AtomicPtr::new(ptr::null_mut()),
            returned: Padded(ReturnStack::new(frame_count)),
        });
        pool.share.store(Arc::into_raw(Arc::clone(&pool)).cast_mut(), Relaxed);
        Umem(pool)
    }

    /// Takes a frame to send, or `None` if sending holds all it may.
    #[inline]
    pub fn lease(&self) -> Option<UmemFrame> {
        let index = {
            let mut list = self.list.lock();
            self.sort_in(&mut list, 1, true);
            if self.lease_limit(&list) == 0 {
                return None;
            }
            let index = list.frames.pop()?;
            list.tx_held += 1;
            self.note_leasable(&list);
            index
        };
        Some(self.take(index, Place::TxApp))
    }

    /// Takes up to `count` frames to send, under one lock a batch; returns how many `each` was called for.
    pub fn lease_many(&self, count: usize, mut each: impl FnMut(UmemFrame)) -> usize {
        let mut leased = 0;
        let mut batch = [0; FILL_BATCH];
        while leased < count {
            let taken = {
                let mut list = self.list.lock();
                let wanted = (count - leased).min(FILL_BATCH);
                self.sort_in(&mut list, wanted, true);
                let allowed = self.lease_limit(&list);
                let taken = pop_into(&mut list.frames, &mut batch, allowed.min(wanted));
                list.tx_held += taken as u32;
                self.note_leasable(&list);
                taken
            };
            for &index in &batch[..taken] {
                each(self.take(index, Place::TxApp));
            }
            leased += taken;
            if taken < FILL_BATCH {
                break;
            }
        }
        leased
    }

    /// Frames that could be leased to send now, as far as known.
    pub fn leasable(&self) -> usize {
        let limit = self.shape.tx_limit as usize;
        (self.leasable.load(Relaxed) + self.returned.0.takeable()).min(limit)
    }

    /// Whether receiving runs short of frames because the program holds many: whoever keeps received packets
    /// for long should copy them out and drop them.
    pub fn is_rx_low(&self) -> bool {
        self.rx_low.load(Relaxed)
    }

    /// All frames there are.
    pub fn capacity(&self) -> usize {
        self.shape.ledger.len() as usize
    }

    /// Bytes of one frame.
    #[inline]
    pub fn frame_size(&self) -> usize {
        1 << self.shape.frame_shift
    }

    /// The pages the UMEM got.
    pub fn pages(&self) -> &Pages {
        &self.shape.pages
    }

    /// Counts where every frame is. Walks all of them: for tests, `doctor`, and the dashboard's slow path.
    pub fn audit(&self) -> UmemAudit {
        let mut list = self.list.lock();
        self.sort_all_in(&mut list);
        let mut audit = UmemAudit::of(self.shape.ledger.count(), self.capacity());
        // After retirement all that is home lies on the stack, what was quarantined included.
        let returned = if list.retired { self.returned.0.len() - audit.quarantined } else { 0 };
        let mut seen = vec![false; self.capacity()];
        for &index in &list.frames {
            let twice = std::mem::replace(&mut seen[index as usize], true);
            audit.free_list_wrong += usize::from(twice || !self.shape.ledger.state(index).is(Place::Free));
        }
        audit.free_list = list.frames.len() + returned;
        audit.rejected = self.rejected.load(Relaxed);
        audit
    }

    /// Counts where every frame is, without stopping anybody and without a look at the free list.
    pub fn census(&self) -> UmemAudit {
        let mut census = UmemAudit::of(self.shape.ledger.count(), self.capacity());
        census.free_list = census.free;
        census.rejected = self.rejected.load(Relaxed);
        census
    }

    /// What is to be seen of each frame, by its number: stops nobody.
    pub fn sights(&self) -> Vec<FrameSight> {
        (0..self.shape.ledger.len()).map(|index| self.shape.ledger.sight(index)).collect()
    }

    #[inline]
    pub(super) fn hold(&self, index: u32, state: State, holder: u32) {
        self.shape.ledger.hold(index, state, holder);
    }

    /// Start and length of the memory, for its registration.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.shape.region.address(), (self.capacity() << self.shape.frame_shift) as u64)
    }

    /// Takes up to `wanted` frames (at most [`FILL_BATCH`]) for the fill ring; `out` gets their addresses.
    #[inline]
    pub(crate) fn take_for_fill(&self, wanted: usize, out: &mut [u64; FILL_BATCH]) -> usize {
        let mut batch = [0; FILL_BATCH];
        let taken = {
            let mut list = self.list.lock();
            self.sort_in(&mut list, wanted, false);
            let allowed = if list.retired { 0 } else { self.shape.rx_limit - list.rx_held } as usize;
            let taken = pop_into(&mut list.frames, &mut batch, allowed.min(wanted));
            list.rx_held += taken as u32;
            self.note_leasable(&list);
            taken
        };
        for (&index, address) in batch[..taken].iter().zip(out) {
            self.shape.ledger.take(index, Place::Fill);
            *address = u64::from(index) << self.shape.frame_shift;
        }
        taken
    }

    /// Tells whether the fill ring could not be kept filled.
    #[inline]
    pub(crate) fn set_rx_low(&self, low: bool) {
        if self.rx_low.load(Relaxed) != low {
            self.rx_low.store(low, Relaxed);
        }
    }

    /// The frame that the kernel received into, and where in it the address points.
    #[inline]
    pub(crate) fn received(&self, address: u64) -> Result<(UmemFrame, usize), Rejected> {
        let index = self.index_of(address)?;
        let state = self.shape.ledger.state(index);
        let moved =
            state.is(Place::Fill).then(|| self.shape.ledger.advance(index, state, Place::RxApp)).flatten();
        let Some(state) = moved else {
            return Err(self.reject(Rejected::Place));
        };
        let offset = (address & ((1 << self.shape.frame_shift) - 1)) as usize;
        // Its first bytes are read only when the whole batch is out of the ring: time enough to fetch them.
        self.shape.region.prefetch(address as usize);
        // SAFETY: this thread just moved the frame out of the kernel's hands.
        let frame = unsafe { UmemFrame::new(self.share(), index, state) };
        Ok((frame, offset))
    }

    /// Takes a frame out of use for good.
    pub(crate) fn quarantine(&self, frame: UmemFrame) {
        let state = frame.state;
        let index = frame.detach();
        if self.shape.ledger.advance(index, state, Place::Quarantined).is_none() {
            self.reject(Rejected::Place);
        }
    }

    /// Hands a frame to the TX ring: its address in the UMEM. The frame must be of this pool.
    #[inline]
    pub(crate) fn submit(&self, frame: UmemFrame) -> Result<u64, Rejected> {
        debug_assert!(ptr::eq(self, frame.pool()));
        let state = frame.state;
        let to = if state.is(Place::RxApp) { Place::TxRingOfRx } else { Place::TxRing };
        let index = frame.detach();
        match self.shape.ledger.advance(index, state, to) {
            Some(_) => Ok(u64::from(index) << self.shape.frame_shift),
            None => Err(self.reject(Rejected::Place)),
        }
    }

    /// Frees the frames at these addresses of the completion ring; returns how many were refused.
    #[inline]
    pub(crate) fn complete(&self, addresses: &[u64]) -> usize {
        let mut refused = 0;
        for chunk in addresses.chunks(FILL_BATCH) {
            let mut freed = [0; FILL_BATCH];
            let (mut count, mut of_rx) = (0, 0);
            for &address in chunk {
                match self.completed(address) {
                    Ok((index, was_rx)) => {
                        freed[count] = index;
                        count += 1;
                        of_rx += u32::from(was_rx);
                    }
                    Err(_) => refused += 1,
                }
            }
            let mut list = self.list.lock();
            list.frames.extend_from_slice(&freed[..count]);
            list.rx_held -= of_rx;
            list.tx_held -= count as u32 - of_rx;
            self.note_leasable(&list);
        }
        refused
    }

    /// The XSK is closed: what the kernel held is free, and nothing is given out any more.
    fn retire(&self) {
        let last = {
            let mut list = self.list.lock();
            list.retired = true;
            self.leasable.store(0, Relaxed);
            // Everything that is not out goes where the rest will come.
            for index in std::mem::take(&mut list.frames) {
                self.returned.0.push(index, false);
            }
            for index in 0..self.shape.ledger.len() {
                let state = self.shape.ledger.state(index);
                let home = match state.place() {
                    Some(Place::Fill | Place::TxRing | Place::TxRingOfRx) => {
                        self.shape.ledger.advance(index, state, Place::Free).is_some()
                    }
                    Some(Place::Quarantined) => true,
                    _ => false,
                };
                if home {
                    self.returned.0.push(index, false);
                }
            }
            self.returned.0.close()
        };
        if last {
            // SAFETY: all frames are home, told to nobody else; `self` is borrowed from another share.
            drop(unsafe { Arc::from_raw(self.share().as_ptr()) });
        }
    }

    pub(super) fn region(&self) -> &Region {
        &self.shape.region
    }

    /// A handle was dropped.
    ///
    /// # Safety
    /// `pool` is what the handle was made with, and the handle is not used hereafter.
    #[inline]
    pub(super) unsafe fn take_back(pool: NonNull<Self>, index: u32, state: State) {
        let last = {
            // SAFETY: the pool lives at least until the push below, which brings this frame home.
            let this = unsafe { pool.as_ref() };
            if this.shape.ledger.advance(index, state, Place::Free).is_none() {
                this.reject(Rejected::Place);
                return;
            }
            let was_rx = state.place().is_some_and(Place::is_rx);
            this.returned.0.push(index, was_rx)
        };
        if last {
            // SAFETY: the share was leaked by `new`, and exactly one push or `retire` is the last one home.
            drop(unsafe { Arc::from_raw(pool.as_ptr()) });
        }
    }

    /// The share that all handles live on.
    #[inline]
    fn share(&self) -> NonNull<Self> {
        // SAFETY: set by `new` before anybody saw the pool.
        unsafe { NonNull::new_unchecked(self.share.load(Relaxed)) }
    }

    /// A handle of a frame just taken off the free list.
    #[inline]
    fn take(&self, index: u32, place: Place) -> UmemFrame {
        let state = self.shape.ledger.take(index, place);
        // SAFETY: the free list held the index once, and the lock gave it to this caller alone.
        unsafe { UmemFrame::new(self.share(), index, state) }
    }

    /// Sorts returned frames into the free list, if there are enough of them or too few others.
    #[inline]
    fn sort_in(&self, list: &mut FreeList, wanted: usize, to_send: bool) {
        let returned = self.returned.0.takeable();
        if returned == 0 {
            return;
        }
        let (held, limit) = match to_send {
            true => (list.tx_held, self.shape.tx_limit),
            false => (list.rx_held, self.shape.rx_limit),
        };
        let short = list.frames.len() < wanted || ((limit - held) as usize) < wanted;
        if short || returned >= SORT_AT {
            self.sort_all_in(list);
        }
    }

    fn sort_all_in(&self, list: &mut FreeList) {
        if list.retired {
            return;
        }
        let (frames, rx_held, tx_held) = (&mut list.frames, &mut list.rx_held, &mut list.tx_held);
        self.returned.0.take_all(|index, was_rx| {
            frames.push(index);
            *if was_rx { &mut *rx_held } else { &mut *tx_held } -= 1;
        });
        self.note_leasable(list);
    }

    #[inline]
    fn completed(&self, address: u64) -> Result<(u32, bool), Rejected> {
        let index = self.index_of(address)?;
        let state = self.shape.ledger.state(index);
        let was_rx = state.is(Place::TxRingOfRx);
        if (was_rx || state.is(Place::TxRing))
            && self.shape.ledger.advance(index, state, Place::Free).is_some()
        {
            return Ok((index, was_rx));
        }
        Err(self.reject(Rejected::Place))
    }

    #[inline]
    fn index_of(&self, address: u64) -> Result<u32, Rejected> {
        match u32::try_from(address >> self.shape.frame_shift) {
            Ok(index) if index < self.shape.ledger.len() => Ok(index),
            _ => Err(self.reject(Rejected::Address)),
        }
    }

    #[inline]
    fn lease_limit(&self, list: &FreeList) -> usize {
        if list.retired { 0 } else { (self.shape.tx_limit - list.tx_held) as usize }
    }

    #[inline]
    fn note_leasable(&self, list: &FreeList) {
        self.leasable.store(self.lease_limit(list).min(list.frames.len()), Relaxed);
    }

    #[cold]
    fn reject(&self, why: Rejected) -> Rejected {
        self.rejected.fetch_add(1, Relaxed);
        why
    }
}

impl fmt::Debug for UmemPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UmemPool")
            .field("capacity", &self.capacity())
            .field("frame_size", &self.frame_size())
            .field("leasable", &self.leasable())
            .finish_non_exhaustive()
    }
}

/// Moves up to `count` entries off the stack into `out`.
#[inline]
fn pop_into(frames: &mut Vec<u32>, out: &mut [u32; FILL_BATCH], count: usize) -> usize {
    let count = count.min(FILL_BATCH).min(frames.len());
    let left = frames.len() - count;
    out[..count].copy_from_slice(&frames[left..]);
    frames.truncate(left);
    count
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
