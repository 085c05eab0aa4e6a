//! AF_XDP on a veth pair between two network namespaces. Needs root; says so by name otherwise.

mod xsk_world;

use std::{
    collections::VecDeque,
    net::IpAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::CapabilitySet,
};
use wirepath_drivers::{
    AfXdp, AfXdpOptions, BusyPoll, ChecksumMode, CopyMode, DataPath, Driver, DriverError, NextHop, NextHops,
    PacketBuf, Pages, RingSizes, RxPacket, TxProgress, XdpModeWish, XdpProgram,
};
use wirepath_wire::rules::Rules;
use xsk_world::{
    Shape, Side, ToPeer, World,
    traffic::{End, PATIENCE, datagram, verify},
    world,
};

#[test]
fn datagrams_of_every_length_cross_both_ways_over_both_families() {
    let Some(world) = world("datagrams_of_every_length_cross_both_ways_over_both_families", Shape::default())
    else {
        return;
    };
    let mut ends = [world.open(Side::A, |_| {}), world.open(Side::B, |_| {})];
    let most = usize::from(ends[0].xsk.max_udp_payload());
    assert_eq!(most, 1500 - 48);
    for from in [0, 1] {
        for v6 in [false, true] {
            let lengths = [20, 21, 22, 23, 64, 1199, 1200, most - 1, most];
            for (seed, len) in lengths.into_iter().enumerate() {
                assert!(ends[from].queue(seed as u64, len, v6));
            }
            ends[from].transmit_all();
            ends[1 - from].receive_all(lengths.len());
            let side = ends[from].side;
            for (seed, packet) in ends[1 - from].received.drain(..).enumerate() {
                assert_eq!(verify(&packet, side), seed as u64);
            }
        }
    }
    for end in &mut ends {
        end.settle();
        let status = end.xsk.status();
        assert_eq!(status.path, DataPath::Xdp { driver_mode: true, zero_copy: false });
        assert_eq!(status.reason, "driver veth has no zero-copy");
        assert!(status.link_up);
    }
}

#[test]
fn every_ring_size_carries_many_times_its_length() {
    let Some(world) = world("every_ring_size_carries_many_times_its_length", Shape::default()) else {
        return;
    };
    for size in (6..=13).map(|bits| 1 << bits) {
        let resize = |options: &mut wirepath_drivers::AfXdpOptions| options.rings = RingSizes::all(size);
        let mut a = world.open(Side::A, resize);
        let mut b = world.open(Side::B, resize);
        let count = 5 * u64::from(size) + 7;
        let (mut sent, mut next) = (0, 0);
        while next < count {
            // No more on the way than the smallest ring holds: nothing may be lost.
            while sent < count && sent - next < u64::from(size) / 2 && a.queue(sent, 100, sent % 3 == 0) {
                sent += 1;
            }
            a.transmit_all();
            b.receive_all(1);
            for packet in b.received.drain(..) {
                assert_eq!(verify(&packet, Side::A), next);
                next += 1;
            }
            a.receive();
        }
        for end in [&mut a, &mut b] {
            end.settle();
            let audit = end.xsk.audit().umem;
            // A refill waits until a batch is missing.
            let least = size as usize - (size as usize / 4).min(64) - 16;
            assert!((least..=size as usize).contains(&audit.fill), "{size}: {audit:?}");
            assert_eq!(audit.free, audit.capacity - audit.fill, "{size}: {audit:?}");
        }
    }
}

#[test]
fn memory_of_others_is_copied_and_received_frames_can_be_sent_back() {
    let Some(world) =
        world("memory_of_others_is_copied_and_received_frames_can_be_sent_back", Shape::default())
    else {
        return;
    };
    let (mut a, mut b) = (world.open(Side::A, |_| {}), world.open(Side::B, |_| {}));
    let mut heap = PacketBuf::heap(300);
    xsk_world::traffic::fill(5, heap.as_mut_slice());
    a.queue.push_back(datagram(Side::A, heap, false));
    a.transmit_all();
    b.receive_all(1);
    assert_eq!(a.counter("tx_datagram_copied"), 1);
    // B turns the very frame around: the payload narrowed to, and new headers written over the old.
    let mut packet = b.received.pop().unwrap();
    assert_eq!(verify(&packet, Side::A), 5);
    let payload = wirepath_wire::parse_udp(packet.buf.as_slice()).unwrap().payload;
    packet.buf.narrow(payload);
    b.queue.push_back(datagram(Side::B, packet.buf, true));
    b.transmit_all();
    assert_eq!(b.counter("tx_datagram_copied"), 0);
    a.receive_all(1);
    assert_eq!(verify(&a.received[0], Side::B), 5);
    // A frame of one UMEM sent by the other socket.
    let mut packet = a.received.pop().unwrap();
    let payload = wirepath_wire::parse_udp(packet.buf.as_slice()).unwrap().payload;
    packet.buf.narrow(payload);
    b.queue.push_back(datagram(Side::B, packet.buf, false));
    b.transmit_all();
    assert_eq!(b.counter("tx_datagram_copied"), 1);
    a.receive_all(1);
    assert_eq!(verify(&a.received.pop().unwrap(), Side::B), 5);
    a.settle();
    b.settle();
    let audit = b.xsk.audit().umem;
    assert_eq!(audit.free + audit.fill, audit.capacity);
}

