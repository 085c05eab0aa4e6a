//! What the dashboard sees of a stack: counters and last published reports, never an actor.

mod connections;
mod keys;

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
};

use parking_lot::Mutex;
use wirepath_actors::{egress::Egress, link::ConnectionLink, tables::QuicBooks};
use wirepath_dashboard::{
    ActorReading, ConnectionReading, Dashboard, DeviceReading, FrameNote, FrameWatch, KernelBooks, Options,
    OtherBooks, Reading, Rows, Source, Token, Wants,
    api::{DataPathInfo, Ring, Rings, UmemLedger},
    read_registry,
};
use wirepath_drivers::{DataPath, DriverStats, DriverStatus, FrameSight, Place, RingGauges};
use wirepath_trace::{BatchClock, MemoryPlan, Tracer};
use wirepath_wire::rules::Action;

pub(crate) use keys::KeyRing;

use crate::{Error, stack::Inner};

/// Where and how a stack serves its dashboard.
#[derive(Clone, Debug, Default)]
pub(crate) struct DashboardPlan {
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) listener: Option<Arc<TcpListener>>,
    pub(crate) token: Option<Token>,
    pub(crate) hosts: Vec<String>,
    pub(crate) payload: bool,
    pub(crate) key_log: bool,
    pub(crate) qlog: bool,
    /// Bytes for all that is kept.
    pub(crate) memory: usize,
}

impl DashboardPlan {
    pub(crate) fn is_wanted(&self) -> bool {
        self.addr.is_some() || self.listener.is_some()
    }

    pub(crate) fn keeps_keys(&self) -> bool {
        self.is_wanted() && self.key_log
    }

    /// Serves it, if it is wanted.
    pub(crate) fn serve(self, stack: &Arc<Inner>) -> Result<Option<Dashboard>, Error> {
        let memory = MemoryPlan::of(self.memory, self.payload);
        let options = Options { token: self.token, hosts: self.hosts, memory };
        let source = Arc::new(StackSource {
            stack: Arc::downgrade(stack),
            tracer: stack.tracer(),
            begun: BatchClock::read(),
            frames: Mutex::default(),
            memory: Mutex::default(),
        });
        Ok(match (self.listener, self.addr) {
            (Some(listener), _) => Some(Dashboard::serve(listener.try_clone()?, options, source)?),
            (None, Some(addr)) => Some(Dashboard::bind(addr, options, source)?),
            (None, None) => None,
        })
    }
}

/// A stack, as long as it lives: the dashboard does not keep it alive.
struct StackSource {
    stack: Weak<Inner>,
    tracer: Arc<Tracer>,
    begun: u64,
    frames: Mutex<FrameWatch>,
    memory: Mutex<Memory>,
}

/// What one reading leaves to the next.
#[derive(Debug, Default)]
struct Memory {
    kernel: KernelBooks,
    transmit_made: u64,
}

impl Source for StackSource {
    fn read(&self, wants: &Wants, last: &Reading) -> Option<Reading> {
        let stack = self.stack.upgrade()?;
        let now = BatchClock::read();
        let mut reading = Reading { t_ns: now, uptime_ns: now - self.begun, ..Reading::default() };
        let books = read_registry(stack.registry(), wants, last, &mut reading);
        let status = stack.status();
        reading.data_path = data_path(&status);
        reading.checksum_trusted = stack.trusts_checksums() && status.is_xdp();
        reading.drops = status.drops.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
        reading.devices =
            stack.devices().into_iter().map(|(name, trouble, it)| device(name, trouble, it)).collect();
        let mut watch = self.frames.lock();
        reading.umems = stack
            .egresses()
            .iter()
            .filter_map(|egress| ledger(&mut watch, egress, &reading.actors, now))
            .collect();
        reading.rules = status.rules.iter().map(|it| (it.rule.to_string(), it.hits)).collect();
        reading.passed = status.passed.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
        let departed = stack.tables().departed_drops.snapshot().into_iter();
        reading.connection_drops = departed.map(|(cause, count)| (cause.to_owned(), count)).collect();
        // Connections that end meanwhile are in the former of these two, in the latter, or in both.
        let before = stack.tables().departed.books();
        let live = read_connections(&stack, wants, last, &mut reading);
        let other = self.other_books(&stack, &status, &reading, [before, live]);
        books.close(stack.registry(), &mut reading, other);
        reading.tracer = self.tracer.stats().into();
        Some(reading)
    }

    fn tracer(&self) -> Arc<Tracer> {
        self.tracer.clone()
    }

    fn qlog(&self, connection: u64) -> Option<Vec<u8>> {
        Some(self.stack.upgrade()?.tables().qlogs.get(&connection)?.read())
    }

    fn secrets(&self) -> Option<String> {
        Some(self.stack.upgrade()?.keys()?.text())
    }
}

/// Reads the connections whose actors were told of, and what all of them counted. Most did nothing since the `last`
/// reading, and are shared with it.
fn read_connections(stack: &Inner, wants: &Wants, last: &Reading, reading: &mut Reading) -> QuicBooks {
    let logs = stack.tables().logs_connections;
    let mut cids = if wants.cids { stack.cids() } else { HashMap::new() };
    let (links, mut sums) = (stack.links(), connections::Sums::default());
    let count = links.len();
    reading.connections = Rows::with_capacity(count);
    for (id, link) in links {
        let with_streams = wants.streams_of(id, count);
        let known = last.connections.find(id);
        let known = connections::as_it_was(known, &link, with_streams, wants.cids);
        let row = known.cloned().unwrap_or_else(|| {
            let cids = cids.remove(&id).unwrap_or_default().into();
            let row = connections::read(id, &link, with_streams);
            Arc::new(ConnectionReading { cids, has_qlog: logs, ..row })
        });
        sums.add(&row);
        if reading.left_out == 0 || reading.actors.find(id).is_some() {
            reading.connections.push(row);
        }
    }
    for (cause, count) in sums.drops() {
        *reading.connection_drops.entry(cause.to_owned()).or_default() += count;
    }
    sums.books
}

