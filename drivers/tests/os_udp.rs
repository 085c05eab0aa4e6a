//! The OS UDP device over loopback, both families.

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wirepath_drivers::{
    Driver, DriverStats, Ecn, OsUdp, OsUdpOptions, PacketBuf, RxMeta, RxPacket, TxDatagram, TxProgress,
};

/// Longer than any scheduling hiccup of a loaded machine; never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn trains_arrive_whole_and_in_order_over_ipv4() {
    trains_arrive("127.0.0.1:0");
}

#[test]
fn trains_arrive_whole_and_in_order_over_ipv6() {
    trains_arrive("[::1]:0");
}

fn trains_arrive(addr: &str) {
    let (mut a, mut b) = (device(addr), device(addr));
    assert!(a.max_segments() > 1, "no GSO on loopback");
    let sizes = [(1200, 40, 1200), (1452, 45, 7), (100, 64, 100), (1, 3, 1)];
    for (segment, count, last) in sizes {
        let datagram = train(&a, &b, segment, count, last);
        let mut queue = VecDeque::from([datagram]);
        assert_eq!(a.transmit(&mut queue).expect("sent"), TxProgress::Drained);
        let got = receive(&mut b, count);
        for (n, packet) in got.iter().enumerate() {
            let len = if n + 1 == count { last } else { segment };
            assert_eq!(packet.buf.len(), len, "datagram {n} of {count}");
            assert!(packet.buf.as_slice().iter().all(|byte| *byte == n as u8), "content of {n}");
            let RxMeta::Udp { local, remote, .. } = packet.meta else { panic!("{:?}", packet.meta) };
            assert_eq!((local, remote), (b.local_addr(), a.local_addr()));
        }
    }
    let (sent, received) = (a.stats(), b.stats());
    assert_eq!(sent.tx_datagram_sent, 40 + 45 + 64 + 3);
    assert_eq!(
        (sent.tx_datagram_sent, sent.tx_byte_sent),
        (received.rx_packet_received, received.rx_byte_received)
    );
    assert_eq!(sent.tx_kick_made, sizes.len() as u64, "one system call a train");
    assert_eq!(counter(&received, "rx_socket_full_dropped"), 0);
}

#[test]
fn trains_go_out_singly_without_segmentation() {
    let options = OsUdpOptions { segmentation: false, ..OsUdpOptions::default() };
    let mut a = OsUdp::new(socket("127.0.0.1:0"), options).expect("device");
    let mut b = device("127.0.0.1:0");
    assert_eq!(a.max_segments(), 1);
    let mut queue = VecDeque::from([train(&a, &b, 1000, 5, 10)]);
    a.transmit(&mut queue).expect("sent");
    let lens: Vec<_> = receive(&mut b, 5).iter().map(|packet| packet.buf.len()).collect();
    assert_eq!(lens, [1000, 1000, 1000, 1000, 10]);
    assert_eq!(a.stats().tx_kick_made, 5);
}

#[test]
fn single_datagrams_of_one_size_and_way_share_a_call() {
    let (mut a, mut b, mut c) = (device("127.0.0.1:0"), device("127.0.0.1:0"), device("127.0.0.1:0"));
    let lens_to_b = [300, 300, 300, 20, 300, 300, 400];
    let mut queue: VecDeque<_> =
        lens_to_b.iter().map(|len| single(&a, b.local_addr(), Ecn::Ect0, *len)).collect();
    queue.push_back(single(&a, c.local_addr(), Ecn::Ect0, 400));
    queue.push_back(single(&a, c.local_addr(), Ecn::Ect1, 400));
    for (n, datagram) in queue.iter_mut().enumerate() {
        datagram.buf.as_mut_slice().fill(n as u8);
    }
    assert_eq!(a.transmit(&mut queue).expect("sent"), TxProgress::Drained);
    // 300 300 300 20 | 300 300 | 400 | to c | to c, other ECN
    assert_eq!(a.stats().tx_kick_made, 5);
    assert_eq!(a.stats().tx_datagram_sent, 9);
    for (n, packet) in receive(&mut b, 7).iter().enumerate() {
        assert_eq!(packet.buf.as_slice(), vec![n as u8; lens_to_b[n]]);
    }
    let ecns: Vec<_> = receive(&mut c, 2).iter().map(|packet| packet.meta).collect();
    assert!(matches!(ecns[..], [RxMeta::Udp { ecn: Ecn::Ect0, .. }, RxMeta::Udp { ecn: Ecn::Ect1, .. }]));
}

