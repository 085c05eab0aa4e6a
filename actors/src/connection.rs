//! The connection actor: owns one QUIC state machine, its timer, and its application's link.
//!
//! Whatever comes in (datagrams, commands, a timeout), the turn ends the same way: what the machine has to tell
//! goes to the link and the tables, what it has to send goes to the device, and the timer is set.

mod requests;
mod route;
mod streams;
mod trace;
mod transmit;

use std::{net::SocketAddr, sync::Arc};

use smallvec::SmallVec;
use wirepath_quic::{Cid, CloseReason, Event, StreamId};
use wirepath_trace::{BatchClock, Nanos, Sampler};

use crate::{
    clock::{nanos, timestamp},
    demux::DatagramBatch,
    egress::Egress,
    kit::{Mailbox, Member, Shift, StopReason},
    link::{Agreed, Command, ConnectionLink},
    listener::AcceptRouter,
    partition::PartitionLoad,
    pool_shard::SocketLease,
    qlog::{QlogBuffer, QlogWriter},
    tables::{ResetToken, Tables},
    timers::Timers,
    tokens::TokenSink,
    traced::Traced,
};
pub use requests::Move;
use requests::Requests;
use streams::StreamTable;
use trace::Turn;

/// Received datagrams one connection holds at most. A full congestion window of a fast path, in packets: the
/// demux drops what exceeds it, by name, rather than let one connection fill the memory of all.
const CONNECTION_CREDIT: u32 = 4096;

/// What a connection actor understands.
#[derive(Debug)]
pub enum ConnectionMessage {
    /// Datagrams from the peer.
    Datagrams(DatagramBatch),
    /// The application has queued commands in the link.
    Commands,
    /// The timer went off.
    Timeout,
    /// There is room to send again.
    Resume,
}

/// What a connection actor is made of.
#[derive(Debug)]
pub struct ConnectionParts {
    /// The state machine.
    pub quic: wirepath_quic::Connection,
    /// The application's side.
    pub link: Arc<ConnectionLink>,
    /// The local socket.
    pub socket: Arc<SocketLease>,
    /// The device to send through, until packets arrive through another.
    pub via: Arc<Egress>,
    /// The stack's tables.
    pub tables: Arc<Tables>,
    /// The partition's timers.
    pub timers: Arc<Timers>,
    /// Server: who gets the connection once the handshake is done.
    pub accept: Option<Arc<AcceptRouter>>,
    /// Server: the client's address and source CID, by which it is found until the handshake is confirmed.
    pub handshake: Option<(SocketAddr, Cid)>,
    /// Server: datagrams that came with the first.
    pub first: Option<DatagramBatch>,
    /// Client: where the server's address tokens go.
    pub tokens: Option<TokenSink>,
    /// The partition's number, and where it counts.
    pub home: (usize, Arc<PartitionLoad>),
}

/// One connection, as an actor.
#[derive(Debug)]
pub struct Connection {
    quic: wirepath_quic::Connection,
    link: Arc<ConnectionLink>,
    socket: Arc<SocketLease>,
    via: Arc<Egress>,
    tables: Arc<Tables>,
    timers: Arc<Timers>,
    accept: Option<Arc<AcceptRouter>>,
    handshake: Option<(SocketAddr, Cid)>,
    first: Option<DatagramBatch>,
    home: (usize, Arc<PartitionLoad>),
    streams: StreamTable,
    requests: Option<Box<Requests>>,
    cids: SmallVec<[Cid; 4]>,
    reset_tokens: SmallVec<[ResetToken; 1]>,
    commands: Vec<Command>,
    armed: Option<Nanos>,
    /// Probe timeouts and persistent congestion so far.
    loss_signs: u64,
    /// Until then nothing is sent, as long as the next hop is being asked for anew.
    held_until: Nanos,
    /// By QTIP, and its device has ended: told already.
    is_stranded: bool,
    /// The device is to say when it has room: until then nothing is sent.
    awaits_room: bool,
    actor: u64,
    turn: Turn,
    sampler: Sampler,
    /// Journeys of received datagrams whose contents are to be told yet.
    arrived: Traced,
}

