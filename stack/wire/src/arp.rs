//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use crate::{BuildError, ParseError, ethernet::MacAddr};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of both addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// What it does.
    pub operation: ArpOperation,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's address.
    pub sender: Ipv4Addr,
    /// The target's Ethernet address; zero in a request.
    pub target_mac: MacAddr,
    /// The target's address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the payload of an Ethernet frame.
    ///
    /// # Errors
    /// [`ParseError::ArpTruncated`] or [`ParseError::ArpUnsupported`].
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let bytes = packet.first_chunk::<ARP_LEN>().ok_or(ParseError::ArpTruncated)?;
        let operation = match (bytes.first_chunk::<6>(), bytes[6], bytes[7]) {
            (Some(&ETHERNET_IPV4), 0, 1) => ArpOperation::Request,
            (Some(&ETHERNET_IPV4), 0, 2) => ArpOperation::Reply,
            _ => return Err(ParseError::ArpUnsupported),
        };
        let mac = |at: usize| MacAddr(std::array::from_fn(|i| bytes[at + i]));
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        Ok(Self {
            operation,
            sender_mac: mac(8),
            sender: address(14),
            target_mac: mac(18),
            target: address(24),
        })
    }

    /// Writes the packet at the start of `into` and returns its length.
    ///
    /// # Errors
    /// [`BuildError::NoRoom`].
    pub fn write(&self, into: &mut [u8]) -> Result<usize, BuildError> {
        let bytes = into.first_chunk_mut::<ARP_LEN>().ok_or(BuildError::NoRoom { needed: ARP_LEN })?;
        bytes[..6].copy_from_slice(&ETHERNET_IPV4);
        bytes[6] = 0;
        bytes[7] = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target.octets());
        Ok(ARP_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        for operation in [ArpOperation::Request, ArpOperation::Reply] {
            let arp = Arp {
                operation,
                sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                sender: Ipv4Addr::new(10, 0, 0, 1),
                target_mac: MacAddr::default(),
                target: Ipv4Addr::new(10, 0, 0, 2),
            };
            let mut bytes = [0; 46];
            assert_eq!(arp.write(&mut bytes), Ok(ARP_LEN));
            assert_eq!(Arp::parse(&bytes), Ok(arp));
            assert_eq!(Arp::parse(&bytes[..27]), Err(ParseError::ArpTruncated));
            for (at, to) in [(1, 6), (4, 8), (7, 3)] {
                let mut wrong = bytes;
                wrong[at] = to;
                assert_eq!(Arp::parse(&wrong), Err(ParseError::ArpUnsupported));
            }
        }
    }
}
