//! What a connection does, event by event, as qlog (draft-ietf-quic-qlog-main-schema, version 0.3, with the events of
//! draft-ietf-quic-qlog-quic-events), in JSON text sequences (RFC 7464): a `.sqlog` file that qvis opens.
//!
//! A connection that has no log pays a few branches a packet for it, which `make instructions` counts against a build
//! without them. One that has writes each event as one record, and hands its [`Sink`] several at a time.

mod digits;
mod frames;
mod json;
mod logs;
mod template;
mod varint;

use std::fmt;
use std::time::Duration;

use s2n_quic_core::time::Timestamp;

pub use self::logs::Logs;

use self::json::Json;
use self::template::{Bulk, Data, Template};
use crate::cid::Cid;
use crate::net::NetPath;
use crate::packet::PacketKind;
use crate::role::Role;

/// Reports of round-trip times and windows are at least this part of a round trip apart, unless the controller's state
/// changes: more can't be seen in a diagram.
const REPORTS_PER_RTT: u32 = 16;

/// Bytes of records gathered before the sink gets them: what a file is best written by, and soon full where a log is
/// worth watching.
const BATCH: usize = 16 * 1024;

/// Why packets are dropped, in the words of qlog.
pub(crate) const DROP_TRIGGERS: [&str; 5] =
    ["duplicate", "decryption_failure", "key_unavailable", "invalid", "rejected"];

/// Where records go.
pub trait Sink: Send {
    /// Takes some records: of each the separator, one line of JSON, and its newline. Called on the connection's thread:
    /// what may wait belongs elsewhere.
    fn records(&mut self, records: &[u8]);
}

impl<F: FnMut(&[u8]) + Send> Sink for F {
    fn records(&mut self, records: &[u8]) {
        self(records);
    }
}

/// Figures of recovery to report.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metrics {
    pub(crate) latest_rtt: Duration,
    pub(crate) smoothed_rtt: Duration,
    pub(crate) min_rtt: Duration,
    pub(crate) rtt_variation: Duration,
    pub(crate) pto_count: u32,
    pub(crate) window: u64,
    pub(crate) in_flight: u64,
}

/// The log of one connection.
pub(crate) struct Qlog {
    sink: Box<dyn Sink>,
    json: Json,
    /// Records of packets received and sent that carry one stream's data.
    bulk: [Template; 2],
    /// Packets dropped so far, by trigger.
    dropped: [u64; DROP_TRIGGERS.len()],
    start: Timestamp,
    /// Of the last record.
    latest: Timestamp,
    reported: Option<(Timestamp, Metrics)>,
    state: &'static str,
}

impl fmt::Debug for Qlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Qlog")
    }
}

/// Where a connection has its log, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Slot(Option<Box<Qlog>>);

impl Slot {
    /// The log. Without the hooks, there is none, and the compiler leaves out what would be done with it.
    #[inline(always)]
    pub(crate) fn get(&mut self) -> Option<&mut Qlog> {
        if cfg!(feature = "no-qlog-hooks") { None } else { self.0.as_deref_mut() }
    }

    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        !cfg!(feature = "no-qlog-hooks") && self.0.is_some()
    }

    pub(crate) fn set(&mut self, qlog: Qlog) {
        self.0 = Some(Box::new(qlog));
    }
}

