//! What became of packets we sent: acknowledged (RFC 9000 §13, §19.3), or lost (RFC 9002 §6).

use std::time::Duration;

use s2n_quic_core::frame::ack::{AckRanges, EcnCounts};
use s2n_quic_core::frame::{self};
use s2n_quic_core::time::Timestamp;
use smallvec::SmallVec;

use super::extension::Extensions;
use super::frames::FrameContext;
use super::local_cids::LocalCids;
use super::peer_cids::PeerCids;
use super::space::Space;
use super::{Connection, Control, Delivery};
use crate::crypto::CryptoStream;
use crate::ecn::EcnOutcome;
use crate::error::TransportError;
use crate::frame::SentFrame;
use crate::net::Ecn;
use crate::packet::SpaceId;
use crate::recovery::{Fate, LossKind};
use crate::stream::Streams;

/// Packets sent after one that is acknowledged without it, for it to be lost (RFC 9002 §6.1.1).
const PACKET_THRESHOLD: u64 = 3;

/// Lost packets are remembered for this many round trips, to recognise them should they be acknowledged after all.
const REMEMBER_LOST_RTTS: u32 = 2;

/// Who is told what became of frames.
struct Owners<'a> {
    crypto: Option<&'a mut CryptoStream>,
    streams: &'a mut Streams,
    control: &'a mut Control,
    extensions: Option<&'a mut Extensions>,
    local_cids: &'a mut LocalCids,
    peer_cids: &'a mut PeerCids,
}

impl Owners<'_> {
    #[inline]
    fn on_acked(&mut self, frame: &SentFrame, acks: &mut crate::ack::PendingAcks) {
        match *frame {
            SentFrame::Ack { largest } => acks.on_ack_acked(largest),
            SentFrame::Crypto { offset, len } => {
                if let Some(crypto) = &mut self.crypto {
                    crypto.on_acked(offset, len);
                }
            }
            SentFrame::HandshakeDone => self.control.handshake_done = Delivery::Idle,
            SentFrame::NewToken => {
                self.control.new_token = None;
                self.control.new_token_delivery = Delivery::Idle;
            }
            SentFrame::RetireConnectionId { sequence } => self.peer_cids.on_acked(sequence),
            SentFrame::NewConnectionId { .. }
            | SentFrame::Ping
            | SentFrame::Path
            | SentFrame::ObservedAddress
            | SentFrame::Datagram { .. } => {}
            SentFrame::AckFrequency => self.on_request(true),
            SentFrame::Stream { .. }
            | SentFrame::ResetStream { .. }
            | SentFrame::ResetStreamAt { .. }
            | SentFrame::StopSending { .. }
            | SentFrame::MaxData { .. }
            | SentFrame::MaxStreamData { .. }
            | SentFrame::MaxStreams { .. }
            | SentFrame::DataBlocked { .. }
            | SentFrame::StreamDataBlocked { .. }
            | SentFrame::StreamsBlocked { .. } => self.streams.on_frame_acked(frame),
        }
    }

    fn on_request(&mut self, arrived: bool) {
        if let Some(extensions) = &mut self.extensions {
            extensions.on_request(arrived);
        }
    }

    fn on_lost(&mut self, frame: &SentFrame) {
        let again = |delivery: &mut Delivery| {
            if *delivery == Delivery::Sent {
                *delivery = Delivery::Wanted;
            }
        };
        match *frame {
            SentFrame::Crypto { offset, len } => {
                if let Some(crypto) = &mut self.crypto {
                    crypto.on_lost(offset, len);
                }
            }
            SentFrame::HandshakeDone => again(&mut self.control.handshake_done),
            SentFrame::NewToken => again(&mut self.control.new_token_delivery),
            SentFrame::NewConnectionId { sequence } => self.local_cids.on_lost(sequence),
            SentFrame::RetireConnectionId { sequence } => self.peer_cids.on_lost(sequence),
            SentFrame::AckFrequency => self.on_request(false),
            // Its path has it sent again.
            SentFrame::ObservedAddress => {}
            SentFrame::Ack { .. } | SentFrame::Ping | SentFrame::Path | SentFrame::Datagram { .. } => {}
            SentFrame::Stream { .. }
            | SentFrame::ResetStream { .. }
            | SentFrame::ResetStreamAt { .. }
            | SentFrame::StopSending { .. }
            | SentFrame::MaxData { .. }
            | SentFrame::MaxStreamData { .. }
            | SentFrame::MaxStreams { .. }
            | SentFrame::DataBlocked { .. }
            | SentFrame::StreamDataBlocked { .. }
            | SentFrame::StreamsBlocked { .. } => self.streams.on_frame_lost(frame),
        }
    }
}

