//! Where the time went: CPU of both processes, of the kernel's softirq threads, and of the rest of the machine.
//!
//! Process times come from the processes' CPU clocks, exact to the nanosecond and with the threads that ended;
//! user and system apart, and the whole machine, only at the kernel's tick.

use std::{fs, sync::OnceLock, time::Instant};

use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::{Pid, SysconfVar, sysconf},
};

use crate::Json;

/// Tells how often this process has allocated memory: set by programs whose allocator counts. Their results have the
/// client's allocations, too.
pub static ALLOCATIONS: OnceLock<fn() -> u64> = OnceLock::new();

/// Measures from its start to its [`stop`](Meter::stop).
#[derive(Debug)]
pub struct Meter {
    server: Option<u32>,
    softirq_threads: Vec<u32>,
    begin: Snapshot,
}

/// What was used between start and stop, in seconds. Unknown numbers are NaN, and `null` in JSON.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Wall time.
    pub secs: f64,
    /// This process.
    pub client: CpuTime,
    /// The server's process.
    pub server: CpuTime,
    /// Softirq threads and threaded NAPI: work for packets that no process is charged for.
    pub softirq: f64,
    /// Everything else on the machine. Should be near zero, or the run was disturbed.
    pub foreign: f64,
    /// Taken by the hypervisor.
    pub stolen: f64,
    /// How often this process allocated memory, where [`ALLOCATIONS`] tells.
    pub allocations: Option<u64>,
}

/// CPU seconds of one process.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    /// From the process CPU clock.
    pub total: f64,
    /// In user mode, at tick resolution.
    pub user: f64,
    /// In the kernel, at tick resolution.
    pub system: f64,
}

impl Meter {
    /// Begins to measure this process and, if given, the server's.
    pub fn start(server: Option<u32>) -> Self {
        let softirq_threads = softirq_threads();
        let begin = Snapshot::take(server, &softirq_threads);
        Self { server, softirq_threads, begin }
    }

    /// Ends measuring.
    pub fn stop(self) -> Sample {
        let begin = &self.begin;
        let end = Snapshot::take(self.server, &self.softirq_threads);
        let client = end.client.since(begin.client);
        let server = end.server.since(begin.server);
        let softirq = end.softirq - begin.softirq;
        let ours = client.total + softirq + if self.server.is_some() { server.total } else { 0.0 };
        Sample {
            secs: (end.at - begin.at).as_secs_f64(),
            client,
            server,
            softirq,
            foreign: (end.machine_busy - begin.machine_busy - ours).max(0.0),
            stolen: end.machine_stolen - begin.machine_stolen,
            allocations: end.allocations.zip(begin.allocations).map(|(end, begin)| end - begin),
        }
    }
}

impl Sample {
    /// The fields of a run that moved `bytes`.
    #[must_use]
    pub fn report_bytes(&self, json: Json, bytes: u64) -> Json {
        let gigabytes = bytes as f64 / 1e9;
        self.report(json.number("bytes", bytes as f64))
            .number("gbps", gigabytes * 8.0 / self.secs)
            .number_if(
                "client_allocations_per_mb",
                self.allocations.map(|count| count as f64 * 1e6 / bytes as f64),
            )
            .number("client_cpu_s_per_gb", self.client.total / gigabytes)
            .number("server_cpu_s_per_gb", self.server.total / gigabytes)
    }

    /// The fields of a run that did `count` things, whose rate is called `rate_name`.
    #[must_use]
    pub fn report_operations(&self, json: Json, rate_name: &str, count: u64) -> Json {
        let count = count as f64;
        self.report(json.number("ops", count))
            .number(rate_name, count / self.secs)
            .number_if(
                "client_allocations_per_op",
                self.allocations.map(|allocations| allocations as f64 / count),
            )
            .number("client_us_per_op", self.client.total * 1e6 / count)
            .number("server_us_per_op", self.server.total * 1e6 / count)
    }

