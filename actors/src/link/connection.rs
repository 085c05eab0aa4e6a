//! A connection as its handles and its actor share it.

mod datagrams;
mod terms;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wirepath_quic::{CloseReason, NetPath, PathStats, Role, Stats, StreamId, StreamType, TransportConfig};

pub use self::terms::{Agreed, Command, EarlyData, LinkError, Phase};
use super::{OpenStreams, StreamFigures, StreamLink};
use crate::{connection::ConnectionMessage, kit::Mailbox};

/// A connection, between its handles and its actor.
#[derive(Debug)]
pub struct ConnectionLink {
    role: Role,
    send_credit: u64,
    release_threshold: u64,
    /// Bytes taken from all streams together of which flow control has not been told, and how many there may be.
    untold: AtomicI64,
    untold_limit: i64,
    actor: OnceLock<Mailbox<ConnectionMessage>>,
    runtime: tokio::runtime::Handle,
    /// Whether the actor has been told of commands it has not fetched yet.
    rung: AtomicBool,
    commands: Mutex<Vec<Command>>,
    state: Mutex<State>,
    phase_changed: Notify,
    stream_opened: [Notify; 2],
    stream_available: [Notify; 2],
    /// Tasks that wait for the peer to let them open a stream.
    openers: AtomicU32,
    /// How often its actor has told of itself.
    version: AtomicU64,
    pub(crate) open: OpenStreams,
    datagram_received: Notify,
    datagram_sendable: Notify,
    /// Bytes of datagrams that may wait to be sent before senders wait.
    datagram_queue: u64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    path: NetPath,
    stats: Stats,
    /// All paths, the one in use first, while there are several.
    paths: Vec<PathStats>,
    /// Streams the peer opened, not yet accepted, by type.
    incoming: [VecDeque<Arc<StreamLink>>; 2],
    /// How many streams we have opened, and may open, by type.
    opened: [u64; 2],
    limit: [u64; 2],
    datagrams: VecDeque<Bytes>,
    max_datagram: Option<usize>,
    /// Bytes of datagrams handed over, and of those gone from the send queue again, since the beginning.
    datagram_handed: u64,
    datagram_gone: u64,
    early_data: EarlyData,
    confirmed: bool,
}

fn slot(ty: StreamType) -> usize {
    match ty {
        StreamType::Bidirectional => 0,
        StreamType::Unidirectional => 1,
    }
}

/// Bytes an application takes at most before flow control is told: one message for so many.
const MAX_RELEASE_THRESHOLD: u64 = 64 * 1024;

/// What part of the connection's window may at most have been taken without flow control being told: a quarter, so that
/// many streams of which each is below its threshold never stall the peer.
const UNTOLD_FRACTION: u64 = 4;

impl ConnectionLink {
    /// A link for a connection whose actor starts next, on the current runtime.
    pub(crate) fn new(role: Role, path: NetPath, config: &TransportConfig) -> Self {
        Self {
            role,
            send_credit: config.send_buffer,
            release_threshold: (config.stream_window / 8).clamp(1, MAX_RELEASE_THRESHOLD),
            untold: AtomicI64::new(0),
            untold_limit: (config.connection_window / UNTOLD_FRACTION).max(1) as i64,
            actor: OnceLock::new(),
            runtime: tokio::runtime::Handle::current(),
            rung: AtomicBool::new(false),
            commands: Mutex::default(),
            state: Mutex::new(State {
                phase: Phase::Handshaking,
                path,
                stats: Stats::default(),
                paths: Vec::new(),
                incoming: Default::default(),
                opened: [0; 2],
                limit: [0; 2],
                datagrams: VecDeque::new(),
                max_datagram: None,
                datagram_handed: 0,
                datagram_gone: 0,
                early_data: EarlyData::None,
                confirmed: false,
            }),
            phase_changed: Notify::new(),
            stream_opened: [Notify::new(), Notify::new()],
            stream_available: [Notify::new(), Notify::new()],
            openers: AtomicU32::new(0),
            version: AtomicU64::new(0),
            open: OpenStreams::new(),
            datagram_received: Notify::new(),
            datagram_sendable: Notify::new(),
            datagram_queue: (config.datagram_send_buffer / 2) as u64,
        }
    }

