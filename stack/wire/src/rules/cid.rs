//! Parts of QUIC connection IDs, by which processes share a port (CIBIR) and balancers steer.

use super::RulesError;

/// Bytes of the longest connection ID of QUIC v1 (RFC 9000 §17.2).
const MAX_CID_LEN: usize = 20;

/// Which connection ID of a packet is looked at. The layout is that of every version (RFC 8999 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CidField {
    /// The source connection ID of a long header: the sender's own.
    LongSource,
    /// The destination connection ID of a long header: chosen by its receiver, or random in a first Initial.
    LongDestination,
    /// The destination connection ID of a short header, chosen by its receiver.
    ShortDestination,
}

/// Bytes that a connection ID must hold at an offset, in packets to one port.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CidPattern {
    port: u16,
    field: CidField,
    offset: u8,
    len: u8,
    bytes: [u8; MAX_CID_LEN],
}

impl CidPattern {
    /// Looks for `bytes` at `offset` of the connection ID.
    ///
    /// # Errors
    /// [`RulesError::CidPattern`] unless there is at least one byte and offset and bytes fit in the 20 bytes a
    /// connection ID has at most.
    pub fn new(port: u16, field: CidField, offset: usize, bytes: &[u8]) -> Result<Self, RulesError> {
        if bytes.is_empty() || offset > MAX_CID_LEN || offset + bytes.len() > MAX_CID_LEN {
            return Err(RulesError::CidPattern);
        }
        let mut padded = [0; MAX_CID_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { port, field, offset: offset as u8, len: bytes.len() as u8, bytes: padded })
    }

    /// The destination port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Which connection ID.
    pub fn field(&self) -> CidField {
        self.field
    }

    /// Bytes of the connection ID in front of the pattern.
    pub fn offset(&self) -> usize {
        self.offset.into()
    }

    /// The bytes looked for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether a QUIC packet, the payload of UDP or TCP, holds the bytes. A short header does not tell how long
    /// its connection ID is: there the packet itself is the bound.
    pub fn matches(&self, packet: &[u8]) -> bool {
        let Some(cids) = Cids::of(packet) else { return false };
        let cid = match (self.field, cids) {
            (CidField::LongSource, Cids::Long { source, .. }) => source,
            (CidField::LongDestination, Cids::Long { destination, .. }) => destination,
            (CidField::ShortDestination, Cids::Short { destination_and_more }) => destination_and_more,
            _ => return false,
        };
        cid.get(self.offset()..).is_some_and(|rest| rest.starts_with(self.bytes()))
    }
}

impl std::fmt::Debug for CidPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

enum Cids<'a> {
    Long { destination: &'a [u8], source: &'a [u8] },
    Short { destination_and_more: &'a [u8] },
}

impl<'a> Cids<'a> {
    fn of(packet: &'a [u8]) -> Option<Self> {
        let (first, rest) = packet.split_first()?;
        if first & 0x80 == 0 {
            return Some(Self::Short { destination_and_more: rest });
        }
        let (_version, rest) = rest.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first()?;
        let (destination, rest) = rest.split_at_checked(usize::from(*len))?;
        let (len, rest) = rest.split_first()?;
        let source = rest.get(..usize::from(*len))?;
        Some(Self::Long { destination, source })
    }
}
