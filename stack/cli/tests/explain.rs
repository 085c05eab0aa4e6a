//! `wirepath explain`.
#![allow(missing_docs)]

use std::process::Command;

const SCENE: &[&str] = &["drop udp dst port 42", "--bind", "10.0.0.2:443", "--cid", "0102030405060708"];

/// What it prints about a packet.
fn explain(packet: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wirepath"))
        .arg("explain")
        .args(SCENE)
        .args(packet)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn ends(packet: &[&str], end: &str) {
    let text = explain(packet);
    assert_eq!(text.lines().last().unwrap().split_once(' ').unwrap().1.trim(), end, "{text}");
}

fn to(dst: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    [&["--src", "10.0.0.1:5000", "--dst", dst], more].concat()
}

#[test]
fn each_packet_has_one_end() {
    ends(&to("10.0.0.2:42", &[]), "dropped by rule 1");
    ends(&to("10.0.0.2:43", &[]), "the kernel's network stack");
    ends(
        &to("10.0.0.2:443", &["--quic-dcid", "0102030405060708"]),
        "the connection with CID 0102030405060708",
    );
    ends(&to("10.0.0.2:443", &["--quic-dcid", "aabbccddeeff0011"]), "the listener on 10.0.0.2:443");
    ends(&to("10.0.0.2:443", &["--payload", "40"]), "dropped, counted as header_truncated_dropped");
    let first = to("10.0.0.2:443", &["--quic-dcid", "aabbccddeeff0011", "--quic-scid", "22"]);
    ends(&first, "the listener on 10.0.0.2:443");
    assert!(explain(&first).contains("makes a connection"));
    let small = to("10.0.0.2:443", &["--payload", "c00000000108aabbccddeeff00110122004002"]);
    ends(&small, "dropped, counted as initial_undersized_dropped");
}

#[test]
fn frames_come_as_hex_too_and_too_few_options_are_told() {
    // Ethernet, IPv4 and UDP 10.0.0.1:1111 to 10.0.0.2:42, without a checksum.
    let frame =
        "020000000002 020000000001 0800 4500001c0000000040 11 66cf 0a000001 0a000002 0457 002a 0008 0000";
    let text = explain(&["--hex", frame]);
    assert!(text.contains("42 bytes: UDP 10.0.0.1:1111 to 10.0.0.2:42"), "{text}");
    ends(&["--hex", frame], "dropped by rule 1");
    let output = Command::new(env!("CARGO_BIN_EXE_wirepath")).arg("explain").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--pcap"), "{output:?}");
}
