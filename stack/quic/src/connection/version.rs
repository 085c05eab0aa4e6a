//! The choice of a QUIC version (RFC 9368), and the change to it while the handshake goes on (RFC 9369 §4).
//!
//! Versions 1 and 2 are compatible: a server may answer the first flight of one in the other. A client starts anew if
//! the server speaks only others. Both ways end in a check that nobody on the path has forced the choice.

use bytes::Bytes;
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;
use smallvec::SmallVec;

use super::handshake::{Handshake, Level, LevelKeys};
use super::params::{Parameters, VersionInformation};
use super::space::Space;
use super::start::first_dcid;
use super::{Connection, Delivery};
use crate::cid::Cid;
use crate::error::{CloseReason, ConnectError, TransportError};
use crate::event::Event;
use crate::header::{Header, VERSION_1, classify};
use crate::packet::{LongPacket, PacketKind};
use crate::role::Role;
use crate::tls::{self, hello};

/// RFC 9368 §10.2.
const VERSION_NEGOTIATION_ERROR: TransportError = TransportError::new(VarInt::from_u8(0x11));

/// What a handshake knows of its version.
pub(super) struct Negotiation {
    /// The version of the client's first flight.
    pub(super) original: u32,
    /// Client: this attempt follows a Version Negotiation packet.
    reacted: bool,
    /// Client: the server may answer in another version.
    changes: bool,
    /// Client: what another attempt needs.
    restart: Option<Box<Restart>>,
    /// Server that went over to another version: keys of Initial packets in the original one.
    pub(super) original_keys: Option<Box<LevelKeys>>,
}

/// What a client needs to start anew in another version.
pub(super) struct Restart {
    tls: tls::ClientConfig,
    server_name: Box<str>,
}

/// A server that has not seen the whole ClientHello, and so doesn't know the version yet.
pub(super) struct Waiting {
    pub(super) tls: tls::ServerConfig,
    /// What we are to announce.
    pub(super) parameters: Parameters,
    /// Destination of the client's Initial packets; their keys come from it.
    pub(super) initial_dcid: Cid,
    /// Address tokens for versions other than the original one.
    pub(super) tokens: SmallVec<[(u32, Bytes); 1]>,
    /// What came of the ClientHello so far.
    pub(super) hello: Vec<u8>,
}

impl Negotiation {
    /// A server's, or a client's without a choice.
    pub(super) fn new(original: u32) -> Self {
        Self { original, reacted: false, changes: false, restart: None, original_keys: None }
    }

    /// A client's.
    pub(super) fn client(original: u32, changes: bool, tls: &tls::ClientConfig, server_name: &str) -> Self {
        let restart = Restart { tls: tls.clone(), server_name: server_name.into() };
        Self { changes, restart: Some(Box::new(restart)), ..Self::new(original) }
    }
}

/// The version a client attempts, given what the server speaks (RFC 9000 §6.2).
fn pick(ours: &[u32], theirs: &[u32]) -> Option<u32> {
    ours.iter().copied().find(|version| theirs.contains(version))
}

impl Connection {
    /// A client's transport parameters for an attempt in this version.
    pub(super) fn client_versions(version: u32, changes: bool, ours: &[u32]) -> VersionInformation {
        let available = if changes { SmallVec::from_slice(ours) } else { SmallVec::from_slice(&[version]) };
        VersionInformation { chosen: version, available }
    }

    /// Client: keys for an Initial packet of another version, if the server may have chosen that one.
    pub(super) fn keys_of_other_version(&self, header: &LongPacket) -> Option<LevelKeys> {
        if header.kind != PacketKind::Initial || !self.is_possible_version(header.version) {
            return None;
        }
        let handshake = self.handshake.as_ref()?;
        let dcid = handshake.retry_scid.unwrap_or(handshake.original_dcid);
        let (packet, header) = tls::initial_keys(header.version, self.role, dcid.as_slice());
        Some(LevelKeys { packet, header })
    }

