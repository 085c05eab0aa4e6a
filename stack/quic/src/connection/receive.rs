//! Datagrams in: taken apart into packets, and these out of their protection (RFC 9000 §12.2, RFC 9001 §5).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use s2n_quic_core::time::Timestamp;

use super::frames::FrameContext;
use super::handshake::{Level, LevelKeys};
use super::timers::{QUIET_PTOS, Timer};
use super::{Connection, State};
use crate::ack::AckPolicy;
use crate::cid::Cid;
use crate::config::MIN_UDP_PAYLOAD;
use crate::error::TransportError;
use crate::header::{Header, LongKind, classify};
use crate::net::{Ecn, NetPath};
use crate::packet::{
    KeyUpdate, LongPacket, OpenError, Opened, PacketHeader, PacketKind, Phase, ShortPacket, SpaceId, open,
};
use crate::tls;

/// Reserved bits of the first byte of long headers (RFC 9000 §17.2).
const LONG_RESERVED: u8 = 0x0c;

/// Reserved bits of the first byte of short headers (RFC 9000 §17.3.1).
const SHORT_RESERVED: u8 = 0x18;

/// Key phase bit of short headers (RFC 9000 §17.3.1).
const KEY_PHASE: u8 = 0x04;

/// Bytes of a Retry packet's integrity tag (RFC 9001 §5.8).
const RETRY_TAG_LEN: usize = 16;

/// Longest Retry token followed: our Initial packets must still have room for a ClientHello (RFC 9000 §17.2.5.2 sets
/// no limit).
const MAX_RETRY_TOKEN: usize = 1000;

/// Where a packet came from, and in what.
#[derive(Copy, Clone, Debug)]
pub(super) struct Arrival {
    pub(super) now: Timestamp,
    pub(super) net: NetPath,
    pub(super) ecn: Ecn,
    /// Bytes of the whole datagram.
    pub(super) datagram_len: usize,
}

impl Connection {
    /// Takes a datagram. Its packets are decrypted in place, and its content is of no use afterwards.
    pub fn on_datagram(&mut self, now: Timestamp, path: NetPath, ecn: Ecn, datagram: &mut [u8]) {
        self.now = now;
        let len = datagram.len();
        self.take_datagram(now, path, ecn, datagram);
        debug_assert_eq!(self.counters.packet_unaccounted(), 0, "{:?}", self.counters);
        if self.qlog.is_used() {
            self.log_dropped(now, len);
        }
    }

    #[inline]
    fn take_datagram(&mut self, now: Timestamp, path: NetPath, ecn: Ecn, datagram: &mut [u8]) {
        self.counters.datagram_received += 1;
        self.counters.byte_received += datagram.len() as u64;
        match self.state {
            State::Closing(_) => {
                self.counters.datagram_closed += 1;
                return self.on_datagram_while_closing(now, path, ecn, datagram);
            }
            State::Draining | State::Drained => {
                self.counters.datagram_closed += 1;
                return;
            }
            _ => {}
        }
        match self.paths.find(&path) {
            Some(id) => {
                let blocked = !self.may_transmit();
                if let Some(path) = self.paths.by_id(id) {
                    path.on_received(datagram.len());
                }
                if blocked {
                    // RFC 9002 §6.2.2.1: the timer stood still while we could not have sent.
                    self.set_loss_timer(now);
                }
            }
            None if self.may_migrate() => {}
            None => {
                self.counters.datagram_path_dropped += 1;
                return;
            }
        }
        self.on_packets(now, path, ecn, datagram, true);
    }

    /// The packets of a datagram, one after the other. `fresh`: they come from the network, not out of our keeping.
    pub(super) fn on_packets(
        &mut self,
        now: Timestamp,
        net: NetPath,
        ecn: Ecn,
        datagram: &mut [u8],
        fresh: bool,
    ) {
        let arrival = Arrival { now, net, ecn, datagram_len: datagram.len() };
        let mut rest = datagram;
        let mut first_dcid = None;
        while !rest.is_empty() && !self.is_closed_or_closing() {
            self.counters.packet_found += 1;
            let Some(header) = PacketHeader::read(rest, self.local_cids.cid_len(), self.config.grease) else {
                self.counters.packet_invalid_dropped += 1;
                return;
            };
            match header {
                PacketHeader::Short(short) => {
                    if first_dcid.is_none_or(|first| first == short.dcid) {
                        self.on_short_packet(&arrival, short, rest, fresh);
                    } else {
                        self.counters.packet_invalid_dropped += 1;
                    }
                    return;
                }
                PacketHeader::Long(long) => {
                    let (packet, after) = rest.split_at_mut(long.len);
                    rest = after;
                    // RFC 9000 §12.2: packets for another connection than the first are none of ours.
                    if *first_dcid.get_or_insert(long.dcid) != long.dcid {
                        self.counters.packet_invalid_dropped += 1;
                        continue;
                    }
                    self.on_long_packet(&arrival, &long, packet, fresh);
                }
                PacketHeader::Retry => return self.on_retry(now, rest),
                PacketHeader::VersionNegotiation => return self.on_version_negotiation(now, rest),
            }
        }
    }

