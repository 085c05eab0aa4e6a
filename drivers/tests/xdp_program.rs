//! The XDP program in the kernel: it decides as the reference matcher does, counts, attaches and goes.
#![allow(missing_docs)]

#[path = "../../stack/wire/tests/frames/mod.rs"]
mod frames;
mod xdp_world;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, ErrorKind},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use frames::Random;
use wirepath_drivers::{DriverError, XdpMode, XdpModeWish, XdpProgram};
use wirepath_wire::rules::{Action, CidField, CidPattern, Match, Rule, Rules, RulesBuilder, Verdict};
use xdp_world::{FAR, NEAR, World, ip, root_or_skip, unbound_xsk, within};

/// The kernel refuses test runs of shorter frames.
const ETHERNET_HEADER_LEN: usize = 14;

/// How often a rule of each kind, with each action, decided.
type Coverage = BTreeMap<(&'static str, String), u64>;

/// The kind of a condition, as finely as the program tells them apart.
fn kind(matching: &Match) -> &'static str {
    let cid = |pattern: &CidPattern, names: [&'static str; 3]| match pattern.field() {
        CidField::LongSource => names[0],
        CidField::LongDestination => names[1],
        CidField::ShortDestination => names[2],
    };
    match matching {
        Match::All => "all",
        Match::Udp => "udp",
        Match::UdpDstPort(_) => "udp port",
        Match::UdpPortSet(_) => "udp ports",
        Match::UdpTuple { dst, .. } if dst.is_ipv4() => "udp tuple, v4",
        Match::UdpTuple { .. } => "udp tuple, v6",
        Match::IpDst(prefix) if prefix.address().is_ipv4() => "prefix, v4",
        Match::IpDst(_) => "prefix, v6",
        Match::IpNextHeader(_) => "protocol",
        Match::TcpDstPort(_) => "tcp port",
        Match::TcpPortSet(_) => "tcp ports",
        Match::TcpControl(_) => "tcp control",
        Match::QuicFlow(pattern) => {
            cid(pattern, ["quic long-source", "quic long-destination", "quic short-destination"])
        }
        Match::TcpQuicFlow(pattern) => {
            cid(pattern, ["tcp-quic long-source", "tcp-quic long-destination", "tcp-quic short-destination"])
        }
    }
}

/// All kinds that [`kind`] tells apart.
const KINDS: usize = 18;

/// Compares `lists` rule lists on `frames` frames each.
fn compare(seed: u64, lists: u32, frames: u32, multi_buffer: bool) -> Coverage {
    let mut coverage = Coverage::new();
    let mut compared = 0;
    let program = XdpProgram::load(multi_buffer).unwrap();
    let xsk = unbound_xsk();
    program.register_socket(0, xsk.as_fd()).unwrap();
    let mut random = Random(seed);
    let mut decided = [0u32; 4];
    for list in 0..lists {
        let rules = frames::rules(&mut random);
        program.set_rules(&Rules::default()).unwrap();
        program.set_rules(&rules).unwrap();
        let mut hits = vec![0u64; rules.as_slice().len()];
        for _ in 0..frames {
            let frame = frames::frame(&mut random);
            if frame.len() < ETHERNET_HEADER_LEN {
                continue;
            }
            let expected = rules.verdict(&frame, 0);
            let got = program.test_run(&frame).unwrap();
            compared += 1;
            assert_eq!(got, expected, "list {list} of seed {seed}:\n{rules:#?}\n{frame:02x?}");
            decided[match got {
                Verdict::Pass => 0,
                Verdict::Drop => 1,
                Verdict::Redirect(_) => 2,
                Verdict::L2Forward => 3,
            }] += 1;
            if let Some(rule) = rules.decisive(&frame) {
                hits[rule] += 1;
                let Rule { matching, action } = &rules.as_slice()[rule];
                *coverage.entry((kind(matching), action.to_string())).or_default() += 1;
            }
        }
        assert_eq!(program.hits().unwrap(), hits, "list {list} of seed {seed}:\n{rules:#?}");
    }
    println!("{compared} frames; pass, drop, redirect, l2fwd: {decided:?}");
    assert!(decided.iter().all(|count| *count > lists * frames / 50), "too few of one kind: {decided:?}");
    coverage
}

