//! The sending half: datagrams into the TX ring (or trains past it), kicks, frames back out of the completion ring.

use std::{collections::VecDeque, ptr};

use rustix::net::xdp::{XdpDesc, XdpDescOptions};
use wirepath_wire::{BuildError, TCP_EXTRA_LEN};

use super::{
    counters::Counters,
    device::{IPV4_UDP_LEN, IPV6_UDP_LEN},
    headers::{self, Addressing, Checksums},
    ring::{Consumer, Producer, RingFault},
    routing::{ParkedQueue, Router, Way},
    socket::{Kick, Socket},
    trains::Trains,
};
use crate::{
    PacketBuf, PacketMemory, TX_HEADROOM, TxDatagram,
    umem::{FILL_BATCH, UmemFrame, UmemPool},
};

/// Packets that one kick sends at least in copy mode, unless the kernel is short of something
/// (`TX_BATCH_SIZE`); later kernels take the whole ring.
const PACKETS_PER_KICK: u32 = 32;
/// `XDP_TX_METADATA`: there is metadata in front of the packet.
const TX_METADATA: u32 = 1 << 1;

/// What a datagram came to.
enum Outcome {
    /// It is in the ring, or dropped and counted.
    Gone,
    /// There is no room in the ring, or no frame to copy it into.
    Full(TxDatagram),
}

/// What became of a datagram on its way to a packet.
pub(super) enum Prepared {
    /// A packet in a frame of ours, headers and all, and the length of its payload.
    Ready(PacketBuf, usize),
    /// Dropped and counted.
    Gone,
    /// There is no frame to copy it into.
    Full(TxDatagram),
    /// It is longer than a frame.
    Split(TxDatagram),
}

/// TX and completion ring.
pub(super) struct TxHalf {
    pub(super) tx: Producer<XdpDesc>,
    completion: Consumer<u64>,
    pub(super) trains: Option<Trains>,
    pub(super) router: Router,
    pub(super) parked: ParkedQueue,
    pub(super) checksums: Checksums,
    /// Longest IP packet.
    pub(super) mtu: usize,
    pub(super) multi_buffer: bool,
    pub(super) link_up: bool,
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) kicks: u64,
}

impl TxHalf {
    pub(super) fn new(tx: Producer<XdpDesc>, completion: Consumer<u64>, router: Router) -> Self {
        Self {
            tx,
            completion,
            trains: None,
            router,
            parked: ParkedQueue::default(),
            checksums: Checksums::Software,
            mtu: 0,
            multi_buffer: false,
            link_up: true,
            datagrams: 0,
            bytes: 0,
            kicks: 0,
        }
    }

    /// Frees what the kernel is done with.
    #[inline]
    pub(super) fn reap(&mut self, pool: &UmemPool, counters: &mut Counters) -> Result<u32, RingFault> {
        let waiting = self.completion.available(FILL_BATCH as u32)?;
        if waiting == 0 {
            return Ok(0);
        }
        let mut addresses = [0; FILL_BATCH];
        let mut left = waiting;
        while left > 0 {
            let mut count = 0;
            while count < FILL_BATCH
                && let Some(address) = self.completion.pop()
            {
                addresses[count] = address;
                count += 1;
            }
            let refused = pool.complete(&addresses[..count]);
            counters.tx_completion_rejected += refused as u64;
            left -= count as u32;
        }
        self.completion.release();
        counters.tx_frame_completed += u64::from(waiting);
        Ok(waiting)
    }

    /// Moves datagrams from the front of `queue` into the ring until either has no more, after those that
    /// waited for their next hop and now have it.
    pub(super) fn enqueue(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        queue: &mut VecDeque<TxDatagram>,
    ) -> Result<(), RingFault> {
        let changed = self.router.refresh();
        if !self.parked.is_empty() {
            self.enqueue_parked(pool, counters, changed)?;
        }
        self.send_trains(pool, counters, queue);
        // Bounded by the queue: every round takes one off it or ends the loop.
        while let Some(datagram) = queue.pop_front() {
            let outcome = match self.router.way(&datagram) {
                Way::Known(to) => self.push(pool, counters, datagram, &to)?,
                other => {
                    self.divert(datagram, other, counters);
                    Outcome::Gone
                }
            };
            if let Outcome::Full(datagram) = outcome {
                queue.push_front(datagram);
                break;
            }
        }
        self.tx.publish();
        Ok(())
    }

    #[cold]
    fn enqueue_parked(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        changed: bool,
    ) -> Result<(), RingFault> {
        let mut parked = std::mem::take(&mut self.parked);
        let room = self.tx.free(parked.len() as u32)? as usize;
        let mut ready = Vec::new();
        parked.retry(
            &mut self.router,
            changed,
            |datagram, to| {
                if ready.len() == room {
                    return Some(datagram);
                }
                ready.push((datagram, to));
                None
            },
            counters,
        );
        let mut fault = None;
        for (datagram, to) in ready {
            match self.push(pool, counters, datagram, &to) {
                Ok(Outcome::Gone) => {}
                Ok(Outcome::Full(datagram)) => parked.park(datagram, counters),
                Err(error) => fault = Some(error),
            }
        }
        self.parked = parked;
        fault.map_or(Ok(()), Err)
    }

