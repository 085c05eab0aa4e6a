//! One packet out: its header, its frames, its protection.

use s2n_codec::{Encoder as _, EncoderBuffer};
use s2n_quic_core::crypto::Key as _;
use s2n_quic_core::frame::{self, HandshakeDone, NewToken, Ping};
use s2n_quic_core::packet::number::{PacketNumber, PacketNumberLen};
use s2n_quic_core::time::Timestamp;

use super::{Connection, Delivery, State};
use crate::error::TransportError;
use crate::frame::{FrameWriter, SentFrame, WriteContext};
use crate::net::Ecn;
use crate::packet::{HeaderWriter, Layout, PacketKind, SpaceId, packet_number, seal};
use crate::recovery::SentPacket;

/// Bytes of packet number and payload that header protection needs before the tag (RFC 9001 §5.4.2).
const MIN_SAMPLED: usize = 4;

/// Bytes of a packet number at most.
const MAX_NUMBER_LEN: usize = 4;

/// Bytes of the AEAD tag of every cipher suite (RFC 9001 §5.3).
pub(super) const TAG_LEN: usize = 16;

/// ack_delay_exponent that holds outside 1-RTT packets (RFC 9000 §19.3).
const DEFAULT_DELAY_EXPONENT: u8 = 3;

/// An odd number whose product with a packet number has an unpredictable top bit.
const GREASE_MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a packet may carry.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Allow {
    /// Frames that ask for an acknowledgement: congestion control and pacing agree.
    pub(super) data: bool,
}

/// A packet filled but not yet protected, so that padding can still be added.
#[derive(Copy, Clone, Debug)]
pub(super) struct Draft {
    kind: PacketKind,
    layout: Layout,
    number: PacketNumber,
    number_len: PacketNumberLen,
    /// Where the payload ends.
    end: usize,
    pub(super) ack_eliciting: bool,
    /// Padding counts for congestion control too (RFC 9002 §2).
    padded: bool,
}

impl Draft {
    /// Length of the packet as it is.
    pub(super) fn len(&self) -> usize {
        self.end + TAG_LEN
    }
}

/// What is said of a packet when it is done.
#[derive(Copy, Clone, Debug)]
pub(super) struct Sent {
    pub(super) now: Timestamp,
    /// Number of the path it goes on.
    pub(super) path: u8,
    pub(super) ecn: Ecn,
    pub(super) mtu_probe: bool,
}

impl Connection {
    /// Writes the header of the next packet and lets `fill` write its frames. Nothing happens if there are none.
    #[inline]
    fn draft(
        &mut self,
        now: Timestamp,
        kind: PacketKind,
        path: u8,
        out: &mut [u8],
        fill: impl FnOnce(&mut Self, &mut Content<'_, '_>),
    ) -> Option<Draft> {
        let id = kind.space();
        if id == SpaceId::App && self.app.sent.next_number() == self.next_skip {
            self.skip_number(now);
        }
        let dcid = self.dcid(path)?;
        let space = self.space(id)?;
        let number = packet_number(id, space.sent.next_number());
        let largest_acked = packet_number(id, space.largest_acked.unwrap_or(0));
        let truncated = number.truncate(largest_acked)?;
        let rtt = &self.paths.active.rtt;
        let cx = WriteContext { now, rtt: rtt.smoothed_rtt() };
        let key_phase = self.keys.as_ref().is_some_and(|keys| keys.phase());
        let scid = if kind == PacketKind::OneRtt { dcid } else { self.local_cids.first() };
        let token = match &self.handshake {
            Some(handshake) if kind == PacketKind::Initial => handshake.token.clone(),
            _ => Default::default(),
        };
        let header = HeaderWriter {
            kind,
            version: self.version_of(kind),
            dcid,
            scid,
            token: &token,
            key_phase,
            number: truncated,
            fixed_bit: !self.greases_fixed_bit(number.as_u64()),
        };
        if out.len() < header.len() + MAX_NUMBER_LEN + TAG_LEN {
            return None;
        }
        let limit = out.len() - TAG_LEN;
        let mut encoder = EncoderBuffer::new(out);
        let layout = header.write(&mut encoder);
        let start = encoder.len();
        // The space lends its ring for the records while the rest of the connection writes frames.
        let mut records = std::mem::take(&mut self.space_mut(id)?.sent);
        let mut content = Content { writer: FrameWriter::new(&mut encoder, limit, &mut records, cx), id };
        fill(self, &mut content);
        let ack_eliciting = content.writer.is_ack_eliciting();
        let mut end = encoder.len();
        if end == start {
            records.abort();
        } else if end < layout.header_len + MIN_SAMPLED {
            // PADDING frames are zeros (RFC 9000 §19.1).
            encoder.write_repeated(layout.header_len + MIN_SAMPLED - end, 0);
            end = encoder.len();
        }
        self.space_mut(id)?.sent = records;
        let number_len = truncated.len();
        (end > start).then_some(Draft { kind, layout, number, number_len, end, ack_eliciting, padded: false })
    }

