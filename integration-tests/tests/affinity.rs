//! Packets, their connections and their replies on one partition.

use std::net::SocketAddrV4;

use integration_tests::{
    cert::Identity,
    impair::Impairment,
    needs,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, xdp},
    world::{Family, INTERFACE, Link, World},
};

/// What each partition's connections received through its own devices; nothing came through others'.
fn home(received: &[(u64, u64)]) -> Vec<u64> {
    assert!(received.iter().all(|(_, away)| *away == 0), "{received:?}");
    received.iter().map(|(home, _)| *home).collect()
}

#[test]
fn flows_spread_over_four_queues_and_none_leaves_its_partition() {
    needs!(Xdp);
    let world = World::pair(1500, 4).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        for carrier in [false, true] {
            for _ in 0..8 {
                let config = client_config(&identity).qtip(carrier);
                fetch(&connect(&stack, at, config).await.unwrap(), 50_000).await;
            }
        }
        stack.status()
    });
    let client = client.join(DEADLINE);
    let server = server.stack.status();
    for (side, status) in [("client", &client), ("server", &server)] {
        let home = home(&status.received);
        assert_eq!(home.len(), 4);
        // Four connections each, of at least 35 packets of data or 8 of acknowledgements and requests.
        assert!(home.iter().all(|count| *count >= 4 * 8), "{side}: {home:?}");
        let xsks = status.devices.iter().filter(|device| device.status.queue.is_some());
        assert!(
            xsks.clone().count() == 4 && xsks.clone().all(|xsk| xsk.stats.tx_datagram_sent > 0),
            "{side}"
        );
    }
}

#[test]
fn a_client_chooses_the_queue_its_packets_arrive_at() {
    needs!(Xdp);
    let world = World::pair(1500, 4).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V6, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        for carrier in [false, true] {
            let config = client_config(&identity).qtip(carrier).queue(2);
            fetch(&connect(&stack, at, config).await.unwrap(), 100_000).await;
        }
        let none = connect(&stack, at, client_config(&identity).queue(4)).await;
        assert!(none.unwrap_err().to_string().contains("4 AF_XDP queues"));
        stack.status()
    });
    for status in [client.join(DEADLINE), server.stack.status()] {
        let home = home(&status.received);
        assert!(home[2] >= 8 && home.iter().sum::<u64>() == home[2], "{home:?}");
    }
}

/// Where a server's connections received, if all of them are on one partition: which, how many datagrams through its own
/// devices, and how many through those of others.
fn only(received: &[(u64, u64)]) -> (usize, u64, u64) {
    let mut used = received.iter().enumerate().filter(|(_, (home, away))| home + away > 0);
    let (place, (home, away)) = used.next().expect("something came");
    assert_eq!(used.next(), None, "the connection has left its partition: {received:?}");
    (place, *home, *away)
}

/// A NAT between both ends moves the client to another port and address again and again: flows of the server's RSS hash, by
/// which they arrive on any of its queues.
#[test]
fn a_connection_stays_on_its_partition_wherever_a_nat_moves_its_client() {
    needs!(Xdp);
    /// By chance alone all of these arrive on one queue once in 2^46 runs.
    const MOVES: u16 = 24;
    let world = World::impaired(Link { queues: 4, ..Link::default() }, Impairment::NONE).unwrap();
    world.client.namespace.ip(&[&format!("addr add 10.77.0.77/24 dev {INTERFACE}")]).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity))]);
    let (fetched, has_fetched) = std::sync::mpsc::channel();
    let (go_on, mut goes_on) = tokio::sync::mpsc::unbounded_channel();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity)).await.unwrap();
        connection.confirmed().await.unwrap();
        loop {
            fetch(&connection, 50_000).await;
            fetched.send(connection.local_addr()).unwrap();
            if goes_on.recv().await.is_none() {
                return stack.status();
            }
        }
    });
    let local = has_fetched.recv_timeout(DEADLINE).unwrap();
    let (place, home, away) = only(&server.stack.status().received);
    assert!(home > 0 && away == 0, "{:?}", server.stack.status().received);
    // Whether a move brought datagrams to the connection's own queue, and to another one.
    let (mut came_home, mut came_away, mut before) = (false, false, (home, away));
    for number in 0..MOVES {
        let ip = if number % 2 == 0 { [10, 77, 0, 1] } else { [10, 77, 0, 77] };
        world.middlebox().rebind(SocketAddrV4::new(ip.into(), 50_000 + number));
        go_on.send(()).unwrap();
        assert_eq!(has_fetched.recv_timeout(DEADLINE), Ok(local), "the client has not moved itself");
        let (now_at, home, away) = only(&server.stack.status().received);
        assert_eq!(now_at, place);
        came_home |= home > before.0 && number > 0;
        came_away |= away > before.1;
        before = (home, away);
    }
    assert!(came_home && came_away, "{:?}", server.stack.status().received);
    drop(go_on);
    let status = client.join(DEADLINE);
    // What is sent to where the client was is the NAT's to drop.
    for (side, status) in [("client", &status), ("server", &server.stack.status())] {
        assert_eq!(status.all_drops(), Default::default(), "{side}");
    }
}
