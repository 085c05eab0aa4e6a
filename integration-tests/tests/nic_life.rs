//! What becomes of an interface while connections use it: they survive, the status tells, and AF_XDP is used again
//! as soon as it can be.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use integration_tests::{
    cert::{ALPN, Identity},
    fetch::{answer_one, connect, fetch, sent_by_xdp, server, until},
    needs,
    netns::Namespace,
    ours::{Server, take_programs_off, xdp},
    world::{Family, INTERFACE, Link, Pair, World},
};
use wirepath::{Connection, ServerConfig, Stack, StackStatus, TransportConfig, VarInt};

/// How long a path that has become a black hole is left alone: see `stack/quic/src/mtu.rs`.
const BLACK_HOLE_REST: Duration = Duration::from_secs(60);

const DEADLINE: Duration = Duration::from_secs(60);

/// A server and the client of a test, on two hosts.
struct Scene {
    world: Pair,
    at: SocketAddr,
    identity: Identity,
    server: Server,
    alone: MutexGuard<'static, ()>,
}

/// One scene a process at a time: one of them takes all programs of the process off.
static ALONE: Mutex<()> = Mutex::new(());

impl Scene {
    fn new(link: Link) -> Self {
        let world = World::pair(link.mtu, link.queues).unwrap();
        Self::of(world)
    }

    fn of(world: Pair) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = Identity::new();
        let at = world.server.socket(Family::V4, 4433);
        let server = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
        Self { world, at, identity, server, alone }
    }

    /// Runs a client: with its stack, a connection, and both hosts.
    fn run(self, client: impl AsyncFnOnce(Stack, Connection, &Pair, &Stack) + Send + 'static) {
        let Self { world, at, identity, server, alone } = self;
        let (namespace, theirs) = (world.client.namespace.clone(), server.stack.clone());
        let running = namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
            fetch(&connection, 300_000, || {}).await;
            assert!(stack.status().is_xdp(), "{}", stack.status());
            client(stack.clone(), connection, &world, &theirs).await;
            // Whatever has happened, it is AF_XDP again, for connections new and old.
            until(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
            until(&theirs, |status| status.is_xdp() && status.fallback.is_none()).await;
            let before = sent_by_xdp(&stack.status());
            let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
            fetch(&connection, 300_000, || {}).await;
            until(&stack, |status| sent_by_xdp(status) > before).await;
        });
        running.join(2 * DEADLINE);
        drop(server);
        drop(alone);
    }
}

fn ip(namespace: &Namespace, command: &str) {
    namespace.ip(&[command]).unwrap();
}

fn says(status: &StackStatus, words: &str) -> bool {
    status.fallback.as_deref().is_some_and(|why| why.contains(words))
}

#[test]
fn deleted_and_made_again() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |stack, connection, world, server| {
        world.cut().unwrap();
        for stack in [&stack, server] {
            let status = until(stack, |status| says(status, "wire0 was deleted")).await;
            assert!(!status.is_xdp(), "{status:?}");
        }
        world.mend(Link::default()).unwrap();
        until(&stack, StackStatus::is_xdp).await;
        fetch(&connection, 300_000, || {}).await;
    });
}

#[test]
fn deleted_and_made_again_in_the_midst() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |_stack, connection, world, _server| {
        fetch(&connection, 3_000_000, || {
            world.cut().unwrap();
            world.mend(Link::default()).unwrap();
        })
        .await;
    });
}

#[test]
fn down_and_up() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |stack, connection, world, server| {
        let is_up = |status: &StackStatus| status.devices[0].status.link_up;
        ip(&world.client.namespace, &format!("link set {INTERFACE} down"));
        until(&stack, |status| !is_up(status)).await;
        until(server, |status| !is_up(status)).await;
        ip(&world.client.namespace, &format!("link set {INTERFACE} up"));
        until(&stack, is_up).await;
        fetch(&connection, 300_000, || {}).await;
    });
}

#[test]
fn down_at_the_start() {
    needs!(Xdp);
    let world = World::pair(1500, 2).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let _server = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
    let host = world.client.namespace.clone();
    ip(&host, &format!("link set {INTERFACE} down"));
    let client = world.client.namespace.runtime(async move || {
        // Whether an XSK can be bound now is up to the driver; in any case the link is told to be down.
        let stack = Stack::builder().interface(INTERFACE).build().await.unwrap();
        // Without an XSK there is a reason; with one, its link is told to be down.
        let is_down = |status: &StackStatus| match status.is_xdp() {
            true => status.devices.iter().all(|device| !device.status.link_up),
            false => says(status, "down"),
        };
        until(&stack, is_down).await;
        ip(&host, &format!("link set {INTERFACE} up"));
        until(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
        let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
        fetch(&connection, 300_000, || {}).await;
        until(&stack, |status| sent_by_xdp(status) > 0).await;
    });
    client.join(2 * DEADLINE);
}

#[test]
fn renamed() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |stack, connection, world, _server| {
        fetch(&connection, 1_000_000, || {
            world
                .client
                .namespace
                .ip(&[
                    &format!("link set {INTERFACE} down"),
                    &format!("link set {INTERFACE} name other0"),
                    "link set other0 up",
                ])
                .unwrap();
        })
        .await;
        let named = |status: &StackStatus| status.devices[0].status.interface.as_deref() == Some("other0");
        until(&stack, named).await;
        // A change that opens the XSK anew finds it by the new name.
        ip(&world.client.namespace, "link set other0 mtu 1600");
        until(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
        fetch(&connection, 300_000, || {}).await;
    });
}

