//! The machine: what it is, and whether it is quiet.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{Wire, measure::processor};

/// Quiet: all programs together use less than this of one core.
const QUIET_LOAD: f64 = 0.1;

/// Long enough to see other programs through the kernel's ticks of 10 ms.
const LOOK: Duration = Duration::from_millis(300);

/// Waits until other programs leave the cores alone, or for so long.
pub(super) fn wait_until_quiet(limit: Duration) {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let (before, begin) = (busy_ticks(), Instant::now());
        thread::sleep(LOOK);
        // A tick is 10 ms on every Linux that matters here.
        let busy = (busy_ticks() - before) / 100.0;
        if busy / begin.elapsed().as_secs_f64() < QUIET_LOAD {
            return;
        }
    }
}

/// Ticks that all cores together were busy (proc_stat(5): user, nice, system, irq, softirq).
fn busy_ticks() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let columns: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map_while(|v| v.parse().ok())
        .collect();
    [0, 1, 2, 5, 6].iter().filter_map(|&column| columns.get(column)).sum()
}

/// What the numbers are of: for the table.
pub(super) fn description(wire: Wire, mtu: u16, repetitions: u32, secs: f64) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let segments = match wire {
        Wire::Cut => "cut to the MTU before the link, as on a cable",
        Wire::Whole => "handed over whole, which only OS UDP sends",
    };
    format!(
        "{}, {cores} cores, Linux {}; veth pair of MTU {}, UDP GSO packets {segments}; server and client on a core \
         each; median of {repetitions} runs of {secs} s, all in turn, with the least and the most",
        processor(),
        kernel.trim(),
        mtu,
    )
}
