//! The demux actor: from received packets to the bindings they belong to.
//!
//! For each packet: parse (unless the kernel has), find the socket by local port, find the binding by CID,
//! group by binding; then one message to each binding. What has no owner is dropped by name.

use std::sync::Arc;

use wirepath_drivers::{Ecn, PacketBuf, RxMeta, RxPacket};
use wirepath_quic::{Cid, Header, NetPath};
use wirepath_trace::{BatchClock, Direction, Journey, Nanos, Sampler, Stage, Tracer};
use wirepath_wire::{ParseError, UdpPacket};

use crate::{
    connection::ConnectionMessage,
    egress::Egress,
    kit::{Actor, Context, Mailbox, StopReason},
    listener::ListenerMessage,
    tables::{LOCAL_CID_LEN, Socket, Tables},
    traced::Traced,
};

/// Received packets a demux holds at most: a few batches of each of its devices.
const DEMUX_CREDIT: u32 = 1024;

/// A batch of received packets, as a device hands them up.
#[derive(Debug)]
pub struct DemuxMessage {
    /// The packets.
    pub packets: Vec<RxPacket>,
    /// The device they came through.
    pub via: Arc<Egress>,
    /// When the device was polled.
    pub received_at: Nanos,
    /// Whether some of them are sampled.
    pub sample: RxSample,
}

/// What of a batch of received packets is sampled.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxSample {
    /// When the device handed the batch on; 0 when nothing is sampled.
    handed_at: Nanos,
    /// The packet whose turn it is.
    place: Option<u32>,
    /// Whether a filter is armed.
    armed: bool,
}

impl RxSample {
    /// Chooses among `count` packets. Reads the clock only if some may be sampled.
    #[inline]
    pub fn of(sampler: &mut Sampler, tracer: &Tracer, count: u32) -> Self {
        let (place, armed) = (sampler.pick(tracer, count), tracer.is_armed());
        if place.is_none() && !armed {
            return Self::default();
        }
        Self { handed_at: BatchClock::read(), place, armed }
    }

    #[inline]
    fn is_on(&self) -> bool {
        self.handed_at != 0
    }
}

/// A batch some packets of which are sampled, while it is sorted.
#[derive(Debug)]
struct Sampling {
    sample: RxSample,
    received_at: Nanos,
    begun: Nanos,
    device: u64,
    count: usize,
    /// The journey of the packet in hand.
    journey: Option<Box<Journey>>,
}

/// One received UDP payload.
#[derive(Debug)]
pub struct Datagram {
    /// Where it came from and went to.
    pub path: NetPath,
    /// The ECN field of its IP header.
    pub ecn: Ecn,
    /// The payload, and only that.
    pub payload: PacketBuf,
}

/// Datagrams for one binding, in the order they came.
#[derive(Debug)]
pub struct DatagramBatch {
    /// The datagrams.
    pub datagrams: Vec<Datagram>,
    /// The device they came through, and replies leave by.
    pub via: Arc<Egress>,
    /// When the device was polled.
    pub received_at: Nanos,
    /// Journeys of some of them.
    pub traced: Traced,
}

/// One demux, as an actor.
#[derive(Debug)]
pub struct Demux {
    partition: usize,
    tables: Arc<Tables>,
    verify_checksums: bool,
    /// Groups of the batch in hand; kept for its memory.
    groups: Vec<Group>,
    sampling: Option<Box<Sampling>>,
    actor: u64,
}

/// The datagrams of one binding within a batch.
#[derive(Debug)]
struct Group {
    binding: Binding,
    datagrams: Vec<Datagram>,
    traced: Traced,
}

/// What the demux ends in.
#[derive(Debug, Clone)]
enum Binding {
    Connection(Cid, Mailbox<ConnectionMessage>),
    Listener(Arc<Socket>),
}

impl Demux {
    /// The demux of a partition. `verify_checksums`: of UDP, in packets the kernel has not parsed.
    pub fn new(partition: usize, tables: Arc<Tables>, verify_checksums: bool) -> Self {
        Self { partition, tables, verify_checksums, groups: Vec::new(), sampling: None, actor: 0 }
    }