#[test]
fn zero_copy_where_there_is_none_is_refused_with_the_reason() {
    let Some(world) = world("zero_copy_where_there_is_none_is_refused_with_the_reason", Shape::default())
    else {
        return;
    };
    let error = world
        .try_open(Side::A, XdpModeWish::Driver, |options| options.copy_mode = CopyMode::RequireZeroCopy)
        .unwrap_err();
    assert_eq!(error.to_string(), "zero-copy is not possible here: the driver of veth-a does not support it");
    assert_eq!(world.open(Side::A, |_| {}).transmit(), TxProgress::Drained);
}

#[test]
fn a_peer_that_never_reads_fills_its_rings_and_loses_no_frame() {
    let Some(world) = world("a_peer_that_never_reads_fills_its_rings_and_loses_no_frame", Shape::default())
    else {
        return;
    };
    let small = |options: &mut AfXdpOptions| options.rings = RingSizes::all(64);
    let (mut a, mut b) = (world.open(Side::A, small), world.open(Side::B, small));
    for seed in 0..1000 {
        if !a.queue(seed, 64, false) {
            a.transmit_all();
            a.receive();
            assert!(a.queue(seed, 64, false), "frames come back");
        }
    }
    a.transmit_all();
    a.settle();
    assert_eq!(a.xsk.stats().tx_datagram_sent, 1000);
    let causes = ["rx_fill_ring_empty_dropped", "rx_ring_full_dropped", "rx_kernel_dropped"];
    let dropped: u64 = causes.iter().map(|name| b.counter(name)).sum();
    assert!(dropped >= 1000 - 64 - 64);
    // What did arrive is whole, in order, and the socket goes on as if nothing had been.
    b.receive_all(64);
    let seeds: Vec<u64> = b.received.drain(..).map(|packet| verify(&packet, Side::A)).collect();
    assert_eq!(seeds.len() as u64 + dropped, 1000, "each packet has arrived or has one cause");
    assert!(seeds.is_sorted());
    b.settle();
    assert!(a.queue(5000, 64, false));
    a.transmit_all();
    while b.received.last().is_none_or(|packet| verify(packet, Side::A) != 5000) {
        let so_far = b.received.len();
        b.receive_all(so_far + 1);
    }
}

#[test]
fn a_program_that_keeps_packets_starves_neither_sending_nor_the_audit() {
    let Some(world) =
        world("a_program_that_keeps_packets_starves_neither_sending_nor_the_audit", Shape::default())
    else {
        return;
    };
    let small = |options: &mut AfXdpOptions| options.rings = RingSizes::all(64);
    let (mut a, mut b) = (world.open(Side::A, small), world.open(Side::B, small));
    for seed in 0..300 {
        assert!(a.queue(seed, 64, false));
        a.transmit_all();
        a.settle();
        b.receive();
    }
    // B keeps every packet it gets: all that receiving may hold, less what sending is promised.
    let audit = b.xsk.audit().umem;
    assert_eq!(audit.rx_app + audit.fill, audit.capacity - 64, "{audit:?}");
    assert!(b.xsk.pool().is_rx_low(), "{:?}\n{:?}", b.xsk.audit(), b.xsk.stats());
    for seed in 0..64 {
        assert!(b.queue(seed, 64, false), "sending has its reserve: {seed}");
    }
    b.transmit_all();
    a.receive_all(64);
    b.received.clear();
    b.receive();
    assert!(!b.xsk.pool().is_rx_low());
    b.settle();
}

