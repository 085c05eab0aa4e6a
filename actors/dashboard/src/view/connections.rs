//! The list of connections, and one of them.

use super::{
    Query, View,
    query::{Key, List},
};
use crate::{
    api::{BlockedBy, ConnectionDetail, ConnectionRow, ConnectionState, Page, Timeline},
    reading::{ActorReading, ConnectionReading, find},
};

impl View<'_> {
    /// The list.
    ///
    /// # Errors
    /// The query's mistake.
    pub(crate) fn connections(&self, query: &Query) -> Result<Page<ConnectionRow>, String> {
        query.page(self.now.connections.iter(), self.now.connections.len(), &ConnectionList(self))
    }

    fn connection_row(&self, it: &ConnectionReading) -> ConnectionRow {
        let before = self.connection_before(it);
        let actor = find(&self.now.actors, it.id);
        let rate = |name: &str| self.rate(it.counter(name), before.counter(name));
        let blocked_by = blocked_by(it, before);
        let history = self.timelines.get(&it.id);
        ConnectionRow {
            id: it.id.to_string(),
            role: it.role.to_string(),
            state: it.state,
            local: it.local.to_string(),
            remote: it.remote.to_string(),
            alpn: it.alpn.clone(),
            age_ns: actor.map_or(0, |actor| self.now.t_ns.saturating_sub(actor.started_ns)),
            rtt_ns: it.rtt_ns,
            min_rtt_ns: it.min_rtt_ns,
            cwnd_bytes: it.cwnd_bytes,
            in_flight_bytes: it.in_flight_bytes,
            tx_bytes_per_s: rate("byte_sent"),
            rx_bytes_per_s: rate("byte_received"),
            packets_lost: it.counter("packet_lost"),
            lost_per_s: rate("packet_lost"),
            blocked_by,
            blocked_share: history.map_or(0.0, |history| history.share_of(blocked_by)),
            queued: actor.map_or(0, ActorReading::queued),
            oldest_age_ns: actor.map_or(0, |actor| actor.oldest_age(self.now.t_ns)),
        }
    }

    /// One connection.
    pub(crate) fn connection(&self, id: u64) -> Option<ConnectionDetail> {
        let it = find(&self.now.connections, id)?;
        let row = self.connection_row(it);
        Some(ConnectionDetail {
            explanation: explain(&row, it),
            timeline: self.timelines.get(&id).map_or_else(Timeline::default, |it| it.timeline()),
            local_cids: it.cids.clone(),
            paths: vec![format!("{} → {}", it.local, it.remote)],
            mtu_bytes: it.mtu_bytes,
            streams: Vec::new(),
            counters: it.counters.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            qlog_url: (it.has_qlog && self.source == "live")
                .then(|| format!("/api/v1/connections/{id}/qlog")),
            row,
        })
    }
}

impl<'a> View<'a> {
    fn connection_before(&self, it: &'a ConnectionReading) -> &'a ConnectionReading {
        find(&self.before.connections, it.id).unwrap_or(it)
    }
}

/// The list of connections.
struct ConnectionList<'a>(&'a View<'a>);

impl<'a> List for ConnectionList<'a> {
    type Candidate = &'a ConnectionReading;
    type Row = ConnectionRow;

    fn text(&self, it: &&ConnectionReading) -> String {
        let waits = blocked_by(it, self.0.connection_before(it));
        let state = serde_json::to_string(&(it.state, waits)).unwrap_or_default();
        let (alpn, cids) = (it.alpn.as_deref().unwrap_or_default(), it.cids.join(" "));
        format!("{} {} {} {alpn} {state} {cids}", it.id, it.local, it.remote)
    }

