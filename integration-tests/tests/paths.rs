//! Our stack on links that are more than one cable between two hosts: through a router, with many queues, with
//! large packets, with links that go down, hosts that fall silent, and destinations on the same host.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use integration_tests::{
    cert::Identity,
    fetch::{connect, fetch, server},
    impair::{Direction, Impairment},
    needs,
    netns::{Namespace, Task},
    ours::{Server, xdp},
    world::{Family, Host, INTERFACE, Link, SECOND_INTERFACE, World},
};
use wirepath::{Connection, Stack, StackBuilder, TransportConfig};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server over AF_XDP, and what its clients need to know.
struct Scene {
    server: Server,
    at: SocketAddr,
    identity: Identity,
    transport: TransportConfig,
}

impl Scene {
    fn new(host: &Host, family: Family, transport: TransportConfig) -> Self {
        Self::at(&host.namespace, host.socket(family, 4433), transport)
    }

    fn at(namespace: &Namespace, at: SocketAddr, transport: TransportConfig) -> Self {
        let identity = Identity::new();
        let server = server(namespace, xdp(), at, &identity, transport.clone());
        Self { server, at, identity, transport }
    }

    /// Does a client's work in a namespace, over AF_XDP.
    fn visit<R: Send + 'static>(
        &self,
        namespace: &Namespace,
        work: impl AsyncFnOnce(Visitor) -> R + Send + 'static,
    ) -> Task<R> {
        self.visit_from(namespace, xdp(), self.at, work)
    }

    /// The same with a stack, and to an address, of the test's choice.
    fn visit_from<R: Send + 'static>(
        &self,
        namespace: &Namespace,
        builder: StackBuilder,
        to: SocketAddr,
        work: impl AsyncFnOnce(Visitor) -> R + Send + 'static,
    ) -> Task<R> {
        let (identity, transport) = (self.identity.clone(), self.transport.clone());
        namespace.runtime(async move || {
            let stack = builder.build().await.unwrap();
            work(Visitor { stack, to, identity, transport }).await
        })
    }
}

/// A client's stack, and where it goes.
struct Visitor {
    stack: Stack,
    to: SocketAddr,
    identity: Identity,
    transport: TransportConfig,
}

impl Visitor {
    async fn connect(&self) -> Connection {
        connect(&self.stack, self.to, &self.identity, self.transport.clone()).await
    }
}

#[test]
fn through_a_router() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(&world.server, family, TransportConfig::default());
        let client = scene.visit(&world.client.namespace, async move |visitor| {
            fetch(&visitor.connect().await, 3_000_000, || {}).await;
            assert!(visitor.stack.status().is_xdp());
            visitor.stack.status().all_drops()
        });
        assert_eq!(client.join(DEADLINE), Default::default());
        assert_eq!(scene.server.stack.status().all_drops(), Default::default());
    }
}

#[test]
fn with_four_queues_and_many_connections() {
    needs!(Xdp);
    let world = World::pair(1500, 4).unwrap();
    let scene = Scene::new(&world.server, Family::V4, TransportConfig::default());
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let mut fetching = tokio::task::JoinSet::new();
        for number in 0..12 {
            let connection = visitor.connect().await;
            fetching.spawn_local(async move { fetch(&connection, 200_000 + number, || {}).await });
        }
        while let Some(done) = fetching.join_next().await {
            done.unwrap();
        }
    });
    client.join(DEADLINE);
    let xsks =
        scene.server.stack.status().devices.iter().filter(|device| device.status.queue.is_some()).count();
    assert_eq!(xsks, 4);
}

#[test]
fn large_packets_are_found_out_and_used() {
    needs!(Xdp);
    let world = World::pair(3498, 1).unwrap();
    let transport = TransportConfig::default().max_udp_payload(3400);
    let scene = Scene::new(&world.server, Family::V6, transport);
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let connection = visitor.connect().await;
        fetch(&connection, 2_000_000, || {}).await;
        let start = Instant::now();
        while connection.stats().mtu < 3300 {
            fetch(&connection, 10_000, || {}).await;
            assert!(start.elapsed() < DEADLINE, "{:?}", connection.stats());
        }
    });
    client.join(2 * DEADLINE);
}

