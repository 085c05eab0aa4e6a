//! Two network namespaces joined by a veth pair, and the route table of one of them, for tests of routes and
//! neighbours.
#![allow(unreachable_pub)]

use std::{
    fs,
    future::Future,
    io::Write,
    net::IpAddr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::{Instant, sleep};
use wirepath_drivers::{NextHop, NextHops, Nic, RouteHops, RouteTable};

/// All namespaces of these tests start so; then comes the process that made them.
const PREFIX: &str = "wpd3-";

/// Our end.
pub const A: &str = "veth-a";
/// The neighbour's end.
pub const B: &str = "veth-b";
pub const A_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub const B_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// Longer than any wait of these tests when all is well (the kernel gives up on a neighbour after 3 s).
const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The namespaces; deleted, with all in them, when dropped. `A` is 10.77.0.1 and fd77::1, `B` 10.77.0.2 and
/// fd77::2.
#[derive(Debug)]
pub struct World {
    a: String,
    b: String,
}

impl World {
    fn new() -> Self {
        sweep();
        let id = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self { a: format!("{id}-a"), b: format!("{id}-b") };
        ip(&format!("netns add {}", world.a));
        ip(&format!("netns add {}", world.b));
        ip(&format!(
            "link add {A} netns {} address {} type veth peer name {B} netns {} address {}",
            world.a,
            text(A_MAC),
            world.b,
            text(B_MAC)
        ));
        for (namespace, device, host) in [(&world.a, A, 1), (&world.b, B, 2)] {
            ip(&format!("-n {namespace} addr add 10.77.0.{host}/24 dev {device}"));
            ip(&format!("-n {namespace} addr add fd77::{host}/64 dev {device} nodad"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set {device} up"));
        }
        world
    }

    /// Runs `ip` on our side.
    pub fn a(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.a))
    }

    /// Whether `ip` does something on our side that not every kernel can.
    pub fn a_can(&self, arguments: &str) -> bool {
        let arguments = format!("-n {} {arguments}", self.a);
        let output = Command::new("ip").args(arguments.split_whitespace()).output();
        output.expect("iproute2 is installed").status.success()
    }

    /// Runs `ip` on the neighbour's side.
    pub fn b(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.b))
    }

    /// Lets the kernel give up on neighbours in a tenth of the time. On our side only.
    pub fn hasten(&self) {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/{A}/retrans_time_ms");
            fs::write(path, "100").expect("sysctl of this thread's namespace");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Our side's route table, and a device's view of it.
pub struct Side {
    pub table: RouteTable,
    pub hops: RouteHops,
}

impl Side {
    /// Looks up until the answer is as wanted.
    pub async fn until(&mut self, remote: &str, wanted: impl Fn(NextHop) -> bool) -> NextHop {
        let remote = address(remote);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.hops.generation();
            let hop = self.hops.lookup(remote);
            if wanted(hop) {
                return hop;
            }
            assert!(Instant::now() < deadline, "{remote}: still {hop:?}");
            // As a device does: ask again when the table moved, or soon.
            let soon = Instant::now() + Duration::from_millis(20);
            while self.hops.generation() == before && Instant::now() < soon {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    pub async fn until_at(&mut self, remote: &str, mac: [u8; 6]) -> NextHop {
        self.until(remote, |hop| matches!(hop, NextHop::Resolved { dst_mac, .. } if dst_mac == mac)).await
    }

    pub async fn until_unreachable(&mut self, remote: &str) {
        self.until(remote, |hop| hop == NextHop::Unreachable).await;
    }
}

/// Says that a test is skipped and why, past the test harness, which would keep the output of a passing test to
/// itself.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Runs a test on a thread of its own, in our side's namespace.
pub fn in_world<F: Future<Output = ()>>(test: &str, run: impl FnOnce(World, Side) -> F + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "needs root");
    }
    let outcome = thread::spawn(move || {
        let world = World::new();
        let namespace = fs::File::open(format!("/run/netns/{}", world.a)).expect("namespace");
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .expect("root may");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let nic = Nic::by_name(A).expect("made above");
            assert_eq!(nic.mac, Some(A_MAC));
            let table = RouteTable::start(nic.index).await.expect("route table");
            let hops = table.next_hops();
            tokio::time::timeout(3 * PATIENCE, run(world, Side { table, hops })).await.expect("in time");
        });
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Deletes what killed runs left behind: namespaces whose process is gone.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(process) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if !fs::exists(format!("/proc/{process}")).unwrap_or(true) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}
