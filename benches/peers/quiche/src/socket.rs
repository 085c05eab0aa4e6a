//! One UDP socket: recvmmsg with GRO in, GSO out.

use std::{
    array,
    io::{self, IoSliceMut},
    net::SocketAddr,
    task::{Context, Poll},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// The most that GRO puts together.
const BUFFER_LEN: usize = 1 << 16;

pub(crate) struct Socket {
    /// As bound; quiche knows its paths by it.
    pub(crate) local: SocketAddr,
    udp: UdpSocket,
    state: UdpSocketState,
}

/// What one call may receive into.
pub(crate) struct Inbox(Vec<u8>);

impl Inbox {
    pub(crate) fn new() -> Self {
        Self(vec![0; BATCH_SIZE * BUFFER_LEN])
    }
}

impl Socket {
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { local: socket.local_addr()?, udp: UdpSocket::from_std(socket)?, state })
    }

    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.udp.poll_recv_ready(context)
    }

    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// One recvmmsg; `each` takes the datagrams. Whether there may be more.
    pub(crate) fn receive(
        &self,
        inbox: &mut Inbox,
        mut each: impl FnMut(&mut [u8], SocketAddr),
    ) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut count = 0;
        let outcome = self.udp.try_io(Interest::READABLE, || {
            let mut buffers = inbox.0.chunks_exact_mut(BUFFER_LEN);
            let mut slices: [_; BATCH_SIZE] =
                array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            count = self.state.recv((&self.udp).into(), &mut slices, &mut metas)?;
            // Fewer than asked for: it is empty, which the next call would tell, and would cost.
            if count < BATCH_SIZE { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        for (meta, buffer) in metas[..count].iter().zip(inbox.0.chunks_exact_mut(BUFFER_LEN)) {
            buffer[..meta.len].chunks_mut(meta.stride.max(1)).for_each(|datagram| each(datagram, meta.addr));
        }
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Sends `bytes` as datagrams of `segment` bytes, of which the last may be shorter; waits for room.
    pub(crate) async fn send(&self, bytes: &[u8], segment: usize, destination: SocketAddr) -> io::Result<()> {
        let transmit =
            Transmit { destination, ecn: None, contents: bytes, segment_size: Some(segment), src_ip: None };
        loop {
            let sent =
                self.udp.try_io(Interest::WRITABLE, || self.state.try_send((&self.udp).into(), &transmit));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.udp.writable().await?,
                // Others are of this train, such as a probe larger than the link: as if lost on the way.
                _ => return Ok(()),
            }
        }
    }
}
