//! Rules for packets of no connection: new clients, unknown versions, leftovers of connections long gone.
//!
//! Everything here may come from spoofed addresses. Whatever is sent in answer is smaller than its cause and limited in
//! rate, and nothing is kept for a client before its first packet passed all checks here.

mod cause;
mod initial;
mod limits;
mod respond;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use s2n_quic_core::time::Timestamp;

pub use cause::DropCause;
use initial::InitialHeader;
pub(crate) use limits::HalfOpenGuard;
pub use limits::Limits;
use limits::{HalfOpen, RateLimits, Recent};

use crate::cid::{Cid, CidGenerator};
use crate::config::{MIN_UDP_PAYLOAD, TransportConfig};
use crate::connection::{Accept, Connection};
use crate::error::ConnectError;
use crate::header::{Header, LongHeader, LongKind, classify};
use crate::net::NetPath;
use crate::random::Random;
use crate::reset::{MIN_RESET_LEN, write_reset};
use crate::tls;
use crate::token::{TokenKey, Tokens, Verdict};

/// Least bytes of the Destination Connection ID that a client makes up (RFC 9000 §7.2).
const MIN_INITIAL_DCID_LEN: usize = 8;

/// When a server asks clients to show that they receive what is sent to their address (RFC 9000 §8.1.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum RetryPolicy {
    /// Never: one round trip less for everyone, and an open door for floods from spoofed addresses.
    Never,
    /// Always, except for clients that bring a good token.
    Always,
    /// While more handshakes are under way than [`Limits::retry_from`].
    #[default]
    UnderLoad,
}

/// What an endpoint does about clients it doesn't know.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// When to send Retry packets.
    pub retry: RetryPolicy,
    /// Hand out tokens for later connections (NEW_TOKEN, RFC 9000 §8.1.3).
    pub new_tokens: bool,
    /// The secret behind the tokens. Endpoints that share it accept each other's.
    pub token_key: Arc<TokenKey>,
    /// Limits against floods.
    pub limits: Limits,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            new_tokens: true,
            token_key: Arc::new(TokenKey::random()),
            limits: Limits::default(),
        }
    }
}

/// What becomes of a datagram that belongs to no connection.
#[derive(Debug)]
pub enum Unmatched {
    /// The first `len` bytes of the response buffer go back to where it came from, in one datagram.
    Respond {
        /// Length in bytes.
        len: usize,
    },
    /// A client wants a connection: see [`Endpoint::accept`].
    Accept(Incoming),
    /// Nothing.
    Drop(DropCause),
}

/// A client's first packet that passed all checks that need no keys.
#[derive(Debug)]
pub struct Incoming {
    path: NetPath,
    version: u32,
    original_dcid: Cid,
    retry_scid: Option<Cid>,
    initial_dcid: Cid,
    peer_scid: Cid,
    address_validated: bool,
    half_open: HalfOpenGuard,
}

impl Incoming {
    /// Where the client is.
    pub fn path(&self) -> NetPath {
        self.path
    }

    /// Has the client shown by a token that it receives what is sent to its address?
    pub fn address_validated(&self) -> bool {
        self.address_validated
    }
}

/// Answers sent, by kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Version Negotiation packets.
    pub negotiation_sent: u64,
    /// Retry packets.
    pub retry_sent: u64,
    /// Stateless resets.
    pub reset_sent: u64,
    /// Connections refused for a Retry token that was no good.
    pub refusal_sent: u64,
    /// Connections accepted.
    pub connection_accepted: u64,
    /// Handshakes under way.
    pub half_open: usize,
}

/// Decides about datagrams that belong to no connection.
pub struct Endpoint {
    transport: Arc<TransportConfig>,
    /// `None`: an endpoint of clients, which accepts nobody.
    tls: Option<tls::ServerConfig>,
    cids: Arc<dyn CidGenerator>,
    retry: RetryPolicy,
    new_tokens: bool,
    tokens: Tokens,
    limits: Limits,
    rates: RateLimits,
    recent: Recent,
    half_open: HalfOpen,
    random: Random,
    stats: EndpointStats,
}