impl Qlog {
    /// A log that begins now, with the record that says what it is. Times count from here.
    pub(crate) fn start(sink: Box<dyn Sink>, now: Timestamp, role: Role, original_dcid: &Cid) -> Self {
        let mut this = Self {
            sink,
            json: Json::default(),
            bulk: [false, true].map(Template::new),
            dropped: [0; _],
            start: now,
            latest: now,
            reported: None,
            state: "",
        };
        let vantage = if role.is_client() { "client" } else { "server" };
        this.json
            .put("\u{1e}")
            .put(r#"{"qlog_version":"0.3","qlog_format":"JSON-SEQ","title":"wirepath","trace":{"vantage_point":{"type":""#)
            .put(vantage)
            .put(r#""},"common_fields":{"time_format":"relative","reference_time":0,"protocol_type":["QUIC"],"ODCID":"#)
            .hex(original_dcid.as_slice())
            .put(r#","group_id":"#)
            .hex(original_dcid.as_slice())
            .put("}}}\n");
        this
    }

    /// Begins a record of this event; its data follows.
    #[inline]
    fn begin(&mut self, now: Timestamp, name: &str) -> &mut Json {
        let now = self.in_order(now);
        self.json
            .put("\u{1e}{\"time\":")
            .millis(now.saturating_duration_since(self.start))
            .put(r#","name":""#)
            .put(name)
            .put(r#"","data":{"#)
    }

    /// A time that is not before the last record's, as readers want it: a batch is told when it came, and may have waited
    /// while others were sent.
    #[inline]
    fn in_order(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    #[inline]
    fn end(&mut self) {
        self.json.put("}}\n");
        self.flush_if_full();
    }

    #[inline]
    fn flush_if_full(&mut self) {
        if self.json.as_slice().len() >= BATCH {
            self.flush();
        }
    }

    /// Hands over what there is.
    #[cold]
    pub(crate) fn flush(&mut self) {
        if !self.json.as_slice().is_empty() {
            self.sink.records(self.json.as_slice());
            self.json.clear();
        }
    }

    /// A packet sent or received, `len` bytes long, with this payload.
    pub(crate) fn packet(
        &mut self,
        now: Timestamp,
        sent: bool,
        (kind, number, len): (PacketKind, u64, usize),
        payload: &mut [u8],
        ack_delay_exponent: u8,
    ) {
        let now = self.in_order(now);
        if kind == PacketKind::OneRtt
            && let Some(stream) = Data::alone_in(payload)
            && let bulk = (Bulk { number, len: len as u64, stream })
            && self.bulk[usize::from(sent)].write(&mut self.json, self.start, now, &bulk).is_some()
        {
            return self.flush_if_full();
        }
        let name = if sent { "transport:packet_sent" } else { "transport:packet_received" };
        let json = self.begin(now, name);
        json.put(r#""header":{"packet_type":""#)
            .put(packet_type(kind))
            .put(r#"","packet_number":"#)
            .number(number)
            .put(r#"},"raw":{"length":"#)
            .number(len as u64)
            .put(r#"},"frames":["#);
        frames::write(json, payload, ack_delay_exponent);
        json.put("]");
        self.end();
    }

    /// How many packets have been dropped until now, in the order of [`DROP_TRIGGERS`]; what is more than last time came in
    /// a datagram of this length.
    #[inline]
    pub(crate) fn dropped(&mut self, now: Timestamp, len: usize, so_far: [u64; DROP_TRIGGERS.len()]) {
        if so_far != self.dropped {
            self.write_dropped(now, len, so_far);
        }
    }

    #[cold]
    fn write_dropped(&mut self, now: Timestamp, len: usize, so_far: [u64; DROP_TRIGGERS.len()]) {
        let before = std::mem::replace(&mut self.dropped, so_far);
        for (trigger, (before, after)) in DROP_TRIGGERS.iter().zip(before.into_iter().zip(so_far)) {
            for _ in before..after {
                let json = self.begin(now, "transport:packet_dropped");
                json.put(r#""raw":{"length":"#).number(len as u64);
                json.put(r#"},"trigger":""#).put(trigger).put("\"");
                self.end();
            }
        }
    }

    /// Packets dropped before there was a log.
    pub(crate) fn set_dropped(&mut self, so_far: [u64; DROP_TRIGGERS.len()]) {
        self.dropped = so_far;
    }

    /// A packet of ours is lost.
    pub(crate) fn lost(&mut self, now: Timestamp, kind: PacketKind, number: u64, reordered: bool) {
        let trigger = if reordered { "reordering_threshold" } else { "time_threshold" };
        let json = self.begin(now, "recovery:packet_lost");
        json.put(r#""header":{"packet_type":""#)
            .put(packet_type(kind))
            .put(r#"","packet_number":"#)
            .number(number)
            .put(r#"},"trigger":""#)
            .put(trigger)
            .put("\"");
        self.end();
    }

    /// Is it time to say where recovery stands? `state`: what the congestion controller is doing.
    #[inline]
    pub(crate) fn wants_metrics(&self, now: Timestamp, state: &'static str) -> bool {
        let due = self.reported.as_ref().is_none_or(|(at, before)| {
            now.saturating_duration_since(*at) * REPORTS_PER_RTT >= before.smoothed_rtt
        });
        due || state != self.state
    }

    /// Where recovery stands.
    pub(crate) fn metrics(&mut self, now: Timestamp, metrics: Metrics, state: &'static str) {
        let changed = state != self.state;
        let before = self.reported.replace((now, metrics)).map(|(_, before)| before);
        if before != Some(metrics) {
            write_metrics(self.begin(now, "recovery:metrics_updated"), &metrics, before.as_ref());
            self.end();
        }
        if changed {
            let old = std::mem::replace(&mut self.state, state);
            let json = self.begin(now, "recovery:congestion_state_updated");
            if !old.is_empty() {
                json.put(r#""old":""#).put(old).put("\",");
            }
            json.put(r#""new":""#).put(state).put("\"");
            self.end();
        }
    }

    /// Keys of both directions are in use from now on.
    pub(crate) fn keys_updated(&mut self, now: Timestamp, trigger: &str, generation: u64) {
        for side in ["client_1rtt_secret", "server_1rtt_secret"] {
            let json = self.begin(now, "security:key_updated");
            json.put(r#""key_type":""#).put(side).put(r#"","key_phase":"#).number(generation);
            json.put(r#","trigger":""#).put(trigger).put("\"");
            self.end();
        }
    }

    /// Transport parameters as (name, value).
    pub(crate) fn parameters(&mut self, now: Timestamp, local: bool, numbers: &[(&str, u64)]) {
        let owner = if local { "local" } else { "remote" };
        let json = self.begin(now, "transport:parameters_set");
        json.put(r#""owner":""#).put(owner).put("\"");
        for (name, value) in numbers {
            json.put(",\"").put(name).put("\":").number(*value);
        }
        self.end();
    }

    /// The connection begins between these addresses.
    pub(crate) fn started(&mut self, now: Timestamp, path: &NetPath, cids: [&Cid; 2]) {
        let json = self.begin(now, "connectivity:connection_started");
        write_path(json, path);
        json.put(r#","src_cid":"#).hex(cids[0].as_slice()).put(r#","dst_cid":"#).hex(cids[1].as_slice());
        self.end();
    }

    /// It goes on between others.
    pub(crate) fn path_changed(&mut self, now: Timestamp, path: &NetPath) {
        let json = self.begin(now, "connectivity:path_updated");
        write_path(json, path);
        self.end();
    }

    /// Versions offered and in use.
    pub(crate) fn versions(&mut self, now: Timestamp, ours: &[u32], role: Role, chosen: u32) {
        let name = if role.is_client() { "client_versions" } else { "server_versions" };
        let json = self.begin(now, "transport:version_information");
        json.put("\"").put(name).put("\":[");
        for version in ours {
            json.hex(&version.to_be_bytes()).put(",");
        }
        json.trim_comma().put(r#"],"chosen_version":"#).hex(&chosen.to_be_bytes());
        self.end();
    }

    /// The connection has come to another state.
    pub(crate) fn state(&mut self, now: Timestamp, state: &str) {
        let json = self.begin(now, "connectivity:connection_state_updated");
        json.put(r#""new":""#).put(state).put("\"");
        self.end();
        if state == "closed" {
            self.flush();
        }
    }

    /// It is over. `code`: whether it is the application's, and which.
    pub(crate) fn closed(&mut self, now: Timestamp, local: bool, code: Option<(bool, u64)>, reason: &str) {
        let owner = if local { "local" } else { "remote" };
        let json = self.begin(now, "connectivity:connection_closed");
        json.put(r#""owner":""#).put(owner).put(r#"","reason":"#).text(reason.as_bytes());
        if let Some((application, code)) = code {
            let name = if application { "application_code" } else { "connection_code" };
            json.put(",\"").put(name).put("\":").number(code);
        }
        self.end();
        self.flush();
    }
}

impl Drop for Qlog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Writes those that have changed.
fn write_metrics(json: &mut Json, metrics: &Metrics, before: Option<&Metrics>) {
    let times = [
        (r#""min_rtt":"#, metrics.min_rtt, before.map(|before| before.min_rtt)),
        (r#""smoothed_rtt":"#, metrics.smoothed_rtt, before.map(|before| before.smoothed_rtt)),
        (r#""latest_rtt":"#, metrics.latest_rtt, before.map(|before| before.latest_rtt)),
        (r#""rtt_variance":"#, metrics.rtt_variation, before.map(|before| before.rtt_variation)),
    ];
    for (name, time, _) in times.into_iter().filter(|(_, time, before)| *before != Some(*time)) {
        json.put(name).millis(time).put(",");
    }
    let numbers = [
        (r#""pto_count":"#, u64::from(metrics.pto_count), before.map(|before| u64::from(before.pto_count))),
        (r#""congestion_window":"#, metrics.window, before.map(|before| before.window)),
        (r#""bytes_in_flight":"#, metrics.in_flight, before.map(|before| before.in_flight)),
    ];
    for (name, number, _) in numbers.into_iter().filter(|(_, number, before)| *before != Some(*number)) {
        json.put(name).number(number).put(",");
    }
    json.trim_comma();
}

fn packet_type(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Initial => "initial",
        PacketKind::ZeroRtt => "0RTT",
        PacketKind::Handshake => "handshake",
        PacketKind::OneRtt => "1RTT",
    }
}

fn write_path(json: &mut Json, path: &NetPath) {
    let version = if path.remote.is_ipv4() { "v4" } else { "v6" };
    json.put(r#""ip_version":""#).put(version).put(r#"","src_ip":""#);
    json.put(&path.local.ip().to_string()).put(r#"","dst_ip":""#).put(&path.remote.ip().to_string());
    json.put(r#"","src_port":"#).number(u64::from(path.local.port()));
    json.put(r#","dst_port":"#).number(u64::from(path.remote.port()));
}
