//! Packets, their connections and their replies on one partition.

use integration_tests::{
    cert::Identity,
    needs,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, xdp},
    world::{Family, World},
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
