//! One end of the veth pair.

use std::{
    io,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{Link, Namespace, WorldError};

/// Bits of the network in the hosts' addresses.
const PREFIX_LEN: u8 = 24;

/// A namespace with its end of the veth pair.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    interface: &'static str,
    address: Ipv4Addr,
}

impl Host {
    pub(super) fn new(interface: &'static str, address: Ipv4Addr) -> Result<Self, WorldError> {
        let namespace = Namespace::new(interface).map_err(WorldError::Namespace)?;
        Ok(Self { namespace, interface, address })
    }

    /// The host's network device.
    pub fn interface(&self) -> &'static str {
        self.interface
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn namespace_path(&self) -> &str {
        self.namespace.path()
    }

    pub(super) fn configure(&self, link: &Link) -> Result<(), WorldError> {
        let Self { interface, address, .. } = self;
        self.run("ip link set lo up")?;
        self.run(&format!("ip address add {address}/{PREFIX_LEN} dev {interface}"))?;
        if !link.checksum_offload {
            self.run(&format!("ethtool -K {interface} tx off"))?;
        }
        if !link.whole_segments {
            self.run(&format!("ethtool -K {interface} tx-udp-segmentation off"))?;
        }
        self.run(&format!("ip link set {interface} mtu {} up", link.mtu))
    }

    /// Does something in the host's namespace.
    pub fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.namespace.inside(job)
    }

    /// Runs a tool to its end. Words are split at blanks.
    ///
    /// # Errors
    /// [`WorldError::Tool`] when it is missing or fails.
    pub fn run(&self, command_line: &str) -> Result<(), WorldError> {
        let line = command_line.to_owned();
        self.inside(move || run_tool(&line))
    }

    /// Starts a process, on one core if told; other processes it starts inherit both.
    ///
    /// # Errors
    /// There is no such program, or no such core for this process.
    pub fn spawn(&self, mut command: Command, core: Option<usize>) -> io::Result<Child> {
        self.inside(move || {
            let this_thread = Pid::from_raw(0);
            let Some(core) = core else { return command.spawn() };
            let before = sched_getaffinity(this_thread)?;
            let mut only = CpuSet::new();
            only.set(core)?;
            sched_setaffinity(this_thread, &only)?;
            let child = command.spawn();
            sched_setaffinity(this_thread, &before)?;
            child
        })
    }
}

pub(super) fn run_tool(command_line: &str) -> Result<(), WorldError> {
    let failed = |output: String| WorldError::Tool(command_line.to_owned(), output.trim().to_owned());
    let mut words = command_line.split_whitespace();
    let program = words.next().unwrap_or_default();
    // An administrator's tools are not on everybody's path, even that of root after `su`.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(program);
    command.args(words).env("PATH", path).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        failed(match error.kind() {
            io::ErrorKind::NotFound => format!("{program} is not installed"),
            _ => error.to_string(),
        })
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}
