//! The way of one sampled datagram, hop by hop.
//!
//! A journey travels with its datagram, in a box that only sampled ones have, and each hop begins where the one before
//! ended: so the hops always sum to the total. When the box goes, by whatever way, the journey is in the ring.

use std::{net::SocketAddr, sync::Arc};

use crate::{Nanos, Tracer, payload::Payload};

/// Hops a journey has at most; the longest way there is has six.
pub const MAX_HOPS: usize = 8;

/// Bytes of CID kept, the most QUIC v1 has (RFC 9000 §17.2).
pub const MAX_CID_LEN: usize = 20;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received.
    Rx,
    /// Sent.
    Tx,
}

/// A place where a datagram spends time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// RX: taken out of the device. TX: waiting in the device's mailbox and queue.
    Device,
    /// Finding the binding.
    Demux,
    /// With a listener.
    Listener,
    /// RX: in a connection's mailbox, and behind others of its batch. TX: packets are built.
    Connection,
    /// In the QUIC state machine.
    Quic,
    /// From there to the woken reader.
    Stream,
    /// From the application's command to the connection's turn.
    Application,
    /// Headers, ring and kick, or the system call.
    Ring,
    /// From the kick until the kernel was seen to be done with it.
    Kernel,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Device,
        Self::Demux,
        Self::Listener,
        Self::Connection,
        Self::Quic,
        Self::Stream,
        Self::Application,
        Self::Ring,
        Self::Kernel,
    ];

    /// Its name, as in "demux".
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Demux => "demux",
            Self::Listener => "listener",
            Self::Connection => "connection",
            Self::Quic => "quic",
            Self::Stream => "stream",
            Self::Application => "application",
            Self::Ring => "ring",
            Self::Kernel => "kernel",
        }
    }

    pub(crate) fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n)).copied()
    }
}

/// One stage of a journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where.
    pub stage: Stage,
    /// The actor; 0 where the stage is none.
    pub actor: u64,
    /// How long the datagram waited here before it was worked on.
    pub wait: Nanos,
    /// How long it was worked on, with those of its batch.
    pub run: Nanos,
    /// Items worked on together with it.
    pub batch: u32,
}

/// What is known of a datagram and its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JourneyRecord {
    /// Unique in its stack.
    pub id: u64,
    /// Which way.
    pub direction: Direction,
    /// When its first hop began.
    pub begin: Nanos,
    /// When its last hop ended.
    pub end: Nanos,
    /// UDP payload bytes.
    pub len: u32,
    /// Local and peer's address, as far as it came to that.
    pub path: Option<(SocketAddr, SocketAddr)>,
    /// The local CID it names, as far as it came to that: length and bytes.
    pub cid: (u8, [u8; MAX_CID_LEN]),
    /// The connection's actor; 0 if it came to none.
    pub connection: u64,
    /// `delivered`, `sent`, or the cause of its drop.
    pub outcome: &'static str,
    /// How many of `hops` there are.
    pub hop_count: u8,
    /// The hops.
    pub hops: [Hop; MAX_HOPS],
}

impl JourneyRecord {
    /// The hops, in order.
    pub fn hops(&self) -> &[Hop] {
        &self.hops[..usize::from(self.hop_count).min(MAX_HOPS)]
    }

    /// The CID's bytes.
    pub fn cid(&self) -> &[u8] {
        &self.cid.1[..usize::from(self.cid.0).min(MAX_CID_LEN)]
    }

    /// From the beginning of the first hop to the end of the last.
    pub fn total(&self) -> Nanos {
        self.end - self.begin
    }
}

/// A journey under way.
#[derive(Debug)]
pub struct Journey {
    record: JourneyRecord,
    truncated: bool,
    payload: Option<Payload>,
    tracer: Arc<Tracer>,
}

const NO_HOP: Hop = Hop { stage: Stage::Device, actor: 0, wait: 0, run: 0, batch: 0 };

impl Journey {
    pub(crate) fn new(tracer: Arc<Tracer>, id: u64, direction: Direction, begin: Nanos) -> Box<Self> {
        let record = JourneyRecord {
            id,
            direction,
            begin,
            end: begin,
            len: 0,
            path: None,
            cid: (0, [0; MAX_CID_LEN]),
            connection: 0,
            outcome: "unfinished",
            hop_count: 0,
            hops: [NO_HOP; MAX_HOPS],
        };
        Box::new(Self { record, truncated: false, payload: None, tracer })
    }

    /// Notes a hop: from the end of the one before the datagram waited until `begun`, and was worked on until `done`.
    pub fn hop(&mut self, stage: Stage, actor: u64, begun: Nanos, done: Nanos, batch: usize) {
        let record = &mut self.record;
        // Clock readings of different threads may be a little apart: time never runs backwards here.
        let begun = begun.max(record.end);
        let done = done.max(begun);
        if let Some(hop) = record.hops.get_mut(usize::from(record.hop_count)) {
            let batch = batch.min(u32::MAX as usize) as u32;
            *hop = Hop { stage, actor, wait: begun - record.end, run: done - begun, batch };
            record.hop_count += 1;
            record.end = done;
        } else if !std::mem::replace(&mut self.truncated, true) {
            self.tracer.on_truncated();
        }
    }

    /// Notes what is known of the datagram.
    pub fn set_path(&mut self, local: SocketAddr, remote: SocketAddr, len: usize) {
        self.record.path = Some((local, remote));
        self.record.len = len as u32;
    }

    /// Keeps its bytes, or those of the train of `segment` bytes each that it is, if bytes are kept at all.
    pub fn set_payload(&mut self, bytes: &[u8], segment: Option<u16>) {
        if self.tracer.keeps_payloads() {
            self.payload = Some(Payload::of(self.record.id, bytes, segment));
        }
    }

    /// Notes its length in bytes.
    pub fn set_len(&mut self, len: usize) {
        self.record.len = len as u32;
    }

    /// Notes the local CID.
    pub fn set_cid(&mut self, cid: &[u8]) {
        let len = cid.len().min(MAX_CID_LEN);
        self.record.cid.0 = len as u8;
        self.record.cid.1[..len].copy_from_slice(&cid[..len]);
    }

    /// Notes the connection's actor.
    pub fn set_connection(&mut self, actor: u64) {
        self.record.connection = actor;
    }

    /// When its last hop ended.
    pub fn end(&self) -> Nanos {
        self.record.end
    }

    /// Ends it. One that just goes ends as `unfinished`: its message met an actor that had ended, or a full mailbox.
    pub fn finish(mut self: Box<Self>, outcome: &'static str) {
        self.record.outcome = outcome;
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        self.tracer.keep(&self.record, self.payload.take());
    }
}
