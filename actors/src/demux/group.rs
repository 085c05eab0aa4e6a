//! Datagrams of one binding, collected from a batch.

use std::sync::Arc;

use wirepath_quic::Cid;

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
    /// How many of them are handshake packets: those come first.
    handshakes: usize,
}

/// What the demux ends in.
#[derive(Debug, Clone)]
pub(super) enum Binding {
    Connection(Cid, Mailbox<ConnectionMessage>),
    Listener(Arc<Socket>),
}

impl Group {
    pub(super) fn new(binding: Binding, carrier: Carrier) -> Self {
        Self { binding, carrier, datagrams: Vec::new(), traced: Traced::default(), handshakes: 0 }
    }

    /// Adds a datagram, behind all others or, if it moves a handshake on, behind others that do.
    pub(super) fn push(
        &mut self,
        datagram: Datagram,
        is_handshake: bool,
        sampling: &mut Option<Box<Sampling>>,
    ) {
        let journey = sampling.as_mut().and_then(|sampling| sampling.journey.take());
        let place = if is_handshake { self.handshakes } else { self.datagrams.len() };
        if place < self.datagrams.len() {
            self.traced.make_room(place);
            self.datagrams.insert(place, datagram);
        } else {
            self.datagrams.push(datagram);
        }
        self.handshakes += usize::from(is_handshake);
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
