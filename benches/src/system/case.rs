//! What they do, and which figures of it count.

use perf_protocol::Result;

/// One kind of work.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// For the table's legend.
    pub(super) what: &'static str,
    pub(super) client: &'static [&'static str],
    pub(super) server: &'static [&'static str],
    pub(super) metrics: &'static [Metric],
}

/// One figure of a result.
#[derive(Debug)]
pub(super) struct Metric {
    /// Its name in the client's JSON.
    pub(super) field: &'static str,
    pub(super) unit: &'static str,
    pub(super) decimals: usize,
    pub(super) better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

const fn metric(field: &'static str, unit: &'static str, decimals: usize, better: Better) -> Metric {
    Metric { field, unit, decimals, better }
}

const P50: Metric = metric("p50_us", "us p50", 0, Better::Lower);
const P99: Metric = metric("p99_us", "us p99", 0, Better::Lower);
const BYTES: &[Metric] = &[
    metric("gbps", "Gbit/s", 2, Better::Higher),
    metric("server_cpu_s_per_gb", "server CPU s/GB", 3, Better::Lower),
    metric("client_cpu_s_per_gb", "client CPU s/GB", 3, Better::Lower),
];
const REQUESTS: &[Metric] = &[metric("rps", "requests/s", 0, Better::Higher), P50, P99];
const HANDSHAKES: &[Metric] = &[metric("hps", "handshakes/s", 0, Better::Higher), P50, P99];
const MEMORY: &[Metric] = &[
    metric("server_rss_per_conn", "server bytes/connection", 0, Better::Lower),
    metric("establish_s", "s to establish", 2, Better::Lower),
];
const DATAGRAMS: &[Metric] = &[
    metric("dps", "datagrams/s", 0, Better::Higher),
    metric("delivered_pct", "% delivered", 1, Better::Higher),
];

/// Connections that live for one request need no more streams, and a server holds many of them.
const FEW_STREAMS: &[&str] = &["--max-streams", "100"];

static ALL: [Case; 12] = [
    Case {
        name: "bulk-1",
        what: "server to client, one stream",
        client: &["--mode", "bulk", "--streams", "1"],
        server: &[],
        metrics: BYTES,
    },
    Case {
        name: "bulk-16",
        what: "server to client, 16 streams",
        client: &["--mode", "bulk", "--streams", "16"],
        server: &[],
        metrics: BYTES,
    },
    Case {
        name: "upload-1",
        what: "client to server, one stream",
        client: &["--mode", "upload", "--streams", "1"],
        server: &[],
        metrics: BYTES,
    },
    Case {
        name: "rps-1",
        what: "100 bytes and back, a stream each, one at a time",
        client: &["--mode", "rps", "--concurrency", "1"],
        server: &[],
        metrics: REQUESTS,
    },
    Case {
        name: "rps-32",
        what: "the same, 32 outstanding",
        client: &["--mode", "rps", "--concurrency", "32"],
        server: &[],
        metrics: REQUESTS,
    },
    Case {
        name: "rps-256",
        what: "the same, 256 outstanding",
        client: &["--mode", "rps", "--concurrency", "256"],
        server: &[],
        metrics: REQUESTS,
    },
    Case {
        name: "rps-32-beside-10k",
        what: "32 outstanding, beside 10,000 idle connections",
        client: &["--mode", "rps", "--concurrency", "32", "--beside", "10000", "--max-streams", "100"],
        server: FEW_STREAMS,
        metrics: REQUESTS,
    },
    Case {
        name: "hps-16",
        what: "full handshake, 8 bytes and back, close; 16 at a time",
        client: &["--mode", "hps", "--concurrency", "16"],
        server: FEW_STREAMS,
        metrics: HANDSHAKES,
    },
    Case {
        name: "hps-32",
        what: "the same, 32 at a time",
        client: &["--mode", "hps", "--concurrency", "32"],
        server: FEW_STREAMS,
        metrics: HANDSHAKES,
    },
    Case {
        name: "idle-1000",
        what: "1,000 connections held",
        client: &["--mode", "idle", "--conns", "1000", "--concurrency", "32", "--max-streams", "100"],
        server: FEW_STREAMS,
        metrics: MEMORY,
    },
    Case {
        name: "idle-50k",
        what: "50,000 connections held",
        client: &["--mode", "idle", "--conns", "50000", "--concurrency", "32", "--max-streams", "100"],
        server: FEW_STREAMS,
        metrics: MEMORY,
    },
    Case {
        name: "dgram",
        what: "datagrams of 1,200 bytes, client to server",
        client: &["--mode", "dgram"],
        server: &["--datagrams"],
        metrics: DATAGRAMS,
    },
];

pub(super) fn find(names: &[String]) -> Result<Vec<&'static Case>> {
    let find_one = |name: &String| {
        ALL.iter().find(|case| case.name == name).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|case| case.name).collect();
            format!("no case is called {name}; there are {}", known.join(", ")).into()
        })
    };
    names.iter().map(find_one).collect()
}
