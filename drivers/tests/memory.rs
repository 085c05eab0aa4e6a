//! The network in memory: deterministic in virtual time, and usable in real time.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wirepath_drivers::{
    Driver, Ecn, Faults, MemoryDevice, MemoryNet, PacketBuf, RxMeta, RxPacket, TxDatagram, TxProgress,
};

const MS: Duration = Duration::from_millis(1);

/// Everything received, when and where.
type Trace = Vec<(Duration, u8, SocketAddr, Ecn, Vec<u8>)>;

#[test]
fn the_same_seed_gives_the_same_trace() {
    let faults = Faults {
        loss: 0.05,
        duplicate: 0.05,
        corrupt: 0.05,
        reorder: 0.05,
        ecn_ce: 0.1,
        delay: 20 * MS,
        jitter: 5 * MS,
        bandwidth: Some(10_000_000),
        ..Faults::default()
    };
    let first = exchange(1, faults);
    assert!(first.len() > 1000, "{}", first.len());
    assert_eq!(first, exchange(1, faults));
    assert_ne!(first, exchange(2, faults));
}

/// Two devices that answer each other for two seconds.
fn exchange(seed: u64, faults: Faults) -> Trace {
    let net = MemoryNet::new(seed, faults);
    let mut ends = [net.device(ip("10.0.0.1")), net.device(ip("10.0.0.2"))];
    let mut trace = Vec::new();
    for n in 0..100 {
        send(&mut ends[0], "10.0.0.1:1", "10.0.0.2:2", &[n; 700]);
    }
    while net.now() < Duration::from_secs(2) {
        net.advance(MS);
        for (end, device) in ends.iter_mut().enumerate() {
            for packet in receive(device) {
                let RxMeta::Udp { local, remote, ecn } = packet.meta else { panic!("{:?}", packet.meta) };
                let payload = packet.buf.as_slice().to_vec();
                let mut answer = datagram(local, remote, payload.len());
                answer.buf.as_mut_slice().copy_from_slice(&payload);
                device.transmit(&mut VecDeque::from([answer])).expect("sent");
                trace.push((net.now(), end as u8, remote, ecn, payload));
            }
        }
    }
    trace
}

#[test]
fn nothing_moves_without_time() {
    let net = MemoryNet::new(1, Faults { delay: 10 * MS, ..Faults::default() });
    let (mut a, mut b) = (net.device(ip("10.0.0.1")), net.device(ip("fd00::2")));
    a.add_address(ip("fd00::1"));
    send(&mut a, "[::]:7", "[fd00::2]:8", b"hello");
    assert_eq!(net.next_arrival(), Some(10 * MS));
    net.advance(9 * MS);
    assert!(receive(&mut b).is_empty());
    net.advance(MS);
    let packet = receive(&mut b).remove(0);
    assert_eq!(packet.buf.as_slice(), b"hello");
    let wanted = RxMeta::Udp { local: addr("[fd00::2]:8"), remote: addr("[fd00::1]:7"), ecn: Ecn::Ect0 };
    assert_eq!(packet.meta, wanted);
    assert_eq!((net.next_arrival(), b.readiness().is_none()), (None, true));
}

#[test]
fn trains_are_cut_and_a_burst_blocks() {
    let net = MemoryNet::new(1, Faults::default());
    let mut a = net.device(ip("10.0.0.1")).with_limits(10, 1200).with_burst(2);
    let mut b = net.device(ip("10.0.0.2"));
    assert_eq!((a.max_segments(), a.tx_pool().datagram_capacity()), (10, 1200));
    let mut queue: VecDeque<_> = (0..3)
        .map(|_| {
            let mut buf = a.tx_pool().lease(4).expect("memory");
            buf.truncate(3 * 1200 + 5);
            let (local, remote) = (addr("10.0.0.1:1"), addr("10.0.0.2:2"));
            TxDatagram { local, remote, ecn: Ecn::Ect1, segment_size: Some(1200), tcp: None, buf }
        })
        .collect();
    assert_eq!(a.transmit(&mut queue).expect("sent"), TxProgress::Blocked);
    assert_eq!(queue.len(), 1);
    assert_eq!(a.transmit(&mut queue).expect("sent"), TxProgress::Drained);
    let lens: Vec<_> = receive(&mut b).iter().map(|packet| packet.buf.len()).collect();
    assert_eq!(lens, [1200, 1200, 1200, 5].repeat(3));
    assert_eq!((a.stats().tx_datagram_sent, b.stats().rx_packet_received), (12, 12));
}

