//! The list of connections, and one of them.

use super::{
    Query, View,
    query::{Key, List},
    streams,
};
use crate::{
    api::{BlockedBy, CauseShare, ConnectionDetail, ConnectionRow, ConnectionState, Page, Timeline},
    limits::{blocked_by, shares},
    reading::ConnectionReading,
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
        let actor = self.now.actors.find(it.id);
        let rate = |name: &str| self.rate(it.counter(name), before.counter(name));
        let blocked_by = blocked_by(it, before, self.elapsed());
        let history = self.timelines.get(&it.id);
        ConnectionRow {
            id: it.id.to_string(),
            role: it.role,
            state: it.state,
            local: it.local.to_string(),
            remote: it.remote.to_string(),
            alpn: it.alpn.as_deref().map(str::to_owned),
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
            queued: actor.map_or(0, |actor| actor.queued()),
            oldest_age_ns: actor.map_or(0, |actor| actor.oldest_age(self.now.t_ns)),
        }
    }

    /// One connection.
    pub(crate) fn connection(&self, id: u64) -> Option<ConnectionDetail> {
        let it = self.now.connections.find(id)?;
        let row = self.connection_row(it);
        Some(ConnectionDetail {
            explanation: explain(&row, it),
            timeline: self.timelines.get(&id).map_or_else(Timeline::default, |it| it.timeline()),
            local_cids: it.cids.to_vec(),
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
        self.before.connections.find(it.id).map_or(it, |it| it)
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
        let actor = || view.now.actors.find(it.id);
        let rate = |name: &str| view.rate(it.counter(name), before.counter(name));
        let number = match field {
            "role" => f64::from(it.role as u8),
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
    let bits = |rate: f64| figure(rate * 8.0, &[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")], "bit/s");
    let bytes = |count: u64| figure(count as f64, &[(1048576.0, "MiB"), (1024.0, "KiB")], "bytes");
    let time = |nanos: u64| figure(nanos as f64, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs")], "ns");
    let share = (row.blocked_share * 100.0).round();
    let at_most = |nanos: u64| bits(row.cwnd_bytes as f64 * 1e9 / nanos.max(1) as f64);
    match row.blocked_by {
        BlockedBy::Idle if row.state == ConnectionState::Handshaking => {
            format!("The handshake is under way; {} packets were lost.", row.packets_lost)
        }
        BlockedBy::Idle => "Nothing is sent or received now.".to_owned(),
        BlockedBy::Application => format!(
            "It sends {} and has room for more: the application writes no faster ({share} % of the last 10 s).",
            bits(row.tx_bytes_per_s)
        ),
        BlockedBy::Reader => format!(
            "{} that have come wait for the application here to read them: the peer may send no more ({share} % of the last 10 s).",
            bytes(it.unread_bytes)
        ),
        BlockedBy::Peer => format!(
            "It receives {}, and nothing here holds the peer back: what does is to be seen at its end.",
            bits(row.rx_bytes_per_s)
        ),
        BlockedBy::Cwnd => format!(
            "The congestion window of {} is full ({share} % of the last 10 s): at a round trip of {} it carries at most {}; {} packets were lost.",
            bytes(row.cwnd_bytes),
            time(row.rtt_ns),
            at_most(row.rtt_ns),
            row.packets_lost
        ),
        BlockedBy::AckDelay => format!(
            "The congestion window of {} is full, and the peer holds its acknowledgements back for {}, longer than a round trip of {}: so it carries at most {} ({share} % of the last 10 s).",
            bytes(row.cwnd_bytes),
            time(it.ack_delay_ns),
            time(row.rtt_ns),
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
            time(row.rtt_ns)
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

/// Three digits and a unit: of those given, by size, the first it holds one of.
fn figure(value: f64, units: &[(f64, &str)], least: &str) -> String {
    let (size, unit) = units.iter().find(|(size, _)| value >= *size).copied().unwrap_or((1.0, least));
    let value = value / size;
    let digits = if size == 1.0 { 0 } else { 2_usize.saturating_sub(value.max(1.0).log10() as usize) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let units = [(1e6, "Mbit/s"), (1e3, "kbit/s")];
        let texts =
            [0.0, 999.0, 1000.0, 45_678.0, 4_622_200.0, 462_220_000.0].map(|it| figure(it, &units, "bit/s"));
        assert_eq!(
            texts,
            ["0 bit/s", "999 bit/s", "1.00 kbit/s", "45.7 kbit/s", "4.62 Mbit/s", "462 Mbit/s"]
        );
    }
}
