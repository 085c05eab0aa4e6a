//! The thread of a partition.

use std::{io, thread};

use tokio::{runtime::Handle, sync::oneshot};

/// Turns every task of the thread gets after the word to stop, so that what was said before it still leaves: a
/// close goes from the application to its connection, the device and the kernel, one turn each.
const PARTING_TURNS: usize = 32;

/// A named thread that runs a current-thread runtime until this is dropped.
#[derive(Debug)]
pub struct PartitionThread {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PartitionThread {
    /// Starts the thread; with `cpu` it is pinned there, as far as the process may.
    ///
    /// # Errors
    /// When the system grants no thread or no runtime.
    pub fn start(index: usize, cpu: Option<usize>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("wirepath-{index}")).spawn(move || {
            if let Some(cpu) = cpu {
                pin(cpu);
            }
            runtime.block_on(async {
                // Ends when the sender says so or is dropped.
                let _ = stopped.await;
                for _ in 0..PARTING_TURNS {
                    tokio::task::yield_now().await;
                }
            });
        })?;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// The runtime, to start actors and tasks on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for PartitionThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the runtime itself has nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(%error, cpu, "the partition's thread could not be pinned");
    }
}