    #[cold]
    pub(super) fn divert(&mut self, datagram: TxDatagram, way: Way, counters: &mut Counters) {
        match way {
            Way::Pending => self.parked.park(datagram, counters),
            Way::Unreachable => counters.tx_unreachable_dropped += 1,
            Way::Mismatched => counters.tx_family_mismatched_dropped += 1,
            Way::Known(_) => {}
        }
    }

    #[inline]
    fn push(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        datagram: TxDatagram,
        to: &Addressing,
    ) -> Result<Outcome, RingFault> {
        if self.tx.free(1)? == 0 {
            return Ok(Outcome::Full(datagram));
        }
        match self.prepare(pool, counters, datagram, to) {
            Prepared::Ready(buf, payload) => {
                self.count(payload);
                counters.tx_frame_handed += 1;
                self.submit(pool, counters, buf);
                Ok(Outcome::Gone)
            }
            Prepared::Gone => Ok(Outcome::Gone),
            Prepared::Full(datagram) => Ok(Outcome::Full(datagram)),
            Prepared::Split(datagram) => self.push_split(pool, counters, datagram, to),
        }
    }

    /// Makes a packet of a datagram: in a frame of this UMEM, with headers.
    #[inline]
    pub(super) fn prepare(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        mut datagram: TxDatagram,
        to: &Addressing,
    ) -> Prepared {
        let payload = datagram.buf.len();
        if let Err(counter) = self.check(&datagram, to, counters) {
            *counter += 1;
            return Prepared::Gone;
        }
        let ours = matches!(datagram.buf.memory(), PacketMemory::Umem(frame) if ptr::eq(frame.pool(), pool));
        if !ours {
            if self.multi_buffer && TX_HEADROOM + payload > pool.frame_size() {
                return Prepared::Split(datagram);
            }
            let Some(copy) = copy_into(pool, &datagram.buf) else { return Prepared::Full(datagram) };
            counters.tx_datagram_copied += 1;
            datagram.buf = copy;
        }
        if let Err(error) = write_headers(&mut datagram, to, self.checksums) {
            *unbuildable(error, counters) += 1;
            return Prepared::Gone;
        }
        Prepared::Ready(datagram.buf, payload)
    }

    /// Puts a packet into the ring, which has room.
    #[inline]
    pub(super) fn submit(&mut self, pool: &UmemPool, counters: &mut Counters, buf: PacketBuf) {
        let window = buf.window();
        let PacketMemory::Umem(frame) = buf.into_memory() else { return };
        match pool.submit(frame) {
            Ok(address) => {
                let options = if self.checksums == Checksums::Device { TX_METADATA } else { 0 };
                self.push_descriptor(address + window.start as u64, window.len(), options);
            }
            Err(_) => counters.tx_frame_rejected += 1,
        }
    }

    #[inline]
    pub(super) fn count(&mut self, payload: usize) {
        self.datagrams += 1;
        self.bytes += payload as u64;
    }

