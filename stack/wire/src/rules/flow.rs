//! What a rule can see of a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{EtherType, Ethernet, IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN, ipv6, protocol, tcp};

/// A whole, unfragmented IP packet without options, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<'a> {
    /// The VLAN id; 0 where there is none.
    pub vlan: u16,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The protocol number.
    pub protocol: u8,
    /// More, where the protocol is UDP or TCP.
    pub transport: Option<Transport<'a>>,
}

/// A whole UDP datagram or TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport<'a> {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SYN, FIN or RST of a TCP segment.
    pub control: bool,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Flow<'a> {
    /// Reads a frame; `None` for what always passes to the kernel.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let ethernet = Ethernet::parse(frame).ok()?;
        if ethernet.inner_vlan.is_some() {
            return None;
        }
        let packet = &frame[ethernet.header_len()..];
        let (src, dst, protocol, payload) = match ethernet.ether_type {
            EtherType::IPV4 => whole_v4(packet)?,
            EtherType::IPV6 => whole_v6(packet)?,
            _ => return None,
        };
        let transport = match protocol {
            protocol::UDP => Some(Transport::udp(payload)?),
            protocol::TCP => Some(Transport::tcp(payload)?),
            _ => None,
        };
        Some(Self { vlan: ethernet.vlan.map_or(0, |tag| tag.id()), src, dst, protocol, transport })
    }
}

type Network<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn whole_v4(packet: &[u8]) -> Option<Network<'_>> {
    let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let more_fragments_or_offset = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] != 0x45 || more_fragments_or_offset != 0 {
        return None;
    }
    let payload = packet.get(IPV4_HEADER_LEN..total_len)?;
    let address = |at: usize| IpAddr::V4(Ipv4Addr::from([0, 1, 2, 3].map(|i| header[at + i])));
    Some((address(12), address(16), header[9], payload))
}

fn whole_v6(packet: &[u8]) -> Option<Network<'_>> {
    let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
    if header[0] >> 4 != 6 || ipv6::is_extension(header[6]) {
        return None;
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = packet.get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + payload_len)?;
    let address = |at: usize| {
        let octets: [u8; 16] = std::array::from_fn(|i| header[at + i]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Some((address(8), address(24), header[6], payload))
}

impl<'a> Transport<'a> {
    fn udp(datagram: &'a [u8]) -> Option<Self> {
        let header = datagram.first_chunk::<UDP_HEADER_LEN>()?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        Some(Self {
            tcp: false,
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            control: false,
            payload: datagram.get(UDP_HEADER_LEN..len)?,
        })
    }

    fn tcp(segment: &'a [u8]) -> Option<Self> {
        let header = segment.first_chunk::<{ tcp::TCP_HEADER_LEN }>()?;
        let len = usize::from(header[12] >> 4) * 4;
        if len < tcp::TCP_HEADER_LEN {
            return None;
        }
        Some(Self {
            tcp: true,
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            control: header[13] & (tcp::FIN | tcp::SYN | tcp::RST) != 0,
            payload: segment.get(len..)?,
        })
    }
}