#[test]
fn short_trains_of_one_size_and_way_share_a_call() {
    let (mut a, mut b) = (device("127.0.0.1:0"), device("127.0.0.1:0"));
    let mut queue = VecDeque::from([
        train(&a, &b, 500, 4, 500),
        train(&a, &b, 500, 3, 10),
        train(&a, &b, 500, 2, 500),
        single(&a, b.local_addr(), Ecn::NotEct, 7),
        train(&a, &b, 400, 2, 400),
        train(&a, &b, 1400, 40, 1400),
        train(&a, &b, 1400, 40, 1400),
    ]);
    assert_eq!(a.transmit(&mut queue).expect("sent"), TxProgress::Drained);
    assert_eq!(a.stats().tx_kick_made, 5);
    let got: Vec<_> = receive(&mut b, 12 + 80).iter().map(|packet| packet.buf.len()).collect();
    assert_eq!(got[..12], [500, 500, 500, 500, 500, 500, 10, 500, 500, 7, 400, 400]);
    assert_eq!(a.stats().tx_datagram_sent, 12 + 80);
}

#[test]
fn ecn_is_carried_both_ways() {
    for (addr, other) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("[::]:0", "127.0.0.1:0")] {
        let (mut a, mut b) = (device(other), device(addr));
        let to = SocketAddr::new(a.local_addr().ip(), b.local_addr().port());
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
            a.transmit(&mut VecDeque::from([single(&a, to, ecn, 50)])).expect("sent");
            let packet = receive(&mut b, 1).remove(0);
            let RxMeta::Udp { ecn: got, local, remote } = packet.meta else { panic!("{:?}", packet.meta) };
            assert_eq!(got, ecn, "{addr}");

            let mut back = single(&b, remote, ecn, 60);
            back.local = local;
            b.transmit(&mut VecDeque::from([back])).expect("sent");
            let packet = receive(&mut a, 1).remove(0);
            let RxMeta::Udp { ecn: got, remote, .. } = packet.meta else { panic!("{:?}", packet.meta) };
            assert_eq!((got, remote), (ecn, to), "{addr}");
        }
    }
}

#[test]
fn a_wildcard_socket_tells_and_keeps_the_address_it_was_reached_at() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let (mut client, mut server) = (device("127.0.0.1:0"), device(wildcard));
        let asked = SocketAddr::new("127.0.0.77".parse().expect("address"), server.local_addr().port());
        client.transmit(&mut VecDeque::from([single(&client, asked, Ecn::NotEct, 10)])).expect("sent");
        let packet = receive(&mut server, 1).remove(0);
        let RxMeta::Udp { local, remote, .. } = packet.meta else { panic!("{:?}", packet.meta) };
        assert_eq!((local, remote), (asked, client.local_addr()));

        let mut reply = single(&server, remote, Ecn::NotEct, 10);
        reply.local = local;
        server.transmit(&mut VecDeque::from([reply])).expect("sent");
        let packet = receive(&mut client, 1).remove(0);
        let RxMeta::Udp { remote, .. } = packet.meta else { panic!("{:?}", packet.meta) };
        assert_eq!(remote, asked);
    }
}

#[test]
fn a_batch_larger_than_asked_for_waits_in_the_device() {
    let (mut a, mut b) = (device("127.0.0.1:0"), device("127.0.0.1:0"));
    a.transmit(&mut VecDeque::from([train(&a, &b, 100, 64, 100)])).expect("sent");
    await_readable(&b);
    let mut got = Vec::new();
    for _ in 0..6 {
        assert_eq!(b.receive(&mut got, 10).expect("received"), 10);
    }
    assert_eq!(b.receive(&mut got, 10).expect("received"), 4, "fewer than asked: nothing waits");
    let order: Vec<_> = got.iter().map(|packet| packet.buf.as_slice()[0]).collect();
    assert_eq!(order, (0..64).collect::<Vec<u8>>());
}

#[test]
fn what_can_never_be_sent_is_dropped_by_cause() {
    let mut a = device("127.0.0.1:0");
    let to = a.local_addr();
    let mut local_gone = single(&a, to, Ecn::NotEct, 10);
    local_gone.local = "192.0.2.77:1".parse().expect("address");
    let mut train_from_nowhere = train_to(&a, to, 100, 3, 100);
    train_from_nowhere.local = local_gone.local;
    let mut queue = VecDeque::from([
        single(&a, to, Ecn::NotEct, 65_520),
        single(&a, "127.0.0.1:0".parse().expect("address"), Ecn::NotEct, 10),
        single(&a, "127.0.0.1:0".parse().expect("address"), Ecn::NotEct, 10),
        single(&a, "[::1]:9".parse().expect("address"), Ecn::NotEct, 10),
        local_gone,
        train_from_nowhere,
    ]);
    assert_eq!(a.transmit(&mut queue).expect("none of it is fatal"), TxProgress::Drained);
    let stats = a.stats();
    assert_eq!(counter(&stats, "tx_too_long_dropped"), 1);
    assert_eq!(counter(&stats, "tx_wrong_family_dropped"), 1);
    let elsewhere = counter(&stats, "tx_refused_dropped") + counter(&stats, "tx_no_route_dropped");
    assert_eq!(elsewhere, 6, "{stats:?}");
    assert_eq!(stats.tx_datagram_sent, 0);

    // Neither GSO nor ECN is lost by it.
    assert!(a.max_segments() > 1);
    let mut good = train_to(&a, to, 100, 3, 100);
    good.ecn = Ecn::Ect0;
    a.transmit(&mut VecDeque::from([good])).expect("sent");
    for packet in receive(&mut a, 3) {
        assert!(matches!(packet.meta, RxMeta::Udp { ecn: Ecn::Ect0, .. }), "{:?}", packet.meta);
    }
}