    /// Whether it can be sent at all; else the counter of the reason.
    #[inline]
    fn check<'a>(
        &self,
        datagram: &TxDatagram,
        to: &Addressing,
        counters: &'a mut Counters,
    ) -> Result<(), &'a mut u64> {
        let payload = datagram.buf.len();
        let headers = if to.remote.is_ipv4() { IPV4_UDP_LEN } else { IPV6_UDP_LEN } as usize
            + if datagram.tcp.is_some() { TCP_EXTRA_LEN } else { 0 };
        if datagram.segment_size.is_some_and(|size| usize::from(size) < payload) {
            Err(&mut counters.tx_train_dropped)
        } else if payload + headers > self.mtu {
            Err(&mut counters.tx_too_long_dropped)
        } else if !self.link_up {
            Err(&mut counters.tx_link_down_dropped)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn push_descriptor(&mut self, addr: u64, len: usize, options: u32) {
        let options = XdpDescOptions::from_bits_retain(options);
        let pushed = self.tx.push(XdpDesc { addr, len: len as u32, options });
        debug_assert!(pushed, "a free slot was seen before");
    }

    /// Sends a packet longer than a frame: its parts are copied into as many as it takes.
    #[cold]
    fn push_split(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        mut datagram: TxDatagram,
        to: &Addressing,
    ) -> Result<Outcome, RingFault> {
        let payload = datagram.buf.len();
        let parts = (payload + TX_HEADROOM).div_ceil(pool.frame_size());
        if self.tx.free(parts as u32)? < parts as u32 {
            return Ok(Outcome::Full(datagram));
        }
        let mut frames: Vec<UmemFrame> = Vec::with_capacity(parts);
        if pool.lease_many(parts, |frame| frames.push(frame)) < parts {
            return Ok(Outcome::Full(datagram));
        }
        // Metadata would lie in front of the first part; software does as well for what is copied anyway.
        let checksums = match self.checksums {
            Checksums::Device => Checksums::Software,
            other => other,
        };
        if let Err(error) = write_headers(&mut datagram, to, checksums) {
            *unbuildable(error, counters) += 1;
            return Ok(Outcome::Gone);
        }
        let mut chunks = datagram.buf.as_slice().chunks(pool.frame_size()).peekable();
        for mut frame in frames {
            let Some(chunk) = chunks.next() else { break };
            frame.as_mut_slice()[..chunk.len()].copy_from_slice(chunk);
            let more = if chunks.peek().is_some() { XdpDescOptions::XDP_PKT_CONTD.bits() } else { 0 };
            match pool.submit(frame) {
                Ok(address) => self.push_descriptor(address, chunk.len(), more),
                Err(_) => counters.tx_frame_rejected += 1,
            }
        }
        counters.tx_datagram_copied += 1;
        counters.tx_frame_handed += parts as u64;
        self.datagrams += 1;
        self.bytes += payload as u64;
        Ok(Outcome::Gone)
    }

    /// Kicks until the ring is drained or the kernel takes no more. Tells whether it is drained.
    ///
    /// In copy mode nothing leaves without a kick, whatever need-wakeup says; in zero-copy mode the driver
    /// drains the ring by itself and one kick wakes it.
    pub(super) fn kick(
        &mut self,
        socket: &Socket,
        pool: &UmemPool,
        counters: &mut Counters,
    ) -> Result<Kick, RingFault> {
        if socket.zero_copy && !self.tx.needs_wakeup() {
            return Ok(Kick::Done);
        }
        let mut pending = self.tx.pending();
        for _ in 0..self.tx.size() / PACKETS_PER_KICK + 2 {
            if pending == 0 {
                break;
            }
            self.kicks += 1;
            match socket.kick_tx() {
                Kick::Done => {}
                Kick::Again => counters.tx_kick_deferred += 1,
                Kick::LinkDown => {
                    self.link_up = false;
                    return Ok(Kick::LinkDown);
                }
                Kick::Gone => return Ok(Kick::Gone),
            }
            self.link_up = true;
            if socket.zero_copy {
                return Ok(Kick::Done);
            }
            let left = self.tx.pending();
            // Without progress the completion ring may be what is full.
            if left == pending && self.reap(pool, counters)? == 0 {
                return Ok(Kick::Again);
            }
            pending = left;
        }
        Ok(if pending == 0 { Kick::Done } else { Kick::Again })
    }

    /// Asks for the state of the link.
    #[cold]
    pub(super) fn probe(&mut self, socket: &Socket) -> Kick {
        self.kicks += 1;
        let kick = socket.kick_tx();
        self.link_up = !matches!(kick, Kick::LinkDown | Kick::Gone);
        kick
    }

    /// Entries of the TX and the completion ring.
    pub(super) fn sizes(&self) -> (u32, u32) {
        (self.tx.size(), self.completion.size())
    }

    /// Whether the kernel asks to be told of packets in the TX ring.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Packets in the TX ring, and frames in the completion ring.
    pub(super) fn pending(&self) -> (usize, usize) {
        (self.tx.pending() as usize, self.completion.pending() as usize)
    }
}

#[inline]
fn write_headers(datagram: &mut TxDatagram, to: &Addressing, checksums: Checksums) -> Result<(), BuildError> {
    match &datagram.tcp {
        None => headers::write(&mut datagram.buf, to, checksums),
        Some(segment) => headers::write_segment(&mut datagram.buf, to, segment, checksums),
    }
}

/// A copy of a payload in a frame of this UMEM.
#[cold]
fn copy_into(pool: &UmemPool, buf: &PacketBuf) -> Option<PacketBuf> {
    let mut frame = pool.lease()?;
    let window = TX_HEADROOM..TX_HEADROOM + buf.len();
    frame.as_mut_slice().get_mut(window.clone())?.copy_from_slice(buf.as_slice());
    Some(PacketBuf::new(PacketMemory::Umem(frame), window))
}

#[cold]
fn unbuildable(error: BuildError, counters: &mut Counters) -> &mut u64 {
    match error {
        BuildError::NoRoom { .. } => &mut counters.tx_headroom_missing_dropped,
        BuildError::TooLong => &mut counters.tx_too_long_dropped,
        BuildError::FamilyMismatched => &mut counters.tx_family_mismatched_dropped,
    }
}
