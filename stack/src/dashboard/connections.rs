//! What is read of each connection: what its link was last told, never its actor.

use std::time::Duration;

use wirepath_actors::{
    link::{Agreed, ConnectionLink, Phase, StreamFigures},
    tables::QuicBooks,
};
use wirepath_dashboard::{
    ConnectionReading, Counters, Limit, LimitsReading, PathReading, StreamReading, StreamsReading,
    api::{ConnectionState, Ecn},
};
use wirepath_quic::{
    Counters as QuicCounters, Limit as QuicLimit, PathStats, Role, SendLimits, stream::StreamStats,
};

/// Streams of a connection that are told of.
const STREAMS: usize = 100;

const NAMES: [&str; 27] = [
    "datagram_sent",
    "byte_sent",
    "datagram_received",
    "byte_received",
    "packet_sent",
    "packet_received",
    "packet_lost",
    "packet_spuriously_lost",
    "packet_duplicate_dropped",
    "packet_forged_dropped",
    "packet_keyless_dropped",
    "packet_invalid_dropped",
    "datagram_path_dropped",
    "datagram_closed",
    "packet_deferred",
    "probe_timeout",
    "persistent_congestion",
    "congestion_marked",
    "mtu_probe_sent",
    "key_updated",
    "path_changed",
    "stream_byte_sent",
    "stream_byte_received",
    "stream_byte_unreleased",
    "connection_blocked",
    "stream_blocked",
    "open_blocked",
];

fn counters(of: &QuicCounters, streams: &StreamStats) -> Counters {
    Counters::of_names(
        &NAMES,
        [
            of.datagram_sent,
            of.byte_sent,
            of.datagram_received,
            of.byte_received,
            of.packet_sent,
            of.packet_received,
            of.packet_lost,
            of.packet_spuriously_lost,
            of.packet_duplicate_dropped,
            of.packet_forged_dropped,
            of.packet_keyless_dropped,
            of.packet_invalid_dropped,
            of.datagram_path_dropped,
            of.datagram_closed,
            of.packet_deferred,
            of.probe_timeout,
            of.persistent_congestion,
            of.congestion_marked,
            of.mtu_probe_sent,
            of.key_updated,
            of.path_changed,
            streams.byte_sent,
            streams.byte_received,
            streams.byte_unreleased,
            streams.connection_blocked,
            streams.stream_blocked,
            streams.open_blocked,
        ],
    )
}

/// A connection, and its part of the books. `with_streams`: somebody looks at it.
pub(super) fn read(id: u64, link: &ConnectionLink, with_streams: bool) -> (ConnectionReading, QuicBooks) {
    let (path, stats, phase) = (link.path(), link.stats(), link.phase());
    let reading = ConnectionReading {
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
        paths: link.paths().iter().map(path_reading).collect(),
        streams: with_streams.then(|| {
            let (open, rows) = link.streams(STREAMS);
            StreamsReading { open: open as u64, rows: rows.iter().map(stream).collect() }
        }),
        counters: counters(&stats.counters, &stats.streams),
        ..ConnectionReading::default()
    };
    (reading, QuicBooks::from(&stats.counters))
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

fn path_reading(it: &PathStats) -> PathReading {
    PathReading {
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
