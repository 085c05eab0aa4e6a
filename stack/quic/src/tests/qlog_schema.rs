//! Every record our logs can have, against the schema that qvis reads (draft-ietf-quic-qlog-main-schema and
//! draft-ietf-quic-qlog-quic-events, as of qlog 0.3): names, fields, types, words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use s2n_codec::{Encoder, EncoderBuffer};
use s2n_quic_core::stream::StreamType;
use s2n_quic_core::varint::VarInt;
use serde_json::Value;

use super::transfer::echo;
use super::{Pair, PairBuilder};
use crate::cid::Cid;
use crate::config::{AckRequest, AddressDiscovery};
use crate::packet::PacketKind;
use crate::qlog::Qlog;
use crate::role::Role;

/// What a field may hold.
#[derive(Clone, Copy)]
enum Type {
    Number,
    Flag,
    Text,
    Hex,
    Words(&'static [&'static str]),
    List(&'static Type),
    /// A list of lists of one or two numbers.
    Ranges,
    Object(&'static [Field]),
    Frames,
}

/// Name, type, and whether it must be there.
type Field = (&'static str, Type, bool);

use Type::*;

const HEADER: Type = Object(&[
    ("packet_type", Words(&["initial", "handshake", "0RTT", "1RTT"]), true),
    ("packet_number", Number, true),
]);
const RAW: Type = Object(&[("length", Number, true)]);
const OWNER: Type = Words(&["local", "remote"]);
const PACKET: &[Field] = &[("header", HEADER, true), ("raw", RAW, true), ("frames", Frames, true)];
const PATH: [Field; 5] = [
    ("ip_version", Words(&["v4", "v6"]), true),
    ("src_ip", Text, true),
    ("dst_ip", Text, true),
    ("src_port", Number, true),
    ("dst_port", Number, true),
];

/// Events by name, with the fields of their data.
const EVENTS: &[(&str, &[Field])] = &[
    ("transport:packet_sent", PACKET),
    ("transport:packet_received", PACKET),
    (
        "transport:packet_dropped",
        &[
            ("raw", RAW, true),
            (
                "trigger",
                Words(&["duplicate", "decryption_failure", "key_unavailable", "invalid", "rejected"]),
                true,
            ),
        ],
    ),
    (
        "transport:parameters_set",
        &[
            ("owner", OWNER, true),
            ("max_idle_timeout", Number, true),
            ("max_udp_payload_size", Number, true),
            ("ack_delay_exponent", Number, true),
            ("max_ack_delay", Number, true),
            ("active_connection_id_limit", Number, true),
            ("initial_max_data", Number, true),
            ("initial_max_stream_data_bidi_local", Number, true),
            ("initial_max_stream_data_bidi_remote", Number, true),
            ("initial_max_stream_data_uni", Number, true),
            ("initial_max_streams_bidi", Number, true),
            ("initial_max_streams_uni", Number, true),
            ("max_datagram_frame_size", Number, true),
        ],
    ),
    (
        "transport:version_information",
        &[
            ("client_versions", List(&Hex), false),
            ("server_versions", List(&Hex), false),
            ("chosen_version", Hex, true),
        ],
    ),
    (
        "recovery:packet_lost",
        &[
            ("header", HEADER, true),
            ("trigger", Words(&["reordering_threshold", "time_threshold", "pto_expired"]), true),
        ],
    ),
    (
        "recovery:metrics_updated",
        &[
            ("min_rtt", Number, false),
            ("smoothed_rtt", Number, false),
            ("latest_rtt", Number, false),
            ("rtt_variance", Number, false),
            ("pto_count", Number, false),
            ("congestion_window", Number, false),
            ("bytes_in_flight", Number, false),
        ],
    ),
    ("recovery:congestion_state_updated", &[("old", Text, false), ("new", Text, true)]),
    (
        "security:key_updated",
        &[
            ("key_type", Words(&["client_1rtt_secret", "server_1rtt_secret"]), true),
            ("key_phase", Number, true),
            ("trigger", Words(&["tls", "local_update", "remote_update"]), true),
        ],
    ),
    (
        "connectivity:connection_started",
        &[PATH[0], PATH[1], PATH[2], PATH[3], PATH[4], ("src_cid", Hex, false), ("dst_cid", Hex, false)],
    ),
    ("connectivity:path_updated", &PATH),
    (
        "connectivity:connection_state_updated",
        &[("new", Words(&["handshake_complete", "handshake_confirmed", "closed"]), true)],
    ),
    (
        "connectivity:connection_closed",
        &[
            ("owner", OWNER, true),
            ("reason", Text, true),
            ("application_code", Number, false),
            ("connection_code", Number, false),
        ],
    ),
];

const STREAM_TYPE: Type = Words(&["bidirectional", "unidirectional"]);

/// Frames by type, with their other fields.
const FRAMES: &[(&str, &[Field])] = &[
    ("padding", &[("length", Number, true)]),
    ("ping", &[]),
    (
        "ack",
        &[
            ("ack_delay", Number, true),
            ("acked_ranges", Ranges, true),
            ("ect0", Number, false),
            ("ect1", Number, false),
            ("ce", Number, false),
        ],
    ),
    (
        "reset_stream",
        &[("stream_id", Number, true), ("error_code", Number, true), ("final_size", Number, true)],
    ),
    (
        "reset_stream_at",
        &[
            ("stream_id", Number, true),
            ("error_code", Number, true),
            ("final_size", Number, true),
            ("reliable_size", Number, true),
        ],
    ),
    ("stop_sending", &[("stream_id", Number, true), ("error_code", Number, true)]),
    ("crypto", &[("offset", Number, true), ("length", Number, true)]),
    ("new_token", &[("length", Number, true)]),
    (
        "stream",
        &[
            ("stream_id", Number, true),
            ("offset", Number, true),
            ("length", Number, true),
            ("fin", Flag, false),
        ],
    ),
    ("max_data", &[("maximum", Number, true)]),
    ("max_stream_data", &[("stream_id", Number, true), ("maximum", Number, true)]),
    ("max_streams", &[("stream_type", STREAM_TYPE, true), ("maximum", Number, true)]),
    ("data_blocked", &[("limit", Number, true)]),
    ("stream_data_blocked", &[("stream_id", Number, true), ("limit", Number, true)]),
    ("streams_blocked", &[("stream_type", STREAM_TYPE, true), ("limit", Number, true)]),
    (
        "new_connection_id",
        &[("sequence_number", Number, true), ("retire_prior_to", Number, true), ("connection_id", Hex, true)],
    ),
    ("retire_connection_id", &[("sequence_number", Number, true)]),
    ("path_challenge", &[("data", Hex, true)]),
    ("path_response", &[("data", Hex, true)]),
    (
        "connection_close",
        &[
            ("error_space", Words(&["transport", "application"]), true),
            ("error_code", Number, true),
            ("reason", Text, true),
        ],
    ),
    ("handshake_done", &[]),
    ("datagram", &[("length", Number, true)]),
    ("immediate_ack", &[]),
    (
        "ack_frequency",
        &[
            ("sequence_number", Number, true),
            ("ack_eliciting_threshold", Number, true),
            ("request_max_ack_delay", Number, true),
            ("reordering_threshold", Number, true),
        ],
    ),
    ("observed_address", &[("sequence_number", Number, true)]),
    ("unknown", &[]),
];

/// Names seen, of events and of frames.
#[derive(Default)]
struct Seen {
    events: BTreeSet<String>,
    frames: BTreeSet<String>,
}

impl Seen {
    fn object(&mut self, what: &str, value: &Value, fields: &[Field]) {
        let object = value.as_object().unwrap_or_else(|| panic!("{what}: no object: {value}"));
        for (name, ty, required) in fields {
            match object.get(*name) {
                Some(value) => self.value(&format!("{what}.{name}"), value, ty),
                None => assert!(!required, "{what}: no {name}: {value}"),
            }
        }
        for name in object.keys() {
            assert!(fields.iter().any(|(known, ..)| known == name), "{what}: unknown {name}: {value}");
        }
    }

    fn value(&mut self, what: &str, value: &Value, ty: &Type) {
        let fits = match ty {
            Number => value.is_number(),
            Flag => value.is_boolean(),
            Text => value.is_string(),
            Hex => value.as_str().is_some_and(|text| {
                text.len() % 2 == 0
                    && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
            }),
            Words(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            List(of) => {
                let list = value.as_array().unwrap_or_else(|| panic!("{what}: no list"));
                list.iter().for_each(|value| self.value(what, value, of));
                true
            }
            Ranges => value.as_array().is_some_and(|ranges| {
                ranges.iter().all(|range| {
                    range
                        .as_array()
                        .is_some_and(|ends| (1..=2).contains(&ends.len()) && ends.iter().all(Value::is_u64))
                })
            }),
            Object(fields) => {
                self.object(what, value, fields);
                true
            }
            Frames => {
                let frames = value.as_array().unwrap_or_else(|| panic!("{what}: no list"));
                frames.iter().for_each(|frame| self.frame(frame));
                true
            }
        };
        assert!(fits, "{what}: {value}");
    }

    fn frame(&mut self, frame: &Value) {
        let ty = frame["frame_type"].as_str().unwrap_or_else(|| panic!("no frame_type: {frame}"));
        let (_, fields) =
            FRAMES.iter().find(|(name, _)| *name == ty).unwrap_or_else(|| panic!("unknown frame: {frame}"));
        let mut rest = frame.clone();
        rest.as_object_mut().expect("an object").remove("frame_type");
        self.object(ty, &rest, fields);
        self.frames.insert(ty.to_owned());
    }

    /// A whole log, as qvis loads it: split at the separators, the first record the header.
    fn log(&mut self, text: &str, role: Role) {
        let mut records = text.split('\u{1e}');
        assert_eq!(records.next(), Some(""), "it begins with a separator");
        let mut records = records.map(|record| {
            assert!(record.ends_with('\n'), "RFC 7464 §2.2: {record}");
            serde_json::from_str::<Value>(record).unwrap_or_else(|error| panic!("{error}: {record}"))
        });
        let header = records.next().expect("a header");
        // qvis wants these three, and this version among those it knows.
        assert_eq!(header["qlog_format"], "JSON-SEQ");
        assert_eq!(header["qlog_version"], "0.3");
        let trace = header["trace"].as_object().expect("a trace");
        assert_eq!(trace["vantage_point"]["type"], if role.is_client() { "client" } else { "server" });
        let common = &trace["common_fields"];
        assert_eq!(common["time_format"], "relative");
        assert!(common["reference_time"].is_number());
        self.value("ODCID", &common["ODCID"], &Hex);
        let mut last = 0.0;
        for record in records {
            let fields: BTreeMap<_, _> = record.as_object().expect("an object").iter().collect();
            assert_eq!(fields.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["data", "name", "time"]);
            let time = record["time"].as_f64().expect("a time");
            assert!(time >= last, "qvis sorts what is out of order, and complains: {record}");
            last = time;
            let name = record["name"].as_str().expect("a name");
            let (_, fields) = EVENTS
                .iter()
                .find(|(known, _)| *known == name)
                .unwrap_or_else(|| panic!("unknown event: {record}"));
            self.object(name, &record["data"], fields);
            self.events.insert(name.to_owned());
        }
    }
}

type Log = Arc<Mutex<Vec<u8>>>;

fn start(pair: &mut Pair, role: Role) -> Log {
    let log = Log::default();
    let to = log.clone();
    let now = pair.now;
    let sink = move |records: &[u8]| to.lock().unwrap().extend_from_slice(records);
    pair.side(role).connection.start_qlog(now, Box::new(sink));
    log
}

fn text(log: &Log) -> String {
    String::from_utf8(log.lock().unwrap().clone()).unwrap()
}

/// A connection to which everything happens.
fn eventful(seen: &mut Seen) {
    let request = AckRequest { threshold: 9, max_delay: Duration::from_millis(50), reordering: 3 };
    let mut pair = PairBuilder::default()
        .both(|config| {
            config
                .datagram_receive_buffer(Some(10_000))
                .min_ack_delay(Some(Duration::from_millis(1)))
                .ack_request(Some(request))
                .address_discovery(Some(AddressDiscovery::Both))
                .reset_stream_at(true)
        })
        .faults(|faults| {
            faults.loss = 20;
            faults.duplicate = 10;
            faults.bandwidth = 20_000_000;
        })
        .build();
    let client = start(&mut pair, Role::Client);
    pair.run_until(|pair| pair.server.is_some());
    let server = start(&mut pair, Role::Server);
    pair.run_until(|pair| pair.client.connection.is_handshake_confirmed());
    let mut pair = echo(pair, 3, 300_000);
    pair.client.connection.update_keys();
    let mut pair = echo(pair, 3, 30_000);
    pair.client.net.local.set_port(9999);
    let id = pair.client.connection.open(StreamType::Unidirectional).unwrap();
    pair.client.connection.write(id, vec![1; 5_000].into()).unwrap();
    pair.client.connection.reset_at(id, VarInt::from_u8(3), 1_000).unwrap();
    pair.client.connection.send_datagram(vec![1; 100].into()).unwrap();
    let mut pair = echo(pair, 1, 100_000);
    let now = pair.now;
    pair.client.connection.close(now, VarInt::from_u8(7), b"a \"reason\" \\ \x01 \xff");
    pair.run_to_end();
    seen.log(&text(&client), Role::Client);
    seen.log(&text(&server), Role::Server);
}

/// Every frame there is, in packets of their own and together.
fn all_frames(seen: &mut Seen) {
    let frames: &[&[u8]] = &[
        &[0, 0, 0],
        &[1],
        &[2, 9, 0x40, 50, 1, 2, 1, 0],
        &[3, 9, 5, 0, 2, 3, 2, 1],
        &[4, 4, 7, 9],
        &[5, 4, 7],
        &[6, 0, 2, 1, 1],
        &[7, 2, 8, 8],
        &[0x0f, 4, 1, 2, 9, 9],
        &[0x0a, 4, 2, 9, 9],
        &[0x10, 9],
        &[0x11, 4, 9],
        &[0x12, 9],
        &[0x13, 9],
        &[0x14, 9],
        &[0x15, 4, 9],
        &[0x16, 9],
        &[0x17, 9],
        &[0x18, 2, 1, 4, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5],
        &[0x19, 3],
        &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x1b, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x1c, 9, 0, 2, b'"', b'\\'],
        &[0x1d, 9, 1, 0xff],
        &[0x1e],
        &[0x1f],
        &[0x24, 4, 7, 9, 8],
        &[0x31, 2, 1, 1],
        &[0x40, 0xaf, 0, 1, 0x47, 0xd0, 1],
        &[0x80, 0x9f, 0x81, 0xa6, 0, 1, 2, 3, 4, 0, 5],
        &[0x80, 0x9f, 0x81, 0xa7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 5],
    ];
    let together = [frames.concat(), vec![0x3f, 1, 2]].concat();
    // Cut, and an ACK of packets below 0.
    let broken: [&[u8]; 4] = [&[0x1e, 0x24, 4, 7], &[2, 9, 0, 1, 2, 3], &[2, 1, 0, 0, 2], &[0x0e, 4, 7]];
    let log = Log::default();
    let to = log.clone();
    let pair = PairBuilder::default().build();
    let sink = move |records: &[u8]| to.lock().unwrap().extend_from_slice(records);
    let mut qlog = Qlog::start(Box::new(sink), pair.now, Role::Server, &Cid::new(&[7; 8]).unwrap());
    for payload in frames.iter().copied().chain([&together[..]]).chain(broken) {
        let mut buffer = vec![0; payload.len()];
        EncoderBuffer::new(&mut buffer).write_slice(payload);
        qlog.packet(pair.now, true, (PacketKind::OneRtt, 3, payload.len()), &mut buffer, 3);
        qlog.packet(pair.now, false, (PacketKind::ZeroRtt, 3, payload.len()), &mut buffer, 3);
    }
    drop(qlog);
    let text = text(&log);
    assert_eq!(text.matches("\"unknown\"").count(), 10, "in no payload but the five that end in nonsense");
    seen.log(&text, Role::Server);
}

#[test]
fn what_came_before_the_last_record_is_told_after_it() {
    let log = Log::default();
    let to = log.clone();
    let pair = PairBuilder::default().build();
    let sink = move |records: &[u8]| to.lock().unwrap().extend_from_slice(records);
    let start = pair.now;
    let mut qlog = Qlog::start(Box::new(sink), start, Role::Server, &Cid::new(&[7; 8]).unwrap());
    for (micros, payload) in [(500, &[0x08, 0, 1][..]), (200, &[1]), (300, &[0x08, 0, 1]), (501, &[1])] {
        let now = start + Duration::from_micros(micros);
        qlog.packet(now, micros > 400, (PacketKind::OneRtt, 3, 30), &mut payload.to_vec(), 3);
    }
    drop(qlog);
    let text = text(&log);
    let times: Vec<_> =
        text.split("\"time\":").skip(1).map(|rest| rest.split(',').next().unwrap().trim()).collect();
    assert_eq!(times, ["0.500", "0.500", "0.500", "0.501"]);
    Seen::default().log(&text, Role::Server);
}

#[test]
fn every_record_is_as_the_schema_says() {
    let mut seen = Seen::default();
    eventful(&mut seen);
    all_frames(&mut seen);
    for (name, _) in EVENTS {
        assert!(seen.events.contains(*name), "{name} was not tried");
    }
    for (name, _) in FRAMES {
        assert!(seen.frames.contains(*name), "{name} was not tried");
    }
}