    fn on_long_packet(&mut self, arrival: &Arrival, header: &LongPacket, packet: &mut [u8], fresh: bool) {
        // RFC 9000 §5.2.1: of another version than the client's are none, unless the server goes over to one (RFC 9369 §4.1).
        let other_keys = self.keys_of_other_version(header);
        let other_version = header.version != self.version;
        let possible = !other_version || other_keys.is_some() || self.is_other_version_expected(header);
        if !possible || !self.local_cids.takes_long(&header.dcid) {
            self.counters.packet_invalid_dropped += 1;
            return;
        }
        let Some(handshake) = &mut self.handshake else {
            self.counters.packet_keyless_dropped += 1;
            return;
        };
        // RFC 9000 §7.2: once known, the peer's connection ID does not change during the handshake.
        if handshake.peer_scid.is_some_and(|scid| scid != header.scid) {
            self.counters.packet_invalid_dropped += 1;
            return;
        }
        let role = self.role;
        let space = header.kind.space();
        let opened = match header.kind {
            PacketKind::Initial => {
                // RFC 9000 §14.1: servers discard small ones. RFC 9000 §17.2.2: and clients those with a token.
                let small = arrival.datagram_len < usize::from(MIN_UDP_PAYLOAD);
                if role.is_server() && small || role.is_client() && header.token_len > 0 {
                    self.counters.packet_invalid_dropped += 1;
                    return;
                }
                let original_keys = handshake.negotiation.original_keys.as_deref();
                let keys = if other_version { other_keys.as_ref().or(original_keys) } else { None };
                open_level(handshake.initial.as_ref(), keys, header, space, packet)
            }
            PacketKind::Handshake => open_level(handshake.handshake.as_ref(), None, header, space, packet),
            PacketKind::ZeroRtt if role.is_server() => match &handshake.zero_rtt {
                Some(keys) => {
                    let largest = self.app.acks.largest();
                    let choose = |_, _| Some(&keys.packet);
                    Some(open(packet, header.header_len, space, largest, &keys.header, choose))
                }
                None => None,
            },
            // RFC 9001 §5.6: a client reads no 0-RTT packets.
            PacketKind::ZeroRtt | PacketKind::OneRtt => {
                self.counters.packet_invalid_dropped += 1;
                return;
            }
        };
        match opened {
            None => {
                // Keys that are still to come are worth waiting for; those that are gone are not.
                let to_come = header.kind != PacketKind::Initial && matches!(self.state, State::Handshaking);
                match to_come && fresh && handshake.keep_early(arrival.net, arrival.ecn, packet) {
                    true => self.counters.packet_deferred += 1,
                    false => self.counters.packet_keyless_dropped += 1,
                }
            }
            Some(Err(OpenError::Truncated)) => self.counters.packet_invalid_dropped += 1,
            Some(Err(OpenError::Forged)) => self.counters.packet_forged_dropped += 1,
            Some(Ok(opened)) => {
                if opened.tag & LONG_RESERVED != 0 {
                    return self.on_violation("reserved bits are not zero");
                }
                if let Some(keys) = other_keys {
                    self.adopt_version(header.version, keys);
                }
                self.on_authentic_long(arrival, header);
                self.on_opened(arrival, header.kind, header.dcid, Phase::Current, opened);
            }
        }
    }

    /// Is a packet of another version one that we can do something with? On a server, an Initial packet in the version
    /// the client started with; on a client, a Handshake packet that overtook the Initial packet that tells the version.
    fn is_other_version_expected(&self, header: &LongPacket) -> bool {
        let negotiation = self.handshake.as_ref().map(|handshake| &handshake.negotiation);
        match header.kind {
            PacketKind::Initial => negotiation.is_some_and(|negotiation| {
                negotiation.original_keys.is_some() && negotiation.original == header.version
            }),
            PacketKind::Handshake => self.is_possible_version(header.version),
            _ => false,
        }
    }

