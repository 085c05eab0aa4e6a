//! What each condition takes and leaves.

use super::*;
use crate::{Link, MacAddr, UdpHeaders, VlanTag, write_udp};

fn udp(vlan: Option<u16>, src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let link = Link {
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        vlan: vlan.map(VlanTag::new),
    };
    let mut frame = vec![0; 66];
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let len = write_udp(&mut frame, &UdpHeaders::new(link), src, dst, payload).unwrap();
    frame.extend_from_slice(payload);
    frame.split_off(66 - len)
}

/// The same addresses and ports as TCP, with these flags.
fn tcp(src: &str, dst: &str, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 12];
    segment[4] = 0x50;
    segment[5] = flags;
    segment.extend_from_slice(payload);
    let mut frame = udp(None, src, dst, &segment);
    let l4 = frame.len() - segment.len() - 8;
    frame[if src.starts_with('[') { 20 } else { 23 }] = crate::protocol::TCP;
    frame[l4 + 4..l4 + 8].fill(0);
    frame
}

fn rules(lines: &[&str]) -> Rules {
    Rules::new(lines.iter().map(|line| line.parse::<Rule>().unwrap())).unwrap()
}

const V4: (&str, &str) = ("10.1.0.1:1111", "10.1.0.2:42");
const V6: (&str, &str) = ("[fd00::1]:1111", "[fd00::2]:42");
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// Which of a fixed choice of packets a condition takes.
fn taken(condition: &str) -> Vec<&'static str> {
    let long = [&[0xc0, 0, 0, 0, 1, 4, 1, 2, 3, 4, 3, 7, 8, 9][..], &[0; 20]].concat();
    let short = [&[0x40, 1, 2, 3, 4][..], &[0; 20]].concat();
    let rules = rules(&[&format!("drop {condition}")]);
    [
        ("v4", udp(None, V4.0, V4.1, b"")),
        ("v6", udp(None, V6.0, V6.1, b"")),
        ("other port", udp(None, V4.0, "10.1.0.2:43", b"")),
        ("tcp", tcp(V4.0, V4.1, ACK, b"")),
        ("tcp6 syn", tcp(V6.0, V6.1, SYN | ACK, b"")),
        ("long", udp(None, V4.0, "10.1.0.2:443", &long)),
        ("short", udp(None, V6.0, "[fd00::2]:443", &short)),
        ("tcp long", tcp(V4.0, "10.1.0.2:443", ACK, &long)),
    ]
    .into_iter()
    .filter(|(_, frame)| rules.verdict(frame, 0) == Verdict::Drop)
    .map(|(name, _)| name)
    .collect()
}

#[test]
fn each_condition_takes_what_it_says() {
    assert_eq!(taken("all").len(), 8);
    assert_eq!(taken("udp"), ["v4", "v6", "other port", "long", "short"]);
    assert_eq!(taken("protocol 17"), taken("udp"));
    assert_eq!(taken("protocol 6"), ["tcp", "tcp6 syn", "tcp long"]);
    assert_eq!(taken("udp port 42"), ["v4", "v6"]);
    assert_eq!(taken("udp ports 1-41,43-442"), ["other port"]);
    assert_eq!(taken("udp from 10.1.0.1:1111 to 10.1.0.2:42"), ["v4"]);
    assert_eq!(taken("udp from [fd00::1]:1111 to [fd00::2]:42"), ["v6"]);
    assert_eq!(taken("udp from 10.1.0.1:1112 to 10.1.0.2:42"), [""; 0]);
    assert_eq!(taken("to 10.0.0.0/8"), ["v4", "other port", "tcp", "long", "tcp long"]);
    assert_eq!(taken("to fd00::2"), ["v6", "tcp6 syn", "short"]);
    assert_eq!(taken("to 0.0.0.0/0").len(), 5);
    assert_eq!(taken("tcp port 42"), ["tcp", "tcp6 syn"]);
    assert_eq!(taken("tcp ports 443"), ["tcp long"]);
    assert_eq!(taken("tcp control 42"), ["tcp6 syn"]);
    assert_eq!(taken("quic port 443 long-source 0:07"), ["long"]);
    assert_eq!(taken("quic port 443 long-source 1:0809"), ["long"]);
    assert_eq!(taken("quic port 443 long-source 1:080900"), [""; 0], "beyond the CID");
    assert_eq!(taken("quic port 443 long-destination 0:01020304"), ["long"]);
    assert_eq!(taken("quic port 443 short-destination 1:0203"), ["short"]);
    assert_eq!(taken("quic port 444 short-destination 1:0203"), [""; 0]);
    assert_eq!(taken("tcp-quic port 443 long-source 0:070809"), ["tcp long"]);
}

