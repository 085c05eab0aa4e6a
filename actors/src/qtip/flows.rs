//! All flows of a stack, and what becomes of each segment.

use std::{
    collections::HashMap,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};
use wirepath_drivers::{TcpSegment, TxDatagram};
use wirepath_quic::NetPath;
use wirepath_trace::Nanos;
use wirepath_wire::{
    Tcp,
    tcp::{ACK, FIN, PSH, RST, SYN},
};

use super::{
    Cookies, EVICT_AFTER, MAX_FLOWS, MAX_WAITING, MIN_MSS, RESETS_PER_SECOND, SYN_RETRY, UNLIMITED_MSS,
    flow::{Flow, State, options, segment},
};

/// Parts of the table, each under a lock of its own: partitions rarely meet.
const SHARDS: usize = 16;

/// Flows looked at for one that may go, when a part is full: bounded work for each segment of a flood.
const EVICTION_LOOKS: usize = 32;

/// Flags that TCP uses for other ends than its state: ECN's (RFC 3168 §6.1).
pub(super) const IGNORED_FLAGS: u8 = 0xc0;

/// What becomes of a received segment.
#[derive(Debug)]
pub enum Verdict {
    /// Its payload is a QUIC datagram.
    Deliver,
    /// It was worth taking note of, and is done with.
    Noted,
    /// Answer with a segment without payload.
    Answer(TcpSegment),
    /// The flow is open: answer with this, then send those that waited.
    Opened(TcpSegment, Vec<TxDatagram>),
    /// Nothing, and the name of the counter.
    Drop(&'static str),
    /// Nothing but this answer, and the name of the counter.
    Refuse(TcpSegment, &'static str),
}

impl Verdict {
    /// What became of the segment: the name of the counter if it was dropped.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Deliver => "delivered",
            Self::Noted => "noted",
            Self::Answer(_) | Self::Opened(..) => "answered",
            Self::Drop(cause) | Self::Refuse(_, cause) => cause,
        }
    }
}

