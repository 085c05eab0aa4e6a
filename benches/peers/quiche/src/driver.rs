//! The event loop: one task, one socket, all connections.
//!
//! In each round it takes what the socket has, wakes the tasks that can go on, lets them have their turn, and then
//! sends: so what they write, and the acknowledgements of what they read, leave in one train.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Instant,
};

use perf_protocol::{Options, Result, SERVER_NAME};
use quiche::{ConnectionId, Header, RecvInfo, Type};
use tokio::time::{Sleep, sleep_until};

use crate::{
    connection::{Buffers, Connection},
    socket::{Inbox, Socket},
};

/// Bytes of a connection ID of ours.
const CID_LEN: usize = size_of::<u64>();

/// RFC 9000, section 14.1.
const MIN_INITIAL_LEN: usize = 1200;

/// Calls to the socket in a round; more would keep acknowledgements waiting.
const RECEIVES: usize = 4;

/// Bytes a connection sends before the others have their turn.
const TURN: usize = 256 * 1024;

/// The most that one UDP GSO send takes, less what the headers may be.
const TRAIN_LEN: usize = 65_000;

/// What the driver shares with the connections' users.
pub(crate) struct Endpoint {
    local: SocketAddr,
    config: Mutex<quiche::Config>,
    work: Mutex<Work>,
    /// quiche copies stream data out, into this.
    scratch: Mutex<Vec<u8>>,
    ids: RandomState,
    id_count: AtomicU64,
}

#[derive(Default)]
struct Work {
    /// New ones of ours.
    connected: Vec<Arc<Connection>>,
    /// Those something has happened to.
    touched: Vec<Arc<Connection>>,
    /// The driver, while it sleeps.
    driver: Option<Waker>,
}

impl Endpoint {
    pub(crate) fn new(local: SocketAddr, config: quiche::Config) -> Self {
        /// Stays in the processor's cache.
        const SCRATCH_LEN: usize = 1 << 16;
        Self {
            local,
            config: Mutex::new(config),
            work: Mutex::default(),
            scratch: Mutex::new(vec![0; SCRATCH_LEN]),
            ids: RandomState::new(),
            id_count: AtomicU64::new(0),
        }
    }

    pub(crate) fn connect(self: &Arc<Self>, server: SocketAddr) -> Result<Arc<Connection>> {
        let id = self.new_id();
        let quic = quiche::connect_with_buffer_factory::<Buffers>(
            Some(SERVER_NAME),
            &ConnectionId::from_ref(&id.to_be_bytes()),
            self.local,
            server,
            &mut lock(&self.config),
        )?;
        let connection = Arc::new(Connection::new(id, server, None, quic, self.clone()));
        lock(&self.work).connected.push(connection.clone());
        connection.touch();
        Ok(connection)
    }

    pub(crate) fn enqueue(&self, connection: Arc<Connection>) {
        let mut work = lock(&self.work);
        work.touched.push(connection);
        if let Some(driver) = work.driver.take() {
            driver.wake();
        }
    }

