//! The streams and paths of a connection.

use crate::{
    Limit,
    api::{ConnectionRole, PathRow, StreamRow, StreamWait, Streams},
    reading::{ConnectionReading, StreamReading, StreamsReading},
};

/// All paths, the one in use first.
pub(super) fn paths(it: &ConnectionReading) -> Vec<PathRow> {
    if !it.paths.is_empty() {
        return it.paths.to_vec();
    }
    vec![PathRow {
        local: it.local,
        remote: it.remote,
        active: true,
        validated: it.validated,
        rtt_ns: it.rtt_ns,
        min_rtt_ns: it.min_rtt_ns,
        cwnd_bytes: it.cwnd_bytes,
        in_flight_bytes: it.in_flight_bytes,
        mtu_bytes: it.mtu_bytes,
        ecn: it.ecn,
        packets_sent: it.counter("packet_sent"),
        packets_lost: it.counter("packet_lost"),
    }]
}

/// Open streams.
pub(super) fn streams(streams: &StreamsReading, of: &ConnectionReading) -> Streams {
    Streams { open: streams.open, rows: streams.rows.iter().map(|it| row(it, of)).collect() }
}

fn row(it: &StreamReading, of: &ConnectionReading) -> StreamRow {
    // RFC 9000 §2.1: the lowest bit tells who opened it, the next one whether one side only sends.
    let (by_server, unidirectional) = (it.id & 1 == 1, it.id & 2 == 2);
    let state = match (it.sending, it.receiving) {
        (true, true) => "open",
        (true, false) => "sending",
        (false, _) => "receiving",
    };
    StreamRow {
        id: it.id.to_string(),
        bidirectional: !unidirectional,
        local: by_server == (of.role == ConnectionRole::Server),
        state: state.to_owned(),
        written_bytes: it.written,
        sent_bytes: it.sent,
        acked_bytes: it.acked,
        buffered_bytes: it.written.saturating_sub(it.acked),
        limit_bytes: it.limit,
        received_bytes: it.received,
        unread_bytes: it.unread,
        priority: it.priority,
        waits_for: waits_for(it, of),
    }
}

fn waits_for(it: &StreamReading, of: &ConnectionReading) -> StreamWait {
    let is_at_limit = it.limit.is_some_and(|limit| it.sent >= limit);
    if it.written > it.acked {
        match of.limits.current {
            _ if it.written > it.sent && is_at_limit => StreamWait::StreamFlowControl,
            Limit::FlowControl if of.is_credit_used => StreamWait::ConnectionFlowControl,
            // Nothing of it was acknowledged yet, so that its limit is not known here.
            Limit::FlowControl if it.limit.is_none() => StreamWait::StreamFlowControl,
            Limit::Application | Limit::FlowControl => StreamWait::Acknowledgement,
            Limit::Cwnd | Limit::Pacing | Limit::Path | Limit::Frames => StreamWait::Connection,
        }
    } else if it.unread > 0 {
        StreamWait::Reader
    } else {
        StreamWait::Application
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LimitsReading;

    #[test]
    fn a_stream_waits_for_the_first_thing_in_its_way() {
        let at = |current| ConnectionReading {
            role: ConnectionRole::Server,
            limits: LimitsReading { current, ..LimitsReading::default() },
            ..ConnectionReading::default()
        };
        let stream = |written, sent, acked, limit| StreamReading {
            id: 5,
            sending: true,
            written,
            sent,
            acked,
            limit: Some(limit),
            ..StreamReading::default()
        };
        let waits = |it: &StreamReading, current| waits_for(it, &at(current));
        assert_eq!(waits(&stream(900, 500, 500, 500), Limit::FlowControl), StreamWait::StreamFlowControl);
        assert_eq!(waits(&stream(900, 500, 400, 500), Limit::Cwnd), StreamWait::StreamFlowControl);
        assert_eq!(waits(&stream(900, 500, 400, 1000), Limit::Cwnd), StreamWait::Connection);
        assert_eq!(waits(&stream(900, 900, 400, 1000), Limit::Application), StreamWait::Acknowledgement);
        assert_eq!(waits(&stream(900, 900, 900, 1000), Limit::Application), StreamWait::Application);
        let used = ConnectionReading { is_credit_used: true, ..at(Limit::FlowControl) };
        assert_eq!(waits_for(&stream(900, 500, 500, 1000), &used), StreamWait::ConnectionFlowControl);
        let unread = StreamReading { received: 40, unread: 7, ..StreamReading::default() };
        assert_eq!(waits(&unread, Limit::Application), StreamWait::Reader);
        let row = row(&stream(900, 500, 400, 500), &used);
        assert!(row.local && row.bidirectional, "stream 5 is the server's, and goes both ways");
        assert_eq!((row.buffered_bytes, row.state.as_str()), (500, "sending"));
    }
}