#[test]
fn another_mtu() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |stack, connection, world, server| {
        // Never below what the connection has found to pass: that is a black hole on its path, and tested as one.
        for mtu in [3000, 1500] {
            fetch(&connection, 1_000_000, || {
                for host in [&world.client, &world.server] {
                    ip(&host.namespace, &format!("link set {INTERFACE} mtu {mtu}"));
                }
            })
            .await;
            until(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
            until(server, |status| status.is_xdp() && status.fallback.is_none()).await;
            fetch(&connection, 300_000, || {}).await;
        }
    });
}

/// The MTU is lowered below what a connection's packets have grown to: it sends such as fit, and does not rest for a
/// minute with the shortest, as after a black hole. Once it is raised they grow again, and don't wait for ten minutes.
#[test]
fn a_smaller_mtu_clamps_paths_and_a_larger_one_widens_them() {
    needs!(Xdp);
    let world = World::pair(3000, 1).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let transport = || TransportConfig::default().max_udp_payload(2900);
    let config = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let config = config.alpn([ALPN]).transport(transport());
    let (serving, connection) = answer_one(&world.server.namespace, xdp(), at, config);
    let hosts = [world.client.namespace.clone(), world.server.namespace.clone()];
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let ours = connect(&stack, at, &identity, transport()).await;
        let theirs = connection.recv_timeout(DEADLINE).unwrap();
        let start = Instant::now();
        while theirs.stats().mtu < 2900 || ours.stats().mtu < 2900 {
            fetch(&ours, 1_000_000, || {}).await;
            assert!(start.elapsed() < DEADLINE, "{:?}", theirs.stats());
        }
        let sizes = || [theirs.stats().mtu, ours.stats().mtu];
        let set = |mtu| hosts.iter().for_each(|host| ip(host, &format!("link set {INTERFACE} mtu {mtu}")));
        let settled = |status: &StackStatus| status.is_xdp() && status.fallback.is_none();
        let changed = Instant::now();
        fetch(&ours, 3_000_000, || set(1500)).await;
        until(&stack, settled).await;
        while sizes() != [1472; 2] && changed.elapsed() < BLACK_HOLE_REST / 2 {
            fetch(&ours, 100_000, || {}).await;
        }
        let lowered = sizes();
        let changed = Instant::now();
        set(3000);
        // Probes that are sent while one end still has small frames are lost: the size found is then a smaller one.
        while sizes().into_iter().any(|size| size < 2000) && changed.elapsed() < BLACK_HOLE_REST / 2 {
            fetch(&ours, 100_000, || {}).await;
        }
        ours.close(VarInt::from_u8(0), b"");
        (lowered, sizes())
    });
    let (lowered, raised) = client.join(2 * DEADLINE);
    assert_eq!(lowered, [1472; 2]);
    assert!(raised.into_iter().all(|size| size >= 2000), "{raised:?}");
    serving.join(DEADLINE);
}

#[test]
fn another_hardware_address() {
    needs!(Xdp);
    Scene::new(Link::default()).run(async |_stack, connection, world, _server| {
        for (host, address) in [(&world.client, "02:00:00:00:00:c1"), (&world.server, "02:00:00:00:00:51")] {
            fetch(&connection, 1_000_000, || {
                ip(&host.namespace, &format!("link set {INTERFACE} address {address}"));
            })
            .await;
            fetch(&connection, 300_000, || {}).await;
        }
    });
}

#[test]
fn more_queues() {
    needs!(Xdp);
    let world = World::pair(1500, 4).unwrap();
    let set =
        |host: &Namespace, kind: &str, count: &str| host.command("ethtool", &["-L", INTERFACE, kind, count]);
    // No end may have more TX queues than the other has RX queues.
    let set_both = move |world: &Pair, kinds: [&str; 2], count: &str| {
        for kind in kinds {
            for host in [&world.client, &world.server] {
                set(&host.namespace, kind, count).unwrap();
            }
        }
    };
    set_both(&world, ["tx", "rx"], "2");
    Scene::of(world).run(async move |stack, connection, world, server| {
        let queues =
            |status: &StackStatus| status.devices.iter().filter(|it| it.status.queue.is_some()).count();
        assert_eq!((queues(&stack.status()), queues(&server.status())), (2, 2));
        fetch(&connection, 1_000_000, || set_both(world, ["rx", "tx"], "4")).await;
        until(&stack, |status| queues(status) == 4).await;
        until(server, |status| queues(status) == 4).await;
        // The kernel takes no queue away that an XSK holds.
        assert!(set(&world.client.namespace, "rx", "1").is_err());
        fetch(&connection, 300_000, || {}).await;
    });
}

#[test]
fn the_program_replaced_by_another() {
    needs!(Xdp);
    if std::process::Command::new("bpftool").arg("version").output().is_err() {
        return println!("SKIPPED the_program_replaced_by_another: needs bpftool");
    }
    Scene::new(Link::default()).run(async |stack, connection, world, server| {
        // The other takes the place as soon as it is free.
        let other = loop {
            take_programs_off(&world.client.namespace);
            if let Ok(other) = xdp().build().await {
                break other;
            }
        };
        let present = "another XDP program is attached";
        let status = until(&stack, |status| says(status, present)).await;
        assert!(!status.is_xdp(), "{status:?}");
        fetch(&connection, 1_000_000, || {}).await;
        assert!(other.status().is_xdp(), "the other's program was touched: {}", other.status());
        other.close().await;
        until(&stack, StackStatus::is_xdp).await;
        until(server, StackStatus::is_xdp).await;
        fetch(&connection, 300_000, || {}).await;
    });
}
