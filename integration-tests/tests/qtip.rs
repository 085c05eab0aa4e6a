//! QUIC in TCP segments, past firewalls that know what TCP is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use integration_tests::{
    cert::Identity,
    needs,
    netns::Namespace,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, xdp},
    sniff::Sniffer,
    world::{Family, INTERFACE, Link, Routed, SECOND_INTERFACE, World},
};
use wirepath::{TransportConfig, VarInt};
use wirepath_trace::{Direction, JourneyRecord};
use wirepath_wire::{
    MacAddr, Tcp, TcpPacket, UdpHeaders, parse_tcp,
    tcp::{ACK, FIN, RST, SYN},
    tcp_headers_len, verify_tcp_packet, write_tcp,
};

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

/// The TCP segments among what a packet socket saw.
fn segments(sniffer: &Sniffer) -> Vec<(Vec<u8>, TcpPacket)> {
    let frames = sniffer.frames().unwrap();
    frames
        .into_iter()
        .filter_map(|frame| {
            let packet = parse_tcp(&frame).ok()?;
            verify_tcp_packet(&frame, &packet).expect("a right checksum");
            Some((frame, packet))
        })
        .collect()
}

/// Each end's segments as a capture shows them: SYN, SYN/ACK, ACK, data whose numbers follow one another, RST.
#[test]
fn a_capture_shows_tcp_from_syn_to_rst() {
    needs!(Xdp);
    let identity = Identity::new();
    for family in [Family::V4, Family::V6] {
        let world = World::routed(Link::default()).unwrap();
        let sniffers = [INTERFACE, SECOND_INTERFACE].map(|it| Sniffer::start(&world.router, it).unwrap());
        let at = world.server.socket(family, 4433);
        let server =
            Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
        let config = client_config(&identity).qtip(true);
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, at, config).await.unwrap();
            fetch(&connection, 50_000).await;
            connection.close(VarInt::from_u8(0), b"done");
            connection.closed().await;
            drop(connection);
            // Closing takes three probe timeouts (RFC 9000 §10.2); the flow ends with the connection.
            let start = Instant::now();
            while stack.status().cids > 0 {
                assert!(start.elapsed() < DEADLINE);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stack.close().await;
        });
        client.join(DEADLINE);
        drop(server);
        let [from_client, from_server] = sniffers.each_ref().map(segments);
        for (place, flags) in [(0, SYN), (1, ACK)] {
            assert_eq!(from_client[place].1.tcp.flags, flags);
        }
        assert_eq!(from_server[0].1.tcp.flags, SYN | ACK);
        let [syn, ack] = [&from_client[0].1.tcp, &from_client[1].1.tcp];
        let syn_ack = &from_server[0].1.tcp;
        assert_eq!(syn_ack.acknowledgement, syn.sequence.wrapping_add(1));
        assert_eq!(ack.acknowledgement, syn_ack.sequence.wrapping_add(1));
        for segments in [&from_client[1..], &from_server[1..]] {
            let (last, data) = segments.split_last().unwrap();
            // Whoever's connection ends first sends the RST, and ends the other's flow by it.
            let data = if last.1.tcp.flags == RST | ACK { data } else { segments };
            assert!(data.iter().all(|(_, packet)| packet.tcp.flags == ACK), "{data:?}");
            let mut next = data[0].1.tcp.sequence;
            for (_, TcpPacket { tcp, .. }) in data {
                assert_eq!(tcp.sequence, next, "what follows what was sent");
                next = next.wrapping_add(tcp.payload.len() as u32);
            }
            let acknowledged: Vec<u32> = data.iter().map(|(_, packet)| packet.tcp.acknowledgement).collect();
            assert!(acknowledged.is_sorted_by_key(|number| number.wrapping_sub(acknowledged[0])));
        }
        let is_reset =
            |segments: &[(Vec<u8>, TcpPacket)]| segments.iter().any(|it| it.1.tcp.flags & RST != 0);
        assert!(is_reset(&from_client) || is_reset(&from_server));
    }
}