#[test]
fn program_equals_the_reference_on_fuzzed_frames() {
    if root_or_skip("program_equals_the_reference_on_fuzzed_frames") {
        compare(11, 220, 500, false);
    }
}

#[test]
fn multi_buffer_program_equals_the_reference_on_fuzzed_frames() {
    if root_or_skip("multi_buffer_program_equals_the_reference_on_fuzzed_frames") {
        compare(12, 40, 500, true);
    }
}

#[test]
#[ignore = "slow: a million frames"]
fn slow_program_equals_the_reference_on_a_million_frames() {
    if root_or_skip("slow_program_equals_the_reference_on_a_million_frames") {
        // Frames too short for a test run don't count.
        let coverage = compare(13, 1000, 1050, false);
        println!("{coverage:#?}");
        assert_eq!(coverage.len(), KINDS * 4, "every kind with every action has decided: {coverage:#?}");
    }
}

fn udp_frame(dst_port: u16) -> Vec<u8> {
    use wirepath_wire::{Link, MacAddr, UDP_V4_HEADERS_LEN, UdpHeaders, write_udp};
    let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let mut frame = vec![0; UDP_V4_HEADERS_LEN];
    let (src, dst) = ((NEAR, 1111).into(), (FAR, dst_port).into());
    write_udp(&mut frame, &UdpHeaders::new(link), src, dst, b"payload").unwrap();
    frame.extend_from_slice(b"payload");
    frame
}

#[test]
fn redirect_without_a_socket_passes_and_is_told() {
    if !root_or_skip("redirect_without_a_socket_passes_and_is_told") {
        return;
    }
    let program = XdpProgram::load(false).unwrap();
    assert_eq!(program.test_run(&udp_frame(42)).unwrap(), Verdict::Pass, "no rules yet");
    program.set_rules(&Rules::builder().redirect().udp().build().unwrap()).unwrap();
    assert_eq!(program.test_run(&udp_frame(42)).unwrap(), Verdict::Pass, "no socket yet");
    let xsk = unbound_xsk();
    program.register_socket(0, xsk.as_fd()).unwrap();
    assert_eq!(program.test_run(&udp_frame(42)).unwrap(), Verdict::Redirect(0));
    program.unregister_socket(0).unwrap();
    program.unregister_socket(0).unwrap();
    assert_eq!(program.test_run(&udp_frame(42)).unwrap(), Verdict::Pass);
    assert_eq!(program.hits().unwrap(), [3]);
    let unclaimed =
        program.events().unwrap().into_iter().find(|(name, _)| *name == "xdp_unclaimed_queue_passed");
    assert_eq!(unclaimed, Some(("xdp_unclaimed_queue_passed", 2)));
    assert!(program.register_socket(256, xsk.as_fd()).is_err(), "no such place");
}

/// Each reason to pass what no rule says to pass has a counter.
#[test]
fn passing_without_a_rule_is_counted_by_cause() {
    if !root_or_skip("passing_without_a_rule_is_counted_by_cause") {
        return;
    }
    let program = XdpProgram::load(false).unwrap();
    let rules = Rules::builder().redirect().udp().local_addresses([NEAR.into()]).build().unwrap();
    program.set_rules(&rules).unwrap();
    let foreign = udp_frame(42);
    let mut fragment = foreign.clone();
    fragment[20] = 0x20;
    let mut tagged = foreign.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    for frame in [&foreign, &fragment, &tagged, &vec![0; 60]] {
        assert_eq!(program.test_run(frame).unwrap(), Verdict::Pass);
    }
    let expected = [
        ("xdp_unparsed_passed", 2),
        ("xdp_foreign_vlan_passed", 1),
        ("xdp_foreign_address_passed", 1),
        ("xdp_unclaimed_queue_passed", 0),
    ];
    assert_eq!(program.events().unwrap(), expected);
    assert_eq!(program.hits().unwrap(), [0]);
}

