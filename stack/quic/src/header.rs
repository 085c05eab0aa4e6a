//! The first look at a datagram: which connection, which version, which kind of packet. No keys needed.

/// QUIC version 1 (RFC 9000).
pub const VERSION_1: u32 = 0x0000_0001;

/// QUIC version 2 (RFC 9369).
pub const VERSION_2: u32 = 0x6b33_43cf;

/// The version field of Version Negotiation packets (RFC 8999 §6).
pub(crate) const VERSION_NEGOTIATION: u32 = 0;

const LONG_FORM: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;

/// The header of a datagram's first packet, as far as it can be read without keys.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// A packet of an established connection (RFC 8999 §5.2).
    Short {
        /// Destination Connection ID, of the length our own IDs have.
        dcid: &'a [u8],
        /// Is the fixed bit set? Clear ones come from peers that grease it (RFC 9287), and from what is not QUIC.
        fixed_bit: bool,
    },
    /// A packet with a version, mostly of a handshake (RFC 8999 §5.1).
    Long(LongHeader<'a>),
}

/// The part of a long header that all versions share, and the kind of packet if we know the version.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LongHeader<'a> {
    /// The version field.
    pub version: u32,
    /// What kind of packet it is.
    pub kind: LongKind,
    /// Destination Connection ID: up to 255 bytes in versions we don't know, up to 20 in those we do.
    pub dcid: &'a [u8],
    /// Source Connection ID, of the same lengths.
    pub scid: &'a [u8],
    /// Is the fixed bit set?
    pub fixed_bit: bool,
    /// What follows the Source Connection ID.
    pub rest: &'a [u8],
}

/// Kinds of packets with a long header.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum LongKind {
    /// Initial (RFC 9000 §17.2.2).
    Initial,
    /// 0-RTT (RFC 9000 §17.2.3).
    ZeroRtt,
    /// Handshake (RFC 9000 §17.2.4).
    Handshake,
    /// Retry (RFC 9000 §17.2.5).
    Retry,
    /// Version Negotiation (RFC 8999 §6).
    VersionNegotiation,
    /// Of a version we don't know.
    Unknown,
}

/// Why a datagram is not QUIC to us.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeaderError {
    /// It ends within the header.
    #[error("the datagram ends within the header")]
    Truncated,
    /// A connection ID longer than the version allows (RFC 9000 §17.2).
    #[error("a connection ID is longer than 20 bytes")]
    CidTooLong,
}

impl HeaderError {
    /// Name of the counter of datagrams dropped for this.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "header_truncated_dropped",
            Self::CidTooLong => "cid_exceeded_dropped",
        }
    }
}

impl<'a> Header<'a> {
    /// The Destination Connection ID.
    #[inline]
    pub fn dcid(&self) -> &'a [u8] {
        match self {
            Self::Short { dcid, .. } => dcid,
            Self::Long(long) => long.dcid,
        }
    }
}

/// Reads the header of a datagram's first packet. Our own connection IDs are `local_cid_len` bytes long.
///
/// Total and cheap: a few comparisons and no copy. It checks nothing that needs keys or a connection.
#[inline]
pub fn classify(datagram: &[u8], local_cid_len: usize) -> Result<Header<'_>, HeaderError> {
    let (&first, rest) = datagram.split_first().ok_or(HeaderError::Truncated)?;
    let fixed_bit = first & FIXED_BIT != 0;
    if first & LONG_FORM == 0 {
        let dcid = rest.get(..local_cid_len).ok_or(HeaderError::Truncated)?;
        return Ok(Header::Short { dcid, fixed_bit });
    }

    let (version, rest) = rest.split_first_chunk().ok_or(HeaderError::Truncated)?;
    let version = u32::from_be_bytes(*version);
    let kind = long_kind(version, first);
    // RFC 9000 §17.2: longer IDs are dropped in version 1, but must be readable in versions we don't know.
    let longest = match kind {
        LongKind::Unknown | LongKind::VersionNegotiation => usize::from(u8::MAX),
        _ => crate::cid::Cid::MAX_LEN,
    };
    let (dcid, rest) = connection_id(rest, longest)?;
    let (scid, rest) = connection_id(rest, longest)?;
    Ok(Header::Long(LongHeader { version, kind, dcid, scid, fixed_bit, rest }))
}

fn connection_id(bytes: &[u8], longest: usize) -> Result<(&[u8], &[u8]), HeaderError> {
    let (&len, rest) = bytes.split_first().ok_or(HeaderError::Truncated)?;
    let len = usize::from(len);
    if len > longest {
        return Err(HeaderError::CidTooLong);
    }
    rest.split_at_checked(len).ok_or(HeaderError::Truncated)
}

