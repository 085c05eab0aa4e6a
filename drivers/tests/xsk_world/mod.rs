//! Two network namespaces joined by a veth pair, for tests of AF_XDP on real interfaces.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod traffic;

use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wirepath_drivers::{NextHop, NextHops};

/// All namespaces of these tests start so; then comes the process that made them.
const PREFIX: &str = "wpd1-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How the pair is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub queues: u32,
    pub mtu: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { queues: 1, mtu: 1500 }
    }
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub fn interface(self) -> &'static str {
        match self {
            Self::A => "veth-a",
            Self::B => "veth-b",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    pub fn mac(self) -> [u8; 6] {
        [0x02, 0, 0, 0, 0, self.number()]
    }

    pub fn v4(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 77, 0, self.number()]), port)
    }

    pub fn v6(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, self.number().into()]), port)
    }
}

/// The namespaces; deleted, with all in them, when dropped.
#[derive(Debug)]
pub struct World {
    a: String,
    b: String,
}

/// Makes a world, or says by name why the test is skipped. Written past the test harness, which would keep
/// the output of a passing test to itself.
pub fn world(test: &str, shape: Shape) -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs root");
        return None;
    }
    Some(World::new(shape))
}

impl World {
    fn new(shape: Shape) -> Self {
        sweep();
        let id = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self { a: format!("{id}-a"), b: format!("{id}-b") };
        let Shape { queues, mtu } = shape;
        for side in [Side::A, Side::B] {
            ip(&format!("netns add {}", world.namespace(side)));
        }
        ip(&format!(
            "link add veth-a netns {} address {} mtu {mtu} numrxqueues {queues} numtxqueues {queues} type veth \
             peer name veth-b netns {} address {} mtu {mtu} numrxqueues {queues} numtxqueues {queues}",
            world.a,
            mac(Side::A),
            world.b,
            mac(Side::B)
        ));
        for side in [Side::A, Side::B] {
            world.ip(side, &format!("addr add {}/24 dev {}", side.v4(0).ip(), side.interface()));
            world.ip(side, &format!("addr add {}/64 dev {} nodad", side.v6(0).ip(), side.interface()));
            world.ip(side, &format!("link set {} up", side.interface()));
        }
        world
    }

    pub fn namespace(&self, side: Side) -> &str {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Runs `ip` within one namespace.
    pub fn ip(&self, side: Side, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.namespace(side)));
    }

    /// Runs `work` on a thread of its own within one namespace.
    pub fn on<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, '_>,
        side: Side,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> thread::ScopedJoinHandle<'scope, T> {
        let namespace = fs::File::open(format!("/run/netns/{}", self.namespace(side))).unwrap();
        scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// As [`on`](Self::on), and waits.
    pub fn at<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| match self.on(scope, side, work).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for side in [Side::A, Side::B] {
            let _ = Command::new("ip").args(["netns", "del", self.namespace(side)]).status();
        }
    }
}

/// Deletes what killed test processes left.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner
            && !fs::exists(format!("/proc/{owner}")).unwrap_or(true)
        {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

fn mac(side: Side) -> String {
    side.mac().map(|byte| format!("{byte:02x}")).join(":")
}

/// Everything goes to the other end.
pub struct ToPeer(pub Side);

impl NextHops for ToPeer {
    fn lookup(&mut self, remote: IpAddr) -> NextHop {
        let local = if remote.is_ipv4() { self.0.v4(0) } else { self.0.v6(0) };
        NextHop::Resolved {
            src_mac: self.0.mac(),
            dst_mac: self.0.peer().mac(),
            src_ip: local.ip(),
            vlan: None,
        }
    }

    fn generation(&self) -> u64 {
        0
    }
}