    /// RFC 9369 §4.1: 0-RTT packets stay in the version of the first flight.
    #[inline]
    fn version_of(&self, kind: PacketKind) -> u32 {
        match &self.handshake {
            Some(handshake) if kind == PacketKind::ZeroRtt => handshake.negotiation.original,
            _ => self.version,
        }
    }

    /// RFC 9287 §3.1: with a peer that takes it, about every second packet has its fixed bit cleared.
    #[inline]
    fn greases_fixed_bit(&self, number: u64) -> bool {
        self.peer.grease_quic_bit
            && self.config.grease
            && (number ^ self.grease).wrapping_mul(GREASE_MIXER) >> 63 == 1
    }

    /// Fills a packet of this kind with what is to be sent on the path in use.
    #[inline]
    pub(super) fn draft_packet(
        &mut self,
        now: Timestamp,
        kind: PacketKind,
        out: &mut [u8],
        allow: Allow,
    ) -> Option<Draft> {
        let path = self.paths.active.id;
        self.draft(now, kind, path, out, |this, content| match kind {
            PacketKind::Initial | PacketKind::Handshake => this.write_level_frames(content, allow),
            PacketKind::ZeroRtt => this.write_early_frames(content, allow),
            PacketKind::OneRtt => this.write_app_frames(content, allow),
        })
    }

    /// A packet with one frame, for purposes of a path's own.
    pub(super) fn draft_single(
        &mut self,
        now: Timestamp,
        path: u8,
        out: &mut [u8],
        write: impl FnOnce(&mut FrameWriter<'_, '_>),
    ) -> Option<Draft> {
        self.draft(now, PacketKind::OneRtt, path, out, |_, content| write(&mut content.writer))
    }

    /// A packet with frames of one path's own.
    pub(super) fn draft_on_path(
        &mut self,
        now: Timestamp,
        path: u8,
        out: &mut [u8],
        write: impl FnOnce(&mut Self, &mut FrameWriter<'_, '_>),
    ) -> Option<Draft> {
        self.draft(now, PacketKind::OneRtt, path, out, |this, content| write(this, &mut content.writer))
    }

    fn write_level_frames(&mut self, content: &mut Content<'_, '_>, allow: Allow) {
        let Some(level) = self.handshake.as_mut().and_then(|handshake| handshake.level_mut(content.id))
        else {
            return;
        };
        let (space, writer) = (&mut level.space, &mut content.writer);
        if space.acks.is_wanted() {
            space.acks.write_frame(writer, DEFAULT_DELAY_EXPONENT);
        }
        if !allow.data {
            return;
        }
        level.crypto.write_frames(writer);
        let wants_ping = space.ping || space.probes > 0 && !writer.is_ack_eliciting();
        if wants_ping && writer.push(&Ping, SentFrame::Ping) {
            space.ping = false;
        }
    }

