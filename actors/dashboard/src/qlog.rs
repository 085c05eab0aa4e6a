//! A recording as qlog: how each of its connections fared, a reading a second, for qvis and its like.
//!
//! Records of JSON text sequences (RFC 7464), as draft-ietf-quic-qlog-main-schema (0.3) has them; which connection an
//! event is of, its `group_id` tells. What a connection logs of itself, packet by packet, is had from its own page.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use crate::reading::{ConnectionReading, Reading};

/// Writes the readings of a recording that began at `begin_ns`.
pub(crate) fn write(name: &str, begin_ns: u64, readings: &[Arc<Reading>]) -> Vec<u8> {
    let mut text = String::new();
    let mut put = |record: Value| {
        text.push('\u{1e}');
        text.push_str(&record.to_string());
        text.push('\n');
    };
    put(json!({
        "qlog_version": "0.3",
        "qlog_format": "JSON-SEQ",
        "title": name,
        "trace": {
            "vantage_point": { "type": "unknown" },
            "common_fields": {
                "time_format": "relative",
                "reference_time": 0,
                "protocol_type": ["QUIC"],
            },
        },
    }));
    let mut begun = HashSet::new();
    for reading in readings {
        let time = milliseconds(reading.t_ns.saturating_sub(begin_ns));
        for it in reading.connections.iter() {
            let mut event = |name: &str, data: Value| {
                put(json!({ "time": time, "group_id": it.id.to_string(), "name": name, "data": data }));
            };
            if begun.insert(it.id) {
                event("connectivity:connection_started", started(it));
            }
            event("recovery:metrics_updated", metrics(it));
        }
    }
    text.into_bytes()
}

fn milliseconds(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn started(it: &ConnectionReading) -> Value {
    json!({
        "ip_version": if it.remote.is_ipv4() { "v4" } else { "v6" },
        "src_ip": it.local.ip().to_string(),
        "dst_ip": it.remote.ip().to_string(),
        "protocol": "QUIC",
        "src_port": it.local.port(),
        "dst_port": it.remote.port(),
    })
}

fn metrics(it: &ConnectionReading) -> Value {
    json!({
        "smoothed_rtt": milliseconds(it.rtt_ns),
        "min_rtt": milliseconds(it.min_rtt_ns),
        "congestion_window": it.cwnd_bytes,
        "bytes_in_flight": it.in_flight_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_starts_once_and_tells_its_metrics_in_every_reading() {
        let connection =
            |id, cwnd_bytes| ConnectionReading { id, cwnd_bytes, ..ConnectionReading::default() };
        let reading = |t_ns, connections| Arc::new(Reading { t_ns, connections, ..Reading::default() });
        let readings = [
            reading(5_000_000, vec![connection(7, 10)].into()),
            reading(6_500_000, vec![connection(7, 20), connection(9, 30)].into()),
        ];
        let log = String::from_utf8(write("mine", 5_000_000, &readings)).expect("text");
        let records: Vec<Value> = log
            .split_terminator('\n')
            .map(|line| serde_json::from_str(line.strip_prefix('\u{1e}').expect("RFC 7464")).expect("JSON"))
            .collect();
        assert_eq!((&records[0]["qlog_version"], &records[0]["title"]), (&json!("0.3"), &json!("mine")));
        let events: Vec<_> = records[1..]
            .iter()
            .map(|it| {
                (
                    it["group_id"].as_str(),
                    it["name"].as_str().and_then(|name| name.split_once(':')),
                    it["time"].as_f64(),
                )
            })
            .collect();
        let (started, updated) =
            (Some(("connectivity", "connection_started")), Some(("recovery", "metrics_updated")));
        assert_eq!(
            events,
            [
                (Some("7"), started, Some(0.0)),
                (Some("7"), updated, Some(0.0)),
                (Some("7"), updated, Some(1.5)),
                (Some("9"), started, Some(1.5)),
                (Some("9"), updated, Some(1.5)),
            ]
        );
        assert_eq!(records[3]["data"]["congestion_window"], 20);
    }
}