#[test]
fn leases_fill_no_more_than_their_share_and_a_full_ring_leaves_the_rest_queued() {
    let name = "leases_fill_no_more_than_their_share_and_a_full_ring_leaves_the_rest_queued";
    let Some(world) = world(name, Shape::default()) else { return };
    let mut a = world.open(Side::A, |options| options.rings = RingSizes { tx: 64, ..RingSizes::all(256) });
    let b = world.open(Side::B, |_| {});
    let mut seed = 0;
    while a.queue(seed, 64, false) {
        seed += 1;
    }
    let audit = a.xsk.audit().umem;
    assert_eq!(audit.tx_app as u64, seed);
    assert_eq!(audit.tx_app, audit.capacity - 256, "all but what receiving is promised");
    assert!(a.queue.len() > 128);
    assert_eq!(a.transmit(), TxProgress::Blocked);
    assert_eq!(a.queue.len() as u64, seed - 64, "as many as the ring holds");
    a.transmit_all();
    a.settle();
    let audit = a.xsk.audit().umem;
    assert_eq!(audit.free + audit.fill, audit.capacity);
    drop(b);
}

#[test]
fn a_link_that_goes_down_is_told_and_comes_back() {
    let Some(world) = world("a_link_that_goes_down_is_told_and_comes_back", Shape::default()) else { return };
    let (mut a, mut b) = (world.open(Side::A, |_| {}), world.open(Side::B, |_| {}));
    world.ip(Side::A, "link set veth-a down");
    assert!(!a.xsk.status().link_up);
    for seed in 0..3 {
        assert!(a.queue(seed, 64, false));
        assert_eq!(a.transmit(), TxProgress::Drained);
    }
    assert!(a.counter("tx_link_down_dropped") >= 2, "{:?}", a.xsk.stats());
    assert!(a.xsk.check().is_ok());
    world.ip(Side::A, "link set veth-a up");
    assert!(a.xsk.status().link_up);
    let before = b.received.len();
    assert!(a.queue(7, 64, false));
    a.transmit_all();
    b.receive_all(before + 1);
    while verify(b.received.last().unwrap(), Side::A) != 7 {
        let so_far = b.received.len();
        b.receive_all(so_far + 1);
    }
    // The peer's link down: packets leave, nobody gets them, no frame is lost.
    world.ip(Side::B, "link set veth-b down");
    for seed in 0..100 {
        assert!(a.queue(seed, 64, false));
    }
    a.transmit_all();
    a.settle();
    world.ip(Side::B, "link set veth-b up");
    a.settle();
    b.settle();
}

#[test]
fn a_deleted_interface_ends_the_device_and_every_frame_comes_home() {
    let Some(world) =
        world("a_deleted_interface_ends_the_device_and_every_frame_comes_home", Shape::default())
    else {
        return;
    };
    let (mut a, mut b) = (world.open(Side::A, |_| {}), world.open(Side::B, |_| {}));
    for seed in 0..40 {
        assert!(a.queue(seed, 64, false));
    }
    a.transmit_all();
    b.receive_all(40);
    assert!(a.queue(1, 64, false));
    world.ip(Side::A, "link del veth-a");
    let error = a.xsk.transmit(&mut a.queue).unwrap_err();
    assert!(matches!(&error, DriverError::Gone(why) if why.contains("veth-a")), "{error}");
    assert!(matches!(a.xsk.receive(&mut Vec::new(), 1), Err(DriverError::Gone(_))), "for good");
    assert!(!a.xsk.status().link_up);
    assert!(a.xsk.status().reason.contains("the interface is gone"));
    // The other end only listens: it finds out by itself, within a bounded number of empty polls.
    let polls = (0..100_000).take_while(|_| b.xsk.receive(&mut Vec::new(), 64).is_ok()).count();
    assert!(polls < 10_000, "{polls}");
    for end in [a, b] {
        let End { xsk, queue, received, .. } = end;
        let pool = xsk.pool().clone();
        let tx_pool = xsk.tx_pool();
        drop(xsk);
        assert!(tx_pool.lease(1).is_none(), "a closed device lends nothing");
        let audit = pool.audit();
        assert!(audit.is_sound(), "{audit:?}");
        assert_eq!(audit.free + audit.rx_app + audit.tx_app, audit.capacity, "{audit:?}");
        assert_eq!((audit.rx_app, audit.tx_app), (received.len(), queue.len()));
        let bytes = received.first().map(|packet| packet.buf.as_slice().to_vec());
        drop((queue, received));
        assert_eq!(pool.audit().free, audit.capacity);
        drop((pool, tx_pool, bytes));
    }
}

