//! Changes of address: the peer's, and our own (RFC 9000 §8.2, §9).

use std::net::SocketAddr;

use s2n_quic_core::time::Timestamp;

use super::path::ChallengeData;
use super::receive::Arrival;
use super::{Connection, State};
use crate::event::Event;
use crate::net::NetPath;
use crate::role::Role;

/// Why a client can't change its address.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// Only clients do, and only after the handshake (RFC 9000 §9).
    #[error("only a client can move, and only once the handshake is confirmed")]
    NotNow,
    /// The server asked us not to (RFC 9000 §18.2).
    #[error("the server does not allow connections to move")]
    Forbidden,
    /// A new path needs a new connection ID of the server's, and there is none (RFC 9000 §9.5).
    #[error("the server has not given a connection ID for another path")]
    NoCid,
}

impl Connection {
    /// The addresses in use.
    pub fn path(&self) -> NetPath {
        self.paths.active.net
    }

    /// Client: goes on from another local address (RFC 9000 §9.2).
    pub fn migrate(&mut self, now: Timestamp, path: NetPath) -> Result<(), MigrateError> {
        self.now = now;
        if self.role != Role::Client || !self.is_confirmed() {
            return Err(MigrateError::NotNow);
        }
        if self.peer.disable_active_migration {
            return Err(MigrateError::Forbidden);
        }
        if self.paths.active.net == path {
            return Ok(());
        }
        if !self.peer_cids.is_zero_length() && !self.peer_cids.has_spare() {
            return Err(MigrateError::NoCid);
        }
        let id = self.add_path(path);
        if let Some(path) = self.paths.by_id(id) {
            // The server's address has not changed: it can't be made the victim of what we send.
            path.validated = true;
        }
        self.move_to(now, id);
        Ok(())
    }

    /// May packets come from an address not seen before?
    pub(super) fn may_migrate(&self) -> bool {
        // RFC 9000 §9: not before the handshake is confirmed, and only clients move.
        self.role.is_server() && self.config.migration && matches!(self.state, State::Confirmed)
    }

    /// The number of the path an authentic packet came on; a new one if need be.
    #[inline]
    pub(super) fn path_of_authentic(&mut self, arrival: &Arrival) -> u8 {
        match self.paths.find(&arrival.net) {
            Some(id) => id,
            None => {
                let id = self.add_path(arrival.net);
                if let Some(path) = self.paths.by_id(id) {
                    path.on_received(arrival.datagram_len);
                }
                id
            }
        }
    }

    fn add_path(&mut self, net: NetPath) -> u8 {
        let (id, displaced) = self.paths.add(net, &self.config);
        if let Some(path) = displaced {
            self.peer_cids.release(path.id);
        }
        if let Some(path) = self.paths.by_id(id) {
            path.mtu.limit_to(self.peer.max_udp_payload.min(self.device_limit.into()));
        }
        self.peer_cids.assign(id);
        id
    }

    /// A packet with frames other than for probing came. RFC 9000 §9.3: if it is the newest, its path is the one to use.
    #[inline]
    pub(super) fn on_non_probing(&mut self, now: Timestamp, number: u64, path: u8) {
        if number >= self.largest_non_probing {
            self.largest_non_probing = number;
            if path != self.paths.active.id {
                // RFC 9000 §9: only clients move. A server that answers on the path left has just not heard of it.
                if self.role.is_server() {
                    self.move_to(now, path);
                }
            } else if !self.paths.active.proven {
                self.paths.active.start_challenge(&mut self.random);
            }
        }
    }

    /// Makes another path the one in use, and begins to validate it.
    fn move_to(&mut self, now: Timestamp, id: u8) {
        let old = self.paths.active.id;
        self.paths.activate(id);
        if self.paths.active.id != id {
            return;
        }
        self.counters.path_changed += 1;
        if !self.peer_cids.is_zero_length() && self.peer_cids.of_path(id).is_none() {
            // RFC 9000 §9.5 allows it where the peer did not move by its own will.
            self.peer_cids.hand_over(old, id);
        }
        let was_known = self.paths.active.proven;
        let (active, others) = (&mut self.paths.active, &mut self.paths.others);
        let previous = others.iter_mut().find(|path| path.id == old);
        if let Some(previous) = previous {
            let same_host = previous.net.remote.ip() == active.net.remote.ip()
                && previous.net.local.ip() == active.net.local.ip();
            if same_host && !was_known {
                // RFC 9000 §9.4: another port alone is most likely the same path behind a NAT.
                active.rtt = previous.rtt;
                active.congestion = previous.congestion.continued();
                active.mtu = previous.mtu.continued();
            }
            if previous.proven && self.role.is_server() {
                // RFC 9000 §9.3.3: if somebody else forwards the peer's packets, the old path still answers.
                previous.start_challenge(&mut self.random);
            }
        }
        if was_known {
            let path = self.paths.active.net;
            self.event(Event::PathChanged { path });
        } else {
            self.paths.active.start_challenge(&mut self.random);
        }
        self.pto_count = 0;
        self.datagrams_room_changed();
        self.set_loss_timer(now);
    }

