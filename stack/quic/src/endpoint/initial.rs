//! The part of an Initial packet's header that can be read without keys (RFC 9000 §17.2.2).

use s2n_codec::DecoderBuffer;
use s2n_quic_core::varint::VarInt;

use super::DropCause;

/// Least bytes behind the length field: header protection samples 16 bytes that start four after the packet number
/// (RFC 9001 §5.4.2).
const MIN_PAYLOAD_LEN: usize = 4 + 16;

/// What the endpoint needs of an Initial packet.
#[derive(Debug)]
pub(super) struct InitialHeader<'a> {
    pub(super) token: &'a [u8],
}

/// Reads what follows the Source Connection ID.
pub(super) fn parse(rest: &[u8]) -> Result<InitialHeader<'_>, DropCause> {
    let (token, rest) = delimited(rest).ok_or(DropCause::InitialMalformed)?;
    let (payload, _coalesced) = delimited(rest).ok_or(DropCause::InitialMalformed)?;
    if payload.len() < MIN_PAYLOAD_LEN {
        return Err(DropCause::InitialMalformed);
    }
    Ok(InitialHeader { token })
}

/// Splits off bytes that follow their length.
fn delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = DecoderBuffer::new(bytes).decode::<VarInt>().ok()?;
    let len = usize::try_from(len.as_u64()).ok()?;
    rest.into_less_safe_slice().split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(token: &[u8], payload: usize) -> Vec<u8> {
        let mut bytes = vec![token.len() as u8];
        bytes.extend(token);
        bytes.extend((0x4000 | payload as u16).to_be_bytes());
        bytes.resize(bytes.len() + payload, 0);
        bytes
    }

    #[test]
    fn the_token_is_found() {
        assert_eq!(parse(&packet(b"token", 1000)).unwrap().token, b"token");
        assert_eq!(parse(&packet(b"", 20)).unwrap().token, b"");
        let coalesced = [packet(b"x", 100), vec![1; 50]].concat();
        assert_eq!(parse(&coalesced).unwrap().token, b"x");
    }

    #[test]
    fn what_does_not_add_up_is_malformed() {
        assert!(parse(&packet(b"", 19)).is_err());
        let whole = packet(b"token", 100);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]).unwrap_err(), DropCause::InitialMalformed);
        }
        // A token longer than anything.
        assert!(parse(&[0xff; 1200]).is_err());
    }
}
