//! Trains of packets that leave through the XDP program, past the TX ring.

mod xsk_world;

use wirepath_drivers::{AfXdpOptions, ChecksumMode, Driver, RingSizes, XdpModeWish};
use xsk_world::{
    Shape, Side, World,
    traffic::{End, verify},
    world,
};

/// Datagrams of a test: more than one batch of 256.
const COUNT: u64 = 300;

/// An end that sends trains.
fn open(world: &World, side: Side) -> End {
    open_with(world, side, |_| {})
}

fn open_with(world: &World, side: Side, change: impl FnOnce(&mut AfXdpOptions) + Send) -> End {
    let mut end = world.open(side, change);
    assert!(end.xsk.takes_transmitter());
    let transmitter = end.program.transmitter(0).unwrap().expect("driver mode, one buffer");
    end.xsk.transmit_through(transmitter);
    end
}

/// Queues datagrams of all sizes over both families.
fn queue(end: &mut End, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let len = 20 + (seed as usize * 97) % 1400;
        assert!(end.queue(seed, len, seed % 3 == 0), "no memory for datagram {seed}");
    }
}

fn expect(end: &mut End, from: Side, seeds: std::ops::Range<u64>) {
    end.receive_all((seeds.end - seeds.start) as usize);
    let got: Vec<u64> = end.received.drain(..).map(|packet| verify(&packet, from)).collect();
    assert_eq!(got, seeds.collect::<Vec<_>>());
}

/// Sends from a thread in the end's namespace, as a device does.
fn transmit(world: &World, end: &mut End) {
    world.at(end.side, || end.transmit_all());
}

#[test]
fn trains_pass_by_the_ring_in_order_and_every_frame_comes_home() {
    let Some(world) = world("trains_pass_by_the_ring_in_order_and_every_frame_comes_home", Shape::default())
    else {
        return;
    };
    let (mut a, mut b) = (open(&world, Side::A), open(&world, Side::B));
    // A few go through the ring, before and after; the order holds.
    for (from, to) in [(0, 5), (5, COUNT), (COUNT, COUNT + 3)] {
        queue(&mut a, from..to);
        transmit(&world, &mut a);
        expect(&mut b, Side::A, from..to);
    }
    assert_eq!(a.counter("tx_xdp_frame_sent"), COUNT - 5);
    assert_eq!(a.counter("tx_train_sent"), 2, "256 and the rest");
    queue(&mut b, 0..COUNT);
    transmit(&world, &mut b);
    expect(&mut a, Side::B, 0..COUNT);
    // 256, then 44.
    assert_eq!(b.counter("tx_xdp_frame_sent"), COUNT);
    for end in [&mut a, &mut b] {
        end.settle();
        assert_eq!(end.xsk.status().reason, "driver veth has no zero-copy");
    }
}

#[test]
fn trains_wait_for_an_interface_that_sends_xdp_frames() {
    let Some(world) = world("trains_wait_for_an_interface_that_sends_xdp_frames", Shape::default()) else {
        return;
    };
    let mut a = open(&world, Side::A);
    // A veth whose peer has no XDP program would lose each frame.
    queue(&mut a, 0..COUNT);
    transmit(&world, &mut a);
    a.settle();
    assert_eq!((a.counter("tx_xdp_frame_sent"), a.xsk.tx_counts().unwrap().completed), (0, COUNT));
}

#[test]
fn no_train_leaves_on_a_link_that_is_down() {
    let Some(world) = world("no_train_leaves_on_a_link_that_is_down", Shape::default()) else {
        return;
    };
    let (mut a, mut b) = (open(&world, Side::A), open(&world, Side::B));
    queue(&mut a, 0..COUNT);
    transmit(&world, &mut a);
    expect(&mut b, Side::A, 0..COUNT);
    world.ip(Side::A, "link set veth-a down");
    queue(&mut a, 0..100);
    transmit(&world, &mut a);
    assert!(!a.xsk.status().link_up);
    assert_eq!(a.counter("tx_link_down_dropped"), 100);
    world.ip(Side::A, "link set veth-a up");
    queue(&mut a, 0..COUNT);
    transmit(&world, &mut a);
    expect(&mut b, Side::A, 0..COUNT);
    a.settle();
}

#[test]
fn a_refused_train_goes_through_the_ring_and_the_status_says_why() {
    let Some(world) =
        world("a_refused_train_goes_through_the_ring_and_the_status_says_why", Shape::default())
    else {
        return;
    };
    let (mut a, mut b) = (open(&world, Side::A), open(&world, Side::B));
    // Another takes the queue over: the program finds nothing to send in the place it knows.
    let _other = a.program.transmitter(0).unwrap();
    queue(&mut a, 0..COUNT);
    transmit(&world, &mut a);
    expect(&mut b, Side::A, 0..COUNT);
    assert_eq!(a.counter("tx_xdp_frame_sent"), 0);
    let reason = a.xsk.status().reason;
    assert!(reason.contains("trains are refused: the program takes none"), "{reason}");
    a.settle();
}

#[test]
fn a_refused_train_is_no_longer_than_the_ring_it_goes_through() {
    let Some(world) = world("a_refused_train_is_no_longer_than_the_ring_it_goes_through", Shape::default())
    else {
        return;
    };
    let small = |options: &mut AfXdpOptions| {
        (options.rings, options.frame_count) = (RingSizes::all(64), Some(1024));
    };
    let (mut a, mut b) = (open_with(&world, Side::A, small), open(&world, Side::B));
    let _other = a.program.transmitter(0).unwrap();
    queue(&mut a, 0..COUNT);
    transmit(&world, &mut a);
    expect(&mut b, Side::A, 0..COUNT);
    a.settle();
}

#[test]
fn the_longest_datagrams_of_one_buffer_still_go_by_train() {
    let shape = Shape { queues: 1, mtu: 3498 };
    let Some(world) = world("the_longest_datagrams_of_one_buffer_still_go_by_train", shape) else { return };
    let (mut a, mut b) = (open(&world, Side::A), open(&world, Side::B));
    let longest = a.xsk.max_udp_payload_v4();
    assert!((3300..3470).contains(&longest), "{longest}");
    for seed in 0..COUNT {
        assert!(a.queue(seed, longest.into(), false), "no memory for datagram {seed}");
    }
    transmit(&world, &mut a);
    expect(&mut b, Side::A, 0..COUNT);
    assert_eq!(a.counter("tx_xdp_frame_sent"), COUNT);
    // One that is longer all the same goes through the ring.
    assert!(a.queue(COUNT, 3470, false));
    transmit(&world, &mut a);
    expect(&mut b, Side::A, COUNT..COUNT + 1);
    a.settle();
}

#[test]
fn trains_are_not_for_every_socket() {
    let Some(two) = world("trains_are_not_for_every_socket", Shape { queues: 2, mtu: 1500 }) else { return };
    // The peer would take them from another queue than the ring's packets.
    assert!(!two.open(Side::A, |_| {}).xsk.takes_transmitter());
    let large = world("trains_are_not_for_every_socket", Shape { queues: 1, mtu: 9000 }).unwrap();
    let jumbo = large.open(Side::A, |options| options.multi_buffer = Some(true));
    assert!(!jumbo.xsk.takes_transmitter(), "packets of several frames");
    let one = world("trains_are_not_for_every_socket", Shape::default()).unwrap();
    let end = one.try_open(Side::A, XdpModeWish::Skb, |options| options.checksum = ChecksumMode::ZeroOnIpv4);
    assert!(end.unwrap().program.transmitter(0).unwrap().is_none(), "in SKB mode");
}