/// Bytes acknowledged on one path.
#[derive(Copy, Clone)]
struct AckedOnPath {
    path: u8,
    bytes: usize,
    newest: Timestamp,
    /// Size of the largest packet.
    largest_size: u16,
    /// Packets marked ECT(0).
    marked: u64,
}

/// What an ACK frame newly acknowledges.
#[derive(Default)]
struct Acked {
    /// Any packet.
    any: bool,
    /// One that asked for an acknowledgement.
    eliciting: bool,
    /// When the packet with the largest number was sent, if it is among them, and on which path.
    largest_sent: Option<(Timestamp, u8)>,
    spurious: u64,
    /// A number that was never sent is among them.
    skipped: bool,
    mtu_probe: Option<u64>,
    paths: SmallVec<[AckedOnPath; 1]>,
}

/// Splits a connection into the space, the owners of its frames, and the rest that recovery needs. Packets of a space are
/// acknowledged in it alone (RFC 9000 §13.2.6), and each owner sends anew what is lost, as of then (RFC 9000 §13.3).
macro_rules! split {
    ($self:ident, $id:expr => $space:ident, $owners:ident) => {
        let ($space, crypto) = match $id {
            SpaceId::App => (&mut $self.app, $self.app_crypto.as_deref_mut()),
            id => match $self.handshake.as_mut().and_then(|handshake| handshake.level_mut(id)) {
                Some(level) => (&mut level.space, Some(&mut level.crypto)),
                None => return Default::default(),
            },
        };
        let mut $owners = Owners {
            crypto,
            streams: &mut $self.streams,
            control: &mut $self.control,
            extensions: $self.extensions.as_deref_mut(),
            local_cids: &mut $self.local_cids,
            peer_cids: &mut $self.peer_cids,
        };
    };
}

