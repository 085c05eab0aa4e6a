//! What is read of each connection: what its link was last told, never its actor.

use std::{sync::Arc, time::Duration};

use wirepath_actors::{
    link::{Agreed, ConnectionLink, Phase, StreamFigures},
    tables::QuicBooks,
};
use wirepath_dashboard::{
    ConnectionReading, Counters, Limit, LimitsReading, StreamReading, StreamsReading,
    api::{ConnectionRole, ConnectionState, Ecn, PathRow},
};
use wirepath_quic::{
    Counters as QuicCounters, Limit as QuicLimit, PathStats, Role, SendLimits, stream::StreamStats,
};

/// Streams of a connection that are told of.
const STREAMS: usize = 100;

/// Lists the counters of a connection that are told: those of its state machine by their own names.
macro_rules! counters {
    (quic: $($counter:ident)*; streams: $($name:ident $of:ident,)*) => {
        const NAMES: [&str; [$(stringify!($counter),)* $(stringify!($name)),*].len()] =
            [$(stringify!($counter),)* $(stringify!($name)),*];

        fn counters(quic: &QuicCounters, streams: &StreamStats) -> Counters {
            Counters::of_names(&NAMES, [$(quic.$counter,)* $(streams.$of),*])
        }

        /// The state machine's, as far as they are told.
        fn quic_counters(told: &Counters) -> QuicCounters {
            let mut values = told.values();
            let mut next = || values.next().unwrap_or(0);
            QuicCounters { $($counter: next(),)* ..QuicCounters::default() }
        }
    };
}

counters! {
    quic:
        datagram_sent byte_sent datagram_received byte_received packet_sent packet_received packet_lost
        packet_spuriously_lost packet_duplicate_dropped packet_forged_dropped packet_keyless_dropped
        packet_invalid_dropped datagram_path_dropped datagram_closed packet_found packet_control packet_deferred
        transmit_made probe_timeout persistent_congestion congestion_marked mtu_probe_sent key_updated path_changed;
    streams:
        stream_byte_sent byte_sent,
        stream_byte_received byte_received,
        stream_byte_unreleased byte_unreleased,
        connection_blocked connection_blocked,
        stream_blocked stream_blocked,
        open_blocked open_blocked,
}

/// Sums over connections.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) books: QuicBooks,
    drops: [u64; 5],
}

impl Sums {
    /// Adds a connection, as it was read.
    pub(super) fn add(&mut self, it: &ConnectionReading) {
        let counters = quic_counters(&it.counters);
        self.books += QuicBooks::from(&counters);
        self.drops.iter_mut().zip(drops(&counters)).for_each(|(sum, (_, count))| *sum += count);
    }

    /// What they dropped, by name.
    pub(super) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = drops(&QuicCounters::default()).map(|(name, _)| name);
        names.into_iter().zip(self.drops).filter(|(_, count)| *count > 0)
    }
}

fn drops(of: &QuicCounters) -> [(&'static str, u64); 5] {
    [
        ("packet_duplicate_dropped", of.packet_duplicate_dropped),
        ("packet_forged_dropped", of.packet_forged_dropped),
        ("packet_keyless_dropped", of.packet_keyless_dropped),
        ("packet_invalid_dropped", of.packet_invalid_dropped),
        ("datagram_path_dropped", of.datagram_path_dropped),
    ]
}

/// A connection, as it was read before, if it has not told of itself since and the same is wanted of it.
pub(super) fn as_it_was<'a>(
    last: Option<&'a Arc<ConnectionReading>>,
    link: &ConnectionLink,
    with_streams: bool,
    with_cids: bool,
) -> Option<&'a Arc<ConnectionReading>> {
    last.filter(|it| {
        it.version == link.version()
            && it.waits_for_streams == link.waits_for_streams()
            && !with_streams
            && it.streams.is_none()
            && with_cids != it.cids.is_empty()
    })
}

/// A connection. `with_streams`: somebody looks at it.
pub(super) fn read(id: u64, link: &ConnectionLink, with_streams: bool) -> ConnectionReading {
    // First of all: what is told meanwhile is read again.
    let version = link.version();
    let (path, stats, phase) = (link.path(), link.stats(), link.phase());
    ConnectionReading {
        id,
        version,
        role: match link.role() {
            Role::Client => ConnectionRole::Client,
            Role::Server => ConnectionRole::Server,
        },
        state: match phase {
            Phase::Handshaking | Phase::Early(_) => ConnectionState::Handshaking,
            Phase::Open(_) => ConnectionState::Open,
            Phase::Closed(_) => ConnectionState::Closed,
        },
        local: path.local,
        remote: path.remote,
        alpn: match phase {
            Phase::Early(alpn) | Phase::Open(Agreed { alpn, .. }) => {
                Some(String::from_utf8_lossy(&alpn).as_ref().into())
            }
            _ => None,
        },
        rtt_ns: nanos(stats.rtt),
        min_rtt_ns: nanos(stats.min_rtt),
        cwnd_bytes: stats.congestion_window,
        in_flight_bytes: stats.bytes_in_flight,
        mtu_bytes: stats.mtu.into(),
        validated: stats.validated,
        ecn: ecn(stats.ecn_capable, stats.ecn_failed),
        ack_delay_ns: u64::from(stats.ack_delay_micros) * 1000,
        limits: limits(&stats.limits),
        waits_for_streams: link.waits_for_streams(),
        unread_bytes: stats.streams.byte_unreleased,
        receive_window_bytes: stats.streams.receive_window,
        is_credit_used: stats.streams.byte_sent >= stats.streams.send_limit,
        paths: link.paths().iter().map(path_row).collect(),
        streams: with_streams.then(|| {
            let (open, rows) = link.streams(STREAMS);
            StreamsReading { open: open as u64, rows: rows.iter().map(stream).collect() }.into()
        }),
        counters: counters(&stats.counters, &stats.streams),
        ..ConnectionReading::default()
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

fn ecn(capable: bool, failed: bool) -> Ecn {
    match (capable, failed) {
        (true, _) => Ecn::Capable,
        (false, true) => Ecn::Off,
        (false, false) => Ecn::Testing,
    }
}

fn limits(of: &SendLimits) -> LimitsReading {
    LimitsReading {
        current: match of.current {
            QuicLimit::Application => Limit::Application,
            QuicLimit::FlowControl => Limit::FlowControl,
            QuicLimit::Congestion => Limit::Cwnd,
            QuicLimit::Pacing => Limit::Pacing,
            QuicLimit::Path => Limit::Path,
            QuicLimit::Device => Limit::Frames,
        },
        micros: [of.application, of.flow_control, of.congestion, of.pacing, of.path, of.device]
            .map(|limited| limited.micros),
    }
}

fn path_row(it: &PathStats) -> PathRow {
    PathRow {
        local: it.path.local,
        remote: it.path.remote,
        active: it.active,
        validated: it.validated,
        rtt_ns: nanos(it.rtt),
        min_rtt_ns: nanos(it.min_rtt),
        cwnd_bytes: it.congestion_window,
        in_flight_bytes: it.bytes_in_flight,
        mtu_bytes: it.mtu.into(),
        ecn: ecn(it.ecn_capable, it.ecn_failed),
        packets_sent: it.packet_sent,
        packets_lost: it.packet_lost,
    }
}

fn stream(it: &StreamFigures) -> StreamReading {
    StreamReading {
        id: it.id.as_varint().as_u64(),
        receiving: it.receiving,
        sending: it.sending,
        priority: it.priority,
        written: it.written,
        sent: it.sent,
        acked: it.acked,
        limit: it.limit,
        received: it.received,
        unread: it.unread,
    }
}
