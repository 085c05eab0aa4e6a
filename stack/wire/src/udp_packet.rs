//! UDP over IP over Ethernet in one step: what the receive and transmit paths of AF_XDP run per packet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ops::Range,
};

use crate::{
    BuildError, ETHERNET_HEADER_LEN, EtherType, Ethernet, IPV4_HEADER_LEN, IPV6_HEADER_LEN, Ipv4, Ipv6,
    MacAddr, ParseError, UDP_HEADER_LEN, Udp, VlanTag, checksum, ipv4, ipv6, protocol, udp_fast,
};

/// Bytes in front of the payload of an untagged UDP over IPv4 frame.
pub const UDP_V4_HEADERS_LEN: usize = ETHERNET_HEADER_LEN + IPV4_HEADER_LEN + UDP_HEADER_LEN;
/// Bytes in front of the payload of an untagged UDP over IPv6 frame.
pub const UDP_V6_HEADERS_LEN: usize = ETHERNET_HEADER_LEN + IPV6_HEADER_LEN + UDP_HEADER_LEN;

/// A received UDP datagram, as the headers of its frame tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpPacket {
    /// Source Ethernet address.
    pub src_mac: MacAddr,
    /// Destination Ethernet address.
    pub dst_mac: MacAddr,
    /// The VLAN tag, where there is one. Id 0 is a priority only.
    pub vlan: Option<VlanTag>,
    /// Where it came from. The scope of a link-local address is left zero: only the device knows it.
    pub src: SocketAddr,
    /// Where it was sent to.
    pub dst: SocketAddr,
    /// The ECN field: the low two bits of the traffic class (RFC 3168 §5).
    pub ecn: u8,
    /// The UDP payload, counted from the start of the frame.
    pub payload: Range<usize>,
    /// What the checksum field holds; [`verify_udp_checksum`] checks it.
    pub checksum: UdpChecksum,
}

/// The checksum field of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// Zero: the sender computed none. Lawful over IPv4 only.
    Absent,
    /// The field's value, not yet verified.
    Unverified(u16),
}

impl UdpChecksum {
    #[inline]
    pub(crate) fn of(field: u16) -> Self {
        if field == 0 { Self::Absent } else { Self::Unverified(field) }
    }
}

/// Reads the headers of a UDP frame in one pass: Ethernet, at most one VLAN tag, IPv4 (options skipped) or
/// IPv6 (extension headers skipped), UDP. The IPv4 header checksum and all lengths are verified; the UDP
/// checksum is not, since some devices have done so: see [`verify_udp_checksum`].
///
/// # Errors
/// The [`ParseError`] that names why this is no whole, lawful UDP datagram.
#[inline]
pub fn parse_udp(frame: &[u8]) -> Result<UdpPacket, ParseError> {
    match udp_fast::parse(frame) {
        Some(packet) => Ok(packet),
        None => parse_udp_in_full(frame),
    }
}

/// All shapes of frame, and the name of what is wrong with one.
#[cold]
pub(crate) fn parse_udp_in_full(frame: &[u8]) -> Result<UdpPacket, ParseError> {
    let Network { ethernet, src, dst, traffic_class, l4 } = network(frame, protocol::UDP)?;
    let udp = Udp::parse(&frame[l4.clone()])?;
    let start = l4.start;
    Ok(UdpPacket {
        src_mac: ethernet.src,
        dst_mac: ethernet.dst,
        vlan: ethernet.vlan,
        src: SocketAddr::new(src, udp.src_port),
        dst: SocketAddr::new(dst, udp.dst_port),
        ecn: traffic_class & 0b11,
        payload: start + udp.payload.start..start + udp.payload.end,
        checksum: UdpChecksum::of(udp.checksum),
    })
}

/// What lies below UDP or TCP.
pub(crate) struct Network {
    pub(crate) ethernet: Ethernet,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) traffic_class: u8,
    /// The IP payload, counted from the start of the frame.
    pub(crate) l4: Range<usize>,
}

