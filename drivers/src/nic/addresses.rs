//! Names and addresses of interfaces (`getifaddrs(3)`).
#![allow(unsafe_code)]

use std::{
    collections::BTreeSet,
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// The names of all interfaces.
pub(super) fn names() -> io::Result<Vec<String>> {
    let list = List::ask()?;
    let names: BTreeSet<_> = list.entries().filter_map(name).map(str::to_owned).collect();
    Ok(names.into_iter().collect())
}

/// The addresses of one interface, each with the length of its prefix.
pub(super) fn of(interface: &str) -> io::Result<Vec<(IpAddr, u8)>> {
    let list = List::ask()?;
    let own = list.entries().filter(|entry| name(entry) == Some(interface));
    Ok(own.filter_map(|entry| Some((ip(entry.ifa_addr)?, prefix_len(ip(entry.ifa_netmask))))).collect())
}

/// The kernel's list, freed when dropped.
struct List(*mut libc::ifaddrs);

impl List {
    fn ask() -> io::Result<Self> {
        let mut head = ptr::null_mut();
        // SAFETY: on success the function stores the head of a list that `freeifaddrs` takes back.
        match unsafe { libc::getifaddrs(&raw mut head) } {
            0 => Ok(Self(head)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &libc::ifaddrs> {
        // SAFETY: the list is intact until `self` drops, which the borrow outlasts; null ends it.
        let first = unsafe { self.0.as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |entry| unsafe { entry.ifa_next.as_ref() })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: made by `getifaddrs`, freed once.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

fn name(entry: &libc::ifaddrs) -> Option<&str> {
    // SAFETY: the list holds a C string for every entry.
    unsafe { CStr::from_ptr(entry.ifa_name) }.to_str().ok()
}

fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null or an address of the list.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: addresses of this family have this layout; the list may align them less strictly.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn prefix_len(mask: Option<IpAddr>) -> u8 {
    match mask {
        Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones() as u8,
        Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones() as u8,
        None => 0,
    }
}
