//! A network namespace without a name.

use std::{
    fmt, io,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that a thread of this process lives in, for as long as this value.
pub(super) struct Namespace {
    jobs: SyncSender<Job>,
    path: String,
}

impl Namespace {
    /// Starts a thread in a new network namespace, with a `/sys` that shows it.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let (jobs, pending) = mpsc::sync_channel::<Job>(1);
        let (tell, told) = mpsc::sync_channel(1);
        thread::Builder::new().name(name.to_owned()).spawn(move || live_in_namespace(&tell, &pending))?;
        let path = told.recv().map_err(io::Error::other)??;
        Ok(Self { jobs, path })
    }

    /// Does something in the namespace: sockets opened there and processes started there stay there.
    pub(super) fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::sync_channel(1);
        let send_result = move || drop(tell.send(job()));
        self.jobs.send(Box::new(send_result)).expect("the thread lives as long as its job sender");
        told.recv().expect("a job that panics is a defect of its caller")
    }

    /// Where the namespace can be named from other processes, as `ip … netns` takes it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.path).finish()
    }
}

fn live_in_namespace(tell: &SyncSender<io::Result<String>>, pending: &Receiver<Job>) {
    let entered = enter_new().map(|()| format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid()));
    let failed = entered.is_err();
    if tell.send(entered).is_err() || failed {
        return;
    }
    while let Ok(job) = pending.recv() {
        job();
    }
}

fn enter_new() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    // sysfs shows the devices of the namespace it was mounted in. Nothing mounted here is to be seen outside.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    Ok(())
}