#[test]
fn counts_follow_their_rule_through_changes() {
    if !root_or_skip("counts_follow_their_rule_through_changes") {
        return;
    }
    let program = XdpProgram::load(false).unwrap();
    let rules = |lines: &[&str]| Rules::new(lines.iter().map(|line| line.parse().unwrap())).unwrap();
    program.set_rules(&rules(&["drop udp port 42", "drop udp port 43"])).unwrap();
    for port in [42, 43, 43] {
        assert_eq!(program.test_run(&udp_frame(port)).unwrap(), Verdict::Drop);
    }
    assert_eq!(program.hits().unwrap(), [1, 2]);
    program.set_rules(&rules(&["pass udp port 44", "drop udp port 43"])).unwrap();
    assert_eq!(program.test_run(&udp_frame(42)).unwrap(), Verdict::Pass);
    assert_eq!(program.hits().unwrap(), [0, 2]);
    program.set_rules(&rules(&["drop udp port 42"])).unwrap();
    assert_eq!(program.hits().unwrap(), [0], "a rule that went and came back counts anew");
}

#[test]
fn drop_udp_port_42() {
    if !root_or_skip("drop_udp_port_42") {
        return;
    }
    const DATAGRAMS: u64 = 10_000;
    let world = World::new();
    // Datagrams on their way at a time: far fewer than a socket's receive buffer holds.
    const WINDOW: u64 = 64;
    let program = world.within(&world.far, || {
        let program = XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap();
        program.set_rules(&Rules::builder().drop().udp_dst_port(42).build().unwrap()).unwrap();
        program
    });
    let attachment = program.attachment().unwrap();
    assert_eq!((attachment.mode, attachment.reason.as_str()), (XdpMode::Driver, ""));

    let arrived = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let done = AtomicBool::new(false);
    let sockets = world.within(&world.far, || {
        [42, 43].map(|port| {
            let socket = UdpSocket::bind((Ipv4Addr::from(FAR), port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket
        })
    });
    thread::scope(|scope| {
        for (socket, count) in sockets.iter().zip(arrived.iter()) {
            let done = &done;
            scope.spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(_) => count.fetch_add(1, Ordering::Release),
                        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                            if done.load(Ordering::Acquire) {
                                break;
                            }
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
        world.within(&world.near, || {
            let socket = UdpSocket::bind((Ipv4Addr::from(NEAR), 0)).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            for sent in 0..DATAGRAMS {
                for port in [42, 43] {
                    socket.send_to(b"datagram", (Ipv4Addr::from(FAR), port)).unwrap();
                }
                while sent - arrived[1].load(Ordering::Acquire).min(sent) > WINDOW
                    && Instant::now() < deadline
                {
                    thread::yield_now();
                }
            }
            while arrived[1].load(Ordering::Acquire) < DATAGRAMS && Instant::now() < deadline {
                thread::yield_now();
            }
            done.store(true, Ordering::Release);
        });
    });
    assert_eq!(arrived[0].load(Ordering::Acquire), 0);
    assert_eq!(arrived[1].load(Ordering::Acquire), DATAGRAMS);
    assert_eq!(program.hits().unwrap(), [DATAGRAMS]);
}

/// What a frame's Ethernet addresses are.
fn ethernet(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap())
}

#[test]
fn l2fwd_sends_a_frame_back_with_its_addresses_swapped() {
    if !root_or_skip("l2fwd_sends_a_frame_back_with_its_addresses_swapped") {
        return;
    }
    let world = World::new();
    let rules = Rules::builder().l2fwd().udp_dst_port(42).build().unwrap();
    let program = world.within(&world.far, || XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap());
    program.set_rules(&rules).unwrap();
    // A veth end takes what its peer sends back only while it has a program, too.
    let _taking = world.within(&world.near, || XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap());
    let wire = world.within(&world.near, || xdp_world::packet_socket("veth"));
    let frame = udp_frame(42);
    let (dst, src) = ethernet(&frame);
    let deadline = Instant::now() + Duration::from_secs(20);
    let back = loop {
        xdp_world::send(&wire, &frame);
        // The host's own chatter (neighbour discovery) is on the wire as well.
        match xdp_world::receive(&wire).filter(|back| back.len() >= frame.len() && back[34..] == frame[34..])
        {
            Some(back) => break back,
            None => assert!(Instant::now() < deadline, "nothing came back"),
        }
    };
    assert_eq!(ethernet(&back), (src, dst));
    assert_eq!(back[12..], frame[12..]);
    assert!(program.hits().unwrap()[0] >= 1);
}

/// Small changes are written in place, others swapped in whole; the packets can't tell.
#[test]
fn a_chain_of_changes_equals_each_list_set_alone() {
    if !root_or_skip("a_chain_of_changes_equals_each_list_set_alone") {
        return;
    }
    let program = XdpProgram::load(false).unwrap();
    let xsk = unbound_xsk();
    program.register_socket(0, xsk.as_fd()).unwrap();
    let mut random = Random(21);
    let mut list: Vec<Rule> = Vec::new();
    for change in 0..400 {
        let port = 1000 + random.below(8) as u16;
        let action = random.one(&[Action::Pass, Action::Drop, Action::Redirect]);
        match random.below(10) {
            0 | 1 => list.push(Rule { matching: Match::UdpDstPort(port), action }),
            2 => list.insert(0, Rule { matching: Match::UdpDstPort(port), action }),
            3 => list.push(Rule { matching: Match::IpDst(IpAddr::from(FAR).into()), action }),
            4 => list.push(Rule { matching: Match::Udp, action }),
            5 | 6 => drop(list.pop()),
            7 if !list.is_empty() => drop(list.remove(0)),
            _ => {
                let ports = (0..random.below(4)).map(|_| 1000 + random.below(8) as u16).collect();
                list.push(Rule { matching: Match::UdpPortSet(ports), action });
            }
        }
        let rules = Rules::new(list.iter().cloned()).unwrap();
        program.set_rules(&rules).unwrap();
        for port in 1000..1008 {
            let frame = udp_frame(port);
            let got = program.test_run(&frame).unwrap();
            assert_eq!(got, rules.verdict(&frame, 0), "change {change}, port {port}: {list:?}");
        }
    }
}

/// Runs the program on one thread while `change` alters its rules on another: port 43 must always pass, port
/// 44 always drop.
fn under_load(base: &RulesBuilder, changes: u16, change: impl Fn(u16) -> RulesBuilder) {
    let program = XdpProgram::load(false).unwrap();
    program.set_rules(&base.clone().build().unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    let frames = [udp_frame(43), udp_frame(44)];
    thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let mut runs = 0u64;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(program.test_run(&frames[0]).unwrap(), Verdict::Pass);
                assert_eq!(program.test_run(&frames[1]).unwrap(), Verdict::Drop);
                runs += 1;
            }
            runs
        });
        for at in 0..changes {
            program.set_rules(&change(at).build().unwrap()).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(runner.join().unwrap() > 100);
    });
}

