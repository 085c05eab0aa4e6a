//! What the dashboard sees of a stack: counters and last published reports, never an actor.

mod keys;

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use wirepath_actors::{
    egress::Egress,
    link::{Agreed, ConnectionLink, Phase},
};
use wirepath_dashboard::{
    ConnectionReading, Counters, Dashboard, DeviceReading, FrameNote, FrameWatch, Options, Reading, Source,
    Token, Wants,
    api::{ConnectionState, DataPathInfo, Ring, Rings, UmemLedger},
    read_registry,
};
use wirepath_drivers::{DataPath, DriverStats, DriverStatus, FrameSight, Place, RingGauges};
use wirepath_quic::Role;
use wirepath_trace::{BatchClock, Tracer};

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
        let options = Options { token: self.token, hosts: self.hosts };
        let source = Arc::new(StackSource {
            stack: Arc::downgrade(stack),
            tracer: stack.tracer(),
            begun: BatchClock::read(),
            frames: Mutex::default(),
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
}

impl Source for StackSource {
    fn read(&self, wants: Wants) -> Option<Reading> {
        let stack = self.stack.upgrade()?;
        let now = BatchClock::read();
        let mut reading = Reading { t_ns: now, uptime_ns: now - self.begun, ..Reading::default() };
        let books = read_registry(stack.registry(), &mut reading);
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
        let departed = stack.tables().departed_drops.snapshot().into_iter();
        reading.connection_drops = departed.map(|(cause, count)| (cause.to_owned(), count)).collect();
        let logs = stack.tables().logs_connections;
        let mut cids = if wants.cids { stack.cids() } else { HashMap::new() };
        for (id, link) in stack.links() {
            let it = ConnectionReading {
                cids: cids.remove(&id).unwrap_or_default(),
                has_qlog: logs,
                ..connection(id, &link)
            };
            for (cause, count) in
                it.counters.iter().filter(|(name, count)| *count > 0 && name.ends_with("_dropped"))
            {
                *reading.connection_drops.entry(cause.to_owned()).or_default() += count;
            }
            reading.connections.push(it);
        }
        let aside = stack.tables().sent_aside.load(std::sync::atomic::Ordering::Relaxed);
        books.close(stack.registry(), &mut reading, aside);
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
    actors: &[wirepath_dashboard::ActorReading],
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

fn connection(id: u64, link: &ConnectionLink) -> ConnectionReading {
    let (path, stats, phase) = (link.path(), link.stats(), link.phase());
    let nanos = |time: std::time::Duration| time.as_nanos() as u64;
    let (counters, streams) = (stats.counters, stats.streams);
    let counters = Counters::from([
        ("datagram_sent", counters.datagram_sent),
        ("byte_sent", counters.byte_sent),
        ("datagram_received", counters.datagram_received),
        ("byte_received", counters.byte_received),
        ("packet_sent", counters.packet_sent),
        ("packet_received", counters.packet_received),
        ("packet_lost", counters.packet_lost),
        ("packet_spuriously_lost", counters.packet_spuriously_lost),
        ("packet_duplicate_dropped", counters.packet_duplicate_dropped),
        ("packet_forged_dropped", counters.packet_forged_dropped),
        ("packet_keyless_dropped", counters.packet_keyless_dropped),
        ("packet_invalid_dropped", counters.packet_invalid_dropped),
        ("datagram_path_dropped", counters.datagram_path_dropped),
        ("probe_timeout", counters.probe_timeout),
        ("persistent_congestion", counters.persistent_congestion),
        ("congestion_marked", counters.congestion_marked),
        ("mtu_probe_sent", counters.mtu_probe_sent),
        ("key_updated", counters.key_updated),
        ("path_changed", counters.path_changed),
        ("stream_byte_sent", streams.byte_sent),
        ("stream_byte_received", streams.byte_received),
        ("stream_byte_unreleased", streams.byte_unreleased),
        ("connection_blocked", streams.connection_blocked),
        ("stream_blocked", streams.stream_blocked),
        ("open_blocked", streams.open_blocked),
    ]);
    ConnectionReading {
        id,
        role: match link.role() {
            Role::Client => "client",
            Role::Server => "server",
        }
        .into(),
        state: match phase {
            Phase::Handshaking | Phase::Early(_) => ConnectionState::Handshaking,
            Phase::Open(_) => ConnectionState::Open,
            Phase::Closed(_) => ConnectionState::Closed,
        },
        local: path.local,
        remote: path.remote,
        alpn: match phase {
            Phase::Early(alpn) | Phase::Open(Agreed { alpn, .. }) => {
                Some(String::from_utf8_lossy(&alpn).into_owned())
            }
            _ => None,
        },
        cids: Vec::new(),
        has_qlog: false,
        rtt_ns: nanos(stats.rtt),
        min_rtt_ns: nanos(stats.min_rtt),
        cwnd_bytes: stats.congestion_window,
        in_flight_bytes: stats.bytes_in_flight,
        mtu_bytes: stats.mtu.into(),
        counters,
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
