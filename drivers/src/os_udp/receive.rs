//! Receiving: batches of GRO buffers from the kernel, cut into datagrams without a copy.

use std::{
    array,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};

use crate::{DriverError, Ecn, HeapPool, PacketBuf, PacketMemory, Pieces, PooledBuf, RxMeta, RxPacket};

/// The longest message the kernel hands over: a UDP payload, or up to 64 of them put together by GRO, is below
/// 64 KiB.
const BLOCK: usize = 65_536;

/// Received blocks in use by the layers above before the socket is left to fill up (and the kernel to drop):
/// 64 MiB.
const BLOCKS: usize = 1024;

/// Idle blocks kept: two full batches.
const IDLE_BLOCKS: usize = 2 * BATCH_SIZE;

/// With so many blocks in use, short messages are copied out, so that slow readers of small datagrams don't
/// hold 64 KiB each.
const COPY_OUT_ABOVE: usize = 4 * BATCH_SIZE;

/// What is short: one datagram of an Ethernet frame.
const SHORT: usize = 2048;

/// Copied-out datagrams in use: 32 MiB.
const SHORTS: usize = 16_384;
const IDLE_SHORTS: usize = 1024;

/// System calls in one `receive`. Bounds the time away from other work when datagrams come one at a time.
const MAX_CALLS: usize = 8;

/// Datagrams a message brings, as a running average in 1/16: where the estimate begins.
const ONE_SEGMENT: usize = 16;

/// The fewest messages to ask for in one call. Each costs some 10 ns to prepare, also when none comes.
const MIN_WIDTH: usize = 4;

/// The receiving half of the device.
pub(super) struct Receiver {
    port: u16,
    blocks: Arc<HeapPool>,
    shorts: Arc<HeapPool>,
    /// Empty buffers for the next call.
    empty: Vec<PooledBuf>,
    /// Messages received and not yet (wholly) handed up, the next one last.
    received: Vec<(Pieces, RxMeta)>,
    metas: Box<[RecvMeta; BATCH_SIZE]>,
    segments: usize,
    /// Messages to ask for in the next call.
    width: usize,
    empty_dropped: u64,
    malformed_dropped: u64,
    starved: u64,
    errors: u64,
}

impl Receiver {
    pub(super) fn new(local: SocketAddr) -> Self {
        Self {
            port: local.port(),
            blocks: HeapPool::new(BLOCK, BLOCKS, IDLE_BLOCKS),
            shorts: HeapPool::new(SHORT, SHORTS, IDLE_SHORTS),
            empty: Vec::with_capacity(BATCH_SIZE),
            received: Vec::with_capacity(BATCH_SIZE),
            metas: Box::new([RecvMeta::default(); BATCH_SIZE]),
            segments: ONE_SEGMENT,
            width: MIN_WIDTH,
            empty_dropped: 0,
            malformed_dropped: 0,
            starved: 0,
            errors: 0,
        }
    }

    /// Returns the datagrams and bytes appended to `into`. Fewer than `max` datagrams mean that none waited.
    pub(super) fn receive(
        &mut self,
        state: &UdpSocketState,
        socket: &UdpSocket,
        into: &mut Vec<RxPacket>,
        max: usize,
    ) -> Result<(usize, usize), DriverError> {
        let before = into.len();
        let mut bytes = 0;
        let mut calls = 0;
        loop {
            bytes += self.hand_up(into, before + max);
            let missing = before + max - into.len();
            if missing == 0 || calls == MAX_CALLS {
                break;
            }
            calls += 1;
            if !self.fill(state, socket, missing)? {
                bytes += self.hand_up(into, before + max);
                break;
            }
        }
        Ok((into.len() - before, bytes))
    }

