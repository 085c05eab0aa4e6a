//! The UDP socket, with timeouts.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use quiche::{Connection, ConnectionId};

use crate::Result;

/// Larger than any datagram.
const BUFFER: usize = 65536;

/// The longest wait: what is to be done now and then is looked at so often.
const WAIT: Duration = Duration::from_millis(20);

/// A socket with its buffer.
pub(crate) struct Socket {
    inner: UdpSocket,
    pub(crate) local: SocketAddr,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn bind(at: SocketAddr) -> Result<Self> {
        let inner = UdpSocket::bind(at)?;
        let local = inner.local_addr()?;
        Ok(Self { inner, local, buffer: vec![0; BUFFER] })
    }

    /// The address that datagrams to `peer` come from.
    pub(crate) fn connected(at: SocketAddr, peer: SocketAddr) -> Result<Self> {
        let mut this = Self::bind(at)?;
        this.inner.connect(peer)?;
        this.local = this.inner.local_addr()?;
        Ok(this)
    }

    /// A datagram, if one comes within that time, or within [`WAIT`].
    pub(crate) fn receive(&mut self, within: Option<Duration>) -> Result<Option<(&mut [u8], SocketAddr)>> {
        let wait = within.unwrap_or(WAIT).clamp(Duration::from_millis(1), WAIT);
        self.inner.set_read_timeout(Some(wait))?;
        match self.inner.recv_from(&mut self.buffer) {
            Ok((len, from)) => Ok(Some((&mut self.buffer[..len], from))),
            // That nobody listens (yet, or any more) is for timers to find out.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all that a connection has to send.
    pub(crate) fn flush(&mut self, connection: &mut Connection) -> Result<()> {
        loop {
            match connection.send(&mut self.buffer) {
                Ok((len, info)) => self.send(len, info.to),
                Err(quiche::Error::Done) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has a packet written, and sends it.
    pub(crate) fn answer(
        &mut self,
        to: SocketAddr,
        write: impl FnOnce(&mut [u8]) -> quiche::Result<usize>,
    ) -> Result<()> {
        let len = write(&mut self.buffer)?;
        self.send(len, to);
        Ok(())
    }

    /// What can't be sent is lost, as it may be anywhere.
    fn send(&self, len: usize, to: SocketAddr) {
        let datagram = &self.buffer[..len];
        let _ = match self.inner.peer_addr() {
            Ok(_) => self.inner.send(datagram),
            Err(_) => self.inner.send_to(datagram, to),
        };
    }
}

/// A connection ID of ours.
pub(crate) fn connection_id() -> Result<ConnectionId<'static>> {
    let mut id = vec![0; quiche::MAX_CONN_ID_LEN];
    boring::rand::rand_bytes(&mut id)?;
    Ok(ConnectionId::from_vec(id))
}
