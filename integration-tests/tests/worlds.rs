//! The worlds themselves: that hosts reach each other, wires do what they are told, and nothing stays behind.

use std::{
    io::{BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use integration_tests::{
    impair::{Direction, Impairment},
    needs,
    netns::Namespace,
    world::{Family, Host, INTERFACE, Link, World},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Sends datagrams from one host to another until one is answered, and returns the answer's source.
fn ping(from: &Host, to: &Host, family: Family) -> IpAddr {
    let server = to.namespace.run(|| UdpSocket::bind(to.socket(family, 0)).unwrap());
    let client = from.namespace.run(|| UdpSocket::bind(from.socket(family, 0)).unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        let (len, source) = server.recv_from(&mut bytes).unwrap();
        server.send_to(&bytes[..len], source).unwrap();
        source
    });
    let start = Instant::now();
    while client.send(b"ping").is_err() || client.recv(&mut [0; 64]).is_err() {
        assert!(start.elapsed() < DEADLINE, "no answer");
    }
    answering.join().unwrap().ip()
}

#[test]
fn two_hosts_reach_each_other() {
    needs!(Root);
    let world = World::pair(3500, 2).unwrap();
    for family in [Family::V4, Family::V6] {
        assert_eq!(ping(&world.client, &world.server, family), world.client.address(family));
        assert_eq!(ping(&world.server, &world.client, family), world.server.address(family));
    }
    let links = world.client.namespace.command("ip", &["-details", "link", "show", INTERFACE]).unwrap();
    assert!(links.contains("mtu 3500") && links.contains("numrxqueues 2"), "{links}");
}

#[test]
fn hosts_reach_each_other_through_a_router() {
    needs!(Root);
    let world = World::routed(Link::default()).unwrap();
    for family in [Family::V4, Family::V6] {
        assert_eq!(ping(&world.client, &world.server, family), world.client.address(family));
    }
    let neighbours = world.client.namespace.ip(&["neigh show"]).unwrap();
    assert!(neighbours.contains("10.77.1.254") && !neighbours.contains("10.77.2.1 "), "{neighbours}");
}

#[test]
fn a_wire_loses_what_it_counts_as_lost() {
    needs!(Root);
    let world = World::impaired(Link::default(), Impairment::NONE).unwrap();
    ping(&world.client, &world.server, Family::V6);
    let before = world.middlebox().counts(Direction::ToServer);
    world.middlebox().set_one(Direction::ToServer, Impairment::losing(0.2, 1));
    let server = world.server.namespace.run(|| UdpSocket::bind(world.server.socket(Family::V6, 7)).unwrap());
    let client = world.client.namespace.run(|| UdpSocket::bind(world.client.socket(Family::V6, 0)).unwrap());
    for _ in 0..100 {
        client.send_to(b"some of these are lost", server.local_addr().unwrap()).unwrap();
    }
    let start = Instant::now();
    let counts = loop {
        let counts = world.middlebox().counts(Direction::ToServer);
        if counts.lost + counts.forwarded - counts.passed >= before.forwarded - before.passed + 100 {
            break counts;
        }
        assert!(start.elapsed() < DEADLINE, "{counts:?}");
        std::thread::yield_now();
    };
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut received = 0;
    while received + counts.lost < 100 {
        server.recv(&mut [0; 64]).unwrap();
        received += 1;
    }
    assert!((5..50).contains(&counts.lost), "{counts:?}");
    assert_eq!(counts.overflowed, 0);
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut [0; 64]).is_err(), "more came than was let through");
}

#[test]
fn a_corrupted_datagram_reaches_no_socket_and_a_forged_one_does() {
    needs!(Root);
    for family in [Family::V4, Family::V6] {
        let world =
            World::impaired(Link::default(), Impairment { corruption: 1.0, ..Impairment::NONE }).unwrap();
        let server = world.server.namespace.run(|| UdpSocket::bind(world.server.socket(family, 7)).unwrap());
        let client = world.client.namespace.run(|| UdpSocket::bind(world.client.socket(family, 0)).unwrap());
        client.connect(server.local_addr().unwrap()).unwrap();
        client.send(&[0; 8]).unwrap();
        world.middlebox().wait(DEADLINE, |middlebox| middlebox.counts(Direction::ToServer).corrupted == 1);
        world.middlebox().set(Impairment { forgery: 1.0, ..Impairment::NONE });
        client.send(&[0; 8]).unwrap();
        let mut bytes = [0; 64];
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(server.recv(&mut bytes).unwrap(), 8);
        // The first one to arrive is the forged one.
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(world.middlebox().counts(Direction::ToServer).forged, 1);
    }
}

/// Set in the child process of [`nothing_is_left_after_a_kill`]: the namespace to put one end of a link in.
const CHILD: &str = "WIREPATH_TEST_WORLD_CHILD";

#[test]
fn nothing_is_left_after_a_kill() {
    needs!(Root);
    if let Ok(parent) = std::env::var(CHILD) {
        return live_until_killed(&parent);
    }
    let ours = Namespace::new("witness").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_after_a_kill", "--nocapture"])
        .env(CHILD, ours.path())
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().contains("the world stands")));
    ours.ip(&["link show witness"]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    // The link's other end was in the child's namespace: it goes when that goes.
    while ours.ip(&["link show witness"]).is_ok() {
        assert!(start.elapsed() < DEADLINE, "the dead process's namespace is still there");
    }
    let named = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&named.stdout).contains("wire"));
}

fn live_until_killed(parent: &str) {
    let world = World::impaired(Link::default(), Impairment::NONE).unwrap();
    let link = format!("link add other type veth peer name witness netns {parent}");
    world.client.namespace.ip(&[&link]).unwrap();
    println!("the world stands");
    // Ends with the parent at the latest.
    let _ = std::io::stdin().read(&mut [0]);
    drop(world);
}

#[test]
fn a_world_can_be_made_again_and_again() {
    needs!(Root);
    for _ in 0..5 {
        let world = World::impaired(Link::default(), Impairment::NONE).unwrap();
        let target: SocketAddr = world.server.socket(Family::V4, 7);
        assert!(target.is_ipv4() && world.client.interface == INTERFACE);
    }
}
