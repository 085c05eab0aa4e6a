//! The demo's server and client, in processes of their own. What they have to say goes to stdout as [`Report`]s.

use std::{
    io::{self, BufWriter, Read, Seek, Write},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use perf_protocol::{Result, transport::Connection};

use super::{
    dashboard::Place,
    process::die_with_parent,
    report::{Direction, Report},
    unnamed_file,
};
use crate::{
    files::{self, Store},
    identity::{self, Identity},
    net::{Network, PathChoice, Peer, Target, bulk_transport},
};

/// Time between two progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Not shown to people: the demo starts this.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ServerSide {
    #[arg(long)]
    bind: SocketAddr,
    #[arg(long)]
    iface: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Not shown to people: the demo starts this.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ClientSide {
    #[arg(long)]
    connect: SocketAddr,
    #[arg(long)]
    iface: Option<String>,
    #[arg(long)]
    size: u64,
    #[arg(long)]
    live: bool,
    #[arg(long)]
    linger: bool,
    #[command(flatten)]
    place: Place,
}

/// Serves one file slot until its input ends.
pub(crate) async fn serve(side: ServerSide) -> Result<()> {
    die_with_parent()?;
    let identity = Identity::generate()?;
    let network = open(side.iface, &side.place).await?;
    let store = Arc::new(Store::Slot(unnamed_file()?));
    let handler = move |connection| files::serve_connection(store.clone(), connection);
    let listener = network.serve(side.bind, &identity, files::ALPN, bulk_transport(), handler).await?;
    say(&Report::Path(network.path()));
    let address = listener.local_addr().to_string();
    say(&Report::Listening { address, certificate: identity.certificate_pem });
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    report_counters(&network);
    Ok(())
}

/// Moves a file there and back.
pub(crate) async fn request(side: ClientSide) -> Result<()> {
    die_with_parent()?;
    let certificate = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await??;
    let network = open(side.iface, &side.place).await?;
    let roots = certificate.as_bytes();
    let target = Target::new(side.connect, identity::SERVER_NAME, roots, files::ALPN, bulk_transport())?;
    let connection = network.connect(&target).await?;
    say(&Report::Path(network.path()));
    let original = random_file(side.size << 20)?;

    let (mover, copy) = (connection.clone(), unnamed_file()?);
    let moved = connection.spawn(async move {
        let begin = Instant::now();
        let digest = files::put(&mover, "demo", original, progress(Direction::There)).await?;
        report_moved(Direction::There, side.size << 20, begin, digest);
        let begin = Instant::now();
        let digest = files::get(&mover, "demo", copy, progress(Direction::Back)).await?;
        report_moved(Direction::Back, side.size << 20, begin, digest);
        if side.live {
            // Until the process ends.
            loop {
                let begin = Instant::now();
                let digest = files::get(&mover, "demo", unnamed_file()?, progress(Direction::Back)).await?;
                report_moved(Direction::Back, side.size << 20, begin, digest);
            }
        }
        Ok::<_, perf_protocol::Error>(())
    });
    if side.live {
        keep_fetching(&network, &target).await?;
    }
    moved.await??;

    let (least, smoothed) = connection.round_trip();
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    say(&Report::RoundTrip { least: microseconds(least), smoothed: microseconds(smoothed) });
    say(&Report::Counter { name: "packets lost and sent again".into(), count: connection.packets_lost() });
    report_counters(&network);
    if side.linger {
        say(&Report::Lingers);
        linger(&connection).await;
    }
    connection.close();
    network.close().await;
    Ok(())
}

async fn open(interface: Option<String>, place: &Place) -> Result<Network> {
    let choice =
        PathChoice { dashboard: place.listen()?, lays_open: place.lay_open, ..PathChoice::prefer(interface) };
    let network = Network::open(&choice).await?;
    if let Some(url) = network.dashboard_url() {
        say(&Report::Dashboard(url.to_owned()));
    }
    Ok(network)
}

/// Connections besides the first, in a demo that goes on.
const MORE_CONNECTIONS: u64 = 4;

/// Starts further connections that fetch the file until the process ends, each with longer rests than the last.
async fn keep_fetching(network: &Network, target: &Target) -> Result<()> {
    for n in 1..=MORE_CONNECTIONS {
        let connection = network.connect(target).await?;
        let fetcher = connection.clone();
        connection.spawn(async move {
            // Until the file is there, and whenever the connection is over, there is nothing to fetch.
            loop {
                tokio::time::sleep(Duration::from_millis(250 * n)).await;
                if let Ok(copy) = unnamed_file() {
                    let _ = files::get(&fetcher, "demo", copy, |_, _| {}).await;
                }
            }
        });
    }
    Ok(())
}

/// Time between two fetches of a demo that lingers: a few percent of a core.
const LINGER_INTERVAL: Duration = Duration::from_millis(500);

/// Fetches the file again and again until the process ends, for whoever looks on.
async fn linger(connection: &Peer) {
    let fetcher = connection.clone();
    let fetching = connection.spawn(async move {
        while let Ok(copy) = unnamed_file() {
            tokio::time::sleep(LINGER_INTERVAL).await;
            // Once the connection is over, so is this.
            if files::get(&fetcher, "demo", copy, |_, _| {}).await.is_err() {
                break;
            }
        }
    });
    // It only ends with the connection.
    drop(fetching.await);
}

/// A file of bytes that don't compress.
fn random_file(len: u64) -> io::Result<std::fs::File> {
    // xorshift64: any seed but zero gives a period of 2^64 - 1.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut file = BufWriter::with_capacity(1 << 20, unnamed_file()?);
    for _ in 0..len / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_ne_bytes())?;
    }
    let mut file = file.into_inner()?;
    file.rewind()?;
    Ok(file)
}

fn progress(direction: Direction) -> impl FnMut(u64, u64) + Send {
    let begin = Instant::now();
    let mut told = begin;
    move |done, total| {
        let now = Instant::now();
        if done == total || now - told >= PROGRESS_INTERVAL {
            told = now;
            let seconds = (now - begin).as_secs_f64();
            say(&Report::Progress { direction, done, total, seconds });
        }
    }
}

fn report_moved(direction: Direction, bytes: u64, begin: Instant, digest: files::Digest) {
    let seconds = begin.elapsed().as_secs_f64();
    say(&Report::Moved { direction, bytes, seconds, digest: digest.to_string() });
}

fn report_counters(network: &Network) {
    let drops = network.drops();
    say(&Report::Counter {
        name: "packets dropped".into(),
        count: drops.iter().map(|(_, count)| count).sum(),
    });
    for (name, count) in drops {
        say(&Report::Counter { name, count });
    }
}

fn say(report: &Report) {
    println!("{report}");
}
