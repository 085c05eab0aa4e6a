//! Several processes on one interface, through one helper: each with queues of its own.

use std::net::UdpSocket;

use integration_tests::{
    cert::Identity,
    fetch::{received_now, until as until_status},
    needs,
    ours::{client_config, connect, fetch, server_config, xdp},
    world::{Family, INTERFACE, World},
};
use wirepath::{Connection, Stack, VarInt, rules::Rules};
use wirepath_drivers::{HelperClient, XdpControl, XdpOptions};

use crate::{
    paths::{received, through, unprivileged},
    support::{DEADLINE, Folder, has_program, helper, until},
};

/// Closes a client's only connection, and waits until all it sent has come, beside what came `before`: also its answers
/// to what the server had under way.
async fn ended(client: &Stack, connection: Connection, server: &Stack, before: u64) {
    connection.close(VarInt::from_u32(0), b"");
    until_status(client, |status| status.cids == 0).await;
    let sent = connection.stats().counters.datagram_sent;
    until_status(server, |_| received_now(server, "") == before + sent).await;
}

#[test]
fn netns_processes_share_an_interface_by_its_queues() {
    needs!(Xdp);
    let world = World::pair(1500, 2).unwrap();
    let (folder, identity) = (Folder::new(), Identity::new());
    let (host, socket) = (&world.server.namespace, folder.path("helper.sock"));
    let _helper = helper(host, &socket, &[]);
    let at = [4433, 4434].map(|port| world.server.socket(Family::V4, port));
    let start = |queue: u32, at| {
        unprivileged(host, through(&socket).queues(queue..queue + 1), (at, server_config(&identity)))
    };
    let one = start(0, at[0]);
    let two = start(1, at[1]);
    // A third finds no queue, and is told whose they are.
    let third = {
        let socket = socket.clone();
        let building = host.runtime(async move || through(&socket).build().await.map(drop));
        building.join(DEADLINE).unwrap_err().to_string()
    };
    assert!(third.contains("is leased to process") && third.contains("queue 0 of wire0"), "{third}");
    let stacks = [one.stack.clone(), two.stack.clone()];
    let trusted = identity.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        // What leaves by one queue arrives at the same one.
        for (at, server, queue) in [(at[0], &stacks[0], 0), (at[1], &stacks[1], 1)] {
            let (before, of_xsk) = (received_now(server, ""), received_now(server, INTERFACE));
            let connection = connect(&stack, at, client_config(&trusted).queue(queue)).await.unwrap();
            fetch(&connection, 1_000_000).await;
            assert!(received_now(server, INTERFACE) > of_xsk + 5, "{}", server.status());
            ended(&stack, connection, server, before).await;
        }
        // On the queue of another it takes the kernel's socket, and the other notices nothing.
        for (at, server, other, queue) in
            [(at[0], &stacks[0], &stacks[1], 1), (at[1], &stacks[1], &stacks[0], 0)]
        {
            let (before, of_other) = (received_now(server, ""), received_now(other, INTERFACE));
            let connection = connect(&stack, at, client_config(&trusted).queue(queue)).await.unwrap();
            fetch(&connection, 300_000).await;
            assert_eq!(received_now(other, INTERFACE), of_other, "{}", other.status());
            ended(&stack, connection, server, before).await;
        }
        for server in &stacks {
            assert_eq!(server.status().all_drops(), Default::default());
        }
        // Connections that are there outlive a neighbour that goes, and one that comes.
        let kept = connect(&stack, at[0], client_config(&trusted).queue(0)).await.unwrap();
        fetch(&kept, 100_000).await;
        (stack, kept)
    });
    let (stack, kept) = client.join(DEADLINE);
    drop(two);
    let again = start(1, at[1]);
    assert!(again.stack.status().is_xdp(), "{}", again.stack.status());
    let serving = again.stack.clone();
    let client = world.client.namespace.runtime(async move || {
        let before = received(&serving.status());
        fetch(&kept, 1_000_000).await;
        let connection = connect(&stack, at[1], client_config(&identity).queue(1)).await.unwrap();
        fetch(&connection, 1_000_000).await;
        until_status(&serving, |status| received(status) > before + 5).await;
        stack.close().await;
    });
    client.join(DEADLINE);
    assert!(one.stack.status().is_xdp() && one.stack.status().fallback.is_none());
    drop((one, again));
    until("the program goes with the last", || !has_program(host));
}

/// Rules of one don't take what another has, and its counters count its own.
#[test]
fn netns_rules_of_processes_that_share_an_interface() {
    needs!(Xdp);
    let world = World::pair(1500, 4).unwrap();
    let folder = Folder::new();
    let (host, socket) = (&world.server.namespace, folder.path("helper.sock"));
    let _helper = helper(host, &socket, &[]);
    host.run(|| {
        let own = world.server.v4.into();
        let lease = |queues| {
            HelperClient::new(&socket).attach_queues("wire0", XdpOptions::default(), queues).unwrap()
        };
        let (one, two) = (lease(0..1), lease(2..4));
        assert_eq!((one.queues(), two.queues()), (0..1, 2..4));
        let _held = [4433, 4434].map(|port| UdpSocket::bind((own, port)).unwrap());
        let to =
            |port| Rules::builder().redirect().udp_dst_port(port).local_addresses([own]).build().unwrap();
        one.set_rules(&to(4433)).unwrap();
        let why = two.set_rules(&to(4433)).unwrap_err().to_string();
        assert!(why.contains("UDP port 4433 is redirected to process"), "{why}");
        two.set_rules(&to(4434)).unwrap();
        assert_eq!((one.rule_hits().unwrap().len(), two.rule_hits().unwrap().len()), (1, 1));
        assert_eq!(two.rule_hits().unwrap()[0].0, to(4434).as_slice()[0]);
        let taken =
            HelperClient::new(&socket).attach_queues("wire0", XdpOptions::default(), 1..3).unwrap_err();
        assert!(taken.to_string().contains("queues 2 to 3 of wire0 are leased to process"), "{taken}");
        drop(one);
        // The place is free again, and the port.
        let again = lease(0..2);
        again.set_rules(&to(4433)).unwrap();
        assert_eq!(two.rule_hits().unwrap().len(), 1);
        assert!(two.lapsed().is_none());
    });
}