    pub(super) fn name_counters(&self, into: &mut Vec<(&'static str, u64)>) {
        into.extend([
            ("rx_empty_dropped", self.empty_dropped),
            ("rx_malformed_dropped", self.malformed_dropped),
            ("rx_pool_starved", self.starved),
            ("rx_error_reported", self.errors),
            ("rx_block_allocated", self.blocks.allocated()),
        ]);
    }

    /// Moves received datagrams into `into` until it is `until` long.
    fn hand_up(&mut self, into: &mut Vec<RxPacket>, until: usize) -> usize {
        let mut bytes = 0;
        while let Some((pieces, meta)) = self.received.last_mut() {
            while into.len() < until {
                let Some(piece) = pieces.next() else { break };
                let len = piece.len();
                bytes += len;
                into.push(RxPacket { buf: PacketBuf::new(PacketMemory::Pooled(piece), 0..len), meta: *meta });
            }
            if pieces.len() > 0 {
                break;
            }
            self.received.pop();
        }
        bytes
    }

    /// One system call. Returns whether more may wait.
    fn fill(
        &mut self,
        state: &UdpSocketState,
        socket: &UdpSocket,
        missing: usize,
    ) -> Result<bool, DriverError> {
        // Ask for what is missing, judging by how many datagrams a message brought of late: a batch larger than
        // the caller takes would only push earlier ones out of the cache.
        let width = (missing * ONE_SEGMENT).div_ceil(self.segments).clamp(1, self.width);
        while self.empty.len() < width {
            let Some(block) = self.blocks.take() else { break };
            self.empty.push(block);
        }
        let width = width.min(self.empty.len());
        if width == 0 {
            self.starved += 1;
            return Ok(false);
        }
        let mut buffers = self.empty.iter_mut().rev();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [], PooledBuf::as_mut_slice)));
        match state.recv(UdpSockRef::from(socket), &mut slices[..width], &mut self.metas[..]) {
            Ok(messages) => {
                for n in 0..messages {
                    self.accept(self.metas[n]);
                }
                // The caller takes from the end.
                self.received.reverse();
                if messages == width {
                    self.width = (self.width * 2).min(BATCH_SIZE);
                } else if messages < self.width / 4 {
                    self.width = (self.width / 2).max(MIN_WIDTH);
                }
                Ok(messages == width)
            }
            Err(error) => self.on_error(error).map(|()| false),
        }
    }

    /// Takes over the last of the empty buffers, which holds the message `meta` tells of.
    fn accept(&mut self, meta: RecvMeta) {
        let Some(block) = self.empty.pop() else { return };
        let stride = if meta.stride == 0 { meta.len } else { meta.stride };
        if meta.len == 0 {
            self.empty_dropped += 1;
            return;
        }
        if meta.len > block.len() {
            self.malformed_dropped += 1;
            return;
        }
        let segments = meta.len.div_ceil(stride);
        self.segments = (self.segments * 7 + segments * ONE_SEGMENT).div_ceil(8);
        let mut pieces = block;
        if meta.len <= SHORT
            && self.blocks.in_use() > COPY_OUT_ABOVE
            && let Some(mut short) = self.shorts.take()
        {
            short.as_mut_slice()[..meta.len].copy_from_slice(&pieces.as_slice()[..meta.len]);
            pieces = short;
        }
        self.received.push((pieces.split(meta.len, stride), self.addresses(&meta)));
    }

    fn addresses(&self, meta: &RecvMeta) -> RxMeta {
        let local = match meta.dst_ip {
            // A link-local address means something on its own link only.
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(ip, self.port, 0, meta.interface_index.unwrap_or(0)))
            }
            Some(ip) => SocketAddr::new(ip.to_canonical(), self.port),
            None => SocketAddr::new(unspecified_like(meta.addr), self.port),
        };
        let ecn = match meta.ecn {
            None => Ecn::NotEct,
            Some(EcnCodepoint::Ect0) => Ecn::Ect0,
            Some(EcnCodepoint::Ect1) => Ecn::Ect1,
            Some(EcnCodepoint::Ce) => Ecn::Ce,
        };
        RxMeta::Udp { local, remote: canonical(meta.addr), ecn }
    }

    fn on_error(&mut self, error: io::Error) -> Result<(), DriverError> {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Some(libc::EBADF | libc::ENOTSOCK) => Err(DriverError::Gone(format!("UDP socket: {error}"))),
            // An ICMP message about an earlier datagram, or memory short for a moment: QUIC's own timers deal
            // with both (RFC 9000 §21.4 tells to distrust ICMP).
            _ => {
                self.errors += 1;
                Ok(())
            }
        }
    }
}

/// IPv4 addresses as such, also on IPv6 sockets; without a flow label, which is no part of the address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), v6.port()),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        },
        v4 => v4,
    }
}

fn unspecified_like(addr: SocketAddr) -> IpAddr {
    match canonical(addr) {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
