//! What one datagram costs through the OS UDP device, over loopback, in ns of processor time of one thread that
//! sends and receives in turns: `cargo run --release -p wirepath-drivers --example udp_rate [datagram bytes]`.

#![allow(unsafe_code)]

use std::{collections::VecDeque, env, net::UdpSocket, time::Duration};

use wirepath_drivers::{Driver, DriverError, Ecn, OsUdp, OsUdpOptions, TxDatagram};

const DATAGRAMS: usize = 2_000_000;

fn main() -> Result<(), DriverError> {
    let size = env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1400);
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        for (segments, burst) in [(45, 1), (16, 4), (4, 16), (1, 64), (1, 1)] {
            run(addr, size, segments, burst)?;
        }
    }
    Ok(())
}

/// Sends `burst` trains of `segments` datagrams, receives them all, and again.
fn run(addr: &str, size: usize, segments: usize, burst: usize) -> Result<(), DriverError> {
    let device = || {
        let socket = UdpSocket::bind(addr).map_err(|source| DriverError::Io { what: "bind", source })?;
        OsUdp::new(socket, OsUdpOptions::default())
    };
    let (mut sender, mut receiver) = (device()?, device()?);
    let pool = sender.tx_pool();
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let mut queue = VecDeque::new();
    let mut got = Vec::new();
    let (mut sent, mut received) = (0, 0);
    while sent < DATAGRAMS {
        let start = processor_time();
        for _ in 0..burst {
            let Some(mut buf) = pool.lease(segments) else { break };
            buf.truncate(size * segments);
            queue.push_back(TxDatagram {
                local: sender.local_addr(),
                remote: receiver.local_addr(),
                ecn: Ecn::Ect0,
                segment_size: (segments > 1).then_some(size as u16),
                tcp: None,
                buf,
            });
            sent += segments;
        }
        sender.transmit(&mut queue)?;
        let middle = processor_time();
        sending += middle - start;
        loop {
            let count = receiver.receive(&mut got, 64)?;
            received += count;
            got.clear();
            if count < 64 {
                break;
            }
        }
        receiving += processor_time() - middle;
    }
    println!(
        "{addr:12} {size:5} B, {burst:2} x {segments:2}: send {:6.1} ns, receive {:6.1} ns a datagram, {:5.2} Gbit/s, lost {}",
        sending.as_nanos() as f64 / sent as f64,
        receiving.as_nanos() as f64 / sent as f64,
        (sent * size * 8) as f64 / (sending + receiving).as_nanos() as f64,
        sent - received,
    );
    Ok(())
}

/// Of this thread, so that a busy machine does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
