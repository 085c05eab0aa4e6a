//! Reads or writes the headers of one UDP packet again and again: `headers read COUNT`, `headers verify COUNT` (its
//! checksum, too), `headers write COUNT`. For `make instructions`, which counts what each takes.

use std::hint::black_box;
use std::net::SocketAddr;

use wirepath_wire::{Link, MacAddr, TxChecksum, UdpHeaders, parse_udp, verify_udp_checksum, write_udp};

/// UDP payload of a full packet on Ethernet.
const PAYLOAD: usize = 1452;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count] = &arguments[..] else { panic!("usage: headers read|verify|write COUNT") };
    let count: u32 = count.parse().expect("a number");
    let (src, dst) = (SocketAddr::from(([10, 0, 0, 1], 4433)), SocketAddr::from(([10, 0, 0, 2], 50_000)));
    let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let headers = UdpHeaders::new(link);
    let len = headers.len_for(dst.ip());
    let mut frame = vec![7; len + PAYLOAD];
    let (room, payload) = frame.split_at_mut(len);
    write_udp(room, &headers, src, dst, payload).expect("room enough");
    match &what[..] {
        "read" => {
            for _ in 0..count {
                black_box(parse_udp(black_box(&frame))).expect("a UDP packet");
            }
        }
        "verify" => {
            for _ in 0..count {
                let packet = parse_udp(black_box(&frame)).expect("a UDP packet");
                black_box(verify_udp_checksum(&frame, &packet)).expect("its checksum");
            }
        }
        "write" => {
            let headers = UdpHeaders { checksum: TxChecksum::Offloaded, ..headers };
            let (room, payload) = frame.split_at_mut(len);
            for _ in 0..count {
                write_udp(black_box(&mut *room), &headers, src, dst, payload).expect("room enough");
            }
        }
        other => panic!("read, verify or write, not {other}"),
    }
}