#[test]
fn swapped_rules_disturb_no_unrelated_packet() {
    if !root_or_skip("swapped_rules_disturb_no_unrelated_packet") {
        return;
    }
    let base = Rules::builder().pass().udp_dst_port(43).drop().udp();
    // Rules in front move every index: a half-made list would show.
    under_load(&base, 100, |change| {
        let front =
            (0..change % 7).fold(Rules::builder(), |list, port| list.redirect().udp_dst_port(1000 + port));
        front.pass().udp_dst_port(43).drop().udp()
    });
}

#[test]
fn patched_rules_disturb_no_unrelated_packet() {
    if !root_or_skip("patched_rules_disturb_no_unrelated_packet") {
        return;
    }
    let base = Rules::builder().pass().udp_dst_port(43).drop().udp_dst_port(44);
    under_load(&base, 1000, |change| base.clone().redirect().udp_ports(1000..1000 + change % 7));
}

#[test]
fn modes_and_refusals_are_told() {
    if !root_or_skip("modes_and_refusals_are_told") {
        return;
    }
    let world = World::new();
    world.within(&world.far, || {
        let error = XdpProgram::attach("nosuch0", XdpModeWish::DriverFirst).unwrap_err();
        assert!(matches!(error, DriverError::NoInterface { name } if name == "nosuch0"));

        let driver = XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap();
        assert_eq!(driver.attachment().unwrap().mode, XdpMode::Driver);
        assert!(driver.is_attached());
        for wish in [XdpModeWish::DriverFirst, XdpModeWish::Driver, XdpModeWish::Skb] {
            let error = XdpProgram::attach("veth", wish).unwrap_err();
            assert!(matches!(error, DriverError::ProgramPresent { interface, .. } if interface == "veth"));
        }
        assert!(driver.is_attached(), "it was left alone");
        drop(driver);
        assert_eq!(
            XdpProgram::attach("veth", XdpModeWish::Skb).unwrap().attachment().unwrap().mode,
            XdpMode::Skb
        );

        // Loopback has no driver mode.
        let skb = XdpProgram::attach("lo", XdpModeWish::DriverFirst).unwrap();
        let attachment = skb.attachment().unwrap();
        assert_eq!(attachment.mode, XdpMode::Skb);
        assert!(attachment.reason.contains("no support"), "{}", attachment.reason);
        let error = XdpProgram::attach("lo", XdpModeWish::Driver).unwrap_err();
        assert!(matches!(error, DriverError::ProgramPresent { .. } | DriverError::Unsupported { .. }));
    });
}

