//! The receiving half: frames into the fill ring, packets out of the RX ring.

use bytes::BytesMut;
use rustix::net::xdp::{XdpDesc, XdpDescOptions};

use super::{
    counters::Counters,
    ring::{Consumer, Producer, RingFault},
};
use crate::{
    PacketBuf, PacketMemory, RxMeta, RxPacket,
    umem::{FILL_BATCH, UmemFrame, UmemPool},
};

/// The longest packet joined from several frames: the largest MTU there is, and its Ethernet header.
const JOINED_MAX: usize = 65_535 + 18;

/// Fill and RX ring.
#[derive(Debug)]
pub(super) struct RxHalf {
    fill: Producer<u64>,
    rx: Consumer<XdpDesc>,
    /// Slots of the fill ring that make a refill worth its lock.
    refill_at: u32,
    joining: Joining,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// A packet of which more frames are to come (`XDP_PKT_CONTD`).
#[derive(Debug)]
enum Joining {
    None,
    Collecting(BytesMut),
    /// Too long or damaged: the rest of it is skipped.
    Skipping,
}

impl RxHalf {
    pub(super) fn new(fill: Producer<u64>, rx: Consumer<XdpDesc>) -> Self {
        let refill_at = (fill.size() / 4).min(FILL_BATCH as u32);
        Self { fill, rx, refill_at, joining: Joining::None, packets: 0, bytes: 0 }
    }

    /// Appends up to `max` packets to `into`.
    #[inline]
    pub(super) fn receive(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        into: &mut Vec<RxPacket>,
        max: usize,
    ) -> Result<usize, RingFault> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let waiting = self.rx.available(max)?.min(max);
        if waiting == 0 {
            return Ok(0);
        }
        let before = into.len();
        let mut bytes = 0;
        into.reserve(waiting as usize);
        for _ in 0..waiting {
            let Some(descriptor) = self.rx.pop() else { break };
            if let Some(packet) = self.accept(pool, counters, descriptor) {
                bytes += packet.buf.len() as u64;
                into.push(packet);
            }
        }
        self.rx.release();
        let received = into.len() - before;
        self.packets += received as u64;
        self.bytes += bytes;
        Ok(received)
    }

    #[inline]
    fn accept(&mut self, pool: &UmemPool, counters: &mut Counters, descriptor: XdpDesc) -> Option<RxPacket> {
        let more = descriptor.options.contains(XdpDescOptions::XDP_PKT_CONTD);
        let (frame, start) = match pool.received(descriptor.addr) {
            Ok(received) => received,
            Err(_) => {
                counters.rx_descriptor_rejected += 1;
                self.skip_rest(more);
                return None;
            }
        };
        let end = start + descriptor.len as usize;
        if end > frame.capacity() {
            counters.rx_frame_quarantined += 1;
            pool.quarantine(frame);
            self.skip_rest(more);
            return None;
        }
        if more || !matches!(self.joining, Joining::None) {
            return self.join(counters, &frame.as_slice()[start..end], more);
        }
        Some(ethernet(frame, start, end))
    }

    #[cold]
    fn skip_rest(&mut self, more: bool) {
        self.joining = if more { Joining::Skipping } else { Joining::None };
    }

    /// Copies the parts of a packet in several frames together. The frames return at once.
    #[cold]
    fn join(&mut self, counters: &mut Counters, part: &[u8], more: bool) -> Option<RxPacket> {
        let mut joined = match std::mem::replace(&mut self.joining, Joining::None) {
            Joining::None => BytesMut::with_capacity(2 * part.len()),
            Joining::Collecting(joined) => joined,
            Joining::Skipping => {
                self.skip_rest(more);
                return None;
            }
        };
        if joined.len() + part.len() > JOINED_MAX {
            counters.rx_too_long_dropped += 1;
            self.skip_rest(more);
            return None;
        }
        joined.extend_from_slice(part);
        if more {
            self.joining = Joining::Collecting(joined);
            return None;
        }
        counters.rx_packet_joined += 1;
        let window = 0..joined.len();
        Some(RxPacket { buf: PacketBuf::new(PacketMemory::Heap(joined), window), meta: RxMeta::Ethernet })
    }

    /// Keeps the fill ring filled, as far as there are frames. Tells whether the kernel must be called for it.
    #[inline]
    pub(super) fn refill(&mut self, pool: &UmemPool, counters: &mut Counters) -> Result<bool, RingFault> {
        let mut free = self.fill.free(self.refill_at)?;
        if free < self.refill_at {
            return Ok(false);
        }
        let mut addresses = [0; FILL_BATCH];
        let (mut published, mut short) = (false, false);
        // Each round but the last moves a whole batch: at most size / FILL_BATCH + 1 rounds.
        while free > 0 {
            let wanted = (free as usize).min(FILL_BATCH);
            let taken = pool.take_for_fill(wanted, &mut addresses);
            for &address in &addresses[..taken] {
                // Never refused: `taken` is at most what the ring said is free.
                let pushed = self.fill.push(address);
                debug_assert!(pushed);
            }
            published |= taken > 0;
            free -= taken as u32;
            if taken < wanted {
                counters.rx_refill_shortened += 1;
                short = true;
                break;
            }
        }
        if published {
            self.fill.publish();
        }
        let size = self.fill.size();
        pool.set_rx_low(short && self.fill.free(size)? > size / 2);
        Ok(published && self.fill.needs_wakeup())
    }

    /// Entries of the fill and the RX ring.
    pub(super) fn sizes(&self) -> (u32, u32) {
        (self.fill.size(), self.rx.size())
    }

    /// Whether the kernel asks to be told of frames in the fill ring.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Frames in the fill ring that the kernel has not taken, and packets in the RX ring.
    pub(super) fn pending(&self) -> (usize, usize) {
        (self.fill.pending() as usize, self.rx.pending() as usize)
    }
}

#[inline]
fn ethernet(frame: UmemFrame, start: usize, end: usize) -> RxPacket {
    RxPacket { buf: PacketBuf::new(PacketMemory::Umem(frame), start..end), meta: RxMeta::Ethernet }
}
