//! `wirepath explain`.
#![allow(missing_docs)]

use std::process::Command;

const SCENE: &[&str] = &["drop udp dst port 42", "--bind", "10.0.0.2:443", "--cid", "0102030405060708"];

/// What it prints about a packet.
fn explain(packet: &[&str]) -> String {
    explain_in(SCENE, packet)
}

fn explain_in(scene: &[&str], packet: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wirepath"))
        .arg("explain")
        .args(scene)
        .args(packet)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn ends(packet: &[&str], end: &str) {
    ends_in(SCENE, packet, end);
}

#[track_caller]
fn ends_in(scene: &[&str], packet: &[&str], end: &str) {
    let text = explain_in(scene, packet);
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

#[test]
fn segments_of_qtip_have_one_end_too() {
    let scene = [SCENE, &["--qtip"]].concat();
    let ends = |packet: &[&'static str], end| ends_in(&scene, &to("10.0.0.2:443", packet), end);
    let dcid = ["--quic-dcid", "0102030405060708"];
    ends(&dcid, "the connection with CID 0102030405060708");
    ends(&[&["--tcp", "ack"], &dcid[..]].concat(), "the connection with CID 0102030405060708");
    ends(&["--tcp", "ack", "--quic-dcid", "aabbccddeeff0011"], "the listener on 10.0.0.2:443");
    ends(&["--tcp", "syn"], "its TCP flow: it brings no datagram");
    ends(&["--tcp", "syn,fin"], "dropped, counted as tcp_flags_invalid_dropped");
    ends(&["--tcp", "rst,ack"], "dropped, counted as qtip_reset_unmatched_dropped");
    ends(&["--tcp", "ack"], "dropped, counted as qtip_flow_unknown_dropped");
    let text = explain_in(&scene, &to("10.0.0.2:443", &["--tcp", "syn"]));
    for words in
        ["TCP 10.0.0.1:5000 to 10.0.0.2:443", "UDP and QTIP", "SYN, sequence 0", "answered with SYN/ACK"]
    {
        assert!(text.contains(words), "{text}");
    }
    // Without QTIP TCP's port is the kernel's.
    ends_in(SCENE, &to("10.0.0.2:443", &["--tcp", "syn"]), "the kernel's network stack");
}

/// The same segments from a capture and in hex, both as QTIP and of a stranger's TCP.
#[test]
fn segments_come_from_captures_and_as_hex() {
    let scene = [SCENE, &["--qtip", "--trust-checksums"]].concat();
    // Ethernet, IPv4 and TCP 10.0.0.1:5000 to 10.0.0.2:443, ACK, with a short header to our CID and 24 bytes.
    let headers = "020000000002 020000000001 0800 45000049000000004006 66ad 0a000001 0a000002";
    let tcp = "1388 01bb 00000001 00000002 50 10 ffff 0000 0000";
    let quic = "40 0102030405060708 000000000000000000000000000000000000000000000000";
    let frame = format!("{headers} {tcp} {quic}");
    ends_in(&scene, &["--hex", &frame], "the connection with CID 0102030405060708");
    let bytes: Vec<u8> = frame
        .split_whitespace()
        .collect::<String>()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        capture.extend_from_slice(&word.to_le_bytes());
    }
    for _ in 0..2 {
        for word in [0, 0, bytes.len() as u32, bytes.len() as u32] {
            capture.extend_from_slice(&word.to_le_bytes());
        }
        capture.extend_from_slice(&bytes);
    }
    let path = std::env::temp_dir().join(format!("wirepath-explain-{}.pcap", std::process::id()));
    std::fs::write(&path, capture).unwrap();
    let text = explain_in(&scene, &["--pcap", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text.matches("the connection with CID 0102030405060708").count(), 2, "{text}");
}

#[test]
fn ports_shared_by_cibir_take_what_carries_the_identifier() {
    let scene = ["--bind", "10.0.0.2:443", "--cibir", "1:c1b1", "--cid", "00c1b10000000000ffff"];
    let ends = |packet: &[&'static str], end| ends_in(&scene, &to("10.0.0.2:443", packet), end);
    ends(&["--quic-dcid", "00c1b10000000000ffff"], "the connection with CID 00c1b10000000000ffff");
    ends(&["--quic-dcid", "07c1b10000000000ffff"], "the listener on 10.0.0.2:443");
    ends(&["--quic-dcid", "00c1b20000000000ffff"], "the kernel's network stack");
    ends(&["--quic-dcid", "aabbccddeeff0011", "--quic-scid", "05c1b1"], "the listener on 10.0.0.2:443");
    ends(&["--quic-dcid", "05c1b1ddeeff0011", "--quic-scid", "aabbcc"], "the kernel's network stack");
    let text = explain_in(&scene, &to("10.0.0.2:443", &["--quic-dcid", "00c1b10000000000ffff"]));
    assert!(text.contains("shared by CIBIR c1b1 at offset 1"), "{text}");
}
