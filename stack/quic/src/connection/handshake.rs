//! The handshake: TLS, its keys and CRYPTO streams (RFC 9001 §4). How TLS sees the connection: `tls_context.rs`; what the
//! peer's parameters in it say: `agree.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::Poll;

use bytes::Bytes;
use s2n_quic_core::crypto::tls::Session as _;
use s2n_quic_core::time::Timestamp;

use super::params::Parameters;
use super::space::Space;
use super::timers::Timer;
use super::tls_context::{TlsContext, Yield};
use super::version::{Negotiation, Waiting};
use super::{Connection, Delivery, HandshakeOutcome, State};
use crate::cid::Cid;
use crate::crypto::CryptoStream;
use crate::endpoint::HalfOpenGuard;
use crate::error::TransportError;
use crate::event::Event;
use crate::net::{Ecn, NetPath};
use crate::packet::{OneRttKeys, SpaceId};
use crate::recovery::Fate;
use crate::role::Role;
use crate::tls::{self, HandshakeHeaderKey, HandshakeKey, ZeroRttHeaderKey, ZeroRttKey};

/// Datagrams kept whose keys are not there yet, as happens when the network reorders the handshake.
const MAX_EARLY: usize = 8;

/// Bytes of such datagrams in all.
const MAX_EARLY_BYTES: usize = 16 * 1024;

/// A packet number space with its keys and CRYPTO stream, as long as the handshake needs it.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) space: Space,
    pub(super) crypto: CryptoStream,
    pub(super) keys: LevelKeys,
}

/// Keys of Initial or Handshake packets.
pub(super) struct LevelKeys {
    pub(super) packet: HandshakeKey,
    pub(super) header: HandshakeHeaderKey,
}

impl std::fmt::Debug for LevelKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LevelKeys")
    }
}

impl Level {
    pub(super) fn new(packet: HandshakeKey, header: HandshakeHeaderKey) -> Self {
        Self { space: Space::default(), crypto: CryptoStream::default(), keys: LevelKeys { packet, header } }
    }
}

/// Keys of 0-RTT packets.
pub(super) struct ZeroRttKeys {
    pub(super) packet: ZeroRttKey,
    pub(super) header: ZeroRttHeaderKey,
}

/// A packet that came before its keys.
struct EarlyPacket {
    path: NetPath,
    ecn: Ecn,
    bytes: Vec<u8>,
}

/// What only the handshake needs.
pub(super) struct Handshake {
    /// On a server only once the ClientHello is whole.
    pub(super) tls: Option<tls::Session>,
    /// Server: until then.
    pub(super) waiting: Option<Box<Waiting>>,
    pub(super) negotiation: Negotiation,
    pub(super) initial: Option<Level>,
    pub(super) handshake: Option<Level>,
    pub(super) zero_rtt: Option<ZeroRttKeys>,
    /// Client: token for Initial packets, from a Retry or an earlier connection.
    pub(super) token: Bytes,
    /// Destination of the client's first Initial packet.
    pub(super) original_dcid: Cid,
    /// Client: source of the Retry packet followed.
    pub(super) retry_scid: Option<Cid>,
    /// Source of the peer's Initial packets, once one came.
    pub(super) peer_scid: Option<Cid>,
    /// Client: an ACK of a Handshake packet came, so the server knows our address.
    pub(super) handshake_acked: bool,
    /// Client: parameters under which 0-RTT data was sent.
    pub(super) remembered: Option<Box<Parameters>>,
    /// Client: where the server wishes to be reached (RFC 9000 §9.6).
    pub(super) preferred: Option<SocketAddr>,
    early: VecDeque<EarlyPacket>,
    early_bytes: usize,
    /// Server: counts this handshake among those under way at its endpoint.
    pub(super) half_open: Option<HalfOpenGuard>,
}

impl Handshake {
    pub(super) fn new(tls: Option<tls::Session>, initial: Level, original_dcid: Cid, version: u32) -> Self {
        Self {
            tls,
            waiting: None,
            negotiation: Negotiation::new(version),
            initial: Some(initial),
            handshake: None,
            zero_rtt: None,
            token: Bytes::new(),
            original_dcid,
            retry_scid: None,
            peer_scid: None,
            handshake_acked: false,
            remembered: None,
            preferred: None,
            early: VecDeque::new(),
            early_bytes: 0,
            half_open: None,
        }
    }

    /// Client: was 0-RTT data sent, or could it have been?
    pub(super) fn sent_early(&self) -> bool {
        self.remembered.is_some()
    }

