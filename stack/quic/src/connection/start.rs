//! How a connection comes to be, on either side.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use s2n_quic_core::time::Timestamp;

use super::handshake::{Handshake, Level};
use super::local_cids::LocalCids;
use super::params::{Parameters, PreferredAddress};
use super::path::{Path, Paths};
use super::peer_cids::PeerCids;
use super::stats::LimitWatch;
use super::timers::{Timer, Timers};
use super::version::{Negotiation, Waiting};
use super::{Connection, Control, PeerLimits, State};
use crate::ack::AckPolicy;
use crate::cid::{Cid, CidGenerator};
use crate::config::TransportConfig;
use crate::datagram::Datagrams;
use crate::endpoint::HalfOpenGuard;
use crate::error::ConnectError;
use crate::event::Event;
use crate::net::NetPath;
use crate::random::Random;
use crate::role::Role;
use crate::stream::Streams;
use crate::tls;

/// Bytes of the connection ID a client makes up for the server (RFC 9000 §7.2: at least 8, and unpredictable).
const INITIAL_DCID_LEN: usize = 8;

/// The range of packet numbers in which one is left out, first and then again.
const SKIP_FIRST: u64 = 64;
const SKIP_EVERY: u64 = 8192;

/// What a client needs to open a connection.
pub struct Connect<'a> {
    /// Transport settings.
    pub config: Arc<TransportConfig>,
    /// TLS settings.
    pub tls: &'a tls::ClientConfig,
    /// The name the server's certificate must be for.
    pub server_name: &'a str,
    /// Source of our connection IDs.
    pub cids: Arc<dyn CidGenerator>,
    /// The addresses to use.
    pub path: NetPath,
    /// An address token of an earlier connection to this server, or empty.
    pub token: Bytes,
    /// QUIC version to start with: one of those in the transport settings.
    pub version: u32,
    /// Source of unpredictable values.
    pub random: Random,
}

/// What a server needs to accept a connection.
pub(crate) struct Accept<'a> {
    pub(crate) config: Arc<TransportConfig>,
    pub(crate) tls: &'a tls::ServerConfig,
    pub(crate) cids: Arc<dyn CidGenerator>,
    pub(crate) path: NetPath,
    pub(crate) version: u32,
    /// Destination of the client's very first Initial packet.
    pub(crate) original_dcid: Cid,
    /// Source of our Retry packet, if there was one.
    pub(crate) retry_scid: Option<Cid>,
    /// Destination of the Initial packet accepted; its keys come from it.
    pub(crate) initial_dcid: Cid,
    pub(crate) peer_scid: Cid,
    /// The client's address is known to be its own, by a token.
    pub(crate) address_validated: bool,
    pub(crate) random: Random,
}

impl Connection {
    /// Opens a connection as a client. The first datagram is ready to be polled.
    pub fn connect(connect: Connect<'_>, now: Timestamp) -> Result<Self, ConnectError> {
        let Connect { config, tls, server_name, cids, path, token, version, mut random } = connect;
        config.validate()?;
        check_version(&config, version)?;
        let changes = config.versions.len() > 1 && tls.may_change_version();
        let dcid = first_dcid(&mut random);
        let local_cids = LocalCids::new(cids, None);
        let mut params = Parameters::local(&config, local_cids.first());
        params.version_information = Some(Self::client_versions(version, changes, &config.versions));
        params.cibir = local_cids.cibir();
        let grease = config.grease.then(|| random.u64());
        let session = tls::Session::client(tls, server_name, version, changes, params.encode(grease))?;
        let keys = tls::initial_keys(version, Role::Client, dcid.as_slice());
        let mut handshake = Handshake::new(Some(session), Level::new(keys.0, keys.1), dcid, version);
        handshake.negotiation = Negotiation::client(version, changes, tls, server_name);
        handshake.token = token;
        let peer_cids = PeerCids::new(dcid, config.active_connection_id_limit);
        // The server's address is the one we chose: nothing is amplified by what we send there.
        let path = Path::new(0, path, &config, true);
        let mut this = Self::new(Role::Client, version, config, path, local_cids, peer_cids, random, now);
        this.handshake = Some(Box::new(handshake));
        this.log_if_wanted(now);
        this.drive_handshake(now).map_err(ConnectError::Handshake)?;
        this.set_loss_timer(now);
        Ok(this)
    }

