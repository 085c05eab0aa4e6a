//! Neighbour solicitation and advertisement (RFC 4861 §4.3, §4.4): who has an IPv6 address.

use std::net::Ipv6Addr;

use crate::{BuildError, Icmp, IcmpVersion, Ipv6, MacAddr, ParseError};

/// Bytes of a message with one link-layer address option.
pub const NEIGHBOR_LEN: usize = 32;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// RFC 4861 §7.1: a message from off the link would have a smaller one.
const HOP_LIMIT: u8 = 255;

/// A neighbour discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// Who has the target?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's Ethernet address.
        source_mac: Option<MacAddr>,
    },
    /// The sender has the target.
    Advertisement {
        /// The address told of.
        target: Ipv6Addr,
        /// Its Ethernet address.
        target_mac: Option<MacAddr>,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what was known.
        overrides: bool,
    },
}

impl Neighbor {
    /// Reads the payload of an IPv6 packet with the header `ip`.
    ///
    /// # Errors
    /// [`ParseError::NeighborTruncated`], [`ParseError::NeighborMalformed`] for what RFC 4861 §7.1 discards,
    /// and those of [`Icmp::parse`].
    pub fn parse(message: &[u8], ip: &Ipv6) -> Result<Self, ParseError> {
        let icmp = Icmp::parse(message, IcmpVersion::V6 { src: ip.src, dst: ip.dst })?;
        let (target, options) =
            message[icmp.body.clone()].split_first_chunk::<16>().ok_or(ParseError::NeighborTruncated)?;
        let target = Ipv6Addr::from(*target);
        if ip.hop_limit != HOP_LIMIT || icmp.code != 0 || target.is_multicast() {
            return Err(ParseError::NeighborMalformed);
        }
        match icmp.kind {
            SOLICITATION => {
                let source_mac = link_layer_option(options, SOURCE_LINK_LAYER)?;
                // RFC 4861 §7.1.1: a probe for duplicates can't tell where to answer.
                if ip.src.is_unspecified() && source_mac.is_some() {
                    return Err(ParseError::NeighborMalformed);
                }
                Ok(Self::Solicitation { target, source_mac })
            }
            ADVERTISEMENT => {
                let solicited = icmp.word >> 30 & 1 != 0;
                // RFC 4861 §7.1.2
                if solicited && ip.dst.is_multicast() {
                    return Err(ParseError::NeighborMalformed);
                }
                Ok(Self::Advertisement {
                    target,
                    target_mac: link_layer_option(options, TARGET_LINK_LAYER)?,
                    router: icmp.word >> 31 != 0,
                    solicited,
                    overrides: icmp.word >> 29 & 1 != 0,
                })
            }
            _ => Err(ParseError::NeighborMalformed),
        }
    }

