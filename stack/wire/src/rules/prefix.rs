//! Address prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RulesError;

/// The addresses that share their first bits with this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// The first `len` bits of `address`; the others are cleared.
    ///
    /// # Errors
    /// [`RulesError::PrefixLength`] when the address has fewer bits.
    pub fn new(address: IpAddr, len: u8) -> Result<Self, RulesError> {
        let address = match address {
            IpAddr::V4(v4) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            _ => return Err(RulesError::PrefixLength),
        };
        Ok(Self { address, len })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Whether an address, of the same family, starts with these bits.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(prefix), IpAddr::V4(address)) => {
                (prefix.to_bits() ^ address.to_bits()).leading_zeros() >= self.len.into()
            }
            (IpAddr::V6(prefix), IpAddr::V6(address)) => {
                (prefix.to_bits() ^ address.to_bits()).leading_zeros() >= self.len.into()
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for IpPrefix {
    fn from(address: IpAddr) -> Self {
        Self { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl std::fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl std::fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for IpPrefix {
    type Err = RulesError;

    /// Reads `10.0.0.0/8`, `fd00::/16`, or an address alone.
    fn from_str(text: &str) -> Result<Self, RulesError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len.parse().map_err(|_| RulesError::PrefixLength)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| RulesError::PrefixLength)?;
        match len {
            Some(len) => Self::new(address, len),
            None => Ok(address.into()),
        }
    }
}
