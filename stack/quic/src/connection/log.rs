//! What a connection tells its log (see [`qlog`](crate::qlog)).

use s2n_quic_core::time::Timestamp;

use super::params::Parameters;
use super::{Connection, Counters};
use crate::error::CloseReason;
use crate::event::Event;
use crate::packet::SpaceId;
use crate::qlog::{Metrics, Qlog, Sink};

impl Connection {
    /// Begins the log that the settings want for this connection, if they do.
    pub(super) fn log_if_wanted(&mut self, now: Timestamp) {
        let Some(logs) = &self.config.qlog else { return };
        let odcid = self.handshake.as_ref().map(|handshake| handshake.original_dcid).unwrap_or_default();
        if let Some(sink) = logs.open(self.role, &odcid) {
            self.start_qlog(now, sink);
        }
    }

    /// Logs all that happens from now on to `sink`, as qlog. Best called before the first datagram is polled or given.
    pub fn start_qlog(&mut self, now: Timestamp, sink: Box<dyn Sink>) {
        let odcid = self.handshake.as_ref().map(|handshake| handshake.original_dcid).unwrap_or_default();
        let mut qlog = Box::new(Qlog::start(sink, now, self.role, &odcid));
        let path = self.paths.active.net;
        let dcid = self.dcid(self.paths.active.id).unwrap_or_default();
        qlog.started(now, &path, [&self.local_cids.first(), &dcid]);
        qlog.versions(now, &self.config.versions, self.role, self.version);
        self.qlog = Some(qlog);
        self.log_parameters(now, true, &Parameters::local(&self.config, self.local_cids.first()));
    }

    pub(super) fn log_parameters(&mut self, now: Timestamp, local: bool, parameters: &Parameters) {
        let Some(qlog) = &mut self.qlog else { return };
        let numbers = [
            ("max_idle_timeout", parameters.max_idle_timeout),
            ("max_udp_payload_size", parameters.max_udp_payload_size),
            ("ack_delay_exponent", u64::from(parameters.ack_delay_exponent)),
            ("max_ack_delay", parameters.max_ack_delay),
            ("active_connection_id_limit", parameters.active_connection_id_limit),
            ("initial_max_data", parameters.initial_max_data),
            ("initial_max_stream_data_bidi_local", parameters.initial_max_stream_data_bidi_local),
            ("initial_max_stream_data_bidi_remote", parameters.initial_max_stream_data_bidi_remote),
            ("initial_max_stream_data_uni", parameters.initial_max_stream_data_uni),
            ("initial_max_streams_bidi", parameters.initial_max_streams_bidi),
            ("initial_max_streams_uni", parameters.initial_max_streams_uni),
            ("max_datagram_frame_size", parameters.max_datagram_frame_size),
        ];
        qlog.parameters(now, local, &numbers);
        if !local {
            qlog.versions(now, &self.config.versions, self.role, self.version);
        }
    }

    /// Round-trip times, windows and what the controller is at.
    pub(super) fn log_metrics(&mut self, now: Timestamp) {
        let Some(qlog) = &mut self.qlog else { return };
        let path = &self.paths.active;
        let metrics = Metrics {
            latest_rtt: path.rtt.latest_rtt(),
            smoothed_rtt: path.rtt.smoothed_rtt(),
            min_rtt: path.rtt.min_rtt(),
            rtt_variation: path.rtt.rttvar(),
            pto_count: self.pto_count,
            window: u64::from(path.congestion.window()),
            in_flight: u64::from(path.congestion.in_flight()),
        };
        qlog.metrics(now, metrics, path.congestion.state());
    }

    /// What of a datagram was dropped, going by the counters before it.
    #[cold]
    pub(super) fn log_dropped(&mut self, now: Timestamp, len: usize, before: &Counters) {
        let after = &self.counters;
        let Some(qlog) = &mut self.qlog else { return };
        let causes = [
            ("duplicate", after.packet_duplicate_dropped, before.packet_duplicate_dropped),
            ("decryption_failure", after.packet_forged_dropped, before.packet_forged_dropped),
            ("key_unavailable", after.packet_keyless_dropped, before.packet_keyless_dropped),
            ("invalid", after.packet_invalid_dropped, before.packet_invalid_dropped),
            ("rejected", after.datagram_path_dropped, before.datagram_path_dropped),
        ];
        for (trigger, after, before) in causes {
            for _ in before..after {
                qlog.dropped(now, len, trigger);
            }
        }
    }

    /// Keys are new.
    pub(super) fn log_keys(&mut self, trigger: &str) {
        if let Some(qlog) = &mut self.qlog {
            qlog.keys_updated(self.now, trigger, self.counters.key_updated);
        }
    }

    /// News for the application that are worth a record.
    #[cold]
    pub(super) fn log_event(&mut self, event: &Event) {
        let now = self.now;
        let Some(qlog) = &mut self.qlog else { return };
        match event {
            Event::HandshakeCompleted { .. } => qlog.state(now, "handshake_complete"),
            Event::HandshakeConfirmed => qlog.state(now, "handshake_confirmed"),
            Event::PathChanged { path } => qlog.path_changed(now, path),
            Event::Drained => qlog.state(now, "closed"),
            Event::Closed(reason) => {
                let (local, code) = match reason {
                    CloseReason::Local { code, .. } => (true, Some((true, code.as_u64()))),
                    CloseReason::Application { code, .. } => (false, Some((true, code.as_u64()))),
                    CloseReason::Transport { code, .. } => (false, Some((false, code.as_u64()))),
                    CloseReason::Violation(error) => (true, Some((false, error.code.as_u64()))),
                    CloseReason::StatelessReset => (false, None),
                    _ => (true, None),
                };
                qlog.closed(now, local, code, &reason.to_string());
            }
            _ => {}
        }
    }

    /// The kind of packets lost in a space.
    pub(super) fn kind_of_lost(id: SpaceId) -> crate::packet::PacketKind {
        use crate::packet::PacketKind;
        match id {
            SpaceId::Initial => PacketKind::Initial,
            SpaceId::Handshake => PacketKind::Handshake,
            SpaceId::App => PacketKind::OneRtt,
        }
    }
}