    /// Client: may the server go on in this version?
    pub(super) fn is_possible_version(&self, version: u32) -> bool {
        let Some(handshake) = &self.handshake else { return false };
        let negotiation = &handshake.negotiation;
        self.role.is_client()
            && negotiation.changes
            && self.version == negotiation.original
            && version != self.version
            && handshake.handshake.is_none()
            && self.config.versions.contains(&version)
    }

    /// Client: an authentic Initial packet says that the server goes on in another version (RFC 9369 §4.1).
    pub(super) fn adopt_version(&mut self, version: u32, keys: LevelKeys) {
        let Some(handshake) = &mut self.handshake else { return };
        self.version = version;
        if let Some(initial) = &mut handshake.initial {
            initial.keys = keys;
        }
        if let Some(tls) = &mut handshake.tls {
            tls.set_version(version);
        }
    }

    /// Server: begins TLS once the ClientHello is whole, and gives it. `None`: it is not.
    pub(super) fn begin_tls(&mut self) -> Result<Option<Bytes>, TransportError> {
        let Some(handshake) = &mut self.handshake else { return Ok(None) };
        let (Some(waiting), Some(initial)) = (&mut handshake.waiting, &mut handshake.initial) else {
            return Ok(None);
        };
        while let Some(data) = initial.crypto.read(None) {
            waiting.hello.extend_from_slice(&data);
        }
        if !hello::is_whole(&waiting.hello) {
            if waiting.hello.len() > self.config.crypto_buffer {
                return Err(TransportError::CRYPTO_BUFFER_EXCEEDED.with_reason("the ClientHello is too long"));
            }
            return Ok(None);
        }
        let Some(waiting) = handshake.waiting.take() else { return Ok(None) };
        let Waiting { tls, mut parameters, initial_dcid, mut tokens, hello } = *waiting;
        let original = self.version;
        let version = self.server_choice(&hello);
        parameters.version_information = Some(VersionInformation {
            chosen: version,
            available: SmallVec::from_slice(&self.config.versions),
        });
        let grease = self.config.grease.then(|| self.random.u64());
        let session = tls::Session::server(&tls, version, parameters.encode(grease))
            .map_err(|_| TransportError::INTERNAL_ERROR.with_reason("TLS can't start"))?;
        let Some(handshake) = &mut self.handshake else { return Ok(None) };
        handshake.tls = Some(session);
        if version != original
            && let Some(initial) = &mut handshake.initial
        {
            let (packet, header) = tls::initial_keys(version, Role::Server, initial_dcid.as_slice());
            let original_keys = std::mem::replace(&mut initial.keys, LevelKeys { packet, header });
            // RFC 9369 §4.1: kept until the client is known to follow.
            handshake.negotiation.original_keys = Some(Box::new(original_keys));
            self.version = version;
            // RFC 9369 §5: tokens are of the negotiated version.
            if let Some(at) = tokens.iter().position(|(of, _)| *of == version) {
                self.control.new_token = Some(tokens.swap_remove(at).1);
                self.control.new_token_delivery = Delivery::Wanted;
            }
        }
        Ok(Some(Bytes::from(hello)))
    }

    /// Server: the version to go on in, the first of ours that the client offers (RFC 9368 §2.3).
    fn server_choice(&self, hello: &[u8]) -> u32 {
        let original = self.version;
        let Some(hello) = hello::ClientHello::read(hello) else { return original };
        // 0-RTT packets stay in the version they were sent in (RFC 9369 §4.1), and so do we with them.
        if hello.early_data {
            return original;
        }
        let offered =
            hello.transport_parameters.and_then(|bytes| Parameters::decode(bytes, Role::Client).ok());
        match offered.and_then(|parameters| parameters.version_information) {
            Some(offered) if offered.chosen == original => {
                pick(&self.config.versions, &offered.available).unwrap_or(original)
            }
            _ => original,
        }
    }

