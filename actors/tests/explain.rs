//! Each end a frame can come to.
#![allow(missing_docs)]

use std::sync::Arc;

use wirepath_actors::{
    explain::{End, Explanation, Scene},
    kit::Slot,
    tables::{Claim, Socket, SocketPool},
};
use wirepath_quic::{Cid, Clock as _, Endpoint, NoopClock, TransportConfig, cid::RandomCids};
use wirepath_wire::{Link, MacAddr, UdpHeaders, VlanTag, rules::Rules, write_udp};

const OURS: &str = "10.0.0.2:443";
const CID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const TOKEN: [u8; 16] = [0xee; 16];

fn frame(vlan: Option<u16>, dst: &str, payload: &[u8]) -> Vec<u8> {
    let link = Link {
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        vlan: vlan.map(VlanTag::new),
    };
    let mut frame = vec![0; 66];
    let (src, dst) = ("10.0.0.1:1111".parse().unwrap(), dst.parse().unwrap());
    let len = write_udp(&mut frame, &UdpHeaders::new(link), src, dst, payload).unwrap();
    frame.extend_from_slice(payload);
    frame.split_off(66 - len)
}

fn short(cid: [u8; 8]) -> Vec<u8> {
    [&[0x40][..], &cid, &[0; 40]].concat()
}

/// Ports 443, with a listener, and 444, without, are bound. Rules: 42 is dropped, 7 sent back, both of ours taken.
fn explain(frame: &[u8]) -> Explanation {
    let lines = ["drop udp port 42", "l2fwd udp port 7", "pass udp port 44", "redirect udp ports 443-446"];
    let list = lines.iter().fold(Rules::builder(), |list, line| list.rule(line.parse().unwrap()));
    let rules = list.local_addresses(["10.0.0.2".parse().unwrap()]).build().unwrap();
    let sockets = SocketPool::default();
    for (address, listens) in [(OURS, true), ("0.0.0.0:444", false), ("10.0.0.2:447", true)] {
        let socket = Socket::new(Claim::udp(address.parse().unwrap()));
        if listens {
            socket.listeners.set(Box::new([Slot::default()])).unwrap();
        }
        sockets.insert(Arc::new(socket));
    }
    let mut endpoint =
        Endpoint::of_clients(Arc::new(TransportConfig::default()), Arc::new(RandomCids::seeded(1)));
    let mut scene = Scene {
        rules: &rules,
        sockets: &sockets,
        has_cid: &|cid| cid.as_slice() == CID,
        has_handshake: &|key| *key == ("10.0.0.1:1111".parse().unwrap(), Cid::new(&[4; 8]).unwrap()),
        has_reset_token: &|token| *token == TOKEN,
        endpoint: Some(&mut endpoint),
        flows: None,
        verify_checksums: true,
    };
    scene.explain(frame, 3, NoopClock.get_time())
}

#[track_caller]
fn ends(frame: &[u8], end: End, words: &str) {
    let told = explain(frame);
    assert_eq!(told.end, end, "{told}");
    assert!(told.to_string().contains(words), "{told}");
}

#[test]
fn rules_decide_first() {
    ends(&frame(None, "10.0.0.2:42", &[]), End::Rule(0), "rule       1: drop udp port 42");
    ends(&frame(None, "10.0.0.2:7", &[]), End::SentBack(1), "sent back by rule 2");
    ends(&frame(None, "10.0.0.2:44", &[]), End::Kernel, "pass udp port 44");
    ends(&frame(None, "10.0.0.2:99", &[]), End::Kernel, "none matches");
    ends(&frame(None, "10.0.0.3:443", &[]), End::Kernel, "xdp_foreign_address_passed");
    ends(
        &frame(Some(5), OURS, &short(CID)),
        End::Connection(Cid::new(&CID).unwrap()),
        "xdp_foreign_vlan_passed",
    );
    let mut fragment = frame(None, OURS, &short(CID));
    fragment[20] = 0x20;
    ends(&fragment, End::Kernel, "xdp_unparsed_passed");
}

#[test]
fn then_sockets_and_connections() {
    ends(
        &frame(None, OURS, &short(CID)),
        End::Connection(Cid::new(&CID).unwrap()),
        "queue      3: to its AF_XDP",
    );
    ends(&frame(None, "10.0.0.2:445", &short(CID)), End::Dropped("socket_unmatched_dropped"), "445");
    ends(
        &frame(None, "10.0.0.2:444", &short([9; 8])),
        End::Dropped("connection_unmatched_dropped"),
        "0.0.0.0:444",
    );
    ends(&frame(None, OURS, &[0x40, 1]), End::Dropped("header_truncated_dropped"), "socket     10.0.0.2:443");
    let reset = [&[0x40][..], &[9; 20], &TOKEN].concat();
    ends(&frame(None, OURS, &reset), End::Reset, "resets");
    let mut damaged = frame(None, OURS, &short(CID));
    damaged[60] ^= 1;
    ends(&damaged, End::Dropped("udp_checksum_mismatched_dropped"), "redirect");
    ends(
        &frame(None, "10.0.0.2:447", &short(CID)),
        End::Connection(Cid::new(&CID).unwrap()),
        "OS UDP socket",
    );
}

#[test]
fn then_the_listeners_rules() {
    let local = OURS.parse().unwrap();
    ends(&frame(None, OURS, &short([9; 8])), End::Listener(local), "answers with");
    let initial = [&[0xc0, 0, 0, 0, 1, 8][..], &[5; 8], &[8], &[6; 8], &[0, 0x40, 0x20], &[0; 1200]].concat();
    ends(
        &frame(None, OURS, &initial),
        End::Dropped("listener_missing_dropped"),
        "QUIC Initial, version 0x00000001",
    );
    let retry = [&[0xf0, 0, 0, 0, 1, 8][..], &[5; 8], &[8], &[6; 8], &[0; 40]].concat();
    ends(&frame(None, OURS, &retry), End::Dropped("retry_unmatched_dropped"), "unexpected Retry");
}
