//! The list of connections, and one of them.

use super::{
    Query, View,
    query::{Key, List},
    streams,
};
use crate::{
    api::{BlockedBy, CauseShare, ConnectionDetail, ConnectionRow, ConnectionState, Page, Timeline},
    limits::{blocked_by, shares},
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
        let blocked_by = blocked_by(it, before, self.elapsed());
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
            blocked_share: history.map_or_else(
                || share_now(it, before, self.elapsed(), blocked_by),
                |history| history.share_of(blocked_by),
            ),
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
            causes: shares(it, self.connection_before(it), self.elapsed())
                .into_iter()
                .map(|(cause, share)| CauseShare { cause, share })
                .collect(),
            ack_delay_ns: it.ack_delay_ns,
            paths: streams::paths(it),
            streams: it.streams.as_ref().map(|open| streams::streams(open, it)),
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
        let waits = blocked_by(it, self.0.connection_before(it), self.0.elapsed());
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
            "blocked_by" => f64::from(blocked_by(it, before, view.elapsed()) as u8),
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
                history.map_or(0.0, |history| history.share_of(blocked_by(it, before, view.elapsed())))
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

/// Of a connection without a history: the share of the last second.
fn share_now(now: &ConnectionReading, before: &ConnectionReading, elapsed: u64, cause: BlockedBy) -> f64 {
    shares(now, before, elapsed).into_iter().find(|(it, _)| *it == cause).map_or(0.0, |(_, share)| share)
}

fn explain(row: &ConnectionRow, it: &ConnectionReading) -> String {
    let megabits = |rate: f64| format!("{:.1} Mbit/s", rate * 8.0 / 1e6);
    let share = (row.blocked_share * 100.0).round();
    let milliseconds = |nanos: u64| format!("{:.2} ms", nanos as f64 / 1e6);
    let at_most = |nanos: u64| megabits(row.cwnd_bytes as f64 * 1e9 / nanos.max(1) as f64);
    match row.blocked_by {
        BlockedBy::Idle if row.state == ConnectionState::Handshaking => {
            format!("The handshake is under way; {} packets were lost.", row.packets_lost)
        }
        BlockedBy::Idle => "Nothing is sent or received now.".to_owned(),
        BlockedBy::Application => format!(
            "It sends {} and has room for more: the application writes no faster ({share} % of the last 10 s).",
            megabits(row.tx_bytes_per_s)
        ),
        BlockedBy::Reader => format!(
            "{} bytes that have come wait for the application here to read them: the peer may send no more ({share} % of the last 10 s).",
            it.unread_bytes
        ),
        BlockedBy::Peer => format!(
            "It receives {}, and nothing here holds the peer back: what does is to be seen at its end.",
            megabits(row.rx_bytes_per_s)
        ),
        BlockedBy::Cwnd => format!(
            "The congestion window of {} bytes is full ({share} % of the last 10 s): at a round trip of {} it carries at most {}; {} packets were lost.",
            row.cwnd_bytes,
            milliseconds(row.rtt_ns),
            at_most(row.rtt_ns),
            row.packets_lost
        ),
        BlockedBy::AckDelay => format!(
            "The congestion window of {} bytes is full, and the peer holds its acknowledgements back for {}, longer than a round trip of {}: so it carries at most {} ({share} % of the last 10 s).",
            row.cwnd_bytes,
            milliseconds(it.ack_delay_ns),
            milliseconds(row.rtt_ns),
            at_most(row.rtt_ns + it.ack_delay_ns)
        ),
        BlockedBy::FlowControl if it.waits_for_streams => format!(
            "The application waits to open a stream: the peer allows no more of them at a time ({share} % of the last 10 s)."
        ),
        BlockedBy::FlowControl => format!(
            "The peer's flow control stops it ({share} % of the last 10 s; {} times so far): the peer's application reads no faster, or its window is small.",
            it.counter("connection_blocked") + it.counter("stream_blocked") + it.counter("open_blocked")
        ),
        BlockedBy::Pacing => format!(
            "Its packets wait for their time ({share} % of the last 10 s): {} are spread over a round trip of {}, so that no burst fills a queue on the way.",
            at_most(row.rtt_ns),
            milliseconds(row.rtt_ns)
        ),
        BlockedBy::Path => {
            "The peer has not shown yet that its address is its own, or gave no ID to send to: until then little may be sent."
                .to_owned()
        }
        BlockedBy::Frames => {
            "It waits for its turn: for memory to send from, for room in the device, or for its thread to come. The core, or the device, is the bottleneck."
                .to_owned()
        }
    }
}