    fn report(&self, json: Json) -> Json {
        json.number("secs", self.secs)
            .number("client_cpu_s", self.client.total)
            .number("client_user_s", self.client.user)
            .number("client_sys_s", self.client.system)
            .number("server_cpu_s", self.server.total)
            .number("server_user_s", self.server.user)
            .number("server_sys_s", self.server.system)
            .number("ksoftirqd_s", self.softirq)
            .number("foreign_cpu_s", self.foreign)
            .number("steal_s", self.stolen)
    }
}

/// Resident memory of a process, in bytes; NaN where it can't be read.
pub fn resident_bytes(pid: u32) -> f64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * system_constant(SysconfVar::PAGE_SIZE)
}

#[derive(Debug)]
struct Snapshot {
    at: Instant,
    client: CpuTime,
    server: CpuTime,
    softirq: f64,
    machine_busy: f64,
    machine_stolen: f64,
    allocations: Option<u64>,
}

impl Snapshot {
    fn take(server: Option<u32>, softirq_threads: &[u32]) -> Self {
        let (machine_busy, machine_stolen) = machine_time();
        Self {
            machine_busy,
            machine_stolen,
            client: CpuTime::of(std::process::id()),
            server: server.map_or(CpuTime::UNKNOWN, CpuTime::of),
            softirq: softirq_threads.iter().map(|&pid| process_clock(pid)).sum(),
            at: Instant::now(),
            allocations: ALLOCATIONS.get().map(|count| count()),
        }
    }
}

impl CpuTime {
    const UNKNOWN: Self = Self { total: f64::NAN, user: f64::NAN, system: f64::NAN };

    fn of(pid: u32) -> Self {
        let (user, system) = user_and_system(pid).unwrap_or((f64::NAN, f64::NAN));
        Self { total: process_clock(pid), user, system }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total - earlier.total,
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

/// CPU seconds of a process, all its threads, by its CPU clock.
fn process_clock(pid: u32) -> f64 {
    let clock = if pid == std::process::id() {
        Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID)
    } else {
        clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
    };
    clock.and_then(clock_gettime).map_or(f64::NAN, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// `utime` and `stime` of proc_pid_stat(5).
fn user_and_system(pid: u32) -> Option<(f64, f64)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold blanks and parentheses; the last `)` ends it.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = system_constant(SysconfVar::CLK_TCK);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / ticks, system / ticks))
}

/// Busy and stolen seconds of all cores together, from the first line of proc_stat(5).
fn machine_time() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = system_constant(SysconfVar::CLK_TCK);
    let columns: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|column| column.parse().unwrap_or(0.0) / ticks)
        .collect();
    let &[user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = columns.as_slice() else {
        return (f64::NAN, f64::NAN);
    };
    (user + nice + system + irq + softirq, stolen)
}

/// The kernel threads whose time is packets' time: `ksoftirqd/*` and threaded NAPI's `napi/*`.
fn softirq_threads() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("ksoftirqd/") || name.starts_with("napi/")
        })
        .collect()
}

fn system_constant(name: SysconfVar) -> f64 {
    sysconf(name).ok().flatten().map_or(f64::NAN, |value| value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_work_to_this_process() {
        let meter = Meter::start(Some(std::process::id()));
        let begin = Instant::now();
        let mut spin = 0_u64;
        while begin.elapsed().as_millis() < 30 {
            spin = std::hint::black_box(spin + 1);
        }
        let sample = meter.stop();
        assert!(sample.secs >= 0.03);
        assert!(sample.client.total > 0.001, "{sample:?}");
        // The same process, told by pid: the same clock.
        assert!((sample.client.total - sample.server.total).abs() < 0.02, "{sample:?}");
        let json = sample.report_bytes(Json::new(), 1_000_000).to_string();
        assert!(json.contains("\"client_cpu_s\"") && json.contains("\"gbps\""), "{json}");
    }

    #[test]
    fn an_unknown_server_is_null() {
        let json = Meter::start(None).stop().report_operations(Json::new(), "rps", 1).to_string();
        assert!(json.contains(r#""server_cpu_s":null"#), "{json}");
        assert!(!json.contains(r#""foreign_cpu_s":null"#), "{json}");
    }

    #[test]
    fn resident_memory_is_known_for_the_living_only() {
        assert!(resident_bytes(std::process::id()) > 100_000.0);
        assert!(resident_bytes(u32::MAX).is_nan());
    }
}
