//! A descriptor that becomes readable at a given time (`timerfd_create(2)`).
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable in `wait` from now; `None`: not at all. Either way it is not readable until then.
    pub(super) fn set(&self, wait: Option<Duration>) {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would mean "never".
        let first = wait.map_or(none, |wait| {
            let wait = wait.max(Duration::from_nanos(1));
            libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() }
        });
        let setting = libc::itimerspec { it_interval: none, it_value: first };
        // SAFETY: `setting` outlives the call; the old setting is not asked for.
        let result =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const setting, ptr::null_mut()) };
        debug_assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
