//! The way to the next hop: found when nobody has used it, found again when it changes, and left to the kernel where
//! it does not lead out of the machine.

use std::time::{Duration, Instant};

use integration_tests::{
    cert::Identity,
    fetch::{answer_one, connect, fetch, server},
    needs,
    ours::{server_config, xdp},
    world::{Family, INTERFACE, Link, SECOND_INTERFACE, World},
};
use wirepath::{StackStatus, TransportConfig, VarInt};

const DEADLINE: Duration = Duration::from_secs(60);

/// A counter of the XSKs.
fn count(status: &StackStatus, name: &str) -> u64 {
    let xsks = status.devices.iter().filter(|device| device.status.queue.is_some());
    xsks.flat_map(|device| &device.stats.named).filter(|(own, _)| *own == name).map(|(_, count)| count).sum()
}

#[test]
fn a_cold_neighbour_is_solicited_and_the_first_packet_waits() {
    needs!(Xdp);
    for family in [Family::V4, Family::V6] {
        let world = World::pair(1500, 1).unwrap();
        let identity = Identity::new();
        let at = world.server.socket(family, 4433);
        let _served = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
        let side = world.client.namespace.clone();
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            side.ip(&[&format!("neigh flush all dev {INTERFACE}")]).unwrap();
            let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
            fetch(&connection, 10_000, || {}).await;
            // A busy device tells its counters every few milliseconds.
            let start = Instant::now();
            while count(&stack.status(), "tx_datagram_parked") == 0 {
                assert!(start.elapsed() < DEADLINE, "{:?}", stack.status());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let status = stack.status();
            ["tx_parked_full_dropped", "tx_parked_expired_dropped", "tx_unreachable_dropped"]
                .map(|name| count(&status, name))
        });
        assert_eq!(client.join(2 * DEADLINE), [0; 3]);
    }
}

/// Probe timeouts are far longer than a busy machine keeps anybody waiting: those that are counted are by what is lost.
fn patient() -> TransportConfig {
    TransportConfig::default().max_ack_delay(Duration::from_millis(250))
}

/// Probe timeouts of both ends in a transfer in whose midst a gateway gets another hardware address and tells nobody: the
/// one that stands on this interface of the router.
fn probe_timeouts_of_a_silent_change(family: Family, gateway: &'static str) -> u64 {
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(family, 4433);
    let config = server_config(&identity).transport(patient());
    let (serving, theirs) = answer_one(&world.server.namespace, xdp(), at, config);
    let router = world.router.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let ours = connect(&stack, at, &identity, patient()).await;
        let theirs = theirs.recv_timeout(DEADLINE).unwrap();
        fetch(&ours, 300_000, || {}).await;
        let timeouts = || [&ours, &theirs].map(|it| it.stats().counters.probe_timeout);
        let before = timeouts();
        let set = || drop(router.ip(&[&format!("link set {gateway} address 02:00:00:00:01:01")]).unwrap());
        fetch(&ours, 3_000_000, set).await;
        let after = timeouts();
        ours.close(VarInt::from_u8(0), b"");
        (after[0] - before[0]).max(after[1] - before[1])
    });
    let worst = client.join(DEADLINE);
    serving.join(DEADLINE);
    println!("{family:?}, {gateway}: {worst} probe timeouts");
    worst
}

/// What a connection sends that only receives is not missed by it. But the gateway sends from its new address, too.
#[test]
fn a_silent_change_of_the_receivers_gateway_costs_a_probe_timeout_at_most() {
    needs!(Xdp);
    for family in [Family::V4, Family::V6] {
        let probe_timeouts = probe_timeouts_of_a_silent_change(family, INTERFACE);
        assert!(probe_timeouts <= 1, "{family:?}: {probe_timeouts}");
    }
}

#[test]
fn a_silent_change_of_the_senders_gateway_costs_a_probe_timeout_at_most() {
    needs!(Xdp);
    for family in [Family::V4, Family::V6] {
        let probe_timeouts = probe_timeouts_of_a_silent_change(family, SECOND_INTERFACE);
        assert!(probe_timeouts <= 1, "{family:?}: {probe_timeouts}");
    }
}

