//! Packet headers on the connection's side: taking a datagram apart, and writing the headers of our own packets.

use s2n_codec::{Encoder, EncoderBuffer, EncoderValue};
use s2n_quic_core::packet::number::TruncatedPacketNumber;
use s2n_quic_core::varint::VarInt;

use super::PacketKind;
use crate::cid::Cid;
use crate::header::{Header, LongKind, VERSION_2, classify};

/// Bytes of the Length field we write: two are enough for every datagram of up to 16 KiB, and the value is only known
/// once the packet is full.
const LENGTH_LEN: usize = 2;

/// Largest Length that fits into [`LENGTH_LEN`] bytes.
pub(crate) const MAX_LENGTH: usize = (1 << 14) - 1;

/// One packet of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PacketHeader {
    /// A protected packet with a long header.
    Long(LongPacket),
    /// A 1-RTT packet.
    Short(ShortPacket),
    /// A Retry packet; it takes the whole datagram.
    Retry,
    /// A Version Negotiation packet; it takes the whole datagram.
    VersionNegotiation,
}

/// A protected packet with a long header. Positions count from the packet's first byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LongPacket {
    pub(crate) kind: PacketKind,
    pub(crate) version: u32,
    pub(crate) dcid: Cid,
    pub(crate) scid: Cid,
    /// Length of an Initial's token.
    pub(crate) token_len: usize,
    /// Where the packet number begins.
    pub(crate) header_len: usize,
    /// Where the packet ends.
    pub(crate) len: usize,
}

/// A 1-RTT packet; it ends with the datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShortPacket {
    pub(crate) dcid: Cid,
    pub(crate) header_len: usize,
}

impl PacketHeader {
    /// Reads the header of the first packet in `datagram`. `None` for what is not QUIC, not whole or of another
    /// version: RFC 9000 §12.2 has such remains of a datagram dropped. `greased`: the fixed bit may be clear (RFC 9287).
    #[inline]
    pub(crate) fn read(datagram: &[u8], local_cid_len: usize, greased: bool) -> Option<Self> {
        match classify(datagram, local_cid_len).ok()? {
            Header::Short { fixed_bit: false, .. } if !greased => None,
            Header::Short { dcid, .. } => {
                Some(Self::Short(ShortPacket { dcid: Cid::new(dcid)?, header_len: 1 + dcid.len() }))
            }
            Header::Long(long) => {
                let kind = match long.kind {
                    LongKind::Initial => PacketKind::Initial,
                    LongKind::ZeroRtt => PacketKind::ZeroRtt,
                    LongKind::Handshake => PacketKind::Handshake,
                    LongKind::Retry => return Some(Self::Retry),
                    LongKind::VersionNegotiation => return Some(Self::VersionNegotiation),
                    LongKind::Unknown => return None,
                };
                if !long.fixed_bit && !greased {
                    return None;
                }
                let mut rest = long.rest;
                let mut token_len = 0;
                if kind == PacketKind::Initial {
                    token_len = usize::try_from(read_varint(&mut rest)?).ok()?;
                    rest = rest.get(token_len..)?;
                }
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                if length > rest.len() {
                    return None;
                }
                let header_len = datagram.len() - rest.len();
                Some(Self::Long(LongPacket {
                    kind,
                    version: long.version,
                    dcid: Cid::new(long.dcid)?,
                    scid: Cid::new(long.scid)?,
                    token_len,
                    header_len,
                    len: header_len + length,
                }))
            }
        }
    }
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (value, rest) = s2n_codec::DecoderBuffer::new(bytes).decode::<VarInt>().ok()?;
    *bytes = rest.into_less_safe_slice();
    Some(value.as_u64())
}

/// The header of a packet of ours.
#[derive(Copy, Clone, Debug)]
pub(crate) struct HeaderWriter<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) version: u32,
    pub(crate) dcid: Cid,
    pub(crate) scid: Cid,
    pub(crate) token: &'a [u8],
    /// 1-RTT: the key phase bit.
    pub(crate) key_phase: bool,
    pub(crate) number: TruncatedPacketNumber,
    /// The fixed bit (RFC 9000 §17.2); clear to keep the path from relying on it (RFC 9287).
    pub(crate) fixed_bit: bool,
}

/// Where things are in a packet under construction, counted from its first byte.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout {
    /// Where the Length field is, if there is one.
    length_at: Option<usize>,
    /// Where the packet number begins.
    pub(crate) header_len: usize,
}

