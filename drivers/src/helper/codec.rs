//! Numbers, texts and addresses as bytes, and back. Reading fails on anything that is not just what was written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A message that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

/// The rest of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Up to 64 KiB; what is longer is cut where a character ends. Only explanations can be.
    pub(super) fn text(&mut self, text: &str) {
        let mut len = text.len().min(u16::MAX.into());
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.u16(len as u16);
        self.0.extend(&text.as_bytes()[..len]);
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.0.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.0.extend(ip.octets());
            }
        }
    }

    /// A list: its length, then each of its entries.
    pub(super) fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Self, &T)) {
        self.u32(list.len() as u32);
        list.iter().for_each(|entry| each(self, entry));
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u16()?.into();
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Malformed)
    }

    pub(super) fn ip(&mut self) -> Result<IpAddr, Malformed> {
        match self.u8()? {
            4 => self.take::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            6 => self.take::<16>().map(|octets| Ipv6Addr::from(octets).into()),
            _ => Err(Malformed),
        }
    }

    /// A list. Its told length reserves nothing: entries that aren't there end it.
    pub(super) fn list<T>(
        &mut self,
        each: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(each(self)?);
        }
        Ok(list)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
