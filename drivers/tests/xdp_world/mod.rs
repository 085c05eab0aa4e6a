//! Two network namespaces joined by a veth pair, gone when dropped.
#![allow(unsafe_code, reason = "setns and AF_XDP sockets")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// Says that a test needs more than this process has. Returns whether it may run.
pub(crate) fn root_or_skip(name: &str) -> bool {
    // SAFETY: no arguments, no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("SKIPPED {name}: needs root");
    }
    root
}

/// `near` and `far`, each with one end of the pair, called `veth`, and the addresses 10.77.0.1 and 10.77.0.2.
pub(crate) struct World {
    pub(crate) near: String,
    pub(crate) far: String,
}

pub(crate) const NEAR: [u8; 4] = [10, 77, 0, 1];
pub(crate) const FAR: [u8; 4] = [10, 77, 0, 2];

impl World {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self { near: format!("wpd2-{id}-near"), far: format!("wpd2-{id}-far") };
        let (near, far) = (&world.near, &world.far);
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!("-n {near} link add veth type veth peer name veth netns {far}"));
        for (ns, address) in [(near, NEAR), (far, FAR)] {
            let address = std::net::Ipv4Addr::from(address);
            ip(&format!("-n {ns} address add {address}/24 dev veth"));
            ip(&format!("-n {ns} link set lo up"));
            ip(&format!("-n {ns} link set veth up"));
        }
        world
    }

    /// Runs `work` on a thread that lives in one of the namespaces.
    pub(crate) fn within<T: Send>(&self, ns: &str, work: impl FnOnce() -> T + Send) -> T {
        within(ns, work)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for ns in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", ns]).output();
        }
    }
}

/// Runs `work` on a thread that lives in the namespace `ns`.
pub(crate) fn within<T: Send>(ns: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{ns}")).expect("the namespace exists");
            // SAFETY: the descriptor is open; only this thread changes namespace.
            let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "setns: {}", io::Error::last_os_error());
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` and returns what it printed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An AF_XDP socket with an RX ring, bound to nothing: enough for the program's socket table.
pub(crate) fn unbound_xsk() -> OwnedFd {
    const SOL_XDP: i32 = 283;
    const XDP_RX_RING: i32 = 2;
    let entries: u32 = 64;
    // SAFETY: the option's value is four live bytes; the descriptor is checked before it is owned.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0);
        assert!(fd >= 0, "AF_XDP socket: {}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(fd);
        let result = libc::setsockopt(fd, SOL_XDP, XDP_RX_RING, (&raw const entries).cast(), 4);
        assert_eq!(result, 0, "XDP_RX_RING: {}", io::Error::last_os_error());
        socket
    }
}

/// A socket that sends whole frames out of an interface of this namespace and receives what comes in there.
pub(crate) fn packet_socket(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).expect("no NUL");
    // SAFETY: the name ends in NUL; `address` is live, of its own size, and zero is valid in each of its fields;
    // the descriptor is checked before it is owned.
    unsafe {
        let all = (libc::ETH_P_ALL as u16).to_be();
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all.into());
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let len = size_of::<libc::sockaddr_ll>() as u32;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), len), 0, "{}", io::Error::last_os_error());
        socket
    }
}

/// Sends a frame as it is.
pub(crate) fn send(socket: &OwnedFd, frame: &[u8]) {
    // SAFETY: the pointer is to that many live bytes.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(sent, frame.len() as isize, "send: {}", io::Error::last_os_error());
}

/// The next frame that came in, if one does within 100 ms. What the host itself sent is left out.
pub(crate) fn receive(socket: &OwnedFd) -> Option<Vec<u8>> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(100);
    while std::time::Instant::now() < deadline {
        let mut ready = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut frame = vec![0; 2048];
        // SAFETY: `ready`, `frame` and `from` are live and of the sizes told; zero is valid in each field of `from`.
        unsafe {
            if libc::poll(&raw mut ready, 1, 100) != 1 {
                return None;
            }
            let mut from: libc::sockaddr_ll = std::mem::zeroed();
            let mut len = size_of::<libc::sockaddr_ll>() as u32;
            let pointer = frame.as_mut_ptr().cast();
            let got = libc::recvfrom(ready.fd, pointer, frame.len(), 0, (&raw mut from).cast(), &raw mut len);
            assert!(got >= 0, "recv: {}", io::Error::last_os_error());
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                frame.truncate(got as usize);
                return Some(frame);
            }
        }
    }
    None
}

/// Runs `work` on a thread without capabilities.
pub(crate) fn without_rights<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // `struct __user_cap_header_struct` of version 3, and two empty `struct __user_cap_data_struct`.
            let header = [0x2008_0522u32, 0];
            let none = [0u32; 6];
            // SAFETY: both arrays have the layout and size that this version of the call reads; it changes
            // the calling thread only.
            let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
            assert_eq!(result, 0, "capset: {}", io::Error::last_os_error());
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
