//! Datagrams out: which packets to send now, and how large.

use s2n_quic_core::frame::Ping;
use s2n_quic_core::time::Timestamp;

use super::packet::{Allow, Draft, Sent, TAG_LEN, path_challenge, path_response};
use super::timers::Timer;
use super::{Connection, Delivery, State};
use crate::config::MIN_UDP_PAYLOAD;
use crate::error::TransportError;
use crate::frame::SentFrame;
use crate::net::{Ecn, Transmit};
use crate::packet::{PacketKind, SpaceId};

/// Room below which no datagram is begun: a short header with a tag and a few bytes of frames.
const MIN_ROOM: usize = 64;

impl Connection {
    /// Writes what is to be sent now into `buffer`: one datagram, or a train of at most `max_segments` that are all but
    /// the last of equal size, for the device to cut (GSO). To be called until `None`.
    pub fn poll_transmit(
        &mut self,
        now: Timestamp,
        buffer: &mut [u8],
        max_segments: usize,
    ) -> Option<Transmit> {
        self.now = now;
        match self.state {
            State::Closing(_) => {
                let transmit = self.write_close(now, buffer);
                self.counters.transmit_made += u64::from(transmit.is_some());
                return transmit;
            }
            State::Draining | State::Drained => return None,
            _ => {}
        }
        #[cfg(test)]
        if let Some(payload) = self.raw.take() {
            return self.write_raw(now, buffer, &payload);
        }
        let transmit = self
            .write_path_probe(now, buffer)
            .or_else(|| self.write_mtu_probe(now, buffer))
            .or_else(|| self.write_train(now, buffer, max_segments))
            // Encryption may have failed and closed the connection.
            .or_else(|| self.write_close(now, buffer));
        match transmit {
            Some(_) => {
                self.counters.transmit_made += 1;
                self.set_loss_timer(now);
            }
            None => self.note_limit(now),
        }
        transmit
    }

    /// May [`poll_transmit`](Self::poll_transmit) have something to send? Cheap, and never wrong when it says no: if
    /// pacing is why, [`poll_timeout`](Self::poll_timeout) knows until when.
    #[inline]
    pub fn wants_transmit(&mut self, now: Timestamp) -> bool {
        match &self.state {
            State::Closing(closing) => closing.is_pending(),
            State::Draining | State::Drained => false,
            #[cfg(test)]
            _ if self.raw.is_some() => true,
            _ => {
                let allow = self.allow(now, SpaceId::App);
                self.note_pacing(now, allow);
                let wants = self.paths.iter().any(|path| path.wants_probe())
                    || self.may_transmit()
                        && (self.handshake.is_some()
                            || self.app_wants(now, allow)
                            || self.paths.active.mtu.probe().is_some());
                if !wants {
                    self.note_limit(now);
                }
                wants
            }
        }
    }

    /// May anything at all be sent on the path in use? Not beyond what an unproven peer may make us send, and not
    /// without an ID to address it by.
    #[inline]
    pub(super) fn may_transmit(&self) -> bool {
        let path = &self.paths.active;
        path.allowance() >= MIN_ROOM && self.dcid(path.id).is_some()
    }

    /// What congestion control and pacing let us send in a space.
    #[inline]
    fn allow(&self, now: Timestamp, id: SpaceId) -> Allow {
        let path = &self.paths.active;
        // RFC 9002 §7: the window, in flight. RFC 9002 §7.5: probes are not held back. Neither is the first packet of a handshake level: what fills the
        // window may be application data, which nobody acknowledges or probes for until the handshake is done.
        let probes = self
            .space(id)
            .is_some_and(|space| space.probes > 0 || id != SpaceId::App && !space.sent.has_eliciting());
        let paced = path.congestion.departure().is_some_and(|departure| departure > now);
        let fits = path.congestion.allows(usize::from(path.mtu.current()));
        Allow { data: probes || fits && !paced }
    }