#[test]
fn an_empty_datagram_is_counted_and_not_handed_up() {
    let mut b = device("127.0.0.1:0");
    let a = socket("127.0.0.1:0");
    a.send_to(&[], b.local_addr()).expect("sent");
    a.send_to(&[1], b.local_addr()).expect("sent");
    assert_eq!(receive(&mut b, 1)[0].buf.len(), 1);
    assert_eq!(counter(&b.stats(), "rx_empty_dropped"), 1);
}

#[test]
fn the_kernels_drops_are_told() {
    let options = OsUdpOptions { receive_buffer: 0, ..OsUdpOptions::default() };
    let mut b = OsUdp::new(socket("127.0.0.1:0"), options).expect("device");
    let mut a = device("127.0.0.1:0");
    let mut sent = 0;
    while counter(&b.stats(), "rx_socket_full_dropped") == 0 {
        a.transmit(&mut VecDeque::from([train(&a, &b, 1200, 40, 1200)])).expect("sent");
        sent += 1;
        assert!(sent < 10_000, "{:?}", b.stats());
    }
    let mut got = Vec::new();
    while b.receive(&mut got, 64).expect("received") > 0 {}
    assert_eq!(got.len() as u64 % 40, 0);
}

#[test]
fn the_steady_state_allocates_no_buffers() {
    let (mut a, mut b) = (device("127.0.0.1:0"), device("127.0.0.1:0"));
    let mut after_warm_up = 0;
    for round in 0..300 {
        let mut queue =
            VecDeque::from([train(&a, &b, 1200, 40, 1200), single(&a, b.local_addr(), Ecn::Ect0, 90)]);
        a.transmit(&mut queue).expect("sent");
        drop(receive(&mut b, 41));
        if round == 20 {
            after_warm_up = counter(&b.stats(), "rx_block_allocated");
        }
    }
    assert_eq!(counter(&b.stats(), "rx_block_allocated"), after_warm_up);
}

#[test]
fn readers_that_hold_small_datagrams_do_not_stop_the_device() {
    let (mut a, mut b) = (device("127.0.0.1:0"), device("127.0.0.1:0"));
    let mut held = Vec::new();
    for _ in 0..3000 {
        a.transmit(&mut VecDeque::from([single(&a, b.local_addr(), Ecn::NotEct, 100)])).expect("sent");
        held.append(&mut receive(&mut b, 1));
    }
    assert!(counter(&b.stats(), "rx_block_allocated") < 300, "{:?}", b.stats());
}

fn socket(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr).expect("bind")
}

fn device(addr: &str) -> OsUdp {
    OsUdp::new(socket(addr), OsUdpOptions::default()).expect("device")
}

/// `count` datagrams, each filled with its number.
fn train(from: &OsUdp, to: &OsUdp, segment: usize, count: usize, last: usize) -> TxDatagram {
    train_to(from, to.local_addr(), segment, count, last)
}

fn train_to(from: &OsUdp, remote: SocketAddr, segment: usize, count: usize, last: usize) -> TxDatagram {
    let mut buf = from.tx_pool().lease(64).expect("memory");
    buf.truncate(segment * (count - 1) + last);
    for (n, chunk) in buf.as_mut_slice().chunks_mut(segment).enumerate() {
        chunk.fill(n as u8);
    }
    TxDatagram {
        local: from.local_addr(),
        remote,
        ecn: Ecn::NotEct,
        segment_size: Some(segment as u16),
        tcp: None,
        buf,
    }
}

fn single(from: &OsUdp, remote: SocketAddr, ecn: Ecn, len: usize) -> TxDatagram {
    TxDatagram {
        local: from.local_addr(),
        remote,
        ecn,
        segment_size: None,
        tcp: None,
        buf: PacketBuf::heap(len),
    }
}

fn receive(device: &mut OsUdp, count: usize) -> Vec<RxPacket> {
    let mut got = Vec::new();
    while got.len() < count {
        if device.receive(&mut got, 64).expect("received") == 0 {
            await_readable(device);
        }
    }
    assert_eq!(got.len(), count);
    got
}

fn await_readable(device: &OsUdp) {
    let deadline = Instant::now() + PATIENCE;
    let fd = device.readiness().expect("a descriptor");
    let timeout = Timespec::try_from(deadline - Instant::now()).expect("short");
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).expect("poll");
    assert_eq!(ready, 1, "nothing came: {:?}", device.stats());
}

fn counter(stats: &DriverStats, name: &str) -> u64 {
    stats.named.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no counter {name}")).1
}