impl Connection {
    /// An ACK frame.
    pub(super) fn on_ack<A>(
        &mut self,
        context: &FrameContext,
        frame: &frame::Ack<A>,
    ) -> Result<(), TransportError>
    where
        A: AckRanges,
        A::Iter: Clone,
    {
        let id = context.kind.space();
        let now = context.now;
        let largest = frame.largest_acknowledged().as_u64();
        let next = self.space(id).map_or(0, |space| space.sent.next_number());
        // RFC 9000 §13.1.
        if largest >= next {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("acknowledged a packet never sent"));
        }
        let acked = self.take_acked(id, largest, frame);
        if acked.skipped {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("acknowledged a number left out"));
        }
        if id == SpaceId::App
            && let Some(keys) = &mut self.keys
        {
            keys.on_acked(largest, context.phase)?;
        }
        self.counters.packet_spuriously_lost += acked.spurious;
        let raised = match self.space_mut(id) {
            Some(space) if space.largest_acked.is_none_or(|before| largest > before) => {
                space.largest_acked = Some(largest);
                true
            }
            _ => false,
        };
        if !acked.any {
            return Ok(());
        }
        if id == SpaceId::Handshake
            && let Some(handshake) = &mut self.handshake
        {
            handshake.handshake_acked = true;
        }
        // RFC 9002 §5.1.
        if let Some((sent, path)) = acked.largest_sent.filter(|_| acked.eliciting) {
            self.on_rtt_sample(now, id, sent, path, frame.ack_delay.as_u64());
        }
        if raised {
            self.on_ecn_counts(now, id, &acked, frame.ecn_counts);
        }
        for on_path in &acked.paths {
            let Some(path) = self.paths.by_id(on_path.path) else { continue };
            path.congestion.on_acked(on_path.newest, on_path.bytes, &path.rtt, &mut self.random, now);
            path.mtu.on_acked(on_path.largest_size);
        }
        if let Some(number) = acked.mtu_probe {
            self.on_mtu_probe_acked(now, number);
        }
        // RFC 9002 §6.2.1: not while the server may be unsure of our address.
        if self.peer_has_validated_us() {
            self.pto_count = 0;
        }
        self.detect_losses(now, id);
        self.trim_sent(now, id);
        self.set_loss_timer(now);
        if self.qlog.is_used() {
            self.log_metrics(now);
        }
        // RFC 9001 §4.1.2: an acknowledged 1-RTT packet (not one of 0-RTT) shows that the server is done too.
        let done = id == SpaceId::App && self.keys.as_ref().is_some_and(|keys| keys.is_acknowledged());
        if done && self.role.is_client() {
            self.confirm_handshake(now);
        }
        Ok(())
    }

    /// Marks packets as acknowledged and tells the owners of their frames.
    fn take_acked<A>(&mut self, id: SpaceId, largest: u64, frame: &frame::Ack<A>) -> Acked
    where
        A: AckRanges,
        A::Iter: Clone,
    {
        split!(self, id => space, owners);
        let Space { sent, acks, last_ack, .. } = space;
        let mut acked = Acked::default();
        let ranges = frame.ack_ranges().map(|range| (range.start().as_u64(), range.end().as_u64()));
        Space::fresh_ranges(last_ack, ranges, |first, last| {
            sent.visit(first, last, |number, packet, records| {
                let lost = match packet.fate {
                    Fate::Outstanding => false,
                    Fate::Lost => true,
                    Fate::Acked => return,
                    Fate::Skipped => {
                        acked.skipped = true;
                        return;
                    }
                };
                packet.fate = Fate::Acked;
                acked.any = true;
                acked.eliciting |= packet.ack_eliciting;
                if number == largest {
                    acked.largest_sent = Some((packet.time, packet.path));
                }
                for record in records {
                    owners.on_acked(&record, acks);
                }
                if lost {
                    acked.spurious += 1;
                    return;
                }
                if packet.mtu_probe {
                    acked.mtu_probe = Some(number);
                }
                if packet.in_flight {
                    let marked = u64::from(packet.ecn == Ecn::Ect0);
                    match acked.paths.iter_mut().find(|on_path| on_path.path == packet.path) {
                        Some(on_path) => {
                            on_path.bytes += usize::from(packet.size);
                            on_path.newest = on_path.newest.max(packet.time);
                            on_path.largest_size = on_path.largest_size.max(packet.size);
                            on_path.marked += marked;
                        }
                        None => acked.paths.push(AckedOnPath {
                            path: packet.path,
                            bytes: usize::from(packet.size),
                            newest: packet.time,
                            largest_size: packet.size,
                            marked,
                        }),
                    }
                }
            });
        });
        acked
    }

    fn on_rtt_sample(&mut self, now: Timestamp, id: SpaceId, sent: Timestamp, path: u8, delay: u64) {
        let exponent = if id == SpaceId::App { self.peer.ack_delay_exponent } else { 3 };
        let delay = delay.saturating_mul(1 << exponent);
        if id == SpaceId::App {
            // As RFC 9002 §5.3 smooths round trips.
            let sample = u32::try_from(delay).unwrap_or(u32::MAX);
            self.ack_delay_micros = self.ack_delay_micros - self.ack_delay_micros / 8 + sample / 8;
        }
        let delay = Duration::from_micros(delay);
        let confirmed = self.is_confirmed();
        let Some(path) = self.paths.by_id(path) else { return };
        let sample = now.saturating_duration_since(sent);
        // RFC 9002 §5.2, §5.3: the least of all, and the peer's delay up to what it announced.
        path.rtt.update_rtt(delay, sample, now, confirmed, id.number_space());
        if path.congestion.has_sent() {
            path.congestion.on_rtt(sent, now, &path.rtt);
        }
    }

    fn on_ecn_counts(&mut self, now: Timestamp, id: SpaceId, acked: &Acked, counts: Option<EcnCounts>) {
        let Self { app, handshake, paths, .. } = self;
        let space = match id {
            SpaceId::App => app,
            id => match handshake.as_mut().and_then(|handshake| handshake.level_mut(id)) {
                Some(level) => &mut level.space,
                None => return,
            },
        };
        // The counts are of all paths together; those of the path in use are what can be acted on.
        let path = &mut paths.active;
        let on_path = acked.paths.iter().find(|on_path| on_path.path == path.id);
        let marked = on_path.map_or(0, |on_path| on_path.marked);
        let newest = on_path.map_or(now, |on_path| on_path.newest);
        if let Some(counts) = counts.as_ref().filter(|_| id == SpaceId::App) {
            let marks = [counts.ect_0_count, counts.ect_1_count, counts.ce_count];
            self.counters.ecn_reported = marks.iter().map(|count| count.as_u64()).sum();
        }
        match path.ecn.on_ack(marked, counts, &mut space.ecn_reported) {
            EcnOutcome::Fine => {}
            EcnOutcome::Congestion(count) => {
                self.counters.congestion_marked += count;
                path.congestion.on_congestion_marked(newest, count, now);
            }
        }
    }

    fn on_mtu_probe_acked(&mut self, now: Timestamp, number: u64) {
        let path = &mut self.paths.active;
        if let Some(size) = path.mtu.on_probe_acked(number, now) {
            path.congestion.on_mtu(size);
            self.datagrams_room_changed();
        }
    }

    /// RFC 9002 §6.1, A.10: declares packets lost that were sent well before acknowledged ones, in every space (RFC 9002 §7.4).
    pub(super) fn detect_losses(&mut self, now: Timestamp, id: SpaceId) {
        // RFC 9002 §6.1.2: a millisecond at least.
        let threshold = self.paths.active.rtt.loss_time_threshold();
        let persistent_after = self.paths.active.rtt.persistent_congestion_threshold();
        let first_sample = self.paths.active.rtt.first_rtt_sample();
        let mut mtu_changed = None;
        let mut collapsed = false;
        {
            split!(self, id => space, owners);
            let Some(largest) = space.largest_acked else { return };
            space.loss_time = None;
            space.sent.advance_resolved(largest);
            let first = space.sent.resolved();
            if largest == 0 || first >= largest {
                return;
            }
            let (paths, counters, random) = (&mut self.paths, &mut self.counters, &mut self.random);
            let qlog = &mut self.qlog;
            let active = paths.active.id;
            let mut loss_time = None;
            // The run of lost packets without an acknowledged one between them (RFC 9002 §7.6).
            let mut run_start: Option<Timestamp> = None;
            let next = space.sent.next_number();
            space.sent.visit(first, largest - 1, |number, packet, records| {
                if packet.fate == Fate::Acked {
                    run_start = None;
                }
                if packet.fate != Fate::Outstanding || !packet.in_flight {
                    return;
                }
                let lost_at = packet.time + threshold;
                if largest - number < PACKET_THRESHOLD && lost_at > now {
                    loss_time = Some(loss_time.map_or(lost_at, |time: Timestamp| time.min(lost_at)));
                    run_start = None;
                    return;
                }
                packet.fate = Fate::Lost;
                counters.packet_lost += 1;
                if let Some(qlog) = qlog.get() {
                    let reordered = largest - number >= PACKET_THRESHOLD;
                    qlog.lost(now, Self::kind_of_lost(id), number, reordered);
                }
                for record in records {
                    owners.on_lost(&record);
                    if record == SentFrame::ObservedAddress
                        && let Some(path) = paths.by_id(packet.path)
                    {
                        path.address = Delivery::Wanted;
                    }
                }
                let mut kind = if packet.mtu_probe { LossKind::Probe } else { LossKind::Congestion };
                // RFC 9002 §7.6.2: those that would have been acknowledged.
                let counts = packet.ack_eliciting
                    && !packet.mtu_probe
                    && packet.path == active
                    && first_sample.is_some_and(|sample| packet.time > sample);
                if counts {
                    let start = *run_start.get_or_insert(packet.time);
                    if packet.time.saturating_duration_since(start) >= persistent_after {
                        kind = LossKind::Persistent;
                        run_start = None;
                        collapsed = true;
                    }
                }
                let Some(path) = paths.by_id(packet.path) else { return };
                path.packet_lost += 1;
                path.congestion.on_lost(packet.time, packet.size, kind, random, now);
                if packet.ecn != Ecn::NotEct {
                    path.ecn.on_lost();
                }
                if packet.mtu_probe {
                    path.mtu.on_probe_lost(number, now);
                } else if let Some(size) = path.mtu.on_lost(packet.size, number, next, now) {
                    path.congestion.on_mtu(size);
                    mtu_changed = Some(size);
                }
            });
            space.loss_time = loss_time;
            space.sent.advance_resolved(largest);
        }
        if collapsed {
            self.counters.persistent_congestion += 1;
            self.paths.active.rtt.on_persistent_congestion();
        }
        if mtu_changed.is_some() {
            self.datagrams_room_changed();
        }
    }

    /// Forgets packets whose fate is settled.
    pub(super) fn trim_sent(&mut self, now: Timestamp, id: SpaceId) {
        let keep = self.paths.active.rtt.smoothed_rtt() * REMEMBER_LOST_RTTS;
        let keep = now.checked_sub(keep);
        if let Some(space) = self.space_mut(id) {
            space.sent.trim(keep);
        }
    }

    /// Client, after a Retry: 0-RTT data sent so far is lost to the server (RFC 9000 §17.2.5.3).
    pub(super) fn resend_early_data(&mut self) {
        split!(self, SpaceId::App => space, owners);
        let (first, next) = (space.sent.first_number(), space.sent.next_number());
        if first < next {
            space.sent.visit(first, next - 1, |_, packet, records| {
                if packet.fate == Fate::Outstanding {
                    for record in records {
                        owners.on_lost(&record);
                    }
                }
            });
        }
    }

    /// A probe timeout: `count` packets are to be sent in a space, with new data or else with the oldest once more (RFC
    /// 9002 §6.2.4). Nothing is lost by that (RFC 9002 §6.2).
    pub(super) fn prepare_probes(&mut self, id: SpaceId, count: u8) {
        split!(self, id => space, owners);
        space.probes = count;
        let fresh = match id {
            SpaceId::App => owners.streams.wants_transmit(),
            _ => owners.crypto.as_ref().is_some_and(|crypto| crypto.wants_transmit()),
        };
        if fresh {
            return;
        }
        let mut left = count;
        let (first, next) = (space.sent.resolved(), space.sent.next_number());
        if first >= next {
            return;
        }
        space.sent.visit(first, next - 1, |_, packet, records| {
            if left > 0 && packet.fate == Fate::Outstanding && packet.ack_eliciting && !packet.mtu_probe {
                left -= 1;
                for record in records {
                    owners.on_lost(&record);
                }
            }
        });
    }
}