    /// Is there anything for a 1-RTT packet?
    #[inline]
    fn app_wants(&self, now: Timestamp, allow: Allow) -> bool {
        self.app.acks.is_due(now) || allow.data && self.app_wants_data()
    }

    fn app_wants_data(&self) -> bool {
        self.streams.wants_transmit()
            || self.datagrams.wants_transmit()
            || self.app.ping
            || self.app.probes > 0
            || self.control.handshake_done == Delivery::Wanted
            || self.control.new_token_delivery == Delivery::Wanted
            || self.extensions_want()
            || self.local_cids.wants_transmit()
            || self.peer_cids.wants_transmit()
            || self.app_crypto.as_ref().is_some_and(|crypto| crypto.wants_transmit())
    }

    /// A train of full datagrams on the path in use, or one datagram of the handshake.
    fn write_train(&mut self, now: Timestamp, buffer: &mut [u8], max_segments: usize) -> Option<Transmit> {
        let net = self.paths.active.net;
        let probing = SpaceId::ALL.into_iter().any(|id| self.space(id).is_some_and(|space| space.probes > 0));
        let ecn = self.paths.active.ecn.mark(probing);
        let mtu = &self.paths.active.mtu;
        // Where full-sized datagrams have come to nothing, probes are of a size that passes: else nobody would notice
        // that only the others don't.
        let is_doubted = probing && self.pto_count > 1;
        let size = usize::from(if is_doubted { mtu.base() } else { mtu.current() });
        let mut len = 0;
        let mut segment = size;
        let mut count = 0;
        while count < max_segments.max(1) {
            let room = segment.min(buffer.len() - len).min(self.paths.active.allowance());
            if room < MIN_ROOM || count > 0 && room < segment {
                break;
            }
            let out = &mut buffer[len..len + room];
            let coalesced = self.handshake.is_some();
            let written =
                if coalesced { self.write_coalesced(now, out, ecn) } else { self.write_app(now, out, ecn) };
            let Some(written) = written else { break };
            self.on_datagram_sent(written);
            len += written;
            count += 1;
            if count == 1 {
                segment = written;
                // A short datagram ends the train, and so does one of the handshake, which need not be alike.
                if written < size || coalesced {
                    break;
                }
            } else if written < segment {
                break;
            }
        }
        if count == 0 {
            return None;
        }
        let segment_size = (count > 1).then_some(segment as u16);
        Some(Transmit { len, segment_size, path: net, ecn })
    }

    /// One 1-RTT packet.
    #[inline]
    fn write_app(&mut self, now: Timestamp, out: &mut [u8], ecn: Ecn) -> Option<usize> {
        let allow = self.allow(now, SpaceId::App);
        if !self.app_wants(now, allow) {
            self.note_pacing(now, allow);
            return None;
        }
        self.update_keys_if_due(now)?;
        let draft = self.draft_packet(now, PacketKind::OneRtt, out, allow)?;
        let sent = Sent { now, path: self.paths.active.id, ecn, mtu_probe: false };
        self.seal_packet(draft, out, 0, &sent)
    }

    /// If pacing alone holds data back, sets the timer for it.
    fn note_pacing(&mut self, now: Timestamp, allow: Allow) {
        let departure = self.paths.active.congestion.departure().filter(|&departure| departure > now);
        if let Some(departure) = departure.filter(|_| !allow.data && self.app_wants_data()) {
            self.timers.set(Timer::Pacing, departure);
        }
    }

