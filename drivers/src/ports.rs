//! Port reservation: the operating system's own socket on every port the stack uses, so that no packet of another
//! process is taken and no other process binds the port. It ends with the reservation, and with the process.
#![allow(unsafe_code)]

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with, sockopt};

use crate::DriverError;

/// How many ephemeral UDP ports to try until one is free for TCP, too. With half of all ports taken, all of these
/// fail once in 10^19 times.
const EPHEMERAL_TRIES: usize = 64;

/// Ports below this belong to privileged processes (`net.ipv4.ip_unprivileged_port_start` by default).
const UNPRIVILEGED: u16 = 1024;

/// A port held for as long as this lives.
///
/// An IPv6 wildcard address reserves the port for both families. Port 0 lets the system choose.
#[derive(Debug)]
pub struct PortReservation {
    local: SocketAddr,
    udp: Option<UdpSocket>,
    /// Bound, and never listening.
    tcp: Option<OwnedFd>,
}

impl PortReservation {
    /// Reserves a UDP port.
    ///
    /// # Errors
    /// [`DriverError::PortInUse`]; [`DriverError::MissingRights`] for a privileged port;
    /// [`DriverError::Unsupported`] when the address is not this machine's.
    pub fn udp(addr: SocketAddr) -> Result<Self, DriverError> {
        let udp = UdpSocket::from(open(addr, SocketType::DGRAM, false)?);
        let local = address_of(&udp)?;
        Ok(Self { local, udp: Some(udp), tcp: None })
    }

    /// Reserves a TCP port for QTIP: the socket is bound and never listens, so the kernel accepts nothing on it.
    ///
    /// # Errors
    /// As for [`udp`](Self::udp), with [`DriverError::TcpPortInUse`].
    pub fn tcp(addr: SocketAddr) -> Result<Self, DriverError> {
        let tcp = open(addr, SocketType::STREAM, false)?;
        let local = address_of(&tcp)?;
        Ok(Self { local, udp: None, tcp: Some(tcp) })
    }

    /// Reserves one port number for UDP and TCP, for a listener that serves both.
    ///
    /// # Errors
    /// As for [`udp`](Self::udp) and [`tcp`](Self::tcp).
    pub fn udp_and_tcp(addr: SocketAddr) -> Result<Self, DriverError> {
        let tries = if addr.port() == 0 { EPHEMERAL_TRIES } else { 1 };
        let mut refused = DriverError::TcpPortInUse(addr);
        // The UDP sockets of failed tries stay until the end: else the system might offer the same port again.
        let mut failed = Vec::new();
        for _ in 0..tries {
            let udp = Self::udp(addr)?;
            match Self::tcp(udp.local) {
                Ok(tcp) => return Ok(Self { tcp: tcp.tcp, ..udp }),
                Err(error @ DriverError::TcpPortInUse(_)) => refused = error,
                Err(error) => return Err(error),
            }
            failed.push(udp);
        }
        Err(refused)
    }

    /// What is reserved, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The UDP socket, to send and receive through: a second handle of the same socket, which keeps the port
    /// taken as this does.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] on a reservation for TCP only, [`DriverError::Io`] when out of descriptors.
    pub fn socket(&self) -> Result<UdpSocket, DriverError> {
        self.udp_half()?.try_clone().map_err(|source| DriverError::Io { what: "UDP socket handle", source })
    }

    /// More sockets on the same port (`SO_REUSEPORT`), one for each further partition. The kernel spreads flows
    /// over them. To everyone else the port stays in use.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] on a reservation for TCP only, [`DriverError::Io`] when the kernel refuses.
    pub fn siblings(&self, count: usize) -> Result<Vec<UdpSocket>, DriverError> {
        // Only now, after the first socket was bound alone: setting it before would have let this reservation
        // join another process's port instead of finding it in use.
        sockopt::set_socket_reuseport(self.udp_half()?, true)
            .map_err(|error| DriverError::Io { what: "SO_REUSEPORT", source: error.into() })?;
        (0..count).map(|_| open(self.local, SocketType::DGRAM, true).map(UdpSocket::from)).collect()
    }