/// The same while nothing is under way: a request is lost, and its probe takes the new way.
#[test]
fn a_silent_change_between_two_requests_costs_a_probe_timeout_at_most() {
    needs!(Xdp);
    for family in [Family::V4, Family::V6] {
        let probe_timeouts = probe_timeouts_between_requests(family);
        assert!(probe_timeouts <= 1, "{family:?}: {probe_timeouts}");
    }
}

fn probe_timeouts_between_requests(family: Family) -> u64 {
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(family, 4433);
    let _served = server(&world.server.namespace, xdp(), at, &identity, patient());
    let router = world.router.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, &identity, patient()).await;
        for _ in 0..5 {
            fetch(&connection, 100_000, || {}).await;
        }
        let before = connection.stats().counters.probe_timeout;
        router.ip(&[&format!("link set {INTERFACE} address 02:00:00:00:00:99")]).unwrap();
        for _ in 0..5 {
            fetch(&connection, 100_000, || {}).await;
        }
        connection.stats().counters.probe_timeout - before
    });
    let probe_timeouts = client.join(DEADLINE);
    println!("{family:?}: {probe_timeouts} probe timeouts");
    probe_timeouts
}

/// The gateway gets another hardware address and says so, as routers do when another takes over: the kernel hears it,
/// netlink tells, and the next packet takes the new way. What was under way is lost; a probe timeout at most mends it,
/// also where the client only receives.
#[test]
fn a_gateway_that_announces_its_new_hardware_address() {
    needs!(Xdp);
    for family in [Family::V4, Family::V6] {
        let world = World::routed(Link::default()).unwrap();
        for (parameter, value) in [("ipv4/conf", "arp_notify"), ("ipv6/conf", "ndisc_notify")] {
            world.router.sysctl(&format!("net/{parameter}/{INTERFACE}/{value}"), "1").unwrap();
        }
        // Else the kernel doubts changes within a second of the last one.
        world.client.namespace.sysctl(&format!("net/ipv4/neigh/{INTERFACE}/locktime"), "0").unwrap();
        let identity = Identity::new();
        let at = world.server.socket(family, 4433);
        let _served = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
        let router = world.router.clone();
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
            fetch(&connection, 300_000, || {}).await;
            let mut worst = 0;
            for change in 0..8 {
                let before = connection.stats().counters;
                let set = || {
                    let command = format!("link set {INTERFACE} address 02:00:00:00:00:{change:02x}");
                    router.ip(&[&command]).unwrap();
                };
                fetch(&connection, 3_000_000, set).await;
                let after = connection.stats().counters;
                assert_eq!(after.persistent_congestion, before.persistent_congestion);
                worst = worst.max(after.probe_timeout - before.probe_timeout);
            }
            worst
        });
        let worst = client.join(DEADLINE);
        println!("{family:?}: {worst} probe timeouts at most");
        assert!(worst <= 1, "{family:?}: {worst}");
    }
}

#[test]
fn destinations_on_the_own_host_take_os_sockets() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let identity = Identity::new();
    for (any, family, own) in
        [("0.0.0.0:4433", Family::V4, "127.0.0.1:4433"), ("[::]:4433", Family::V6, "[::1]:4433")]
    {
        let served = server(
            &world.server.namespace,
            xdp(),
            any.parse().unwrap(),
            &identity,
            TransportConfig::default(),
        );
        let targets = [own.parse().unwrap(), world.server.socket(family, 4433)];
        let (stack, trusted) = (served.stack.clone(), identity.clone());
        let client = world.server.namespace.runtime(async move || {
            for to in targets {
                let connection = connect(&stack, to, &trusted, TransportConfig::default()).await;
                fetch(&connection, 100_000, || {}).await;
            }
            let xsks = stack.status().devices.into_iter().filter(|device| device.status.queue.is_some());
            xsks.map(|device| device.stats.tx_datagram_sent + device.stats.rx_packet_received).sum::<u64>()
        });
        assert_eq!(client.join(DEADLINE), 0, "nothing passed through AF_XDP");
    }
}
