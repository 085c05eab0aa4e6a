//! What the application asks of a connection as a whole, beyond its streams: new keys, and another address.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use wirepath_quic::{MigrateError, NetPath};
use wirepath_trace::BatchClock;

use super::Connection;
use crate::{clock::timestamp, egress::Egress, link::Command, pool_shard::SocketLease, tokens::TokenSink};

/// Former sockets a connection keeps: late packets still come there, and if the new path fails, the old one is gone
/// back to.
const FORMER_SOCKETS: usize = 2;

/// A client's wish to go on from another local address (RFC 9000 §9.2).
#[derive(Debug)]
pub struct Move {
    /// The addresses to go on with.
    pub path: NetPath,
    /// The socket of the local one.
    pub socket: Arc<SocketLease>,
    /// The device to send through.
    pub via: Arc<Egress>,
    /// Told at once whether the connection may move. Whether the new path works shows later.
    pub reply: oneshot::Sender<Result<(), MigrateError>>,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Told when the keys are updated, which has to wait for the peer's word on the last update.
    key_updates: Vec<oneshot::Sender<()>>,
    /// The peer was given something to acknowledge under the present keys, without which there are no new ones.
    pinged: bool,
    /// Sockets the connection has moved away from, with the paths there, oldest first.
    former: Vec<(Arc<SocketLease>, NetPath)>,
    tokens: Option<TokenSink>,
}

impl Requests {
    pub(super) fn with_tokens(sink: TokenSink) -> Self {
        Self { tokens: Some(sink), ..Self::default() }
    }
}

impl Requests {
    /// The paths the connection has moved away from, and may go back to.
    pub(super) fn former_paths(&self) -> impl Iterator<Item = NetPath> + '_ {
        self.former.iter().map(|(_, path)| *path)
    }
}

impl Connection {
    /// Carries out a command on the connection as a whole.
    pub(super) fn apply(&mut self, command: Command) {
        match command {
            Command::Close(code, reason) => self.quic.close(timestamp(BatchClock::last()), code, &reason),
            Command::UpdateKeys(reply) => self.requests.get_or_insert_default().key_updates.push(reply),
            Command::Move(request) => self.relocate(*request),
            other => self.streams.apply(&mut self.quic, other),
        }
    }

    fn relocate(&mut self, request: Move) {
        let Move { path, socket, via, reply } = request;
        let was = self.quic.path();
        let outcome = self.quic.migrate(timestamp(BatchClock::last()), path);
        if outcome.is_ok() {
            via.open_flow(&path);
            self.via = via;
            let former = &mut self.requests.get_or_insert_default().former;
            former.push((std::mem::replace(&mut self.socket, socket), was));
            if former.len() > FORMER_SOCKETS {
                let (_socket, path) = former.remove(0);
                self.via.close_flow(path);
            }
        }
        // Whoever asked has gone; the connection moves all the same.
        let _ = reply.send(outcome);
    }

    /// Updates the keys if somebody waits for it and it is allowed by now (RFC 9001 §6.1).
    pub(super) fn update_keys(&mut self) {
        let Some(requests) = self.requests.as_mut().filter(|requests| !requests.key_updates.is_empty())
        else {
            return;
        };
        if self.quic.update_keys() {
            requests.pinged = false;
            for reply in std::mem::take(&mut requests.key_updates) {
                let _ = reply.send(());
            }
        } else if self.quic.is_handshake_confirmed() && !std::mem::replace(&mut requests.pinged, true) {
            self.quic.ping();
        }
    }

    /// The server gave an address token for the next connection.
    pub(super) fn keep_token(&self, token: Bytes) {
        if let Some(sink) = self.requests.as_ref().and_then(|requests| requests.tokens.as_ref()) {
            sink.put(token);
        }
    }
}