/// Reads Ethernet and IP of a frame that must carry `wanted`.
pub(crate) fn network(frame: &[u8], wanted: u8) -> Result<Network, ParseError> {
    let ethernet = Ethernet::parse(frame)?;
    if ethernet.inner_vlan.is_some() {
        return Err(ParseError::VlanNested);
    }
    let l3 = ethernet.header_len();
    let packet = &frame[l3..];
    let check = |fragment: bool, protocol: u8, lawful_source: bool| match (fragment, lawful_source) {
        (true, _) => Err(ParseError::IpFragmented),
        _ if protocol != wanted => Err(ParseError::IpProtocolUnsupported),
        (_, false) => Err(ParseError::IpSourceForbidden),
        _ => Ok(()),
    };
    let (src, dst, traffic_class, l4) = match ethernet.ether_type {
        EtherType::IPV4 => {
            let ip = Ipv4::parse(packet)?;
            check(ip.is_fragment(), ip.protocol, ipv4::is_lawful_source(ip.src))?;
            (IpAddr::V4(ip.src), IpAddr::V4(ip.dst), ip.traffic_class, ip.payload)
        }
        EtherType::IPV6 => {
            let ip = Ipv6::parse(packet)?;
            check(ip.fragment, ip.protocol, ipv6::is_lawful_source(ip.src))?;
            (IpAddr::V6(ip.src), IpAddr::V6(ip.dst), ip.traffic_class, ip.payload)
        }
        _ => return Err(ParseError::EtherTypeUnsupported),
    };
    Ok(Network { ethernet, src, dst, traffic_class, l4: l3 + l4.start..l3 + l4.end })
}

/// Verifies the UDP checksum of a frame that [`parse_udp`] read as `packet`.
///
/// # Errors
/// [`ParseError::UdpChecksumMismatched`]; [`ParseError::UdpChecksumOmitted`] over IPv6; or
/// [`ParseError::UdpChecksumUnfinished`] where only the pseudo-header has been summed, as kernel senders do on
/// veth: a caller that trusts the device takes such a datagram, since it never crossed a wire.
#[inline]
pub fn verify_udp_checksum(frame: &[u8], packet: &UdpPacket) -> Result<(), ParseError> {
    let field = match (packet.checksum, packet.dst.is_ipv4()) {
        (UdpChecksum::Absent, true) => return Ok(()),
        (UdpChecksum::Absent, false) => return Err(ParseError::UdpChecksumOmitted),
        (UdpChecksum::Unverified(field), _) => field,
    };
    let start = packet.payload.start.saturating_sub(UDP_HEADER_LEN);
    let bytes = frame.get(start..packet.payload.end).ok_or(ParseError::UdpTruncated)?;
    let pseudo = pseudo_header(packet.src.ip(), packet.dst.ip(), bytes.len() as u16);
    if pseudo.add_bytes(bytes).is_valid() {
        Ok(())
    } else if pseudo.fold() == field {
        Err(ParseError::UdpChecksumUnfinished)
    } else {
        Err(ParseError::UdpChecksumMismatched)
    }
}

#[inline]
fn pseudo_header(src: IpAddr, dst: IpAddr, len: u16) -> checksum::Sum {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => checksum::pseudo_v4(src, dst, protocol::UDP, len),
        (IpAddr::V6(src), IpAddr::V6(dst)) => checksum::pseudo_v6(src, dst, protocol::UDP, len.into()),
        // `parse_udp` makes no such packet; a hand-made one then fails its checksum.
        _ => checksum::Sum::ZERO,
    }
}

/// The Ethernet header of frames along one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Our interface.
    pub src: MacAddr,
    /// The next hop.
    pub dst: MacAddr,
    /// The tag to send with.
    pub vlan: Option<VlanTag>,
}

