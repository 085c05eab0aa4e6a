//! Answers to packets of no connection. Each writes one packet and gives its length, or `None` if it doesn't fit.

use s2n_codec::{Encoder, EncoderBuffer, EncoderValue};
use s2n_quic_core::crypto::{HeaderKey, Key, scatter};
use s2n_quic_core::frame::ConnectionClose;
use s2n_quic_core::transport;

use crate::cid::Cid;
use crate::header::{LongHeader, VERSION_2, VERSION_NEGOTIATION};
use crate::role::Role;
use crate::tls;

const LONG_FORM: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const TAG_LEN: usize = 16;

/// Version Negotiation with these versions, and a reserved one that clients must pass over if `reserved` gives it bits
/// (RFC 9000 §6.3, §17.2.1). `unused` fills the bits of the first byte that mean nothing.
pub(super) fn version_negotiation(
    cause: &LongHeader<'_>,
    versions: &[u32],
    reserved: Option<u32>,
    unused: u8,
    response: &mut [u8],
) -> Option<usize> {
    let mut out = Writer::new(response);
    // The fixed bit is set for those who demultiplex by it (RFC 9000 §17.2.1).
    out.put(&[LONG_FORM | FIXED_BIT | unused & 0x3f])?;
    out.put(&VERSION_NEGOTIATION.to_be_bytes())?;
    out.put_cid(cause.scid)?;
    out.put_cid(cause.dcid)?;
    for version in versions {
        out.put(&version.to_be_bytes())?;
    }
    if let Some(bits) = reserved {
        // RFC 9000 §15: versions of the pattern 0x?a?a?a?a are reserved for this.
        out.put(&(bits & 0xf0f0_f0f0 | 0x0a0a_0a0a).to_be_bytes())?;
    }
    Some(out.len)
}

/// Retry from `scid` with this token (RFC 9000 §17.2.5).
pub(super) fn retry(
    cause: &LongHeader<'_>,
    scid: &Cid,
    token: &[u8],
    unused: u8,
    response: &mut [u8],
) -> Option<usize> {
    let mut out = Writer::new(response);
    let kind = if cause.version == VERSION_2 { 0b00 } else { 0b11 };
    out.put(&[LONG_FORM | FIXED_BIT | kind << 4 | unused & 0x0f])?;
    out.put(&cause.version.to_be_bytes())?;
    out.put_cid(cause.scid)?;
    out.put_cid(scid.as_slice())?;
    out.put(token)?;
    let tag = tls::retry_tag(cause.version, cause.dcid, out.written());
    out.put(&tag)?;
    Some(out.len)
}

/// Initial packet that closes with INVALID_TOKEN (RFC 9000 §8.1.2). It needs no acknowledgement, so it is not padded
/// (RFC 9000 §14.1).
pub(super) fn invalid_token(cause: &LongHeader<'_>, response: &mut [u8]) -> Option<usize> {
    const PACKET_NUMBER: [u8; 1] = [0];
    let close = ConnectionClose::from(transport::Error::INVALID_TOKEN);
    let payload_len = close.encoding_size().max(4 - PACKET_NUMBER.len());

    let mut out = Writer::new(response);
    let kind = if cause.version == VERSION_2 { 0b01 } else { 0b00 };
    out.put(&[LONG_FORM | FIXED_BIT | kind << 4])?;
    out.put(&cause.version.to_be_bytes())?;
    out.put_cid(cause.scid)?;
    out.put_cid(cause.dcid)?;
    // No token; a length of two bytes.
    out.put(&[0])?;
    let len = (PACKET_NUMBER.len() + payload_len + TAG_LEN) as u16;
    out.put(&(0x4000 | len).to_be_bytes())?;
    let number_at = out.len;
    out.put(&PACKET_NUMBER)?;
    let header_len = out.len;

    let total = header_len + payload_len + TAG_LEN;
    let packet = response.get_mut(..total)?;
    let (header, body) = packet.split_at_mut(header_len);
    let mut buffer = EncoderBuffer::new(body);
    buffer.encode(&close);
    buffer.write_repeated(payload_len - buffer.len(), 0);
    let (mut key, header_key) = tls::initial_keys(cause.version, Role::Server, cause.dcid);
    key.encrypt(0, header, &mut scatter::Buffer::new(buffer)).ok()?;

    // RFC 9001 §5.4.2: the sample starts four bytes after the start of the packet number.
    let sample_at = number_at + 4;
    let mask = header_key.sealing_header_protection_mask(packet.get(sample_at..sample_at + 16)?);
    packet[0] ^= mask[0] & 0x0f;
    packet[number_at] ^= mask[1];
    Some(total)
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.buffer.get_mut(self.len..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn put_cid(&mut self, cid: &[u8]) -> Option<()> {
        self.put(&[u8::try_from(cid.len()).ok()?])?;
        self.put(cid)
    }

    fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}
