//! Others on the same machine: another stack on the interface, a stack that was killed, rights that are missing,
//! memory that may not be locked.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration_tests::{
    cert::{ALPN, Identity},
    fetch::{connect, fetch, server},
    huge_pages::HugePages,
    needs,
    netns::Namespace,
    ours::xdp,
    world::{Family, INTERFACE, World},
};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, capabilities, set_capabilities},
};
use wirepath::{ServerConfig, Stack, StackStatus, TransportConfig};

const DEADLINE: Duration = Duration::from_secs(60);

/// Checks that a message has these words in it.
#[track_caller]
fn says(text: &str, words: &[&str]) {
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say all of {words:?}");
}

/// Takes rights from the calling thread, and so from those it starts.
fn drop_rights(lost: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(lost);
    }
    set_capabilities(None, sets).unwrap();
}

#[test]
fn a_second_stack_on_the_interface_leaves_the_first_alone() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let first = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
    let refused =
        world.server.namespace.runtime(async || xdp().build().await.map(drop).unwrap_err().to_string());
    says(
        &refused.join(DEADLINE),
        &["another XDP program", INTERFACE, "by this process", "left alone", "clones", "helper"],
    );
    // Without insisting it gets OS UDP, on another port, and says why.
    let beside = world.server.socket(Family::V4, 4434);
    let relaxed = Stack::builder().interface(INTERFACE);
    let second = server(&world.server.namespace, relaxed, beside, &identity, TransportConfig::default());
    says(&second.stack.status().to_string(), &["OS UDP", "another XDP program"]);
    for to in [at, beside] {
        let identity = identity.clone();
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, to, &identity, TransportConfig::default()).await;
            fetch(&connection, 300_000, || {}).await;
        });
        client.join(DEADLINE);
    }
    let received = |stack: &Stack| {
        let devices = stack.status().devices;
        devices
            .iter()
            .filter(|it| it.status.queue.is_some())
            .map(|it| it.stats.rx_packet_received)
            .sum::<u64>()
    };
    assert!(first.stack.status().is_xdp() && received(&first.stack) > 0 && received(&second.stack) == 0);
}

/// Set for the copy of this program that [`holder`] runs in.
const HOLD: &str = "WIREPATH_TEST_HOLDS";