    /// A datagram of the handshake: packets of all levels that have something to say, in one (RFC 9000 §12.2).
    fn write_coalesced(&mut self, now: Timestamp, out: &mut [u8], ecn: Ecn) -> Option<usize> {
        let full = usize::from(MIN_UDP_PAYLOAD);
        let sent = Sent { now, path: self.paths.active.id, ecn, mtu_probe: false };
        let app_kind = if self.keys.is_some() { PacketKind::OneRtt } else { PacketKind::ZeroRtt };
        let mut pending: Option<(usize, Draft)> = None;
        let mut at = 0;
        let mut pad = false;
        let mut handshake_sent = false;
        for kind in [PacketKind::Initial, PacketKind::Handshake, app_kind] {
            let mut allow = self.allow(now, kind.space());
            // RFC 9000 §14.1: datagrams with ack-eliciting Initial packets are of full size, or wait until they may be.
            allow.data &= kind != PacketKind::Initial || out.len() >= full;
            if out.len() - at < MIN_ROOM || !self.kind_wants(now, kind, allow) {
                continue;
            }
            let Some(draft) = self.draft_packet(now, kind, &mut out[at..], allow) else { continue };
            pad |= kind == PacketKind::Initial && (self.role.is_client() || draft.ack_eliciting);
            handshake_sent |= kind == PacketKind::Handshake;
            if let Some((start, before)) = pending.replace((at, draft)) {
                at = start + self.seal_packet(before, &mut out[start..at], 0, &sent)?;
                debug_assert!(pending.is_some_and(|(start, _)| start == at));
            }
            at += draft.len();
        }
        let (start, draft) = pending?;
        let least = if pad { full.saturating_sub(start) } else { 0 };
        let len = start + self.seal_packet(draft, &mut out[start..], least, &sent)?;
        if handshake_sent && self.role.is_client() {
            // RFC 9001 §4.9.1.
            self.discard_level(now, SpaceId::Initial);
        }
        Some(len)
    }

    /// Is there anything for a packet of this kind?
    fn kind_wants(&self, now: Timestamp, kind: PacketKind, allow: Allow) -> bool {
        let handshake = self.handshake.as_ref();
        match kind {
            PacketKind::Initial | PacketKind::Handshake => {
                handshake.and_then(|handshake| handshake.level(kind.space())).is_some_and(|level| {
                    let data = level.crypto.wants_transmit() || level.space.ping || level.space.probes > 0;
                    level.space.acks.is_due(now) || allow.data && data
                })
            }
            PacketKind::ZeroRtt => {
                let keys =
                    self.role.is_client() && handshake.is_some_and(|handshake| handshake.zero_rtt.is_some());
                keys && allow.data && (self.streams.wants_transmit() || self.datagrams.wants_transmit())
            }
            PacketKind::OneRtt => self.keys.is_some() && self.app_wants(now, allow),
        }
    }

    /// A datagram for one path alone: PATH_CHALLENGE and PATH_RESPONSE (RFC 9000 §8.2).
    fn write_path_probe(&mut self, now: Timestamp, buffer: &mut [u8]) -> Option<Transmit> {
        if self.keys.is_none() || matches!(self.state, State::Handshaking) {
            return None;
        }
        let id = self
            .paths
            .iter()
            .find(|path| path.wants_probe() && path.allowance() >= MIN_ROOM && self.dcid(path.id).is_some())?
            .id;
        let path = self.paths.by_id(id)?;
        let room = path.allowance().min(usize::from(MIN_UDP_PAYLOAD)).min(buffer.len());
        let net = path.net;
        let response = path.response();
        let challenge =
            path.challenge.as_ref().filter(|challenge| challenge.wanted).map(|challenge| challenge.data);
        let out = &mut buffer[..room];
        self.update_keys_if_due(now)?;
        let draft = self.draft_on_path(now, id, out, |this, writer| {
            this.write_observed_address(id, writer);
            if let Some(data) = &response {
                path_response(writer, data);
            }
            if let Some(data) = &challenge {
                path_challenge(writer, data);
            }
        })?;
        // RFC 9000 §8.2.1, §8.2.2: full size, unless the peer's address is unproven and that would be too much.
        let sent = Sent { now, path: id, ecn: Ecn::NotEct, mtu_probe: false };
        let len = self.seal_packet(draft, out, room, &sent)?;
        self.counters.datagram_sent += 1;
        self.counters.byte_sent += len as u64;
        if let Some(path) = self.paths.by_id(id) {
            path.on_sent(len);
            if response.is_some() {
                path.pop_response();
            }
            if challenge.is_some() {
                path.on_challenge_sent(now, len >= usize::from(MIN_UDP_PAYLOAD));
            }
        }
        Some(Transmit { len, segment_size: None, path: net, ecn: Ecn::NotEct })
    }

