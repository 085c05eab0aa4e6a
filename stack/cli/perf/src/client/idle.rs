//! What a connection costs that does nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{probe, requests::Failures, sleep};
use crate::{
    Json, Meter, Options, Result, resident_bytes,
    transport::{Connection, Connector},
};

/// Connections asked at the end whether they are still there.
const PROBES: usize = 100;

/// Handshakes at a time, for connections that only lie beside.
const AT_ONCE: usize = 32;

/// Opens `--conns` connections, `--concurrency` at a time; holds them for `--secs`; asks some of them whether
/// they live.
pub(super) async fn hold<C: Connector>(connector: C, options: &Options, json: Json) -> Result<Json> {
    // What a first connection sets up once is no connection's cost.
    let first = connector.connect().await?;
    probe(&first).await?;
    sleep(0.3).await;

    let memory = || (options.server_pid.map_or(f64::NAN, resident_bytes), resident_bytes(std::process::id()));
    let (server_before, client_before) = memory();
    let meter = Meter::start(options.server_pid);
    let failures = Arc::new(Failures::default());
    let held = establish(&connector, options.conns, options.concurrency, &failures).await?;
    let establishing = meter.stop();
    sleep(1.0).await;
    let (server_after, client_after) = memory();

    let meter = Meter::start(options.server_pid);
    sleep(options.secs).await;
    let holding = meter.stop();

    let asked: Vec<_> = held.iter().step_by((held.len() / PROBES).max(1)).collect();
    let mut alive = 0;
    for connection in &asked {
        alive += usize::from(probe(*connection).await.is_ok());
    }
    let json = json.number("conns", held.len() as f64);
    let json = establishing
        .report_operations(json, "conns_per_s", held.len() as u64)
        .number("failed", failures.count() as f64)
        .number("establish_s", establishing.secs)
        .number("server_rss_before", server_before)
        .number("server_rss_after", server_after)
        .number("server_rss_per_conn", (server_after - server_before) / held.len() as f64)
        .number("client_rss_per_conn", (client_after - client_before) / held.len() as f64)
        .number("hold_server_cpu_pct", holding.server.total / holding.secs * 100.0)
        .number("probed", asked.len() as f64)
        .number("alive", alive as f64);
    for connection in &held {
        connection.close();
    }
    Ok(json)
}

/// Opens `conns` connections for others to be measured beside.
pub(super) async fn beside<C: Connector>(connector: &C, conns: usize) -> Result<Vec<C::Connection>> {
    let failures = Arc::new(Failures::default());
    let held = establish(connector, conns, AT_ONCE, &failures).await?;
    if held.len() < conns {
        return Err(format!("{} of {conns} connections could not be opened", conns - held.len()).into());
    }
    Ok(held)
}

async fn establish<C: Connector>(
    connector: &C,
    wanted: usize,
    concurrency: usize,
    failures: &Arc<Failures>,
) -> Result<Vec<C::Connection>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..concurrency.max(1) {
        let (connector, begun, failures) = (connector.clone(), begun.clone(), failures.clone());
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            while begun.fetch_add(1, Relaxed) < wanted {
                let once = async {
                    let connection = connector.connect().await?;
                    probe(&connection).await?;
                    Ok(connection)
                };
                mine.extend(failures.watch(once).await);
            }
            mine
        }));
    }
    let mut held = Vec::with_capacity(wanted);
    for task in tasks {
        held.extend(task.await?);
    }
    Ok(held)
}
