//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the common header, checksums, and the messages a sender of UDP meets.

use std::{net::Ipv6Addr, ops::Range};

use crate::{BuildError, ParseError, checksum, protocol};

/// Bytes of the header all messages share, with the four that depend on the type.
pub const ICMP_HEADER_LEN: usize = 8;

/// Which of the two protocols, and for ICMPv6 the addresses its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpVersion {
    /// ICMP for IPv4.
    V4,
    /// ICMP for IPv6.
    V6 {
        /// The packet's source.
        src: Ipv6Addr,
        /// The packet's destination.
        dst: Ipv6Addr,
    },
}

/// A message, and where its body lies in the IP payload it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes after the checksum; their meaning depends on the type.
    pub word: u32,
    /// What follows: an echo's data, or the start of the packet that an error is about.
    pub body: Range<usize>,
}

/// What a message says, as far as UDP cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpMeaning {
    /// Someone tests whether we live.
    EchoRequest,
    /// An answer to such a test.
    EchoReply,
    /// The packet in the body did not arrive, for a reason other than its size.
    Unreachable,
    /// The packet in the body was larger than this hop takes. Anyone can forge this: RFC 9000 §14.2.1 says
    /// what to verify before believing it.
    TooBig {
        /// Bytes of the largest IP packet that fits; zero where an old router does not tell.
        mtu: u32,
    },
    /// Anything else.
    Other,
}

impl Icmp {
    /// Reads and verifies a message, the whole payload of an IP packet.
    ///
    /// # Errors
    /// [`ParseError::IcmpTruncated`] or [`ParseError::IcmpChecksumMismatched`].
    pub fn parse(message: &[u8], version: IcmpVersion) -> Result<Self, ParseError> {
        let header = message.first_chunk::<ICMP_HEADER_LEN>().ok_or(ParseError::IcmpTruncated)?;
        if !start_sum(version, message.len()).add_bytes(message).is_valid() {
            return Err(ParseError::IcmpChecksumMismatched);
        }
        Ok(Self {
            kind: header[0],
            code: header[1],
            word: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            body: ICMP_HEADER_LEN..message.len(),
        })
    }

    /// What the message says.
    pub fn meaning(&self, version: IcmpVersion) -> IcmpMeaning {
        match (version, self.kind, self.code) {
            (IcmpVersion::V4, 8, _) | (IcmpVersion::V6 { .. }, 128, _) => IcmpMeaning::EchoRequest,
            (IcmpVersion::V4, 0, _) | (IcmpVersion::V6 { .. }, 129, _) => IcmpMeaning::EchoReply,
            // RFC 1191 §4: "fragmentation needed and DF set" tells the MTU in the low half of the word.
            (IcmpVersion::V4, 3, 4) => IcmpMeaning::TooBig { mtu: self.word & 0xffff },
            (IcmpVersion::V6 { .. }, 2, _) => IcmpMeaning::TooBig { mtu: self.word },
            (IcmpVersion::V4, 3, _) | (IcmpVersion::V6 { .. }, 1, _) => IcmpMeaning::Unreachable,
            _ => IcmpMeaning::Other,
        }
    }

    /// Writes the header at the start of `into`, in front of `body`, checksum included; returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`].
    pub fn write(&self, into: &mut [u8], body: &[u8], version: IcmpVersion) -> Result<usize, BuildError> {
        let header = into
            .first_chunk_mut::<ICMP_HEADER_LEN>()
            .ok_or(BuildError::NoRoom { needed: ICMP_HEADER_LEN })?;
        header[0] = self.kind;
        header[1] = self.code;
        header[2..4].fill(0);
        header[4..8].copy_from_slice(&self.word.to_be_bytes());
        let sum =
            start_sum(version, ICMP_HEADER_LEN + body.len()).add_bytes(header).add_bytes(body).checksum();
        header[2..4].copy_from_slice(&sum.to_be_bytes());
        Ok(ICMP_HEADER_LEN)
    }
}

fn start_sum(version: IcmpVersion, len: usize) -> checksum::Sum {
    match version {
        IcmpVersion::V4 => checksum::Sum::ZERO,
        IcmpVersion::V6 { src, dst } => checksum::pseudo_v6(src, dst, protocol::ICMPV6, len as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V6: IcmpVersion = IcmpVersion::V6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::UNSPECIFIED };

    #[test]
    fn round_trips_and_refuses() {
        for version in [IcmpVersion::V4, V6] {
            let icmp = Icmp { kind: 128, code: 2, word: 0x0102_0304, body: 8..13 };
            let mut message = vec![0; 8];
            icmp.write(&mut message, b"tests", version).unwrap();
            message.extend_from_slice(b"tests");
            assert_eq!(Icmp::parse(&message, version), Ok(icmp));
            assert_eq!(Icmp::parse(&message[..7], version), Err(ParseError::IcmpTruncated));
            message[9] ^= 1;
            assert_eq!(Icmp::parse(&message, version), Err(ParseError::IcmpChecksumMismatched));
        }
    }

    #[test]
    fn meanings() {
        let meaning = |version, kind, code| Icmp { kind, code, word: 1400, body: 8..8 }.meaning(version);
        assert_eq!(meaning(IcmpVersion::V4, 8, 0), IcmpMeaning::EchoRequest);
        assert_eq!(meaning(IcmpVersion::V4, 3, 4), IcmpMeaning::TooBig { mtu: 1400 });
        assert_eq!(meaning(IcmpVersion::V4, 3, 3), IcmpMeaning::Unreachable);
        assert_eq!(meaning(V6, 2, 0), IcmpMeaning::TooBig { mtu: 1400 });
        assert_eq!(meaning(V6, 129, 0), IcmpMeaning::EchoReply);
        assert_eq!(meaning(V6, 135, 0), IcmpMeaning::Other);
    }
}
