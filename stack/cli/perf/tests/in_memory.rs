//! Every mode of the client against the server, over channels instead of QUIC.

use bytes::Bytes;
use clap::Parser;
use perf_protocol::{
    Options, Result, Role, client, serve_connection,
    transport::{Connection, Connector, Receiver, Sender},
};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};

/// Chunks in flight on a stream, so that an endless download waits for its reader.
const STREAM_DEPTH: usize = 4;

struct Outgoing(mpsc::Sender<Bytes>);
struct Incoming(mpsc::Receiver<Bytes>);
type Halves = (Outgoing, Incoming);

impl Sender for Outgoing {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.send(data).await?)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write(last).await?;
        // FIN is the end of the channel.
        self.0 = mpsc::channel(1).0;
        Ok(())
    }
}

impl Receiver for Incoming {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.recv().await)
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        Ok(self.0.recv().await.map(|chunk| chunk.len()))
    }
}

#[derive(Clone)]
struct Channels {
    streams_out: mpsc::Sender<Halves>,
    streams_in: Arc<Mutex<mpsc::Receiver<Halves>>>,
    datagrams_out: mpsc::Sender<Bytes>,
    datagrams_in: Arc<Mutex<mpsc::Receiver<Bytes>>>,
    closed: Arc<watch::Sender<bool>>,
}

fn pair() -> (Channels, Channels) {
    let (to_server, from_client) = mpsc::channel(64);
    let (to_client, from_server) = mpsc::channel(64);
    let (datagrams_to_server, datagrams_from_client) = mpsc::channel(64);
    let (datagrams_to_client, datagrams_from_server) = mpsc::channel(64);
    let closed = Arc::new(watch::Sender::new(false));
    let client = Channels {
        streams_out: to_server,
        streams_in: Arc::new(Mutex::new(from_server)),
        datagrams_out: datagrams_to_server,
        datagrams_in: Arc::new(Mutex::new(datagrams_from_server)),
        closed: closed.clone(),
    };
    let server = Channels {
        streams_out: to_client,
        streams_in: Arc::new(Mutex::new(from_client)),
        datagrams_out: datagrams_to_client,
        datagrams_in: Arc::new(Mutex::new(datagrams_from_client)),
        closed,
    };
    (client, server)
}

impl Connection for Channels {
    type Sender = Outgoing;
    type Receiver = Incoming;

    async fn open(&self) -> Result<Halves> {
        let (out, theirs_in) = mpsc::channel(STREAM_DEPTH);
        let (theirs_out, into) = mpsc::channel(STREAM_DEPTH);
        self.streams_out.send((Outgoing(theirs_out), Incoming(theirs_in))).await.map_err(|_| "closed")?;
        Ok((Outgoing(out), Incoming(into)))
    }

    async fn accept(&self) -> Option<Halves> {
        let mut closed = self.closed.subscribe();
        let mut streams = self.streams_in.lock().await;
        tokio::select! {
            biased;
            stream = streams.recv() => stream,
            _ = closed.wait_for(|closed| *closed) => None,
        }
    }

    fn max_datagram(&self) -> Option<usize> {
        Some(1200)
    }

    async fn send_datagram(&self, data: Bytes) -> Result<()> {
        Ok(self.datagrams_out.send(data).await?)
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        self.datagrams_in.lock().await.recv().await.map(|_| 1).ok_or_else(|| "closed".into())
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }
}

#[derive(Clone)]
struct Memory {
    /// Every so many connections one is refused; 0: none.
    refuse_every: u32,
    asked: Arc<std::sync::atomic::AtomicU32>,
}

impl Connector for Memory {
    type Connection = Channels;

    async fn connect(&self) -> Result<Channels> {
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if self.refuse_every > 0 && asked.is_multiple_of(self.refuse_every) {
            return Err("refused".into());
        }
        let (client, server) = pair();
        tokio::spawn(serve_connection(server, true));
        Ok(client)
    }
}

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    role: Role,
}

fn options(line: &str) -> Options {
    let line = format!("p client --connect 127.0.0.1:1 --secs 0.05 --warmup 0.01 {line}");
    match Program::try_parse_from(line.split_whitespace()).expect("a good line").role {
        Role::Client(options) | Role::Server(options) => options,
    }
}

async fn measured(line: &str, refuse_every: u32) -> Result<String> {
    let connector = Memory { refuse_every, asked: Arc::default() };
    Ok(client::measure("memory", connector, &options(line)).await?.to_string())
}

/// The number a member of a flat object has.
fn number(json: &str, name: &str) -> f64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {json}"));
    rest.split([',', '}'])
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{name} in {json}"))
}

#[tokio::test]
async fn bulk_counts_the_bytes_that_arrive() {
    let json = measured("--mode bulk --streams 3", 0).await.unwrap();
    assert!(json.starts_with(r#"{"peer":"memory","mode":"bulk","streams":3,"bytes":"#), "{json}");
    let rate = number(&json, "bytes") * 8.0 / number(&json, "secs") / 1e9;
    assert!(
        number(&json, "gbps") > 0.0 && (number(&json, "gbps") - rate).abs() < 0.001 * rate + 1e-6,
        "{json}"
    );
}

#[tokio::test]
async fn upload_ends_with_the_servers_fin() {
    let json = measured("--mode upload --streams 2", 0).await.unwrap();
    assert!(number(&json, "gbps") > 0.0, "{json}");
    assert_eq!(number(&json, "bytes") % 131_072.0, 0.0, "{json}");
}

#[tokio::test]
async fn rps_reports_rate_and_latency() {
    let json = measured("--mode rps --concurrency 8", 0).await.unwrap();
    assert!(number(&json, "rps") > 0.0 && number(&json, "p99_us") >= number(&json, "p50_us"), "{json}");
    assert_eq!(number(&json, "concurrency"), 8.0);
}

#[tokio::test]
async fn hps_counts_failures_and_goes_on() {
    let json = measured("--mode hps --concurrency 2", 3).await.unwrap();
    assert!(number(&json, "hps") > 0.0 && number(&json, "failed") > 0.0, "{json}");
}

#[tokio::test]
async fn idle_connections_stay_alive() {
    let json = measured("--mode idle --conns 250 --concurrency 32", 0).await.unwrap();
    assert_eq!(number(&json, "conns"), 250.0);
    assert_eq!(number(&json, "probed"), number(&json, "alive"));
    assert_eq!(number(&json, "failed"), 0.0);
    assert!(number(&json, "establish_s") > 0.0);
}

#[tokio::test]
async fn datagrams_are_counted_by_the_server() {
    let json = measured("--mode dgram", 0).await.unwrap();
    assert!(number(&json, "dps") > 0.0, "{json}");
    assert_eq!(number(&json, "delivered_pct"), 100.0, "{json}");
}

#[tokio::test]
async fn a_refused_connection_fails_the_run() {
    assert_eq!(measured("--mode bulk", 1).await.unwrap_err().to_string(), "refused");
}
