//! `wirepath interop`: an endpoint that plays the cases of the public QUIC interop runner, against any other stack.
//!
//! The runner says what it wants by environment variables (ROLE, TESTCASE, REQUESTS, SERVER_PARAMS, CLIENT_PARAMS) and
//! conventional paths (/certs, /www, /downloads); options on the command line come before them. SSLKEYLOGFILE and
//! QLOGDIR are honoured.

mod case;
mod client;
mod echo;
mod environment;
mod hq;
mod probe;
mod server;
mod trust;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use perf_protocol::Result;
use wirepath::{Stack, TransportConfig, qlog};

pub use case::Case;
pub use environment::arguments;

/// What the runner takes for "this endpoint does not play that case".
const UNSUPPORTED: u8 = 127;

/// HTTP/0.9 over QUIC, by which files are fetched.
const HQ: &str = "hq-interop";

/// Streams and datagrams come back as they are.
const ECHO: &str = "echo";

/// Handshakes of some cases lose a third of all packets, several in a row.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Networks of some cases are silent for seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Unread datagrams kept, in bytes: what a fast peer sends while we look at files.
const DATAGRAM_BUFFER: usize = 1 << 20;

/// Which end to play.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Role {
    /// Serves files, or echoes.
    Server(ServerOptions),
    /// Fetches files, or has something echoed.
    Client(ClientOptions),
}

/// Options of `wirepath interop server`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerOptions {
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "[::]:443")]
    listen: String,
    /// The network interface to run AF_XDP on; OS UDP without one.
    #[arg(long, value_name = "IFACE")]
    xdp: Option<String>,
    /// The socket of a `wirepath helper`, for a process without rights of its own.
    #[arg(long, value_name = "PATH", requires = "xdp")]
    helper: Option<PathBuf>,
    /// Certificate chain, PEM.
    #[arg(long, value_name = "FILE", default_value = "/certs/cert.pem")]
    cert: PathBuf,
    /// Private key, PEM.
    #[arg(long, value_name = "FILE", default_value = "/certs/priv.key")]
    key: PathBuf,
    /// The folder whose files are served.
    #[arg(long, value_name = "DIR", default_value = "/www")]
    root: PathBuf,
    /// The application protocols offered: hq-interop, echo.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = HQ)]
    alpn: Vec<String>,
    /// The case to play.
    #[arg(long, value_name = "NAME")]
    test: String,
}

/// Options of `wirepath interop client`.
#[derive(clap::Args, Clone, Debug)]
pub struct ClientOptions {
    /// The server's address; by default that of the first URL.
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,
    /// The network interface to run AF_XDP on; OS UDP without one.
    #[arg(long, value_name = "IFACE")]
    xdp: Option<String>,
    /// The socket of a `wirepath helper`, for a process without rights of its own.
    #[arg(long, value_name = "PATH", requires = "xdp")]
    helper: Option<PathBuf>,
    /// The certificates it trusts, PEM.
    #[arg(long, value_name = "FILE", default_value = "/certs/ca.pem")]
    ca: PathBuf,
    /// The name the server's certificate must be for. By default the server may have any name, and is asked for by the
    /// one in the address, or "localhost".
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Where what comes is put, each under its path's last component.
    #[arg(long, value_name = "DIR", default_value = "/downloads")]
    out: PathBuf,
    /// The application protocol: hq-interop or echo.
    #[arg(long, value_name = "NAME", default_value = HQ)]
    alpn: String,
    /// The case to play.
    #[arg(long, value_name = "NAME")]
    test: String,
    /// What to fetch: paths or URLs.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

/// Plays a case.
pub fn run(role: Role, block_on: impl FnOnce(Work) -> Result<()>) -> ExitCode {
    let test = match &role {
        Role::Server(options) => &options.test,
        Role::Client(options) => &options.test,
    };
    let Some(case) = Case::by_name(test) else {
        eprintln!("wirepath: no case called {test:?} is played here");
        return UNSUPPORTED.into();
    };
    let work: Work = match role {
        Role::Server(options) => Box::pin(server::serve(case, options)),
        Role::Client(options) => Box::pin(client::play(case, options)),
    };
    match block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A line, whatever the error's text has in it.
            let line: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
            eprintln!("wirepath: {}", line.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// What there is to do.
pub type Work = std::pin::Pin<Box<dyn Future<Output = Result<()>>>>;

async fn stack(xdp: Option<&String>, helper: Option<&PathBuf>) -> Result<Stack> {
    let builder = Stack::builder().partitions(1);
    let builder = match xdp {
        // The peer is mostly the kernel's UDP, over a veth pair: it may leave checksums to a device that isn't there.
        // What is damaged, QUIC itself finds out.
        Some(interface) => builder.interface(interface).require_xdp(true).verify_checksums(false),
        None => builder.os_udp(),
    };
    let builder = match helper {
        Some(socket) => builder.helper(socket),
        None => builder,
    };
    Ok(builder.build().await?)
}

fn transport() -> Result<TransportConfig> {
    let folder = std::env::var_os("QLOGDIR").filter(|folder| !folder.is_empty());
    let logs = match folder {
        Some(folder) => Some(qlog::to_folder(&folder).map_err(|error| format!("{folder:?}: {error}"))?),
        None => None,
    };
    Ok(TransportConfig::default()
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .idle_timeout(Some(IDLE_TIMEOUT))
        .datagram_receive_buffer(Some(DATAGRAM_BUFFER))
        .qlog(logs))
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().map_err(|error| format!("{address}: {error}"))?;
    Ok(found.next().ok_or_else(|| format!("{address} has no address"))?)
}
