//! `wirepath perf`: the benchmark's server and client over our stack.
//!
//! `--opt path=udp` takes OS UDP, `--opt path=xdp` requires AF_XDP; without either it is AF_XDP where `--iface` is
//! given and it works, through a helper with `--opt helper=PATH`. Which one it got, and why, is told on stderr.
//! `--opt watch=viewed` serves a dashboard and looks at it meanwhile; `traced`, `recorded` and `armed` watch less or more.

mod watch;

use std::{future::pending, net::Ipv4Addr, sync::Arc, time::Duration};

use perf_protocol::{
    ALPN, Options, READY, Result, Role, SERVER_NAME, client, serve_connection, transport::Connector,
};
use wirepath::TransportConfig;

use watch::Watch;

use crate::{
    identity::{Identity, read_pem},
    net::{self, Network, PathChoice, Peer, Target},
};

/// Bytes of unread datagrams a connection keeps: more than a burst of a whole send window.
const DATAGRAM_RECEIVE_BUFFER: usize = 8 << 20;

/// Runs one side.
///
/// # Errors
/// The text says what to do.
pub async fn run(role: Role) -> Result<()> {
    match role {
        Role::Server(options) => serve(&options).await,
        Role::Client(options) => request(options).await,
    }
}

async fn serve(options: &Options) -> Result<()> {
    let identity = Identity::read(&options.cert, &options.key)?;
    let network = open(options).await?;
    let datagrams = options.wants_datagrams();
    let serve = move |connection| serve_connection(connection, datagrams);
    let _listener = network.serve(options.listen_addr()?, &identity, ALPN, transport(options), serve).await?;
    tell_path(&network);
    println!("{READY}");
    pending().await
}

async fn request(options: Options) -> Result<()> {
    let roots = read_pem(&options.ca)?;
    let network = Arc::new(open(&options).await?);
    let target =
        Target::new(options.connect_addr()?, SERVER_NAME, roots.as_bytes(), ALPN, transport(&options))?;
    let connector = OurConnector { network: network.clone(), target: Arc::new(target) };
    // The loops run beside the connections they use; this one is there only to lead to their partition.
    let home = connector.connect().await?;
    tell_path(&network);
    home.spawn(async move { client::run("wirepath", connector, &options).await }).await??;
    // Thousands of idle connections would take their time to go.
    std::process::exit(0)
}

async fn open(options: &Options) -> Result<Network> {
    let mut choice = match options.opt("path") {
        None => PathChoice::prefer(options.iface.clone()),
        Some("udp") => PathChoice::default(),
        Some("xdp") if options.iface.is_some() => {
            PathChoice { interface: options.iface.clone(), required: true, ..PathChoice::default() }
        }
        Some("xdp") => return Err("AF_XDP needs --iface NAME".into()),
        Some(other) => return Err(format!("--opt path is xdp or udp, not {other}").into()),
    };
    choice.helper = options.opt("helper").map(Into::into);
    choice.ring_size = options.opt("ring").map(str::parse).transpose()?;
    choice.spin = options.opt("spin").map(str::parse).transpose()?.map(Duration::from_micros);
    // The peers' packets carry no UDP checksums over a veth pair either: the kernel computes none there.
    choice.trust_link = options.opt("checksum") != Some("on");
    let watch = Watch::parse(options.opt("watch"))?;
    watch.prepare(&mut choice)?;
    let network = Network::open(&choice).await?;
    if let Some(dashboard) = choice.dashboard {
        let own = options.bind.map_or(Ipv4Addr::LOCALHOST.into(), |own| own.ip());
        watch.begin(dashboard.local_addr()?, own)?;
    }
    Ok(network)
}

fn tell_path(network: &Network) {
    eprintln!("wirepath: {}", network.path());
}

fn transport(options: &Options) -> TransportConfig {
    let buffer = options.wants_datagrams().then_some(DATAGRAM_RECEIVE_BUFFER);
    net::bulk_transport()
        .stream_window(options.stream_window)
        .max_stream_window(options.stream_window)
        .connection_window(options.conn_window)
        .max_connection_window(options.conn_window)
        .send_buffer(options.send_buffer)
        .max_bidi_streams(options.max_streams)
        .max_uni_streams(0)
        .max_udp_payload(options.max_udp_payload())
        .pacing(options.opt("pacing") == Some("on"))
        .datagram_receive_buffer(buffer)
}

#[derive(Clone)]
struct OurConnector {
    network: Arc<Network>,
    target: Arc<Target>,
}

impl Connector for OurConnector {
    type Connection = Peer;

    async fn connect(&self) -> Result<Peer> {
        self.network.connect(&self.target).await
    }
}
