//! AF_XDP under load, for minutes: `cargo test --release --test af_xdp_slow -- --ignored --nocapture`.
//! Needs root; says so by name otherwise.

mod xsk_world;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use wirepath_drivers::{AfXdpOptions, Driver, DriverStats, FrameSize, RingSizes, UmemOptions, UmemPool};
use xsk_world::{
    Shape, Side, World,
    traffic::{End, PATIENCE, datagram},
    world,
};

/// Datagrams leased and queued at a time.
const BATCH: usize = 32;

/// What one direction did.
#[derive(Debug)]
struct Flow {
    sent: u64,
    received: u64,
    bytes: u64,
    seconds: f64,
}

impl Flow {
    fn tell(&self, what: &str) {
        println!(
            "{what}: {:.3} Mpps, {:.2} Gbit/s received; {} of {} lost",
            self.received as f64 / self.seconds / 1e6,
            self.bytes as f64 * 8.0 / self.seconds / 1e9,
            self.sent - self.received,
            self.sent
        );
    }
}

/// Sends `count` datagrams of `len` bytes from A to B, each on a thread of its own, without flow control.
fn one_way(a: &mut End, b: &mut End, count: u64, len: usize) -> Flow {
    let done = AtomicBool::new(false);
    let earlier = a.xsk.stats().tx_datagram_sent;
    let start = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            send(a, count, len);
            done.store(true, Ordering::Release);
            a.xsk.stats().tx_datagram_sent - earlier
        });
        let before = b.xsk.stats();
        let after = drain(b, &done);
        let (received, bytes) = (
            after.rx_packet_received - before.rx_packet_received,
            after.rx_byte_received - before.rx_byte_received,
        );
        let seconds = start.elapsed().as_secs_f64();
        Flow { sent: sender.join().unwrap(), received, bytes, seconds }
    })
}

fn send(end: &mut End, count: u64, len: usize) {
    pin(0);
    let pool = end.xsk.tx_pool();
    let (mut sent, mut leased) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(600);
    while sent < count {
        let wanted = (BATCH as u64).min(count - sent) as usize;
        pool.lease_many(wanted - end.queue.len().min(wanted), &mut leased);
        sent += leased.len() as u64;
        for mut buf in leased.drain(..) {
            buf.truncate(len);
            end.queue.push_back(datagram(end.side, buf, false));
        }
        end.transmit();
        assert!(Instant::now() < deadline, "{sent} of {count} sent");
    }
    end.transmit_all();
}

/// Receives until the sender is done and nothing has come for a while.
fn drain(end: &mut End, done: &AtomicBool) -> DriverStats {
    pin(1);
    let mut last = Instant::now();
    loop {
        if end.receive() > 0 {
            end.received.clear();
            last = Instant::now();
        } else if done.load(Ordering::Acquire) && last.elapsed() > Duration::from_millis(20) {
            return end.xsk.stats();
        }
        assert!(last.elapsed() < PATIENCE, "nothing comes");
    }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    // On a machine with one CPU both threads stay where they are.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

fn ends(world: &World, change: impl Fn(&mut AfXdpOptions) + Send + Sync) -> (End, End) {
    (world.open(Side::A, &change), world.open(Side::B, &change))
}

#[test]
#[ignore = "slow: some seconds, and only telling in release"]
fn slow_one_way_rate() {
    for (mtu, len) in [(1500, 1400), (1500, 64), (3498, 3400)] {
        let Some(world) = world("slow_one_way_rate", Shape { mtu, ..Shape::default() }) else { return };
        for size in [256, 512, 1024, 2048] {
            let (mut a, mut b) = ends(&world, |options| options.rings = RingSizes::all(size));
            one_way(&mut a, &mut b, 100_000, len);
            let flow = one_way(&mut a, &mut b, 1_000_000, len);
            flow.tell(&format!("{len} B, rings of {size}"));
        }
    }
}

#[test]
#[ignore = "slow: 10 million packets a ring size"]
fn slow_every_frame_is_accounted_for_after_ten_million_packets_at_every_ring_size() {
    let name = "slow_every_frame_is_accounted_for_after_ten_million_packets_at_every_ring_size";
    let Some(world) = world(name, Shape::default()) else { return };
    for size in (6..=13).map(|bits| 1 << bits) {
        let (mut a, mut b) = ends(&world, |options| options.rings = RingSizes::all(size));
        let flow = one_way(&mut a, &mut b, 10_000_000, 64);
        flow.tell(&format!("rings of {size}"));
        for end in [&mut a, &mut b] {
            end.settle();
            let audit = end.xsk.audit();
            assert_eq!(audit.umem.free + audit.umem.fill, audit.umem.capacity, "{audit:?}");
        }
        assert_eq!(a.counter("tx_frame_completed"), flow.sent);
    }
}

#[test]
#[ignore = "slow: only telling in release"]
fn slow_cost_of_lease_and_return() {
    const ROUNDS: u32 = 2_000_000;
    let options = UmemOptions {
        frame_size: FrameSize::TwoKib,
        frame_count: 4096,
        rx_reserve: 1024,
        tx_reserve: 1024,
        huge_pages: false,
    };
    let umem = UmemPool::new(options).unwrap();
    let pool = umem.pool();
    let tell = |what: &str, start: Instant| {
        println!("{what}: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        drop(std::hint::black_box(pool.lease()));
    }
    tell("one lease and its return", start);
    let mut held = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for _ in 0..ROUNDS / BATCH as u32 {
        pool.lease_many(BATCH, |frame| held.push(frame));
        std::hint::black_box(&mut held).clear();
    }
    tell("one lease and its return, leased by 32", start);
    assert!(pool.audit().is_sound());
}

#[test]
#[ignore = "slow: only telling in release"]
fn slow_cost_of_receiving() {
    const PACKETS: usize = 1024;
    const ROUNDS: u32 = 200;
    let Some(world) = world("slow_cost_of_receiving", Shape::default()) else { return };
    let (mut a, mut b) = ends(&world, |_| {});
    let (mut receiving, mut dropping) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        for seed in 0..PACKETS as u64 {
            assert!(a.queue(seed, 1400, false));
        }
        a.transmit_all();
        a.settle();
        // All of them wait in the RX ring: no system call, no empty poll is in what follows.
        let start = Instant::now();
        for _ in 0..PACKETS / 64 {
            b.receive();
        }
        receiving += start.elapsed();
        assert_eq!(b.received.len(), PACKETS);
        let start = Instant::now();
        b.received.clear();
        dropping += start.elapsed();
    }
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(ROUNDS) / PACKETS as f64;
    println!(
        "receiving, refill included: {:.1} ns a packet; dropping: {:.1} ns",
        each(receiving),
        each(dropping)
    );
}