#[test]
fn a_queue_is_free_again_after_a_drop_or_a_panic_and_taken_while_open() {
    let Some(world) =
        world("a_queue_is_free_again_after_a_drop_or_a_panic_and_taken_while_open", Shape::default())
    else {
        return;
    };
    for round in 0..5 {
        let end = world.open(Side::A, |_| {});
        if round == 0 {
            let error =
                world.at(Side::A, || AfXdp::open(&AfXdpOptions::new("veth-a", 0), Box::new(ToPeer(Side::A))));
            let error = error.unwrap_err().to_string();
            assert!(error.contains("another program has one on queue 0 of veth-a"), "{error}");
        }
        let pool = end.xsk.pool().clone();
        let crashed = std::thread::spawn(move || {
            let _end = end;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(crashed.join().is_err());
        assert_eq!(pool.audit().free, pool.capacity());
    }
}

#[test]
fn mistakes_are_told_with_what_to_do_about_them() {
    let Some(world) = world("mistakes_are_told_with_what_to_do_about_them", Shape::default()) else { return };
    let open = |change: &(dyn Fn(&mut AfXdpOptions) + Sync)| {
        world.at(Side::A, || {
            let mut options = AfXdpOptions::new("veth-a", 0);
            change(&mut options);
            AfXdp::open(&options, Box::new(ToPeer(Side::A))).unwrap_err().to_string()
        })
    };
    assert_eq!(
        open(&|options| options.interface = "nowhere0".into()),
        "no network interface is named \"nowhere0\"; `ip link` lists them"
    );
    assert_eq!(
        open(&|options| options.queue = 7),
        "binding an XSK is not possible here: veth-a has no queue 7, or its driver refuses (`ethtool -l veth-a`)"
    );
    for rings in [RingSizes::all(100), RingSizes::all(32), RingSizes { tx: 16384, ..RingSizes::all(64) }] {
        let error = open(&|options| options.rings = rings);
        assert!(
            error.starts_with("a ring of this size is not possible here: choose a power of two"),
            "{error}"
        );
    }
    assert!(open(&|options| options.frame_count = Some(100)).contains("a UMEM this small"));
    world.ip(Side::A, "link set veth-a mtu 3600");
    world.ip(Side::B, "link set veth-b mtu 3600");
    let error = open(&|options| options.multi_buffer = Some(false));
    assert!(error.contains("`ip link set veth-a mtu 3498`"), "{error}");
}

#[test]
fn huge_pages_are_used_or_their_absence_told() {
    let Some(world) = world("huge_pages_are_used_or_their_absence_told", Shape::default()) else { return };
    let mut a = world.open(Side::A, |options| {
        options.huge_pages = true;
        options.busy_poll = Some(BusyPoll { timeout: Duration::from_micros(20), budget: 64 });
    });
    let mut b = world.open(Side::B, |_| {});
    let told = a.xsk.status().reason.contains("sysctl vm.nr_hugepages=");
    assert_eq!(told, *a.xsk.pool().pages() != Pages::Huge);
    assert_eq!(*b.xsk.pool().pages(), Pages::Normal);
    assert!(a.queue(1, 500, true));
    a.transmit_all();
    b.receive_all(1);
    assert_eq!(verify(&b.received[0], Side::A), 1);
}

#[test]
fn checksums_are_left_out_only_where_that_is_lawful() {
    let Some(world) = world("checksums_are_left_out_only_where_that_is_lawful", Shape::default()) else {
        return;
    };
    let mut a = world.open(Side::A, |options| options.checksum = ChecksumMode::ZeroOnIpv4);
    let mut b = world.open(Side::B, |_| {});
    assert!(a.queue(1, 100, false) && a.queue(2, 100, true));
    a.transmit_all();
    b.receive_all(2);
    let checksum = |packet: &RxPacket| wirepath_wire::parse_udp(packet.buf.as_slice()).unwrap().checksum;
    assert_eq!(checksum(&b.received[0]), wirepath_wire::UdpChecksum::Absent);
    assert_ne!(checksum(&b.received[1]), wirepath_wire::UdpChecksum::Absent);
    assert_eq!(verify(&b.received[0], Side::A), 1);
    assert_eq!(verify(&b.received[1], Side::A), 2);
    // veth offers no checksums: software makes them, and the status says so.
    let c = {
        drop(a);
        world.open(Side::A, |options| options.checksum = ChecksumMode::Offload)
    };
    assert!(c.xsk.status().reason.contains("sums no checksums"), "{}", c.xsk.status().reason);
}

#[test]
fn jumbo_datagrams_span_frames_both_ways() {
    let Some(world) = world("jumbo_datagrams_span_frames_both_ways", Shape { mtu: 9000, ..Shape::default() })
    else {
        return;
    };
    let jumbo = |options: &mut AfXdpOptions| options.multi_buffer = Some(true);
    let mut ends = [world.open(Side::A, jumbo), world.open(Side::B, jumbo)];
    let most = usize::from(ends[0].xsk.max_udp_payload());
    assert_eq!(most, 9000 - 48);
    for from in [0, 1] {
        let side = ends[from].side;
        let lengths = [100, 1400, 3900, 3967, 3968, 3969, 4096, 8000, most];
        for (seed, len) in lengths.into_iter().enumerate() {
            assert!(ends[from].queue(seed as u64, len, seed % 2 == 0));
        }
        ends[from].transmit_all();
        ends[1 - from].receive_all(lengths.len());
        for (seed, packet) in ends[1 - from].received.drain(..).enumerate() {
            assert_eq!(verify(&packet, side), seed as u64);
        }
    }
    for end in &mut ends {
        end.settle();
        assert!(end.counter("rx_packet_joined") >= 4);
    }
}

#[test]
fn what_can_not_be_sent_is_dropped_by_name() {
    let Some(world) = world("what_can_not_be_sent_is_dropped_by_name", Shape::default()) else { return };
    let mut a = world.open(Side::A, |_| {});
    let lease = |len| {
        let mut buf = PacketBuf::heap(3000);
        buf.truncate(len);
        buf
    };
    let mut train = datagram(Side::A, lease(200), false);
    train.segment_size = Some(100);
    let mut mixed = datagram(Side::A, lease(100), false);
    mixed.local = Side::A.v6(1);
    let long = datagram(Side::A, lease(1473), false);
    let longest_v6 = datagram(Side::A, lease(1453), true);
    a.queue.extend([train, mixed, long, longest_v6]);
    assert_eq!(a.transmit(), TxProgress::Drained);
    assert_eq!(a.counter("tx_train_dropped"), 1);
    assert_eq!(a.counter("tx_family_mismatched_dropped"), 1);
    assert_eq!(a.counter("tx_too_long_dropped"), 2);
    let mut buf = a.xsk.tx_pool().lease(1).unwrap();
    buf.prepend(100);
    a.queue.push_back(datagram(
        Side::A,
        {
            buf.truncate(300);
            buf
        },
        false,
    ));
    assert_eq!(a.transmit(), TxProgress::Drained);
    assert_eq!(a.counter("tx_headroom_missing_dropped"), 1);
    assert_eq!(a.xsk.stats().tx_datagram_sent, 0);
    a.settle();
}

#[test]
fn skb_mode_carries_as_well() {
    let Some(world) = world("skb_mode_carries_as_well", Shape::default()) else { return };
    let open = |side| world.try_open(side, XdpModeWish::Skb, |_| {}).unwrap();
    let (mut a, mut b) = (open(Side::A), open(Side::B));
    for seed in 0..50 {
        assert!(a.queue(seed, 1200, seed % 2 == 0) && b.queue(seed, 1200, seed % 2 == 1));
    }
    a.transmit_all();
    b.transmit_all();
    for (end, from) in [(&mut a, Side::B), (&mut b, Side::A)] {
        end.receive_all(50);
        for (seed, packet) in end.received.drain(..).enumerate() {
            assert_eq!(verify(&packet, from), seed as u64);
        }
        end.settle();
        assert_eq!(end.xsk.status().path, DataPath::Xdp { driver_mode: false, zero_copy: false });
    }
}

/// A neighbour that is found after a while.
#[derive(Clone, Default)]
struct Cold(Arc<AtomicBool>);

impl NextHops for Cold {
    fn lookup(&mut self, remote: IpAddr) -> NextHop {
        if self.0.load(Ordering::Relaxed) { ToPeer(Side::A).lookup(remote) } else { NextHop::Pending }
    }

    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[test]
fn the_first_datagrams_wait_for_their_neighbour_and_then_go_in_order() {
    let Some(world) =
        world("the_first_datagrams_wait_for_their_neighbour_and_then_go_in_order", Shape::default())
    else {
        return;
    };
    let cold = Cold::default();
    let hops = Box::new(cold.clone());
    let mut a = world.at(Side::A, || AfXdp::open(&AfXdpOptions::new("veth-a", 0), hops)).unwrap();
    let mut b = world.open(Side::B, |_| {});
    let mut queue = VecDeque::new();
    for seed in 0..20 {
        let mut buf = a.tx_pool().lease(1).unwrap();
        buf.truncate(500);
        xsk_world::traffic::fill(seed, buf.as_mut_slice());
        queue.push_back(datagram(Side::A, buf, false));
    }
    assert_eq!(a.poll_within(), None);
    assert_eq!(a.transmit(&mut queue).unwrap(), TxProgress::Drained);
    assert_eq!((a.stats().tx_datagram_sent, a.audit().umem.tx_app), (0, 20));
    assert!(a.poll_within().is_some());
    cold.0.store(true, Ordering::Relaxed);
    assert_eq!(a.transmit(&mut queue).unwrap(), TxProgress::Drained);
    assert_eq!(a.poll_within(), None);
    b.receive_all(20);
    for (seed, packet) in b.received.drain(..).enumerate() {
        assert_eq!(verify(&packet, Side::A), seed as u64);
    }
}

#[test]
fn each_queue_has_a_socket_and_a_umem_of_its_own() {
    let shape = Shape { queues: 2, ..Shape::default() };
    let Some(world) = world("each_queue_has_a_socket_and_a_umem_of_its_own", shape) else { return };
    let open = |side: Side| {
        world.at(side, || {
            let program = XdpProgram::attach(side.interface(), XdpModeWish::Driver).unwrap();
            program.set_rules(&Rules::builder().redirect().udp().build().unwrap()).unwrap();
            let sockets = [0, 1].map(|queue| {
                let options = AfXdpOptions::new(side.interface(), queue);
                let xsk = AfXdp::open(&options, Box::new(ToPeer(side))).unwrap();
                program.register_socket(queue, xsk.as_fd()).unwrap();
                xsk
            });
            (program, sockets)
        })
    };
    let ((_program_a, mut a), (_program_b, mut b)) = (open(Side::A), open(Side::B));
    for (queue, sender) in a.iter_mut().enumerate() {
        let mut buf = sender.tx_pool().lease(1).unwrap();
        buf.truncate(100);
        xsk_world::traffic::fill(queue as u64, buf.as_mut_slice());
        sender.transmit(&mut VecDeque::from([datagram(Side::A, buf, false)])).unwrap();
    }
    // What leaves by a queue arrives on the queue of the same number.
    let deadline = Instant::now() + PATIENCE;
    for (queue, receiver) in b.iter_mut().enumerate() {
        let mut received = Vec::new();
        while received.is_empty() {
            receiver.receive(&mut received, 8).unwrap();
            assert!(Instant::now() < deadline);
        }
        assert_eq!(received.iter().map(|packet| verify(packet, Side::A)).collect::<Vec<_>>(), [queue as u64]);
        assert_eq!(receiver.status().queue, Some(queue as u32));
    }
}

/// Opens on a thread that lacks these rights.
fn open_without(world: &World, rights: CapabilitySet) -> String {
    world.at(Side::A, || {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(rights);
        rustix::thread::set_capabilities(None, sets).unwrap();
        AfXdp::open(&AfXdpOptions::new("veth-a", 0), Box::new(ToPeer(Side::A))).unwrap_err().to_string()
    })
}

#[test]
fn missing_rights_and_limits_are_told_with_what_would_help() {
    let Some(world) = world("missing_rights_and_limits_are_told_with_what_would_help", Shape::default())
    else {
        return;
    };
    assert_eq!(
        open_without(&world, CapabilitySet::NET_RAW),
        "opening an XSK needs CAP_NET_RAW; run as root, or grant them with setcap or AmbientCapabilities="
    );
    // For the whole process, but whoever has CAP_IPC_LOCK, as all other tests do, is not bound by it.
    let limit = Rlimit { current: Some(1 << 20), maximum: getrlimit(Resource::Memlock).maximum };
    setrlimit(Resource::Memlock, limit).unwrap();
    let error = open_without(&world, CapabilitySet::IPC_LOCK);
    assert!(error.starts_with("locking the UMEM in memory is not possible here: 12288 KiB"), "{error}");
    assert!(error.contains("ulimit -l"), "{error}");
}