    fn sort(&mut self, packets: Vec<RxPacket>) {
        let mut socket: Option<Arc<Socket>> = None;
        for (place, packet) in packets.into_iter().enumerate() {
            if self.sampling.is_some() {
                self.begin_journey(place);
            }
            let Some(datagram) = self.parse(packet) else { continue };
            if self.sampling.is_some() {
                self.describe_journey(&datagram);
            }
            if !socket.as_ref().is_some_and(|socket| socket.matches(datagram.path.local)) {
                socket = self.tables.sockets.find(datagram.path.local);
            }
            match &socket {
                Some(socket) => self.assign(socket, datagram),
                None => self.drop_by("socket_unmatched_dropped"),
            }
        }
    }

    /// Counts a dropped packet, and ends its journey.
    fn drop_by(&mut self, cause: &'static str) {
        self.tables.drops.count(cause);
        if let Some(sampling) = &mut self.sampling
            && let Some(mut journey) = sampling.journey.take()
        {
            journey.hop(Stage::Demux, self.actor, sampling.begun, BatchClock::read(), sampling.count);
            journey.finish(cause);
        }
    }

    #[cold]
    fn begin_journey(&mut self, place: usize) {
        let Some(sampling) = &mut self.sampling else { return };
        // One that is wanted only for how it is dropped is followed from here on; one that is wanted for its
        // addresses, once they are known.
        let unseen = sampling.sample.armed && self.tables.tracer.wants_unseen();
        sampling.journey = (unseen || sampling.sample.place == Some(place as u32))
            .then(|| sampling.begin(&self.tables.tracer));
    }

    #[cold]
    fn describe_journey(&mut self, datagram: &Datagram) {
        let Some(sampling) = &mut self.sampling else { return };
        let (path, tracer) = (datagram.path, &self.tables.tracer);
        let header = wirepath_quic::classify(datagram.payload.as_slice(), LOCAL_CID_LEN);
        let cid = header.as_ref().map_or(&[][..], |header| header.dcid());
        if sampling.journey.is_none()
            && sampling.sample.armed
            && tracer.wants(Some((path.local, path.remote)), cid)
        {
            sampling.journey = Some(sampling.begin(tracer));
        }
        if let Some(journey) = &mut sampling.journey {
            journey.set_path(path.local, path.remote, datagram.payload.len());
            journey.set_cid(cid);
        }
    }

    /// Turns a packet into a datagram; what isn't one is dropped by the parser's name for the fault.
    fn parse(&mut self, packet: RxPacket) -> Option<Datagram> {
        let RxPacket { mut buf, meta } = packet;
        match meta {
            RxMeta::Udp { local, remote, ecn } => {
                Some(Datagram { path: NetPath { local, remote }, ecn, payload: buf })
            }
            RxMeta::Ethernet => match self.parse_frame(buf.as_slice()) {
                Ok(udp) => {
                    buf.narrow(udp.payload.clone());
                    let path = NetPath { local: udp.dst, remote: udp.src };
                    Some(Datagram { path, ecn: Ecn::from_bits(udp.ecn), payload: buf })
                }
                Err(error) => {
                    self.drop_by(error.name());
                    None
                }
            },
        }
    }

    fn parse_frame(&self, frame: &[u8]) -> Result<UdpPacket, ParseError> {
        let udp = wirepath_wire::parse_udp(frame)?;
        if self.verify_checksums {
            wirepath_wire::verify_udp_checksum(frame, &udp)?;
        }
        Ok(udp)
    }

    /// Puts a datagram into its binding's group.
    fn assign(&mut self, socket: &Arc<Socket>, datagram: Datagram) {
        let header = match wirepath_quic::classify(datagram.payload.as_slice(), LOCAL_CID_LEN) {
            Ok(header) => header,
            Err(error) => return self.drop_by(error.name()),
        };
        let Some(cid) = Cid::new(header.dcid()) else {
            // Longer than QUIC v1 has them: some other version, the listener's to answer.
            return self.assign_unowned(socket, datagram);
        };
        if let Some(group) = self.groups.iter_mut().find(|group| group.is_connection(&cid)) {
            return group.push(datagram, &mut self.sampling);
        }
        let owner = self.tables.connections.get(&cid).map(|owner| owner.clone());
        match owner.or_else(|| self.reset_target(&header, datagram.payload.as_slice())) {
            Some(connection) => {
                let group = Group::new(Binding::Connection(cid, connection), datagram, &mut self.sampling);
                self.groups.push(group);
            }
            None => self.assign_unowned(socket, datagram),
        }
    }