#[test]
fn large_mtu_gets_multi_buffer() {
    if !root_or_skip("large_mtu_gets_multi_buffer") {
        return;
    }
    let world = World::new();
    for ns in [&world.near, &world.far] {
        ip(&format!("-n {ns} link set veth mtu 9000"));
    }
    world.within(&world.far, || {
        let program = XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap();
        let attachment = program.attachment().unwrap();
        assert!(attachment.multi_buffer && attachment.mode == XdpMode::Driver, "{attachment:?}");
        assert!(attachment.reason.contains("MTU"), "{}", attachment.reason);
    });
}

#[test]
fn deleted_interface_is_noticed() {
    if !root_or_skip("deleted_interface_is_noticed") {
        return;
    }
    let world = World::new();
    let program = world.within(&world.far, || XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap());
    assert!(program.is_attached());
    ip(&format!("-n {} link delete veth", world.near));
    assert!(!program.is_attached());
}

const HOLD: &str = "WIREPATH_TEST_HOLD_XDP";

/// Not a test of its own: the process that the next one kills.
#[test]
fn holder_of_a_program() {
    let Ok(ns) = std::env::var(HOLD) else { return };
    let _program = within(&ns, || XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap());
    println!("\nholding");
    // Until killed, or until the parent is gone and its pipe with it.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_killed_process_leaves_no_program() {
    if !root_or_skip("a_killed_process_leaves_no_program") {
        return;
    }
    let world = World::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder_of_a_program", "--nocapture"])
        .env(HOLD, &world.far)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "holding"));
    let attached = || ip(&format!("-n {} link show veth", world.far)).contains("xdp");
    assert!(attached());
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel closes descriptors of a killed process in its own time.
    let deadline = Instant::now() + Duration::from_secs(10);
    while attached() {
        assert!(Instant::now() < deadline, "the program is still there");
        thread::yield_now();
    }
    world.within(&world.far, || XdpProgram::attach("veth", XdpModeWish::DriverFirst).unwrap());
}

/// A capability-less thread is refused with the name of what it lacks.
#[test]
fn missing_rights_are_named() {
    if !root_or_skip("missing_rights_are_named") {
        return;
    }
    let error = xdp_world::without_rights(|| XdpProgram::attach("lo", XdpModeWish::Skb).unwrap_err());
    let DriverError::MissingRights { rights, .. } = error else { panic!("{error}") };
    assert_eq!(rights, "CAP_BPF and CAP_NET_ADMIN");
}