    fn write_early_frames(&mut self, content: &mut Content<'_, '_>, allow: Allow) {
        if allow.data {
            self.datagrams.write_frames(&mut content.writer);
            self.streams.write_frames(&mut content.writer);
        }
    }

    fn write_app_frames(&mut self, content: &mut Content<'_, '_>, allow: Allow) {
        let writer = &mut content.writer;
        if allow.data {
            self.write_extension_frames(writer);
        }
        let (space, control) = (&mut self.app, &mut self.control);
        let acked = space.acks.is_wanted() && space.acks.write_frame(writer, self.config.ack_delay_exponent);
        if allow.data {
            if control.handshake_done == Delivery::Wanted
                && writer.push(&HandshakeDone, SentFrame::HandshakeDone)
            {
                control.handshake_done = Delivery::Sent;
            }
            if let Some(crypto) = &mut self.app_crypto
                && crypto.wants_transmit()
            {
                crypto.write_frames(writer);
            }
            self.local_cids.write_frames(writer);
            self.peer_cids.write_frames(writer);
            if control.new_token_delivery == Delivery::Wanted
                && let Some(token) = &control.new_token
                && writer.push(&NewToken { token }, SentFrame::NewToken)
            {
                control.new_token_delivery = Delivery::Sent;
            }
            self.datagrams.write_frames(writer);
            self.streams.write_frames(writer);
            let wants_ping = space.ping || space.probes > 0 && !writer.is_ack_eliciting();
            if wants_ping && writer.push(&Ping, SentFrame::Ping) {
                space.ping = false;
            }
        }
        if acked && !writer.is_ack_eliciting() && allow.data && space.acks.wants_ping() {
            writer.push(&Ping, SentFrame::Ping);
        }
    }

    /// Writes CONNECTION_CLOSE packets of these kinds into one datagram.
    pub(super) fn write_close_packets(
        &mut self,
        now: Timestamp,
        kinds: impl Iterator<Item = PacketKind>,
        out: &mut [u8],
    ) -> Option<usize> {
        let path = self.paths.active.id;
        let mut pending: Option<(usize, Draft)> = None;
        let mut at = 0;
        let mut pad = false;
        let sent = Sent { now, path, ecn: Ecn::NotEct, mtu_probe: false };
        let kinds: smallvec::SmallVec<[PacketKind; 3]> = kinds.collect();
        for kind in kinds {
            let draft = self.draft(now, kind, path, &mut out[at..], |this, content| {
                if let State::Closing(closing) = &this.state {
                    content.writer.push_silent(&closing.frame(kind), None);
                }
            });
            let Some(draft) = draft else { continue };
            // RFC 9001 §9.3: a server that answers amplifies less.
            pad |= kind == PacketKind::Initial && self.role.is_client();
            if let Some((start, before)) = pending.replace((at, draft)) {
                self.seal_packet(before, &mut out[start..], 0, &sent)?;
            }
            at += draft.len();
        }
        let (start, draft) = pending?;
        let least = if pad { usize::from(crate::config::MIN_UDP_PAYLOAD).saturating_sub(start) } else { 0 };
        Some(start + self.seal_packet(draft, &mut out[start..], least, &sent)?)
    }

