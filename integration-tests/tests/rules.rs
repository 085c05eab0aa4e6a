//! XDP rules of a stack: what they keep out, what they count, and that changing them disturbs nobody else.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use integration_tests::{
    cert::{ALPN, Identity},
    needs,
    netns::Task,
    world::{Family, Host, INTERFACE, World},
};
use tokio::sync::oneshot;
use wirepath::{RuleStatus, ServerConfig, Stack, StackBuilder, rules::Rules};

const DEADLINE: Duration = Duration::from_secs(120);

/// Datagrams on their way at a time: far fewer than a ring or a socket's receive buffer holds.
const WINDOW: u64 = 64;

/// The port of the stack's listener.
const LISTENER: u16 = 4433;

/// What the demux counts a datagram of a single byte as.
const TRUNCATED: &str = "header_truncated_dropped";

/// A stack on a host, with a listener.
struct Running {
    stack: Stack,
    // Dropped first, so that the task ends.
    stop: oneshot::Sender<()>,
    task: Task<()>,
}

impl Running {
    fn start(host: &Host, builder: StackBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, stack) = std::sync::mpsc::channel();
        let at = SocketAddr::new(host.v4.into(), LISTENER);
        let task = host.namespace.runtime(async move || {
            let identity = Identity::new();
            let config = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
            let stack = builder.interface(INTERFACE).require_xdp(true).build().await.unwrap();
            let listener = stack.listen(at, config.alpn([ALPN])).await.unwrap();
            started.send(stack.clone()).unwrap();
            let _ = stopped.await;
            drop(listener);
            stack.close().await;
        });
        let stack = stack.recv_timeout(DEADLINE).expect("it listens");
        Self { stack, stop, task }
    }

    fn set_rules(&self, rules: Rules) {
        let stack = self.stack.clone();
        Task::runtime("rules".into(), async move || stack.set_rules(rules).await.unwrap()).join(DEADLINE);
    }

    fn hits(&self, line: &str) -> Option<u64> {
        let status = self.stack.status();
        status.rules.iter().find(|status| status.rule.to_string() == line).map(|status| status.hits)
    }

    /// Datagrams of one byte that reached the stack.
    fn arrived(&self) -> u64 {
        self.stack.status().drops.get(TRUNCATED).copied().unwrap_or(0)
    }

    fn end(self) {
        drop((self.stop, self.stack));
        self.task.join(DEADLINE);
    }
}

fn rules(lines: &[&str]) -> Rules {
    Rules::new(lines.iter().map(|line| line.parse().unwrap())).unwrap()
}

/// A kernel socket whose datagrams are counted as they come.
struct Sink {
    count: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    task: Task<()>,
}