/// The path is a little narrower than either end's link: larger probes are lost, and that is all.
#[test]
fn a_narrow_place_on_the_way() {
    needs!(Xdp);
    let world = World::routed(Link { mtu: 3000, queues: 1 }).unwrap();
    world.router.ip(&[&format!("link set {SECOND_INTERFACE} mtu 1400")]).unwrap();
    let transport = TransportConfig::default().max_udp_payload(2900);
    let scene = Scene::new(&world.server, Family::V4, transport);
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let connection = visitor.connect().await;
        let start = Instant::now();
        loop {
            fetch(&connection, 100_000, || {}).await;
            let mtu = connection.stats().mtu;
            assert!(mtu <= 1372 && start.elapsed() < DEADLINE, "{:?}", connection.stats());
            if mtu > 1300 {
                break;
            }
        }
    });
    client.join(2 * DEADLINE);
}

#[test]
fn a_link_that_goes_down_and_comes_back() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let scene = Scene::new(&world.server, Family::V4, TransportConfig::default());
    let side = world.client.namespace.clone();
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let connection = visitor.connect().await;
        fetch(&connection, 2_000_000, || {
            side.ip(&[&format!("link set {INTERFACE} down"), &format!("link set {INTERFACE} up")]).unwrap();
        })
        .await;
        fetch(&connection, 100_000, || {}).await;
    });
    client.join(DEADLINE);
}

#[test]
fn a_path_that_falls_silent_for_a_while() {
    needs!(Xdp);
    let world = World::impaired(Link::default(), Impairment::NONE).unwrap();
    let scene = Scene::new(&world.server, Family::V6, TransportConfig::default());
    let (silence, silenced) = std::sync::mpsc::channel();
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let connection = visitor.connect().await;
        fetch(&connection, 2_000_000, || silence.send(()).unwrap()).await;
    });
    silenced.recv_timeout(DEADLINE).unwrap();
    let middlebox = world.middlebox();
    middlebox.set(Impairment::losing(1.0, 1));
    let lost = || middlebox.counts(Direction::ToClient).lost;
    let before = lost();
    // The server has the data, so it is the server that goes on trying: what its window still lets out, then probes.
    middlebox.wait(DEADLINE, |_| lost() >= before + 4);
    middlebox.set(Impairment::NONE);
    client.join(DEADLINE);
}

#[test]
fn a_server_on_all_addresses_serves_its_own_host_too() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    for (family, any, own) in
        [(Family::V4, "0.0.0.0:4433", "127.0.0.1:4433"), (Family::V6, "[::]:4433", "[::1]:4433")]
    {
        let any: SocketAddr = any.parse().unwrap();
        let scene = Scene::at(&world.server.namespace, any, TransportConfig::default());
        let targets = [
            (&world.client.namespace, world.server.socket(family, 4433)),
            (&world.server.namespace, own.parse().unwrap()),
            (&world.server.namespace, world.server.socket(family, 4433)),
        ];
        for (namespace, to) in targets {
            let client = scene.visit_from(namespace, Stack::builder().os_udp(), to, async move |visitor| {
                fetch(&visitor.connect().await, 300_000, || {}).await;
            });
            client.join(DEADLINE);
        }
    }
}

#[test]
fn a_neighbour_that_changes_its_address() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let scene = Scene::new(&world.server, Family::V4, TransportConfig::default());
    let side = world.client.namespace.clone();
    let client = scene.visit(&world.client.namespace, async move |visitor| {
        let connection = visitor.connect().await;
        fetch(&connection, 1_000_000, || {
            // Entries gone on this side: the next packet has to wait for the neighbour again.
            side.ip(&[&format!("neigh flush dev {INTERFACE}")]).unwrap();
        })
        .await;
        fetch(&connection, 100_000, || {}).await;
        assert_eq!(connection.stats().counters.persistent_congestion, 0, "{:?}", connection.stats());
    });
    client.join(DEADLINE);
}