    /// A datagram of no connection is for the listener, if there is one.
    fn assign_unowned(&mut self, socket: &Arc<Socket>, datagram: Datagram) {
        if socket.listeners.get().is_none() {
            return self.drop_by("connection_unmatched_dropped");
        }
        match self.groups.iter_mut().find(|group| group.is_listener(socket)) {
            Some(group) => group.push(datagram, &mut self.sampling),
            None => {
                let group = Group::new(Binding::Listener(socket.clone()), datagram, &mut self.sampling);
                self.groups.push(group);
            }
        }
    }

    /// A short header with a CID that isn't ours may end in a stateless reset token (RFC 9000 §10.3.1).
    fn reset_target(&self, header: &Header<'_>, payload: &[u8]) -> Option<Mailbox<ConnectionMessage>> {
        if !matches!(header, Header::Short { .. }) {
            return None;
        }
        let token = payload.last_chunk::<16>()?;
        self.tables.reset_tokens.get(token).map(|owner| owner.clone())
    }

    /// Sends each group to its binding.
    fn forward(&mut self, via: &Arc<Egress>, received_at: Nanos) {
        for Group { binding, datagrams, mut traced } in self.groups.drain(..) {
            let items = datagrams.len() as u32;
            if !traced.is_empty() {
                let (begun, count) = self.sampling.as_ref().map_or((0, 0), |it| (it.begun, it.count));
                traced.hop(Stage::Demux, self.actor, begun, BatchClock::read(), count);
            }
            let batch = DatagramBatch { datagrams, via: via.clone(), received_at, traced };
            let dropped = match binding {
                Binding::Connection(_, connection) => connection
                    .send_data(ConnectionMessage::Datagrams(batch), items)
                    .err()
                    .map(|refused| match refused.into_message() {
                        ConnectionMessage::Datagrams(batch) => batch.traced,
                        _ => Traced::default(),
                    }),
                Binding::Listener(socket) => {
                    let listeners = socket.listeners.get().expect("checked when the group was made");
                    match listeners[self.partition % listeners.len()].mailbox() {
                        None => Some(batch.traced),
                        Some(listener) => {
                            let sent = listener.send_data(ListenerMessage::Datagrams(batch), items);
                            sent.err().map(|refused| {
                                let ListenerMessage::Datagrams(batch) = refused.into_message();
                                batch.traced
                            })
                        }
                    }
                }
            };
            if let Some(mut traced) = dropped {
                self.tables.drops.count_many("binding_backlog_dropped", items.into());
                traced.finish("binding_backlog_dropped");
            }
        }
    }
}

impl Sampling {
    fn begin(&self, tracer: &Arc<Tracer>) -> Box<Journey> {
        let mut journey = tracer.begin(Direction::Rx, self.received_at);
        journey.hop(Stage::Device, self.device, self.received_at, self.sample.handed_at, self.count);
        journey
    }
}

impl Group {
    fn new(binding: Binding, datagram: Datagram, sampling: &mut Option<Box<Sampling>>) -> Self {
        let mut group = Self { binding, datagrams: Vec::new(), traced: Traced::default() };
        group.push(datagram, sampling);
        group
    }

    fn push(&mut self, datagram: Datagram, sampling: &mut Option<Box<Sampling>>) {
        if let Some(sampling) = sampling
            && let Some(journey) = sampling.journey.take()
        {
            self.traced.push(self.datagrams.len(), journey);
        }
        self.datagrams.push(datagram);
    }

    fn is_connection(&self, cid: &Cid) -> bool {
        matches!(&self.binding, Binding::Connection(own, _) if own == cid)
    }

    fn is_listener(&self, socket: &Arc<Socket>) -> bool {
        matches!(&self.binding, Binding::Listener(own) if Arc::ptr_eq(own, socket))
    }
}

impl Actor for Demux {
    type Message = DemuxMessage;
    const KIND: &'static str = "demux";
    const CREDIT: u32 = DEMUX_CREDIT;
    const MESSAGES: &'static [&'static str] = &["packets"];

    fn started(&mut self, cx: &Context<DemuxMessage>) {
        self.actor = cx.myself().id();
    }

    async fn handle(&mut self, _cx: &Context<DemuxMessage>, message: DemuxMessage) -> Result<(), StopReason> {
        let DemuxMessage { packets, via, received_at, sample } = message;
        if sample.is_on() {
            let (begun, device, count) = (BatchClock::last(), via.device().id(), packets.len());
            self.sampling =
                Some(Box::new(Sampling { sample, received_at, begun, device, count, journey: None }));
        }
        self.sort(packets);
        self.forward(&via, received_at);
        self.sampling = None;
        Ok(())
    }
}