    pub(super) fn level(&self, id: SpaceId) -> Option<&Level> {
        match id {
            SpaceId::Initial => self.initial.as_ref(),
            SpaceId::Handshake => self.handshake.as_ref(),
            SpaceId::App => None,
        }
    }

    pub(super) fn level_mut(&mut self, id: SpaceId) -> Option<&mut Level> {
        match id {
            SpaceId::Initial => self.initial.as_mut(),
            SpaceId::Handshake => self.handshake.as_mut(),
            SpaceId::App => None,
        }
    }

    /// Is there handshake data to be sent?
    pub(super) fn wants_transmit(&self) -> bool {
        let wants = |level: &Option<Level>| level.as_ref().is_some_and(|level| level.crypto.wants_transmit());
        wants(&self.initial) || wants(&self.handshake)
    }

    /// The space a client sends its next handshake packet in.
    pub(super) fn highest(&self) -> SpaceId {
        if self.handshake.is_some() { SpaceId::Handshake } else { SpaceId::Initial }
    }

    /// Keeps a packet for later, or not if too much is kept.
    pub(super) fn keep_early(&mut self, path: NetPath, ecn: Ecn, bytes: &[u8]) -> bool {
        if self.early.len() >= MAX_EARLY || self.early_bytes + bytes.len() > MAX_EARLY_BYTES {
            return false;
        }
        self.early_bytes += bytes.len();
        self.early.push_back(EarlyPacket { path, ecn, bytes: bytes.to_vec() });
        true
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("original_dcid", &self.original_dcid).finish_non_exhaustive()
    }
}

type Outcome = Result<(), TransportError>;

impl Connection {
    /// Lets TLS work on what has come, and takes what it yields.
    pub(super) fn drive_handshake(&mut self, now: Timestamp) -> Outcome {
        if self.handshake.is_none() {
            return self.drive_post_handshake();
        }
        let hello = self.begin_tls()?;
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        let Handshake { tls: Some(tls), initial, handshake, .. } = &mut **handshake else { return Ok(()) };
        let mut context = TlsContext {
            initial: initial.as_mut(),
            handshake,
            app: &mut self.app_crypto,
            has_app_keys: self.keys.is_some(),
            hello,
            result: Yield::default(),
        };
        let polled = match self.state {
            State::Handshaking => tls.poll(&mut context),
            _ => Poll::Ready(tls.process_post_handshake_message(&mut context)),
        };
        let result = context.result;
        // Keys come first: an alert is told under the best of them.
        let taken = self.take_yield(now, result);
        if let Poll::Ready(Err(error)) = polled {
            return Err(error);
        }
        taken
    }

    fn take_yield(&mut self, now: Timestamp, result: Yield) -> Outcome {
        let Yield { zero_rtt, one_rtt, alpn, complete, new_keys } = result;
        if let Some(alpn) = alpn {
            self.alpn = Some(alpn);
        }
        if let Some((keys, parameters)) = zero_rtt {
            self.on_zero_rtt_keys(keys, &parameters)?;
        }
        if let Some((key, header, parameters)) = one_rtt {
            self.keys = Some(Box::new(OneRttKeys::new(key, header)));
            self.log_keys("tls");
            self.on_peer_parameters(now, &parameters)?;
        }
        if complete {
            self.on_handshake_complete(now);
        }
        if new_keys {
            self.process_early_packets(now);
        }
        Ok(())
    }

    /// Session tickets, after the handshake is confirmed.
    fn drive_post_handshake(&mut self) -> Outcome {
        let Some(crypto) = &mut self.app_crypto else { return Ok(()) };
        let Some(session) = &mut self.tls else {
            // Nobody is interested, but it must not pile up.
            while crypto.read(None).is_some() {}
            return Ok(());
        };
        let mut context = TlsContext {
            initial: None,
            handshake: &mut None,
            app: &mut self.app_crypto,
            has_app_keys: true,
            hello: None,
            result: Yield::default(),
        };
        session.process_post_handshake_message(&mut context)?;
        if session.should_discard_session() {
            self.tls = None;
        }
        Ok(())
    }

    fn on_zero_rtt_keys(&mut self, keys: ZeroRttKeys, parameters: &[u8]) -> Outcome {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        handshake.zero_rtt = Some(keys);
        if self.role.is_client() {
            // What we remember was good once; should it be damaged, there is just no 0-RTT.
            let Ok(mut remembered) = Parameters::decode(parameters, Role::Server) else {
                handshake.zero_rtt = None;
                return Ok(());
            };
            // RFC 9000 §7.4.1: not to be used from memory.
            remembered.original_dcid = None;
            remembered.preferred_address = None;
            remembered.version_information = None;
            remembered.min_ack_delay = None;
            self.apply_limits(&remembered);
            if let Some(handshake) = &mut self.handshake {
                handshake.remembered = Some(Box::new(remembered));
            }
        }
        Ok(())
    }

