//! Memory that is mapped by more than one process: registered as a UMEM by one, used by another.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{
    Pages,
    region::{HUGE_PAGE, Region},
};

/// A file of memory for the frames of a UMEM, all zero, of a size that can't change any more. On huge pages if wanted
/// and possible.
pub(crate) fn memory_file(bytes: usize, huge_pages: bool) -> io::Result<(OwnedFd, Pages)> {
    if !huge_pages {
        return Ok((make(bytes, MemfdFlags::empty())?, Pages::Normal));
    }
    // The kernel tells a shortage of huge pages when they are mapped, not when the file is made.
    let tried = make(mapped_len(bytes, &Pages::Huge), MemfdFlags::HUGETLB)
        .and_then(|file| Ok((Mapping::of(file.as_fd(), bytes, &Pages::Huge)?, file)));
    match tried {
        Ok((_, file)) => Ok((file, Pages::Huge)),
        Err(error) => {
            let why = Pages::no_huge(bytes, &error);
            Ok((make(bytes, MemfdFlags::empty())?, why))
        }
    }
}

fn make(len: usize, flags: MemfdFlags) -> io::Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("wirepath-umem", flags)?);
    file.set_len(len as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

fn mapped_len(bytes: usize, pages: &Pages) -> usize {
    match pages {
        Pages::Huge => bytes.next_multiple_of(HUGE_PAGE),
        Pages::Normal | Pages::Fallback(_) => bytes,
    }
}

/// A memory file mapped for as long as this lives: what a registration needs.
pub(crate) struct Mapping(Region);

impl Mapping {
    pub(crate) fn of(file: BorrowedFd<'_>, bytes: usize, pages: &Pages) -> io::Result<Self> {
        map(file, bytes, pages).map(Self)
    }

    /// Where it starts.
    pub(crate) fn address(&self) -> u64 {
        self.0.address()
    }
}

pub(super) fn map(file: BorrowedFd<'_>, bytes: usize, pages: &Pages) -> io::Result<Region> {
    Region::of_file(file, mapped_len(bytes, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameSize, UmemOptions, UmemPool};

    const OPTIONS: UmemOptions = UmemOptions {
        frame_size: FrameSize::TwoKib,
        frame_count: 64,
        rx_reserve: 16,
        tx_reserve: 16,
        huge_pages: false,
    };

    #[test]
    fn two_pools_on_one_file_see_the_same_memory() {
        let (file, pages) = memory_file(OPTIONS.bytes(), false).expect("made");
        assert_eq!(pages, Pages::Normal);
        let pool = || UmemPool::of_file(OPTIONS, file.as_fd(), Pages::Normal).expect("mapped");
        let (one, other) = (pool(), pool());
        let mut written = one.pool().lease().expect("free");
        let read = other.pool().lease().expect("free");
        written.as_mut_slice()[..5].copy_from_slice(b"hello");
        assert_eq!(&read.as_slice()[..5], b"hello");
    }

    #[test]
    fn a_file_that_could_shrink_or_is_short_is_refused() {
        let loose = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("made");
        let loose = File::from(loose);
        loose.set_len(OPTIONS.bytes() as u64).expect("long enough");
        assert!(UmemPool::of_file(OPTIONS, loose.as_fd(), Pages::Normal).is_err());
        let (short, _) = memory_file(OPTIONS.bytes() - 4096, false).expect("made");
        assert!(UmemPool::of_file(OPTIONS, short.as_fd(), Pages::Normal).is_err());
        assert!(File::from(short).set_len(0).is_err(), "sealed");
    }
}
