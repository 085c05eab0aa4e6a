//! The demux actor: from received packets to the bindings they belong to.
//!
//! For each packet: parse (unless the kernel has), find the socket by local port, find the binding by CID,
//! group by binding; then one message to each binding. What has no owner is dropped by name.

use std::sync::Arc;

use wirepath_drivers::{Ecn, PacketBuf, RxMeta, RxPacket};
use wirepath_quic::{Cid, Header, NetPath};
use wirepath_trace::Nanos;
use wirepath_wire::{ParseError, UdpPacket};

use crate::{
    connection::ConnectionMessage,
    egress::Egress,
    kit::{Actor, Context, Mailbox, StopReason},
    listener::ListenerMessage,
    tables::{LOCAL_CID_LEN, Socket, Tables},
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
}

/// One demux, as an actor.
#[derive(Debug)]
pub struct Demux {
    partition: usize,
    tables: Arc<Tables>,
    verify_checksums: bool,
    /// Groups of the batch in hand; kept for its memory.
    groups: Vec<Group>,
}

/// The datagrams of one binding within a batch.
#[derive(Debug)]
struct Group {
    binding: Binding,
    datagrams: Vec<Datagram>,
}

/// What the demux ends in.
#[derive(Debug, Clone)]
enum Binding {
    Connection(Cid, Mailbox<ConnectionMessage>),
    Listener(Arc<Socket>),
}

impl Demux {
    /// The demux of a partition.
    /// The demux of a partition. `verify_checksums`: of UDP, in packets the kernel has not parsed.
    pub fn new(partition: usize, tables: Arc<Tables>, verify_checksums: bool) -> Self {
        Self { partition, tables, verify_checksums, groups: Vec::new() }
    }

    fn sort(&mut self, packets: Vec<RxPacket>) {
        let mut socket: Option<Arc<Socket>> = None;
        for packet in packets {
            let Some(datagram) = self.parse(packet) else { continue };
            if !socket.as_ref().is_some_and(|socket| socket.matches(datagram.path.local)) {
                socket = self.tables.sockets.find(datagram.path.local);
            }
            match &socket {
                Some(socket) => self.assign(socket, datagram),
                None => self.tables.drops.count("socket_unmatched_dropped"),
            }
        }
    }

    /// Turns a packet into a datagram; what isn't one is dropped by the parser's name for the fault.
    fn parse(&self, packet: RxPacket) -> Option<Datagram> {
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
                    self.tables.drops.count(error.name());
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
            Err(error) => return self.tables.drops.count(error.name()),
        };
        let Some(cid) = Cid::new(header.dcid()) else {
            // Longer than QUIC v1 has them: some other version, the listener's to answer.
            return self.assign_unowned(socket, datagram);
        };
        if let Some(group) = self.groups.iter_mut().find(|group| group.is_connection(&cid)) {
            return group.datagrams.push(datagram);
        }
        let owner = self.tables.connections.get(&cid).map(|owner| owner.clone());
        match owner.or_else(|| self.reset_target(&header, datagram.payload.as_slice())) {
            Some(connection) => {
                let binding = Binding::Connection(cid, connection);
                self.groups.push(Group { binding, datagrams: vec![datagram] });
            }
            None => self.assign_unowned(socket, datagram),
        }
    }

    /// A datagram of no connection is for the listener, if there is one.
    fn assign_unowned(&mut self, socket: &Arc<Socket>, datagram: Datagram) {
        if socket.listeners.get().is_none() {
            return self.tables.drops.count("connection_unmatched_dropped");
        }
        match self.groups.iter_mut().find(|group| group.is_listener(socket)) {
            Some(group) => group.datagrams.push(datagram),
            None => {
                let binding = Binding::Listener(socket.clone());
                self.groups.push(Group { binding, datagrams: vec![datagram] });
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
        for Group { binding, datagrams } in self.groups.drain(..) {
            let items = datagrams.len() as u32;
            let batch = DatagramBatch { datagrams, via: via.clone(), received_at };
            let dropped = match binding {
                Binding::Connection(_, connection) => {
                    connection.send_data(ConnectionMessage::Datagrams(batch), items).is_err()
                }
                Binding::Listener(socket) => {
                    let listeners = socket.listeners.get().expect("checked when the group was made");
                    let listener = listeners[self.partition % listeners.len()].mailbox();
                    listener.is_none_or(|it| it.send_data(ListenerMessage::Datagrams(batch), items).is_err())
                }
            };
            if dropped {
                self.tables.drops.count_many("binding_backlog_dropped", items.into());
            }
        }
    }
}

impl Group {
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

    async fn handle(&mut self, _cx: &Context<DemuxMessage>, message: DemuxMessage) -> Result<(), StopReason> {
        let DemuxMessage { packets, via, received_at } = message;
        self.sort(packets);
        self.forward(&via, received_at);
        Ok(())
    }
}