/// What becomes of a datagram to send.
#[derive(Debug)]
pub enum Sent {
    /// It goes, with its header.
    Now(TxDatagram),
    /// It waits; this SYN goes, if one is due.
    Waits(Option<TcpSegment>),
    /// It goes nowhere: the name of the counter.
    Dropped(&'static str),
}

/// The flows of a stack.
pub struct Flows {
    cookies: Cookies,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// When the next RST for an unknown flow may go, at an even pace.
    reset_due: AtomicU64,
}

#[derive(Default)]
pub(super) struct Shard {
    places: HashMap<NetPathKey, usize, RandomState>,
    flows: Vec<(NetPathKey, Flow)>,
    /// Where to look next for a flow that may go.
    hand: usize,
}

pub(super) type NetPathKey = (std::net::SocketAddr, std::net::SocketAddr);

impl Default for Flows {
    fn default() -> Self {
        Self {
            cookies: Cookies::default(),
            hasher: RandomState::new(),
            shards: Default::default(),
            reset_due: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Flows {
    /// Flows there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().flows.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A client means to send on this path. False if there are too many flows.
    pub fn open(&self, now: Nanos, path: &NetPath) -> bool {
        self.shard(path).insert(now, key(path), Flow::of_client(now))
    }

    /// The end of a flow: the RST to send, if the peer knows of it.
    pub fn close(&self, path: &NetPath) -> Option<TcpSegment> {
        let flow = self.shard(path).remove(&key(path))?;
        (flow.state == State::Open).then(|| flow.reset())
    }

    /// Puts a datagram into its flow. `mss`: the largest payload we take in a segment, to be told in a SYN.
    pub fn on_transmit(&self, now: Nanos, mss: u16, mut datagram: TxDatagram) -> Sent {
        let path = NetPath { local: datagram.local, remote: datagram.remote };
        let mut shard = self.shard(&path);
        let Some(flow) = shard.get(&key(&path)) else { return Sent::Dropped("qtip_flow_missing_dropped") };
        if flow.state == State::Open && flow.is_forgotten(now) {
            flow.state = State::Idle;
        }
        match flow.state {
            State::Open => {
                if datagram.buf.len() > flow.mss.into() {
                    return Sent::Dropped("qtip_mss_exceeded_dropped");
                }
                datagram.tcp = Some(flow.segment(ACK, datagram.buf.len()));
                Sent::Now(datagram)
            }
            State::Idle | State::SynSent(_) => {
                let syn = flow.due_syn(now, mss);
                if flow.waiting.len() >= MAX_WAITING {
                    if syn.is_none() {
                        return Sent::Dropped("qtip_waiting_full_dropped");
                    }
                    // QUIC has repeated the oldest meanwhile.
                    flow.waiting.remove(0);
                }
                flow.waiting.push(datagram);
                Sent::Waits(syn)
            }
        }
    }

    /// Judges a received segment. `options` are its TCP options; `listening`: whether new flows are welcome; `mss`: the
    /// largest payload we take in a segment.
    pub fn on_segment(
        &self,
        now: Nanos,
        path: &NetPath,
        tcp: &Tcp,
        options: &[u8],
        (listening, mss): (bool, u16),
    ) -> Verdict {
        match tcp.flags & !IGNORED_FLAGS & !PSH {
            SYN if listening => self.on_syn(now, path, tcp, options, mss),
            SYN => Verdict::Drop("qtip_syn_unexpected_dropped"),
            flags if flags == SYN | ACK => self.on_syn_ack(now, path, tcp, options),
            flags if flags & RST != 0 && flags & (SYN | FIN) == 0 => self.on_reset(path, tcp),
            flags if flags == FIN | ACK => self.on_fin(now, path, tcp),
            ACK => self.on_data(now, path, tcp, listening),
            _ => Verdict::Drop("tcp_flags_invalid_dropped"),
        }
    }

    fn on_syn(&self, now: Nanos, path: &NetPath, tcp: &Tcp, their: &[u8], mss: u16) -> Verdict {
        let their_mss = mss_of(their).unwrap_or(UNLIMITED_MSS);
        if their_mss < MIN_MSS {
            return Verdict::Drop("qtip_mss_undersized_dropped");
        }
        if let Some(flow) = self.shard(path).get(&key(path)) {
            if flow.client {
                return Verdict::Drop("qtip_syn_unexpected_dropped");
            }
            flow.renewed = true;
        }
        let number = self.cookies.make(now, path, their_mss);
        let answer = segment(number, tcp.sequence.wrapping_add(1), SYN | ACK);
        Verdict::Answer(TcpSegment { options: Some(options(mss)), ..answer })
    }

    fn on_syn_ack(&self, now: Nanos, path: &NetPath, tcp: &Tcp, their: &[u8]) -> Verdict {
        let mut shard = self.shard(path);
        let expected = |flow: &&mut Flow| {
            matches!(flow.state, State::SynSent(_)) && tcp.acknowledgement == flow.next.wrapping_add(1)
        };
        let Some(flow) = shard.get(&key(path)).filter(expected) else {
            return Verdict::Drop("qtip_syn_ack_unexpected_dropped");
        };
        let their_mss = mss_of(their).unwrap_or(UNLIMITED_MSS);
        if their_mss < MIN_MSS {
            return Verdict::Drop("qtip_mss_undersized_dropped");
        }
        (flow.state, flow.mss) = (State::Open, their_mss);
        (flow.seen, flow.unanswered) = (now, 0);
        (flow.next, flow.received) = (tcp.acknowledgement, tcp.sequence.wrapping_add(1));
        let waiting = std::mem::take(&mut flow.waiting);
        let answer = flow.segment(ACK, 0);
        let fitting = waiting.into_iter().filter(|datagram| datagram.buf.len() <= usize::from(their_mss));
        let released = fitting.map(|mut datagram| {
            datagram.tcp = Some(flow.segment(ACK, datagram.buf.len()));
            datagram
        });
        Verdict::Opened(answer, released.collect())
    }

    fn on_reset(&self, path: &NetPath, tcp: &Tcp) -> Verdict {
        let mut shard = self.shard(path);
        let Some(flow) = shard.get(&key(path)) else { return Verdict::Drop("qtip_reset_unmatched_dropped") };
        if !flow.believes_reset(tcp) {
            return Verdict::Drop("qtip_reset_out_of_window_dropped");
        }
        if flow.client {
            flow.state = State::Idle;
        } else {
            shard.remove(&key(path));
        }
        Verdict::Noted
    }

    /// The peer's TCP (not QTIP as we speak it) is done: so are we.
    fn on_fin(&self, now: Nanos, path: &NetPath, tcp: &Tcp) -> Verdict {
        let mut shard = self.shard(path);
        let Some(flow) = shard.get(&key(path)).filter(|flow| flow.state == State::Open) else {
            return Verdict::Drop("qtip_flow_unknown_dropped");
        };
        if !flow.is_near(tcp.sequence) {
            return Verdict::Drop("qtip_sequence_out_of_window_dropped");
        }
        flow.advance(now, end_of(tcp).wrapping_add(1));
        let reset = flow.reset();
        if flow.client {
            flow.state = State::Idle;
        } else {
            shard.remove(&key(path));
        }
        Verdict::Answer(reset)
    }

    fn on_data(&self, now: Nanos, path: &NetPath, tcp: &Tcp, listening: bool) -> Verdict {
        let mut shard = self.shard(path);
        match shard.get(&key(path)) {
            Some(flow) if flow.renewed => {
                if let Some(mss) = self.cookies.check(now, path, tcp.acknowledgement.wrapping_sub(1)) {
                    *flow = Flow::of_server(now, tcp.acknowledgement, end_of(tcp), mss);
                    return delivered(tcp);
                }
                Self::on_data_of(now, flow, tcp)
            }
            Some(flow) => Self::on_data_of(now, flow, tcp),
            None if listening => {
                let cookie = self.cookies.check(now, path, tcp.acknowledgement.wrapping_sub(1));
                let Some(mss) = cookie else { return self.refuse(now, tcp) };
                let flow = Flow::of_server(now, tcp.acknowledgement, end_of(tcp), mss);
                match shard.insert(now, key(path), flow) {
                    true => delivered(tcp),
                    false => Verdict::Drop("qtip_flow_limited_dropped"),
                }
            }
            None => Verdict::Drop("qtip_flow_unknown_dropped"),
        }
    }

    fn on_data_of(now: Nanos, flow: &mut Flow, tcp: &Tcp) -> Verdict {
        if flow.state != State::Open {
            return Verdict::Drop("qtip_state_mismatched_dropped");
        }
        if !flow.is_near(tcp.sequence) {
            return Verdict::Drop("qtip_sequence_out_of_window_dropped");
        }
        flow.advance(now, end_of(tcp));
        delivered(tcp)
    }

    /// A flow that is not known (any more): its client is to begin anew.
    fn refuse(&self, now: Nanos, tcp: &Tcp) -> Verdict {
        const INTERVAL: u64 = 1_000_000_000 / RESETS_PER_SECOND;
        const UNKNOWN: &str = "qtip_flow_unknown_dropped";
        let due = self.reset_due.load(Relaxed).max(now);
        // A tenth of a second's worth at once.
        if due - now > INTERVAL * RESETS_PER_SECOND / 10 {
            return Verdict::Drop("qtip_reset_limited_dropped");
        }
        // Two at once may count as one: a bound on the rate, not a balance.
        self.reset_due.store(due + INTERVAL, Relaxed);
        Verdict::Refuse(segment(tcp.acknowledgement, 0, RST), UNKNOWN)
    }

    /// Whether a segment answers the SYN/ACK by which a listener answered a SYN not long ago.
    pub(super) fn has_cookie(&self, now: Nanos, path: &NetPath, tcp: &Tcp) -> bool {
        self.cookies.check(now, path, tcp.acknowledgement.wrapping_sub(1)).is_some()
    }

    pub(super) fn shard(&self, path: &NetPath) -> MutexGuard<'_, Shard> {
        self.shards[self.hasher.hash_one(key(path)) as usize % SHARDS].lock()
    }
}

impl Flow {
    /// The SYN to send now, if it is time for one.
    fn due_syn(&mut self, now: Nanos, mss: u16) -> Option<TcpSegment> {
        match self.state {
            State::Idle => self.next = rand::random(),
            State::SynSent(at) if now.saturating_sub(at) >= SYN_RETRY => {}
            State::SynSent(_) | State::Open => return None,
        }
        self.state = State::SynSent(now);
        Some(self.syn(mss))
    }
}

impl Shard {
    pub(super) fn get(&mut self, key: &NetPathKey) -> Option<&mut Flow> {
        let place = *self.places.get(key)?;
        self.flows.get_mut(place).map(|(_, flow)| flow)
    }

    /// Adds or replaces a flow. False if all places are taken by flows that are in use.
    fn insert(&mut self, now: Nanos, key: NetPathKey, flow: Flow) -> bool {
        if let Some(present) = self.get(&key) {
            *present = flow;
            return true;
        }
        if self.flows.len() >= MAX_FLOWS / SHARDS && !self.evict(now) {
            return false;
        }
        self.places.insert(key, self.flows.len());
        self.flows.push((key, flow));
        true
    }

    fn remove(&mut self, key: &NetPathKey) -> Option<Flow> {
        let place = self.places.remove(key)?;
        let (_, flow) = self.flows.swap_remove(place);
        if let Some((moved, _)) = self.flows.get(place) {
            self.places.insert(*moved, place);
        }
        Some(flow)
    }

    fn evict(&mut self, now: Nanos) -> bool {
        for _ in 0..EVICTION_LOOKS.min(self.flows.len()) {
            self.hand = (self.hand + 1) % self.flows.len();
            let (key, flow) = &self.flows[self.hand];
            if !flow.client && now.saturating_sub(flow.seen) >= EVICT_AFTER {
                let key = *key;
                self.remove(&key);
                return true;
            }
        }
        false
    }
}

pub(super) fn key(path: &NetPath) -> NetPathKey {
    (path.local, path.remote)
}

fn delivered(tcp: &Tcp) -> Verdict {
    if tcp.payload.is_empty() { Verdict::Noted } else { Verdict::Deliver }
}

/// The sequence number behind a segment without SYN and FIN.
fn end_of(tcp: &Tcp) -> u32 {
    tcp.sequence.wrapping_add(tcp.payload.len() as u32)
}

/// The maximum segment size among TCP options (RFC 9293 §3.1, §3.7.1), if they are well-formed that far.
pub(super) fn mss_of(mut options: &[u8]) -> Option<u16> {
    loop {
        match options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [1, rest @ ..] => options = rest,
            [0, ..] | [] | [_] => return None,
            [_, len, ..] => options = options.get(usize::from(*len).max(2)..)?,
        }
    }
}
