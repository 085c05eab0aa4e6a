//! Why bytes are no packet, and why a packet can't be built.

/// Why a frame was not understood. Each cause is one drop counter, named by [`name`](ParseError::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ParseError {
    /// Shorter than an Ethernet header and its VLAN tags.
    FrameTruncated,
    /// More VLAN tags than the caller reads.
    VlanNested,
    /// Neither IPv4 nor IPv6.
    EtherTypeUnsupported,
    /// Shorter than the IP header, or than the length the IP header tells.
    IpTruncated,
    /// The version field contradicts the EtherType.
    IpVersionMismatched,
    /// An IPv4 header length under 20 bytes, or a total length under the header's.
    IpHeaderMalformed,
    /// The IPv4 header checksum is wrong.
    IpChecksumMismatched,
    /// A fragment: the kernel reassembles, we don't.
    IpFragmented,
    /// A source address no host may send from: unspecified, loopback, multicast, broadcast.
    IpSourceForbidden,
    /// An IPv6 extension header that is not read here, or one header too many.
    IpExtensionUnsupported,
    /// Another protocol than the one looked for.
    IpProtocolUnsupported,
    /// Fewer than eight bytes of UDP.
    UdpTruncated,
    /// A UDP length under eight, or beyond the IP payload.
    UdpLengthMalformed,
    /// The UDP checksum is wrong.
    UdpChecksumMismatched,
    /// The UDP checksum covers the pseudo-header only: a kernel sender on the same machine left the rest to
    /// a device that never saw it (`CHECKSUM_PARTIAL`; `ethtool -K PEER tx off` ends it).
    UdpChecksumUnfinished,
    /// No UDP checksum over IPv6, where it is mandatory (RFC 8200 §8.1).
    UdpChecksumOmitted,
    /// Fewer bytes than the TCP header tells.
    TcpTruncated,
    /// A TCP data offset under five words.
    TcpHeaderMalformed,
    /// The TCP checksum is wrong.
    TcpChecksumMismatched,
    /// Fewer bytes than an ICMP message has.
    IcmpTruncated,
    /// The ICMP checksum is wrong.
    IcmpChecksumMismatched,
    /// Fewer bytes than an ARP packet has.
    ArpTruncated,
    /// ARP for other than IPv4 over Ethernet, or another operation than request and reply.
    ArpUnsupported,
    /// Fewer bytes than a neighbour discovery message has.
    NeighborTruncated,
    /// A neighbour discovery message that RFC 4861 §7.1 says to discard.
    NeighborMalformed,
}

impl ParseError {
    /// Every cause, for counters and for the table of drops.
    pub const ALL: [Self; 25] = [
        Self::FrameTruncated,
        Self::VlanNested,
        Self::EtherTypeUnsupported,
        Self::IpTruncated,
        Self::IpVersionMismatched,
        Self::IpHeaderMalformed,
        Self::IpChecksumMismatched,
        Self::IpFragmented,
        Self::IpSourceForbidden,
        Self::IpExtensionUnsupported,
        Self::IpProtocolUnsupported,
        Self::UdpTruncated,
        Self::UdpLengthMalformed,
        Self::UdpChecksumMismatched,
        Self::UdpChecksumUnfinished,
        Self::UdpChecksumOmitted,
        Self::TcpTruncated,
        Self::TcpHeaderMalformed,
        Self::TcpChecksumMismatched,
        Self::IcmpTruncated,
        Self::IcmpChecksumMismatched,
        Self::ArpTruncated,
        Self::ArpUnsupported,
        Self::NeighborTruncated,
        Self::NeighborMalformed,
    ];

    /// The position in [`ALL`](Self::ALL), to index an array of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name of the drop counter. Stable: dashboards and tests know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrameTruncated => "frame_truncated_dropped",
            Self::VlanNested => "vlan_nested_dropped",
            Self::EtherTypeUnsupported => "ethertype_unsupported_dropped",
            Self::IpTruncated => "ip_truncated_dropped",
            Self::IpVersionMismatched => "ip_version_mismatched_dropped",
            Self::IpHeaderMalformed => "ip_header_malformed_dropped",
            Self::IpChecksumMismatched => "ip_checksum_mismatched_dropped",
            Self::IpFragmented => "ip_fragmented_dropped",
            Self::IpSourceForbidden => "ip_source_forbidden_dropped",
            Self::IpExtensionUnsupported => "ip_extension_unsupported_dropped",
            Self::IpProtocolUnsupported => "ip_protocol_unsupported_dropped",
            Self::UdpTruncated => "udp_truncated_dropped",
            Self::UdpLengthMalformed => "udp_length_malformed_dropped",
            Self::UdpChecksumMismatched => "udp_checksum_mismatched_dropped",
            Self::UdpChecksumUnfinished => "udp_checksum_unfinished_dropped",
            Self::UdpChecksumOmitted => "udp_checksum_omitted_dropped",
            Self::TcpTruncated => "tcp_truncated_dropped",
            Self::TcpHeaderMalformed => "tcp_header_malformed_dropped",
            Self::TcpChecksumMismatched => "tcp_checksum_mismatched_dropped",
            Self::IcmpTruncated => "icmp_truncated_dropped",
            Self::IcmpChecksumMismatched => "icmp_checksum_mismatched_dropped",
            Self::ArpTruncated => "arp_truncated_dropped",
            Self::ArpUnsupported => "arp_unsupported_dropped",
            Self::NeighborTruncated => "neighbor_truncated_dropped",
            Self::NeighborMalformed => "neighbor_malformed_dropped",
        }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for ParseError {}

/// Why headers can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The room in front of the payload is shorter than the headers.
    NoRoom {
        /// Bytes of headers.
        needed: usize,
    },
    /// The payload does not fit the 16-bit length fields.
    TooLong,
    /// Source and destination are of different address families.
    FamilyMismatched,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRoom { needed } => write!(f, "the headers need {needed} bytes in front of the payload"),
            Self::TooLong => f.write_str("the payload is longer than a 16-bit length field can tell"),
            Self::FamilyMismatched => f.write_str("source and destination are of different address families"),
        }
    }
}

impl std::error::Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::ParseError;

    #[test]
    fn names_are_unique_and_index_matches() {
        let mut names = std::collections::BTreeSet::new();
        for (at, error) in ParseError::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), at);
            assert!(error.name().ends_with("_dropped"));
            assert!(names.insert(error.name()), "{error} twice");
        }
    }
}
