//! `wirepath perf` with an allocator that counts: its results tell how often the client allocated memory, for each
//! megabyte of bulk and upload (about 700 packets of 1,500 bytes) and for each operation of the others. Run with
//! `make bench BENCH='--contestants ours-counted'`.

use std::{alloc::System, process::ExitCode};

use perf_protocol::ALLOCATIONS;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let count = || {
        let stats = COUNTING.stats();
        (stats.allocations + stats.reallocations) as u64
    };
    ALLOCATIONS.get_or_init(|| count);
    wirepath_cli::command::perf_main()
}
