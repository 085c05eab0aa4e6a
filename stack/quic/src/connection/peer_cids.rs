//! The connection IDs by which we reach the peer (RFC 9000 §5.1).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use s2n_quic_core::frame;
use smallvec::SmallVec;

use crate::ack::AckRanges;
use crate::cid::Cid;
use crate::error::TransportError;
use crate::event::Event;
use crate::frame::{FrameWriter, SentFrame, varint};
use crate::reset::RESET_TOKEN_LEN;

/// RETIRE_CONNECTION_ID frames that may wait to be sent or acknowledged. A peer that makes us retire IDs faster than it
/// acknowledges is flooding (RFC 9000 §5.1.2 suggests twice the active limit at least).
const MAX_RETIRING: usize = 24;

/// Token of an ID that has none.
const NO_TOKEN: Option<[u8; RESET_TOKEN_LEN]> = None;

#[derive(Copy, Clone, Debug)]
struct PeerCid {
    sequence: u64,
    cid: Cid,
    reset_token: Option<[u8; RESET_TOKEN_LEN]>,
    /// Number of the path that uses it.
    path: Option<u8>,
}

#[derive(Copy, Clone, Debug)]
struct Retiring {
    sequence: u64,
    /// To be sent, or to be sent again.
    wanted: bool,
}

/// The peer's connection IDs: in use, in stock, and being given back.
#[derive(Debug)]
pub(crate) struct PeerCids {
    cids: SmallVec<[PeerCid; 1]>,
    retiring: Vec<Retiring>,
    /// Sequence numbers that came, so that an ID given back does not count again when its frame is repeated.
    seen: AckRanges,
    retire_prior_to: u64,
    limit: usize,
    wanted: usize,
    /// Tokens to tell the demux of.
    news: Vec<Event>,
}