    /// PATH_RESPONSE (RFC 9000 §8.2.3): it validates the path the challenge was sent on, wherever the answer came.
    pub(super) fn on_path_response(&mut self, now: Timestamp, data: &ChallengeData) {
        let Some(path) = self
            .paths
            .iter_mut()
            .find(|path| path.challenge.as_ref().is_some_and(|challenge| challenge.data == *data))
        else {
            return;
        };
        let Some(challenge) = path.challenge.take() else { return };
        let news = !std::mem::replace(&mut path.proven, true);
        path.validated = true;
        let id = path.id;
        if !challenge.padded {
            // RFC 9000 §8.2.1: the address is proven, but not that the path carries full-sized datagrams.
            path.start_challenge(&mut self.random);
        }
        if id == self.paths.active.id {
            if self.config.mtu_discovery {
                self.paths.active.mtu.start(now);
            }
            if news {
                let path = self.paths.active.net;
                self.event(Event::PathChanged { path });
            }
            if self.role.is_client() {
                self.leave_other_paths();
            }
            self.set_loss_timer(now);
        } else if challenge.then_move {
            self.move_to(now, id);
            self.leave_other_paths();
        }
    }

    /// Client: tests the address the server prefers by probing frames alone, and goes on there if it answers; else everything
    /// goes where it went before (RFC 9000 §9.6.1, §9.6.2, §21.5.3).
    pub(super) fn try_preferred_address(&mut self, remote: SocketAddr) {
        let net = NetPath { remote, ..self.paths.active.net };
        if self.paths.find(&net).is_some() || !self.peer_cids.has_spare() {
            return;
        }
        let id = self.add_path(net);
        let random = &mut self.random;
        if let Some(path) = self.paths.by_id(id) {
            // The server itself named the address; a few packets are all it gets before it answers.
            path.validated = true;
            path.start_challenge(random);
            if let Some(challenge) = &mut path.challenge {
                challenge.then_move = true;
            }
        }
    }

    /// Client: the path moved to works, and the others are not gone back to (RFC 9000 §9.6.3).
    fn leave_other_paths(&mut self) {
        for path in std::mem::take(&mut self.paths.others) {
            self.peer_cids.release(path.id);
        }
    }

    /// Path validations whose time is over.
    pub(super) fn on_path_timeout(&mut self, now: Timestamp) {
        let due: smallvec::SmallVec<[u8; 4]> = self
            .paths
            .iter()
            .filter(|path| {
                path.challenge
                    .as_ref()
                    .is_some_and(|challenge| challenge.deadline.is_some_and(|at| at <= now))
            })
            .map(|path| path.id)
            .collect();
        for id in due {
            let failed = self.paths.by_id(id).is_some_and(|path| !path.on_challenge_timeout());
            if failed {
                self.on_path_failed(now, id);
            }
        }
    }

    fn on_path_failed(&mut self, now: Timestamp, id: u8) {
        if id == self.paths.active.id {
            // RFC 9000 §9.3.2: back to the last path that is known to work.
            let Some(fallback) = self.paths.others.iter().rev().find(|path| path.proven).map(|path| path.id)
            else {
                // RFC 9000 §8.2.4 lets us end it here. But answers may just be lost, or the peer has moved on and its word
                // of that is: the path is tried again when something comes on it, and the idle timeout has the last word.
                return;
            };
            self.paths.activate(fallback);
            if self.peer_cids.of_path(fallback).is_none() {
                self.peer_cids.hand_over(id, fallback);
            }
            self.counters.path_changed += 1;
            let path = self.paths.active.net;
            self.event(Event::PathChanged { path });
            self.datagrams_room_changed();
            self.set_loss_timer(now);
        }
        self.peer_cids.release(id);
        self.paths.remove(id);
    }

    /// The stock of the peer's connection IDs has changed: paths without one may have one now.
    pub(super) fn on_peer_cids_changed(&mut self) {
        if self.peer_cids.is_zero_length() {
            return;
        }
        for path in self.paths.iter() {
            if self.peer_cids.of_path(path.id).is_none() {
                self.peer_cids.assign(path.id);
            }
        }
    }

    /// The room for datagram frames follows the size of packets.
    pub(super) fn datagrams_room_changed(&mut self) {
        let mtu = usize::from(self.paths.active.mtu.current());
        let cid = self.dcid(self.paths.active.id).map_or(0, |cid| cid.len());
        // First byte, connection ID, longest packet number, tag.
        self.datagrams.on_packet_payload(mtu.saturating_sub(1 + cid + 4 + 16));
    }
}
