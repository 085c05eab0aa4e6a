//! The wire's body: a thread that carries frames between two packet sockets.

use std::{
    fmt, io,
    net::SocketAddrV4,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{Impairment, lane::Lane, nat::Nat};
use crate::{netns::Namespace, sys};

/// Frames read from one side before the other has its turn.
const BATCH: usize = 64;

/// Larger than any frame: a veth link carries up to 64 KiB.
const LARGEST_FRAME: usize = 1 << 17;

/// What a middlebox did to frames in one direction. All but `passed` count frames with UDP in them only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent on; doubled ones twice. Includes `passed`.
    pub forwarded: u64,
    /// Sent on untouched because they carry no UDP.
    pub passed: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent on twice.
    pub duplicated: u64,
    /// Damaged so that the checksum tells.
    pub corrupted: u64,
    /// Damaged with a fitting checksum.
    pub forged: u64,
    /// Held back.
    pub reordered: u64,
    /// Lost because more waited than the wire's queue holds.
    pub queue_full: u64,
    /// Lost because the middlebox itself was too slow; not on purpose.
    pub overflowed: u64,
}

/// A direction across the middlebox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// A wire between two interfaces of a namespace. Ends with its last handle.
pub struct Middlebox {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Holds the namespace, and with it the links, until the thread has ended.
    _namespace: Namespace,
}

struct Shared {
    /// From the client and from the server. Locked while a batch is read, so that a changed rule holds for all
    /// frames sent after the change.
    lanes: Mutex<[Lane; 2]>,
    nat: Mutex<Option<Nat>>,
    stop: AtomicBool,
    wake: OwnedFd,
}

impl Middlebox {
    /// Starts carrying frames between `client_side` and `server_side` of the namespace, doing to both
    /// directions as `rule` says, with seeds one apart.
    pub(crate) fn start(
        namespace: Namespace,
        client_side: &str,
        server_side: &str,
        rule: Impairment,
    ) -> io::Result<Self> {
        let (from_client, from_server) = namespace
            .run(|| io::Result::Ok((sys::packet_socket(client_side)?, sys::packet_socket(server_side)?)))?;
        let shared = Arc::new(Shared {
            lanes: Mutex::new(both(rule).map(Lane::new)),
            nat: Mutex::default(),
            stop: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let carrier = Carrier {
            sides: [from_client, from_server],
            shared: shared.clone(),
            buffer: vec![0; LARGEST_FRAME],
        };
        let thread = thread::Builder::new().name("middlebox".into()).spawn(move || carrier.carry())?;
        Ok(Self { shared, thread: Some(thread), _namespace: namespace })
    }

    /// Changes what happens to frames of both directions from now on.
    pub fn set(&self, rule: Impairment) {
        let [to_server, to_client] = both(rule);
        self.set_one(Direction::ToServer, to_server);
        self.set_one(Direction::ToClient, to_client);
    }

    /// Changes what happens to frames of one direction from now on.
    pub fn set_one(&self, direction: Direction, rule: Impairment) {
        self.shared.lanes()[direction as usize].set(rule);
    }

    /// From now on the client's UDP datagrams over IPv4 come from this address, and what goes to any other is lost: as with
    /// a NAT that has forgotten its mapping. The client's host must answer for the address on the link.
    pub fn rebind(&self, to: SocketAddrV4) {
        self.shared.nat().get_or_insert_with(|| Nat::new(to)).move_to(to);
    }

    /// What it did so far.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.shared.lanes()[direction as usize].counts
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When `deadline` passes first.
    pub fn wait(&self, deadline: Duration, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let counts = [self.counts(Direction::ToServer), self.counts(Direction::ToClient)];
            assert!(start.elapsed() < deadline, "not after {deadline:?}: {counts:?}");
            thread::yield_now();
        }
    }
}

impl fmt::Debug for Middlebox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [Direction::ToServer, Direction::ToClient].map(|direction| self.counts(direction));
        f.debug_tuple("Middlebox").field(&counts).finish()
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; panicking again while a test unwinds would hide the test's own.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        self.lanes.lock().expect("no holder panics")
    }

    fn nat(&self) -> MutexGuard<'_, Option<Nat>> {
        self.nat.lock().expect("no holder panics")
    }

    fn wake(&self) {
        // Fails only if the counter is full, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

fn both(rule: Impairment) -> [Impairment; 2] {
    [rule, Impairment { seed: rule.seed.wrapping_add(1), ..rule }]
}

struct Carrier {
    /// The client's side and the server's.
    sides: [OwnedFd; 2],
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Carrier {
    fn carry(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let mut idle = true;
            for side in 0..2 {
                idle &= self.take_in(side) < BATCH;
                self.give_out(side);
            }
            if idle {
                self.wait();
            }
        }
    }

    /// Reads up to a batch of frames that arrived on a side; returns how many.
    fn take_in(&mut self, side: usize) -> usize {
        let now = Instant::now();
        let lane = &mut self.shared.lanes()[side];
        let mut nat = self.shared.nat();
        for taken in 0..BATCH {
            match recv(&self.sides[side], &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    let frame = &mut self.buffer[..len];
                    let passes = match &mut *nat {
                        Some(nat) if side == Direction::ToServer as usize => {
                            nat.leave(frame);
                            true
                        }
                        Some(nat) => nat.enter(frame),
                        None => true,
                    };
                    if passes {
                        lane.offer(frame, now);
                    }
                }
                // Nothing there, or the link is down: its frames are lost, as on any wire.
                Err(_) => {
                    if let Ok(statistics) = sys::packet_statistics(&self.sides[side]) {
                        lane.counts.overflowed += u64::from(statistics.dropped);
                    }
                    return taken;
                }
            }
        }
        BATCH
    }

    /// Sends what has come from `side` to the other end.
    fn give_out(&self, side: usize) {
        let now = Instant::now();
        loop {
            let Some(frame) = self.shared.lanes()[side].take(now) else { break };
            loop {
                match send(&self.sides[1 - side], &frame, SendFlags::empty()) {
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN | Errno::NOBUFS) => thread::yield_now(),
                    // A link that is down loses the frame.
                    _ => break,
                }
            }
        }
    }

    /// Sleeps until a frame arrives or is due, or somebody calls.
    fn wait(&self) {
        let due = self.shared.lanes().iter().filter_map(Lane::due).min();
        let timeout = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut waited_on = [
            PollFd::new(&self.sides[0], PollFlags::IN),
            PollFd::new(&self.sides[1], PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        // An interrupted sleep is a short one.
        let _ = poll(&mut waited_on, timeout.as_ref());
        if waited_on[2].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(self.shared.wake.as_fd(), &mut [0u8; 8]);
        }
    }
}
