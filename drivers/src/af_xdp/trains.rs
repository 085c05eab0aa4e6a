//! Long runs of packets, sent through the XDP program instead of the TX ring: see [`XdpTransmitter`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    counters::Counters,
    routing::Way,
    tx::{Prepared, TxHalf},
};
use crate::{
    PacketBuf, TxDatagram, XdpSupport,
    umem::UmemPool,
    xdp::{TRANSMIT_SLOTS, XdpTransmitter},
};

/// Fewer packets than this cost less in the TX ring.
const MIN_TRAIN: usize = 24;
/// How often the interface is asked whether it still sends XDP frames: it says nothing when it doesn't. The question
/// costs some 30 us.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The way past the TX ring.
#[derive(Debug)]
pub(super) struct Trains {
    transmitter: XdpTransmitter,
    interface: u32,
    open: bool,
    asked: Option<Instant>,
    /// Why it is not used any more.
    pub(super) broken: Option<String>,
    /// What lies in the batch: sent through the ring if the kernel refuses it.
    held: Vec<PacketBuf>,
}

impl Trains {
    pub(super) fn new(transmitter: XdpTransmitter, interface: u32) -> Self {
        let held = Vec::with_capacity(TRANSMIT_SLOTS);
        Self { transmitter, interface, open: false, asked: None, broken: None, held }
    }

    /// Whether frames may be handed to the interface now.
    fn is_open(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let now = Instant::now();
        if self.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_EVERY) {
            self.asked = Some(now);
            self.open = XdpSupport::of(self.interface).is_ok_and(|support| support.transmit);
        }
        self.open
    }
}

impl TxHalf {
    /// Whether a train may come of this queue: then the link wants to be looked at first, since frames that bypass the
    /// ring tell nothing of it.
    pub(super) fn expects_train(&self, queue: &VecDeque<TxDatagram>) -> bool {
        self.trains.is_some() && queue.len() >= MIN_TRAIN
    }

    /// Sends trains from the front of `queue` as long as it is worth it, and the order of packets is kept. What is left
    /// is the ring's.
    pub(super) fn send_trains(
        &mut self,
        pool: &UmemPool,
        counters: &mut Counters,
        queue: &mut VecDeque<TxDatagram>,
    ) {
        let Some(mut trains) = self.trains.take() else { return };
        // Bounded by the queue: each round takes some off it, or ends the loop.
        while queue.len() >= MIN_TRAIN && self.tx.pending() == 0 && self.link_up && trains.is_open() {
            let before = queue.len();
            self.fill(&mut trains, pool, counters, queue);
            self.send_filled(&mut trains, pool, counters);
            if queue.len() == before {
                break;
            }
        }
        self.trains = Some(trains);
    }

    fn fill(
        &mut self,
        trains: &mut Trains,
        pool: &UmemPool,
        counters: &mut Counters,
        queue: &mut VecDeque<TxDatagram>,
    ) {
        while let Some(datagram) = queue.pop_front() {
            let to = match self.router.way(&datagram) {
                Way::Known(to) => to,
                other => {
                    self.divert(datagram, other, counters);
                    continue;
                }
            };
            match self.prepare(pool, counters, datagram, &to) {
                Prepared::Gone => {}
                Prepared::Full(datagram) | Prepared::Split(datagram) => {
                    queue.push_front(datagram);
                    break;
                }
                Prepared::Ready(buf, payload) => {
                    let fits = trains.transmitter.push(buf.as_slice());
                    trains.held.push(buf);
                    self.count(payload);
                    counters.tx_frame_handed += 1;
                    // No longer than the ring: it is to take what the kernel refuses.
                    if !fits || trains.held.len() == TRANSMIT_SLOTS.min(self.tx.size() as usize) {
                        break;
                    }
                }
            }
        }
    }

    /// Sends what was filled in; what the kernel does not take, through the ring.
    fn send_filled(&mut self, trains: &mut Trains, pool: &UmemPool, counters: &mut Counters) {
        if trains.held.is_empty() {
            return;
        }
        let sent = trains.transmitter.send().unwrap_or_else(|error| {
            trains.broken = Some(format!("trains are refused: {error}"));
            0
        });
        counters.tx_train_sent += u64::from(sent > 0);
        counters.tx_xdp_frame_sent += sent as u64;
        counters.tx_frame_completed += sent as u64;
        // The ring was empty, and a train is no longer than it.
        for buf in trains.held.drain(..).skip(sent) {
            self.submit(pool, counters, buf);
        }
    }
}
