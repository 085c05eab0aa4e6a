//! `wirepath demo`: a file there and back between two hosts, over QUIC on AF_XDP.
//!
//! Three processes: this one, which tells the story, and a server and a client, each on its own host of a
//! [`World`](crate::world::World). Where AF_XDP can't be had they do the same over OS UDP, and the demo says why.

mod dashboard;
mod interrupt;
mod process;
mod progress;
mod report;
mod side;
mod stage;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal},
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use perf_protocol::Result;

use process::Party;
use progress::Progress;
use report::{Direction, Report};
use stage::Stage;

pub(crate) use side::{ClientSide, ServerSide, request, serve};

/// Options of `wirepath demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// MiB of the file.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    size: u64,
    /// IP MTU of the link between the hosts.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    mtu: u16,
    /// Over OS UDP, even where AF_XDP can be had.
    #[arg(long)]
    udp: bool,
    /// Goes on until Ctrl-C: several connections fetch the file again and again.
    #[arg(long)]
    live: bool,
    /// Light traffic goes on when the file is back, until Enter, so that the dashboards can be looked at: on a terminal
    /// unless told `--linger false`.
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    linger: Option<bool>,
    /// Where the server's dashboard is served on this host while traffic runs, and on the next port the client's;
    /// other ports if these are in use.
    #[arg(long, default_value = "127.0.0.1:9650", value_name = "ADDRESS")]
    dashboard: SocketAddr,
    /// No dashboard.
    #[arg(long)]
    no_dashboard: bool,
    /// The dashboards hand out what packets say: their bytes in captures, with the keys to them, and a qlog of each
    /// connection.
    #[arg(long)]
    lay_open: bool,
}

/// Runs the demo.
///
/// # Errors
/// The file did not arrive, or not as it was sent.
pub fn run(options: &Options) -> Result<()> {
    let lingers = !options.live
        && !options.no_dashboard
        && options.linger.unwrap_or_else(|| io::stdin().is_terminal() && io::stdout().is_terminal());
    if options.live || lingers {
        interrupt::ends_well()?;
    }
    let stage = Stage::set(options.mtu);
    println!("{stage}");

    let dashboard = |side| match options.no_dashboard {
        true => Vec::new(),
        false => {
            let mut arguments = stage.dashboard_arguments(side, options.dashboard);
            arguments.extend(options.lay_open.then(|| "--lay-open".to_owned()));
            arguments
        }
    };
    let mut arguments = stage.server_arguments(options.udp);
    arguments.extend(dashboard("server"));
    let mut server = Party::start(&stage, "server", &arguments)?;
    let mut url = String::new();
    let (address, certificate) = loop {
        match server.expect()? {
            Report::Listening { address, certificate } => break (address, certificate),
            Report::Dashboard(at) => {
                tell("server", &Report::Dashboard(at.clone()));
                url = at;
            }
            report => tell("server", &report),
        }
    };
    println!("  server listens on {address}");

    let mut arguments = stage.client_arguments(&address, options.size, options.udp);
    arguments.extend(dashboard("client"));
    if options.live {
        println!("  busy until Ctrl-C");
        arguments.push("--live".to_owned());
    }
    arguments.extend(lingers.then(|| "--linger".to_owned()));
    let mut client = Party::start(&stage, "client", &arguments)?;
    client.tell(&certificate)?;
    client.end_input();
    let (moved, others) = follow(&mut client, options.live.then_some(url.as_str()))?;
    let same = matches!(&moved[..], [there, back] if there == back);
    if lingers && same {
        println!("  SHA-256 the same there and back: {}", moved[0]);
        println!("\n  See packets move through the actors, live: light traffic goes on meanwhile.");
        tell_where(&url, others.as_deref());
        println!("\n  Enter ends it.");
        io::stdin().read_line(&mut String::new())?;
        return Ok(());
    }

    // Its input ended, the server reports what it dropped, and ends.
    server.end_input();
    while let Some(report) = server.next()? {
        tell("server", &report);
    }
    if !same {
        return Err("the file did not come back as it was sent".into());
    }
    println!("  SHA-256 the same there and back: {}", moved[0]);
    println!(
        "  to see packets move through the actors: `wirepath demo --live` (`make demo-live`), and open its dashboard"
    );
    Ok(())
}

/// Where to look on.
fn tell_where(server: &str, client: Option<&str>) {
    if !server.is_empty() {
        println!("\n      {server}    the server's dashboard");
    }
    if let Some(client) = client {
        println!("      {client}    the client's");
    }
}

/// Shows what the client does; the digests of what it moved, and where its dashboard is. Of a demo that goes on, whose
/// server's dashboard is `live`, only the first way there and back is shown: what follows would push the addresses out
/// of sight.
fn follow(client: &mut Party, live: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
    let (mut moved, mut dashboard) = (Vec::new(), None);
    let mut bar: Option<(Direction, Progress)> = None;
    while let Some(report) = client.next()? {
        if live.is_some()
            && moved.len() == 2
            && matches!(report, Report::Progress { .. } | Report::Moved { .. })
        {
            continue;
        }
        match report {
            Report::Progress { direction, done, total, seconds } => {
                let (_, progress) = match bar.take() {
                    Some(same) if same.0 == direction => bar.insert(same),
                    _ => bar.insert((direction, Progress::new(&direction.to_string()))),
                };
                progress.update(done, total, seconds);
            }
            Report::Moved { direction, bytes, seconds, digest } => {
                if let Some((_, progress)) = bar.take() {
                    progress.finish();
                }
                let gigabits = bytes as f64 * 8.0 / 1e9 / seconds;
                println!("  {direction}: {} MiB in {seconds:.2} s, {gigabits:.2} Gbit/s", bytes >> 20);
                moved.push(digest);
                if let Some(server) = live.filter(|_| moved.len() == 2) {
                    println!(
                        "\n  See packets move through the actors: five connections fetch it again and again."
                    );
                    tell_where(server, dashboard.as_deref());
                    println!("\n  Ctrl-C ends it.");
                }
            }
            Report::Lingers => break,
            report => {
                tell("client", &report);
                if let Report::Dashboard(url) = report {
                    dashboard = Some(url);
                }
            }
        }
    }
    Ok((moved, dashboard))
}

fn tell(side: &str, report: &Report) {
    match report {
        Report::Path(path) => println!("  {side}: data path {path}"),
        Report::Dashboard(url) => println!("  {side}: dashboard {url}"),
        Report::RoundTrip { least, smoothed } => {
            println!("  {side}: round-trip time {least:.0} us at the least, {smoothed:.0} us smoothed");
        }
        Report::Counter { name, count } => println!("  {side}: {name} {count}"),
        other => println!("  {side}: {other}"),
    }
}

/// A file that vanishes with the last process that has it open.
pub(crate) fn unnamed_file() -> io::Result<File> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let path = std::env::temp_dir().join(format!("wirepath-{}-{since_epoch}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