/// The two type bits mean different things in each version (RFC 9000 §17.2, RFC 9369 §3.2).
fn long_kind(version: u32, first: u8) -> LongKind {
    use LongKind::{Handshake, Initial, Retry, ZeroRtt};
    let bits = usize::from(first >> 4 & 0b11);
    match version {
        VERSION_NEGOTIATION => LongKind::VersionNegotiation,
        VERSION_1 => [Initial, ZeroRtt, Handshake, Retry][bits],
        VERSION_2 => [Retry, Initial, ZeroRtt, Handshake][bits],
        _ => LongKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(first: u8, version: u32, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        bytes.extend(version.to_be_bytes());
        bytes.push(dcid.len() as u8);
        bytes.extend(dcid);
        bytes.push(scid.len() as u8);
        bytes.extend(scid);
        bytes
    }

    fn kind(first: u8, version: u32) -> LongKind {
        match classify(&long(first, version, &[1; 8], &[]), 8) {
            Ok(Header::Long(long)) => long.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_by_version() {
        use LongKind::*;
        let kinds = |version| [0xc0, 0xd0, 0xe0, 0xf0].map(|first| kind(first, version));
        assert_eq!(kinds(VERSION_1), [Initial, ZeroRtt, Handshake, Retry]);
        assert_eq!(kinds(VERSION_2), [Retry, Initial, ZeroRtt, Handshake]);
        assert_eq!(kinds(0x1a2a_3a4a), [Unknown; 4]);
        assert_eq!(kinds(VERSION_NEGOTIATION), [VersionNegotiation; 4]);
        // Without the fixed bit too: such packets come from peers that grease it.
        assert_eq!(kind(0x80, VERSION_1), Initial);
    }

    #[test]
    fn fields_of_a_long_header() {
        let mut datagram = long(0xc3, VERSION_1, &[1, 2, 3, 4, 5, 6, 7, 8], &[9, 10]);
        datagram.extend([0xaa, 0xbb]);
        let Ok(Header::Long(header)) = classify(&datagram, 0) else { panic!() };
        assert_eq!((header.dcid, header.scid), (&[1, 2, 3, 4, 5, 6, 7, 8][..], &[9, 10][..]));
        assert_eq!((header.version, header.fixed_bit, header.rest), (1, true, &[0xaa, 0xbb][..]));
    }

    #[test]
    fn short_headers_take_our_length() {
        let datagram = [0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(classify(&datagram, 8), Ok(Header::Short { dcid: &datagram[1..9], fixed_bit: true }));
        assert_eq!(classify(&datagram, 0), Ok(Header::Short { dcid: &[], fixed_bit: true }));
        assert_eq!(classify(&[0x00, 1], 1), Ok(Header::Short { dcid: &[1], fixed_bit: false }));
        assert_eq!(classify(&datagram, 10), Err(HeaderError::Truncated));
        assert_eq!(classify(&[], 0), Err(HeaderError::Truncated));
    }

    #[test]
    fn long_connection_ids_only_in_unknown_versions() {
        let id = [7; 255];
        for version in [VERSION_1, VERSION_2] {
            assert_eq!(classify(&long(0xc0, version, &id[..21], &[]), 8), Err(HeaderError::CidTooLong));
            assert_eq!(classify(&long(0xc0, version, &[], &id[..21]), 8), Err(HeaderError::CidTooLong));
            assert!(classify(&long(0xc0, version, &id[..20], &id[..20]), 8).is_ok());
        }
        for version in [VERSION_NEGOTIATION, 0xff00_001d] {
            let datagram = long(0x80, version, &id, &id);
            assert_eq!(classify(&datagram, 8).unwrap().dcid(), id);
        }
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_rest() {
        let mut datagram = long(0xc0, VERSION_1, &[1; 8], &[2; 8]);
        let header_len = datagram.len();
        datagram.extend([0; 50]);
        for len in 0..datagram.len() {
            match classify(&datagram[..len], 8) {
                Ok(Header::Long(long)) => assert_eq!(long.rest.len(), len - header_len),
                other => {
                    assert_eq!(other, Err(HeaderError::Truncated));
                    assert!(len < header_len);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut random = crate::random::Random::from_seed([3; 32]);
        for round in 0..20_000 {
            let mut bytes = [0; 96];
            random.fill(&mut bytes);
            let len = random.u64() as usize % (bytes.len() + 1);
            if round % 2 == 0 {
                bytes[1..5].copy_from_slice(&[VERSION_1, VERSION_2, 0, 5][round / 2 % 4].to_be_bytes());
                bytes[5] %= 32;
            }
            if let Ok(header) = classify(&bytes[..len], round % 21) {
                assert!(header.dcid().len() < len);
            }
        }
    }
}
