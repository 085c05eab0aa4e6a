//! quiche as an interop endpoint: cases of the public QUIC interop runner, with the options of `wirepath interop`.
//!
//! `hq-interop` (HTTP/0.9) serves and fetches files, `echo` echoes datagrams. One thread, one UDP socket.

mod client;
mod config;
mod datagrams;
mod fetch;
mod server;
mod socket;

use std::{error::Error, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;

/// Whatever goes wrong ends the program with its text.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The protocol of files.
const HQ: &str = "hq-interop";

/// The protocol of datagrams.
const ECHO: &str = "echo";

/// Which end to play.
#[derive(Parser)]
#[command(about)]
enum Role {
    /// Serves files, or echoes datagrams.
    Server(ServerOptions),
    /// Fetches files, or has datagrams echoed.
    Client(ClientOptions),
}

#[derive(clap::Args)]
struct ServerOptions {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    cert: String,
    #[arg(long)]
    key: String,
    #[arg(long)]
    root: PathBuf,
    #[arg(long, value_delimiter = ',', default_value = HQ)]
    alpn: Vec<String>,
    #[arg(long)]
    test: String,
}

#[derive(clap::Args)]
struct ClientOptions {
    #[arg(long)]
    connect: SocketAddr,
    #[arg(long)]
    ca: String,
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value = HQ)]
    alpn: String,
    #[arg(long)]
    test: String,
    paths: Vec<String>,
}

fn main() -> ExitCode {
    let played = match Role::parse() {
        Role::Server(options) => server::serve(&options),
        Role::Client(options) => client::play(&options),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quiche-interop: {error}");
            ExitCode::FAILURE
        }
    }
}
