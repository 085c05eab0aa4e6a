//! Ethernet, IP, UDP and TCP headers, checksums, and the reference rule matcher.
//!
//! Every parser here is total: any bytes end in a value or in a [`ParseError`] that names its drop counter,
//! never in a panic. Nothing allocates and nothing copies payload; results hold offsets into the frame they
//! came from. The names of the layers are the field's: a *frame* starts at the Ethernet header, a *packet* at
//! the IP header, a *datagram* is one UDP payload.

mod arp;
pub mod checksum;
mod error;
mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
pub mod neighbor;
pub mod rules;
pub mod tcp;
mod tcp_packet;
mod udp;
mod udp_fast;
mod udp_packet;

pub use arp::{ARP_LEN, Arp, ArpOperation};
pub use error::{BuildError, ParseError};
pub use ethernet::{ETHERNET_HEADER_LEN, EtherType, Ethernet, MacAddr, VLAN_TAG_LEN, VlanTag};
pub use icmp::{ICMP_HEADER_LEN, Icmp, IcmpMeaning, IcmpVersion};
pub use ipv4::{IPV4_HEADER_LEN, Ipv4};
pub use ipv6::{IPV6_HEADER_LEN, Ipv6};
pub use neighbor::Neighbor;
pub use tcp::{TCP_HEADER_LEN, Tcp, verify_tcp_checksum};
pub use tcp_packet::{TCP_EXTRA_LEN, TcpPacket, parse_tcp, tcp_headers_len, verify_tcp_packet, write_tcp};
pub use udp::{UDP_HEADER_LEN, Udp};
pub use udp_packet::{
    Link, TxChecksum, UDP_V4_HEADERS_LEN, UDP_V6_HEADERS_LEN, UdpChecksum, UdpHeaders, UdpPacket, parse_udp,
    verify_udp_checksum, write_udp, write_udp_v4, write_udp_v6,
};

/// Numbers of the IP "protocol" (v4) and "next header" (v6) fields, as IANA assigns them.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200 §4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header (RFC 8200 §4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 §4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200 §4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol (RFC 7401).
    pub const HOST_IDENTITY: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}
