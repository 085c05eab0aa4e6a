//! The memory of one ring: mapped from an XSK, or plain for tests.
#![allow(unsafe_code)] // maps memory and computes pointers into it

use std::{
    ffi::c_void,
    io, mem,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::{Arc, atomic::AtomicU32},
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::xdp::XdpRingOffset,
};

use super::ring::RingParts;

/// Memory that lives as long as somebody holds this.
#[derive(Clone, Debug)]
pub(super) struct RingMemory(
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its drop"))] Arc<Block>,
);

#[derive(Debug)]
enum Block {
    Mapped {
        base: NonNull<u8>,
        len: usize,
    },
    #[cfg(test)]
    Plain {
        base: NonNull<u8>,
        layout: std::alloc::Layout,
    },
}

// SAFETY: plain memory that belongs to no thread; it is reached only through `RingParts`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl RingMemory {
    /// Maps the ring of `fd` at `page_offset` (an `XDP_PGOFF_*`), of `size` entries of `T`, whose parts lie at
    /// `offsets`.
    pub(super) fn map<T>(
        fd: BorrowedFd<'_>,
        page_offset: u64,
        size: u32,
        offsets: &XdpRingOffset,
    ) -> io::Result<RingParts<T>> {
        let len = offsets.desc as usize + size as usize * mem::size_of::<T>();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                fd,
                page_offset,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self(Arc::new(Block::Mapped { base, len }));
        let word = mem::size_of::<u32>() as u64;
        let in_range = |offset: u64| offset.is_multiple_of(word) && offset + word <= len as u64;
        let aligned = offsets.desc.is_multiple_of(mem::align_of::<T>() as u64);
        if !aligned
            || ![Some(offsets.producer), Some(offsets.consumer), offsets.flags]
                .into_iter()
                .flatten()
                .all(in_range)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("ring offsets {offsets:?}")));
        }
        // SAFETY: all offsets were just found to lie within the mapping and to be aligned; `memory` goes along.
        unsafe {
            Ok(RingParts {
                producer: base.add(offsets.producer as usize).cast::<AtomicU32>(),
                consumer: base.add(offsets.consumer as usize).cast::<AtomicU32>(),
                flags: offsets.flags.map(|flags| base.add(flags as usize).cast::<AtomicU32>()),
                entries: base.add(offsets.desc as usize).cast::<T>(),
                mask: size - 1,
                memory,
            })
        }
    }

    /// Plain memory for a ring of `size` entries of `T` whose counters stand at `start`.
    #[cfg(test)]
    pub(super) fn plain<T>(size: u32, start: u32) -> Self {
        use std::alloc::{Layout, alloc_zeroed};
        assert!(size.is_power_of_two());
        let len = PLAIN_ENTRIES + size as usize * mem::size_of::<T>();
        let layout = Layout::from_size_align(len, 64).unwrap();
        // SAFETY: the layout is not empty. The counters lie within it, aligned.
        let base = unsafe {
            let base = NonNull::new(alloc_zeroed(layout)).unwrap();
            base.cast::<u32>().write(start);
            base.add(PLAIN_CONSUMER).cast::<u32>().write(start);
            base
        };
        Self(Arc::new(Block::Plain { base, layout }))
    }

    /// The parts of a plain ring, for one of its ends.
    #[cfg(test)]
    pub(super) fn plain_parts<T>(&self, size: u32) -> RingParts<T> {
        let Block::Plain { base, layout } = *self.0 else { panic!("a mapped ring") };
        assert_eq!(layout.size(), PLAIN_ENTRIES + size as usize * mem::size_of::<T>());
        // SAFETY: the offsets lie within the block, as `plain` made it, and are aligned.
        unsafe {
            RingParts {
                producer: base.cast::<AtomicU32>(),
                consumer: base.add(PLAIN_CONSUMER).cast::<AtomicU32>(),
                flags: Some(base.add(PLAIN_FLAGS).cast::<AtomicU32>()),
                entries: base.add(PLAIN_ENTRIES).cast::<T>(),
                mask: size - 1,
                memory: self.clone(),
            }
        }
    }
}

/// As the kernel lays a ring out: each counter on a cache line of its own, then the entries.
#[cfg(test)]
const PLAIN_CONSUMER: usize = 64;
#[cfg(test)]
const PLAIN_FLAGS: usize = 128;
#[cfg(test)]
const PLAIN_ENTRIES: usize = 192;

impl Drop for Block {
    fn drop(&mut self) {
        match *self {
            // SAFETY: our own mapping, and the last holder of pointers into it is gone.
            Self::Mapped { base, len } => unsafe {
                let _ = munmap(base.as_ptr().cast::<c_void>(), len);
            },
            #[cfg(test)]
            // SAFETY: allocated with just this layout, and the last holder is gone.
            Self::Plain { base, layout } => unsafe { std::alloc::dealloc(base.as_ptr(), layout) },
        }
    }
}