    /// A datagram of a size not yet known to pass (RFC 9000 §14.4).
    fn write_mtu_probe(&mut self, now: Timestamp, buffer: &mut [u8]) -> Option<Transmit> {
        let path = &self.paths.active;
        let size = usize::from(path.mtu.probe()?);
        let paced = path.congestion.departure().is_some_and(|departure| departure > now);
        let ready = path.validated && self.is_confirmed() && self.app.probes == 0 && !paced;
        if !ready || size > buffer.len() || !path.congestion.allows(size) {
            return None;
        }
        let (net, id) = (path.net, path.id);
        let out = &mut buffer[..size];
        self.update_keys_if_due(now)?;
        let draft = self.draft_single(now, id, out, |writer| {
            writer.push(&Ping, SentFrame::Ping);
        })?;
        let number = self.app.sent.next_number();
        let sent = Sent { now, path: id, ecn: Ecn::NotEct, mtu_probe: true };
        let len = self.seal_packet(draft, out, size, &sent)?;
        self.paths.active.mtu.on_probe_sent(number);
        self.counters.mtu_probe_sent += 1;
        self.on_datagram_sent(len);
        Some(Transmit { len, segment_size: None, path: net, ecn: Ecn::NotEct })
    }

    /// A datagram goes out on the path in use.
    #[inline]
    pub(super) fn on_datagram_sent(&mut self, len: usize) {
        self.counters.datagram_sent += 1;
        self.counters.byte_sent += len as u64;
        self.paths.active.on_sent(len);
    }

    /// RFC 9001 §6.6: keys are updated before they are worn out, or the connection ends. `None`: it has.
    #[inline]
    fn update_keys_if_due(&mut self, now: Timestamp) -> Option<()> {
        let confirmed = self.is_confirmed();
        let keys = self.keys.as_deref_mut()?;
        if !keys.wants_update(self.config.key_update_after) {
            return Some(());
        }
        if confirmed && keys.can_update() {
            keys.update();
            self.counters.key_updated += 1;
            self.log_keys("local_update");
        } else if keys.is_exhausted() {
            self.fail(now, TransportError::AEAD_LIMIT_REACHED.with_reason("the keys are worn out"));
            return None;
        }
        Some(())
    }

    /// Updates the 1-RTT keys now (RFC 9001 §6.1). `false` if that is not allowed at the moment.
    pub fn update_keys(&mut self) -> bool {
        let confirmed = self.is_confirmed();
        match self.keys.as_deref_mut() {
            Some(keys) if confirmed && keys.can_update() => {
                keys.update();
                self.counters.key_updated += 1;
                self.log_keys("local_update");
                // The peer learns of it by a packet.
                self.app.ping = true;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
impl Connection {
    fn write_raw(&mut self, now: Timestamp, buffer: &mut [u8], payload: &[u8]) -> Option<Transmit> {
        use s2n_codec::Encoder as _;
        let path = &self.paths.active;
        let (net, id) = (path.net, path.id);
        let draft = self.draft_single(now, id, buffer, |writer| {
            writer.encoder().write_slice(payload);
            writer.record(SentFrame::Ping);
        })?;
        let sent = Sent { now, path: id, ecn: Ecn::NotEct, mtu_probe: false };
        let len = self.seal_packet(draft, buffer, 0, &sent)?;
        Some(Transmit { len, segment_size: None, path: net, ecn: Ecn::NotEct })
    }
}

const _: () = assert!(MIN_ROOM > TAG_LEN + 25);
