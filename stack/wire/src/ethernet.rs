//! Ethernet II with 802.1Q and 802.1ad tags.

use crate::{BuildError, ParseError};

/// Bytes of an untagged Ethernet header.
pub const ETHERNET_HEADER_LEN: usize = 14;
/// Bytes one VLAN tag adds.
pub const VLAN_TAG_LEN: usize = 4;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// An 802.1ad service tag.
    pub const SERVICE_VLAN: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    pub const fn is_vlan(self) -> bool {
        self.0 == Self::VLAN.0 || self.0 == Self::SERVICE_VLAN.0
    }
}

/// One VLAN tag: its protocol identifier and its control information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub tpid: EtherType,
    /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// An 802.1Q tag of this VLAN, at the lowest priority.
    pub const fn new(id: u16) -> Self {
        Self { tpid: EtherType::VLAN, tci: id & 0x0fff }
    }

    /// The VLAN id; 0 carries a priority only and means "no VLAN" (802.1Q §9.6).
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority code point.
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// An Ethernet header with up to two tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// The outer tag.
    pub vlan: Option<VlanTag>,
    /// The inner tag; only behind an outer one.
    pub inner_vlan: Option<VlanTag>,
    /// What follows the header.
    pub ether_type: EtherType,
}

impl Ethernet {
    /// Reads the header of a frame. [`header_len`](Self::header_len) tells where its payload starts.
    ///
    /// # Errors
    /// [`ParseError::FrameTruncated`], or [`ParseError::VlanNested`] for a third tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, ParseError> {
        let (header, rest) =
            frame.split_first_chunk::<ETHERNET_HEADER_LEN>().ok_or(ParseError::FrameTruncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let mut ethernet = Self {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            vlan: None,
            inner_vlan: None,
            ether_type: EtherType(u16::from_be_bytes([t0, t1])),
        };
        if ethernet.ether_type.is_vlan() {
            ethernet.read_tags(rest)?;
        }
        Ok(ethernet)
    }

    #[cold]
    fn read_tags(&mut self, mut rest: &[u8]) -> Result<(), ParseError> {
        for slot in [&mut self.vlan, &mut self.inner_vlan] {
            let (tag, behind) = rest.split_first_chunk::<VLAN_TAG_LEN>().ok_or(ParseError::FrameTruncated)?;
            *slot = Some(VlanTag { tpid: self.ether_type, tci: u16::from_be_bytes([tag[0], tag[1]]) });
            self.ether_type = EtherType(u16::from_be_bytes([tag[2], tag[3]]));
            rest = behind;
            if !self.ether_type.is_vlan() {
                return Ok(());
            }
        }
        Err(ParseError::VlanNested)
    }

    /// Bytes of the header with its tags.
    #[inline]
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER_LEN
            + VLAN_TAG_LEN * (usize::from(self.vlan.is_some()) + usize::from(self.inner_vlan.is_some()))
    }

    /// Writes the header at the start of `into` and returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`].
    pub fn write(&self, into: &mut [u8]) -> Result<usize, BuildError> {
        let needed = self.header_len();
        let header = into.get_mut(..needed).ok_or(BuildError::NoRoom { needed })?;
        header[..6].copy_from_slice(&self.dst.0);
        header[6..12].copy_from_slice(&self.src.0);
        let mut at = 12;
        for tag in [self.vlan, self.inner_vlan].into_iter().flatten() {
            header[at..at + 2].copy_from_slice(&tag.tpid.0.to_be_bytes());
            header[at + 2..at + 4].copy_from_slice(&tag.tci.to_be_bytes());
            at += VLAN_TAG_LEN;
        }
        header[at..at + 2].copy_from_slice(&self.ether_type.0.to_be_bytes());
        Ok(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(vlan: Option<VlanTag>, inner_vlan: Option<VlanTag>) -> Ethernet {
        Ethernet {
            dst: MacAddr([2, 0, 0, 0, 0, 1]),
            src: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan,
            inner_vlan,
            ether_type: EtherType::IPV6,
        }
    }

    #[test]
    fn round_trips_with_none_one_and_two_tags() {
        let service = VlanTag { tpid: EtherType::SERVICE_VLAN, tci: 0xe064 };
        for ethernet in [
            header(None, None),
            header(Some(VlanTag::new(7)), None),
            header(Some(service), Some(VlanTag::new(4095))),
        ] {
            let mut bytes = [0; 32];
            let len = ethernet.write(&mut bytes).unwrap();
            assert_eq!(Ethernet::parse(&bytes), Ok(ethernet));
            for short in 0..len {
                assert_eq!(Ethernet::parse(&bytes[..short]), Err(ParseError::FrameTruncated));
                assert_eq!(ethernet.write(&mut [0; 32][..short]), Err(BuildError::NoRoom { needed: len }));
            }
        }
        assert_eq!((service.id(), service.priority()), (100, 7));
    }

    #[test]
    fn a_third_tag_is_refused() {
        let mut bytes = [0; 26];
        for at in [12, 16, 20] {
            bytes[at..at + 2].copy_from_slice(&EtherType::VLAN.0.to_be_bytes());
        }
        assert_eq!(Ethernet::parse(&bytes), Err(ParseError::VlanNested));
    }
}
