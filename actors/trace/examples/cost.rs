//! What watching costs, to be counted under callgrind: `cost WHAT TIMES`. Batches are of 32 packets.
//!
//! | what | |
//! |---|---|
//! | `message` | the meters of one message: always on |
//! | `off` | one batch, while nothing is sampled |
//! | `default` | one batch, while one datagram in 1024 is sampled and followed over five hops |
//! | `armed` | one datagram, while a filter is armed on another connection |
//! | `matched` | one datagram, while a filter is armed on its connection |

use std::{hint::black_box, net::SocketAddr, sync::Arc};

use wirepath_trace::{
    BatchClock, DEFAULT_ONE_IN, Direction, Filter, Journey, KindMeter, Meter, Sampler, Stage, Tracer,
};

const BATCH: u32 = 32;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, what, times] = &args[..] else { return eprintln!("usage: cost WHAT TIMES") };
    let times: u64 = times.parse().expect("a number");
    let path: (SocketAddr, SocketAddr) =
        ("10.0.0.1:443".parse().expect("an address"), "10.0.0.2:5000".parse().expect("an address"));
    let cid = black_box([1, 2, 3, 4, 5, 6, 7, 8]);
    match what.as_str() {
        "message" => {
            let meter = Meter::new(Arc::new(KindMeter::new("test", &["one", "other"])));
            for n in 0..times {
                let ticket = meter.on_sent(BATCH, n);
                meter.on_taken(n);
                meter.on_handled(1, ticket, BATCH, black_box(700 + n % 5000), black_box(3000 + n % 9000));
            }
        }
        "off" => batches(&Tracer::off(), times, path, &cid),
        "default" => batches(&Tracer::new(DEFAULT_ONE_IN, 1 << 20), times, path, &cid),
        "armed" | "matched" => {
            let tracer = Tracer::new(0, 1 << 20);
            let wanted = if what == "armed" { vec![9] } else { cid.to_vec() };
            tracer.arm(Some(Filter { cid: Some(wanted), one_in: 1, ..Filter::default() }));
            for _ in 0..times {
                if black_box(tracer.is_armed()) && tracer.wants(black_box(Some(path)), black_box(&cid)) {
                    follow(tracer.begin(Direction::Rx, 1), path, &cid);
                }
            }
        }
        other => eprintln!("nothing is called {other}"),
    }
}

fn batches(tracer: &Arc<Tracer>, times: u64, path: (SocketAddr, SocketAddr), cid: &[u8]) {
    let mut sampler = Sampler::default();
    for _ in 0..times {
        if black_box(sampler.pick(tracer, BATCH)).is_some() || tracer.is_armed() {
            follow(tracer.begin(Direction::Rx, BatchClock::last()), path, cid);
        }
    }
}

fn follow(mut journey: Box<Journey>, (local, remote): (SocketAddr, SocketAddr), cid: &[u8]) {
    journey.set_path(local, remote, 1200);
    journey.set_cid(cid);
    for stage in [Stage::Device, Stage::Demux, Stage::Connection, Stage::Quic, Stage::Stream] {
        let begun = journey.end() + 1;
        journey.hop(stage, 7, begun, BatchClock::read(), BATCH as usize);
    }
    journey.finish("delivered");
}
