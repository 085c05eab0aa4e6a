//! Waiting for the kernel to report packets, while the actor's mailbox stays open.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};
use wirepath_drivers::Readiness;

use super::DeviceMessage;
use crate::kit::Mailbox;

/// A task that sleeps on the device's descriptor in the actor's stead and sends it a
/// [`DeviceMessage::Poll`] when packets wait.
#[derive(Debug)]
pub(super) struct Sleeper {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    asleep: AtomicBool,
    /// The longest to sleep.
    within: Mutex<Option<Duration>>,
    sleep: Notify,
    wake: Notify,
}

impl Sleeper {
    /// Starts the task. `None` for devices without a descriptor, and when the descriptor can't be watched;
    /// such a device is polled without end.
    pub(super) fn start(fd: Option<BorrowedFd<'_>>, device: &Mailbox<DeviceMessage>) -> Option<Self> {
        // A duplicate: it may outlive the device.
        let fd = fd?
            .try_clone_to_owned()
            .inspect_err(|error| tracing::warn!(%error, ?device, "the device's descriptor can't be watched"))
            .ok()?;
        let shared = Arc::new(Shared {
            asleep: AtomicBool::new(false),
            within: Mutex::new(None),
            sleep: Notify::new(),
            wake: Notify::new(),
        });
        let task = tokio::spawn(watch(Arc::new(fd), shared.clone(), device.clone()));
        Some(Self { shared, task })
    }

    /// Sleep until packets wait, but no longer than `within`.
    pub(super) fn sleep(&self, within: Option<Duration>) {
        *self.shared.within.lock() = within;
        if !self.shared.asleep.swap(true, AcqRel) {
            self.shared.sleep.notify_one();
        }
    }

    /// Poll again now: there is something to send, and likely something to receive soon.
    pub(super) fn wake(&self) {
        if self.shared.asleep.load(std::sync::atomic::Ordering::Acquire) {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(fd: Arc<OwnedFd>, shared: Arc<Shared>, device: Mailbox<DeviceMessage>) {
    loop {
        shared.sleep.notified().await;
        let within = *shared.within.lock();
        tokio::select! {
            // Registered only now: while the device polls, nobody needs to be woken.
            ready = ready(&fd) => if let Err(error) = ready {
                tracing::warn!(%error, ?device, "waiting for packets failed");
                return;
            },
            () = shared.wake.notified() => {}
            () = time_out(within) => {}
        }
        shared.asleep.store(false, std::sync::atomic::Ordering::Release);
        if device.send(DeviceMessage::Poll).is_err() {
            return;
        }
    }
}

async fn ready(fd: &Arc<OwnedFd>) -> io::Result<()> {
    Readiness::of(fd)?.ready().await
}

async fn time_out(within: Option<Duration>) {
    match within {
        Some(within) => tokio::time::sleep(within).await,
        None => std::future::pending().await,
    }
}