/// Not a test by itself: what a child process does that other tests start.
#[test]
fn holder() {
    let Ok(how) = std::env::var(HOLD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if how == "unlocked" {
        let limit = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
        setrlimit(Resource::Memlock, limit).unwrap();
        drop_rights(CapabilitySet::IPC_LOCK);
        let stack = runtime.block_on(Stack::builder().interface(INTERFACE).build()).unwrap();
        println!("status: {}", stack.status().fallback.unwrap_or_default());
        // The harness would go on to write to whoever has read enough.
        std::process::exit(0);
    }
    let identity = Identity::new();
    let config = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let _held = runtime.block_on(async {
        let stack = xdp().build().await.unwrap();
        let listener = stack.listen("0.0.0.0:4433".parse().unwrap(), config.alpn([ALPN])).await.unwrap();
        (stack, listener)
    });
    println!("status: held");
    // Until it is killed, or whoever started it has gone and closed our standard input.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Starts a child in a namespace and returns what it says of its status.
fn hold(namespace: &Namespace, how: &str) -> (Child, String) {
    namespace.run(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder", "--nocapture"])
            .env(HOLD, how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let status =
            lines.map_while(Result::ok).find_map(|line| Some(line.split_once("status: ")?.1.to_owned()));
        let Some(status) = status else {
            let _ = child.kill();
            panic!("the child ended with {:?}", child.wait());
        };
        (child, status)
    })
}

/// What an administrator could see of an interface.
fn settings(namespace: &Namespace) -> Vec<String> {
    let ethtool = |option| namespace.command("ethtool", &[option, INTERFACE]).unwrap();
    let link = namespace.command("ip", &["-d", "link", "show", INTERFACE]).unwrap();
    vec![link, ethtool("-k"), ethtool("-l")]
}

#[test]
fn a_killed_stack_leaves_nothing_behind() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let host = &world.server.namespace;
    let before = settings(host);
    let (mut child, status) = hold(host, "held");
    assert_eq!(status, "held");
    assert!(host.ip(&[&format!("link show {INTERFACE}")]).unwrap().contains("prog/xdp"));
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(settings(host), before);
    // Port, queue and interface are free for the next.
    let (mut child, status) = hold(host, "held");
    assert_eq!(status, "held");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn memory_that_may_not_be_locked() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let (mut child, status) = hold(&world.server.namespace, "unlocked");
    child.wait().unwrap();
    says(&status, &["more than the limit allows", "ulimit -l", "LimitMEMLOCK=", "CAP_IPC_LOCK"]);
}

#[test]
fn huge_pages_where_there_are_any() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let build = || {
        let opening = world.client.namespace.runtime(async || xdp().huge_pages(true).build().await.unwrap());
        opening.join(DEADLINE)
    };
    let close =
        |stack: Stack| world.client.namespace.runtime(async move || stack.close().await).join(DEADLINE);
    let Some(reserved) = HugePages::reserve(16) else {
        return println!("SKIPPED huge_pages_where_there_are_any: needs 32 MiB of free, unfragmented memory");
    };
    let free = HugePages::free();
    let stack = build();
    assert!(HugePages::free() < free, "the UMEM takes some");
    assert!(!stack.status().to_string().contains("huge"), "{}", stack.status());
    close(stack);
    drop(reserved);
    if HugePages::free() == 0 {
        let stack = build();
        says(&stack.status().to_string(), &["AF_XDP", "sysctl vm.nr_hugepages="]);
        close(stack);
    }
}

#[test]
fn each_missing_right_is_named_and_data_flow_over_os_udp() {
    needs!(Xdp);
    // CAP_SYS_ADMIN alone lets a process load and attach XDP programs, as before Linux 5.8.
    let bpf = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
    let net_admin = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    for (lost, name) in [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (net_admin, "CAP_NET_ADMIN"),
        (bpf, "CAP_BPF"),
        (CapabilitySet::all(), "CAP_"),
    ] {
        let world = World::pair(1500, 1).unwrap();
        let identity = Identity::new();
        let at = world.server.socket(Family::V4, 4433);
        let _served = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
        let client = world.client.namespace.runtime(async move || {
            drop_rights(lost);
            let refused = xdp().build().await.map(drop).unwrap_err().to_string();
            says(&refused, &["AF_XDP was required", name, "setcap"]);
            let stack = Stack::builder().interface(INTERFACE).build().await.unwrap();
            let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
            fetch(&connection, 300_000, || {}).await;
            stack.status()
        });
        let status: StackStatus = client.join(DEADLINE);
        assert!(!status.is_xdp());
        says(&status.to_string(), &["OS UDP", name]);
    }
}

#[test]
fn jumbo_packets_span_several_umem_frames() {
    needs!(Xdp);
    let world = World::pair(9000, 1).unwrap();
    let identity = Identity::new();
    let transport = || TransportConfig::default().max_udp_payload(8900);
    let at = world.server.socket(Family::V4, 4433);
    let _served = server(&world.server.namespace, xdp(), at, &identity, transport());
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, &identity, transport()).await;
        let start = std::time::Instant::now();
        while connection.stats().mtu < 8900 {
            fetch(&connection, 300_000, || {}).await;
            assert!(start.elapsed() < DEADLINE, "{:?}", connection.stats());
        }
        fetch(&connection, 3_000_000, || {}).await;
        (stack.status().is_xdp(), stack.status().all_drops())
    });
    assert_eq!(client.join(2 * DEADLINE), (true, Default::default()));
}