    /// Writes the message between two addresses at the start of `into` and returns its length. Its packet
    /// must have a hop limit of 255.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`].
    pub fn write(&self, into: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<usize, BuildError> {
        let (kind, word, target, option, mac) = match *self {
            Self::Solicitation { target, source_mac } => {
                (SOLICITATION, 0, target, SOURCE_LINK_LAYER, source_mac)
            }
            Self::Advertisement { target, target_mac, router, solicited, overrides } => {
                let word = u32::from(router) << 31 | u32::from(solicited) << 30 | u32::from(overrides) << 29;
                (ADVERTISEMENT, word, target, TARGET_LINK_LAYER, target_mac)
            }
        };
        let needed = if mac.is_some() { NEIGHBOR_LEN } else { NEIGHBOR_LEN - 8 };
        let message = into.get_mut(..needed).ok_or(BuildError::NoRoom { needed })?;
        let (header, body) = message.split_at_mut(crate::ICMP_HEADER_LEN);
        body[..16].copy_from_slice(&target.octets());
        if let Some(mac) = mac {
            // Lengths of options count eights of bytes.
            body[16..18].copy_from_slice(&[option, 1]);
            body[18..].copy_from_slice(&mac.0);
        }
        Icmp { kind, code: 0, word, body: 8..needed }.write(header, body, IcmpVersion::V6 { src, dst })?;
        Ok(needed)
    }
}

/// The multicast address on which the owner of `target` listens for solicitations (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast address (RFC 2464 §7).
pub fn multicast_mac(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = address.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, ParseError> {
    let mut found = None;
    while let Some(([kind, eights], _)) = options.split_first_chunk::<2>() {
        let len = usize::from(*eights) * 8;
        if len == 0 {
            return Err(ParseError::NeighborMalformed);
        }
        let (option, rest) = options.split_at_checked(len).ok_or(ParseError::NeighborTruncated)?;
        if *kind == wanted && found.is_none() {
            found = Some(MacAddr(std::array::from_fn(|i| option[2 + i])));
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(ParseError::NeighborTruncated) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const DST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn header(src: Ipv6Addr, dst: Ipv6Addr) -> Ipv6 {
        Ipv6 { hop_limit: 255, ..Ipv6::new(src, dst, crate::protocol::ICMPV6, NEIGHBOR_LEN) }
    }

    fn both() -> [Neighbor; 3] {
        [
            Neighbor::Solicitation { target: DST, source_mac: Some(MAC) },
            Neighbor::Solicitation { target: DST, source_mac: None },
            Neighbor::Advertisement {
                target: DST,
                target_mac: Some(MAC),
                router: true,
                solicited: true,
                overrides: false,
            },
        ]
    }

    #[test]
    fn round_trips() {
        for neighbor in both() {
            let mut bytes = [0; NEIGHBOR_LEN];
            let len = neighbor.write(&mut bytes, SRC, DST).unwrap();
            assert_eq!(Neighbor::parse(&bytes[..len], &header(SRC, DST)), Ok(neighbor));
        }
        assert_eq!(solicited_node(DST), "ff02::1:ff00:2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(multicast_mac(solicited_node(DST)), MacAddr([0x33, 0x33, 0xff, 0, 0, 2]));
    }

    #[test]
    fn what_rfc_4861_discards() {
        let refused = |neighbor: Neighbor, ip: Ipv6, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = vec![0; NEIGHBOR_LEN];
            let len = neighbor.write(&mut bytes, ip.src, ip.dst).unwrap();
            bytes.truncate(len);
            change(&mut bytes);
            bytes[2..4].fill(0);
            let pseudo =
                crate::checksum::pseudo_v6(ip.src, ip.dst, crate::protocol::ICMPV6, bytes.len() as u32);
            let sum = pseudo.add_bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            Neighbor::parse(&bytes, &ip).unwrap_err()
        };
        let [solicitation, _, advertisement] = both();
        let ip = header(SRC, DST);
        let malformed = ParseError::NeighborMalformed;
        assert_eq!(refused(solicitation, Ipv6 { hop_limit: 64, ..ip.clone() }, &|_| ()), malformed);
        assert_eq!(refused(solicitation, ip.clone(), &|b| b[1] = 1), malformed, "code");
        assert_eq!(refused(solicitation, ip.clone(), &|b| b[0] = 134), malformed, "type");
        assert_eq!(refused(solicitation, ip.clone(), &|b| b[8] = 0xff), malformed, "multicast target");
        assert_eq!(refused(solicitation, ip.clone(), &|b| b[25] = 0), malformed, "option of no length");
        assert_eq!(refused(solicitation, header(Ipv6Addr::UNSPECIFIED, DST), &|_| ()), malformed);
        assert_eq!(refused(advertisement, header(SRC, solicited_node(DST)), &|_| ()), malformed);
        let truncated = ParseError::NeighborTruncated;
        assert_eq!(refused(solicitation, ip.clone(), &|b| b[25] = 2), truncated);
        assert_eq!(refused(solicitation, ip.clone(), &|b| b.truncate(20)), truncated);
        assert_eq!(refused(solicitation, ip, &|b| b.truncate(25)), truncated);
    }
}
