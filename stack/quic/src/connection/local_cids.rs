//! The connection IDs by which the peer reaches us (RFC 9000 §5.1).

use std::sync::Arc;

use s2n_quic_core::frame;
use smallvec::SmallVec;

use super::params::CibirEncoding;
use crate::cid::{Cid, CidGenerator};
use crate::error::TransportError;
use crate::event::Event;
use crate::frame::{FrameWriter, SentFrame, varint};

/// IDs active at a time, however many the peer would keep: more than it can have paths to us is no use to it.
const MAX_ACTIVE: u64 = 4;

/// What is known of an ID.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Delivery {
    /// To be sent, or to be sent again.
    Wanted,
    /// Sent, or known to the peer from the handshake.
    Sent,
}

#[derive(Copy, Clone, Debug)]
struct Issued {
    sequence: u64,
    cid: Cid,
    delivery: Delivery,
}

/// Our own connection IDs.
#[derive(Debug)]
pub(crate) struct LocalCids {
    generator: Arc<dyn CidGenerator>,
    issued: SmallVec<[Issued; 2]>,
    next_sequence: u64,
    /// What the peer's first packets were addressed to, as long as they may be (server only).
    initial: Option<Cid>,
    /// IDs the peer keeps of us.
    limit: u64,
    wanted: usize,
}

impl LocalCids {
    /// Begins with the first ID, which the handshake tells the peer.
    pub(crate) fn new(generator: Arc<dyn CidGenerator>, initial: Option<Cid>) -> Self {
        let cid = generator.generate();
        Self {
            generator,
            issued: SmallVec::from_iter([Issued { sequence: 0, cid, delivery: Delivery::Sent }]),
            next_sequence: 1,
            initial,
            limit: 1,
            wanted: 0,
        }
    }

    /// An ID to go with our preferred address, told in the transport parameters: number 1 (RFC 9000 §5.1.1).
    pub(crate) fn issue_preferred(&mut self) -> Cid {
        let cid = self.generator.generate();
        self.issued.push(Issued { sequence: self.next_sequence, cid, delivery: Delivery::Sent });
        self.next_sequence += 1;
        cid
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.issued.shrink_to_fit();
    }

    /// Where the IDs come from.
    #[cfg(test)]
    pub(crate) fn generator(&self) -> Arc<dyn CidGenerator> {
        self.generator.clone()
    }

    /// Where the IDs carry a CIBIR identifier, if they do.
    pub(crate) fn cibir(&self) -> Option<CibirEncoding> {
        self.generator.cibir().map(CibirEncoding::from)
    }

    /// Bytes of each ID.
    #[inline]
    pub(crate) fn cid_len(&self) -> usize {
        self.generator.len()
    }

    /// The ID of the handshake.
    pub(crate) fn first(&self) -> Cid {
        self.issued.first().map_or(Cid::EMPTY, |issued| issued.cid)
    }

    /// The stateless reset token of one of our IDs.
    pub(crate) fn reset_token(&self, cid: &Cid) -> [u8; 16] {
        self.generator.reset_token(cid)
    }

    /// All IDs that lead here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Cid> {
        self.issued.iter().map(|issued| issued.cid).chain(self.initial)
    }

    /// The sequence number of an ID of ours.
    #[inline]
    pub(crate) fn sequence_of(&self, cid: &Cid) -> Option<u64> {
        self.issued.iter().find(|issued| issued.cid == *cid).map(|issued| issued.sequence)
    }

    /// Is a long-header packet to this ID for us?
    pub(crate) fn takes_long(&self, cid: &Cid) -> bool {
        self.initial.as_ref() == Some(cid) || self.sequence_of(cid).is_some()
    }

    /// Server: nothing more will come to the ID the client made up.
    pub(crate) fn forget_initial(&mut self) -> Option<Event> {
        self.initial.take().map(|cid| Event::CidRetired { cid })
    }

    /// The handshake told how many IDs the peer keeps: issues that many (RFC 9000 §5.1.1).
    pub(crate) fn on_peer_limit(&mut self, limit: u64, mut event: impl FnMut(Event)) {
        if self.generator.is_empty() {
            return;
        }
        self.limit = limit.min(MAX_ACTIVE);
        self.fill(&mut event);
    }

    fn fill(&mut self, event: &mut impl FnMut(Event)) {
        while (self.issued.len() as u64) < self.limit {
            let cid = self.generator.generate();
            self.issued.push(Issued { sequence: self.next_sequence, cid, delivery: Delivery::Wanted });
            self.next_sequence += 1;
            self.wanted += 1;
            event(Event::CidIssued { cid });
        }
    }

    /// RETIRE_CONNECTION_ID, in a packet addressed to `dcid` (RFC 9000 §19.16).
    pub(crate) fn on_retire(
        &mut self,
        sequence: u64,
        dcid: &Cid,
        mut event: impl FnMut(Event),
    ) -> Result<(), TransportError> {
        let violation = |reason| Err(TransportError::PROTOCOL_VIOLATION.with_reason(reason));
        if sequence >= self.next_sequence {
            return violation("retired a connection ID that was never issued");
        }
        if self.generator.is_empty() {
            return violation("retired a zero-length connection ID");
        }
        let Some(index) = self.issued.iter().position(|issued| issued.sequence == sequence) else {
            return Ok(());
        };
        if self.issued[index].cid == *dcid {
            return violation("retired the connection ID the packet came to");
        }
        let issued = self.issued.remove(index);
        self.wanted -= usize::from(issued.delivery == Delivery::Wanted);
        event(Event::CidRetired { cid: issued.cid });
        self.fill(&mut event);
        Ok(())
    }

    /// Are there NEW_CONNECTION_ID frames to send?
    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        self.wanted > 0
    }

    pub(crate) fn write_frames(&mut self, writer: &mut FrameWriter<'_, '_>) {
        if self.wanted == 0 {
            return;
        }
        for issued in self.issued.iter_mut().filter(|issued| issued.delivery == Delivery::Wanted) {
            let token = self.generator.reset_token(&issued.cid);
            let frame = frame::NewConnectionId {
                sequence_number: varint(issued.sequence),
                retire_prior_to: varint(0),
                connection_id: issued.cid.as_slice(),
                stateless_reset_token: &token,
            };
            if !writer.push(&frame, SentFrame::NewConnectionId { sequence: issued.sequence }) {
                return;
            }
            issued.delivery = Delivery::Sent;
            self.wanted -= 1;
        }
    }

    pub(crate) fn on_lost(&mut self, sequence: u64) {
        let lost = self.issued.iter_mut().find(|issued| issued.sequence == sequence);
        if let Some(issued) = lost.filter(|issued| issued.delivery == Delivery::Sent) {
            issued.delivery = Delivery::Wanted;
            self.wanted += 1;
        }
    }
}