impl Endpoint {
    /// An endpoint that accepts connections, with the usual [`EndpointSettings`].
    pub fn new(transport: Arc<TransportConfig>, tls: tls::ServerConfig, cids: Arc<dyn CidGenerator>) -> Self {
        let mut this = Self::of_clients(transport, cids);
        this.tls = Some(tls);
        this
    }

    /// An endpoint that accepts no connections and only resets what it has forgotten.
    pub fn of_clients(transport: Arc<TransportConfig>, cids: Arc<dyn CidGenerator>) -> Self {
        let EndpointSettings { retry, new_tokens, token_key, limits } = EndpointSettings::default();
        Self {
            transport,
            tls: None,
            cids,
            retry,
            new_tokens,
            tokens: Tokens::new(token_key),
            limits,
            rates: RateLimits::new(&limits),
            recent: Recent::new(&limits),
            half_open: HalfOpen::new(&limits),
            random: Random::from_os(),
            stats: EndpointStats::default(),
        }
    }

    /// Changes the rules. Call it before the first datagram: counts start anew.
    #[must_use]
    pub fn with_settings(mut self, settings: EndpointSettings) -> Self {
        let EndpointSettings { retry, new_tokens, token_key, limits } = settings;
        self.retry = retry;
        self.new_tokens = new_tokens;
        self.tokens = Tokens::new(token_key);
        self.limits = limits;
        self.rates = RateLimits::new(&limits);
        self.recent = Recent::new(&limits);
        self.half_open = HalfOpen::new(&limits);
        self
    }

    /// Replaces the source of unpredictable values, for runs that can be repeated.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Serves the next clients with other TLS settings.
    pub fn set_tls(&mut self, tls: tls::ServerConfig) {
        self.tls = Some(tls);
    }

    /// Decides about a datagram that no connection claims. An answer is written to `response`, which needs room for
    /// 1200 bytes; with less there may be none.
    pub fn on_unmatched(
        &mut self,
        now: Timestamp,
        path: NetPath,
        datagram: &[u8],
        response: &mut [u8],
    ) -> Unmatched {
        let decision = match classify(datagram, self.cids.len()) {
            Ok(Header::Short { dcid, fixed_bit }) => {
                self.on_short(now, path, dcid, fixed_bit, datagram.len(), response)
            }
            Ok(Header::Long(header)) => self.on_long(now, path, &header, datagram.len(), response),
            Err(error) => Err(DropCause::Header(error)),
        };
        decision.unwrap_or_else(Unmatched::Drop)
    }

    /// Makes the connection that a client asked for. Give it the same datagram next
    /// ([`Connection::on_datagram`]).
    pub fn accept(&mut self, now: Timestamp, incoming: Incoming) -> Result<Connection, ConnectError> {
        let Some(tls) = &self.tls else {
            return Err(ConnectError::Version(incoming.version));
        };
        let Incoming { path, version, original_dcid, retry_scid, initial_dcid, peer_scid, .. } = incoming;
        let mut connection = Connection::accept(
            Accept {
                config: self.transport.clone(),
                tls,
                cids: self.cids.clone(),
                path,
                version,
                original_dcid,
                retry_scid,
                initial_dcid,
                peer_scid,
                address_validated: incoming.address_validated,
                random: self.random.fork(),
            },
            now,
        )?;
        connection.count_handshake(incoming.half_open);
        if self.new_tokens {
            for &possible in &self.transport.versions {
                let token = self.tokens.new_token(now, path.remote, possible, &mut self.random);
                let token = Bytes::copy_from_slice(token.as_slice());
                if possible == version {
                    connection.send_token(token);
                } else {
                    connection.keep_token(possible, token);
                }
            }
        }
        self.stats.connection_accepted += 1;
        Ok(connection)
    }

