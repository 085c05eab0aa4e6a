//! What the dashboard sees of a stack: counters and last published reports, never an actor.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak},
};

use wirepath_actors::link::{Agreed, ConnectionLink, Phase};
use wirepath_dashboard::{
    ConnectionReading, Dashboard, DeviceReading, Options, Reading, Source, Token,
    api::{ConnectionState, DataPathInfo, PlaceCount, Ring, Rings, UmemLedger},
    read_registry,
};
use wirepath_drivers::{DataPath, DriverStats, DriverStatus, RingGauges, UmemAudit};
use wirepath_quic::Role;
use wirepath_trace::{BatchClock, Tracer};

use crate::{Error, stack::Inner};

/// Where and how a stack serves its dashboard.
#[derive(Clone, Debug, Default)]
pub(crate) struct DashboardPlan {
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) listener: Option<Arc<TcpListener>>,
    pub(crate) token: Option<Token>,
    pub(crate) hosts: Vec<String>,
}

impl DashboardPlan {
    pub(crate) fn is_wanted(&self) -> bool {
        self.addr.is_some() || self.listener.is_some()
    }

    /// Serves it, if it is wanted.
    pub(crate) fn serve(self, stack: &Arc<Inner>) -> Result<Option<Dashboard>, Error> {
        let options = Options { token: self.token, hosts: self.hosts };
        let source = Arc::new(StackSource {
            stack: Arc::downgrade(stack),
            tracer: stack.tracer(),
            begun: BatchClock::read(),
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
}

impl Source for StackSource {
    fn read(&self) -> Option<Reading> {
        let stack = self.stack.upgrade()?;
        let now = BatchClock::read();
        let mut reading = Reading { t_ns: now, uptime_ns: now - self.begun, ..Reading::default() };
        // First the meters: what they count is never more than what later figures do.
        read_registry(stack.registry(), &mut reading);
        let status = stack.status();
        reading.data_path = data_path(&status);
        reading.checksum_trusted = stack.trusts_checksums() && status.is_xdp();
        reading.drops = status.drops.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
        reading.devices =
            stack.devices().into_iter().map(|(name, trouble, it)| device(name, trouble, it)).collect();
        reading.umems = stack
            .umems()
            .into_iter()
            .map(|(name, frame_size, audit)| ledger(name, frame_size, audit))
            .collect();
        reading.rules = status.rules.iter().map(|it| (it.rule.to_string(), it.hits)).collect();
        reading.connections =
            stack.links().into_iter().map(|(id, link, cids)| connection(id, &link, cids)).collect();
        reading.tracer = self.tracer.stats().into();
        Some(reading)
    }

    fn tracer(&self) -> Arc<Tracer> {
        self.tracer.clone()
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

fn ledger(device: String, frame_size: usize, audit: UmemAudit) -> UmemLedger {
    let places = [
        ("free", audit.free),
        ("fill", audit.fill),
        ("rx_app", audit.rx_app),
        ("tx_app", audit.tx_app),
        ("tx_ring", audit.tx_ring),
        ("quarantined", audit.quarantined),
    ];
    let sum: usize = places.iter().map(|(_, frames)| frames).sum();
    UmemLedger {
        device,
        capacity: audit.capacity as u64,
        frame_size_bytes: frame_size as u64,
        places: places
            .into_iter()
            .map(|(place, frames)| PlaceCount {
                place: place.to_owned(),
                frames: frames as u64,
                oldest_age_ns: None,
            })
            .collect(),
        sum: sum as u64,
        balanced: sum == audit.capacity,
        // Who holds them is told by the mailboxes: see the dashboard's view.
        holders: Vec::new(),
        suspects: Vec::new(),
        rejected: audit.rejected,
    }
}

fn connection(id: u64, link: &ConnectionLink, cids: Vec<String>) -> ConnectionReading {
    let (path, stats, phase) = (link.path(), link.stats(), link.phase());
    let nanos = |time: std::time::Duration| time.as_nanos() as u64;
    let (counters, streams) = (stats.counters, stats.streams);
    let counters: BTreeMap<Cow<'static, str>, u64> = [
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
    ]
    .map(|(name, count)| (Cow::Borrowed(name), count))
    .into();
    ConnectionReading {
        id,
        role: match link.role() {
            Role::Client => "client",
            Role::Server => "server",
        }
        .to_owned(),
        state: match phase {
            Phase::Handshaking | Phase::Early(_) => ConnectionState::Handshaking,
            Phase::Open(_) => ConnectionState::Open,
            Phase::Closed(_) => ConnectionState::Closed,
        },
        local: path.local.to_string(),
        remote: path.remote.to_string(),
        alpn: match phase {
            Phase::Early(alpn) | Phase::Open(Agreed { alpn, .. }) => {
                Some(String::from_utf8_lossy(&alpn).into_owned())
            }
            _ => None,
        },
        cids,
        rtt_ns: nanos(stats.rtt),
        min_rtt_ns: nanos(stats.min_rtt),
        cwnd_bytes: stats.congestion_window,
        in_flight_bytes: stats.bytes_in_flight,
        mtu_bytes: stats.mtu.into(),
        counters,
    }
}

impl Inner {
    /// The links of live connections by actor, with their CIDs in hex.
    fn links(&self) -> Vec<(u64, Arc<ConnectionLink>, Vec<String>)> {
        let mut cids: HashMap<u64, Vec<String>> = HashMap::new();
        for entry in &self.tables().connections {
            let hex = entry.key().as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            cids.entry(entry.value().id()).or_default().push(hex);
        }
        let links = self.tables().links.iter();
        links.map(|it| (*it.key(), it.value().clone(), cids.remove(it.key()).unwrap_or_default())).collect()
    }
}
