//! Protection of packets (RFC 9001 §5), in place.

use s2n_codec::{EncoderBuffer, encoder::scatter};
use s2n_quic_core::crypto::{self, HeaderKey, Key, ProtectedPayload};
use s2n_quic_core::packet::number::{PacketNumber, PacketNumberLen};
use s2n_quic_core::varint::VarInt;

use super::SpaceId;

/// A packet taken out of its protection.
pub(crate) struct Opened<'a> {
    /// The first byte, unprotected.
    pub(crate) tag: u8,
    /// The packet number.
    pub(crate) number: u64,
    /// Bytes of the whole packet.
    pub(crate) len: usize,
    /// The frames.
    pub(crate) payload: &'a mut [u8],
}

/// Why a packet can't be opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Too short to be a packet.
    Truncated,
    /// It is not what a holder of the keys made.
    Forged,
}

/// Takes off the header protection, asks `choose` for the key by the first byte and the packet number, and decrypts: all of it
/// or nothing shows, and nothing branches on the number between (RFC 9001 §9.5).
/// `None` from `choose` drops the packet.
#[inline]
pub(crate) fn open<'p, 'k, H: HeaderKey, K: Key + 'k>(
    packet: &'p mut [u8],
    header_len: usize,
    space: SpaceId,
    largest: Option<u64>,
    header_key: &H,
    choose: impl FnOnce(u8, u64) -> Option<&'k K>,
) -> Result<Opened<'p>, OpenError> {
    let len = packet.len();
    let protected = ProtectedPayload::new(header_len, packet);
    let (truncated, encrypted) =
        crypto::unprotect(header_key, space.number_space(), protected).map_err(|_| OpenError::Truncated)?;
    // RFC 9000 §17.1: expanded around the largest packet number processed so far.
    let number = truncated.expand(packet_number(space, largest.unwrap_or(0)));
    let tag = encrypted.get_tag();
    let key = choose(tag, number.as_u64()).ok_or(OpenError::Forged)?;
    let (_, payload) = crypto::decrypt(key, number, encrypted).map_err(|_| OpenError::Forged)?;
    Ok(Opened { tag, number: number.as_u64(), len, payload: payload.into_less_safe_slice() })
}

/// Encrypts a packet and protects its header. `encoder` begins with the packet's first byte and is filled up to the end
/// of the payload; the tag has room behind. Gives the packet's length.
#[inline]
pub(crate) fn seal<H: HeaderKey, K: Key>(
    encoder: EncoderBuffer<'_>,
    header_len: usize,
    number: PacketNumber,
    number_len: PacketNumberLen,
    header_key: &H,
    key: &mut K,
) -> Option<usize> {
    let payload = scatter::Buffer::new(encoder);
    let (encrypted, _) = crypto::encrypt(key, number, number_len, header_len, payload).ok()?;
    let protected = crypto::protect(header_key, encrypted).ok()?;
    Some(protected.len())
}

/// A packet number in s2n-quic-core's type.
#[inline]
pub(crate) fn packet_number(space: SpaceId, number: u64) -> PacketNumber {
    space.number_space().new_packet_number(VarInt::new(number).unwrap_or(VarInt::MAX))
}