    /// Lets the kernel drop what arrives at the UDP socket, while packets take the XDP path: nobody reads it, and
    /// strays must not fill its buffer.
    ///
    /// # Errors
    /// [`DriverError::Io`] when the kernel refuses.
    pub fn discard_arrivals(&self) -> Result<(), DriverError> {
        /// One instruction: return "keep 0 bytes".
        const DROP_ALL: libc::sock_filter =
            libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
        let mut program = [DROP_ALL];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        set_filter(self.udp_half()?.as_fd(), libc::SO_ATTACH_FILTER, &filter)
    }

    /// Ends [`discard_arrivals`](Self::discard_arrivals), to fall back to the UDP socket.
    ///
    /// # Errors
    /// [`DriverError::Io`] when the kernel refuses.
    pub fn accept_arrivals(&self) -> Result<(), DriverError> {
        match set_filter(self.udp_half()?.as_fd(), libc::SO_DETACH_FILTER, &0) {
            Err(DriverError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    fn udp_half(&self) -> Result<&UdpSocket, DriverError> {
        self.udp.as_ref().ok_or_else(|| DriverError::Unsupported {
            what: "a UDP socket",
            why: format!("port {} is reserved for TCP only", self.local.port()),
        })
    }
}

fn open(addr: SocketAddr, kind: SocketType, reuse_port: bool) -> Result<OwnedFd, DriverError> {
    let (family, protocol) = match (addr, kind == SocketType::STREAM) {
        (SocketAddr::V4(_), false) => (AddressFamily::INET, ipproto::UDP),
        (SocketAddr::V4(_), true) => (AddressFamily::INET, ipproto::TCP),
        (SocketAddr::V6(_), false) => (AddressFamily::INET6, ipproto::UDP),
        (SocketAddr::V6(_), true) => (AddressFamily::INET6, ipproto::TCP),
    };
    let attempt = || -> rustix::io::Result<OwnedFd> {
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
        if addr.ip() == Ipv6Addr::UNSPECIFIED {
            // Both families, whatever `net.ipv6.bindv6only` says: a port half reserved is not reserved.
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        if reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        bind(&fd, &addr)?;
        Ok(fd)
    };
    attempt().map_err(|error| explain(error.into(), addr, kind))
}

fn explain(source: io::Error, addr: SocketAddr, kind: SocketType) -> DriverError {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) if kind == SocketType::STREAM => DriverError::TcpPortInUse(addr),
        Some(libc::EADDRINUSE) => DriverError::PortInUse(addr),
        Some(libc::EACCES) if addr.port() < UNPRIVILEGED => {
            DriverError::MissingRights { what: "binding a port below 1024", rights: "CAP_NET_BIND_SERVICE" }
        }
        Some(libc::EADDRNOTAVAIL) => DriverError::Unsupported {
            what: "binding to this address",
            why: format!("{} is not an address of this machine; `ip address` lists them", addr.ip()),
        },
        Some(libc::EAFNOSUPPORT) => DriverError::Unsupported {
            what: "binding to this address",
            why: format!("the kernel runs without {}", if addr.is_ipv6() { "IPv6" } else { "IPv4" }),
        },
        Some(libc::EINVAL) if matches!(addr, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local()) => {
            DriverError::Unsupported {
                what: "binding to this address",
                why: format!("the link-local address {} needs a scope, such as %2 or %eth0", addr.ip()),
            }
        }
        _ => DriverError::Io { what: "port reservation", source },
    }
}

fn address_of(fd: impl AsFd) -> Result<SocketAddr, DriverError> {
    getsockname(fd)
        .and_then(SocketAddr::try_from)
        .map_err(|error| DriverError::Io { what: "socket address", source: error.into() })
}

fn set_filter<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> Result<(), DriverError> {
    // SAFETY: `value` is readable for its size; a filter it points to outlives the call, which copies it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(DriverError::Io { what: "socket filter", source: io::Error::last_os_error() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn a_port_in_use_is_told_and_free_after_the_drop() {
        for any in [ANY_PORT, "[::1]:0", "[::]:0", "0.0.0.0:0"] {
            let held = PortReservation::udp(parse(any)).expect("reserved");
            let addr = held.local_addr();
            assert_ne!(addr.port(), 0);
            let error = PortReservation::udp(addr).expect_err("in use");
            assert!(matches!(error, DriverError::PortInUse(told) if told == addr), "{error}");
            drop(held);
            PortReservation::udp(addr).expect("free again");
        }
    }

    #[test]
    fn an_ipv6_wildcard_reserves_ipv4_too() {
        let held = PortReservation::udp(parse("[::]:0")).expect("reserved");
        let v4 = SocketAddr::new(parse(ANY_PORT).ip(), held.local_addr().port());
        assert!(matches!(PortReservation::udp(v4), Err(DriverError::PortInUse(_))));
    }

    #[test]
    fn tcp_is_reserved_without_listening() {
        let held = PortReservation::udp_and_tcp(parse(ANY_PORT)).expect("reserved");
        let addr = held.local_addr();
        assert!(matches!(PortReservation::tcp(addr), Err(DriverError::TcpPortInUse(_))));
        let refused = std::net::TcpStream::connect(addr).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let only = PortReservation::tcp(parse(ANY_PORT)).expect("reserved");
        assert!(matches!(only.socket(), Err(DriverError::Unsupported { .. })));
    }

    #[test]
    fn udp_and_tcp_finds_a_port_free_for_both() {
        let tcp = PortReservation::tcp(parse(ANY_PORT)).expect("reserved");
        let error = PortReservation::udp_and_tcp(tcp.local_addr()).expect_err("TCP in use");
        assert!(matches!(error, DriverError::TcpPortInUse(addr) if addr == tcp.local_addr()));
        // The UDP half was given back.
        PortReservation::udp(tcp.local_addr()).expect("free");
    }

    #[test]
    fn an_address_of_no_interface_is_told() {
        let error = PortReservation::udp(parse("192.0.2.1:0")).expect_err("not ours");
        assert!(error.to_string().contains("192.0.2.1 is not an address of this machine"), "{error}");
    }

    #[test]
    fn arrivals_are_discarded_until_wanted() {
        let held = PortReservation::udp(parse(ANY_PORT)).expect("reserved");
        let socket = held.socket().expect("handle");
        socket.set_nonblocking(true).expect("option");
        let peer = UdpSocket::bind(ANY_PORT).expect("peer");
        held.discard_arrivals().expect("filter");
        peer.send_to(b"stray", held.local_addr()).expect("sent");
        held.accept_arrivals().expect("no filter");
        held.accept_arrivals().expect("twice does no harm");
        peer.send_to(b"wanted", held.local_addr()).expect("sent");
        // Loopback delivers before `send_to` returns.
        let mut buffer = [0; 16];
        let (len, _) = socket.recv_from(&mut buffer).expect("received");
        assert_eq!(&buffer[..len], b"wanted");
        assert!(socket.recv_from(&mut buffer).is_err());
    }

    #[test]
    fn siblings_share_the_port_and_strangers_do_not() {
        let held = PortReservation::udp(parse(ANY_PORT)).expect("reserved");
        let siblings = held.siblings(3).expect("siblings");
        assert!(matches!(PortReservation::udp(held.local_addr()), Err(DriverError::PortInUse(_))));
        let mut sockets = vec![held.socket().expect("handle")];
        sockets.extend(siblings);
        for n in 0..200 {
            let peer = UdpSocket::bind(ANY_PORT).expect("peer");
            peer.send_to(&[n], held.local_addr()).expect("sent");
        }
        let mut counts = Vec::new();
        for socket in &sockets {
            assert_eq!(socket.local_addr().expect("bound"), held.local_addr());
            socket.set_nonblocking(true).expect("option");
            let mut count = 0;
            while socket.recv_from(&mut [0; 4]).is_ok() {
                count += 1;
            }
            counts.push(count);
        }
        assert_eq!(counts.iter().sum::<i32>(), 200, "{counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    fn parse(addr: &str) -> SocketAddr {
        addr.parse().expect("address")
    }
}
