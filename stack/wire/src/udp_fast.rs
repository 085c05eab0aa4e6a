//! The short way through [`crate::parse_udp`] for what nearly all frames are: no VLAN tag, no IPv4 options, no
//! IPv6 extension headers, nothing wrong. Everything else is left to the long way, which knows the names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    ETHERNET_HEADER_LEN, IPV4_HEADER_LEN, IPV6_HEADER_LEN, MacAddr, UDP_HEADER_LEN, UDP_V4_HEADERS_LEN,
    UDP_V6_HEADERS_LEN, UdpChecksum, UdpPacket, ipv4, ipv6, protocol,
};

const L3: usize = ETHERNET_HEADER_LEN;

/// The packet, or `None`: ask the long way.
#[inline]
pub(crate) fn parse(frame: &[u8]) -> Option<UdpPacket> {
    match frame.get(12..15)? {
        [0x08, 0x00, 0x45] => parse_v4(frame),
        [0x86, 0xdd, 0x60..=0x6f] => parse_v6(frame),
        _ => None,
    }
}

#[inline]
fn parse_v4(frame: &[u8]) -> Option<UdpPacket> {
    let headers = frame.first_chunk::<UDP_V4_HEADERS_LEN>()?;
    let total_len = usize::from(half(headers, L3 + 2));
    let fragment = half(headers, L3 + 6) & 0x3fff;
    let udp_len = usize::from(half(headers, L3 + IPV4_HEADER_LEN + 4));
    let src = Ipv4Addr::from(part::<4>(headers, L3 + 12));
    let dst = Ipv4Addr::from(part::<4>(headers, L3 + 16));
    let word = |at: usize| u64::from(u32::from_ne_bytes(part(headers, L3 + at)));
    let sum = word(0) + word(4) + word(8) + word(12) + word(16);
    // All ones, folded: the sum is a multiple of 0xffff, and not zero since the version is in it.
    let lawful = (sum % 0xffff == 0)
        & (fragment == 0)
        & (headers[L3 + 9] == protocol::UDP)
        & (total_len <= frame.len() - L3)
        & (udp_len >= UDP_HEADER_LEN)
        & (IPV4_HEADER_LEN + udp_len <= total_len);
    (lawful && ipv4::is_lawful_source(src)).then(|| {
        packet(headers, headers[L3 + 1], IpAddr::V4(src), IpAddr::V4(dst), L3 + IPV4_HEADER_LEN, udp_len)
    })
}

#[inline]
fn parse_v6(frame: &[u8]) -> Option<UdpPacket> {
    let headers = frame.first_chunk::<UDP_V6_HEADERS_LEN>()?;
    let ip_len = usize::from(half(headers, L3 + 4));
    let udp_len = usize::from(half(headers, L3 + IPV6_HEADER_LEN + 4));
    let src = Ipv6Addr::from(part::<16>(headers, L3 + 8));
    let dst = Ipv6Addr::from(part::<16>(headers, L3 + 24));
    let lawful = (headers[L3 + 6] == protocol::UDP)
        & (IPV6_HEADER_LEN + ip_len <= frame.len() - L3)
        & (udp_len >= UDP_HEADER_LEN)
        & (udp_len <= ip_len);
    let traffic_class = (half(headers, L3) >> 4) as u8;
    (lawful && ipv6::is_lawful_source(src)).then(|| {
        packet(headers, traffic_class, IpAddr::V6(src), IpAddr::V6(dst), L3 + IPV6_HEADER_LEN, udp_len)
    })
}

#[inline]
fn packet(
    headers: &[u8],
    traffic_class: u8,
    src: IpAddr,
    dst: IpAddr,
    udp: usize,
    udp_len: usize,
) -> UdpPacket {
    UdpPacket {
        dst_mac: MacAddr(part(headers, 0)),
        src_mac: MacAddr(part(headers, 6)),
        vlan: None,
        src: SocketAddr::new(src, half(headers, udp)),
        dst: SocketAddr::new(dst, half(headers, udp + 2)),
        ecn: traffic_class & 0b11,
        payload: udp + UDP_HEADER_LEN..udp + udp_len,
        checksum: UdpChecksum::of(half(headers, udp + 6)),
    }
}

/// `N` bytes of the headers. The callers' offsets are constants within them: the zeros are never seen, and this
/// compiles to one load.
#[inline]
fn part<const N: usize>(headers: &[u8], at: usize) -> [u8; N] {
    headers.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

#[inline]
fn half(headers: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(part(headers, at))
}
