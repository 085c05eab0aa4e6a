//! Waiting for a device's descriptor, as a future.
#![allow(unsafe_code)] // registers a descriptor with the runtime

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Waits until a descriptor polls readable. Owns a duplicate of it, so that it may outlive the device.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Watches a duplicate of `fd`, on the current tokio runtime.
    ///
    /// # Errors
    /// When the process is out of descriptors or the descriptor can't be polled.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let owned = fd.try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on and nothing else closes it, so it stays
        // open and the same for as long as it is registered.
        let fd = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self(fd))
    }

    /// Waits until packets may wait. Then read until there are none before waiting again: what comes after this
    /// returned wakes the next wait.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