    pub(crate) fn scratch(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.scratch)
    }

    fn new_id(&self) -> u64 {
        self.ids.hash_one(self.id_count.fetch_add(1, Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What becomes of a client's connection.
pub(crate) type Accept = Box<dyn FnMut(Arc<Connection>) + Send>;

pub(crate) struct Driver {
    socket: Socket,
    inbox: Inbox,
    table: Table,
    /// When to look at which connection. Each has one that counts, never later than quiche wants it.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// For the earliest of them, while there is an instant.
    sleep: Pin<Box<Sleep>>,
    sleeps_until: Option<Instant>,
    out: Vec<u8>,
    max_payload: usize,
}

/// Who is there.
struct Table {
    endpoint: Arc<Endpoint>,
    by_id: HashMap<u64, Arc<Connection>>,
    by_original: HashMap<Vec<u8>, Arc<Connection>>,
    /// Most often the next datagram's, too.
    last: Option<Arc<Connection>>,
    /// Servers only.
    accept: Option<Accept>,
}

impl Driver {
    pub(crate) fn new(
        socket: Socket,
        endpoint: Arc<Endpoint>,
        options: &Options,
        accept: Option<Accept>,
    ) -> Self {
        let max_payload = usize::from(options.max_udp_payload());
        Self {
            socket,
            inbox: Inbox::new(),
            table: Table { endpoint, by_id: HashMap::new(), by_original: HashMap::new(), last: None, accept },
            timers: BinaryHeap::new(),
            sleep: Box::pin(sleep_until(Instant::now().into())),
            sleeps_until: None,
            out: vec![0; TRAIN_LEN],
            max_payload,
        }
    }

    /// Until the socket fails.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut round = Vec::new();
        loop {
            self.wait().await?;
            self.fire_timers();
            for _ in 0..RECEIVES {
                if !self.socket.receive(&mut self.inbox, |datagram, from| self.table.take(datagram, from))? {
                    break;
                }
            }
            let woken = self.begin(&mut round);
            let_others_run().await;
            if woken {
                // Once more, for the tasks that these have started.
                let_others_run().await;
            }
            self.collect(&mut round);
            for connection in round.drain(..) {
                self.send(&connection).await?;
            }
        }
    }

    /// For a datagram, a timer, or a connection's user.
    async fn wait(&mut self) -> io::Result<()> {
        if let Some(&Reverse((earliest, _))) = self.timers.peek()
            && self.sleeps_until.is_none_or(|armed| earliest < armed)
        {
            self.sleep.as_mut().reset(earliest.into());
            self.sleeps_until = Some(earliest);
        }
        std::future::poll_fn(|context| {
            if self.sleeps_until.is_some() && self.sleep.as_mut().poll(context).is_ready() {
                self.sleeps_until = None;
                return Poll::Ready(Ok(()));
            }
            {
                let mut work = lock(&self.table.endpoint.work);
                if !work.touched.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                work.driver = Some(context.waker().clone());
            }
            self.socket.poll_readable(context)
        })
        .await
    }

    fn fire_timers(&mut self) {
        // The clock is read only if a timer may have run out.
        if self.sleeps_until.is_some() {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(connection) = self.table.by_id.get(&id) else { continue };
            let mut state = connection.lock();
            if state.timer == Some(at) {
                state.timer = None;
                if state.quic.timeout_instant().is_some_and(|timeout| timeout <= now) {
                    state.quic.on_timeout();
                }
                drop(state);
                connection.touch();
            }
        }
    }

    /// Takes the list of connections to see to, and wakes their tasks. Whether there were any.
    fn begin(&mut self, round: &mut Vec<Arc<Connection>>) -> bool {
        self.collect(round);
        round.iter().fold(false, |woken, connection| connection.lock().wake() | woken)
    }

    fn collect(&mut self, round: &mut Vec<Arc<Connection>>) {
        let mut work = lock(&self.table.endpoint.work);
        // This task is awake.
        work.driver = None;
        round.append(&mut work.touched);
        self.table.by_id.extend(work.connected.drain(..).map(|connection| (connection.id, connection)));
    }

    async fn send(&mut self, connection: &Arc<Connection>) -> io::Result<()> {
        connection.untouch();
        let mut sent = 0;
        let more = loop {
            let train =
                Train::fill(&mut connection.lock().quic, &mut self.out, &self.socket, self.max_payload);
            let (even, odd) = self.out[..train.len].split_at(train.even);
            if !even.is_empty() {
                self.socket.send(even, train.segment, connection.peer).await?;
            }
            if !odd.is_empty() {
                self.socket.send(odd, odd.len(), connection.peer).await?;
            }
            sent += train.len;
            if !train.more || sent >= TURN {
                break train.more;
            }
        };
        let mut state = connection.lock();
        state.wake();
        if state.quic.is_closed() {
            self.table.forget(connection);
            return Ok(());
        }
        if let Some(timeout) = state.quic.timeout_instant()
            && state.timer.is_none_or(|earlier| timeout < earlier)
        {
            state.timer = Some(timeout);
            self.timers.push(Reverse((timeout, connection.id)));
        }
        drop(state);
        if more {
            connection.touch();
        }
        Ok(())
    }
}

impl Table {
    fn take(&mut self, datagram: &mut [u8], from: SocketAddr) {
        let Some(connection) = self.find(datagram, from) else { return };
        // An error ends the connection, and quiche tells the peer.
        let _ = connection.lock().quic.recv(datagram, RecvInfo { from, to: self.endpoint.local });
        connection.touch();
        self.last = Some(connection);
    }

    fn find(&mut self, datagram: &mut [u8], from: SocketAddr) -> Option<Arc<Connection>> {
        /// RFC 9000, section 17.2.
        const LONG_HEADER: u8 = 0x80;
        if let Some((&first, rest)) = datagram.split_first()
            && first & LONG_HEADER == 0
        {
            let id = u64::from_be_bytes(*rest.first_chunk::<CID_LEN>()?);
            return match &self.last {
                Some(last) if last.id == id => self.last.take(),
                _ => self.by_id.get(&id).cloned(),
            };
        }
        let len = datagram.len();
        let header = Header::from_slice(datagram, CID_LEN).ok()?;
        if let Ok(id) = <[u8; CID_LEN]>::try_from(&*header.dcid)
            && let Some(known) = self.by_id.get(&u64::from_be_bytes(id))
        {
            return Some(known.clone());
        }
        if let Some(known) = self.by_original.get(&*header.dcid) {
            return Some(known.clone());
        }
        if header.ty != Type::Initial || len < MIN_INITIAL_LEN {
            return None;
        }
        self.accept(header.dcid.to_vec(), from)
    }

    fn accept(&mut self, original: Vec<u8>, from: SocketAddr) -> Option<Arc<Connection>> {
        let accept = self.accept.as_mut()?;
        let id = self.endpoint.new_id();
        let quic = quiche::accept_with_buf_factory::<Buffers>(
            &ConnectionId::from_ref(&id.to_be_bytes()),
            None,
            self.endpoint.local,
            from,
            &mut lock(&self.endpoint.config),
        )
        .ok()?;
        let connection =
            Arc::new(Connection::new(id, from, Some(original.clone()), quic, self.endpoint.clone()));
        self.by_id.insert(id, connection.clone());
        self.by_original.insert(original, connection.clone());
        accept(connection.clone());
        Some(connection)
    }

    fn forget(&mut self, connection: &Connection) {
        self.by_id.remove(&connection.id);
        if let Some(original) = &connection.original {
            self.by_original.remove(original);
        }
        self.last.take_if(|last| last.id == connection.id);
    }
}

/// Packets for one or two sends.
struct Train {
    len: usize,
    /// So much of it is packets of one length, but for the last, which may be shorter. The rest is one packet that
    /// is longer: a probe of the path's MTU, most often.
    even: usize,
    segment: usize,
    /// Whether there is more to send.
    more: bool,
}

impl Train {
    fn fill(
        quic: &mut quiche::Connection<Buffers>,
        out: &mut [u8],
        socket: &Socket,
        max_payload: usize,
    ) -> Self {
        let max_segments = socket.max_segments();
        let mut train = Self { len: 0, even: 0, segment: 0, more: true };
        let mut count = 0;
        while count < max_segments && train.len + max_payload <= out.len() {
            let Ok((len, _)) = quic.send(&mut out[train.len..train.len + max_payload]) else {
                train.more = false;
                break;
            };
            if count == 0 {
                train.segment = len;
            }
            count += 1;
            train.len += len;
            if len > train.segment {
                break;
            }
            train.even = train.len;
            if len < train.segment {
                break;
            }
        }
        train
    }
}

/// Lets each task run that is ready now. tokio's `yield_now` would ask the kernel for events first.
async fn let_others_run() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
