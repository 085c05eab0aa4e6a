//! IPv4 headers (RFC 791).

use std::{net::Ipv4Addr, ops::Range};

use crate::{BuildError, ParseError, checksum};

/// Bytes of a header without options.
pub const IPV4_HEADER_LEN: usize = 20;

/// The hop limit of packets we send, as IANA recommends and Linux does.
pub(crate) const DEFAULT_HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header, and where its parts lie in the packet it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// What the payload is; see [`crate::protocol`].
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live.
    pub hop_limit: u8,
    /// Identification, of use to fragments only (RFC 6864).
    pub identification: u16,
    /// Whether routers must not fragment it.
    pub dont_fragment: bool,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// Where this fragment's payload belongs, in bytes.
    pub fragment_offset: u16,
    /// The options, counted from the start of the packet; empty mostly.
    pub options: Range<usize>,
    /// The payload, counted from the start of the packet; padding behind it is left out.
    pub payload: Range<usize>,
}

impl Ipv4 {
    /// Reads and checks the header at the start of `packet`: version, lengths, checksum. What follows the
    /// total length is Ethernet padding and ignored.
    ///
    /// # Errors
    /// [`ParseError::IpTruncated`], [`ParseError::IpVersionMismatched`], [`ParseError::IpHeaderMalformed`] or
    /// [`ParseError::IpChecksumMismatched`].
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let fixed = packet.first_chunk::<IPV4_HEADER_LEN>().ok_or(ParseError::IpTruncated)?;
        if fixed[0] >> 4 != 4 {
            return Err(ParseError::IpVersionMismatched);
        }
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header_len < IPV4_HEADER_LEN || total_len < header_len {
            return Err(ParseError::IpHeaderMalformed);
        }
        if total_len > packet.len() {
            return Err(ParseError::IpTruncated);
        }
        if !checksum::Sum::ZERO.add_bytes(&packet[..header_len]).is_valid() {
            return Err(ParseError::IpChecksumMismatched);
        }
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        Ok(Self {
            src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            protocol: fixed[9],
            traffic_class: fixed[1],
            hop_limit: fixed[8],
            identification: u16::from_be_bytes([fixed[4], fixed[5]]),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: (fragment & OFFSET_MASK) * 8,
            options: IPV4_HEADER_LEN..header_len,
            payload: header_len..total_len,
        })
    }

    /// A header without options for an unfragmented packet of `payload_len` bytes that must stay so. The
    /// identification is zero: RFC 6864 §4.1 gives it no meaning here.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: usize) -> Self {
        Self {
            src,
            dst,
            protocol,
            traffic_class: 0,
            hop_limit: DEFAULT_HOP_LIMIT,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options: IPV4_HEADER_LEN..IPV4_HEADER_LEN,
            payload: IPV4_HEADER_LEN..IPV4_HEADER_LEN + payload_len,
        }
    }

    /// Whether the packet is one piece of a larger one.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes the header without options at the start of `into`, checksum included, and returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`] or [`BuildError::TooLong`].
    #[inline]
    pub fn write(&self, into: &mut [u8]) -> Result<usize, BuildError> {
        let header = into
            .first_chunk_mut::<IPV4_HEADER_LEN>()
            .ok_or(BuildError::NoRoom { needed: IPV4_HEADER_LEN })?;
        let total_len =
            u16::try_from(IPV4_HEADER_LEN + self.payload.len()).map_err(|_| BuildError::TooLong)?;
        let fragment = (self.fragment_offset / 8)
            | if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        header[0] = 0x45;
        header[1] = self.traffic_class;
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[8] = self.hop_limit;
        header[9] = self.protocol;
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(IPV4_HEADER_LEN)
    }
}

/// Whether a host may send from this address. The kernel drops the others as martians; answering them would
/// send QUIC to a broadcast or back to ourselves.
#[inline]
pub(crate) fn is_lawful_source(src: Ipv4Addr) -> bool {
    !src.is_unspecified() && !src.is_loopback() && !src.is_multicast() && !src.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        Ipv4::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), 17, 30).write(&mut bytes).unwrap();
        bytes
    }

    fn reseal(bytes: &mut [u8], header_len: usize) {
        bytes[10..12].fill(0);
        let sum = checksum::of(&bytes[..header_len]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn round_trips() {
        let header = Ipv4::parse(&packet()).unwrap();
        assert_eq!(header.payload, 20..50);
        assert!(header.dont_fragment && !header.is_fragment());
        let mut again = vec![0; 64];
        header.write(&mut again).unwrap();
        assert_eq!(again, packet());
    }

    #[test]
    fn options_are_told_and_skipped() {
        let mut bytes = packet();
        bytes[0] = 0x47;
        reseal(&mut bytes, 28);
        let header = Ipv4::parse(&bytes).unwrap();
        assert_eq!((header.options, header.payload), (20..28, 28..50));
    }

    #[test]
    fn each_fault_has_its_name() {
        let fault = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = packet();
            change(&mut bytes);
            Ipv4::parse(&bytes).unwrap_err()
        };
        assert_eq!(fault(&|b| b.truncate(19)), ParseError::IpTruncated);
        assert_eq!(fault(&|b| b.truncate(49)), ParseError::IpTruncated);
        assert_eq!(fault(&|b| b[0] = 0x65), ParseError::IpVersionMismatched);
        assert_eq!(fault(&|b| b[0] = 0x44), ParseError::IpHeaderMalformed);
        assert_eq!(fault(&|b| b[2..4].fill(0)), ParseError::IpHeaderMalformed);
        assert_eq!(fault(&|b| b[8] ^= 1), ParseError::IpChecksumMismatched);
    }

    #[test]
    fn fragments_are_told() {
        for (bytes6, bytes7) in [(0x20, 0), (0, 1), (0x1f, 0xff)] {
            let mut bytes = packet();
            (bytes[6], bytes[7]) = (bytes6, bytes7);
            reseal(&mut bytes, 20);
            assert!(Ipv4::parse(&bytes).unwrap().is_fragment());
        }
    }
}
