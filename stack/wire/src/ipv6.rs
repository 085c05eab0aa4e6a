//! IPv6 headers (RFC 8200) and the walk over extension headers.

use std::{net::Ipv6Addr, ops::Range};

use crate::{BuildError, ParseError, ipv4::DEFAULT_HOP_LIMIT, protocol};

/// Bytes of the fixed header.
pub const IPV6_HEADER_LEN: usize = 40;

/// Extension headers walked before giving up. RFC 8200 §4.1 lists each at most once, destination options
/// twice: six that could stand before UDP or TCP. More is an attempt to make us work.
const MAX_EXTENSION_HEADERS: usize = 6;

/// An IPv6 header with its extension headers, and where the payload lies in the packet it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// What the payload is, behind the extension headers; see [`crate::protocol`].
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The flow label.
    pub flow_label: u32,
    /// The hop limit.
    pub hop_limit: u8,
    /// Whether a fragment header says that this is one piece of a larger packet. The walk ends there: `payload`
    /// is what follows the fragment header.
    pub fragment: bool,
    /// The extension headers, counted from the start of the packet; empty mostly.
    pub extensions: Range<usize>,
    /// The payload, counted from the start of the packet; padding behind it is left out.
    pub payload: Range<usize>,
}

impl Ipv6 {
    /// Reads the header at the start of `packet` and walks its extension headers.
    ///
    /// # Errors
    /// [`ParseError::IpTruncated`], [`ParseError::IpVersionMismatched`], or
    /// [`ParseError::IpExtensionUnsupported`] for a header that is not walked here: authentication, mobility,
    /// a routing header with hops left, more than six.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let fixed = packet.first_chunk::<IPV6_HEADER_LEN>().ok_or(ParseError::IpTruncated)?;
        let word = u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
        if word >> 28 != 6 {
            return Err(ParseError::IpVersionMismatched);
        }
        let end = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if end > packet.len() {
            return Err(ParseError::IpTruncated);
        }
        let mut ipv6 = Self {
            src: address(fixed, 8),
            dst: address(fixed, 24),
            protocol: fixed[6],
            traffic_class: (word >> 20) as u8,
            flow_label: word & 0x000f_ffff,
            hop_limit: fixed[7],
            fragment: false,
            extensions: IPV6_HEADER_LEN..IPV6_HEADER_LEN,
            payload: IPV6_HEADER_LEN..end,
        };
        if is_extension(ipv6.protocol) {
            ipv6.walk(packet)?;
        }
        Ok(ipv6)
    }

    #[cold]
    fn walk(&mut self, packet: &[u8]) -> Result<(), ParseError> {
        for _ in 0..MAX_EXTENSION_HEADERS {
            let rest = &packet[self.payload.clone()];
            let header = rest.first_chunk::<8>().ok_or(ParseError::IpTruncated)?;
            let len = match self.protocol {
                protocol::HOP_BY_HOP if self.extensions.is_empty() => (usize::from(header[1]) + 1) * 8,
                protocol::DESTINATION_OPTIONS => (usize::from(header[1]) + 1) * 8,
                // RFC 8200 §4.4: with no segments left the header is of no more concern to us.
                protocol::ROUTING if header[3] == 0 => (usize::from(header[1]) + 1) * 8,
                protocol::FRAGMENT => {
                    // RFC 6946: offset zero and no more to come is a whole packet.
                    self.fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff9 != 0;
                    8
                }
                _ => return Err(ParseError::IpExtensionUnsupported),
            };
            if len > rest.len() {
                return Err(ParseError::IpTruncated);
            }
            self.protocol = header[0];
            self.payload.start += len;
            self.extensions.end = self.payload.start;
            if self.fragment || !is_extension(self.protocol) {
                return Ok(());
            }
        }
        Err(ParseError::IpExtensionUnsupported)
    }

    /// A header without extension headers for `payload_len` bytes.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, payload_len: usize) -> Self {
        Self {
            src,
            dst,
            protocol,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: DEFAULT_HOP_LIMIT,
            fragment: false,
            extensions: IPV6_HEADER_LEN..IPV6_HEADER_LEN,
            payload: IPV6_HEADER_LEN..IPV6_HEADER_LEN + payload_len,
        }
    }

    /// Writes the fixed header at the start of `into` and returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`] or [`BuildError::TooLong`].
    #[inline]
    pub fn write(&self, into: &mut [u8]) -> Result<usize, BuildError> {
        let header = into
            .first_chunk_mut::<IPV6_HEADER_LEN>()
            .ok_or(BuildError::NoRoom { needed: IPV6_HEADER_LEN })?;
        let len = u16::try_from(self.payload.len()).map_err(|_| BuildError::TooLong)?;
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        header[..4].copy_from_slice(&word.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        header[6] = self.protocol;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.src.octets());
        header[24..40].copy_from_slice(&self.dst.octets());
        Ok(IPV6_HEADER_LEN)
    }
}

