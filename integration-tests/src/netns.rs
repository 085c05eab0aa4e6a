//! Network namespaces without a name: nothing is left of them once their last handle is gone, also when the
//! process is killed.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic::resume_unwind,
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustix::{
    net::SendFlags,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::sys;

/// A network namespace. Cloning gives another handle of the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: &'static str,
    handle: Arc<File>,
}

/// Sends frames out of an interface as they are, right or wrong.
#[derive(Debug)]
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// Sends a frame. What the link does not take (too short, too long, full) is lost, as on any wire.
    pub fn send(&self, frame: &[u8]) {
        let _ = rustix::net::send(&self.socket, frame, SendFlags::empty());
    }
}

/// A thread in a namespace, and what it will return.
#[derive(Debug)]
pub struct Task<R> {
    name: String,
    outcome: mpsc::Receiver<thread::Result<R>>,
}

impl Namespace {
    /// A new namespace with its loopback interface up. `name` appears in thread names and messages only.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; text of `ip` if that fails.
    pub fn new(name: &'static str) -> io::Result<Self> {
        let handle = thread::Builder::new()
            .name(format!("{name}-maker"))
            .spawn(sys::unshare_network)?
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))?;
        let namespace = Self { name, handle: Arc::new(handle) };
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// The name given to [`new`](Self::new).
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A path that other processes can open while this one holds the namespace, as `ip link … netns PATH`
    /// and `nsenter --net=PATH` take it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Runs `work` in the namespace, on a thread of its own, and waits for it. Threads and processes it
    /// starts are in the namespace too. Its panics go on here.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            thread::Builder::new()
                .name(self.name.into())
                .spawn_scoped(scope, || {
                    self.enter();
                    work()
                })
                .expect("a thread can be started")
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts `work` in the namespace on a thread of its own.
    pub fn spawn<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Task<R> {
        let namespace = self.clone();
        Task::start(self.name.into(), move || {
            namespace.enter();
            // The thread counts as being in the namespace; the handle need not live as long.
            drop(namespace);
            work()
        })
    }

    /// Starts `work` in the namespace, on a current-thread runtime on a thread of its own. It may use
    /// [`tokio::task::spawn_local`].
    pub fn runtime<R: Send + 'static>(&self, work: impl AsyncFnOnce() -> R + Send + 'static) -> Task<R> {
        self.spawn(|| block_on(work))
    }

    /// Runs a program in the namespace and returns what it printed.
    ///
    /// # Errors
    /// If it can't be started, or fails: with what it wrote to standard error.
    pub fn command(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        self.run(|| {
            let output = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| missing(program, &error))?;
            printed(&format!("{program} {}", arguments.join(" ")), output)
        })
    }

    /// Runs commands of `ip` (without the word itself) in the namespace, in one process.
    ///
    /// # Errors
    /// The first command that fails, with its text.
    pub fn ip(&self, commands: &[&str]) -> io::Result<String> {
        self.run(|| {
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| missing("ip", &error))?;
            let mut input = child.stdin.take().expect("standard input is piped");
            input.write_all(commands.join("\n").as_bytes())?;
            drop(input);
            printed(&format!("ip -batch: {}", commands.join("; ")), child.wait_with_output()?)
        })
    }

    /// Sets a kernel parameter of the namespace: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// As writing the file does.
    pub fn sysctl(&self, parameter: &str, value: &str) -> io::Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{parameter}"), value))
    }

    /// A way to send whole frames out of one of its interfaces.
    ///
    /// # Errors
    /// If there is no such interface, or it is down.
    pub fn frames(&self, interface: &str) -> io::Result<FrameSender> {
        Ok(FrameSender { socket: self.run(|| sys::packet_socket(interface))? })
    }

    /// Moves the calling thread into the namespace for the rest of its life.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("whoever may make a namespace may enter it");
    }
}

impl<R: Send + 'static> Task<R> {
    /// Starts `work` on a thread in the caller's own namespace.
    pub fn start(name: String, work: impl FnOnce() -> R + Send + 'static) -> Self {
        let (sender, outcome) = mpsc::channel();
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                // Nobody listens any more if the test gave up on us.
                let _ = sender.send(result);
            })
            .expect("a thread can be started");
        Self { name, outcome }
    }

    /// [`Namespace::runtime`] in the caller's own namespace.
    pub fn runtime(name: String, work: impl AsyncFnOnce() -> R + Send + 'static) -> Self {
        Self::start(name, || block_on(work))
    }

    /// Waits for the result. The task's panics go on here.
    ///
    /// # Panics
    /// When `deadline` passes first; the thread is then left to itself.
    pub fn join(self, deadline: Duration) -> R {
        match self.outcome.recv_timeout(deadline) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("{} did not end within {deadline:?}", self.name),
        }
    }

    /// The result, if there is one by now. The task's panics go on here.
    pub fn try_join(&self) -> Option<R> {
        match self.outcome.try_recv().ok()? {
            Ok(result) => Some(result),
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn block_on<R>(work: impl AsyncFnOnce() -> R) -> R {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    tokio::task::LocalSet::new().block_on(&runtime, work())
}

fn missing(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't start {program} ({error}); apt-get install iproute2 ethtool"))
}

fn printed(what: &str, output: Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
