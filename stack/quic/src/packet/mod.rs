//! Packets: headers in and out, and their protection.

mod header;
mod keys;
mod protect;

pub(crate) use header::{HeaderWriter, Layout, LongPacket, PacketHeader, ShortPacket};
pub(crate) use keys::{KeyUpdate, OneRttKeys, Phase};
pub(crate) use protect::{OpenError, Opened, open, packet_number, seal};

use s2n_quic_core::packet::number::PacketNumberSpace;

/// Packet number spaces (RFC 9000 §12.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SpaceId {
    /// Initial packets.
    Initial,
    /// Handshake packets.
    Handshake,
    /// 0-RTT and 1-RTT packets.
    App,
}

impl SpaceId {
    pub(crate) const ALL: [Self; 3] = [Self::Initial, Self::Handshake, Self::App];

    #[inline]
    pub(crate) fn number_space(self) -> PacketNumberSpace {
        match self {
            Self::Initial => PacketNumberSpace::Initial,
            Self::Handshake => PacketNumberSpace::Handshake,
            Self::App => PacketNumberSpace::ApplicationData,
        }
    }
}

/// Kinds of protected packets.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PacketKind {
    /// Initial.
    Initial,
    /// 0-RTT.
    ZeroRtt,
    /// Handshake.
    Handshake,
    /// 1-RTT.
    OneRtt,
}

impl PacketKind {
    #[inline]
    pub(crate) fn space(self) -> SpaceId {
        match self {
            Self::Initial => SpaceId::Initial,
            Self::Handshake => SpaceId::Handshake,
            Self::ZeroRtt | Self::OneRtt => SpaceId::App,
        }
    }
}
