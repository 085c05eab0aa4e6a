//! A network in memory: devices joined by paths that lose, delay and damage datagrams by seed.

mod device;
mod faults;
mod random;
mod timer;
mod world;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

pub use device::MemoryDevice;
pub use faults::{Delivery, Fate, Faults, Impairment};
pub use world::MemoryNetStats;
use world::World;

/// The network. Clones are handles of the same one.
///
/// With virtual time ([`new`](Self::new)) nothing moves but by [`advance`](Self::advance), and the same seed with
/// the same calls gives the same deliveries, bit by bit. With [`real_time`](Self::real_time) it follows the clock
/// of the machine, and its devices have descriptors to wait on.
#[derive(Clone, Debug)]
pub struct MemoryNet {
    world: Arc<Mutex<World>>,
}

impl MemoryNet {
    /// A network in virtual time, which begins at zero. `faults` hold for every direction of every path.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed, faults, None))) }
    }

    /// A network in real time.
    pub fn real_time(seed: u64, faults: Faults) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed, faults, Some(std::time::Instant::now())))) }
    }

    /// Attaches a device that takes what is sent to any port of `ip`. It is detached when dropped.
    ///
    /// # Panics
    /// If a device is attached at `ip`, or the process is out of descriptors (in real time).
    pub fn device(&self, ip: IpAddr) -> MemoryDevice {
        MemoryDevice::new(self.world.clone(), ip)
    }

    /// Changes the faults of all paths, from the next datagram on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.lock().set_faults(faults);
    }

    /// Changes the faults of one direction between two addresses.
    pub fn set_path_faults(&self, from: IpAddr, to: IpAddr, faults: Faults) {
        self.world.lock().set_path_faults(from, to, faults);
    }

    /// Puts an address translator before `inside`: what it sends comes from `outside` from now on, and what is sent
    /// to `outside` reaches it. A new call with the same `inside` is a rebinding; the old outside address leads
    /// nowhere then.
    pub fn translate(&self, inside: SocketAddr, outside: SocketAddr) {
        self.world.lock().translate(inside, outside);
    }

    /// The time since the network was made.
    pub fn now(&self) -> Duration {
        self.world.lock().now()
    }

    /// Moves virtual time. In real time it does nothing.
    pub fn advance(&self, time: Duration) {
        self.world.lock().advance(time);
    }

    /// When the next datagram arrives anywhere; `None` when none is on its way. Datagrams that have arrived and
    /// wait to be received count, too.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.world.lock().next_arrival()
    }

    /// What happened so far.
    pub fn stats(&self) -> MemoryNetStats {
        self.world.lock().stats()
    }
}
