//! Hostile bytes never panic, and what parses writes back the same.

mod frames;

use frames::Random;
use wirepath_wire::{
    Arp, Ethernet, Icmp, IcmpVersion, Ipv4, Ipv6, Link, Neighbor, Tcp, Udp, UdpChecksum, UdpHeaders,
    checksum, parse_udp, rules::Flow, verify_udp_checksum, write_udp,
};

fn feed_all_parsers(bytes: &[u8]) {
    let _ = Ethernet::parse(bytes);
    let _ = Flow::of(bytes);
    let v4 = Ipv4::parse(bytes);
    if let Ok(ip) = &v4 {
        assert!(ip.payload.end <= bytes.len() && ip.options.end == ip.payload.start);
    }
    let v6 = Ipv6::parse(bytes);
    if let Ok(ip) = &v6 {
        assert!(ip.payload.end <= bytes.len() && ip.extensions.end == ip.payload.start);
        let _ = Neighbor::parse(&bytes[ip.payload.clone()], ip);
        let version = IcmpVersion::V6 { src: ip.src, dst: ip.dst };
        let _ = Icmp::parse(&bytes[ip.payload.clone()], version).map(|icmp| icmp.meaning(version));
    }
    if let Ok(udp) = Udp::parse(bytes) {
        assert!(udp.payload.end <= bytes.len());
    }
    if let Ok(tcp) = Tcp::parse(bytes) {
        assert!(tcp.payload.start <= tcp.payload.end && tcp.payload.end == bytes.len());
    }
    let _ = Arp::parse(bytes);
    let _ = Icmp::parse(bytes, IcmpVersion::V4);
    if let Ok(packet) = parse_udp(bytes) {
        assert!(packet.payload.end <= bytes.len());
        let _ = verify_udp_checksum(bytes, &packet);
    }
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let mut random = Random(1);
    for _ in 0..100_000 {
        let frame = frames::frame(&mut random);
        feed_all_parsers(&frame);
        // The same bytes met one layer up.
        for start in [14, 18, 34, 38, 54] {
            feed_all_parsers(frame.get(start..).unwrap_or(&[]));
        }
    }
}

#[test]
fn what_parses_writes_back_the_same() {
    let mut random = Random(2);
    let mut written = 0;
    for _ in 0..50_000 {
        let frame = frames::frame(&mut random);
        let Ok(packet) = parse_udp(&frame) else { continue };
        let payload = &frame[packet.payload.clone()];
        let link = Link { src: packet.src_mac, dst: packet.dst_mac, vlan: packet.vlan };
        let headers = UdpHeaders { ecn: packet.ecn, ..UdpHeaders::new(link) };
        let mut again = vec![0; 80];
        let len = write_udp(&mut again, &headers, packet.src, packet.dst, payload).unwrap();
        again.extend_from_slice(payload);
        let again = again.split_off(80 - len);
        let read = parse_udp(&again).unwrap();
        assert_eq!((read.src, read.dst, read.ecn), (packet.src, packet.dst, packet.ecn));
        assert_eq!((read.src_mac, read.dst_mac, read.vlan), (packet.src_mac, packet.dst_mac, packet.vlan));
        assert_eq!(&again[read.payload.clone()], payload);
        assert!(matches!(read.checksum, UdpChecksum::Unverified(_)));
        assert_eq!(verify_udp_checksum(&again, &read), Ok(()));
        written += 1;
    }
    assert!(written > 5_000, "the frames were too wild: {written}");
}

/// What a redirect rule hands to user space is either taken or dropped under a name that tells of a fault the
/// kernel would drop it for too: never for a shape that should have passed to the kernel.
#[test]
fn the_parser_takes_what_the_rules_take() {
    let mut random = Random(3);
    let mut taken = 0;
    for _ in 0..100_000 {
        let frame = frames::frame(&mut random);
        let flow = Flow::of(&frame).filter(|flow| flow.protocol == 17);
        match (flow, parse_udp(&frame)) {
            (Some(flow), Ok(packet)) => {
                let udp = flow.transport.unwrap();
                assert_eq!((flow.src, udp.src_port), (packet.src.ip(), packet.src.port()));
                assert_eq!((flow.dst, udp.dst_port), (packet.dst.ip(), packet.dst.port()));
                assert_eq!(udp.payload, &frame[packet.payload]);
                taken += 1;
            }
            (Some(_), Err(error)) => {
                let name = error.name();
                assert!(
                    ["ip_checksum_mismatched_dropped", "ip_source_forbidden_dropped"].contains(&name),
                    "{name}"
                );
            }
            (None, _) => {}
        }
    }
    assert!(taken > 10_000, "the frames were too wild: {taken}");
}

#[test]
fn sums_of_pieces_equal_the_sum_of_the_whole() {
    let mut random = Random(4);
    for _ in 0..2_000 {
        let len = random.below(3_000) as usize;
        let bytes = random.bytes(len);
        let cut = (random.below(len as u64 + 1) as usize) & !1;
        let pieces = checksum::Sum::ZERO.add_bytes(&bytes[..cut]).add_bytes(&bytes[cut..]);
        assert_eq!(pieces.checksum(), checksum::of(&bytes));
    }
}
