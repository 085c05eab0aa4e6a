//! The demux actor: from received packets to the bindings they belong to.
//!
//! For each packet: parse (unless the kernel has), find the socket by local port, find the binding, group by binding;
//! then one message to each binding. What has no owner is dropped by name.
//!
//! The binding is the connection that owns the destination CID; for a long header, else the one whose handshake came
//! from this address with this source CID; for a short one, else the one whose peer may send this stateless reset;
//! else the listener. Within a batch a binding gets long headers before short ones: they bring the keys.

mod group;
mod origins;
mod parse;
mod sampling;

use std::sync::Arc;

use wirepath_drivers::{Ecn, PacketBuf, RxPacket};
use wirepath_quic::{Cid, Header, NetPath};
use wirepath_trace::{BatchClock, Meter, Nanos, Passed, Stage};

use crate::{
    connection::ConnectionMessage,
    egress::Egress,
    kit::{Actor, Context, Mailbox, StopReason},
    listener::ListenerMessage,
    partition::PartitionLoad,
    tables::{Arrival, Carrier, Found, Socket, Tables},
    traced::Traced,
};

use group::{Binding, Group, Precedence};
use origins::Origins;
pub(crate) use parse::unmatched;
use parse::{Parsed, Segment};
pub use sampling::RxSample;
use sampling::Sampling;

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
    /// The partition of the demux.
    pub partition: usize,
    /// Journeys of some of them.
    pub traced: Traced,
}

impl DatagramBatch {
    /// Notes whose they are from now on.
    #[inline]
    pub(crate) fn hold(&self, actor: u64) {
        self.datagrams.iter().for_each(|datagram| datagram.payload.hold(actor as u32));
    }
}

/// One demux, as an actor.
#[derive(Debug)]
pub struct Demux {
    partition: usize,
    tables: Arc<Tables>,
    load: Arc<PartitionLoad>,
    verify_checksums: bool,
    /// Groups of the batch in hand; kept for its memory.
    groups: Vec<Group>,
    origins: Origins,
    sampling: Option<Box<Sampling>>,
    actor: u64,
}

impl Demux {
    /// The demux of a partition. `verify_checksums`: in packets the kernel has not parsed.
    pub fn new(
        partition: usize,
        tables: Arc<Tables>,
        load: Arc<PartitionLoad>,
        verify_checksums: bool,
    ) -> Self {
        Self {
            partition,
            tables,
            load,
            verify_checksums,
            groups: Vec::new(),
            origins: Origins::default(),
            sampling: None,
            actor: 0,
        }
    }

    /// Groups packets by their bindings. Returns how many are done with here: segments without a datagram.
    fn sort(&mut self, packets: Vec<RxPacket>, via: &Arc<Egress>) -> u32 {
        let (mut found, mut done): (Option<Found>, _) = (None, 0);
        self.origins.begin_batch();
        for (place, packet) in packets.into_iter().enumerate() {
            if self.sampling.is_some() {
                self.begin_journey(place);
            }
            let Some(Parsed { datagram, segment }) = self.parse(packet) else { continue };
            let carrier = if segment.is_some() { Carrier::Tcp } else { Carrier::Udp };
            let NetPath { local, remote } = datagram.path;
            let arrival = Arrival { local, remote, carrier, datagram: datagram.payload.as_slice() };
            if !found.as_ref().is_some_and(|found| found.answers(&arrival)) {
                found = self.tables.sockets.look_up(&arrival);
            }
            if self.sampling.is_some() {
                self.describe_journey(&datagram, found.as_ref().map(|found| &found.socket));
            }
            let Some(found) = &found else {
                self.drop_by(unmatched(segment.as_deref().map(Segment::tcp)));
                continue;
            };
            if segment.is_none_or(|segment| self.take_off_tcp(&found.socket, &datagram, &segment, via)) {
                self.assign(&found.socket, datagram, carrier);
            } else {
                done += 1;
            }
        }
        done
    }

    /// Counts a dropped packet, and ends its journey.
    fn drop_by(&mut self, cause: &'static str) {
        self.tables.drops.count(cause);
        self.end_journey(cause);
    }

    /// Puts a datagram into its binding's group.
    fn assign(&mut self, socket: &Arc<Socket>, datagram: Datagram, carrier: Carrier) {
        let header = match wirepath_quic::classify(datagram.payload.as_slice(), socket.cid_len) {
            Ok(header) => header,
            Err(error) => return self.drop_by(error.name()),
        };
        let precedence = Precedence::of(&header);
        let Some(cid) = Cid::new(header.dcid()) else {
            // Longer than QUIC v1 has them: some other version, the listener's to answer.
            return self.assign_unowned(socket, datagram, (carrier, precedence));
        };
        if let Some(group) = self.groups.iter_mut().find(|group| group.is_of_cid(&cid, carrier)) {
            return group.push(datagram, precedence, &mut self.sampling);
        }
        let Some(connection) = self.owner(&cid, &header, &datagram) else {
            return self.assign_unowned(socket, datagram, (carrier, precedence));
        };
        let known = self.groups.iter().position(|group| group.is_of_connection(&connection, carrier));
        let place = known.unwrap_or_else(|| {
            self.groups.push(Group::new(Binding::Connection(cid, connection), carrier));
            self.groups.len() - 1
        });
        self.groups[place].push(datagram, precedence, &mut self.sampling);
    }

