//! Thousands of connections at rest, and what it takes to look at them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use wirepath::{ClientConfig, Connection, Listener, ServerConfig, Stack, TransportConfig};
use wirepath_cli::identity::{Identity, SERVER_NAME};

use crate::{LOOPBACK, Result, Viewer, cpu_time};

/// Connections made at a time.
const AT_ONCE: usize = 32;
/// Until nothing is left to be acknowledged, and every row has been seen as it stays.
const SETTLE: Duration = Duration::from_secs(5);
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// No connection ends meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// What a page with a list asks for, once a second.
const PAGE: &str = "connections?sort=tx_bytes_per_s&desc=true&limit=60";

/// Makes `count` connections, and prints what the dashboard of their server takes.
pub(crate) async fn run(count: usize) -> Result<()> {
    let identity = Identity::generate()?;
    let builder = || Stack::builder().os_udp().partitions(1).spin(Duration::ZERO);
    let server = builder().dashboard(LOOPBACK).build().await?;
    let config = ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes())?;
    let config = config.alpn(["watched"]).transport(transport());
    let listener = server.listen(LOOPBACK, config).await?;
    let client = builder().build().await?;
    let url = server.dashboard_url().ok_or("there is no dashboard")?;
    let addr: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse()?;
    let _connections = connect(&client, &listener, &identity, count).await?;
    tokio::time::sleep(SETTLE).await;
    report("nobody looks", addr, None).await?;
    let _viewer = Viewer::of(addr)?;
    report("the first page", addr, None).await?;
    report("the list of connections", addr, Some(PAGE)).await?;
    // Thousands of connections would take their time to go.
    std::process::exit(0)
}

fn transport() -> TransportConfig {
    TransportConfig::default().idle_timeout(Some(IDLE_TIMEOUT))
}

async fn connect(
    client: &Stack,
    listener: &Listener,
    identity: &Identity,
    count: usize,
) -> Result<Vec<Connection>> {
    let config = ClientConfig::new(identity.certificate_pem.as_bytes())?;
    let config = config.alpn(["watched"]).transport(transport());
    let mut connections = Vec::with_capacity(2 * count);
    while connections.len() < 2 * count {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE.min(count - connections.len() / 2) {
            let (client, config, to) = (client.clone(), config.clone(), listener.local_addr());
            asked.spawn(async move { client.connect(to, SERVER_NAME, config).await });
        }
        while let Some(there) = asked.join_next().await {
            connections.push(there??);
            connections.push(listener.accept().await.ok_or("the listener has ended")?);
        }
    }
    Ok(connections)
}

/// Measures for a while, in which somebody may ask for a page once a second.
async fn report(who: &str, addr: SocketAddr, page: Option<&'static str>) -> Result<()> {
    let (_, before) = cpu_time()?;
    let begun = std::time::Instant::now();
    while begun.elapsed() < MEASURED {
        if let Some(page) = page {
            ask(addr, page).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (_, after) = cpu_time()?;
    let share = (after - before) as f64 / begun.elapsed().as_nanos() as f64;
    let overview = ask(addr, "overview").await?;
    let figure = |value: &Value| value.as_u64().unwrap_or(0);
    let mebibytes = |value: &Value| figure(value) as f64 / f64::from(1 << 20);
    let tracing = &overview["tracing"];
    let parts = tracing["memory"].as_array().map(Vec::as_slice).unwrap_or_default();
    let figures = parts.iter().find(|it| it["name"] == "figures").map_or(&Value::Null, |it| &it["bytes"]);
    println!(
        "{} connections, {} of them not listed, {who}: {share:.4} of a core, {:.1} of {:.1} MiB, figures {:.1}",
        figure(&overview["connections"]),
        figure(&overview["connections_left_out"]),
        mebibytes(&tracing["memory_bytes"]),
        mebibytes(&tracing["memory_limit_bytes"]),
        mebibytes(figures),
    );
    Ok(())
}

/// What the dashboard answers.
async fn ask(addr: SocketAddr, path: &'static str) -> Result<Value> {
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr)?;
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok(serde_json::from_str::<Value>(body)?["data"].take())
    })
    .await?
}
