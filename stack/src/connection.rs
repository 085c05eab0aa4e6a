//! A connection, as applications hold it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinHandle};
use wirepath_actors::{
    connection::Move,
    link::{Agreed, Command, ConnectionLink, EarlyData, Phase, StreamLink},
    tables::Carriers,
};
use wirepath_quic::{CloseReason, NetPath, Stats, StreamType, VarInt};

use crate::{ConnectionError, Error, MigrateError, RecvStream, SendStream, stack::Inner};

/// A QUIC connection. Clones are handles of the same connection; when the last handle and the last stream are
/// dropped it is closed with code 0.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Handle>);

/// What keeps a connection open.
#[derive(Debug)]
pub(crate) struct Handle {
    link: Arc<ConnectionLink>,
    client: Option<Client>,
}

/// Where a client's connection finds other sockets to go on from.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stack: Weak<Inner>,
    /// The place of its queue, and so of its partition.
    pub(crate) place: usize,
    pub(crate) carriers: Carriers,
    pub(crate) cid_len: usize,
}

impl Handle {
    pub(crate) fn link(&self) -> &ConnectionLink {
        &self.link
    }

    /// Why the connection is over; for callers that just learned that it is.
    pub(crate) fn close_error(&self) -> ConnectionError {
        ConnectionError(match self.link.phase() {
            Phase::Closed(reason) => reason,
            Phase::Handshaking | Phase::Early(_) | Phase::Open(_) => CloseReason::Ended,
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.link.command(Command::Close(VarInt::from_u8(0), Bytes::new()));
    }
}

impl Connection {
    pub(crate) fn new(link: Arc<ConnectionLink>) -> Self {
        Self(Arc::new(Handle { link, client: None }))
    }

    pub(crate) fn of_client(link: Arc<ConnectionLink>, client: Client) -> Self {
        Self(Arc::new(Handle { link, client: Some(client) }))
    }

    pub(crate) fn link(&self) -> &ConnectionLink {
        self.0.link()
    }

    /// Opens a bidirectional stream; waits while the peer allows no more of them. The peer learns of the
    /// stream with the first data sent.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let stream = self.open(StreamType::Bidirectional).await?;
        Ok(self.halves(stream))
    }

    /// Opens a unidirectional stream; waits while the peer allows no more of them.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        let stream = self.open(StreamType::Unidirectional).await?;
        Ok(SendStream::new(stream, self.0.clone()))
    }

