//! What a packet costs in the XDP program with 1 and with 255 rules of a kind: `cargo bench --bench xdp_cost`.
//!
//! The kernel measures (BPF_PROG_TEST_RUN); medians of interleaved rounds. Without root it says so.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};

use wirepath_drivers::XdpProgram;
use wirepath_wire::{
    Link, MacAddr, UdpHeaders,
    rules::{Action, CidField, CidPattern, IpPrefix, Match, PortSet, Rule, Rules},
    write_udp,
};

const MANY: u16 = 255;
const ROUNDS: usize = 15;
const REPEAT: u32 = 200_000;

const V4: (&str, &str) = ("10.0.0.1:1111", "10.0.0.2:1000");
const V6: (&str, &str) = ("[fd00::1]:1111", "[fd00::2]:1000");

fn main() {
    let program = match XdpProgram::load(false) {
        Ok(program) => program,
        Err(error) => {
            println!("SKIPPED xdp_cost: {error}");
            return;
        }
    };
    println!("{:<28} {:>10} {:>10} {:>7}", "kind", "1 rule", "255 rules", "ratio");
    let none = vec![Vec::new(), Vec::new()];
    measure(&program, "(no rules)", &none, &frame(V4, &[]));
    for (name, of, frame) in kinds() {
        // The rule that the frame meets is the last of its list.
        let lists = vec![vec![of(0)], (0..MANY).rev().map(&of).collect()];
        measure(&program, name, &lists, &frame);
    }
}

fn measure(program: &XdpProgram, name: &str, lists: &[Vec<Match>], frame: &[u8]) {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (list, times) in lists.iter().zip(&mut times) {
            let rules = list.iter().map(|m| Rule { matching: m.clone(), action: Action::Drop });
            program.set_rules(&Rules::new(rules).expect("within limits")).expect("the kernel takes them");
            let run = program.timed_run(frame, REPEAT).expect("the kernel runs it");
            times.push(run.mean.as_nanos());
        }
    }
    let [one, many] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    println!("{name:<28} {one:>7} ns {many:>7} ns {:>7.2}", many as f64 / one as f64);
}

type Kind = (&'static str, Box<dyn Fn(u16) -> Match>, Vec<u8>);

fn kinds() -> Vec<Kind> {
    let cid = [0x40, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = [&[0xc0, 0, 0, 0, 1, 8, 0xaa, 0][..], &[0; 6], &[8, 0xaa, 0], &[0; 20]].concat();
    let pattern = |field, n: u16| CidPattern::new(1000, field, 0, &[0xaa, n as u8]).expect("two bytes");
    vec![
        ("UDP dst port", Box::new(|n| Match::UdpDstPort(1000 + n)), frame(V4, &[])),
        (
            "UDP port set",
            Box::new(|n| Match::UdpPortSet(PortSet::from_iter([1000 + n, 2000 + n, 3000 + n]))),
            frame(V4, &[]),
        ),
        ("UDP tuple v4", Box::new(|n| tuple(V4, n)), frame(V4, &[])),
        ("UDP tuple v6", Box::new(|n| tuple(V6, n)), frame(V6, &[])),
        ("IP dst prefix v4", Box::new(|n| prefix([10, n as u8, 0, 0].into(), 16)), frame(V4, &[])),
        (
            "IP dst prefix v6",
            Box::new(|n| prefix(IpAddr::from([0xfd00, n, 0, 0, 0, 0, 0, 0]), 32)),
            frame(V6, &[]),
        ),
        ("IP next header", Box::new(|n| Match::IpNextHeader((n as u8).wrapping_add(17))), frame(V4, &[])),
        ("TCP dst port", Box::new(|n| Match::TcpDstPort(1000 + n)), tcp(0x10, &[])),
        (
            "TCP port set",
            Box::new(|n| Match::TcpPortSet(PortSet::from_iter([1000 + n, 2000 + n, 3000 + n]))),
            tcp(0x10, &[]),
        ),
        ("TCP control", Box::new(|n| Match::TcpControl(1000 + n)), tcp(0x02, &[])),
        (
            "QUIC CID, short header",
            Box::new(move |n| Match::QuicFlow(pattern(CidField::ShortDestination, n))),
            frame(V4, &cid),
        ),
        (
            "QUIC CID, long source",
            Box::new(move |n| Match::QuicFlow(pattern(CidField::LongSource, n))),
            frame(V4, &long),
        ),
        (
            "QUIC CID, long destination",
            Box::new(move |n| Match::QuicFlow(pattern(CidField::LongDestination, n))),
            frame(V4, &long),
        ),
        (
            "CID in TCP, short header",
            Box::new(move |n| Match::TcpQuicFlow(pattern(CidField::ShortDestination, n))),
            tcp(0x10, &cid),
        ),
        (
            "CID in TCP, long source",
            Box::new(move |n| Match::TcpQuicFlow(pattern(CidField::LongSource, n))),
            tcp(0x10, &long),
        ),
    ]
}

fn tuple((src, dst): (&str, &str), n: u16) -> Match {
    let (mut src, dst): (SocketAddr, SocketAddr) = (address(src), address(dst));
    src.set_port(1111 + n);
    Match::UdpTuple { src, dst }
}

fn prefix(address: IpAddr, len: u8) -> Match {
    Match::IpDst(IpPrefix::new(address, len).expect("a prefix"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn frame((src, dst): (&str, &str), payload: &[u8]) -> Vec<u8> {
    let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let headers = UdpHeaders::new(link);
    let mut frame = vec![0; headers.len_for(address(dst).ip())];
    write_udp(&mut frame, &headers, address(src), address(dst), payload).expect("it fits");
    frame.extend_from_slice(payload);
    frame
}

/// A TCP header is a UDP packet with another protocol number, as far as the program looks.
fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(V4, &[&[0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0], payload].concat());
    frame[23] = 6;
    frame
}