impl PeerCids {
    /// Begins with the ID of the handshake, used by path 0. `limit`: how many IDs we keep, as announced.
    pub(crate) fn new(first: Cid, limit: u8) -> Self {
        let first = PeerCid { sequence: 0, cid: first, reset_token: NO_TOKEN, path: Some(0) };
        let mut seen = AckRanges::default();
        seen.insert(first.sequence);
        Self {
            cids: SmallVec::from_iter([first]),
            retiring: Vec::new(),
            seen,
            retire_prior_to: 0,
            limit: usize::from(limit),
            wanted: 0,
            news: Vec::new(),
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.cids.shrink_to_fit();
        self.retiring.shrink_to_fit();
        self.news.shrink_to_fit();
    }

    /// The handshake replaces the first ID: a client learns the server's, or follows a Retry.
    pub(crate) fn replace_first(&mut self, cid: Cid) {
        if let Some(first) = self.cids.iter_mut().find(|peer| peer.sequence == 0) {
            first.cid = cid;
        }
    }

    /// The stateless reset token of the handshake's ID.
    pub(crate) fn set_first_token(&mut self, token: [u8; RESET_TOKEN_LEN]) {
        if let Some(first) = self.cids.iter_mut().find(|peer| peer.sequence == 0) {
            first.reset_token = Some(token);
            self.news.push(Event::ResetTokenLearned { token });
        }
    }

    /// The ID that came with the server's preferred address: number 1 (RFC 9000 §5.1.1).
    pub(crate) fn add_preferred(&mut self, cid: Cid, token: [u8; RESET_TOKEN_LEN]) {
        self.seen.insert(1);
        self.cids.push(PeerCid { sequence: 1, cid, reset_token: Some(token), path: None });
    }

    /// The ID a path uses.
    #[inline]
    pub(crate) fn of_path(&self, path: u8) -> Option<Cid> {
        self.cids.iter().find(|peer| peer.path == Some(path)).map(|peer| peer.cid)
    }

    /// Does the peer use zero-length IDs? Then all paths share one.
    pub(crate) fn is_zero_length(&self) -> bool {
        self.cids.first().is_some_and(|peer| peer.cid.is_empty())
    }

    /// Gives a path an unused ID. `false` if there is none.
    pub(crate) fn assign(&mut self, path: u8) -> bool {
        match self.cids.iter_mut().find(|peer| peer.path.is_none()) {
            Some(peer) => {
                peer.path = Some(path);
                // RFC 9000 §10.3.1: tokens of IDs never used are not to be checked for.
                self.news.extend(peer.reset_token.map(|token| Event::ResetTokenLearned { token }));
                true
            }
            None => false,
        }
    }

    /// Hands the ID of one path over to another.
    pub(crate) fn hand_over(&mut self, from: u8, to: u8) {
        if let Some(peer) = self.cids.iter_mut().find(|peer| peer.path == Some(from)) {
            peer.path = Some(to);
        }
    }

    /// A path is gone: its ID is given back, never to be used on another (RFC 9000 §9.5).
    pub(crate) fn release(&mut self, path: u8) {
        if self.is_zero_length() {
            return;
        }
        while let Some(index) = self.cids.iter().position(|peer| peer.path == Some(path)) {
            let peer = self.cids.remove(index);
            self.forget_token(&peer);
            self.retire(peer.sequence);
        }
    }

    /// Is there an unused ID?
    pub(crate) fn has_spare(&self) -> bool {
        self.cids.iter().any(|peer| peer.path.is_none())
    }

    /// NEW_CONNECTION_ID (RFC 9000 §19.15).
    pub(crate) fn on_new(&mut self, frame: &frame::NewConnectionId<'_>) -> Result<(), TransportError> {
        let violation = |reason| Err(TransportError::PROTOCOL_VIOLATION.with_reason(reason));
        if self.is_zero_length() {
            return violation("NEW_CONNECTION_ID from a peer with zero-length IDs");
        }
        let cid = Cid::new(frame.connection_id).ok_or(TransportError::FRAME_ENCODING_ERROR)?;
        let sequence = frame.sequence_number.as_u64();
        for peer in &self.cids {
            let same_sequence = peer.sequence == sequence;
            let same_cid = peer.cid == cid;
            if same_sequence != same_cid {
                return violation("one connection ID under two sequence numbers, or the reverse");
            }
            if same_sequence {
                let known = peer.reset_token.as_ref();
                return match known.is_none_or(|token| token == frame.stateless_reset_token) {
                    true => Ok(()),
                    false => violation("a connection ID with two stateless reset tokens"),
                };
            }
            if peer.reset_token.as_ref() == Some(frame.stateless_reset_token) {
                return violation("a stateless reset token for two connection IDs");
            }
        }
        if self.seen.contains(sequence) {
            // Given back before; the frame was only late.
            return Ok(());
        }
        self.seen.insert(sequence);
        if frame.retire_prior_to.as_u64() > self.retire_prior_to {
            self.retire_prior_to = frame.retire_prior_to.as_u64();
        }
        if sequence < self.retire_prior_to {
            // RFC 9000 §19.15: given back at once.
            self.retire(sequence);
        } else {
            let token = Some(*frame.stateless_reset_token);
            self.cids.push(PeerCid { sequence, cid, reset_token: token, path: None });
        }
        self.apply_retire_prior_to();
        if self.cids.len() > self.limit {
            return Err(TransportError::CONNECTION_ID_LIMIT_ERROR.with_reason("too many connection IDs"));
        }
        if self.retiring.len() > MAX_RETIRING {
            return Err(
                TransportError::CONNECTION_ID_LIMIT_ERROR.with_reason("connection IDs retired too fast")
            );
        }
        Ok(())
    }

    /// Gives back what the peer wants back; paths go on with other IDs.
    fn apply_retire_prior_to(&mut self) {
        while let Some(index) = self.cids.iter().position(|peer| peer.sequence < self.retire_prior_to) {
            let old = self.cids.remove(index);
            self.forget_token(&old);
            if let Some(path) = old.path {
                self.assign(path);
            }
            self.retire(old.sequence);
        }
    }

    fn forget_token(&mut self, peer: &PeerCid) {
        if let Some(token) = peer.reset_token.filter(|_| peer.path.is_some()) {
            self.news.push(Event::ResetTokenForgotten { token });
        }
    }

    /// What the demux is to know of stateless reset tokens.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.news.is_empty() {
            return None;
        }
        let event = self.news.remove(0);
        if self.news.is_empty() {
            self.news = Vec::new();
        }
        Some(event)
    }

    fn retire(&mut self, sequence: u64) {
        self.retiring.push(Retiring { sequence, wanted: true });
        self.wanted += 1;
    }

    /// Does a datagram end in the stateless reset token of an ID we have used (RFC 9000 §10.3.1)?
    pub(crate) fn is_stateless_reset(&self, datagram: &[u8]) -> bool {
        let Some((_, tail)) = datagram.split_last_chunk::<RESET_TOKEN_LEN>() else { return false };
        let mut found = false;
        for peer in self.cids.iter().filter(|peer| peer.path.is_some()) {
            // All are compared, in constant time: the time taken must not tell which bytes were right.
            found |= peer.reset_token.is_some_and(|token| verify_slices_are_equal(&token, tail).is_ok());
        }
        found
    }

    /// Are there RETIRE_CONNECTION_ID frames to send?
    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        self.wanted > 0
    }

    pub(crate) fn write_frames(&mut self, writer: &mut FrameWriter<'_, '_>) {
        if self.wanted == 0 {
            return;
        }
        for retiring in self.retiring.iter_mut().filter(|retiring| retiring.wanted) {
            let frame = frame::RetireConnectionId { sequence_number: varint(retiring.sequence) };
            if !writer.push(&frame, SentFrame::RetireConnectionId { sequence: retiring.sequence }) {
                return;
            }
            retiring.wanted = false;
            self.wanted -= 1;
        }
    }

    pub(crate) fn on_acked(&mut self, sequence: u64) {
        if let Some(index) = self.retiring.iter().position(|retiring| retiring.sequence == sequence) {
            let retiring = self.retiring.swap_remove(index);
            self.wanted -= usize::from(retiring.wanted);
            if self.retiring.is_empty() {
                self.retiring = Vec::new();
            }
        }
    }

    pub(crate) fn on_lost(&mut self, sequence: u64) {
        let lost = self.retiring.iter_mut().find(|retiring| retiring.sequence == sequence);
        if let Some(retiring) = lost.filter(|retiring| !retiring.wanted) {
            retiring.wanted = true;
            self.wanted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::transport::error::Code;

    fn new_cid(cids: &mut PeerCids, sequence: u64, retire_prior_to: u64) -> Result<(), TransportError> {
        let id = [sequence as u8 + 1; 8];
        cids.on_new(&frame::NewConnectionId {
            sequence_number: varint(sequence),
            retire_prior_to: varint(retire_prior_to),
            connection_id: &id,
            stateless_reset_token: &[sequence as u8 + 100; 16],
        })
    }

    #[test]
    fn ids_are_stocked_up_to_the_limit() {
        let mut cids = PeerCids::new(Cid::new(&[1; 8]).unwrap(), 3);
        new_cid(&mut cids, 1, 0).unwrap();
        new_cid(&mut cids, 2, 0).unwrap();
        new_cid(&mut cids, 2, 0).unwrap();
        let error = new_cid(&mut cids, 3, 0).unwrap_err();
        assert_eq!(error.code, Code::CONNECTION_ID_LIMIT_ERROR);
    }

    #[test]
    fn retire_prior_to_moves_the_path_on() {
        let mut cids = PeerCids::new(Cid::new(&[1; 8]).unwrap(), 2);
        new_cid(&mut cids, 1, 0).unwrap();
        new_cid(&mut cids, 2, 1).unwrap();
        assert_eq!(cids.of_path(0), Cid::new(&[2; 8]));
        assert!(cids.wants_transmit());
        new_cid(&mut cids, 3, 3).unwrap();
        assert_eq!(cids.of_path(0), Cid::new(&[4; 8]));
        assert_eq!(cids.retiring.len(), 3);
        cids.on_acked(1);
        assert_eq!(cids.retiring.len(), 2);
    }

    #[test]
    fn a_flood_of_retirements_ends_the_connection() {
        let mut cids = PeerCids::new(Cid::new(&[1; 8]).unwrap(), 2);
        let error = (1..100).find_map(|sequence| new_cid(&mut cids, sequence, sequence).err()).unwrap();
        assert_eq!(error.code, Code::CONNECTION_ID_LIMIT_ERROR);
        assert!(cids.retiring.len() <= MAX_RETIRING + 1);
    }

    #[test]
    fn contradictions_are_violations() {
        let mut cids = PeerCids::new(Cid::new(&[1; 8]).unwrap(), 4);
        new_cid(&mut cids, 1, 0).unwrap();
        let frames =
            [(2, [2; 8], [50; 16]), (1, [9; 8], [50; 16]), (1, [2; 8], [50; 16]), (3, [9; 8], [101; 16])];
        for (sequence, id, token) in frames {
            let frame = frame::NewConnectionId {
                sequence_number: varint(sequence),
                retire_prior_to: varint(0),
                connection_id: &id,
                stateless_reset_token: &token,
            };
            assert_eq!(cids.on_new(&frame).unwrap_err().code, Code::PROTOCOL_VIOLATION);
        }
    }

    #[test]
    fn resets_are_known_by_tokens_in_use() {
        let mut cids = PeerCids::new(Cid::new(&[1; 8]).unwrap(), 4);
        new_cid(&mut cids, 1, 0).unwrap();
        let mut datagram = [7; 40];
        datagram[24..].fill(101);
        assert!(!cids.is_stateless_reset(&datagram));
        assert!(cids.assign(1));
        assert!(cids.is_stateless_reset(&datagram));
        assert!(!cids.is_stateless_reset(&datagram[..10]));
    }
}
