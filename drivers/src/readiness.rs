//! Waiting for a device's descriptor, as a future.
#![allow(unsafe_code)] // registers a descriptor with the runtime

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::io::{Interest, unix::AsyncFd};

/// Waits until a descriptor polls readable.
///
/// As long as it lives, the kernel runs a wake-up for each packet that arrives, on the core that delivers it: on
/// a veth pair some 7 % of a sender's time. So keep it for as long as you sleep, and no longer.
#[derive(Debug)]
pub struct Readiness(AsyncFd<Arc<OwnedFd>>);

impl Readiness {
    /// Watches `fd` on the current tokio runtime. A descriptor that is readable already is noticed.
    ///
    /// # Errors
    /// When the descriptor can't be polled.
    pub fn of(fd: &Arc<OwnedFd>) -> io::Result<Self> {
        // SAFETY: the `AsyncFd` holds a share of the owned descriptor, and nothing closes it before the last
        // share is gone: it stays open and the same for as long as it is registered.
        let watched = unsafe { AsyncFd::register_with_interest(fd.clone(), Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
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