/// Whether the number is that of an extension header, after which another next-header field follows. ESP is
/// not: what follows it is encrypted.
#[inline]
pub(crate) fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HOST_IDENTITY
            | protocol::SHIM6
    )
}

/// Whether a host may send from this address; the kernel drops the others too.
#[inline]
pub(crate) fn is_lawful_source(src: Ipv6Addr) -> bool {
    !src.is_multicast() && !src.is_unspecified() && !src.is_loopback()
}

#[inline]
fn address(header: &[u8; IPV6_HEADER_LEN], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const DST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    /// A packet whose payload is `chain` and then 16 bytes.
    fn packet(first: u8, chain: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; IPV6_HEADER_LEN];
        Ipv6::new(SRC, DST, first, chain.len() + 16).write(&mut bytes).unwrap();
        bytes.extend_from_slice(chain);
        bytes.extend_from_slice(&[0xee; 16]);
        bytes
    }

    #[test]
    fn round_trips() {
        let mut bytes = packet(17, &[]);
        bytes[..4].copy_from_slice(&[0x6a, 0xb1, 0x23, 0x45]);
        let header = Ipv6::parse(&bytes).unwrap();
        assert_eq!(
            (header.traffic_class, header.flow_label, header.payload.clone()),
            (0xab, 0x12345, 40..56)
        );
        let mut again = vec![0; IPV6_HEADER_LEN];
        header.write(&mut again).unwrap();
        assert_eq!(again, bytes[..40]);
    }

    #[test]
    fn extension_headers_are_walked() {
        let chain =
            [[60, 0, 0, 0, 0, 0, 0, 0], [43, 0, 0, 0, 0, 0, 0, 0], [17, 0, 4, 0, 0, 0, 0, 0]].concat();
        let header = Ipv6::parse(&packet(0, &chain)).unwrap();
        assert_eq!((header.protocol, header.extensions, header.payload), (17, 40..64, 64..80));
    }

    #[test]
    fn fragments_are_told_and_atomic_ones_are_whole() {
        let header = Ipv6::parse(&packet(44, &[17, 0, 0, 1, 0, 0, 0, 9])).unwrap();
        assert!(header.fragment && header.payload == (48..64));
        let header = Ipv6::parse(&packet(44, &[17, 0, 0, 0, 0, 0, 0, 9])).unwrap();
        assert!(!header.fragment && header.protocol == 17);
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(Ipv6::parse(&packet(17, &[])[..39]), Err(ParseError::IpTruncated));
        assert_eq!(Ipv6::parse(&packet(17, &[])[..55]), Err(ParseError::IpTruncated));
        assert_eq!(Ipv6::parse(&[0x45; 60]), Err(ParseError::IpVersionMismatched));
        let unsupported = Err(ParseError::IpExtensionUnsupported);
        assert_eq!(Ipv6::parse(&packet(43, &[17, 0, 0, 1, 0, 0, 0, 0])), unsupported);
        assert_eq!(Ipv6::parse(&packet(60, &[0; 8])), unsupported, "hop-by-hop options only come first");
        assert_eq!(Ipv6::parse(&packet(60, &[[60, 0, 0, 0, 0, 0, 0, 0]; 8].concat())), unsupported);
        assert_eq!(Ipv6::parse(&packet(60, &[17, 9, 0, 0, 0, 0, 0, 0])), Err(ParseError::IpTruncated));
    }
}
