//! An interface as others see it: written by its actor, read by whoever opens connections or asks how things are.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
};

use parking_lot::RwLock;
use wirepath_drivers::{Nic as Interface, XdpControl, XdpProgram};

use crate::nic_queue::QueueState;

/// One interface, as others see it.
#[derive(Debug)]
pub struct NicState {
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    name: String,
    link_up: bool,
    addresses: Vec<IpAddr>,
    queues: Vec<Arc<QueueState>>,
    trouble: Option<String>,
    program: Weak<dyn XdpControl>,
}

impl NicState {
    /// The state of an interface that is all right and has no queues yet.
    pub fn new(interface: &Interface) -> Self {
        let now = Now {
            name: interface.name.clone(),
            link_up: interface.link.is_up(),
            addresses: addresses(interface),
            queues: Vec::new(),
            trouble: None,
            program: Weak::<XdpProgram>::new(),
        };
        Self { now: RwLock::new(now) }
    }

    /// The interface's name.
    pub fn name(&self) -> String {
        self.now.read().name.clone()
    }

    /// Whether packets can pass, as far as the link goes.
    pub fn is_link_up(&self) -> bool {
        self.now.read().link_up
    }

    /// Whether an address is one of the interface's: what leaves from it leaves through AF_XDP.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.now.read().addresses.contains(&address)
    }

    /// The queues, in their order.
    pub fn queues(&self) -> Vec<Arc<QueueState>> {
        self.now.read().queues.clone()
    }

    /// One queue.
    pub fn queue(&self, number: usize) -> Option<Arc<QueueState>> {
        self.now.read().queues.get(number).cloned()
    }

    /// Why AF_XDP is not in use on the interface, or on one of its queues.
    pub fn trouble(&self) -> Option<String> {
        let now = self.now.read();
        now.trouble.clone().or_else(|| now.queues.iter().find_map(|queue| queue.trouble()))
    }

    /// The XDP program, to read its counters, while it is attached.
    pub fn program(&self) -> Option<Arc<dyn XdpControl>> {
        self.now.read().program.upgrade()
    }

    /// Adds the next queue.
    pub fn add_queue(&self, queue: Arc<QueueState>) {
        self.now.write().queues.push(queue);
    }

    pub(super) fn keep_queues(&self, count: usize) {
        self.now.write().queues.truncate(count);
    }

    pub(super) fn set_interface(&self, interface: &Interface) {
        let mut now = self.now.write();
        now.name.clone_from(&interface.name);
        now.link_up = interface.link.is_up();
        now.addresses = addresses(interface);
    }

    pub(super) fn set_program(&self, program: &Arc<dyn XdpControl>) {
        self.now.write().program = Arc::downgrade(program);
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.now.write().trouble = trouble;
    }
}

pub(super) fn addresses(interface: &Interface) -> Vec<IpAddr> {
    interface.addresses.iter().map(|(address, _)| *address).collect()
}
