//! Frames as they pass on a wire.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::{netns::Namespace, sys};

/// Larger than any frame: a veth link carries up to 64 KiB.
const LARGEST_FRAME: usize = 1 << 17;

/// A packet socket on an interface: what arrives there waits in its buffer (some megabytes), to be read when all is over.
pub struct Sniffer(OwnedFd);

impl fmt::Debug for Sniffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sniffer")
    }
}

impl Sniffer {
    /// Listens to an interface of a namespace.
    ///
    /// # Errors
    /// Without the right to, or without such an interface.
    pub fn start(namespace: &Namespace, interface: &str) -> io::Result<Self> {
        let interface = interface.to_owned();
        Ok(Self(namespace.run(move || sys::packet_socket(&interface))?))
    }

    /// The frames that have arrived since the last call, in order.
    ///
    /// # Errors
    /// The socket's; as when the interface has gone.
    pub fn frames(&self) -> io::Result<Vec<Vec<u8>>> {
        let (mut frames, mut buffer) = (Vec::new(), vec![0; LARGEST_FRAME]);
        loop {
            match recv(self.0.as_fd(), &mut buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => frames.push(buffer[..len].to_vec()),
                Err(Errno::AGAIN) => return Ok(frames),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a frame out of the interface.
    ///
    /// # Errors
    /// As for [`frames`](Self::frames).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.0.as_fd(), frame, SendFlags::empty())?;
        Ok(())
    }
}