    // What handles do.

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase.clone()
    }

    /// The addresses in use.
    pub fn path(&self) -> NetPath {
        self.state.lock().path
    }

    /// Moves on whenever the actor has told of itself: whoever looks first at this and then at the rest misses nothing.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.path().remote
    }

    /// The connection's figures, as of the last batch it handled.
    pub fn stats(&self) -> Stats {
        self.state.lock().stats
    }

    /// Figures of all paths, the one in use first, as of the last batch too; empty while there is but that one, which
    /// [`stats`](Self::stats) tells of.
    pub fn paths(&self) -> Vec<PathStats> {
        self.state.lock().paths.clone()
    }

    /// How many streams are open, and those that carried most, at most `most` of them.
    pub fn streams(&self, most: usize) -> (usize, Vec<StreamFigures>) {
        self.open.figures(most)
    }

    /// Whether somebody waits for the peer to allow more streams.
    pub fn waits_for_streams(&self) -> bool {
        self.openers.load(Ordering::Relaxed) > 0
    }

    /// The application took `bytes` from a stream (or found none there), of which flow control has not been told of
    /// `untold`. Returns whether to tell it now.
    pub fn on_taken(&self, bytes: u64, untold: u64) -> bool {
        let all = self.untold.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
        untold >= self.release_threshold || untold > 0 && all >= self.untold_limit
    }

    /// The application gave `bytes` back.
    pub fn on_returned(&self, bytes: u64) {
        self.untold.fetch_sub(bytes as i64, Ordering::Relaxed);
    }

    /// Tells flow control of `bytes` taken from a stream, now or with the next command.
    pub fn release(&self, id: StreamId, bytes: u64, now: bool) {
        if bytes > 0 {
            self.untold.fetch_sub(bytes as i64, Ordering::Relaxed);
            self.command_later(Command::Release(id, bytes));
        }
        if now {
            self.ring();
        }
    }

    /// The runtime of the connection's partition.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// The connection's actor, once it runs.
    pub fn actor(&self) -> Option<&Mailbox<ConnectionMessage>> {
        self.actor.get()
    }

    /// Waits until the handshake has ended one way or the other.
    ///
    /// # Errors
    /// The reason the connection closed.
    pub async fn established(&self) -> Result<Agreed, CloseReason> {
        wait_for(&self.phase_changed, || match self.phase() {
            Phase::Handshaking | Phase::Early(_) => None,
            Phase::Open(agreed) => Some(Ok(agreed)),
            Phase::Closed(reason) => Some(Err(reason)),
        })
        .await
    }

    /// Waits until the peer is known to have completed the handshake too (RFC 9001 §4.1.2).
    ///
    /// # Errors
    /// The reason the connection closed.
    pub async fn confirmed(&self) -> Result<(), CloseReason> {
        wait_for(&self.phase_changed, || {
            let state = self.state.lock();
            match &state.phase {
                Phase::Closed(reason) => Some(Err(reason.clone())),
                _ => state.confirmed.then_some(Ok(())),
            }
        })
        .await
    }

    /// Whether the peer takes resets that leave the start of a stream standing.
    pub fn takes_partial_resets(&self) -> bool {
        matches!(&self.state.lock().phase, Phase::Open(agreed) if agreed.outcome.partial_resets)
    }

    /// What became of early data, as of now.
    pub fn early_data(&self) -> EarlyData {
        self.state.lock().early_data
    }

    /// Waits until the connection uses other addresses than these.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn path_other_than(&self, path: NetPath) -> Result<NetPath, LinkError> {
        wait_for(&self.phase_changed, || {
            let state = self.state.lock();
            match state.phase {
                Phase::Closed(_) => Some(Err(LinkError::Closed)),
                _ => (state.path != path).then_some(Ok(state.path)),
            }
        })
        .await
    }

    /// Waits until the connection is over.
    pub async fn closed(&self) -> CloseReason {
        wait_for(&self.phase_changed, || match self.phase() {
            Phase::Closed(reason) => Some(reason),
            Phase::Handshaking | Phase::Early(_) | Phase::Open(_) => None,
        })
        .await
    }

    /// Opens a stream, once the peer's limit allows.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn open(&self, ty: StreamType) -> Result<Arc<StreamLink>, LinkError> {
        if let Some(stream) = self.try_open(ty)? {
            return Ok(stream);
        }
        let _waiting = Opener::of(self);
        wait_for(&self.stream_available[slot(ty)], || self.try_open(ty).transpose()).await
    }

    fn try_open(&self, ty: StreamType) -> Result<Option<Arc<StreamLink>>, LinkError> {
        let mut state = self.state.lock();
        if let Phase::Closed(_) = state.phase {
            return Err(LinkError::Closed);
        }
        let index = state.opened[slot(ty)];
        if index >= state.limit[slot(ty)] {
            return Ok(None);
        }
        let Some(id) = StreamId::nth(self.role.endpoint_type(), ty, index) else { return Ok(None) };
        state.opened[slot(ty)] += 1;
        let early = matches!(state.phase, Phase::Handshaking | Phase::Early(_));
        let stream = Arc::new(StreamLink::new(id, self.send_credit, early));
        // Queued before the state is unlocked: the actor must meet new streams in the order of their IDs.
        self.commands.lock().push(Command::Open(stream.clone()));
        Ok(Some(stream))
    }

    /// Takes the next stream the peer opened.
    ///
    /// # Errors
    /// [`LinkError::Closed`], behind the last stream.
    pub async fn accept(&self, ty: StreamType) -> Result<Arc<StreamLink>, LinkError> {
        wait_for(&self.stream_opened[slot(ty)], || {
            let state = &mut *self.state.lock();
            first(&mut state.incoming[slot(ty)], &state.phase)
        })
        .await
    }

    /// Queues a command and tells the actor.
    pub fn command(&self, command: Command) {
        self.command_later(command);
        self.ring();
    }

    /// Queues a command that can wait for the next one that can't.
    pub fn command_later(&self, command: Command) {
        self.commands.lock().push(command);
    }

    /// Tells the actor that commands wait. Once is enough until it fetches them.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(actor) = self.actor.get()
        {
            // An actor that has ended has closed this link: the handles know.
            let _ = actor.send(ConnectionMessage::Commands);
        }
    }

    // What the actor does.

    pub(crate) fn attach(&self, actor: Mailbox<ConnectionMessage>) {
        self.actor.set(actor).expect("a link has one actor");
        if self.rung.load(Ordering::Acquire) {
            let _ = self.actor.get().expect("just set").send(ConnectionMessage::Commands);
        }
    }

    /// Swaps the queued commands for an empty list (kept for its memory).
    pub(crate) fn take_commands(&self, empty: Vec<Command>) -> Vec<Command> {
        // Before the swap: a command queued after it rings again.
        self.rung.store(false, Ordering::Release);
        std::mem::replace(&mut self.commands.lock(), empty)
    }

    /// Early data flows. On a client it is only offered.
    pub(crate) fn on_early(&self, alpn: Bytes) {
        let mut state = self.state.lock();
        state.early_data = match self.role {
            Role::Client => EarlyData::Offered,
            Role::Server => EarlyData::Accepted,
        };
        if matches!(state.phase, Phase::Handshaking) {
            state.phase = Phase::Early(alpn);
        }
    }

    /// Client: the server has decided about early data.
    pub(crate) fn on_early_data(&self, accepted: bool) {
        let mut state = self.state.lock();
        state.early_data = if accepted { EarlyData::Accepted } else { EarlyData::Rejected };
        if !accepted {
            // The limits remembered do not hold; those of this handshake follow.
            state.limit = [0; 2];
        }
    }

    pub(crate) fn on_open(&self, agreed: Agreed) {
        self.state.lock().phase = Phase::Open(agreed);
        self.phase_changed.notify_waiters();
    }

    pub(crate) fn on_confirmed(&self) {
        self.state.lock().confirmed = true;
        self.phase_changed.notify_waiters();
    }

    pub(crate) fn on_path_changed(&self, path: NetPath) {
        self.state.lock().path = path;
        self.phase_changed.notify_waiters();
    }

    /// The connection is over. The first reason stays.
    pub(crate) fn on_closed(&self, reason: CloseReason) {
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Closed(_)) {
                state.phase = Phase::Closed(reason);
            }
        }
        self.phase_changed.notify_waiters();
        self.datagram_received.notify_waiters();
        self.datagram_sendable.notify_waiters();
        for notify in self.stream_opened.iter().chain(&self.stream_available) {
            notify.notify_waiters();
        }
    }

    pub(crate) fn on_stream_opened(&self, id: StreamId, early: bool) -> Arc<StreamLink> {
        let stream = Arc::new(StreamLink::new(id, self.send_credit, early));
        let slot = slot(id.stream_type());
        self.state.lock().incoming[slot].push_back(stream.clone());
        self.stream_opened[slot].notify_waiters();
        stream
    }

    pub(crate) fn on_streams_available(&self, ty: StreamType, limit: u64) {
        let mut state = self.state.lock();
        let known = &mut state.limit[slot(ty)];
        *known = limit.max(*known);
        drop(state);
        self.stream_available[slot(ty)].notify_waiters();
    }

    /// Gives memory back that only traffic needs.
    pub(crate) fn rest(&self) {
        self.commands.lock().shrink_to_fit();
        self.open.rest();
        let mut state = self.state.lock();
        state.incoming.iter_mut().for_each(VecDeque::shrink_to_fit);
        state.datagrams.shrink_to_fit();
        state.paths.shrink_to_fit();
    }

    /// What the machine says of itself at the end of a turn. `datagram_gone`: bytes of datagrams that came by
    /// command and are in the send queue no more.
    pub(crate) fn publish(&self, quic: &wirepath_quic::Connection, datagram_gone: u64) {
        let room = {
            let mut state = self.state.lock();
            state.path = quic.path();
            state.stats = quic.stats();
            if quic.path_count() > 1 || !state.paths.is_empty() {
                state.paths.clear();
                state.paths.extend(quic.path_stats().filter(|_| quic.path_count() > 1));
            }
            state.max_datagram = quic.max_datagram_size();
            std::mem::replace(&mut state.datagram_gone, datagram_gone) != datagram_gone
        };
        // By the actor alone.
        self.version.store(self.version.load(Ordering::Relaxed) + 1, Ordering::Release);
        if room {
            self.datagram_sendable.notify_waiters();
        }
    }
}

/// Counts a task that waits to open a stream, as long as it does.
struct Opener<'a>(&'a AtomicU32);

impl<'a> Opener<'a> {
    fn of(link: &'a ConnectionLink) -> Self {
        link.openers.fetch_add(1, Ordering::Relaxed);
        Self(&link.openers)
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The first of a queue from the peer; behind the last one, that the connection is over.
fn first<T>(queue: &mut VecDeque<T>, phase: &Phase) -> Option<Result<T, LinkError>> {
    match queue.pop_front() {
        Some(one) => Some(Ok(one)),
        None if matches!(phase, Phase::Closed(_)) => Some(Err(LinkError::Closed)),
        None => None,
    }
}

/// Waits until `ready` has something, looking again whenever `notify` speaks. Dropping the future leaves no
/// trace.
async fn wait_for<T>(notify: &Notify, mut ready: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = ready() {
            return value;
        }
        let mut notified = std::pin::pin!(notify.notified());
        // From here on no notification is missed; so look once more.
        notified.as_mut().enable();
        if let Some(value) = ready() {
            return value;
        }
        notified.await;
    }
}