    /// A Version Negotiation packet (RFC 9000 §6.2): a client tries once more in a version that both speak.
    pub(super) fn on_version_negotiation(&mut self, now: Timestamp, packet: &mut [u8]) {
        self.counters.packet_invalid_dropped += 1;
        let Some(handshake) = self.handshake.as_mut().filter(|_| self.role.is_client()) else { return };
        // Only as the answer to our first packet, and RFC 9368 §4: not twice.
        let answered = handshake.peer_scid.is_some() || handshake.retry_scid.is_some();
        let Ok(Header::Long(long)) = classify(packet, 0) else { return };
        let ours = Some(handshake.original_dcid) == Cid::new(long.scid)
            && Cid::new(long.dcid).is_some_and(|dcid| self.local_cids.takes_long(&dcid));
        let listed = long.rest.chunks_exact(4);
        let whole = listed.remainder().is_empty() && !long.rest.is_empty();
        let listed: SmallVec<[u32; 8]> =
            listed.map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap_or_default())).collect();
        // RFC 9368 §4: it must not list the version we chose.
        if answered || !ours || !whole || listed.contains(&self.version) || handshake.negotiation.reacted {
            return;
        }
        let restart = handshake.negotiation.restart.take();
        let (Some(version), Some(restart)) = (pick(&self.config.versions, &listed), restart) else {
            return self.give_up(CloseReason::VersionMismatch);
        };
        match self.restart(now, version, &restart) {
            Ok(()) => {}
            Err(ConnectError::Handshake(error)) => self.fail(now, error),
            Err(_) => self.give_up(CloseReason::VersionMismatch),
        }
    }

    /// Client: starts anew in another version, as if nothing had been sent (RFC 9368 §2.1).
    fn restart(&mut self, now: Timestamp, version: u32, restart: &Restart) -> Result<(), ConnectError> {
        let Restart { tls, server_name } = restart;
        let changes = self.config.versions.len() > 1 && tls.may_change_version();
        let dcid = first_dcid(&mut self.random);
        let mut parameters = Parameters::local(&self.config, self.local_cids.first());
        parameters.version_information = Some(Self::client_versions(version, changes, &self.config.versions));
        let grease = self.config.grease.then(|| self.random.u64());
        let session = tls::Session::client(tls, server_name, version, changes, parameters.encode(grease))?;
        let (packet, header) = tls::initial_keys(version, Role::Client, dcid.as_slice());
        self.discard_sent(crate::packet::SpaceId::Initial);
        self.discard_sent(crate::packet::SpaceId::App);
        let mut handshake = Handshake::new(Some(session), Level::new(packet, header), dcid, version);
        handshake.negotiation.changes = changes;
        handshake.negotiation.reacted = true;
        let before = self.handshake.replace(Box::new(handshake));
        if before.is_some_and(|before| before.sent_early()) {
            self.streams.on_zero_rtt_rejected();
            self.event(Event::EarlyData { accepted: false });
        }
        self.version = version;
        self.app = Space::default();
        self.peer_cids.replace_first(dcid);
        self.pto_count = 0;
        self.drive_handshake(now).map_err(ConnectError::Handshake)?;
        self.set_loss_timer(now);
        Ok(())
    }

    /// What the peer says of versions must agree with what happened (RFC 9368 §4).
    pub(super) fn check_versions(&self, parameters: &Parameters) -> Result<(), TransportError> {
        let Some(handshake) = &self.handshake else { return Ok(()) };
        let information = parameters.version_information.as_ref();
        let verdict = match self.role {
            Role::Server => judge_client(&handshake.negotiation, information),
            Role::Client => {
                judge_server(&handshake.negotiation, self.version, &self.config.versions, information)
            }
        };
        verdict.map_err(|reason| VERSION_NEGOTIATION_ERROR.with_reason(reason))
    }
}

