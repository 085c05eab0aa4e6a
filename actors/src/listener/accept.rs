//! Who gets new connections: a queue the application accepts from, or a handler on the connection's partition.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use wirepath_quic::VarInt;

use crate::link::{Command, ConnectionLink};

/// Established connections that wait to be accepted. Beyond it new ones are closed: an application that does
/// not accept must not hold the memory of its peers' connections.
const ACCEPT_BACKLOG: usize = 1024;

/// Is called with each established connection, on the connection's partition.
pub type Handler = dyn Fn(Arc<ConnectionLink>) + Send + Sync;

/// The listeners that share a socket, by application protocol.
#[derive(Debug, Default)]
pub struct AcceptRouter {
    listeners: RwLock<Vec<Member>>,
}

/// A listener's protocols, and where its connections go.
type Member = (Vec<Vec<u8>>, Arc<AcceptSink>);

impl AcceptRouter {
    /// Adds a listener for these protocols. False, and nothing done, if another has one of them.
    pub fn add(&self, protocols: Vec<Vec<u8>>, sink: Arc<AcceptSink>) -> bool {
        let mut listeners = self.listeners.write();
        let taken = listeners.iter().any(|(others, _)| others.iter().any(|other| protocols.contains(other)));
        if !taken {
            listeners.push((protocols, sink));
        }
        !taken
    }

    /// Takes a listener out.
    pub fn remove(&self, sink: &Arc<AcceptSink>) {
        self.listeners.write().retain(|(_, other)| !Arc::ptr_eq(other, sink));
    }

    /// A connection is established, with this protocol. Called on its partition.
    pub(crate) fn deliver(&self, protocol: &[u8], link: &Arc<ConnectionLink>) {
        let sink = {
            let listeners = self.listeners.read();
            let mine = |(protocols, _): &&Member| protocols.iter().any(|it| it == protocol);
            listeners.iter().find(mine).map(|(_, sink)| sink.clone())
        };
        match sink {
            Some(sink) => sink.deliver(link),
            None => link.command(Command::Close(VarInt::from_u8(0), "the listener was closed".into())),
        }
    }
}

/// Where a listener's established connections go.
#[derive(Default)]
pub struct AcceptSink {
    queue: AcceptQueue,
    handler: Mutex<Option<Arc<Handler>>>,
}

impl fmt::Debug for AcceptSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptSink").field("handled", &self.handler.lock().is_some()).finish_non_exhaustive()
    }
}

impl AcceptSink {
    /// Calls `handler` with each connection from now on, those that wait included.
    pub fn set_handler(&self, handler: Arc<Handler>) {
        *self.handler.lock() = Some(handler.clone());
        while let Some(link) = self.queue.try_pop() {
            let handler = handler.clone();
            link.runtime().clone().spawn(async move { handler(link) });
        }
    }

    /// The queue.
    pub fn queue(&self) -> &AcceptQueue {
        &self.queue
    }

    /// A connection is established. Called on its partition.
    fn deliver(&self, link: &Arc<ConnectionLink>) {
        let handler = self.handler.lock().clone();
        match handler {
            Some(handler) => handler(link.clone()),
            None => self.queue.push(link.clone()),
        }
    }
}

/// Established connections, waiting to be accepted.
#[derive(Debug, Default)]
pub struct AcceptQueue {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Arc<ConnectionLink>>,
    closed: bool,
}

impl AcceptQueue {
    /// Takes the next connection; `None` once the listener is closed.
    pub async fn pop(&self) -> Option<Arc<ConnectionLink>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if let Some(link) = state.waiting.pop_front() {
                    return Some(link);
                }
                if state.closed {
                    return None;
                }
            }
            // `notify_one` leaves a permit if nobody waits yet, so none is missed in between.
            changed.await;
        }
    }

    fn try_pop(&self) -> Option<Arc<ConnectionLink>> {
        self.state.lock().waiting.pop_front()
    }

    fn push(&self, link: Arc<ConnectionLink>) {
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() >= ACCEPT_BACKLOG {
            drop(state);
            link.command(Command::Close(
                VarInt::from_u8(0),
                "the listener accepts no more connections".into(),
            ));
            return;
        }
        state.waiting.push_back(link);
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing more comes; what waits is closed.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        for link in waiting {
            link.command(Command::Close(VarInt::from_u8(0), "the listener was closed".into()));
        }
        self.changed.notify_waiters();
    }
}