/// How the UDP checksum of a frame to send is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxChecksum {
    /// Summed here.
    #[default]
    Full,
    /// The pseudo-header summed here, the rest by the device, which was asked to.
    Offloaded,
}

/// What headers are written from, addresses aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeaders {
    /// The Ethernet header.
    pub link: Link,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// The ECN field; the low two bits count.
    pub ecn: u8,
    /// How the UDP checksum is made.
    pub checksum: TxChecksum,
}

impl UdpHeaders {
    /// Not ECN-capable, the usual hop limit, the checksum made here.
    pub fn new(link: Link) -> Self {
        Self { link, hop_limit: ipv4::DEFAULT_HOP_LIMIT, ecn: 0, checksum: TxChecksum::Full }
    }

    /// Bytes of headers in front of a payload for this destination.
    pub fn len_for(&self, dst: IpAddr) -> usize {
        let base = if dst.is_ipv4() { UDP_V4_HEADERS_LEN } else { UDP_V6_HEADERS_LEN };
        base + if self.link.vlan.is_some() { crate::VLAN_TAG_LEN } else { 0 }
    }
}

/// Writes the headers of `payload` into the last bytes of `room`, which lies right in front of it, and returns
/// their length.
///
/// # Errors
/// [`BuildError::FamilyMismatched`], [`BuildError::NoRoom`] or [`BuildError::TooLong`].
#[inline]
pub fn write_udp(
    room: &mut [u8],
    headers: &UdpHeaders,
    src: SocketAddr,
    dst: SocketAddr,
    payload: &[u8],
) -> Result<usize, BuildError> {
    match (src, dst) {
        (SocketAddr::V4(src), SocketAddr::V4(dst)) => write_udp_v4(room, headers, src, dst, payload),
        (SocketAddr::V6(src), SocketAddr::V6(dst)) => write_udp_v6(room, headers, src, dst, payload),
        _ => Err(BuildError::FamilyMismatched),
    }
}

/// [`write_udp`] for IPv4. "Don't fragment" is set, as QUIC wants (RFC 9000 §14).
///
/// # Errors
/// [`BuildError::NoRoom`] or [`BuildError::TooLong`].
#[inline]
pub fn write_udp_v4(
    room: &mut [u8],
    headers: &UdpHeaders,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let header = tail(room, headers.len_for(Ipv4Addr::UNSPECIFIED.into()))?;
    let len = u16::try_from(UDP_HEADER_LEN + payload.len()).map_err(|_| BuildError::TooLong)?;
    let at = write_link(header, &headers.link, EtherType::IPV4)?;
    let mut ip = Ipv4::new(*src.ip(), *dst.ip(), protocol::UDP, len.into());
    ip.hop_limit = headers.hop_limit;
    ip.traffic_class = headers.ecn & 0b11;
    let at = at + ip.write(&mut header[at..])?;
    let pseudo = checksum::pseudo_v4(ip.src, ip.dst, protocol::UDP, len);
    finish_udp(&mut header[at..], headers.checksum, pseudo, (src.port(), dst.port()), payload)?;
    Ok(header.len())
}

/// [`write_udp`] for IPv6.
///
/// # Errors
/// [`BuildError::NoRoom`] or [`BuildError::TooLong`].
#[inline]
pub fn write_udp_v6(
    room: &mut [u8],
    headers: &UdpHeaders,
    src: SocketAddrV6,
    dst: SocketAddrV6,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let header = tail(room, headers.len_for(Ipv6Addr::UNSPECIFIED.into()))?;
    let len = u16::try_from(UDP_HEADER_LEN + payload.len()).map_err(|_| BuildError::TooLong)?;
    let at = write_link(header, &headers.link, EtherType::IPV6)?;
    let mut ip = Ipv6::new(*src.ip(), *dst.ip(), protocol::UDP, len.into());
    ip.hop_limit = headers.hop_limit;
    ip.traffic_class = headers.ecn & 0b11;
    let at = at + ip.write(&mut header[at..])?;
    let pseudo = checksum::pseudo_v6(ip.src, ip.dst, protocol::UDP, len.into());
    finish_udp(&mut header[at..], headers.checksum, pseudo, (src.port(), dst.port()), payload)?;
    Ok(header.len())
}