    fn key(&self, it: &&ConnectionReading, field: &str) -> Option<Key> {
        let (view, before) = (self.0, self.0.connection_before(it));
        let actor = || find(&view.now.actors, it.id);
        let rate = |name: &str| view.rate(it.counter(name), before.counter(name));
        let number = match field {
            "role" => return Some(Key::text(&it.role)),
            "local" => return Some(Key::text(it.local)),
            "remote" => return Some(Key::text(it.remote)),
            "alpn" => return Some(Key::text(it.alpn.as_deref().unwrap_or_default())),
            "state" => f64::from(it.state as u8),
            "blocked_by" => f64::from(blocked_by(it, before) as u8),
            "id" => it.id as f64,
            "age_ns" => actor().map_or(0.0, |it| view.now.t_ns.saturating_sub(it.started_ns) as f64),
            "rtt_ns" => it.rtt_ns as f64,
            "min_rtt_ns" => it.min_rtt_ns as f64,
            "cwnd_bytes" => it.cwnd_bytes as f64,
            "in_flight_bytes" => it.in_flight_bytes as f64,
            "tx_bytes_per_s" => rate("byte_sent"),
            "rx_bytes_per_s" => rate("byte_received"),
            "packets_lost" => it.counter("packet_lost") as f64,
            "lost_per_s" => rate("packet_lost"),
            "blocked_share" => {
                let history = view.timelines.get(&it.id);
                history.map_or(0.0, |history| history.share_of(blocked_by(it, before)))
            }
            "queued" => actor().map_or(0.0, |it| it.queued() as f64),
            "oldest_age_ns" => actor().map_or(0.0, |it| it.oldest_age(view.now.t_ns) as f64),
            _ => return None,
        };
        Some(Key::Number(number))
    }

    fn row(&self, it: &&ConnectionReading) -> ConnectionRow {
        self.0.connection_row(it)
    }
}

/// What a connection waits for, as far as two readings tell. Pacing shows in neither.
pub(crate) fn blocked_by(now: &ConnectionReading, before: &ConnectionReading) -> BlockedBy {
    let grew = |name: &str| now.counter(name) > before.counter(name);
    if now.state != ConnectionState::Open {
        BlockedBy::Idle
    } else if grew("connection_blocked") || grew("stream_blocked") || grew("open_blocked") {
        BlockedBy::FlowControl
    } else if now.in_flight_bytes > 0 && now.in_flight_bytes + now.mtu_bytes >= now.cwnd_bytes {
        BlockedBy::Cwnd
    } else if grew("room_waited") {
        BlockedBy::Frames
    } else if grew("byte_sent") || grew("byte_received") {
        BlockedBy::Application
    } else {
        BlockedBy::Idle
    }
}

fn explain(row: &ConnectionRow, it: &ConnectionReading) -> String {
    let megabits = row.tx_bytes_per_s * 8.0 / 1e6;
    let share = (row.blocked_share * 100.0).round();
    let milliseconds = |nanos: u64| nanos as f64 / 1e6;
    match row.blocked_by {
        BlockedBy::Idle if row.state == ConnectionState::Handshaking => {
            format!("The handshake is under way; {} packets were lost.", row.packets_lost)
        }
        BlockedBy::Idle => "Nothing is sent or received now.".to_owned(),
        BlockedBy::Application => format!(
            "It sends {megabits:.1} Mbit/s and has room for more: the application writes no faster ({share} % of the last 10 s)."
        ),
        BlockedBy::Cwnd => format!(
            "The congestion window of {} bytes is full ({share} % of the last 10 s): at a round trip of {:.2} ms it carries at most {:.1} Mbit/s; {} packets were lost.",
            row.cwnd_bytes,
            milliseconds(row.rtt_ns),
            row.cwnd_bytes as f64 * 8e3 / row.rtt_ns.max(1) as f64,
            row.packets_lost
        ),
        BlockedBy::FlowControl => format!(
            "The peer's flow control stopped it {} times ({share} % of the last 10 s): the peer's application reads no faster, or its window is small.",
            it.counter("connection_blocked") + it.counter("stream_blocked") + it.counter("open_blocked")
        ),
        BlockedBy::Pacing => "Packets wait for their time to be sent.".to_owned(),
        BlockedBy::Frames => {
            "It waits for memory to send from, or for room in the device: the device is the bottleneck."
                .to_owned()
        }
    }
}
