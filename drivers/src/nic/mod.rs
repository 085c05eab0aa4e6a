//! Network interfaces and their queues, as the kernel tells of them.
//!
//! Everything here is asked by system call in the network namespace of the calling thread. `/sys` is left out
//! where possible: it shows the namespace it was mounted in.

mod addresses;
mod ethtool;
mod request;
mod rss;
mod xdp_support;

use std::{ffi::CStr, io, net::IpAddr};

pub use ethtool::{DeviceRings, Offload, QueueCounts};
use request::Request;
pub use rss::Rss;
pub use xdp_support::{XdpSupport, ZeroCopy};

use crate::DriverError;

/// A network interface, as it was when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its name: may change while it lives.
    pub name: String,
    /// Its index: unique in the network namespace, kept for life.
    pub index: u32,
    /// The kernel's driver (`veth`, `ixgbe`, …), where there is one to name.
    pub driver: Option<String>,
    /// The hardware address, on links that are Ethernet.
    pub mac: Option<[u8; 6]>,
    /// The longest packet behind the Ethernet header, in bytes.
    pub mtu: u32,
    /// State of the link.
    pub link: LinkState,
    /// RX and TX queues.
    pub queues: QueueCounts,
    /// Its addresses, with the length of their prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Set up by the administrator.
    pub admin_up: bool,
    /// The other end is there.
    pub carrier: bool,
    /// Packets come back by themselves; no neighbours.
    pub loopback: bool,
}

impl LinkState {
    /// Whether packets can pass.
    pub fn is_up(self) -> bool {
        self.admin_up && self.carrier
    }

    /// From the flags of a netlink message.
    pub(crate) fn from_flags(flags: u32) -> Self {
        /// `IFF_LOWER_UP` of `linux/if.h`: the carrier, told at once. `IFF_RUNNING` follows up to a second later.
        const LOWER_UP: u32 = 1 << 16;
        Self::new(flags, flags & LOWER_UP != 0)
    }

    fn new(flags: u32, carrier: bool) -> Self {
        let has = |flag: libc::c_int| flags & flag as u32 != 0;
        Self { admin_up: has(libc::IFF_UP), carrier, loopback: has(libc::IFF_LOOPBACK) }
    }
}

impl Nic {
    /// Looks an interface up by its name.
    ///
    /// # Errors
    /// [`DriverError::NoInterface`] when there is none of this name.
    pub fn by_name(name: &str) -> Result<Self, DriverError> {
        let request = Request::new(name).map_err(|error| not_found(name, error))?;
        let index = request.index().map_err(|error| not_found(name, error))?;
        // From here on an interface that is gone was deleted in the meantime.
        Self::ask(&request, name, index).map_err(|error| not_found(name, error))
    }

    /// How it spreads flows over its queues; `None` where that is not by a Toeplitz hash, or is not told.
    pub fn rss(&self) -> Option<Rss> {
        Rss::of(&Request::new(&self.name).ok()?)
    }

    /// Looks an interface up by its index.
    ///
    /// # Errors
    /// [`DriverError::NoInterface`] when there is none of this index.
    pub fn by_index(index: u32) -> Result<Self, DriverError> {
        let asked = format!("index {index}");
        loop {
            let name = request::name_of(index).map_err(|error| not_found(&asked, error))?;
            match Self::by_name(&name) {
                Ok(nic) if nic.index == index => return Ok(nic),
                // Renamed or deleted in the meantime.
                Ok(_) | Err(DriverError::NoInterface { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// All interfaces of the network namespace, in the order of their indices.
    ///
    /// # Errors
    /// [`DriverError::Io`] when the kernel does not tell.
    pub fn all() -> Result<Vec<Self>, DriverError> {
        let names =
            addresses::names().map_err(|source| DriverError::Io { what: "interface list", source })?;
        let mut nics = Vec::with_capacity(names.len());
        for name in names {
            match Self::by_name(&name) {
                Ok(nic) => nics.push(nic),
                // Deleted since the list was made.
                Err(DriverError::NoInterface { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        nics.sort_unstable_by_key(|nic| nic.index);
        Ok(nics)
    }

    /// What the NIC and its driver offer to XDP.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] when the kernel is too old to tell (before Linux 6.3).
    pub fn xdp_support(&self) -> Result<XdpSupport, DriverError> {
        XdpSupport::of(self.index)
    }

    /// The device's own rings, where it has any to tell of.
    pub fn rings(&self) -> Option<DeviceRings> {
        ethtool::rings(&Request::new(&self.name).ok()?)
    }

    /// Whether an offload is on; `None` where the driver has no such thing.
    pub fn offload(&self, offload: Offload) -> Option<bool> {
        ethtool::offload(&Request::new(&self.name).ok()?, offload)
    }

    fn ask(request: &Request, name: &str, index: u32) -> io::Result<Self> {
        let flags = request.flags()?;
        // A driver that can't tell about its carrier is taken at its word that it is running.
        let running = flags & libc::IFF_RUNNING as u32 != 0;
        let link = LinkState::new(flags, ethtool::carrier(request).unwrap_or(running));
        Ok(Self {
            name: name.to_owned(),
            index,
            driver: ethtool::driver(request),
            mac: request.hardware_address()?,
            mtu: request.mtu()?,
            link,
            queues: ethtool::queues(request, name),
            addresses: addresses::of(name)?,
        })
    }
}

fn not_found(name: &str, error: io::Error) -> DriverError {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => DriverError::NoInterface { name: name.to_owned() },
        _ => DriverError::Io { what: "interface query", source: error },
    }
}

/// The text of a fixed-size field that ends at its first zero byte, if there is any.
fn text(field: &[u8]) -> Option<String> {
    let text = CStr::from_bytes_until_nul(field).ok()?.to_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_described() {
        let lo = Nic::by_name("lo").expect("every machine has it");
        assert!(lo.link.loopback);
        assert_eq!(lo.mac, Some([0; 6]));
        assert!(lo.queues.rx >= 1 && lo.queues.tx >= 1, "{:?}", lo.queues);
        assert_eq!(Nic::by_index(lo.index).expect("the same"), lo);
        assert!(Nic::all().expect("list").contains(&lo));
        if lo.link.admin_up {
            assert!(lo.addresses.contains(&("127.0.0.1".parse().expect("address"), 8)), "{:?}", lo.addresses);
        }
    }

    #[test]
    fn a_wrong_name_is_told() {
        for name in ["no-such-nic", "", "a-name-longer-than-the-kernel-has", "nul\0inside", "../etc"] {
            let error = Nic::by_name(name).expect_err("no such interface");
            assert!(matches!(&error, DriverError::NoInterface { name: told } if told == name), "{error:?}");
            assert!(error.to_string().contains("`ip link` lists them"), "{error}");
        }
        assert!(matches!(Nic::by_index(u32::MAX), Err(DriverError::NoInterface { .. })));
    }
}