#[inline]
pub(crate) fn tail(room: &mut [u8], needed: usize) -> Result<&mut [u8], BuildError> {
    let start = room.len().checked_sub(needed).ok_or(BuildError::NoRoom { needed })?;
    Ok(&mut room[start..])
}

#[inline]
pub(crate) fn write_link(header: &mut [u8], link: &Link, ether_type: EtherType) -> Result<usize, BuildError> {
    Ethernet { dst: link.dst, src: link.src, vlan: link.vlan, inner_vlan: None, ether_type }.write(header)
}

#[inline]
fn finish_udp(
    header: &mut [u8],
    how: TxChecksum,
    pseudo: checksum::Sum,
    (src_port, dst_port): (u16, u16),
    payload: &[u8],
) -> Result<usize, BuildError> {
    let len = UDP_HEADER_LEN + payload.len();
    let checksum = match how {
        // RFC 768: a computed zero is sent as all ones, since zero means "none".
        TxChecksum::Full => {
            match pseudo.add_u16(src_port).add_u16(dst_port).add_u16(len as u16).add_bytes(payload).checksum()
            {
                0 => 0xffff,
                sum => sum,
            }
        }
        TxChecksum::Offloaded => pseudo.fold(),
    };
    Udp { src_port, dst_port, checksum, payload: UDP_HEADER_LEN..len }.write(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(vlan: Option<VlanTag>) -> UdpHeaders {
        let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan };
        UdpHeaders { ecn: 0b10, ..UdpHeaders::new(link) }
    }

    fn frame(headers: &UdpHeaders, src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 128];
        let room = 128;
        frame.extend_from_slice(payload);
        let (front, behind) = frame.split_at_mut(room);
        let len = write_udp(front, headers, src.parse().unwrap(), dst.parse().unwrap(), behind).unwrap();
        frame.split_off(room - len)
    }

    const V4: (&str, &str) = ("10.1.0.1:1111", "10.1.0.2:443");
    const V6: (&str, &str) = ("[fd00::1]:1111", "[fd00::2]:443");

    #[test]
    fn what_is_written_reads_back() {
        for (src, dst) in [V4, V6] {
            for vlan in [None, Some(VlanTag::new(12))] {
                for len in [0, 1, 2, 1200, 1399, 9000] {
                    let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
                    let headers = headers(vlan);
                    let frame = frame(&headers, src, dst, &payload);
                    let packet = parse_udp(&frame).unwrap();
                    assert_eq!((packet.src, packet.dst), (src.parse().unwrap(), dst.parse().unwrap()));
                    assert_eq!((packet.src_mac, packet.dst_mac), (headers.link.src, headers.link.dst));
                    assert_eq!((packet.vlan, packet.ecn), (vlan, 0b10));
                    assert_eq!(&frame[packet.payload.clone()], payload);
                    assert_eq!(verify_udp_checksum(&frame, &packet), Ok(()));
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_caught() {
        for (src, dst) in [V4, V6] {
            let good = frame(&headers(None), src, dst, b"some payload");
            for bit in ETHERNET_HEADER_LEN * 8..good.len() * 8 {
                let mut frame = good.clone();
                frame[bit / 8] ^= 1 << (bit % 8);
                let verdict = parse_udp(&frame).and_then(|packet| verify_udp_checksum(&frame, &packet));
                // Over IPv6 nothing covers traffic class, flow label and hop limit, and they steer nothing.
                let uncovered = dst == V6.1 && matches!(bit / 8 - ETHERNET_HEADER_LEN, 0..4 | 7);
                assert_eq!(
                    verdict.is_err(),
                    !uncovered || bit / 8 == 14 && bit % 8 >= 4,
                    "bit {bit} to {dst}"
                );
            }
        }
    }

    #[test]
    fn the_short_way_takes_plain_frames_and_says_the_same() {
        for (src, dst) in [V4, V6] {
            let plain = frame(&headers(None), src, dst, b"plain");
            assert_eq!(udp_fast::parse(&plain), parse_udp_in_full(&plain).ok());
            assert!(udp_fast::parse(&plain).is_some());
            for bit in 0..plain.len() * 8 {
                let mut frame = plain.clone();
                frame[bit / 8] ^= 1 << (bit % 8);
                if let Some(packet) = udp_fast::parse(&frame) {
                    assert_eq!(parse_udp_in_full(&frame), Ok(packet), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn padding_is_ignored_and_truncation_named() {
        let good = frame(&headers(None), V4.0, V4.1, b"x");
        let mut padded = good.clone();
        padded.resize(60, 0xaa);
        assert_eq!(parse_udp(&padded), parse_udp(&good));
        for len in 0..good.len() {
            let expected = if len < 14 { ParseError::FrameTruncated } else { ParseError::IpTruncated };
            assert_eq!(parse_udp(&good[..len]), Err(expected));
        }
    }

    #[test]
    fn unfinished_and_missing_checksums_have_their_names() {
        for (src, dst) in [V4, V6] {
            let offloaded = UdpHeaders { checksum: TxChecksum::Offloaded, ..headers(None) };
            let mut frame = frame(&offloaded, src, dst, b"left to a device");
            let packet = parse_udp(&frame).unwrap();
            assert_eq!(verify_udp_checksum(&frame, &packet), Err(ParseError::UdpChecksumUnfinished));
            let field = packet.payload.start - 2..packet.payload.start;
            frame[field].fill(0);
            let packet = parse_udp(&frame).unwrap();
            assert_eq!(packet.checksum, UdpChecksum::Absent);
            let expected = if dst == V4.1 { Ok(()) } else { Err(ParseError::UdpChecksumOmitted) };
            assert_eq!(verify_udp_checksum(&frame, &packet), expected);
        }
    }

    #[test]
    fn forbidden_sources_other_protocols_and_families_have_their_names() {
        for src in ["0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1"] {
            let frame = frame(&headers(None), src, V4.1, b"");
            assert_eq!(parse_udp(&frame), Err(ParseError::IpSourceForbidden), "{src}");
        }
        for src in ["[::]:1", "[::1]:1", "[ff02::1]:1"] {
            let frame = frame(&headers(None), src, V6.1, b"");
            assert_eq!(parse_udp(&frame), Err(ParseError::IpSourceForbidden), "{src}");
        }
        let mut arp = frame(&headers(None), V4.0, V4.1, b"");
        arp[13] = 6;
        assert_eq!(parse_udp(&arp), Err(ParseError::EtherTypeUnsupported));
        let mut tcp = frame(&headers(None), V6.0, V6.1, b"");
        tcp[20] = 6;
        assert_eq!(parse_udp(&tcp), Err(ParseError::IpProtocolUnsupported));
        let error =
            write_udp(&mut [0; 99], &headers(None), V4.0.parse().unwrap(), V6.1.parse().unwrap(), &[]);
        assert_eq!(error, Err(BuildError::FamilyMismatched));
    }

    #[test]
    fn too_little_room_and_too_much_payload_are_refused() {
        let (src, dst) = (V4.0.parse().unwrap(), V4.1.parse().unwrap());
        let short = write_udp(&mut [0; 41], &headers(None), src, dst, &[]);
        assert_eq!(short, Err(BuildError::NoRoom { needed: 42 }));
        let long = write_udp(&mut [0; 42], &headers(None), src, dst, &[0; 65_508]);
        assert_eq!(long, Err(BuildError::TooLong));
    }
}
