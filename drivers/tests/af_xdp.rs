//! AF_XDP on a veth pair between two network namespaces. Needs root; says so by name otherwise.

mod xsk_world;

use wirepath_drivers::{CopyMode, DataPath, Driver, PacketBuf, RingSizes, TxProgress};
use xsk_world::{
    Shape, Side,
    traffic::{datagram, verify},
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
        assert_eq!(status.reason, format!("the driver of {} has no zero-copy", end.side.interface()));
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
    let error = world.try_open(Side::A, |options| options.copy_mode = CopyMode::RequireZeroCopy).unwrap_err();
    assert_eq!(error.to_string(), "zero-copy is not possible here: the driver of veth-a does not support it");
    assert_eq!(world.open(Side::A, |_| {}).transmit(), TxProgress::Drained);
}
