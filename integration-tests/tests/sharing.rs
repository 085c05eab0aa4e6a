//! Ports that processes share by what connection IDs carry: CIBIR identifiers, QUIC-LB server IDs.

use std::{net::SocketAddr, time::Duration};

use integration_tests::{
    cert::Identity,
    needs,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, xdp, xdp_on},
    world::{Family, INTERFACE, Link, SECOND_INTERFACE, World},
};
use wirepath::{
    CibirId, ClientConfig, CloseReason, Error, Stack, TransportConfig,
    quic_lb::{QuicLb, patterns},
    rules::Rules,
};

fn id(bytes: &[u8]) -> CibirId {
    CibirId::new(1, bytes).unwrap()
}

/// Connects and fetches something; false if nobody answered.
async fn reaches(stack: &Stack, to: SocketAddr, config: ClientConfig) -> bool {
    let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(700));
    match connect(stack, to, config.transport(transport)).await {
        Ok(connection) => {
            fetch(&connection, 100_000).await;
            true
        }
        Err(Error::Connection(error)) => {
            assert_eq!(error.0, CloseReason::HandshakeTimeout);
            false
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn listeners_share_a_port_by_identifier_and_strangers_reach_none() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let (one, two) = (Identity::new(), Identity::new());
    let at = world.server.socket(Family::V4, 4433);
    let listeners =
        [(at, server_config(&one).cibir(id(&[1, 1, 1]))), (at, server_config(&two).cibir(id(&[2, 2, 2])))];
    let server = Server::start(&world.server.namespace, xdp(), listeners);
    // Nothing of the operating system's holds the port.
    let sockets = world.server.namespace.command("cat", &["/proc/net/udp", "/proc/net/udp6"]).unwrap();
    assert!(!sockets.contains(":1151 "), "{sockets}");
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        // Each trusts one server only: had the other got the packets, the handshake would fail.
        for (identity, bytes) in [(&one, [1, 1, 1]), (&two, [2, 2, 2]), (&one, [1, 1, 1])] {
            assert!(reaches(&stack, at, client_config(identity).cibir(id(&bytes))).await);
        }
        assert!(!reaches(&stack, at, client_config(&one).cibir(id(&[3, 3, 3]))).await);
        assert!(!reaches(&stack, at, client_config(&one)).await);
    });
    client.join(DEADLINE);
    assert_eq!(server.stack.status().all_drops(), Default::default(), "strangers stay with the kernel");
}

/// Two stacks that know nothing of each other, each on an interface of its own, on the same port of all addresses.
#[test]
fn stacks_of_one_host_share_a_port_without_a_socket_of_the_system() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    let (one, two) = (Identity::new(), Identity::new());
    let any: SocketAddr = "0.0.0.0:4433".parse().unwrap();
    let first = [(any, server_config(&one).cibir(id(&[1, 1, 1])))];
    let second = [(any, server_config(&two).cibir(id(&[2, 2, 2])))];
    let servers = [
        Server::start(&world.router, xdp(), first),
        Server::start(&world.router, xdp_on(SECOND_INTERFACE), second),
    ];
    let hosts = [(&world.client.namespace, 1), (&world.server.namespace, 2)];
    for (namespace, net) in hosts {
        let to: SocketAddr = format!("10.77.{net}.254:4433").parse().unwrap();
        let (mine, other) = if net == 1 { (one.clone(), two.clone()) } else { (two.clone(), one.clone()) };
        let client = namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let (of_mine, of_other) = if net == 1 { ([1; 3], [2; 3]) } else { ([2; 3], [1; 3]) };
            assert!(reaches(&stack, to, client_config(&mine).cibir(id(&of_mine))).await);
            assert!(!reaches(&stack, to, client_config(&other).cibir(id(&of_other))).await);
        });
        client.join(DEADLINE);
    }
    for server in &servers {
        assert_eq!(server.stack.status().all_drops(), Default::default());
    }
}

#[test]
fn what_cannot_be_shared_is_refused() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let refused = world.server.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let config = || server_config(&identity).cibir(id(&[1, 1, 1]));
        let _first = stack.listen(at, config()).await.unwrap();
        let refusals = [
            stack.listen(at, server_config(&identity).cibir(id(&[1, 1]))).await.err(),
            stack.listen("0.0.0.0:0".parse().unwrap(), config()).await.err(),
            stack.listen(at, server_config(&identity).cibir(id(&[9])).qtip(true)).await.err(),
            Stack::builder().build().await.unwrap().listen(at, config()).await.err(),
            // As another process's: the interface is taken, whatever the identifier.
            xdp().build().await.err(),
        ];
        refusals.map(|error| error.expect("refused").to_string())
    });
    let [same, unnamed, qtip, no_xdp, second] = refused.join(DEADLINE);
    assert!(same.contains("in use"), "{same}");
    assert!(unnamed.contains("name the port"), "{unnamed}");
    assert!(qtip.contains("QTIP"), "{qtip}");
    assert!(no_xdp.contains("interface"), "{no_xdp}");
    assert!(second.contains(&format!("another XDP program is attached to {INTERFACE}")), "{second}");
}

/// A new process takes a port over from an old one, and gives it back. The old one has it with the operating system, the
/// new one by XDP rules, on the same interface and queue: new clients go where the rules of the hour say, and those that
/// are there stay with their server, also from other addresses.
#[test]
fn a_port_passes_from_process_to_process_and_clients_stay_with_theirs() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let at = world.server.socket(Family::V4, 4433);
    let [old, new] = [0xa1, 0xa2].map(|id| QuicLb::plain(3, &[id, 0x10], 8).unwrap());
    let (of_old, of_new) = (Identity::new(), Identity::new());
    let old_server = [(at, server_config(&of_old).quic_lb(old.clone()))];
    let old_server = Server::start(&world.server.namespace, Stack::builder(), old_server);
    let new_server = [(at, server_config(&of_new).quic_lb(new.clone()).share_port(true))];
    let new_server = Server::start(&world.server.namespace, xdp(), new_server);
    let taking = new_server.stack.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = Stack::builder().build().await.unwrap();
        let connect_to = async |identity| connect(&stack, at, client_config(identity)).await.unwrap();
        // Nothing says that new clients are the new one's: each trusts one server, and no other would do.
        let first = connect_to(&of_old).await;
        fetch(&first, 300_000).await;
        let keep = patterns(at.port(), &old).unwrap();
        let take = keep.into_iter().fold(Rules::builder(), |list, pattern| list.pass().quic_flow(pattern));
        taking.set_rules(take.redirect().udp_ports([at.port()]).build().unwrap()).await.unwrap();
        let second = connect_to(&of_new).await;
        let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
        for connection in [&first, &second, &first] {
            fetch(connection, 300_000).await;
            connection.migrate(everywhere).await.unwrap();
            fetch(connection, 300_000).await;
        }
        taking.set_rules(Rules::default()).await.unwrap();
        let third = connect_to(&of_old).await;
        for connection in [&third, &second, &first] {
            connection.migrate(everywhere).await.unwrap();
            fetch(connection, 300_000).await;
        }
        let home: u64 = taking.status().received.iter().map(|(home, away)| home + away).sum();
        // Requests and acknowledgements of three fetches.
        assert!(home >= 15, "the second's packets, by AF_XDP: {home}");
    });
    client.join(DEADLINE);
    for server in [&old_server, &new_server] {
        assert_eq!(server.stack.status().all_drops(), Default::default());
    }
}
