//! QUIC in TCP segments, past firewalls that know what TCP is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use integration_tests::{
    cert::Identity,
    needs,
    netns::Namespace,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, xdp},
    world::{Family, Link, Routed, World},
};
use wirepath::{TransportConfig, VarInt};

/// What a router counts of the TCP that passes it.
const COUNTED: [(&str, &str); 6] = [
    ("invalid", "ct state invalid counter drop"),
    ("mid_stream", "ct state new tcp flags & (syn | ack) != syn counter drop"),
    ("syn", "tcp flags & (syn | ack) == syn counter"),
    ("syn_ack", "tcp flags & (syn | ack) == syn | ack counter"),
    ("rst", "tcp flags & rst == rst counter"),
    ("data", "tcp flags == ack counter"),
];

/// A router that lets through no UDP, and no TCP that its connection tracking objects to.
fn firewalled(more: &[&str]) -> Routed {
    let world = World::routed(Link::default()).unwrap();
    // A flow is known from its SYN on, or not at all.
    world.router.sysctl("net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
    let counted = COUNTED.map(|(name, rule)| format!("add rule inet wire forward {rule} comment \"{name}\""));
    let rules = [
        "add table inet wire",
        "add chain inet wire before { type filter hook prerouting priority -300; }",
        "add chain inet wire forward { type filter hook forward priority 0; }",
        "add rule inet wire forward meta l4proto udp drop",
    ];
    let rules = rules.into_iter().chain(counted.iter().map(String::as_str)).chain(more.iter().copied());
    world.router.command("nft", &[&rules.collect::<Vec<_>>().join("; ")]).unwrap();
    world
}

/// Packets a rule has seen.
fn seen(router: &Namespace, name: &str) -> u64 {
    let rules = router.command("nft", &["list chain inet wire forward"]).unwrap();
    let rule = rules.lines().find(|line| line.ends_with(&format!("comment \"{name}\""))).unwrap();
    let packets = rule.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap();
    packets.parse().unwrap()
}

/// Both ends may close at once: the second RST finds nothing to end.
fn without_late_resets(mut drops: BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    drops.remove("qtip_reset_unmatched_dropped");
    drops
}

fn wait(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

#[test]
fn a_firewall_that_tracks_tcp_finds_nothing_to_object_to() {
    needs!(Firewall);
    let identity = Identity::new();
    for family in [Family::V4, Family::V6] {
        let world = firewalled(&[]);
        let at = world.server.socket(family, 4433);
        let server =
            Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
        let (config, router) = (client_config(&identity).qtip(true), world.router.clone());
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, at, config).await.unwrap();
            fetch(&connection, 3_000_000).await;
            assert_eq!((seen(&router, "syn"), seen(&router, "syn_ack")), (1, 1));
            assert_eq!(seen(&router, "rst"), 0, "neither ours nor the kernel's");
            connection.close(VarInt::from_u8(0), b"done");
            connection.closed().await;
            drop(connection);
            wait(|| seen(&router, "rst") > 0);
            without_late_resets(stack.status().all_drops())
        });
        assert_eq!(client.join(DEADLINE), Default::default());
        assert_eq!(without_late_resets(server.stack.status().all_drops()), Default::default());
        assert_eq!((seen(&world.router, "invalid"), seen(&world.router, "mid_stream")), (0, 0));
        assert!(seen(&world.router, "data") > 3_000_000 / 1452);
    }
}

#[test]
fn a_listener_serves_udp_and_qtip_at_once() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let udp = connect(&stack, at, client_config(&identity)).await.unwrap();
        let tcp = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        assert_ne!(udp.local_addr().port(), tcp.local_addr().port());
        tokio::join!(fetch(&udp, 1_000_000), fetch(&tcp, 1_000_000));
        let second = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        fetch(&second, 100_000).await;
        stack.status().all_drops()
    });
    assert_eq!(client.join(DEADLINE), Default::default());
    assert_eq!(server.stack.status().all_drops(), Default::default());
}

/// Lost before the firewall has seen them, and after: nothing is sent again by TCP, nothing stalls, and what is
/// acknowledged was always seen.
#[test]
fn lost_segments_hold_nothing_up() {
    needs!(Firewall);
    let world = firewalled(&[
        "add rule inet wire before meta l4proto tcp tcp flags == ack numgen random mod 100 < 2 drop",
        "add rule inet wire forward tcp flags == ack numgen random mod 100 < 2 drop",
    ]);
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        fetch(&connection, 2_000_000).await;
        stack.status().all_drops()
    });
    assert_eq!(client.join(DEADLINE), Default::default());
    assert!(server.stack.status().all_drops().keys().all(|name| !name.starts_with("qtip")));
    assert_eq!((seen(&world.router, "invalid"), seen(&world.router, "mid_stream")), (0, 0));
}

/// A NAT forgets the flow and gives it another port: the client opens it anew, and QUIC finds the new path.
#[test]
#[ignore = "slow"]
fn slow_a_nat_that_forgets_is_survived() {
    needs!(Firewall);
    let world = firewalled(&[
        "add table ip nat",
        "add chain ip nat after { type nat hook postrouting priority 100; }",
        "add rule ip nat after oifname wire1 masquerade random",
    ]);
    world.router.sysctl("net/netfilter/nf_conntrack_tcp_timeout_established", "1").unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let router = world.router.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let config = client_config(&identity).qtip(true);
        let connection = connect(&stack, at, config.transport(TransportConfig::default())).await.unwrap();
        fetch(&connection, 100_000).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        fetch(&connection, 100_000).await;
        assert!(seen(&router, "syn") >= 2, "it was opened anew");
        assert!(seen(&router, "mid_stream") + seen(&router, "invalid") > 0, "the NAT had forgotten");
    });
    client.join(DEADLINE);
    drop(server);
}