    fn on_handshake_complete(&mut self, now: Timestamp) {
        self.state = State::Complete;
        if let Some(handshake) = &self.handshake {
            self.outcome = HandshakeOutcome {
                resumed: handshake.tls.as_ref().is_some_and(|tls| tls.is_resumed()),
                retried: handshake.retry_scid.is_some(),
                cipher_suite: handshake.tls.as_ref().and_then(|tls| tls.agreed_suite()),
                partial_resets: self.peer.reset_stream_at,
            };
        }
        let alpn = self.alpn.clone().unwrap_or_default();
        self.event(Event::HandshakeCompleted { alpn });
        self.restart_idle_timers(now);
        if self.role.is_server() {
            // RFC 9001 §4.1.2: the server confirms with HANDSHAKE_DONE.
            self.control.handshake_done = Delivery::Wanted;
            self.confirm_handshake(now);
        }
    }

    /// Both sides are known to have completed the handshake (RFC 9001 §4.1.2): what only it needed goes.
    pub(super) fn confirm_handshake(&mut self, now: Timestamp) {
        if !matches!(self.state, State::Complete) {
            return;
        }
        self.discard_level(now, SpaceId::Initial);
        // RFC 9001 §4.9.2.
        self.discard_level(now, SpaceId::Handshake);
        self.state = State::Confirmed;
        self.timers.stop(Timer::Handshake);
        if let Some(event) = self.local_cids.forget_initial() {
            self.event(event);
        }
        self.event(Event::HandshakeConfirmed);
        // Packets may have come early that were meant for the keys there are now.
        self.process_early_packets(now);
        // RFC 9001 §4.9.3: a server's keys of 0-RTT packets among it.
        if let Some(handshake) = self.handshake.take() {
            let Handshake { tls, preferred, .. } = *handshake;
            if let Some(remote) = preferred {
                self.try_preferred_address(remote);
            }
            self.tls = tls.filter(|tls| !tls.should_discard_session()).map(Box::new);
        }
        if self.config.mtu_discovery {
            self.paths.active.mtu.start(now);
        }
        self.restart_idle_timers(now);
        self.set_loss_timer(now);
    }

    /// The keys of Initial or Handshake packets are no longer needed (RFC 9001 §4.9, RFC 9002 §6.4).
    pub(super) fn discard_level(&mut self, now: Timestamp, id: SpaceId) {
        if self.space(id).is_none() {
            return;
        }
        self.discard_sent(id);
        if let Some(handshake) = &mut self.handshake {
            match id {
                SpaceId::Initial => handshake.initial = None,
                SpaceId::Handshake => handshake.handshake = None,
                SpaceId::App => {}
            }
        }
        // RFC 9002 §6.2.2: a new level starts with a fresh timer.
        self.pto_count = 0;
        self.set_loss_timer(now);
    }

    /// Takes all packets of a space out of flight without calling them lost.
    pub(super) fn discard_sent(&mut self, id: SpaceId) {
        let paths = &mut self.paths;
        let space = match id {
            SpaceId::App => &mut self.app,
            _ => match self.handshake.as_mut().and_then(|handshake| handshake.level_mut(id)) {
                Some(level) => &mut level.space,
                None => return,
            },
        };
        for packet in space.sent.drain() {
            if packet.in_flight
                && packet.fate == Fate::Outstanding
                && let Some(path) = paths.by_id(packet.path)
            {
                path.congestion.on_discarded(packet.size);
            }
        }
        space.loss_time = None;
        space.last_eliciting = None;
        space.probes = 0;
    }

    /// Does the peer know our address, so that it can't be waiting for more bytes from us (RFC 9002 A.8)?
    pub(super) fn peer_has_validated_us(&self) -> bool {
        self.role.is_server() || self.handshake.as_ref().is_none_or(|handshake| handshake.handshake_acked)
    }

    /// Opens packets that came before their keys.
    fn process_early_packets(&mut self, now: Timestamp) {
        let Some(handshake) = &mut self.handshake else { return };
        handshake.early_bytes = 0;
        let early = std::mem::take(&mut handshake.early);
        for mut packet in early {
            self.on_packets(now, packet.path, packet.ecn, &mut packet.bytes, false);
        }
    }
}
