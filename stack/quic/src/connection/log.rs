//! What a connection tells its log (see [`qlog`](crate::qlog)).

use s2n_quic_core::time::Timestamp;

use super::Connection;
use super::params::Parameters;
use crate::error::CloseReason;
use crate::event::Event;
use crate::packet::{PacketKind, SpaceId};
use crate::qlog::{DROP_TRIGGERS, Metrics, Qlog, Sink};

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
        let mut qlog = Qlog::start(sink, now, self.role, &odcid);
        let path = self.paths.active.net;
        let dcid = self.dcid(self.paths.active.id).unwrap_or_default();
        qlog.started(now, &path, [&self.local_cids.first(), &dcid]);
        qlog.versions(now, &self.config.versions, self.role, self.version);
        qlog.set_dropped(self.dropped());
        self.qlog.set(qlog);
        self.log_parameters(now, true, &Parameters::local(&self.config, self.local_cids.first()));
    }

    pub(super) fn log_parameters(&mut self, now: Timestamp, local: bool, parameters: &Parameters) {
        let Some(qlog) = self.qlog.get() else { return };
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
        let Some(qlog) = self.qlog.get() else { return };
        let path = &self.paths.active;
        if !qlog.wants_metrics(now, path.congestion.state()) {
            return;
        }
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

    /// What of a datagram was dropped.
    #[inline]
    pub(super) fn log_dropped(&mut self, now: Timestamp, len: usize) {
        let so_far = self.dropped();
        if let Some(qlog) = self.qlog.get() {
            qlog.dropped(now, len, so_far);
        }
    }

    /// Packets dropped so far, in the order of [`DROP_TRIGGERS`].
    #[inline]
    fn dropped(&self) -> [u64; DROP_TRIGGERS.len()] {
        let counters = &self.counters;
        [
            counters.packet_duplicate_dropped,
            counters.packet_forged_dropped,
            counters.packet_keyless_dropped,
            counters.packet_invalid_dropped,
            counters.datagram_path_dropped,
        ]
    }

    /// Keys are new.
    pub(super) fn log_keys(&mut self, trigger: &str) {
        if let Some(qlog) = self.qlog.get() {
            qlog.keys_updated(self.now, trigger, self.counters.key_updated);
        }
    }

    /// News for the application that are worth a record.
    #[cold]
    pub(super) fn log_event(&mut self, event: &Event) {
        let now = self.now;
        let Some(qlog) = self.qlog.get() else { return };
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
    pub(super) fn kind_of_lost(id: SpaceId) -> PacketKind {
        match id {
            SpaceId::Initial => PacketKind::Initial,
            SpaceId::Handshake => PacketKind::Handshake,
            SpaceId::App => PacketKind::OneRtt,
        }
    }
}