impl HeaderWriter<'_> {
    /// Bytes of the header with packet number.
    pub(crate) fn len(&self) -> usize {
        let number = self.number.len().bytesize();
        match self.kind {
            PacketKind::OneRtt => 1 + self.dcid.len() + number,
            PacketKind::Initial => {
                let token = VarInt::new(self.token.len() as u64).unwrap_or_default().encoding_size();
                7 + self.dcid.len() + self.scid.len() + token + self.token.len() + LENGTH_LEN + number
            }
            PacketKind::ZeroRtt | PacketKind::Handshake => {
                7 + self.dcid.len() + self.scid.len() + LENGTH_LEN + number
            }
        }
    }

    /// Writes the header, packet number included.
    #[inline]
    pub(crate) fn write(&self, encoder: &mut EncoderBuffer<'_>) -> Layout {
        let number_len = self.number.len().into_packet_tag_mask();
        let fixed = u8::from(self.fixed_bit) << 6;
        if self.kind == PacketKind::OneRtt {
            // RFC 9000 §17.3.1. The spin bit is off on every path, which needs no asking (RFC 9000 §17.4).
            let tag = fixed | u8::from(self.key_phase) << 2 | number_len;
            encoder.encode(&tag);
            encoder.write_slice(self.dcid.as_slice());
            let header_len = encoder.len();
            encoder.encode(&self.number);
            return Layout { length_at: None, header_len };
        }
        // RFC 9000 §17.2.
        let tag = 0x80 | fixed | type_bits(self.version, self.kind) << 4 | number_len;
        encoder.encode(&tag);
        encoder.encode(&self.version);
        for cid in [&self.dcid, &self.scid] {
            encoder.encode(&(cid.len() as u8));
            encoder.write_slice(cid.as_slice());
        }
        if self.kind == PacketKind::Initial {
            encoder.encode(&VarInt::new(self.token.len() as u64).unwrap_or_default());
            encoder.write_slice(self.token);
        }
        let length_at = Some(encoder.len());
        encoder.write_slice(&[0; LENGTH_LEN]);
        let header_len = encoder.len();
        encoder.encode(&self.number);
        Layout { length_at, header_len }
    }
}

impl Layout {
    /// Fills in the Length field once the packet, tag included, is known to be `len` bytes long.
    #[inline]
    pub(crate) fn set_length(&self, packet: &mut [u8], len: usize) {
        if let Some(at) = self.length_at {
            let length = len - self.header_len;
            debug_assert!(length <= MAX_LENGTH);
            // The two upper bits say that the number has two bytes (RFC 9000 §16).
            packet[at..at + LENGTH_LEN].copy_from_slice(&(0x4000 | length as u16).to_be_bytes());
        }
    }
}

/// The type bits mean different things in each version (RFC 9000 §17.2, RFC 9369 §3.2).
fn type_bits(version: u32, kind: PacketKind) -> u8 {
    let v1 = match kind {
        PacketKind::Initial => 0,
        PacketKind::ZeroRtt => 1,
        PacketKind::Handshake => 2,
        PacketKind::OneRtt => 3,
    };
    if version == VERSION_2 { (v1 + 1) % 4 } else { v1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::VERSION_1;
    use s2n_quic_core::packet::number::PacketNumberSpace;

    #[test]
    fn headers_written_are_read_back() {
        let space = PacketNumberSpace::ApplicationData;
        let number =
            space.new_packet_number(VarInt::from_u32(1000)).truncate(space.new_packet_number(VarInt::ZERO));
        for version in [VERSION_1, VERSION_2] {
            for kind in [PacketKind::Initial, PacketKind::ZeroRtt, PacketKind::Handshake, PacketKind::OneRtt]
            {
                for token in [&[][..], &[5; 100]] {
                    let writer = HeaderWriter {
                        kind,
                        version,
                        dcid: Cid::new(&[1; 8]).unwrap(),
                        scid: Cid::new(&[2; 20]).unwrap(),
                        token,
                        key_phase: true,
                        number: number.unwrap(),
                        fixed_bit: true,
                    };
                    let mut buffer = [0; 300];
                    let mut encoder = EncoderBuffer::new(&mut buffer);
                    let layout = writer.write(&mut encoder);
                    assert_eq!(encoder.len(), writer.len());
                    layout.set_length(&mut buffer, 250);
                    match PacketHeader::read(&buffer, 8, false).unwrap() {
                        PacketHeader::Short(short) => {
                            assert_eq!(kind, PacketKind::OneRtt);
                            assert_eq!((short.dcid, short.header_len), (writer.dcid, layout.header_len));
                        }
                        PacketHeader::Long(long) => {
                            assert_eq!((long.kind, long.version), (kind, version));
                            assert_eq!((long.dcid, long.scid), (writer.dcid, writer.scid));
                            assert_eq!((long.header_len, long.len), (layout.header_len, 250));
                            let token_len = if kind == PacketKind::Initial { token.len() } else { 0 };
                            assert_eq!(long.token_len, token_len);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}
