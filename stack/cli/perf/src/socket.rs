//! UDP sockets, for the stacks that take one ready made.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::Options;

impl Options {
    /// A bound UDP socket with buffers of `--sockbuf`: beyond the system's limit where the process may, else up
    /// to it.
    ///
    /// # Errors
    /// The address can't be bound.
    pub fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(addr)?;
        setsockopt(&socket, sockopt::RcvBufForce, &self.sockbuf)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &self.sockbuf))?;
        setsockopt(&socket, sockopt::SndBufForce, &self.sockbuf)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &self.sockbuf))?;
        Ok(socket)
    }
}