/// Segments of strangers, and damaged ones of the flow itself, are dropped by name and change nothing.
#[test]
fn bad_segments_are_dropped_by_name_and_the_connection_goes_on() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let sniffers = [
        Sniffer::start(&world.router, INTERFACE).unwrap(),
        // To send as the client does.
        Sniffer::start(&world.client.namespace, INTERFACE).unwrap(),
    ];
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let serving = server.stack.clone();
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        fetch(&connection, 20_000).await;
        let [seen, out] = sniffers;
        let (frame, packet) = segments(&seen).pop().unwrap();
        // Written anew with other fields, the checksum fits; `damaged` has one bit flipped in the payload.
        let forged = |change: &dyn Fn(&mut Tcp, &mut SocketAddr)| {
            let (mut tcp, mut src) = (packet.tcp.clone(), packet.src);
            change(&mut tcp, &mut src);
            let payload = &frame[packet.payload()];
            let [dst_mac, src_mac] = [0, 6].map(|at| MacAddr(frame[at..at + 6].try_into().unwrap()));
            let headers = UdpHeaders::new(wirepath_wire::Link { src: src_mac, dst: dst_mac, vlan: None });
            let mut forged = vec![0; tcp_headers_len(&headers, packet.dst.ip(), &[])];
            write_tcp(&mut forged, &headers, (src, packet.dst), (&tcp, &[]), payload).unwrap();
            forged.extend_from_slice(payload);
            forged
        };
        let mut damaged = frame.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let bad = [
            ("tcp_checksum_mismatched_dropped", damaged),
            ("tcp_flags_invalid_dropped", forged(&|tcp, _| tcp.flags = SYN | FIN)),
            ("qtip_flow_unknown_dropped", forged(&|_, src| src.set_port(src.port() ^ 1))),
            (
                "qtip_reset_unmatched_dropped",
                forged(&|tcp, src| {
                    tcp.flags = RST;
                    src.set_port(src.port() ^ 1);
                }),
            ),
            (
                "qtip_reset_out_of_window_dropped",
                forged(&|tcp, _| {
                    (tcp.flags, tcp.sequence) = (RST, tcp.sequence.wrapping_add(1 << 31));
                }),
            ),
            (
                "qtip_sequence_out_of_window_dropped",
                forged(&|tcp, _| {
                    tcp.sequence = tcp.sequence.wrapping_add(1 << 31);
                }),
            ),
        ];
        for (name, frame) in bad {
            let start = Instant::now();
            while !serving.status().all_drops().contains_key(name) {
                out.send(&frame).unwrap();
                assert!(start.elapsed() < DEADLINE, "{name}: {:?}", serving.status().all_drops());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        fetch(&connection, 200_000).await;
    });
    client.join(DEADLINE);
}

/// To another port: a new flow, and QUIC finds the new path.
#[test]
fn a_connection_moves_to_another_port() {
    needs!(Firewall);
    let world = firewalled(&[]);
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        let first = connection.local_addr();
        fetch(&connection, 100_000).await;
        connection.migrate("0.0.0.0:0".parse().unwrap()).await.unwrap();
        fetch(&connection, 1_000_000).await;
        assert_ne!(connection.local_addr().port(), first.port());
        without_late_resets(stack.status().all_drops())
    });
    assert_eq!(client.join(DEADLINE), Default::default());
    assert_eq!(without_late_resets(server.stack.status().all_drops()), Default::default());
    assert_eq!((seen(&world.router, "invalid"), seen(&world.router, "mid_stream")), (0, 0));
}

/// The interface goes and comes back while the connection is in use: nothing else leads to a peer that speaks QTIP, so
/// it waits, and goes on where it was.
#[test]
fn an_interface_that_is_opened_anew_is_survived() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let server = Server::start(&world.server.namespace, xdp(), [(at, server_config(&identity).qtip(true))]);
    let hosts = [world.client.namespace.clone(), world.server.namespace.clone()];
    let client = world.client.namespace.runtime(async move || {
        let stack = xdp().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        for host in hosts {
            fetch(&connection, 100_000).await;
            // Its XSKs are closed, and others opened for frames of the new size.
            host.ip(&[&format!("link set {INTERFACE} mtu 1600")]).unwrap();
            fetch(&connection, 1_000_000).await;
        }
    });
    client.join(DEADLINE);
    drop(server);
}

/// Sampled segments' hops sum to their total, in and out, like those of datagrams.
#[test]
fn journeys_of_segments_sum_up() {
    needs!(Xdp);
    let world = World::routed(Link::default()).unwrap();
    let identity = Identity::new();
    let at = world.server.socket(Family::V4, 4433);
    let traced = || xdp().trace_one_in(1);
    let server =
        Server::start(&world.server.namespace, traced(), [(at, server_config(&identity).qtip(true))]);
    let client = world.client.namespace.runtime(async move || {
        let stack = traced().build().await.unwrap();
        let connection = connect(&stack, at, client_config(&identity).qtip(true)).await.unwrap();
        fetch(&connection, 300_000).await;
        let (records, _) = stack.tracer().read(0, usize::MAX);
        records
    });
    let of_client = client.join(DEADLINE);
    let (of_server, _) = server.stack.tracer().read(0, usize::MAX);
    for records in [of_client, of_server] {
        for record in &records {
            let sum: u64 = record.hops().iter().map(|hop| hop.wait + hop.run).sum();
            assert_eq!(sum, record.total(), "{record:?}");
        }
        for (direction, outcome) in [(Direction::Rx, "delivered"), (Direction::Tx, "sent")] {
            let done = |record: &&JourneyRecord| (record.direction, record.outcome) == (direction, outcome);
            let record = records.iter().rfind(done).expect(outcome);
            assert!(record.hop_count >= 3 && record.path.is_some() && record.connection != 0, "{record:?}");
        }
    }
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
