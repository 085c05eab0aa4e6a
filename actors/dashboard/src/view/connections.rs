//! The list of connections, and one of them.

use super::{Query, View};
use crate::{
    api::{BlockedBy, ConnectionDetail, ConnectionRow, ConnectionState, Page, Timeline},
    reading::{ActorReading, ConnectionReading},
};

impl View<'_> {
    /// The list.
    ///
    /// # Errors
    /// The query's mistake.
    pub(crate) fn connections(&self, query: &Query) -> Result<Page<ConnectionRow>, String> {
        let before: std::collections::HashMap<u64, &ConnectionReading> =
            self.before.connections.iter().map(|it| (it.id, it)).collect();
        let actors: std::collections::HashMap<u64, &ActorReading> =
            self.now.actors.iter().map(|it| (it.id, it)).collect();
        let rows: Vec<_> = self
            .now
            .connections
            .iter()
            .map(|it| {
                let row = self.connection_row(it, before.get(&it.id).copied(), actors.get(&it.id).copied());
                (row, it.cids.join(" "))
            })
            .collect();
        let cids: std::collections::HashMap<String, String> =
            rows.iter().map(|(row, cids)| (row.id.clone(), cids.clone())).collect();
        let total = rows.len();
        query.page(rows.into_iter().map(|(row, _)| row).collect(), total, |row| {
            let state = serde_json::to_string(&(row.state, row.blocked_by)).unwrap_or_default();
            let alpn = row.alpn.as_deref().unwrap_or_default();
            let cids = cids.get(&row.id).map_or("", String::as_str);
            format!("{} {} {} {alpn} {state} {cids}", row.id, row.local, row.remote)
        })
    }

    fn connection_row(
        &self,
        it: &ConnectionReading,
        before: Option<&ConnectionReading>,
        actor: Option<&ActorReading>,
    ) -> ConnectionRow {
        let before = before.unwrap_or(it);
        let rate = |name: &str| self.rate(it.counter(name), before.counter(name));
        let blocked_by = blocked_by(it, before);
        let history = self.timelines.get(&it.id);
        ConnectionRow {
            id: it.id.to_string(),
            role: it.role.clone(),
            state: it.state,
            local: it.local.clone(),
            remote: it.remote.clone(),
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
        let it = self.now.connections.iter().find(|it| it.id == id)?;
        let before = self.before.connections.iter().find(|it| it.id == id);
        let actor = self.now.actors.iter().find(|it| it.id == id);
        let row = self.connection_row(it, before, actor);
        Some(ConnectionDetail {
            explanation: explain(&row, it),
            timeline: self.timelines.get(&id).map_or_else(Timeline::default, |it| it.timeline()),
            local_cids: it.cids.clone(),
            paths: vec![format!("{} → {}", it.local, it.remote)],
            mtu_bytes: it.mtu_bytes,
            streams: Vec::new(),
            counters: it.counters.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
            qlog_url: None,
            row,
        })
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
