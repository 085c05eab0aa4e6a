//! What a rule looks for.

use std::net::SocketAddr;

use super::{CidPattern, Flow, IpPrefix, PortSet};
use crate::protocol;

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Every IP packet that is understood; see the [module](super) for what is not.
    All,
    /// UDP.
    Udp,
    /// UDP to this port.
    UdpDstPort(u16),
    /// UDP to one of these ports.
    UdpPortSet(PortSet),
    /// UDP of exactly these addresses and ports, both of one family.
    UdpTuple {
        /// Where it comes from.
        src: SocketAddr,
        /// Where it goes to.
        dst: SocketAddr,
    },
    /// IP to an address of this prefix.
    IpDst(IpPrefix),
    /// IP of this protocol (v4) or next header (v6).
    IpNextHeader(u8),
    /// TCP to this port.
    TcpDstPort(u16),
    /// TCP to one of these ports.
    TcpPortSet(PortSet),
    /// TCP segments with SYN, FIN or RST to this port.
    TcpControl(u16),
    /// QUIC in UDP, by a part of a connection ID.
    QuicFlow(CidPattern),
    /// QUIC in the payload of TCP segments, by a part of a connection ID.
    TcpQuicFlow(CidPattern),
}

impl Match {
    /// Whether a packet meets the condition.
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        let udp = flow.transport.filter(|transport| !transport.tcp);
        let tcp = flow.transport.filter(|transport| transport.tcp);
        match self {
            Self::All => true,
            Self::Udp => flow.protocol == protocol::UDP,
            Self::UdpDstPort(port) => udp.is_some_and(|udp| udp.dst_port == *port),
            Self::UdpPortSet(ports) => udp.is_some_and(|udp| ports.contains(udp.dst_port)),
            Self::UdpTuple { src, dst } => udp.is_some_and(|udp| {
                (flow.src, udp.src_port) == (src.ip(), src.port())
                    && (flow.dst, udp.dst_port) == (dst.ip(), dst.port())
            }),
            Self::IpDst(prefix) => prefix.contains(flow.dst),
            Self::IpNextHeader(number) => flow.protocol == *number,
            Self::TcpDstPort(port) => tcp.is_some_and(|tcp| tcp.dst_port == *port),
            Self::TcpPortSet(ports) => tcp.is_some_and(|tcp| ports.contains(tcp.dst_port)),
            Self::TcpControl(port) => tcp.is_some_and(|tcp| tcp.control && tcp.dst_port == *port),
            Self::QuicFlow(pattern) => {
                udp.is_some_and(|udp| udp.dst_port == pattern.port() && pattern.matches(udp.payload))
            }
            Self::TcpQuicFlow(pattern) => {
                tcp.is_some_and(|tcp| tcp.dst_port == pattern.port() && pattern.matches(tcp.payload))
            }
        }
    }
}
