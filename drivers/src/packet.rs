//! The memory of one datagram on its way through the stack, and what is known about it.

use std::{net::SocketAddr, ops::Range};

use bytes::BytesMut;

use crate::{pooled::PooledBuf, umem::UmemFrame};

/// Bytes kept free in front of every transmit payload, so that the device can write its link, network and
/// transport headers in place: Ethernet 14, one VLAN tag 4, IPv6 40, TCP 20, rounded up to a cache line
/// boundary behind the 24 bytes of AF_XDP transmit metadata.
pub const TX_HEADROOM: usize = 128;

/// The ECN field of an IP header (RFC 3168 §5): the low two bits of the traffic class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct = 0b00,
    /// ECT(1).
    Ect1 = 0b01,
    /// ECT(0).
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// Takes the low two bits of a traffic class or TOS byte.
    pub fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// Memory that holds one packet, owned. Dropping it returns it to where it came from.
#[derive(Debug)]
pub enum PacketMemory {
    /// A UMEM frame of an AF_XDP device.
    Umem(UmemFrame),
    /// Heap memory, freed when dropped.
    Heap(BytesMut),
    /// Heap memory of the other devices, recycled when dropped.
    Pooled(PooledBuf),
}

/// A window onto [`PacketMemory`]: the bytes that matter at this layer. Layers above narrow it (strip
/// headers), layers below widen it into the headroom (prepend headers); the memory stays where it is.
#[derive(Debug)]
pub struct PacketBuf {
    memory: PacketMemory,
    start: u32,
    end: u32,
}

impl PacketBuf {
    /// Wraps memory; the window covers `range` of it.
    ///
    /// # Panics
    /// If `range` does not lie within the memory: a bug of the device.
    pub fn new(memory: PacketMemory, range: Range<usize>) -> Self {
        let capacity = match &memory {
            PacketMemory::Umem(frame) => frame.capacity(),
            PacketMemory::Heap(bytes) => bytes.len(),
            PacketMemory::Pooled(piece) => piece.len(),
        };
        assert!(range.start <= range.end && range.end <= capacity, "window {range:?} of {capacity} bytes");
        Self { memory, start: range.start as u32, end: range.end as u32 }
    }

    /// Heap memory of `capacity` payload bytes behind [`TX_HEADROOM`]; the window covers the payload.
    pub fn heap(capacity: usize) -> Self {
        let memory = PacketMemory::Heap(BytesMut::zeroed(TX_HEADROOM + capacity));
        Self::new(memory, TX_HEADROOM..TX_HEADROOM + capacity)
    }

    /// Bytes of the window.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the window is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes free in front of the window.
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Where the window lies in the memory.
    pub fn window(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of the window.
    pub fn as_slice(&self) -> &[u8] {
        let window = self.window();
        match &self.memory {
            PacketMemory::Umem(frame) => &frame.as_slice()[window],
            PacketMemory::Heap(bytes) => &bytes[window],
            PacketMemory::Pooled(piece) => &piece.as_slice()[window],
        }
    }

    /// The bytes of the window, to work on in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let window = self.window();
        match &mut self.memory {
            PacketMemory::Umem(frame) => &mut frame.as_mut_slice()[window],
            PacketMemory::Heap(bytes) => &mut bytes[window],
            PacketMemory::Pooled(piece) => &mut piece.as_mut_slice()[window],
        }
    }

    /// Narrows the window to `range`, counted from its present start.
    ///
    /// # Panics
    /// If `range` reaches outside the window: callers have checked lengths before.
    pub fn narrow(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        self.end = self.start + range.end as u32;
        self.start += range.start as u32;
    }

    /// Cuts the window to its first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.narrow(0..len);
    }

    /// Widens the window by `len` bytes into the headroom and returns those bytes, for a header.
    ///
    /// # Panics
    /// If the headroom is shorter than `len`.
    pub fn prepend(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.headroom(), "{len} bytes of header, {} of headroom", self.headroom());
        self.start -= len as u32;
        &mut self.as_mut_slice()[..len]
    }

    /// Notes who holds the memory now, where somebody keeps account of that (UMEM).
    #[inline]
    pub fn hold(&self, holder: u32) {
        if let PacketMemory::Umem(frame) = &self.memory {
            frame.hold(holder);
        }
    }

    /// The memory, without the window.
    pub fn into_memory(self) -> PacketMemory {
        self.memory
    }

    /// The memory, to look at what kind it is.
    pub fn memory(&self) -> &PacketMemory {
        &self.memory
    }
}

/// What the device tells of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxMeta {
    /// The window starts at the Ethernet header; the demux parses.
    Ethernet,
    /// The window is one UDP payload; the kernel (or the in-memory network) has parsed.
    Udp {
        /// Where it was sent to.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// The ECN field.
        ecn: Ecn,
    },
}

/// A received packet.
#[derive(Debug)]
pub struct RxPacket {
    /// The bytes.
    pub buf: PacketBuf,
    /// What is known of them.
    pub meta: RxMeta,
}

/// What the TCP header of a datagram says that travels in a TCP segment (QTIP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags, as [`wirepath_wire::tcp`] names them.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// The largest segment we take, and the scale of our window: told in a SYN.
    pub options: Option<SynOptions>,
}

/// Options of a SYN (RFC 9293 §3.7.1, RFC 7323 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size, in bytes of payload.
    pub mss: u16,
    /// Power of two that the window counts in.
    pub window_scale: u8,
}

/// A UDP payload to send, or (where [`crate::Driver::max_segments`] allows) a train of them.
#[derive(Debug)]
pub struct TxDatagram {
    /// The source address. An unspecified IP means: as the route says.
    pub local: SocketAddr,
    /// The destination.
    pub remote: SocketAddr,
    /// The ECN field.
    pub ecn: Ecn,
    /// `Some(n)`: the window holds several datagrams, each of `n` bytes but the last, which may be shorter.
    pub segment_size: Option<u16>,
    /// `Some`: goes in this TCP segment and not by UDP. Only devices of which
    /// [`Driver::sends_tcp`](crate::Driver::sends_tcp) is true take such.
    pub tcp: Option<TcpSegment>,
    /// The payload, with [`TX_HEADROOM`] in front.
    pub buf: PacketBuf,
}