#[test]
fn the_first_match_wins() {
    let frame = udp(None, V4.0, V4.1, b"");
    let rules = rules(&["drop udp port 43", "pass udp port 42", "drop all", "redirect udp port 42"]);
    assert_eq!(rules.decisive(&frame), Some(1));
    assert_eq!(rules.verdict(&frame, 3), Verdict::Pass);
    assert_eq!(rules.verdict(&udp(None, V4.0, "10.1.0.2:44", b""), 3), Verdict::Drop);
}

#[test]
fn redirect_names_the_queue_and_spares_foreign_addresses() {
    let list = Rules::builder().redirect().udp_dst_port(42).l2fwd().tcp_control(42);
    let any = list.clone().build().unwrap();
    assert_eq!(any.verdict(&udp(None, V4.0, V4.1, b""), 3), Verdict::Redirect(3));
    assert_eq!(any.verdict(&tcp(V4.0, V4.1, SYN, b""), 3), Verdict::L2Forward);
    let local = list.local_addresses(["10.1.0.2".parse().unwrap()]).build().unwrap();
    assert_eq!(local.verdict(&udp(None, V4.0, V4.1, b""), 3), Verdict::Redirect(3));
    assert_eq!(local.verdict(&udp(None, V6.0, V6.1, b""), 3), Verdict::Pass);
    assert_eq!(local.decisive(&udp(None, V6.0, V6.1, b"")), None);
    assert_eq!(local.verdict(&tcp(V6.0, V6.1, SYN, b""), 3), Verdict::L2Forward);
}

#[test]
fn vlan_frames_pass_unless_asked_for() {
    let verdicts = |vlan| {
        let rules = Rules::builder().drop().all().vlan(vlan).build().unwrap();
        [None, Some(0), Some(7), Some(8)]
            .map(|tag| rules.verdict(&udp(tag, V4.0, V4.1, b""), 0) == Verdict::Drop)
    };
    assert_eq!(verdicts(VlanPolicy::Untagged), [true, true, false, false]);
    assert_eq!(verdicts(VlanPolicy::Id(7)), [false, false, true, false]);
    assert_eq!(verdicts(VlanPolicy::Any), [true; 4]);
    for (word, policy) in
        [("untagged", VlanPolicy::Untagged), ("any", VlanPolicy::Any), ("4094", VlanPolicy::Id(4094))]
    {
        assert_eq!(word.parse(), Ok(policy));
    }
    for word in ["", "0", "4095", "all"] {
        assert!(word.parse::<VlanPolicy>().is_err(), "{word}");
    }
}

#[test]
fn what_is_not_whole_passes() {
    let rules = rules(&["drop all"]);
    let good = udp(None, V4.0, V4.1, b"1234");
    let change = |at: usize, to: u8| {
        let mut frame = good.clone();
        frame[at] = to;
        rules.verdict(&frame, 0)
    };
    assert_eq!(change(0, 0), Verdict::Drop);
    assert_eq!(change(13, 6), Verdict::Pass, "ARP");
    assert_eq!(change(14, 0x46), Verdict::Pass, "options");
    assert_eq!(change(14, 0x55), Verdict::Pass, "version");
    assert_eq!(change(17, 19), Verdict::Pass, "total length under the header's");
    assert_eq!(change(17, 33), Verdict::Pass, "total length over the frame's");
    assert_eq!(change(20, 0x60), Verdict::Pass, "more fragments");
    assert_eq!(change(21, 1), Verdict::Pass, "fragment offset");
    assert_eq!(change(39, 7), Verdict::Pass, "UDP length under its header's");
    assert_eq!(change(39, 13), Verdict::Pass, "UDP length over the packet's");
    assert_eq!(change(23, 58), Verdict::Drop, "another protocol is whole in itself");
    for len in 0..good.len() {
        assert_eq!(rules.verdict(&good[..len], 0), Verdict::Pass);
    }
    let mut v6 = udp(None, V6.0, V6.1, b"1234");
    v6[20] = crate::protocol::HOP_BY_HOP;
    assert_eq!(rules.verdict(&v6, 0), Verdict::Pass, "extension header");
}