    /// What was answered so far.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats { half_open: self.half_open.total(), ..self.stats }
    }

    /// A short header: of a connection that we, or one before us, no longer know (RFC 9000 §10.3).
    fn on_short(
        &mut self,
        now: Timestamp,
        path: NetPath,
        dcid: &[u8],
        fixed_bit: bool,
        datagram_len: usize,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        self.check_fixed_bit(fixed_bit)?;
        // Zero-length IDs have no token, and IDs of foreign make are of no connection of ours.
        let cid = Cid::new(dcid).filter(|cid| !cid.is_empty() && self.cids.validate(cid.as_slice()));
        let cid = cid.ok_or(DropCause::CidUnknown)?;
        if datagram_len <= MIN_RESET_LEN {
            return Err(DropCause::ResetUndersized);
        }
        self.recent.first(now, path.remote, [cid.as_slice(), &[]])?;
        self.rates.reset(now, path.remote)?;
        let token = self.cids.reset_token(&cid);
        let len = write_reset(&token, datagram_len, &mut self.random, response)
            .ok_or(DropCause::ResponseOutsized)?;
        self.stats.reset_sent += 1;
        Ok(Unmatched::Respond { len })
    }

    fn on_long(
        &mut self,
        now: Timestamp,
        path: NetPath,
        header: &LongHeader<'_>,
        datagram_len: usize,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        let spoken = self.transport.versions.contains(&header.version);
        match header.kind {
            // RFC 8999 §6: never answered.
            LongKind::VersionNegotiation => Err(DropCause::NegotiationUnmatched),
            LongKind::Unknown => self.on_unknown_version(now, path, header, datagram_len, response),
            _ if !spoken => self.on_unknown_version(now, path, header, datagram_len, response),
            LongKind::Initial => self.on_initial(now, path, header, datagram_len, response),
            LongKind::Retry => Err(DropCause::RetryUnmatched),
            LongKind::Handshake => Err(DropCause::HandshakeUnmatched),
            // It came before the Initial packet it belongs with; the client sends it again.
            LongKind::ZeroRtt => Err(DropCause::ZeroRttUnmatched),
        }
    }

    fn on_unknown_version(
        &mut self,
        now: Timestamp,
        path: NetPath,
        header: &LongHeader<'_>,
        datagram_len: usize,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        self.listening()?;
        // RFC 9000 §5.2.2, §6.1: only to what is large enough to start a connection of any version.
        if datagram_len < usize::from(MIN_UDP_PAYLOAD) {
            return Err(DropCause::VersionUnsupported);
        }
        self.admit_response(now, path, header)?;
        let bits = self.random.u64();
        let (reserved, unused) = (self.transport.grease.then_some(bits as u32), (bits >> 32) as u8);
        let len = respond::version_negotiation(header, &self.transport.versions, reserved, unused, response)
            .ok_or(DropCause::ResponseOutsized)?;
        self.stats.negotiation_sent += 1;
        Ok(Unmatched::Respond { len })
    }

    /// A client's first packet, or its answer to a Retry.
    fn on_initial(
        &mut self,
        now: Timestamp,
        path: NetPath,
        header: &LongHeader<'_>,
        datagram_len: usize,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        self.listening()?;
        self.check_fixed_bit(header.fixed_bit)?;
        // RFC 9000 §14.1.
        if datagram_len < usize::from(MIN_UDP_PAYLOAD) {
            return Err(DropCause::InitialUndersized);
        }
        let InitialHeader { token } = initial::parse(header.rest)?;
        let dcid = Cid::new(header.dcid).ok_or(DropCause::InitialMalformed)?;
        let peer_scid = Cid::new(header.scid).ok_or(DropCause::InitialMalformed)?;

        let verdict = self.tokens.open(now, path.remote, header.version, header.dcid, token);
        let (original_dcid, retry_scid, address_validated) = match verdict {
            Verdict::Retried { original_dcid } => (original_dcid, Some(dcid), true),
            Verdict::RetryInvalid => return self.refuse(now, path, header, response),
            Verdict::Known => (client_made(dcid)?, None, true),
            Verdict::Worthless if self.wants_retry() => {
                return self.ask_again(now, path, header, &client_made(dcid)?, response);
            }
            Verdict::Worthless => (client_made(dcid)?, None, false),
        };
        let half_open = self.half_open.admit(path.remote.ip())?;
        Ok(Unmatched::Accept(Incoming {
            path,
            version: header.version,
            original_dcid,
            retry_scid,
            initial_dcid: dcid,
            peer_scid,
            address_validated,
            half_open,
        }))
    }

    fn wants_retry(&self) -> bool {
        match self.retry {
            RetryPolicy::Never => false,
            RetryPolicy::Always => true,
            RetryPolicy::UnderLoad => self.half_open.total() >= self.limits.retry_from,
        }
    }

    /// Retry: come again with this token (RFC 9000 §8.1.2).
    fn ask_again(
        &mut self,
        now: Timestamp,
        path: NetPath,
        header: &LongHeader<'_>,
        dcid: &Cid,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        self.admit_response(now, path, header)?;
        let scid = self.retry_scid(dcid);
        let token =
            self.tokens.retry(now, path.remote, header.version, dcid, scid.as_slice(), &mut self.random);
        let unused = self.random.u64() as u8;
        let len = respond::retry(header, &scid, token.as_slice(), unused, response)
            .ok_or(DropCause::ResponseOutsized)?;
        self.stats.retry_sent += 1;
        Ok(Unmatched::Respond { len })
    }

    /// A connection ID for the client to come back to: one of ours, so that it is routed here, unless ours are too
    /// short to make Initial keys from. Never the client's own choice (RFC 9000 §17.2.5.1).
    fn retry_scid(&mut self, client_choice: &Cid) -> Cid {
        loop {
            let cid = if self.cids.len() >= MIN_INITIAL_DCID_LEN {
                self.cids.generate()
            } else {
                let mut bytes = [0; MIN_INITIAL_DCID_LEN];
                self.random.fill(&mut bytes);
                Cid::new(&bytes).unwrap_or_default()
            };
            if cid != *client_choice {
                return cid;
            }
        }
    }

    /// A client that followed a Retry will follow no other: better to end its wait (RFC 9000 §8.1.2).
    fn refuse(
        &mut self,
        now: Timestamp,
        path: NetPath,
        header: &LongHeader<'_>,
        response: &mut [u8],
    ) -> Result<Unmatched, DropCause> {
        self.admit_response(now, path, header)?;
        let len = respond::invalid_token(header, response).ok_or(DropCause::ResponseOutsized)?;
        self.stats.refusal_sent += 1;
        Ok(Unmatched::Respond { len })
    }

    /// One answer to a packet, and not too many to anyone.
    fn admit_response(
        &mut self,
        now: Timestamp,
        path: NetPath,
        cause: &LongHeader<'_>,
    ) -> Result<(), DropCause> {
        self.recent.first(now, path.remote, [cause.dcid, cause.scid])?;
        self.rates.response(now, path.remote)
    }

    fn listening(&self) -> Result<(), DropCause> {
        if self.tls.is_some() { Ok(()) } else { Err(DropCause::ListenerMissing) }
    }

    /// A clear fixed bit is not QUIC (RFC 9000 §17.2), unless we said that peers may clear it (RFC 9287 §3).
    fn check_fixed_bit(&self, fixed_bit: bool) -> Result<(), DropCause> {
        if fixed_bit || self.transport.grease { Ok(()) } else { Err(DropCause::FixedBitCleared) }
    }
}

/// A Destination Connection ID of the client's making, if it is long enough (RFC 9000 §7.2).
fn client_made(dcid: Cid) -> Result<Cid, DropCause> {
    if dcid.len() >= MIN_INITIAL_DCID_LEN { Ok(dcid) } else { Err(DropCause::DcidUndersized) }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("listening", &self.tls.is_some())
            .field("retry", &self.retry)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
