//! Bounded work, watched or not: what the dashboard costs those who move packets.
//!
//! `wirepath-watched HOW WORK AMOUNT`: HOW is `off`, `open` (a dashboard nobody looks at) or `viewed`; WORK is `bulk`
//! (AMOUNT MiB over one stream) or `requests` (AMOUNT requests of 100 bytes, answered). Server and client are in this
//! process, over the loopback device, and no device polls while there is nothing, so that the work is the same each time.
//! The first thread only makes the stacks, and the work has one of its own, so that what starting takes, once, is not
//! mistaken for what packets cost. It prints the CPU time of the threads that move packets, and of the dashboard's, in
//! nanoseconds. `make overhead` runs it, under callgrind too.
//!
//! `wirepath-watched rest COUNT` makes so many connections that then rest, and tells what looking at them takes.

mod rest;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use wirepath::{ClientConfig, Connection, ServerConfig, Stack};
use wirepath_cli::identity::{Identity, SERVER_NAME};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const CHUNK: usize = 64 << 10;
const REQUEST: usize = 100;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["view", addr] => view(addr.parse()?),
        ["rest", count] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(rest::run(count.parse()?))
        }
        [how, work, amount] => run(how, work, amount.parse()?),
        _ => Err("usage: wirepath-watched off|open|viewed bulk|requests AMOUNT, or rest COUNT".into()),
    }
}

/// Reads the live stream until killed.
fn view(addr: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {addr}\r\n\r\n")?;
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A process that looks at a dashboard, until this goes.
struct Viewer(Child);

impl Viewer {
    fn of(addr: SocketAddr) -> Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self(Command::new(program).args(["view", &addr.to_string()]).stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(how: &str, work: &str, amount: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let identity = Identity::generate()?;
        let builder = || Stack::builder().os_udp().partitions(1).spin(Duration::ZERO);
        let server = match how {
            "off" => builder().build().await?,
            "open" | "viewed" => builder().dashboard(LOOPBACK).build().await?,
            other => return Err(format!("watched how? off, open or viewed, not {other}").into()),
        };
        let config = ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes())?;
        let listener = server.listen(LOOPBACK, config.alpn(["watched"])).await?;
        let client = builder().build().await?;
        let config = ClientConfig::new(identity.certificate_pem.as_bytes())?.alpn(["watched"]);
        let (there, here) =
            tokio::join!(client.connect(listener.local_addr(), SERVER_NAME, config), listener.accept());
        let (there, here) = (there?, here.ok_or("the listener has ended")?);
        let _viewer = match server.dashboard_url().filter(|_| how == "viewed") {
            Some(url) => Some(Viewer::of(url.trim_start_matches("http://").trim_end_matches('/').parse()?)?),
            None => None,
        };
        let work = work.to_owned();
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                match work.as_str() {
                    "bulk" => bulk(&there, here, amount << 20).await,
                    "requests" => requests(&there, here, amount).await,
                    other => Err(format!("what work? bulk or requests, not {other}").into()),
                }
            })
        })
        .await??;
        let (packets, dashboard) = cpu_time()?;
        println!("{packets} {dashboard}");
        Ok(())
    })
}

/// The server sends, on the partition's thread.
async fn bulk(there: &Connection, here: Connection, bytes: usize) -> Result<()> {
    let sender = here.clone();
    here.spawn(async move {
        let Ok(mut stream) = sender.open_uni().await else { return };
        let chunk = bytes::Bytes::from(vec![b'w'; CHUNK]);
        let mut left = bytes;
        while left > 0 && stream.write_chunk(chunk.slice(..left.min(CHUNK))).await.is_ok() {
            left -= left.min(CHUNK);
        }
        let _ = stream.finish();
    });
    let mut stream = there.accept_uni().await?;
    let mut len = 0;
    while let Some(chunk) = stream.read_chunk().await? {
        len += chunk.len();
    }
    if len == bytes { Ok(()) } else { Err(format!("{len} bytes of {bytes} came").into()) }
}

/// One after the other, each on a stream of its own.
async fn requests(there: &Connection, here: Connection, count: usize) -> Result<()> {
    let server = here.clone();
    here.spawn(async move {
        while let Ok((mut send, mut receive)) = server.accept_bi().await {
            while let Ok(Some(_)) = receive.read_chunk().await {}
            let _ = send.write_finish(vec![b'a'; REQUEST].into()).await;
        }
    });
    for _ in 0..count {
        let (mut send, mut receive) = there.open_bi().await?;
        send.write_finish(vec![b'q'; REQUEST].into()).await?;
        while receive.read_chunk().await?.is_some() {}
    }
    Ok(())
}

/// Nanoseconds on a core so far: of all threads but the first and the dashboard's, and of that one.
fn cpu_time() -> Result<(u64, u64)> {
    let (mut packets, mut dashboard) = (0, 0);
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        let spent = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let spent: u64 = spent.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        if thread.ends_with(std::process::id().to_string()) {
            continue;
        }
        let is_dashboards = fs::read_to_string(thread.join("comm"))?.starts_with("wirepath-dash");
        *(if is_dashboards { &mut dashboard } else { &mut packets }) += spent;
    }
    Ok((packets, dashboard))
}