#[test]
fn faults_change_live_and_by_direction() {
    let net = MemoryNet::new(1, Faults::default());
    let (mut a, mut b) = (net.device(ip("10.0.0.1")), net.device(ip("10.0.0.2")));
    let mut round = |net: &MemoryNet| {
        send(&mut a, "10.0.0.1:1", "10.0.0.2:2", &[1; 100]);
        send(&mut b, "10.0.0.2:2", "10.0.0.1:1", &[2; 100]);
        net.advance(MS);
        (receive(&mut b).len(), receive(&mut a).len())
    };
    assert_eq!(round(&net), (1, 1));
    net.set_path_faults(ip("10.0.0.1"), ip("10.0.0.2"), Faults { loss: 1.0, ..Faults::default() });
    assert_eq!(round(&net), (0, 1));
    net.set_faults(Faults { mtu: 127, ..Faults::default() });
    assert_eq!(round(&net), (0, 0));
    net.set_faults(Faults { mtu: 128, duplicate: 1.0, ..Faults::default() });
    assert_eq!(round(&net), (2, 2));
    let stats = net.stats();
    assert_eq!((stats.datagram_sent, stats.datagram_delivered), (8, 2 + 1 + 4));
    assert_eq!((stats.lost_dropped, stats.too_long_dropped, stats.datagram_duplicated), (1, 2, 2));
}

#[test]
fn a_rebinding_shows_a_new_address_and_closes_the_old() {
    let net = MemoryNet::new(1, Faults::default());
    let (mut client, mut server) = (net.device(ip("192.168.0.1")), net.device(ip("10.0.0.2")));
    for outside in ["203.0.113.1:1000", "203.0.113.1:2000"] {
        net.translate(addr("192.168.0.1:5"), addr(outside));
        send(&mut client, "192.168.0.1:5", "10.0.0.2:2", b"out");
        let RxMeta::Udp { remote, .. } = receive(&mut server).remove(0).meta else { panic!("not UDP") };
        assert_eq!(remote, addr(outside));
        send(&mut server, "10.0.0.2:2", outside, b"back");
        let RxMeta::Udp { local, remote, .. } = receive(&mut client).remove(0).meta else {
            panic!("not UDP")
        };
        assert_eq!((local, remote), (addr("192.168.0.1:5"), addr("10.0.0.2:2")));
    }
    send(&mut server, "10.0.0.2:2", "203.0.113.1:1000", b"late");
    assert!(receive(&mut client).is_empty());
    assert_eq!(net.stats().unattached_dropped, 1);
}

#[test]
fn a_dropped_device_is_gone() {
    let net = MemoryNet::new(1, Faults { delay: MS, ..Faults::default() });
    let mut a = net.device(ip("10.0.0.1"));
    let b = net.device(ip("10.0.0.2"));
    send(&mut a, "10.0.0.1:1", "10.0.0.2:2", b"in flight");
    drop(b);
    assert_eq!(net.next_arrival(), None);
    send(&mut a, "10.0.0.1:1", "10.0.0.2:2", b"too late");
    assert_eq!(net.stats().unattached_dropped, 1);
    let _again = net.device(ip("10.0.0.2"));
}

#[test]
fn real_time_devices_poll_readable_on_arrival() {
    let net = MemoryNet::real_time(1, Faults { delay: 30 * MS, ..Faults::default() });
    let (mut a, mut b) = (net.device(ip("10.0.0.1")), net.device(ip("10.0.0.2")));
    for n in 0..3 {
        let start = Instant::now();
        send(&mut a, "10.0.0.1:1", "10.0.0.2:2", &[n]);
        assert!(receive(&mut b).is_empty());
        assert!(readable(&b, Duration::from_secs(10)));
        assert!(start.elapsed() >= 30 * MS, "{:?}", start.elapsed());
        assert_eq!(receive(&mut b)[0].buf.as_slice(), [n]);
        assert!(!readable(&b, Duration::ZERO), "nothing waits");
    }
    net.set_faults(Faults::default());
    send(&mut a, "10.0.0.1:1", "10.0.0.2:2", b"at once");
    assert!(readable(&b, Duration::from_secs(10)));
}

fn readable(device: &MemoryDevice, wait: Duration) -> bool {
    let fd = device.readiness().expect("a descriptor");
    let wait = Timespec::try_from(wait).expect("short");
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)).expect("poll") == 1
}

fn send(device: &mut MemoryDevice, local: &str, remote: &str, payload: &[u8]) {
    let mut datagram = datagram(addr(local), addr(remote), payload.len());
    datagram.buf.as_mut_slice().copy_from_slice(payload);
    let progress = device.transmit(&mut VecDeque::from([datagram])).expect("sent");
    assert_eq!(progress, TxProgress::Drained);
}

fn datagram(local: SocketAddr, remote: SocketAddr, len: usize) -> TxDatagram {
    TxDatagram { local, remote, ecn: Ecn::Ect0, segment_size: None, tcp: None, buf: PacketBuf::heap(len) }
}

fn receive(device: &mut MemoryDevice) -> Vec<RxPacket> {
    let mut got = Vec::new();
    device.receive(&mut got, 1000).expect("received");
    got
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("address")
}