    /// Pads a packet to `least` bytes, protects it and takes it into the books. Gives its length.
    #[inline]
    pub(super) fn seal_packet(
        &mut self,
        mut draft: Draft,
        out: &mut [u8],
        least: usize,
        sent: &Sent,
    ) -> Option<usize> {
        let end = least.saturating_sub(TAG_LEN).min(out.len().saturating_sub(TAG_LEN)).max(draft.end);
        if end > draft.end {
            out[draft.end..end].fill(0);
            draft.padded = true;
            draft.end = end;
        }
        let packet = &mut out[..draft.len()];
        if let Some(qlog) = self.qlog.get() {
            let start = draft.layout.header_len + draft.number_len.bytesize();
            let exponent = self.config.ack_delay_exponent;
            let about = (draft.kind, draft.number.as_u64(), draft.end + TAG_LEN);
            qlog.packet(sent.now, true, about, &mut packet[start..draft.end], exponent);
        }
        draft.layout.set_length(packet, draft.len());
        let mut encoder = EncoderBuffer::new(packet);
        encoder.set_position(draft.end);
        let header_len = draft.layout.header_len;
        let (number, number_len) = (draft.number, draft.number_len);
        let len = match draft.kind {
            PacketKind::OneRtt => {
                let keys = self.keys.as_deref_mut()?;
                keys.on_sent(number.as_u64());
                let (header, key) = keys.sealing();
                debug_assert_eq!(key.tag_len(), TAG_LEN);
                seal(encoder, header_len, number, number_len, header, key)
            }
            PacketKind::ZeroRtt => {
                let keys = self.handshake.as_mut()?.zero_rtt.as_mut()?;
                seal(encoder, header_len, number, number_len, &keys.header, &mut keys.packet)
            }
            PacketKind::Initial | PacketKind::Handshake => {
                let keys = &mut self.handshake.as_mut()?.level_mut(draft.kind.space())?.keys;
                seal(encoder, header_len, number, number_len, &keys.header, &mut keys.packet)
            }
        };
        let Some(len) = len else {
            if let Some(space) = self.space_mut(draft.kind.space()) {
                space.sent.abort();
            }
            self.fail(
                sent.now,
                TransportError::INTERNAL_ERROR.with_reason("a packet could not be encrypted"),
            );
            return None;
        };
        self.book(&draft, len, sent);
        Some(len)
    }

    /// Takes a packet that is on its way into the books.
    #[inline]
    fn book(&mut self, draft: &Draft, len: usize, sent: &Sent) {
        let id = draft.kind.space();
        let in_flight = draft.ack_eliciting || draft.padded;
        let mut packet = SentPacket::new(sent.now, len, sent.path);
        packet.ack_eliciting = draft.ack_eliciting;
        packet.in_flight = in_flight;
        packet.mtu_probe = sent.mtu_probe;
        packet.ecn = sent.ecn;
        self.counters.packet_sent += 1;
        let Some(space) = self.space_mut(id) else { return };
        space.sent.commit(packet);
        let silent = !in_flight && space.sent.is_long();
        if draft.ack_eliciting {
            space.last_eliciting = Some(sent.now);
            space.probes = space.probes.saturating_sub(1);
            if !self.sent_since_received {
                self.sent_since_received = true;
                self.restart_idle_timers(sent.now);
            }
        }
        if silent {
            // Nothing else would, while the peer has nothing to acknowledge.
            self.trim_sent(sent.now, id);
        }
        let app_limited = (id == SpaceId::App).then(|| !self.streams.wants_transmit());
        if let Some(path) = self.paths.by_id(sent.path) {
            path.ecn.on_sent(sent.ecn);
            path.packet_sent += 1;
            if in_flight {
                path.congestion.on_sent(sent.now, len, app_limited, &path.rtt);
            }
        }
    }
}

/// A packet's payload under construction.
struct Content<'w, 'b> {
    writer: FrameWriter<'w, 'b>,
    id: SpaceId,
}

/// PATH_CHALLENGE with its data.
pub(super) fn path_challenge(writer: &mut FrameWriter<'_, '_>, data: &[u8; 8]) {
    writer.push(&frame::PathChallenge { data }, SentFrame::Path);
}

/// PATH_RESPONSE with its data.
pub(super) fn path_response(writer: &mut FrameWriter<'_, '_>, data: &[u8; 8]) {
    writer.push(&frame::PathResponse { data }, SentFrame::Path);
}
