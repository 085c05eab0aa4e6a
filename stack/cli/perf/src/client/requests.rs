//! Loops of small exchanges: on streams of one connection, or on a connection each.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{exchange, probe, sleep};
use crate::{
    Error, Json, Latencies, Meter, Options, Result, Sample, request,
    transport::{Connection, Connector},
};

/// A loop's first latencies fit without an allocation.
const EXPECTED_LATENCIES: usize = 1 << 14;

/// A loop whose connection failed waits this long: a dead server must not become a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// How long a loop may take to finish what it is doing when the time is up.
const LAST_OPERATION: Duration = Duration::from_secs(5);

/// `--concurrency` loops of: new stream, `--req` bytes, `--resp` bytes back. One failure fails the run.
pub(super) async fn on_one_connection<C: Connector>(
    connector: C,
    options: &Options,
    json: Json,
) -> Result<Json> {
    let connection = connector.connect().await?;
    let loops = Loops::default();
    let mut tasks = Vec::with_capacity(options.concurrency);
    for _ in 0..options.concurrency {
        let (connection, loops) = (connection.clone(), loops.clone());
        let (request, answer_len) = (request(options.req, options.resp), options.resp);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::with_capacity(EXPECTED_LATENCIES);
            while !loops.stopped() {
                let begin = Instant::now();
                let received = exchange(&connection, request.clone()).await?;
                if received != answer_len {
                    return Err(format!("asked for {answer_len} bytes, got {received}").into());
                }
                loops.record(&mut latencies, begin);
            }
            Ok::<_, Error>(latencies)
        }));
    }
    let sample = loops.measure(options).await;
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.merge(task.await??);
    }
    let json = json.number("concurrency", options.concurrency as f64);
    let json = sample.report_operations(json, "rps", latencies.count());
    let json = connection.report(latencies.report(json));
    connection.close();
    Ok(json)
}

/// `--concurrency` loops of: new connection, full handshake, eight bytes and back, close. Failures are counted.
pub(super) async fn connection_each<C: Connector>(
    connector: C,
    options: &Options,
    json: Json,
) -> Result<Json> {
    let loops = Loops::default();
    let failures = Arc::new(Failures::default());
    let mut tasks = Vec::with_capacity(options.concurrency);
    for _ in 0..options.concurrency {
        let (connector, loops, failures) = (connector.clone(), loops.clone(), failures.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::default();
            while !loops.stopped() {
                let begin = Instant::now();
                let once = async {
                    let connection = connector.connect().await?;
                    let outcome = probe(&connection).await;
                    connection.close();
                    outcome
                };
                if failures.watch(once).await.is_some() {
                    loops.record(&mut latencies, begin);
                } else {
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
            latencies
        }));
    }
    let sample = loops.measure(options).await;
    let mut latencies = Latencies::default();
    for task in tasks {
        if let Ok(Ok(theirs)) = tokio::time::timeout(LAST_OPERATION, task).await {
            latencies.merge(theirs);
        }
    }
    let json = json.number("concurrency", options.concurrency as f64);
    let json = sample.report_operations(json, "hps", latencies.count());
    Ok(latencies.report(json).number("failed", failures.count() as f64))
}

/// What the loops of a run are told: whether their latencies count, and when to stop.
#[derive(Clone, Default)]
struct Loops {
    measuring: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Loops {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Counts an operation that ended within the measured time.
    fn record(&self, latencies: &mut Latencies, begin: Instant) {
        if self.measuring.load(Relaxed) {
            latencies.record(begin.elapsed());
        }
    }

    /// Warm-up, the measured time, and the order to stop.
    async fn measure(&self, options: &Options) -> Sample {
        sleep(options.warmup).await;
        let meter = Meter::start(options.server_pid);
        self.measuring.store(true, Relaxed);
        sleep(options.secs).await;
        self.measuring.store(false, Relaxed);
        let sample = meter.stop();
        self.stop.store(true, Relaxed);
        sample
    }
}

/// Counts what fails, and tells the first cause on stderr.
#[derive(Default)]
pub(super) struct Failures(AtomicU64);

impl Failures {
    pub(super) async fn watch<T>(&self, work: impl Future<Output = Result<T>>) -> Option<T> {
        match work.await {
            Ok(done) => Some(done),
            Err(error) => {
                if self.0.fetch_add(1, Relaxed) == 0 {
                    eprintln!("first failed connection: {error}");
                }
                None
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