/// Server: the client chose the version its packets came in.
fn judge_client(
    negotiation: &Negotiation,
    information: Option<&VersionInformation>,
) -> Result<(), &'static str> {
    match information {
        Some(information) if information.chosen != negotiation.original => {
            Err("the client chose another version than its packets have")
        }
        _ => Ok(()),
    }
}

/// Client: the server chose the version we are in, and knowing all its versions we would have done the same.
fn judge_server(
    negotiation: &Negotiation,
    version: u32,
    ours: &[u32],
    information: Option<&VersionInformation>,
) -> Result<(), &'static str> {
    let Some(VersionInformation { chosen, available }) = information else {
        if version != negotiation.original {
            return Err("the server changed the version and does not say so");
        }
        // RFC 9368 §8: servers of version 1 alone know nothing of this.
        return match negotiation.reacted {
            true if version != VERSION_1 || pick(ours, &[VERSION_1]) != Some(negotiation.original) => {
                Err("the server does not confirm its Version Negotiation packet")
            }
            _ => Ok(()),
        };
    };
    if *chosen != version {
        return Err("the server chose another version than its packets have");
    }
    if negotiation.reacted {
        let mut theirs = available.clone();
        theirs.push(version);
        if available.is_empty() || pick(ours, &theirs) != Some(negotiation.original) {
            return Err("a Version Negotiation packet led to a lesser version");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::VERSION_2;

    fn info(chosen: u32, available: &[u32]) -> VersionInformation {
        VersionInformation { chosen, available: SmallVec::from_slice(available) }
    }

    fn reacted(original: u32) -> Negotiation {
        Negotiation { reacted: true, ..Negotiation::new(original) }
    }

    #[test]
    fn a_client_must_have_chosen_what_it_sent() {
        let negotiation = Negotiation::new(VERSION_1);
        assert!(judge_client(&negotiation, None).is_ok());
        assert!(judge_client(&negotiation, Some(&info(VERSION_1, &[VERSION_1]))).is_ok());
        assert!(judge_client(&negotiation, Some(&info(VERSION_2, &[VERSION_1, VERSION_2]))).is_err());
    }

    #[test]
    fn a_server_must_own_up_to_its_choice() {
        let both = [VERSION_2, VERSION_1];
        let judge = |negotiation: &Negotiation, version, information: Option<VersionInformation>| {
            judge_server(negotiation, version, &both, information.as_ref()).is_ok()
        };
        let plain = Negotiation::new(VERSION_1);
        assert!(judge(&plain, VERSION_1, None));
        assert!(judge(&plain, VERSION_1, Some(info(VERSION_1, &[]))));
        assert!(judge(&plain, VERSION_2, Some(info(VERSION_2, &both))));
        assert!(!judge(&plain, VERSION_2, None), "changed without a word");
        assert!(!judge(&plain, VERSION_1, Some(info(VERSION_2, &both))), "says another");
        assert!(!judge(&plain, VERSION_2, Some(info(VERSION_1, &both))), "says the original one");
    }

    #[test]
    fn a_forged_list_of_versions_is_found_out() {
        let judge = |ours: &[u32], attempted, version, information: Option<VersionInformation>| {
            judge_server(&reacted(attempted), version, ours, information.as_ref()).is_ok()
        };
        let both = [VERSION_2, VERSION_1];
        // The server has the better one too: the list that led here was a lie.
        assert!(!judge(&both, VERSION_1, VERSION_1, Some(info(VERSION_1, &both))));
        assert!(judge(&both, VERSION_1, VERSION_1, Some(info(VERSION_1, &[VERSION_1]))));
        assert!(!judge(&both, VERSION_1, VERSION_1, Some(info(VERSION_1, &[]))), "says nothing");
        assert!(judge(&both, VERSION_2, VERSION_2, Some(info(VERSION_2, &both))));
        // RFC 9368 §8.
        assert!(judge(&both, VERSION_1, VERSION_1, None));
        assert!(!judge(&both, VERSION_2, VERSION_2, None));
    }
}
