//! Routes and neighbours: where a datagram to some address goes next, by netlink.
//!
//! The kernel is asked once for each destination; its notifications keep the answers fresh. Devices read a table.
//! A task does the asking, solicits neighbours nobody has talked to yet, and keeps those alive that are in use:
//! the kernel doesn't see the traffic of AF_XDP and would forget them.

mod cell;
mod neighbours;
mod netlink;
mod table;
mod task;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::{broadcast, mpsc, oneshot};

pub use netlink::LinkInfo;
pub use task::RouteTask;

use crate::{DriverError, NextHop, NextHops, XdpAccess};
use cell::Hop;
use neighbours::NeighbourKey;
use netlink::Netlink;
use table::{Known, Table};

/// Questions that wait for the task. Each is a new destination, so more means a flood: the askers come again.
const REQUESTS: usize = 1024;

/// Link changes a slow subscriber may fall behind.
const LINK_EVENTS: usize = 64;

/// The routes out of one interface (and the VLANs on it). Clones share one table and one task.
#[derive(Clone, Debug)]
pub struct RouteTable {
    table: Arc<Table>,
    requests: mpsc::Sender<Request>,
    links: broadcast::Sender<LinkEvent>,
}

/// How the kernel would send to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface's index.
    pub link: u32,
    /// The interface's name.
    pub interface: String,
    /// The source address the route prefers.
    pub source: IpAddr,
    /// The next hop, where it is not the destination itself.
    pub gateway: Option<IpAddr>,
    /// The destination is this machine: only OS sockets reach it.
    pub local: bool,
}

/// A change of some interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It appeared, or something about it changed (state, name, hardware address, MTU).
    Changed(LinkInfo),
    /// It is gone.
    Removed(LinkInfo),
    /// Some interface got an address, or lost one.
    Addresses,
}

/// Has the kernel confirm a neighbour's hardware address, or find it out anew, for a process without the right.
/// Waits until the kernel has been asked.
pub(crate) fn find_neighbour(link: u32, ip: IpAddr, anew: bool) -> Result<(), DriverError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|source| DriverError::Io { what: "netlink", source })?;
    runtime.block_on(async {
        let netlink = Netlink::open()?;
        let key = NeighbourKey { link, ip: ip.to_canonical() };
        if anew {
            netlink.invalidate(key).await?;
        }
        netlink.solicit(key).await
    })
}

/// What the task is asked to do.
#[derive(Debug)]
enum Request {
    /// Find the way to a destination that has an empty place in the table.
    Resolve(IpAddr),
    /// Packets to this destination may be getting lost on the way to the next hop.
    Suspect(IpAddr),
    /// Serve another interface from now on.
    Serve(u32),
    /// Tell the route to an address, whatever interface it takes.
    Route(IpAddr, oneshot::Sender<Option<Route>>),
}

impl RouteTable {
    /// Reads the kernel's state for the interface with index `link` and keeps it fresh in a task on the current
    /// tokio runtime, until the last handle is dropped. Netlink is opened in the calling thread's network
    /// namespace.
    ///
    /// # Errors
    /// [`DriverError::Io`] when netlink fails, [`DriverError::NoInterface`] when there is no such link.
    pub async fn start(link: u32) -> Result<Self, DriverError> {
        Self::start_by(link, XdpAccess::Own).await
    }

    /// As [`start`](Self::start); what this process has no right to do is done by whoever has.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_by(link: u32, access: XdpAccess) -> Result<Self, DriverError> {
        let (table, mut task) = Self::open(link).await?;
        task.ask_through(access);
        tokio::spawn(task.run());
        Ok(table)
    }

    /// As [`start`](Self::start), with the task left to the caller to run.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn open(link: u32) -> Result<(Self, RouteTask), DriverError> {
        let (requests, incoming) = mpsc::channel(REQUESTS);
        let (links, _) = broadcast::channel(LINK_EVENTS);
        let table = Arc::new(Table::default());
        let task = RouteTask::open(link, table.clone(), incoming, links.clone()).await?;
        Ok((Self { table, requests, links }, task))
    }

    /// A view for one device.
    pub fn next_hops(&self) -> RouteHops {
        RouteHops { table: self.table.clone(), requests: self.requests.clone() }
    }

    /// Whether an address is this machine's own (or loopback), so that AF_XDP can't reach it.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.table.is_local(ip)
    }

    /// The route the kernel would take to `remote`; `None` when there is none.
    pub async fn route(&self, remote: IpAddr) -> Option<Route> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Route(remote, reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    /// Tells that packets to `remote` seem to get lost: persistent congestion, or a PTO or two in a row. The route
    /// is asked for again, and the neighbour found again by multicast at once, for it may have a new hardware
    /// address. Until it answers, the old one is used. Cheap to call, and limited: a few in a row, then once a second a neighbour.
    pub fn suspect(&self, remote: IpAddr) {
        let remote = remote.to_canonical();
        let cell = self.table.neighbour(remote);
        if let Some(cell) = &cell {
            cell.set_doubted(true);
        }
        // With the queue full the table is about to be busy anyway; the next PTO tells again.
        if self.requests.try_send(Request::Suspect(remote)).is_err()
            && let Some(cell) = cell
        {
            cell.set_doubted(false);
        }
    }

    /// Whether the next hop to `remote` is being found out anew, and has not answered yet.
    pub fn is_suspected(&self, remote: IpAddr) -> bool {
        self.table.neighbour(remote.to_canonical()).is_some_and(|cell| cell.is_doubted())
    }

    /// Packets of `remote` come from this hardware address now, and came from another before. Unless packets to it go
    /// there already, that is as good as a loss: a gateway that has another address for what it sends most likely has it
    /// for what it receives. Limited as [`suspect`](Self::suspect).
    pub fn heard_from(&self, remote: IpAddr, mac: [u8; 6]) {
        let known = self.table.neighbour(remote.to_canonical());
        if known.is_some_and(|cell| cell.hop() != Hop::At(mac)) {
            self.suspect(remote);
        }
    }

    /// Serves the interface with index `link` from now on: the one that was made in the place of a deleted one.
    pub async fn serve(&self, link: u32) {
        // The task ends with the last handle, so it is there.
        let _ = self.requests.send(Request::Serve(link)).await;
    }

    /// Changes of interfaces from now on.
    pub fn link_events(&self) -> broadcast::Receiver<LinkEvent> {
        self.links.subscribe()
    }

    /// Destinations that found no place in the table: it was full of ones in use.
    pub fn overflowed(&self) -> u64 {
        self.table.overflowed()
    }
}

/// A device's view of a [`RouteTable`].
#[derive(Clone, Debug)]
pub struct RouteHops {
    table: Arc<Table>,
    requests: mpsc::Sender<Request>,
}

impl NextHops for RouteHops {
    fn lookup(&mut self, remote: IpAddr) -> NextHop {
        let hop = match self.table.lookup(remote) {
            Known::Hop(hop) => return hop,
            Known::Doubtful(hop) => hop,
            Known::Nothing => NextHop::Pending,
        };
        // Only with room for the question is the place marked as asked, so that no destination is forgotten.
        if let Ok(permit) = self.requests.try_reserve()
            && self.table.ask(remote)
        {
            permit.send(Request::Resolve(remote));
        }
        hop
    }

    fn generation(&self) -> u64 {
        self.table.generation.load(Ordering::Acquire)
    }
}
