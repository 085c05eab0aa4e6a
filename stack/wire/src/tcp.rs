//! TCP headers (RFC 9293 §3.1).

use std::{net::IpAddr, ops::Range};

use crate::{BuildError, ParseError, checksum, protocol};

/// Bytes of a header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// The sender is done.
pub const FIN: u8 = 0x01;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Aborts one.
pub const RST: u8 = 0x04;
/// Asks to deliver at once.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

/// A TCP header, and where its parts lie in the IP payload it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// [`FIN`], [`SYN`], [`RST`], [`PSH`], [`ACK`] and the others.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// The checksum as it stands.
    pub checksum: u16,
    /// The options, counted from the start of the TCP header.
    pub options: Range<usize>,
    /// The payload, counted from the start of the TCP header.
    pub payload: Range<usize>,
}

impl Tcp {
    /// Reads the header at the start of an IP payload. [`verify_tcp_checksum`] checks the checksum.
    ///
    /// # Errors
    /// [`ParseError::TcpTruncated`] or [`ParseError::TcpHeaderMalformed`].
    #[inline]
    pub fn parse(ip_payload: &[u8]) -> Result<Self, ParseError> {
        let header = ip_payload.first_chunk::<TCP_HEADER_LEN>().ok_or(ParseError::TcpTruncated)?;
        let len = usize::from(header[12] >> 4) * 4;
        if len < TCP_HEADER_LEN {
            return Err(ParseError::TcpHeaderMalformed);
        }
        if len > ip_payload.len() {
            return Err(ParseError::TcpTruncated);
        }
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Ok(Self {
            src_port: half(0),
            dst_port: half(2),
            sequence: word(4),
            acknowledgement: word(8),
            flags: header[13],
            window: half(14),
            checksum: half(16),
            options: TCP_HEADER_LEN..len,
            payload: len..ip_payload.len(),
        })
    }

    /// Writes a segment's header at the start of `into`, options and checksum included, and returns its length.
    /// The options are padded with zeros to a multiple of four. The lengths in `self` and its checksum don't
    /// count.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`], [`BuildError::TooLong`] or [`BuildError::FamilyMismatched`].
    pub fn write(
        &self,
        into: &mut [u8],
        options: &[u8],
        (src, dst): (IpAddr, IpAddr),
        payload: &[u8],
    ) -> Result<usize, BuildError> {
        let needed = TCP_HEADER_LEN + options.len().next_multiple_of(4);
        // The data offset has four bits, counting words.
        if needed > 60 {
            return Err(BuildError::TooLong);
        }
        let header = into.get_mut(..needed).ok_or(BuildError::NoRoom { needed })?;
        header[..2].copy_from_slice(&self.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
        header[12] = ((needed / 4) << 4) as u8;
        header[13] = self.flags;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[16..20].fill(0);
        let (front, padding) = header[TCP_HEADER_LEN..].split_at_mut(options.len());
        front.copy_from_slice(options);
        padding.fill(0);
        let pseudo = pseudo_header(src, dst, needed + payload.len())?;
        let sum = pseudo.add_bytes(header).add_bytes(payload).checksum();
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        Ok(needed)
    }
}

/// Verifies the checksum of a segment, header and payload, between two addresses.
///
/// # Errors
/// [`ParseError::TcpChecksumMismatched`].
pub fn verify_tcp_checksum(segment: &[u8], src: IpAddr, dst: IpAddr) -> Result<(), ParseError> {
    match pseudo_header(src, dst, segment.len()) {
        Ok(pseudo) if pseudo.add_bytes(segment).is_valid() => Ok(()),
        _ => Err(ParseError::TcpChecksumMismatched),
    }
}

fn pseudo_header(src: IpAddr, dst: IpAddr, len: usize) -> Result<checksum::Sum, BuildError> {
    let len = u16::try_from(len).map_err(|_| BuildError::TooLong)?;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Ok(checksum::pseudo_v4(src, dst, protocol::TCP, len)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Ok(checksum::pseudo_v6(src, dst, protocol::TCP, len.into())),
        _ => Err(BuildError::FamilyMismatched),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_with_and_without_options() {
        let ends: (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for (options, expected_len) in [(&[][..], 20), (&[2, 4, 5, 0xb4, 1][..], 28)] {
            let tcp = Tcp {
                src_port: 1,
                dst_port: 443,
                sequence: 0xdead_beef,
                acknowledgement: 7,
                flags: SYN | ACK,
                window: 65_535,
                checksum: 0,
                options: 20..expected_len,
                payload: expected_len..expected_len + 5,
            };
            let mut segment = vec![0xff; expected_len];
            assert_eq!(tcp.write(&mut segment, options, ends, b"hello"), Ok(expected_len));
            segment.extend_from_slice(b"hello");
            let read = Tcp::parse(&segment).unwrap();
            assert_eq!(Tcp { checksum: 0, ..read.clone() }, tcp);
            assert_eq!(&segment[read.options][..options.len()], options);
            assert_eq!(verify_tcp_checksum(&segment, ends.0, ends.1), Ok(()));
            segment[5] ^= 1;
            let wrong = Err(ParseError::TcpChecksumMismatched);
            assert_eq!(verify_tcp_checksum(&segment, ends.0, ends.1), wrong);
            assert_eq!(verify_tcp_checksum(&segment, ends.0, "10.0.0.1".parse().unwrap()), wrong);
            for short in 0..expected_len {
                assert_eq!(Tcp::parse(&segment[..short]), Err(ParseError::TcpTruncated));
            }
            segment[12] = 0x4f;
            assert_eq!(Tcp::parse(&segment), Err(ParseError::TcpHeaderMalformed));
            assert_eq!(tcp.write(&mut [0; 80], &[0; 41], ends, b""), Err(BuildError::TooLong));
        }
    }
}