    /// Accepts a connection as a server. It is to be given the datagram that asked for it next.
    pub(crate) fn accept(accept: Accept<'_>, now: Timestamp) -> Result<Self, ConnectError> {
        let Accept { config, tls, cids, path, version, random, .. } = accept;
        config.validate()?;
        tls.validate()?;
        check_version(&config, version)?;
        let mut local_cids = LocalCids::new(cids, Some(accept.initial_dcid));
        let first = local_cids.first();
        let mut params = Parameters::local(&config, first);
        params.cibir = local_cids.cibir();
        params.original_dcid = Some(accept.original_dcid);
        params.retry_scid = accept.retry_scid;
        if !first.is_empty() {
            params.stateless_reset_token = Some(local_cids.reset_token(&first));
            if config.preferred_address_v4.is_some() || config.preferred_address_v6.is_some() {
                let cid = local_cids.issue_preferred();
                params.preferred_address = Some(PreferredAddress {
                    v4: config.preferred_address_v4,
                    v6: config.preferred_address_v6,
                    cid,
                    reset_token: local_cids.reset_token(&cid),
                });
            }
        }
        let keys = tls::initial_keys(version, Role::Server, accept.initial_dcid.as_slice());
        let mut handshake = Handshake::new(None, Level::new(keys.0, keys.1), accept.original_dcid, version);
        handshake.peer_scid = Some(accept.peer_scid);
        let peer_cids = PeerCids::new(accept.peer_scid, config.active_connection_id_limit);
        let path = Path::new(0, path, &config, accept.address_validated);
        let mut this = Self::new(Role::Server, version, config, path, local_cids, peer_cids, random, now);
        if let Some(preferred) = &params.preferred_address {
            this.event(Event::CidIssued { cid: preferred.cid });
        }
        handshake.waiting = Some(Box::new(Waiting {
            tls: tls.clone(),
            parameters: params,
            initial_dcid: accept.initial_dcid,
            tokens: Default::default(),
            hello: Vec::new(),
        }));
        this.handshake = Some(Box::new(handshake));
        this.event(Event::CidIssued { cid: first });
        this.log_if_wanted(now);
        Ok(this)
    }

    /// Server: the address token to give should the connection go on in this version.
    pub(crate) fn keep_token(&mut self, version: u32, token: Bytes) {
        if let Some(waiting) = self.handshake.as_mut().and_then(|handshake| handshake.waiting.as_mut()) {
            waiting.tokens.push((version, token));
        }
    }

    /// Server: keeps the handshake counted at its endpoint until it is done or dropped.
    pub(crate) fn count_handshake(&mut self, guard: HalfOpenGuard) {
        if let Some(handshake) = &mut self.handshake {
            handshake.half_open = Some(guard);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of the struct that differ between the roles")]
    fn new(
        role: Role,
        version: u32,
        config: Arc<TransportConfig>,
        path: Path,
        local_cids: LocalCids,
        peer_cids: PeerCids,
        mut random: Random,
        now: Timestamp,
    ) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Handshake, now + config.handshake_timeout);
        let idle_timeout = config.idle_timeout;
        if let Some(timeout) = idle_timeout {
            timers.set(Timer::Idle, now + timeout);
        }
        let next_skip = 1 + random.u64() % SKIP_FIRST;
        let grease = random.u64();
        Self {
            role,
            state: State::Handshaking,
            version,
            now,
            handshake: None,
            keys: None,
            app: Default::default(),
            app_crypto: None,
            tls: None,
            alpn: None,
            outcome: Default::default(),
            early_streams: [0; 2],
            streams: Streams::new(role, &config),
            datagrams: Datagrams::new(&config),
            control: Control::default(),
            paths: Paths::new(path),
            local_cids,
            peer_cids,
            peer: PeerLimits {
                ack_delay_exponent: 3,
                disable_active_migration: false,
                max_udp_payload: u64::from(crate::config::MAX_UDP_PAYLOAD),
                grease_quic_bit: false,
                reset_stream_at: false,
            },
            ack_policy: AckPolicy {
                threshold: config.ack_eliciting_threshold,
                max_delay: config.max_ack_delay,
                reordering: 1,
            },
            timers,
            pto_count: 0,
            idle_timeout,
            sent_since_received: false,
            largest_non_probing: 0,
            device_limit: u16::MAX,
            next_skip,
            grease,
            counters: Default::default(),
            limits: LimitWatch::new(now),
            ack_delay_micros: 0,
            events: VecDeque::new(),
            random,
            config,
            qlog: Default::default(),
            extensions: None,
            #[cfg(test)]
            raw: None,
        }
    }

    /// Leaves the due packet number out, and chooses the next one to leave out.
    pub(super) fn skip_number(&mut self, now: Timestamp) {
        self.app.sent.skip_number(now, self.paths.active.id);
        self.next_skip = self.app.sent.next_number() + 1 + self.random.u64() % SKIP_EVERY;
    }
}

/// A connection ID for the server of the client's making (RFC 9000 §7.2).
pub(super) fn first_dcid(random: &mut Random) -> Cid {
    let mut dcid = [0; INITIAL_DCID_LEN];
    random.fill(&mut dcid);
    Cid::new(&dcid).unwrap_or_default()
}

fn check_version(config: &TransportConfig, version: u32) -> Result<(), ConnectError> {
    if config.versions.contains(&version) { Ok(()) } else { Err(ConnectError::Version(version)) }
}
