//! What a connection has done so far.

use std::time::Duration;

use super::Connection;
use crate::stream::StreamStats;

/// Figures of a connection, cheap to read. Those of the path are of the one in use.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Least round-trip time seen.
    pub min_rtt: Duration,
    /// Its mean variation.
    pub rtt_variation: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub bytes_in_flight: u64,
    /// Bytes of the largest datagram sent.
    pub mtu: u16,
    /// ECN works on the path.
    pub ecn_capable: bool,
    /// What streams carried, and what held them up.
    pub streams: StreamStats,
    /// Counters.
    pub counters: Counters,
}

/// Counters of a connection.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagram_sent: u64,
    /// Bytes of UDP payload sent.
    pub byte_sent: u64,
    /// Datagrams received.
    pub datagram_received: u64,
    /// Bytes of UDP payload received.
    pub byte_received: u64,
    /// Packets sent.
    pub packet_sent: u64,
    /// Packets received and opened.
    pub packet_received: u64,
    /// Packets of ours declared lost.
    pub packet_lost: u64,
    /// Packets declared lost and acknowledged after all.
    pub packet_spuriously_lost: u64,
    /// Received packets dropped: seen before.
    pub packet_duplicate_dropped: u64,
    /// Received packets dropped: could not be opened.
    pub packet_forged_dropped: u64,
    /// Received packets dropped: no keys for them (any more).
    pub packet_keyless_dropped: u64,
    /// Received packets dropped: not for this connection, or malformed.
    pub packet_invalid_dropped: u64,
    /// Datagrams dropped: from an address we don't take packets from.
    pub datagram_path_dropped: u64,
    /// Probe timeouts.
    pub probe_timeout: u64,
    /// Times so many packets in a row were lost that the window was reset.
    pub persistent_congestion: u64,
    /// Reports of congestion marks.
    pub congestion_marked: u64,
    /// Path MTU probes sent.
    pub mtu_probe_sent: u64,
    /// Updates of the 1-RTT keys.
    pub key_updated: u64,
    /// Changes of the path in use.
    pub path_changed: u64,
}

impl Connection {
    /// Figures of the connection.
    pub fn stats(&self) -> Stats {
        let path = &self.paths.active;
        Stats {
            rtt: path.rtt.smoothed_rtt(),
            min_rtt: path.rtt.min_rtt(),
            rtt_variation: path.rtt.rttvar(),
            congestion_window: u64::from(path.congestion.window()),
            bytes_in_flight: u64::from(path.congestion.in_flight()),
            mtu: path.mtu.current(),
            ecn_capable: path.ecn.is_capable(),
            streams: self.streams.stats(),
            counters: self.counters,
        }
    }
}