    /// What the mere arrival of an authentic handshake packet tells.
    fn on_authentic_long(&mut self, arrival: &Arrival, header: &LongPacket) {
        let Some(handshake) = &mut self.handshake else { return };
        if handshake.peer_scid.is_none() {
            // RFC 9000 §7.2: the server's choice, to be used from now on.
            handshake.peer_scid = Some(header.scid);
            self.peer_cids.replace_first(header.scid);
        }
        if header.kind == PacketKind::Handshake && self.role.is_server() {
            // RFC 9000 §8.1: only who receives our Initial packets has these keys. RFC 9001 §4.9.1: Initial keys go.
            self.paths.active.validated = true;
            self.discard_level(arrival.now, SpaceId::Initial);
        }
    }

    fn on_short_packet(&mut self, arrival: &Arrival, header: ShortPacket, packet: &mut [u8], fresh: bool) {
        let known = self.local_cids.sequence_of(&header.dcid).is_some();
        // RFC 9001 §5.7: a server waits for the handshake's end.
        let ready = !matches!(self.state, State::Handshaking);
        let Some(keys) = self.keys.as_deref_mut().filter(|_| ready && known) else {
            if !known {
                if self.peer_cids.is_stateless_reset(packet) {
                    self.counters.packet_control += 1;
                    return self.on_stateless_reset(arrival.now);
                }
                self.counters.packet_invalid_dropped += 1;
                return;
            }
            let kept = fresh
                && self
                    .handshake
                    .as_mut()
                    .is_some_and(|handshake| handshake.keep_early(arrival.net, arrival.ecn, packet));
            match kept {
                true => self.counters.packet_deferred += 1,
                false => self.counters.packet_keyless_dropped += 1,
            }
            return;
        };
        if keys.wake() {
            // They rest again even if the packet is forged.
            let pto = self.paths.active.rtt.pto_period(1, SpaceId::App.number_space());
            self.timers.set(Timer::Quiet, arrival.now + pto * QUIET_PTOS);
        }
        // Decryption destroys the token, should it be a stateless reset (RFC 9000 §10.3.1).
        let tail: Option<[u8; 16]> = packet.last_chunk().copied();
        let mut phase = Phase::Current;
        let largest = self.app.acks.largest();
        let choose = |tag, number| {
            phase = keys.select(tag & KEY_PHASE != 0, number);
            keys.opening(phase)
        };
        match open(packet, header.header_len, SpaceId::App, largest, &keys.header, choose) {
            Ok(opened) => {
                if opened.tag & SHORT_RESERVED != 0 {
                    return self.on_violation("reserved bits are not zero");
                }
                if self.app.acks.is_duplicate(opened.number) {
                    self.counters.packet_duplicate_dropped += 1;
                    return;
                }
                if phase != Phase::Current || keys.awaits_first() {
                    let retain =
                        arrival.now + self.paths.active.rtt.pto_period(1, SpaceId::App.number_space()) * 3;
                    match keys.on_opened(phase, opened.number, retain) {
                        Ok(KeyUpdate::No) => {}
                        Ok(KeyUpdate::ByPeer) => {
                            self.counters.key_updated += 1;
                            self.log_keys("remote_update");
                        }
                        Err(error) => {
                            self.counters.packet_invalid_dropped += 1;
                            return self.fail(arrival.now, error);
                        }
                    }
                }
                self.on_opened(arrival, PacketKind::OneRtt, header.dcid, phase, opened);
            }
            Err(error) => {
                let tail = tail.unwrap_or_default();
                if self.peer_cids.is_stateless_reset(&tail) {
                    self.counters.packet_control += 1;
                    return self.on_stateless_reset(arrival.now);
                }
                match error {
                    OpenError::Truncated => self.counters.packet_invalid_dropped += 1,
                    OpenError::Forged => {
                        self.counters.packet_forged_dropped += 1;
                        if let Some(Err(error)) = self.keys.as_mut().map(|keys| keys.on_forged()) {
                            self.fail(arrival.now, error);
                        }
                    }
                }
            }
        }
    }