impl Connection {
    /// An actor for the given parts.
    pub fn new(parts: ConnectionParts) -> Self {
        let ConnectionParts { mut quic, link, socket, via, tables, timers, .. } = parts;
        let ConnectionParts { accept, handshake, first, tokens, home, .. } = parts;
        quic.limit_datagrams(via.max_udp_payload(link.remote().ip()));
        let streams = StreamTable::new(link.clone());
        let requests = tokens.map(|sink| Box::new(Requests::with_tokens(sink)));
        Self {
            quic,
            link,
            socket,
            via,
            tables,
            timers,
            accept,
            handshake,
            first,
            home,
            streams,
            requests,
            cids: SmallVec::new(),
            reset_tokens: SmallVec::new(),
            commands: Vec::new(),
            armed: None,
            loss_signs: 0,
            held_until: 0,
            is_stranded: false,
            awaits_room: false,
            actor: 0,
            turn: Turn::default(),
            sampler: Sampler::default(),
            arrived: Traced::default(),
        }
    }

    /// Logs from now on what it does.
    fn log(&mut self) {
        let buffer = Arc::new(QlogBuffer::default());
        self.quic.start_qlog(timestamp(BatchClock::last()), Box::new(QlogWriter(buffer.clone())));
        self.tables.qlogs.insert(self.actor, buffer);
    }

    fn on_datagrams(&mut self, batch: DatagramBatch) {
        let now = timestamp(batch.received_at);
        let (partition, load) = &self.home;
        load.count_received(batch.datagrams.len(), batch.partition == *partition);
        // Replies leave the way packets come: after a failover, that is the way that works.
        if !Arc::ptr_eq(&self.via, &batch.via) {
            self.renew_limit(now);
            self.via = batch.via;
            self.renew_limit(now);
        }
        let (mut traced, count) = (batch.traced, batch.datagrams.len());
        for (place, mut datagram) in batch.datagrams.into_iter().enumerate() {
            let ecn = transmit::ecn_to_quic(datagram.ecn);
            if !traced.is_empty()
                && let Some(journey) = traced.take(place)
            {
                self.on_traced(now, datagram, journey, count);
                continue;
            }
            self.quic.on_datagram(now, datagram.path, ecn, datagram.payload.as_mut_slice());
        }
    }

    fn on_commands(&mut self) {
        let empty = std::mem::take(&mut self.commands);
        let mut commands = self.link.take_commands(empty);
        for command in commands.drain(..) {
            match command {
                Command::Close(..) | Command::UpdateKeys(_) | Command::Move(_) => self.apply(command),
                command => self.streams.apply(&mut self.quic, command),
            }
        }
        self.commands = commands;
    }

    fn on_timeout(&mut self) {
        self.armed = None;
        if !self.take_held() {
            self.quic.on_timeout(timestamp(BatchClock::last()));
        }
        if self.quic.is_at_rest() {
            self.rest();
        }
    }

    /// Gives memory back that only traffic needs, as the machine has.
    fn rest(&mut self) {
        self.commands = Vec::new();
        self.streams.rest();
        self.cids.shrink_to_fit();
        self.reset_tokens.shrink_to_fit();
        self.link.rest();
    }

    /// Ends a turn: tell, send, set the timer.
    fn finish_turn(&mut self, cx: &Shift<ConnectionMessage>) -> Result<(), StopReason> {
        self.turn.told_from = if self.arrived.is_empty() { 0 } else { BatchClock::read() };
        let mut drained = self.tell(cx);
        self.update_keys();
        self.doubt_route();
        let held = self.held_until();
        if held.is_none() && !self.awaits_room {
            self.transmit(cx);
        }
        // Sending may have changed what there is to tell (a close that was sent, credit that was used).
        drained |= self.tell(cx);
        self.streams.wake_readers();
        if !self.arrived.is_empty() {
            self.end_arrived();
        }
        self.link
            .publish(&self.quic, self.streams.datagram_bytes() - self.quic.queued_datagram_bytes() as u64);
        if drained {
            return Err(StopReason::Done);
        }
        self.set_timer(cx, held);
        Ok(())
    }

