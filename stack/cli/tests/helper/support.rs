//! Helpers, processes without rights, and what they leave behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::chown,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use integration_tests::{cert::Identity, netns::Namespace, world::INTERFACE};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// "nobody", by custom; nothing here needs it to have a name.
pub(crate) const NOBODY: u32 = 65_534;

/// A folder of the test's own, that others may read; gone with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wirepath-helper-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("www")).unwrap();
        fs::create_dir_all(path.join("downloads")).unwrap();
        chown(path.join("downloads"), Some(NOBODY), None).unwrap();
        let identity = Identity::new();
        fs::write(path.join("cert.pem"), &identity.certificate).unwrap();
        // Of a certificate that lives as long as the test.
        fs::write(path.join("key.pem"), &identity.key).unwrap();
        fs::write(path.join("www/file"), vec![7; 1 << 20]).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A program that has said that it is ready; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) said: String,
}

impl Running {
    pub(crate) fn start(namespace: &Namespace, mut command: Command, ready: &str) -> Self {
        let mut child =
            namespace.run(|| command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()).expect("it starts");
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with(ready), "{said:?} {:?}", child.kill());
        Self { child, said }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn helper(namespace: &Namespace, socket: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirepath"));
    command.args(["helper", "--socket", socket, "--xdp", INTERFACE]).args(arguments);
    Running::start(namespace, command, "helping at")
}

/// A line of `/proc/PID/status`.
pub(crate) fn told(process: &str, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn has_no_rights(process: &str) {
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(told(process, set), "0000000000000000", "{set}");
    }
}

/// Takes all rights from the calling thread, and so from those it starts.
pub(crate) fn drop_rights() {
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        *set = CapabilitySet::empty();
    }
    set_capabilities(None, sets).unwrap();
    has_no_rights("thread-self");
}

pub(crate) fn has_program(namespace: &Namespace) -> bool {
    namespace.ip(&[&format!("link show {INTERFACE}")]).unwrap().contains("prog/xdp")
}

#[track_caller]
pub(crate) fn until(what: &str, wanted: impl Fn() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < DEADLINE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