    /// A packet is out of its protection: its frames, and what its arrival means.
    #[inline]
    fn on_opened(
        &mut self,
        arrival: &Arrival,
        kind: PacketKind,
        dcid: Cid,
        phase: Phase,
        opened: Opened<'_>,
    ) {
        let id = kind.space();
        let now = arrival.now;
        match self.space(id) {
            Some(space) if !space.acks.is_duplicate(opened.number) => {}
            Some(_) => {
                self.counters.packet_duplicate_dropped += 1;
                return;
            }
            None => {
                self.counters.packet_keyless_dropped += 1;
                return;
            }
        }
        self.counters.packet_received += 1;
        if let Some(qlog) = self.qlog.get() {
            let exponent = self.peer.ack_delay_exponent;
            qlog.packet(now, false, (kind, opened.number, opened.len), opened.payload, exponent);
        }
        // A peer in a new place: its datagram counts towards what we may send there.
        let path = self.path_of_authentic(arrival);
        let mut context = FrameContext { now, kind, dcid, path, phase };
        let content = match self.on_frames(&mut context, opened.payload) {
            Ok(content) => content,
            // RFC 9000 §5.2: what was done before the error was found can't be undone.
            Err(error) => return self.fail(now, error),
        };
        if self.is_closed_or_closing() {
            return;
        }
        if kind == PacketKind::ZeroRtt {
            self.early_streams = self.streams.opened_by_peer();
        }
        self.counters.ecn_received += u64::from(arrival.ecn != Ecn::NotEct);
        let policy = if id == SpaceId::App { self.ack_policy } else { AckPolicy::IMMEDIATE };
        if let Some(space) = self.space_mut(id) {
            space.acks.on_received(opened.number, content.eliciting, arrival.ecn, now, &policy);
        }
        if id == SpaceId::App && content.non_probing {
            self.on_non_probing(now, opened.number, path);
        }
        self.sent_since_received = false;
        self.restart_idle_timers(now);
    }

    /// A Retry packet (RFC 9000 §17.2.5, §8.1.2).
    fn on_retry(&mut self, now: Timestamp, packet: &mut [u8]) {
        let Some((token, scid)) = self.check_retry(packet) else {
            self.counters.packet_invalid_dropped += 1;
            return;
        };
        self.counters.packet_control += 1;
        let Some(handshake) = &mut self.handshake else { return };
        handshake.token = token;
        handshake.retry_scid = Some(scid);
        let (packet, header) = tls::initial_keys(self.version, self.role, scid.as_slice());
        if let Some(initial) = &mut handshake.initial {
            initial.keys = Level::new(packet, header).keys;
            initial.crypto.resend_all();
        }
        self.peer_cids.replace_first(scid);
        // Packet numbers go on (RFC 9000 §17.2.5.3), and what was sent before counts no more.
        self.resend_early_data();
        self.discard_sent(SpaceId::Initial);
        self.discard_sent(SpaceId::App);
        self.pto_count = 0;
        self.set_loss_timer(now);
    }

    /// The token and source of a Retry packet, if it is one to be followed.
    fn check_retry(&self, packet: &[u8]) -> Option<(Bytes, Cid)> {
        let handshake = self.handshake.as_ref().filter(|_| self.role.is_client())?;
        // RFC 9000 §17.2.5.2: one Retry at most, and none once a packet of the server was processed.
        if handshake.retry_scid.is_some() || handshake.peer_scid.is_some() {
            return None;
        }
        let Ok(Header::Long(long)) = classify(packet, 0) else { return None };
        if long.kind != LongKind::Retry || long.version != self.version {
            return None;
        }
        let (token, tag) = long.rest.split_last_chunk::<RETRY_TAG_LEN>()?;
        // RFC 9000 §17.2.5.2: an empty token is discarded. §17.2.5.1: the server must have chosen a new ID.
        let scid = Cid::new(long.scid)?;
        if token.is_empty()
            || token.len() > MAX_RETRY_TOKEN
            || scid == handshake.original_dcid
            || !self.local_cids.takes_long(&Cid::new(long.dcid)?)
        {
            return None;
        }
        let without_tag = packet.get(..packet.len() - RETRY_TAG_LEN)?;
        let expected = tls::retry_tag(self.version, handshake.original_dcid.as_slice(), without_tag);
        verify_slices_are_equal(&expected, tag).ok()?;
        Some((Bytes::copy_from_slice(token), scid))
    }

    fn on_violation(&mut self, reason: &'static str) {
        self.counters.packet_invalid_dropped += 1;
        self.fail(self.now, TransportError::PROTOCOL_VIOLATION.with_reason(reason));
    }
}

/// Opens a packet of a level, with its keys unless others are given; `None` if there are none.
fn open_level<'p>(
    level: Option<&Level>,
    keys: Option<&LevelKeys>,
    header: &LongPacket,
    space: SpaceId,
    packet: &'p mut [u8],
) -> Option<Result<Opened<'p>, OpenError>> {
    let level = level?;
    let largest = level.space.acks.largest();
    let keys = keys.unwrap_or(&level.keys);
    Some(open(packet, header.header_len, space, largest, &keys.header, |_, _| Some(&keys.packet)))
}