    /// The connection that a datagram belongs to.
    fn owner(
        &self,
        cid: &Cid,
        header: &Header<'_>,
        datagram: &Datagram,
    ) -> Option<Mailbox<ConnectionMessage>> {
        if let Some(owner) = self.tables.connections.get(cid) {
            return Some(owner.clone());
        }
        match header {
            Header::Long(long) => {
                let key = (datagram.path.remote, Cid::new(long.scid)?);
                self.tables.handshakes.get(&key).map(|owner| owner.clone())
            }
            Header::Short { .. } => self.reset_target(datagram.payload.as_slice()),
        }
    }

    /// A datagram of no connection is for the listener, if there is one.
    fn assign_unowned(
        &mut self,
        socket: &Arc<Socket>,
        datagram: Datagram,
        (carrier, precedence): (Carrier, Precedence),
    ) {
        if socket.listeners.get().is_none() {
            return self.drop_by("connection_unmatched_dropped");
        }
        let known = self.groups.iter().position(|group| group.is_listener(socket, carrier));
        let place = known.unwrap_or_else(|| {
            self.groups.push(Group::new(Binding::Listener(socket.clone()), carrier));
            self.groups.len() - 1
        });
        self.groups[place].push(datagram, precedence, &mut self.sampling);
    }

    /// A short header with a CID that isn't ours may end in a stateless reset token (RFC 9000 §10.3.1).
    fn reset_target(&self, payload: &[u8]) -> Option<Mailbox<ConnectionMessage>> {
        let token = payload.last_chunk::<16>()?;
        self.tables.reset_tokens.get(token).map(|owner| owner.clone())
    }

    /// Sends each group to its binding.
    fn forward(&mut self, meter: &Meter, via: &Arc<Egress>, received_at: Nanos) {
        for Group { binding, carrier, datagrams, mut traced, .. } in self.groups.drain(..) {
            let items = datagrams.len() as u32;
            if !traced.is_empty() {
                let (begun, count) = self.sampling.as_ref().map_or((0, 0), |it| (it.begun, it.count));
                traced.hop(Stage::Demux, self.actor, begun, BatchClock::read(), count);
            }
            let qtip = via.qtip().filter(|_| carrier == Carrier::Tcp);
            let batch = DatagramBatch {
                datagrams,
                via: qtip.unwrap_or(via).clone(),
                received_at,
                partition: self.partition,
                traced,
            };
            let dropped = match binding {
                Binding::Connection(_, connection) => {
                    batch.hold(connection.id());
                    meter.on_passed(Passed::Up, items);
                    let sent = connection.send_data(ConnectionMessage::Datagrams(batch), items);
                    sent.err().map(|refused| match refused.into_message() {
                        ConnectionMessage::Datagrams(batch) => batch.traced,
                        _ => Traced::default(),
                    })
                }
                Binding::Listener(socket) => {
                    let listeners = socket.listeners.get().expect("checked when the group was made");
                    match listeners[self.partition % listeners.len()].mailbox() {
                        // Between two lives: no mailbox counts them.
                        None => {
                            meter.on_passed(Passed::Done, items);
                            Some(batch.traced)
                        }
                        Some(listener) => {
                            batch.hold(listener.id());
                            meter.on_passed(Passed::Up, items);
                            let sent = listener.send_data(ListenerMessage::Datagrams(batch), items);
                            sent.err().map(|refused| match refused.into_message() {
                                ListenerMessage::Datagrams(batch) => batch.traced,
                                ListenerMessage::Configure(..) => Traced::default(),
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

impl Actor for Demux {
    type Message = DemuxMessage;
    const KIND: &'static str = "demux";
    const CREDIT: u32 = DEMUX_CREDIT;
    const MESSAGES: &'static [&'static str] = &["packets"];

    fn started(&mut self, cx: &Context<DemuxMessage>) {
        self.actor = cx.myself().id();
    }

    fn items(message: &DemuxMessage) -> Option<u32> {
        Some(message.packets.len() as u32)
    }

    async fn handle(&mut self, cx: &Context<DemuxMessage>, message: DemuxMessage) -> Result<(), StopReason> {
        let DemuxMessage { packets, via, received_at, sample } = message;
        self.load.observe(BatchClock::last().saturating_sub(received_at));
        if sample.is_on() {
            let (begun, device, count) = (BatchClock::last(), via.device().id(), packets.len());
            self.sampling =
                Some(Box::new(Sampling { sample, received_at, begun, device, count, journey: None }));
        }
        let done = self.sort(packets, &via);
        cx.myself().meter().on_passed(Passed::Done, done);
        self.forward(cx.myself().meter(), &via, received_at);
        self.sampling = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