    /// Passes on what the machine tells. Returns whether it was the last.
    fn tell(&mut self, cx: &Shift<ConnectionMessage>) -> bool {
        let mut drained = false;
        while let Some(event) = self.quic.poll_event() {
            match event {
                Event::HandshakeCompleted { alpn } => self.on_established(alpn),
                Event::CidIssued { cid } => self.own_cid(cid, cx.myself()),
                Event::CidRetired { cid } => self.disown_cid(&cid),
                Event::ResetTokenLearned { token } => self.own_token(token, cx.myself()),
                Event::ResetTokenForgotten { token } => self.disown_token(&token),
                Event::StreamsAvailable { ty, limit } => self.link.on_streams_available(ty, limit),
                Event::StreamOpened(id) => self.on_stream_opened(id),
                Event::DatagramReadable => self.read_datagrams(),
                Event::Closed(reason) => self.on_closed(reason),
                Event::Drained => drained = true,
                Event::HandshakeConfirmed => {
                    self.forget_handshake();
                    self.link.on_confirmed();
                }
                Event::EarlyData { accepted } => self.link.on_early_data(accepted),
                Event::PathChanged { path } => self.link.on_path_changed(path),
                Event::NewToken(token) => self.keep_token(token),
                event => self.streams.on_event(&mut self.quic, event),
            }
        }
        drained
    }

    /// What it dropped stays counted when it is gone.
    fn leave_drops(&self) {
        let counters = *self.quic.counters();
        self.tables.departed.add(&counters);
        for (cause, count) in [
            ("packet_duplicate_dropped", counters.packet_duplicate_dropped),
            ("packet_forged_dropped", counters.packet_forged_dropped),
            ("packet_keyless_dropped", counters.packet_keyless_dropped),
            ("packet_invalid_dropped", counters.packet_invalid_dropped),
            ("datagram_path_dropped", counters.datagram_path_dropped),
        ] {
            if count > 0 {
                self.tables.departed_drops.count_many(cause, count);
            }
        }
    }

    fn on_established(&mut self, alpn: bytes::Bytes) {
        let (version, outcome) = (self.quic.version(), self.quic.handshake_outcome());
        self.link.on_open(Agreed { alpn: alpn.clone(), version, outcome });
        if let Some(accept) = self.accept.take() {
            accept.deliver(&alpn, &self.link);
        }
    }

    fn forget_handshake(&mut self) {
        if let Some(key) = self.handshake.take() {
            self.tables.handshakes.remove_if(&key, |_, owner| owner.id() == self.actor);
        }
    }

    fn on_stream_opened(&mut self, id: StreamId) {
        let early = self.quic.is_early(id);
        if early {
            self.link.on_early(self.quic.alpn().cloned().unwrap_or_default());
        }
        self.streams.insert(self.link.on_stream_opened(id, early));
        // Early data is for an application that allowed it, and worth as much as it comes early.
        if early && let Some(accept) = self.accept.take() {
            let alpn = self.quic.alpn().cloned().unwrap_or_default();
            accept.deliver(&alpn, &self.link);
        }
    }

    fn read_datagrams(&mut self) {
        while let Some(datagram) = self.quic.read_datagram() {
            if !self.link.on_datagram(datagram) {
                self.tables.drops.count("datagram_unread_dropped");
            }
        }
    }

    fn on_closed(&mut self, reason: CloseReason) {
        // First the reason, then the streams: whoever learns from a stream that it is over asks why.
        self.link.on_closed(reason);
        self.streams.close();
    }

    fn own_cid(&mut self, cid: Cid, myself: &Mailbox<ConnectionMessage>) {
        self.tables.connections.insert(cid, myself.clone());
        self.cids.push(cid);
    }

    fn disown_cid(&mut self, cid: &Cid) {
        self.cids.retain(|own| own != cid);
        self.tables.connections.remove_if(cid, |_, owner| owner.id() == self.actor);
    }

    fn own_token(&mut self, token: ResetToken, myself: &Mailbox<ConnectionMessage>) {
        self.tables.reset_tokens.insert(token, myself.clone());
        self.reset_tokens.push(token);
    }

