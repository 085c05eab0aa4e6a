//! UDP headers (RFC 768).

use std::ops::Range;

use crate::{BuildError, ParseError};

/// Bytes of the header.
pub const UDP_HEADER_LEN: usize = 8;

/// A UDP header, and where its payload lies in the IP payload it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The checksum as it stands; zero means none.
    pub checksum: u16,
    /// The payload, counted from the start of the UDP header. May end before the IP payload does, as the
    /// kernel allows.
    pub payload: Range<usize>,
}

impl Udp {
    /// Reads the header at the start of an IP payload.
    ///
    /// # Errors
    /// [`ParseError::UdpTruncated`] or [`ParseError::UdpLengthMalformed`].
    #[inline]
    pub fn parse(ip_payload: &[u8]) -> Result<Self, ParseError> {
        let header = ip_payload.first_chunk::<UDP_HEADER_LEN>().ok_or(ParseError::UdpTruncated)?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if len < UDP_HEADER_LEN || len > ip_payload.len() {
            return Err(ParseError::UdpLengthMalformed);
        }
        Ok(Self {
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            checksum: u16::from_be_bytes([header[6], header[7]]),
            payload: UDP_HEADER_LEN..len,
        })
    }

    /// Writes the header at the start of `into`, with `checksum` as it is, and returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`] or [`BuildError::TooLong`].
    #[inline]
    pub fn write(&self, into: &mut [u8]) -> Result<usize, BuildError> {
        let header =
            into.first_chunk_mut::<UDP_HEADER_LEN>().ok_or(BuildError::NoRoom { needed: UDP_HEADER_LEN })?;
        let len = u16::try_from(UDP_HEADER_LEN + self.payload.len()).map_err(|_| BuildError::TooLong)?;
        header[..2].copy_from_slice(&self.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        header[6..8].copy_from_slice(&self.checksum.to_be_bytes());
        Ok(UDP_HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        let udp = Udp { src_port: 1, dst_port: 42, checksum: 0xabcd, payload: 8..20 };
        let mut bytes = [0; 24];
        udp.write(&mut bytes).unwrap();
        assert_eq!(Udp::parse(&bytes), Ok(udp.clone()));
        assert_eq!(Udp::parse(&bytes[..7]), Err(ParseError::UdpTruncated));
        assert_eq!(Udp::parse(&bytes[..19]), Err(ParseError::UdpLengthMalformed));
        bytes[4..6].copy_from_slice(&[0, 7]);
        assert_eq!(Udp::parse(&bytes), Err(ParseError::UdpLengthMalformed));
        assert_eq!(Udp { payload: 8..65536, ..udp }.write(&mut bytes), Err(BuildError::TooLong));
    }
}
