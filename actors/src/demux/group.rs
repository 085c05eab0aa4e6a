//! Datagrams of one binding, collected from a batch.

use std::sync::Arc;

use wirepath_quic::{Cid, Header, LongKind};

use super::{Datagram, sampling::Sampling};
use crate::{
    connection::ConnectionMessage,
    kit::Mailbox,
    tables::{Carrier, Socket},
    traced::Traced,
};

/// The datagrams of one binding within a batch that came by one carrier.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) binding: Binding,
    pub(super) carrier: Carrier,
    pub(super) datagrams: Vec<Datagram>,
    pub(super) traced: Traced,
    /// How many there are of each precedence.
    counts: [usize; 3],
}

/// Which datagrams of a group go first; those of one precedence keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precedence {
    /// A listener's Initial packets: they make the connections that its other packets are for.
    Initial,
    /// Other long headers. 0-RTT packets among them: behind the end of the handshake, which may share a datagram with an
    /// Initial packet, they would find their keys gone (RFC 9001 §4.9.3).
    Long,
    /// Short headers: their keys come by the others.
    Short,
}

impl Precedence {
    pub(super) fn of(header: &Header<'_>) -> Self {
        match header {
            Header::Long(long) if long.kind == LongKind::Initial => Self::Initial,
            Header::Long(_) => Self::Long,
            Header::Short { .. } => Self::Short,
        }
    }
}

/// What the demux ends in.
#[derive(Debug, Clone)]
pub(super) enum Binding {
    Connection(Cid, Mailbox<ConnectionMessage>),
    Listener(Arc<Socket>),
}

impl Group {
    pub(super) fn new(binding: Binding, carrier: Carrier) -> Self {
        Self { binding, carrier, datagrams: Vec::new(), traced: Traced::default(), counts: [0; 3] }
    }

    /// Adds a datagram, behind those of its precedence.
    pub(super) fn push(
        &mut self,
        datagram: Datagram,
        precedence: Precedence,
        sampling: &mut Option<Box<Sampling>>,
    ) {
        let journey = sampling.as_mut().and_then(|sampling| sampling.journey.take());
        let precedence = match (&self.binding, precedence) {
            (Binding::Connection(..), Precedence::Initial) => Precedence::Long,
            _ => precedence,
        };
        let place = self.counts[..=precedence as usize].iter().sum();
        if place < self.datagrams.len() {
            self.traced.make_room(place);
            self.datagrams.insert(place, datagram);
        } else {
            self.datagrams.push(datagram);
        }
        self.counts[precedence as usize] += 1;
        if let Some(journey) = journey {
            self.traced.push(place, journey);
        }
    }

    pub(super) fn is_of_cid(&self, cid: &Cid, carrier: Carrier) -> bool {
        self.carrier == carrier && matches!(&self.binding, Binding::Connection(own, _) if own == cid)
    }

    pub(super) fn is_of_connection(&self, connection: &Mailbox<ConnectionMessage>, carrier: Carrier) -> bool {
        self.carrier == carrier
            && matches!(&self.binding, Binding::Connection(_, own) if own.id() == connection.id())
    }

    pub(super) fn is_listener(&self, socket: &Arc<Socket>, carrier: Carrier) -> bool {
        self.carrier == carrier && matches!(&self.binding, Binding::Listener(own) if Arc::ptr_eq(own, socket))
    }
}