    fn disown_token(&mut self, token: &ResetToken) {
        self.reset_tokens.retain(|own| own != token);
        self.tables.reset_tokens.remove_if(token, |_, owner| owner.id() == self.actor);
    }

    /// Arms the timer if the machine wants to be called before the timer armed already goes off.
    fn set_timer(&mut self, cx: &Shift<ConnectionMessage>, held: Option<Nanos>) {
        let Some(deadline) = held.or_else(|| self.quic.poll_timeout().map(nanos)) else { return };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        if let Some(armed) = self.armed.replace(deadline) {
            self.timers.disarm(armed, self.actor);
        }
        self.timers.arm(deadline, cx.myself());
    }
}

impl Member for Connection {
    type Message = ConnectionMessage;
    const KIND: &'static str = "connection";
    const CREDIT: u32 = CONNECTION_CREDIT;
    const MESSAGES: &'static [&'static str] = &["datagrams", "commands", "timeout", "resume"];

    fn message_kind(message: &ConnectionMessage) -> usize {
        match message {
            ConnectionMessage::Datagrams(_) => 0,
            ConnectionMessage::Commands => 1,
            ConnectionMessage::Timeout => 2,
            ConnectionMessage::Resume => 3,
        }
    }

    fn items(message: &ConnectionMessage) -> Option<u32> {
        Some(match message {
            ConnectionMessage::Datagrams(batch) => batch.datagrams.len() as u32,
            ConnectionMessage::Commands | ConnectionMessage::Timeout | ConnectionMessage::Resume => 0,
        })
    }

    fn started(&mut self, cx: &Shift<ConnectionMessage>) {
        self.actor = cx.myself().id();
        if self.tables.logs_connections {
            self.log();
        }
        let cids: SmallVec<[Cid; 4]> = self.quic.local_cids().collect();
        cids.into_iter().for_each(|cid| self.own_cid(cid, cx.myself()));
        if self.accept.is_none() {
            // A client by QTIP. Without room for its flow nothing is sent, by count, and the handshake times out.
            self.via.open_flow(&self.quic.path());
        }
        if let Some(key) = self.handshake {
            self.tables.handshakes.insert(key, cx.myself().clone());
        }
        self.link.attach(cx.myself().clone());
        self.tables.links.insert(self.actor, self.link.clone());
        // The first turn: it sends a client's first flight.
        let first = self.first.take();
        let message = first.map_or(ConnectionMessage::Resume, ConnectionMessage::Datagrams);
        let items = Self::items(&message).unwrap_or(0);
        // Only fails when this very actor is ending.
        let _ = cx.myself().send_unlimited(message, items);
    }

    fn handle(
        &mut self,
        cx: &Shift<ConnectionMessage>,
        message: ConnectionMessage,
    ) -> Result<(), StopReason> {
        self.turn.begun = BatchClock::last();
        self.turn.is_commanded = matches!(message, ConnectionMessage::Commands);
        match message {
            ConnectionMessage::Datagrams(batch) => self.on_datagrams(batch),
            ConnectionMessage::Commands => self.on_commands(),
            ConnectionMessage::Timeout => self.on_timeout(),
            ConnectionMessage::Resume => self.awaits_room = false,
        }
        self.finish_turn(cx)
    }
}

/// However it ended (drained, killed, panicked): unbound, and everybody who waits is told.
impl Drop for Connection {
    fn drop(&mut self) {
        self.forget_handshake();
        for cid in std::mem::take(&mut self.cids) {
            self.disown_cid(&cid);
        }
        for token in std::mem::take(&mut self.reset_tokens) {
            self.disown_token(&token);
        }
        self.leave_drops();
        self.tables.links.remove(&self.actor);
        if self.tables.logs_connections {
            self.tables.qlogs.remove(&self.actor);
        }
        if let Some(armed) = self.armed {
            self.timers.disarm(armed, self.actor);
        }
        let former = self.requests.iter().flat_map(|requests| requests.former_paths());
        former.chain([self.quic.path()]).for_each(|path| self.via.close_flow(path));
        self.link.on_closed(CloseReason::Ended);
        self.streams.close();
    }
}