    /// Takes the next bidirectional stream the peer opened. Cancelling it loses none.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let stream = self.accept(StreamType::Bidirectional).await?;
        Ok(self.halves(stream))
    }

    /// Takes the next unidirectional stream the peer opened. Cancelling it loses none.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        let stream = self.accept(StreamType::Unidirectional).await?;
        Ok(RecvStream::new(stream, self.0.clone()))
    }

    /// Sends a datagram (RFC 9221): unreliable, unordered, no longer than
    /// [`max_datagram_size`](Self::max_datagram_size). Waits while the send queue is full.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn send_datagram(&self, data: Bytes) -> Result<(), ConnectionError> {
        self.link().send_datagram(data).await.map_err(|_| self.0.close_error())
    }

    /// Sends a datagram without waiting: when the send queue is full, the oldest in it is dropped.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub fn send_fresh_datagram(&self, data: Bytes) -> Result<(), ConnectionError> {
        self.link().send_fresh_datagram(data).map_err(|_| self.0.close_error())
    }

    /// Takes the next received datagram.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn receive_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.link().receive_datagram().await.map_err(|_| self.0.close_error())
    }

    /// Takes a received datagram if one waits.
    pub fn try_receive_datagram(&self) -> Option<Bytes> {
        self.link().try_receive_datagram()
    }

    /// The longest datagram that can be sent now, in bytes; `None` if the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.link().max_datagram()
    }

    /// Closes the connection: the peer gets the code and the reason, streams end on both sides.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.link().command(Command::Close(code, Bytes::copy_from_slice(reason)));
    }

    /// Waits until the connection is over, and tells why.
    pub async fn closed(&self) -> CloseReason {
        self.link().closed().await
    }

    /// The peer's address, as of now: it may change (RFC 9000 §9).
    pub fn remote_addr(&self) -> SocketAddr {
        self.link().path().remote
    }

    /// The local address.
    pub fn local_addr(&self) -> SocketAddr {
        self.link().path().local
    }

    /// The application protocol agreed on; empty before and after.
    pub fn alpn(&self) -> Bytes {
        match self.link().phase() {
            Phase::Open(Agreed { alpn, .. }) | Phase::Early(alpn) => alpn,
            Phase::Handshaking | Phase::Closed(_) => Bytes::new(),
        }
    }

    /// Waits for the handshake's end, and tells what was agreed on. A connection is handed out after it, except with early
    /// data: until then what came may be an attacker's replay.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn established(&self) -> Result<Agreed, ConnectionError> {
        self.link().established().await.map_err(ConnectionError)
    }

    /// Waits until the peer is known to have completed the handshake too (RFC 9001 §4.1.2), about a round trip later:
    /// from then on a client can [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn confirmed(&self) -> Result<(), ConnectionError> {
        self.link().confirmed().await.map_err(ConnectionError)
    }

    /// What became of early data (0-RTT). On a server: whether some was accepted.
    pub fn early_data(&self) -> EarlyData {
        self.link().early_data()
    }

    /// Updates the keys of packets (RFC 9001 §6), once that is allowed, and waits until it is done on this side; the peer
    /// follows with its next packet.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn update_keys(&self) -> Result<(), ConnectionError> {
        let (reply, updated) = oneshot::channel();
        self.link().command(Command::UpdateKeys(reply));
        updated.await.map_err(|_| self.0.close_error())
    }

    /// Client: goes on from another local address (RFC 9000 §9.2). Port 0 chooses a free port; an unspecified IP address
    /// leaves the choice to the routes. Waits until the handshake is confirmed. The new path is used at once and tested; if
    /// it turns out not to work, the connection goes back ([`path_changed`](Self::path_changed) tells of either).
    ///
    /// # Errors
    /// [`MigrateError`]; the connection then goes on as before.
    pub async fn migrate(&self, local: SocketAddr) -> Result<(), MigrateError> {
        let refused = MigrateError::Refused(wirepath_quic::MigrateError::NotNow);
        let Some(client) = &self.0.client else { return Err(refused) };
        self.confirmed().await?;
        let stack = client.stack.upgrade().ok_or(Error::Closed).map_err(Box::new)?;
        let place = stack.new_place(client, local, self.remote_addr()).await;
        let (path, socket, via) = place.map_err(Box::new)?;
        let (reply, moved) = oneshot::channel();
        self.link().command(Command::Move(Box::new(Move { path, socket, via, reply })));
        Ok(moved.await.map_err(|_| self.0.close_error())??)
    }

    /// Waits until the connection goes on between other addresses than the given pair (local, remote), and tells which.
    ///
    /// # Errors
    /// [`ConnectionError`] when the connection is over.
    pub async fn path_changed(
        &self,
        (local, remote): (SocketAddr, SocketAddr),
    ) -> Result<(SocketAddr, SocketAddr), ConnectionError> {
        let path = self.link().path_other_than(NetPath { local, remote }).await;
        path.map(|path| (path.local, path.remote)).map_err(|_| self.0.close_error())
    }

    /// The connection's figures, as of the last batch of packets it handled.
    pub fn stats(&self) -> Stats {
        self.link().stats()
    }

    /// Runs a task on the connection's partition, next to the connection itself: no byte crosses a core to
    /// reach it.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.link().runtime().spawn(task)
    }

    async fn open(&self, ty: StreamType) -> Result<Arc<StreamLink>, ConnectionError> {
        self.link().open(ty).await.map_err(|_| self.0.close_error())
    }

    async fn accept(&self, ty: StreamType) -> Result<Arc<StreamLink>, ConnectionError> {
        self.link().accept(ty).await.map_err(|_| self.0.close_error())
    }

    fn halves(&self, stream: Arc<StreamLink>) -> (SendStream, RecvStream) {
        (SendStream::new(stream.clone(), self.0.clone()), RecvStream::new(stream, self.0.clone()))
    }
}