#[test]
fn text_reads_back() {
    for line in [
        "drop all",
        "pass udp",
        "drop udp port 42",
        "redirect udp ports 443,8000-8100,65535",
        "redirect udp from 10.0.0.1:5000 to 10.0.0.2:443",
        "pass to 10.0.0.0/8",
        "pass to fd00::/16",
        "drop protocol 1",
        "l2fwd tcp port 443",
        "redirect tcp ports 443,4433",
        "redirect tcp control 443",
        "redirect quic port 443 long-source 0:a1b2",
        "redirect quic port 443 long-destination 2:a1b2c3",
        "redirect tcp-quic port 443 short-destination 0:a1",
    ] {
        assert_eq!(line.parse::<Rule>().unwrap().to_string(), line);
    }
    for (line, same) in [
        ("drop udp dst port 42", "drop udp port 42"),
        ("pass  tcp dst ports 1,2", "pass tcp ports 1-2"),
        ("pass quic dst port 443 long-source 0:07", "pass quic port 443 long-source 0:07"),
    ] {
        assert_eq!(line.parse::<Rule>().unwrap().to_string(), same);
    }
    for line in [
        "",
        "drop",
        "drop dst port 42",
        "allow all",
        "drop udp port 65536",
        "drop udp ports 1,,2",
        "drop to 10.0.0.0/33",
        "drop to nowhere",
        "redirect quic port 443 long-source 0:a",
        "redirect quic port 443 long-source 0:",
        "redirect quic port 443 long-source 19:a1b2",
        "redirect quic port 443 long-source 0:\u{e9}\u{e9}",
        "drop udp port 42 please",
    ] {
        assert!(line.parse::<Rule>().is_err(), "{line}");
    }
}

#[test]
fn limits_are_refused_by_name() {
    let many = |count: usize, action: &dyn Fn(usize) -> Match| {
        Rules::new((0..count).map(|at| Rule { action: Action::Drop, matching: action(at) }))
    };
    assert!(many(MAX_RULES, &|_| Match::Udp).is_ok());
    assert_eq!(many(MAX_RULES + 1, &|_| Match::Udp), Err(RulesError::TooMany));
    let prefix = |at: usize| Match::IpDst(IpAddr::from([10, 0, at as u8, 0]).into());
    assert!(many(MAX_PREFIX_RULES, &prefix).is_ok());
    assert_eq!(many(MAX_PREFIX_RULES + 1, &prefix), Err(RulesError::TooManyPrefixes));
    let shape =
        |at: usize| Match::QuicFlow(CidPattern::new(443, CidField::ShortDestination, at, &[1]).unwrap());
    assert!(many(MAX_CID_SHAPES, &shape).is_ok());
    assert_eq!(many(MAX_CID_SHAPES + 1, &shape), Err(RulesError::TooManyCidShapes));
    let mixed = Rules::builder().drop().udp_tuple(V4.0.parse().unwrap(), V6.1.parse().unwrap()).build();
    assert_eq!(mixed, Err(RulesError::TupleFamilies));
    let locals = (0..1025u32).map(|at| IpAddr::from(at.to_be_bytes()));
    assert_eq!(Rules::builder().local_addresses(locals).build(), Err(RulesError::TooManyExact));
    assert_eq!(Rules::builder().vlan(VlanPolicy::Id(4095)).build(), Err(RulesError::VlanId));
}

#[test]
fn port_sets_hold_what_they_were_given() {
    let mut set = PortSet::from_iter([0, 1, 63, 64, 65_535]);
    assert_eq!((set.len(), set.ranges()), (5, vec![0..=1, 63..=64, 65_535..=65_535]));
    assert!(!set.insert(0) && set.insert(2) && set.remove(64) && !set.remove(64));
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 63, 65_535]);
}