impl Sink {
    fn open(host: &Host, port: u16) -> Self {
        let socket = host.namespace.run(|| UdpSocket::bind(host.socket(Family::V4, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (count, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counting, ending) = (count.clone(), done.clone());
        let task = Task::start(format!("sink {port}"), move || {
            loop {
                // A read that times out has left nothing in the buffer.
                match socket.recv(&mut [0; 64]) {
                    Ok(_) => drop(counting.fetch_add(1, Ordering::Release)),
                    Err(_) if ending.load(Ordering::Acquire) => break,
                    Err(_) => {}
                }
            }
        });
        Self { count, done, task }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// How many came in all.
    fn end(self) -> u64 {
        self.done.store(true, Ordering::Release);
        self.task.join(DEADLINE);
        self.count.load(Ordering::Acquire)
    }
}

/// Waits until `count` says that at least so many have come, or for too long.
fn wait(count: impl Fn() -> u64, at_least: u64) {
    let start = Instant::now();
    while count() < at_least && start.elapsed() < DEADLINE {
        std::thread::yield_now();
    }
}

#[test]
fn of_10_000_datagrams_each_to_ports_42_and_43_arrive_none_and_all() {
    needs!(Xdp);
    const DATAGRAMS: u64 = 10_000;
    let world = World::pair(1500, 1).unwrap();
    let rules = Rules::builder().drop().udp_dst_port(42).build().unwrap();
    let running = Running::start(&world.server, Stack::builder().rules(rules));
    let sinks = [42, 43].map(|port| Sink::open(&world.server, port));
    let sender = world.client.namespace.run(|| UdpSocket::bind(world.client.socket(Family::V4, 0)).unwrap());
    for sent in 1..=DATAGRAMS {
        for port in [42, 43] {
            sender.send_to(b"datagram", world.server.socket(Family::V4, port)).unwrap();
        }
        wait(|| sinks[1].count(), sent.saturating_sub(WINDOW));
    }
    wait(|| sinks[1].count(), DATAGRAMS);
    assert_eq!(sinks.map(Sink::end), [0, DATAGRAMS]);
    let status = running.stack.status();
    let drop_42 = RuleStatus { rule: "drop udp port 42".parse().unwrap(), hits: DATAGRAMS };
    assert_eq!(status.rules[0], drop_42);
    assert_eq!(status.rules.len(), 2, "then the listener's: {:?}", status.rules);
    running.end();
}

/// Rules come before those of the bound ports, and go when they are taken back.
#[test]
fn a_rule_keeps_packets_from_a_bound_port() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let running = Running::start(&world.server, Stack::builder());
    let sender = world.client.namespace.run(|| UdpSocket::bind(world.client.socket(Family::V4, 0)).unwrap());
    let to = world.server.socket(Family::V4, LISTENER);
    sender.send_to(&[0], to).unwrap();
    wait(|| running.arrived(), 1);
    let drops = format!("drop udp port {LISTENER}");
    running.set_rules(rules(&[&drops]));
    sender.send_to(&[0], to).unwrap();
    wait(|| running.hits(&drops).unwrap(), 1);
    assert_eq!(running.arrived(), 1);
    running.set_rules(Rules::default());
    assert_eq!(running.hits(&drops), None);
    sender.send_to(&[0], to).unwrap();
    wait(|| running.arrived(), 2);
    assert_eq!(running.arrived(), 2);
    assert_eq!(running.hits(&format!("redirect udp ports {LISTENER}")), Some(2), "kept through both changes");
    running.end();
}

/// Changes rules while datagrams flow to the kernel and to the stack; returns how many of each were sent.
fn change_rules_under_load(changes: u64) -> [u64; 2] {
    let world = World::pair(1500, 1).unwrap();
    let running = Running::start(&world.server, Stack::builder());
    let sink = Sink::open(&world.server, 43);
    let sender = world.client.namespace.run(|| UdpSocket::bind(world.client.socket(Family::V4, 0)).unwrap());
    let stack = running.stack.clone();
    let changing = Task::runtime("changes".into(), async move || {
        for change in 0..changes {
            // Every other change only moves ports, and is written into the tables in force; the others move the
            // rules' order, and swap in tables of their own.
            let front = (0..change / 2 % 7).fold(Rules::builder(), |list, prefix| {
                list.drop().ip_dst(std::net::IpAddr::from([10, 9, 9, prefix as u8]))
            });
            let moving = front.drop().udp_ports(1000..1000 + (change % 5) as u16);
            stack.set_rules(moving.build().unwrap()).await.unwrap();
        }
    });
    let mut sent = [0u64; 2];
    while sent[0] == 0 || changing.try_join().is_none() {
        // A few rounds between two looks at the clock of changes.
        for _ in 0..16 {
            sender.send_to(&[0], world.server.socket(Family::V4, 43)).unwrap();
            sender.send_to(&[0], world.server.socket(Family::V4, LISTENER)).unwrap();
            sent = sent.map(|sent| sent + 1);
        }
        wait(|| sink.count(), sent[0].saturating_sub(WINDOW));
        wait(|| running.arrived(), sent[1].saturating_sub(WINDOW));
    }
    wait(|| sink.count(), sent[0]);
    wait(|| running.arrived(), sent[1]);
    assert_eq!(running.hits(&format!("redirect udp ports {LISTENER}")), Some(sent[1]));
    assert_eq!(running.arrived(), sent[1], "through AF_XDP: {:?}", running.stack.status());
    assert_eq!(sink.end(), sent[0], "to the kernel's socket");
    running.end();
    sent
}

#[test]
fn rule_changes_under_load_lose_no_packet_of_other_flows() {
    needs!(Xdp);
    let sent = change_rules_under_load(50);
    println!("50 changes; sent to the kernel and to the stack: {sent:?}");
}

#[test]
#[ignore = "slow: a thousand changes"]
fn slow_a_thousand_rule_changes_under_load_lose_no_packet_of_other_flows() {
    needs!(Xdp);
    let sent = change_rules_under_load(1000);
    println!("1000 changes; sent to the kernel and to the stack: {sent:?}");
}

#[test]
fn rules_without_af_xdp_are_an_error() {
    let rules = rules(&["drop udp port 42"]);
    let error = Task::runtime("refusal".into(), async move || {
        let unbuilt = Stack::builder().os_udp().rules(rules.clone()).build().await.map(drop).unwrap_err();
        let stack = Stack::builder().os_udp().build().await.unwrap();
        (unbuilt.to_string(), stack.set_rules(rules).await.unwrap_err().to_string())
    })
    .join(DEADLINE);
    for text in [error.0, error.1] {
        assert!(text.contains("XDP rule") && text.contains("interface"), "{text}");
    }
}
