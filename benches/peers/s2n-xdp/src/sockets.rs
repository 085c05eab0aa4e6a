//! The AF_XDP sockets of one interface, as s2n-quic's provider wants them.

use std::{
    ffi::CStr,
    io,
    os::fd::AsRawFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use perf_protocol::Result;
use s2n_quic::provider::io::xdp::{
    if_xdp::{Address, XdpFlags},
    io::{
        rx,
        tx::{self, BusyPoll, Driver},
    },
    ring, socket, syscall, umem,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Bytes of a UMEM frame: a page, the kernel's upper limit.
pub(crate) const FRAME_SIZE: u32 = 4096;

/// Packets in the RX and TX rings. Enough for a congestion window of some MiB.
const RING_LEN: u32 = 4096;

/// The kernel frees a queue some time after its last socket has gone.
const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// What one flush may ask of the kernel before the endpoint has its turn again: the whole ring, 32 a call.
const KICKS_A_FLUSH: usize = (RING_LEN / 32) as usize;

type Readiness = Arc<AsyncFd<socket::Fd>>;

pub(crate) struct Sockets {
    pub(crate) umem: umem::Umem,
    pub(crate) rx: Vec<rx::Channel<Readiness>>,
    pub(crate) tx: Vec<tx::Channel<KickUntilEmpty>>,
    pub(crate) descriptors: Vec<socket::Fd>,
}

impl Sockets {
    /// A socket for every queue, all on one UMEM: half of its frames to receive into, half to send from.
    pub(crate) fn open(interface: &CStr) -> Result<Self> {
        let queues = syscall::max_queues(interface.to_str()?);
        let umem = umem::Builder {
            frame_count: 2 * RING_LEN * queues,
            frame_size: FRAME_SIZE,
            ..umem::Builder::default()
        }
        .build()?;
        let mut sockets = Self { umem, rx: Vec::new(), tx: Vec::new(), descriptors: Vec::new() };
        let mut frames = sockets.umem.frames();
        let mut address = Address { flags: XdpFlags::USE_NEED_WAKEUP, ..Address::default() };
        address.set_if_name(&interface.to_owned())?;
        for queue in 0..queues {
            let socket = socket::Fd::open()?;
            match sockets.descriptors.first() {
                Some(first) => drop(address.set_shared_umem(&first.as_raw_fd())),
                None => socket.attach_umem(&sockets.umem)?,
            }
            address.queue_id = queue;

            let offsets = syscall::offsets(&socket)?;
            let mut fill = ring::Fill::new(socket.clone(), &offsets, 2 * RING_LEN)?;
            fill.init((&mut frames).take(RING_LEN as usize));
            let rx = ring::Rx::new(socket.clone(), &offsets, RING_LEN)?;
            let mut completion = ring::Completion::new(socket.clone(), &offsets, RING_LEN)?;
            completion.init((&mut frames).take(RING_LEN as usize));
            let tx = ring::Tx::new(socket.clone(), &offsets, RING_LEN)?;

            while_busy(|| syscall::bind(&socket, &mut address))?;
            #[allow(deprecated, reason = "the socket type has a raw descriptor only")]
            let readiness = Arc::new(AsyncFd::with_interest(socket.clone(), Interest::READABLE)?);
            sockets.rx.push(rx::Channel { rx, fill, driver: readiness });
            sockets.tx.push(tx::Channel { tx, completion, driver: KickUntilEmpty(BusyPoll) });
            sockets.descriptors.push(socket);
        }
        Ok(sockets)
    }
}

/// The provider's own driver, but its wake-up of the kernel goes on until all packets have left.
pub(crate) struct KickUntilEmpty(BusyPoll);

impl Driver for KickUntilEmpty {
    fn poll(
        &mut self,
        tx: &mut ring::Tx,
        completion: &mut ring::Completion,
        context: &mut std::task::Context<'_>,
    ) -> Option<bool> {
        self.0.poll(tx, completion, context)
    }

    fn wake(&mut self, tx: &mut ring::Tx, _completion: &mut ring::Completion) {
        if !tx.needs_wakeup() {
            return;
        }
        for _ in 0..KICKS_A_FLUSH {
            // EAGAIN: the kernel took what it takes in one call, and more waits.
            match syscall::wake_tx(tx.socket()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    }
}

/// Repeats what fails because the queue's last owner has only just gone.
pub(crate) fn while_busy<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begin.elapsed() < QUEUE_WAIT => {
                thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}
