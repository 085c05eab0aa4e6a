//! Logs of connections: whole, in order, and true.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use s2n_quic_core::varint::VarInt;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::role::Role;

type Lines = Arc<Mutex<Vec<String>>>;

fn log(pair: &mut Pair, role: Role) -> Lines {
    let lines = Lines::default();
    let to = lines.clone();
    let now = pair.now;
    let sink = move |records: &[u8]| {
        let text = String::from_utf8(records.to_vec()).unwrap();
        to.lock().unwrap().extend(text.split('\u{1e}').skip(1).map(|record| format!("\u{1e}{record}")));
    };
    pair.side(role).connection.start_qlog(now, Box::new(sink));
    lines
}

#[test]
fn a_connections_log_tells_what_happened() {
    let mut pair = PairBuilder::default()
        .faults(|faults| {
            faults.loss = 20;
            faults.duplicate = 10;
            faults.bandwidth = 20_000_000;
        })
        .build();
    let client = log(&mut pair, Role::Client);
    pair.run_until(|pair| pair.server.is_some());
    let server = log(&mut pair, Role::Server);
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    let mut pair = echo(pair, 3, 300_000);
    pair.run_for(Duration::from_secs(1));
    pair.client.connection.update_keys();
    let mut pair = echo(pair, 3, 30_000);
    let now = pair.now;
    let stats = pair.client.connection.stats();
    pair.client.connection.close(now, VarInt::from_u8(7), b"a \"reason\"");
    pair.run_to_end();
    for lines in [&client, &server] {
        let lines = lines.lock().unwrap();
        assert!(lines[0].contains(r#""qlog_version":"0.3","qlog_format":"JSON-SEQ""#));
        let mut last = 0.0;
        for line in lines.iter() {
            // RFC 7464 §2.2.
            let text = line.strip_prefix('\u{1e}').and_then(|line| line.strip_suffix('\n')).unwrap();
            assert!(!text.contains('\n'), "{text}");
            if let Some(rest) = text.strip_prefix(r#"{"time":"#) {
                let time: f64 = rest.split(',').next().unwrap().trim().parse().unwrap();
                assert!(time >= last, "{line}");
                last = time;
            }
        }
    }
    let client = client.lock().unwrap();
    // Numbers may have room before them.
    let client: Vec<_> = client.iter().map(|line| line.replace(": ", ":").replace(' ', "")).collect();
    let count =
        |name: &str| client.iter().filter(|line| line.contains(&format!(r#""name":"{name}""#))).count();
    for name in [
        "transport:parameters_set",
        "transport:version_information",
        "transport:packet_dropped",
        "recovery:metrics_updated",
        "recovery:congestion_state_updated",
        "security:key_updated",
        "connectivity:connection_started",
        "connectivity:connection_state_updated",
        "connectivity:connection_closed",
    ] {
        assert!(count(name) > 0, "{name}");
    }
    assert_eq!(count("recovery:packet_lost") as u64, stats.counters.packet_lost);
    // One more of each may follow the figures: CONNECTION_CLOSE, and what is answered by it.
    let sent = count("transport:packet_sent") as u64 - stats.counters.packet_sent;
    assert!((1..=4).contains(&sent), "{sent}");
    let received = count("transport:packet_received") as u64;
    assert!(received.abs_diff(stats.counters.packet_received) <= 2);
    for text in [
        r#""frame_type":"stream","stream_id":0,"offset":0"#,
        r#""frame_type":"ack","ack_delay":"#,
        r#""frame_type":"crypto""#,
        r#""packet_type":"initial","packet_number":0"#,
        r#""frame_type":"connection_close","error_space":"application","error_code":7,"reason":"a\"reason\"""#,
        r#""new":"slow_start""#,
        r#""application_code":7"#,
    ] {
        assert!(client.iter().any(|line| line.contains(text)), "{text}");
    }
}

#[test]
fn without_a_log_nothing_differs() {
    let run = |logged: bool| {
        let mut pair = PairBuilder::default().faults(|faults| faults.loss = 30).build();
        if logged {
            log(&mut pair, Role::Client);
        }
        pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
        let pair = echo(pair, 3, 200_000);
        (pair.now, pair.client.connection.stats().counters)
    };
    assert_eq!(run(true), run(false));
}