impl StackSource {
    /// What others than the meters count. `departed` was read before `live`, and is read once more here.
    fn other_books(
        &self,
        stack: &Inner,
        status: &crate::StackStatus,
        reading: &Reading,
        [departed, live]: [QuicBooks; 2],
    ) -> OtherBooks {
        let (mut most, mut least) = (live, live);
        most += stack.tables().departed.books();
        least += departed;
        let redirected: u64 =
            status.rules.iter().filter(|it| it.rule.action == Action::Redirect).map(|it| it.hits).sum();
        let unclaimed = status.passed.get("xdp_unclaimed_queue_passed").copied().unwrap_or(0);
        let mut memory = self.memory.lock();
        OtherBooks {
            aside: stack.tables().sent_aside.load(Relaxed),
            kernel: memory.kernel.hop(redirected.saturating_sub(unclaimed), &reading.devices),
            kernel_out: memory.kernel.hop_out(&reading.devices, &reading.umems),
            datagram_taken: most.datagram_received,
            packet_found: least.packet_found,
            packet_received: least.packet_received,
            packet_deferred: least.packet_deferred,
            packet_dropped: least.packet_dropped,
            transmit_made: least.transmit_made,
            transmit_made_earlier: std::mem::replace(&mut memory.transmit_made, least.transmit_made),
        }
    }
}

fn data_path(status: &crate::StackStatus) -> DataPathInfo {
    let mut info = DataPathInfo {
        summary: status.to_string(),
        kind: "none".to_owned(),
        fallback: status.fallback.clone(),
        ..DataPathInfo::default()
    };
    let Some(first) = status.devices.first() else { return info };
    info.kind = kind(&first.status.path).to_owned();
    info.interface = first.status.interface.clone();
    info.reason = first.status.reason.clone();
    if let DataPath::Xdp { driver_mode, zero_copy } = first.status.path {
        (info.driver_mode, info.zero_copy) = (Some(driver_mode), Some(zero_copy));
    }
    info
}

fn kind(path: &DataPath) -> &'static str {
    match path {
        DataPath::Xdp { .. } => "xdp",
        DataPath::OsUdp => "os_udp",
        DataPath::Memory => "memory",
    }
}

fn device(
    name: String,
    trouble: Option<String>,
    (status, stats): (DriverStatus, DriverStats),
) -> DeviceReading {
    DeviceReading {
        name,
        interface: status.interface,
        queue: status.queue,
        kind: kind(&status.path).to_owned(),
        path: status.path.to_string(),
        reason: status.reason,
        link_up: status.link_up,
        trouble,
        rings: stats.rings.map(rings),
        rx_packets: stats.rx_packet_received,
        rx_bytes: stats.rx_byte_received,
        tx_datagrams: stats.tx_datagram_sent,
        tx_bytes: stats.tx_byte_sent,
        kicks: stats.tx_kick_made,
        counters: stats.named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

fn rings(gauges: RingGauges) -> Rings {
    let ring = |(used, size): (u32, u32)| Ring { size: size.into(), used: used.into() };
    Rings {
        fill: ring(gauges.fill),
        rx: ring(gauges.rx),
        tx: ring(gauges.tx),
        completion: ring(gauges.completion),
        need_wakeup: gauges.need_wakeup,
    }
}

/// The ledger of a device's UMEM, if it has one.
fn ledger(
    watch: &mut FrameWatch,
    egress: &Egress,
    actors: &Rows<ActorReading>,
    now: u64,
) -> Option<UmemLedger> {
    let rejected = egress.census()?.rejected;
    let note = |sight: FrameSight| FrameNote {
        place: sight.place.map_or("unknown", place),
        stay: sight.stay,
        holder: sight.holder.map(u64::from),
    };
    let notes: Vec<_> = egress.sights().into_iter().map(note).collect();
    let ledger = watch.ledger(egress.device().name(), &notes, actors, now);
    Some(UmemLedger { frame_size_bytes: egress.frame_size() as u64, rejected, ..ledger })
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Free => "free",
        Place::Fill => "fill",
        Place::RxApp => "rx_app",
        Place::TxApp => "tx_app",
        Place::TxRing | Place::TxRingOfRx => "tx_ring",
        Place::Quarantined => "quarantined",
    }
}

impl Inner {
    /// The links of live connections, by actor.
    fn links(&self) -> Vec<(u64, Arc<ConnectionLink>)> {
        let links = self.tables().links.iter();
        let mut links: Vec<_> = links.map(|it| (*it.key(), it.value().clone())).collect();
        links.sort_unstable_by_key(|(id, _)| *id);
        links
    }

    /// CIDs of live connections in hex, by actor.
    fn cids(&self) -> HashMap<u64, Vec<String>> {
        let mut cids: HashMap<u64, Vec<String>> = HashMap::new();
        for entry in &self.tables().connections {
            let hex = entry.key().as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            cids.entry(entry.value().id()).or_default().push(hex);
        }
        cids
    }
}
