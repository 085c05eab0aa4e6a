//! Interface requests (`netdevice(7)`).
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// What a request reads or writes: the union of `struct ifreq`.
type Payload = libc::__c_anonymous_ifr_ifru;

/// Requests about one interface, by its name.
pub(super) struct Request {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Request {
    /// # Errors
    /// `ENODEV` for what can't be an interface's name.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let mut field = [0; libc::IFNAMSIZ];
        for (to, from) in field.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, name: field })
    }

    pub(super) fn index(&self) -> io::Result<u32> {
        let answer = self.ask(libc::SIOCGIFINDEX)?;
        // SAFETY: SIOCGIFINDEX fills the index; and any four bytes make an integer.
        Ok(unsafe { answer.ifru_ifindex } as u32)
    }

    pub(super) fn mtu(&self) -> io::Result<u32> {
        let answer = self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: SIOCGIFMTU fills the MTU; and any four bytes make an integer.
        Ok(unsafe { answer.ifru_mtu } as u32)
    }

    pub(super) fn flags(&self) -> io::Result<u32> {
        let answer = self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: SIOCGIFFLAGS fills the flags; and any two bytes make an integer.
        Ok(u32::from(unsafe { answer.ifru_flags } as u16))
    }

    /// The Ethernet address, or `None` on links of another kind.
    pub(super) fn hardware_address(&self) -> io::Result<Option<[u8; 6]>> {
        let answer = self.ask(libc::SIOCGIFHWADDR)?;
        // SAFETY: SIOCGIFHWADDR fills a socket address, which is integers throughout.
        let address = unsafe { answer.ifru_hwaddr };
        let ethernet = matches!(address.sa_family, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK);
        Ok(ethernet.then(|| std::array::from_fn(|n| address.sa_data[n] as u8)))
    }

    /// An ethtool request: the kernel reads and writes `data`, whose first field tells which it is.
    ///
    /// # Safety
    /// `T` must be the structure (`#[repr(C)]`, integers only) that the command in its first field works on.
    pub(super) unsafe fn ethtool<T>(&self, data: &mut T) -> io::Result<()> {
        let payload = Payload { ifru_data: (&raw mut *data).cast() };
        self.call(libc::SIOCETHTOOL, payload).map(drop)
    }

    fn ask(&self, what: libc::c_ulong) -> io::Result<Payload> {
        // SAFETY: all members are integers or pointers, for which zero is a value.
        self.call(what, unsafe { mem::zeroed() })
    }

    fn call(&self, what: libc::c_ulong, payload: Payload) -> io::Result<Payload> {
        let mut request = libc::ifreq { ifr_name: self.name, ifr_ifru: payload };
        // SAFETY: `request` is a whole `ifreq` and outlives the call; so does what its payload points to, by the
        // promise of `ethtool`'s caller.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, &raw mut request) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(request.ifr_ifru) }
    }
}

pub(super) fn name_of(index: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IFNAMSIZ];
    // SAFETY: `name` has the IF_NAMESIZE bytes the function may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return Err(io::Error::last_os_error());
    }
    super::text(&name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}
