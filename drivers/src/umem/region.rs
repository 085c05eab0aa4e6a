//! The mapped memory of a UMEM.
#![allow(unsafe_code)] // maps memory and hands out slices of it

use std::{
    ffi::c_void,
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

use rustix::{
    fs::{SealFlags, fcntl_get_seals, fstat},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap},
};

/// What a huge page holds on x86-64 and on arm64 with 4 KiB pages. Mappings of huge pages are rounded up to it.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// What pages a UMEM lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved huge pages (`vm.nr_hugepages`).
    Huge,
    /// Ordinary pages, which the kernel may join to transparent huge ones.
    Normal,
    /// Ordinary pages, though huge ones were asked for: the reason.
    Fallback(String),
}

impl Pages {
    /// Ordinary ones, since there are not enough huge ones for `len` bytes.
    pub(super) fn no_huge(len: usize, error: &io::Error) -> Self {
        Self::Fallback(format!(
            "no {} huge pages to be had ({error}): sysctl vm.nr_hugepages={0} reserves them",
            len.div_ceil(HUGE_PAGE)
        ))
    }
}

/// Memory of our own or of a file, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is plain memory that belongs to no thread. Who may touch which part of it is the pool's
// business: `frame` and `frame_mut` are unsafe and say what they ask for.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes, zeroed, on huge pages if wanted and possible.
    pub(super) fn map(len: usize, huge_pages: bool) -> io::Result<(Self, Pages)> {
        if !huge_pages {
            return Ok((Self::map_pages(len, MapFlags::empty())?, Pages::Normal));
        }
        match Self::map_pages(len.next_multiple_of(HUGE_PAGE), MapFlags::HUGETLB | MapFlags::POPULATE) {
            Ok(region) => Ok((region, Pages::Huge)),
            Err(error) => {
                let why = Pages::no_huge(len, &error);
                Ok((Self::map_pages(len, MapFlags::empty())?, why))
            }
        }
    }

    fn map_pages(len: usize, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | flags,
            )?
        };
        Self::of(base, len)
    }

    /// Maps `len` bytes (of whole pages, huge ones if the file is of such) of a memory file that others may map,
    /// too: see [`memory_file`](super::memory_file).
    ///
    /// # Errors
    /// `InvalidInput` for a file that is shorter, or that could become so; what `mmap` says.
    pub(super) fn of_file(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let long_enough = u64::try_from(fstat(file)?.st_size).is_ok_and(|size| size >= len as u64);
        if !long_enough || !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the memory file is not as it must be"));
        }
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours. The file has all of
        // it, and is sealed against becoming shorter, so that the memory stays for as long as the mapping.
        let base = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
        Self::of(base, len)
    }

    fn of(base: *mut c_void, len: usize) -> io::Result<Self> {
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let region = Self { base, len };
        // A child must not get copies of pinned pages, and larger pages spare TLB misses. Both are wishes.
        for advice in [Advice::LinuxDontFork, Advice::LinuxHugepage] {
            // SAFETY: the range is exactly the mapping just made; neither advice alters its contents.
            let _ = unsafe { madvise(base.as_ptr().cast::<c_void>(), len, advice) };
        }
        Ok(region)
    }

    /// Where the region starts, for the kernel.
    pub(super) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Has the processor fetch the first two cache lines at an offset: of a received packet all that the demux
    /// reads. Beyond, the processor's own prefetching takes over. Offsets out of range do nothing.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset + 2 * CACHE_LINE <= self.len {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: both pointers stay within the region, and a prefetch neither reads nor writes as far as
            // the program can see.
            unsafe {
                let at = self.base.as_ptr().add(offset).cast::<i8>();
                _mm_prefetch::<_MM_HINT_T0>(at);
                _mm_prefetch::<_MM_HINT_T0>(at.add(CACHE_LINE));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// A part of the region.
    ///
    /// # Safety
    /// The range lies within the region, and nobody writes to it while the slice lives.
    #[inline]
    pub(super) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        debug_assert!(offset + len <= self.len);
        // SAFETY: in range and not written to by the caller's promise; zeroed at mapping, so initialised.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }

    /// A part of the region, to write to.
    ///
    /// # Safety
    /// The range lies within the region, and nobody else reads or writes it while the slice lives.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "frames are disjoint; each has one owner")]
    pub(super) unsafe fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        debug_assert!(offset + len <= self.len);
        // SAFETY: in range and unshared by the caller's promise; zeroed at mapping, so initialised.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: base and len are those of our own mapping, and every slice of it borrowed from us. Should
        // the kernel still hold the UMEM, it holds pages that it pinned, not this mapping.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}
