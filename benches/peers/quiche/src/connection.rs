//! One connection: quiche's, and who waits for what on it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
    time::Instant,
};

use bytes::Bytes;
use quiche::BufFactory;

use crate::driver::Endpoint;

/// Identifiers of one kind and side are this far apart (RFC 9000, section 2.1).
const STREAM_STEP: u64 = 4;

/// Stream data and datagrams in `Bytes`: to send them copies nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers;

impl BufFactory for Buffers {
    type Buf = Bytes;
    type DgramBuf = Bytes;

    fn buf_from_slice(buf: &[u8]) -> Bytes {
        Bytes::copy_from_slice(buf)
    }

    fn dgram_buf_from_slice(buf: &[u8]) -> Bytes {
        Bytes::copy_from_slice(buf)
    }
}

pub(crate) struct Connection {
    /// Its own connection ID.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// The connection ID that a client made up for its first packets to us.
    pub(crate) original: Option<Vec<u8>>,
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether the driver has it on its list.
    queued: AtomicBool,
    /// One thread has it all, so nobody ever waits here.
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) quic: quiche::Connection<Buffers>,
    /// The driver's earliest timer for it.
    pub(crate) timer: Option<Instant>,
    next_opened: u64,
    next_accepted: u64,
    accepted: VecDeque<u64>,
    readers: Map<Waker>,
    writers: Map<Waker>,
    others: Vec<(Event, Waker)>,
}

/// What a task may wait for that is not about one stream.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Established,
    /// The peer lets us open a stream.
    StreamAllowed,
    /// The peer has opened a stream.
    StreamOpened,
    DatagramReceived,
    DatagramRoom,
}

impl Connection {
    pub(crate) fn new(
        id: u64,
        peer: SocketAddr,
        original: Option<Vec<u8>>,
        quic: quiche::Connection<Buffers>,
        endpoint: Arc<Endpoint>,
    ) -> Self {
        let server = u64::from(quic.is_server());
        let state = State {
            quic,
            timer: None,
            next_opened: server,
            next_accepted: 1 - server,
            accepted: VecDeque::new(),
            readers: Map::default(),
            writers: Map::default(),
            others: Vec::new(),
        };
        Self { id, peer, original, endpoint, queued: AtomicBool::new(false), state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has the driver see to it.
    pub(crate) fn touch(self: &Arc<Self>) {
        if !self.queued.swap(true, Relaxed) {
            self.endpoint.enqueue(self.clone());
        }
    }

    /// The driver has it, and sees to it now.
    pub(crate) fn untouch(&self) {
        self.queued.store(false, Relaxed);
    }
}

impl State {
    pub(crate) fn has_ended(&self) -> bool {
        self.quic.is_closed() || self.quic.is_draining()
    }

    /// A new stream, if the peer's limit allows one.
    pub(crate) fn open(&mut self) -> quiche::Result<Option<u64>> {
        /// What quiche gives to all streams.
        const URGENCY: u8 = 127;
        if self.quic.peer_streams_left_bidi() == 0 {
            return Ok(None);
        }
        // This is the call that makes one.
        self.quic.stream_priority(self.next_opened, URGENCY, true)?;
        self.next_opened += STREAM_STEP;
        Ok(Some(self.next_opened - STREAM_STEP))
    }

    /// The peer's next stream.
    pub(crate) fn accept(&mut self) -> Option<u64> {
        self.accepted.pop_front()
    }

    pub(crate) fn wait_to_read(&mut self, stream: u64, waker: &Waker) {
        self.readers.insert(stream, waker.clone());
    }

    pub(crate) fn wait_to_write(&mut self, stream: u64, waker: &Waker) {
        self.writers.insert(stream, waker.clone());
    }

    pub(crate) fn wait(&mut self, event: Event, waker: &Waker) {
        self.others.push((event, waker.clone()));
    }

    /// Wakes those who can go on. Whether there were any.
    pub(crate) fn wake(&mut self) -> bool {
        let mut woken = false;
        while let Some(stream) = self.quic.stream_readable_next() {
            // A stream opens those before it (RFC 9000, section 2.1).
            while stream % STREAM_STEP == self.next_accepted % STREAM_STEP && stream >= self.next_accepted {
                self.accepted.push_back(self.next_accepted);
                self.next_accepted += STREAM_STEP;
            }
            woken |= self.readers.remove(&stream).map(Waker::wake).is_some();
        }
        while let Some(stream) = self.quic.stream_writable_next() {
            woken |= self.writers.remove(&stream).map(Waker::wake).is_some();
        }
        let mut others = std::mem::take(&mut self.others);
        for (_, waiting) in others.extract_if(.., |(event, _)| self.has_come(*event)) {
            waiting.wake();
            woken = true;
        }
        self.others = others;
        if self.has_ended() {
            for (_, waiting) in self.readers.drain().chain(self.writers.drain()) {
                waiting.wake();
                woken = true;
            }
        }
        woken
    }

    fn has_come(&self, event: Event) -> bool {
        self.has_ended()
            || match event {
                Event::Established => self.quic.is_established(),
                Event::StreamAllowed => self.quic.peer_streams_left_bidi() > 0,
                Event::StreamOpened => !self.accepted.is_empty(),
                Event::DatagramReceived => self.quic.dgram_recv_queue_len() > 0,
                Event::DatagramRoom => !self.quic.is_dgram_send_queue_full(),
            }
    }
}

type Map<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// For stream numbers, which nobody but our own client chooses.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's digits: neighbours end up far apart.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
